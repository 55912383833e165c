import { isIP, type Socket } from 'node:net';
import type { Secret } from '../observability/secret.ts';
import { inRange, parseIp, parseRange } from '../policy/addresses.ts';
import { err, ok, type Result } from '../result.ts';
import { dial } from './destination.ts';

/** A proxy of the site that connections to the outside have to take (contract.md, 8.6). */
export interface UpstreamProxy {
  readonly host: string;
  readonly port: number;
  /** `user:password`. */
  readonly credentials: Secret | undefined;
  /** Whether it is asked for names rather than for the addresses that were judged. */
  readonly byHostname: boolean;
  readonly bypass: Bypass;
}

/** Whether an address of a host is dialled without the proxy. */
export type Bypass = (host: string, port: number, address: string) => boolean;

const HEAD_BYTES = 8 * 1024;
const ALL_MS = 30_000;

/**
 * Reads a NO_PROXY list: `*`, a domain with or without a leading dot (and everything below it), an address, a range,
 * each with an optional port. An address or a range speaks for the addresses in it alone, not for a host that
 * has others too. Fails with the entry that is none.
 */
export function parseNoProxy(list: string): Result<Bypass, string> {
  const rules: Bypass[] = [];
  for (const entry of list.split(',').map((one) => one.trim().toLowerCase())) {
    if (entry === '') continue;
    if (entry === '*') {
      rules.push(() => true);
      continue;
    }
    const bracketed = /^\[([^\]]+)\](?::(\d{1,5}))?$/.exec(entry);
    const plain = /^([^:]+)(?::(\d{1,5}))?$/.exec(entry);
    const [, name = entry, portText] = bracketed ?? plain ?? [];
    const port = portText === undefined ? undefined : Number(portText);
    if (port !== undefined && (port < 1 || port > 65_535)) return err(entry);
    const atPort = (asked: number): boolean => port === undefined || port === asked;
    const range = parseRange(name);
    if (range !== undefined) {
      rules.push((_host, asked, address) => {
        const ip = parseIp(address);
        return atPort(asked) && ip !== undefined && inRange(ip, range);
      });
      continue;
    }
    const domain = name.replace(/^\*?\./, '').replace(/\.$/, '');
    if (!/^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$/.test(domain))
      return err(entry);
    rules.push((host, asked) => atPort(asked) && (host === domain || host.endsWith(`.${domain}`)));
  }
  return ok((host, port, address) => rules.some((rule) => rule(host, port, address)));
}

/** Opens a connection to a host at the addresses that were judged, through the proxy where it does not bypass that. */
export async function dialByProxy(
  proxy: UpstreamProxy,
  host: string,
  port: number,
  addresses: readonly string[],
): Promise<Result<Socket, string>> {
  const direct = addresses.filter((address) => proxy.bypass(host, port, address));
  if (direct.length > 0) return dial(direct, port);
  const targets = proxy.byHostname && isIP(host) === 0 ? [host] : addresses;
  const deadline = performance.now() + ALL_MS;
  let last = 'no address';
  for (const target of targets) {
    const left = deadline - performance.now();
    if (left <= 0) break;
    const opened = await connectThrough(proxy, target, port, left);
    if (opened.ok) return opened;
    last = opened.error;
  }
  return err(`the upstream proxy: ${last}`);
}

async function connectThrough(
  { host, port: proxyPort, credentials }: UpstreamProxy,
  target: string,
  port: number,
  timeoutMs: number,
): Promise<Result<Socket, string>> {
  const dialled = await dial([host], proxyPort);
  if (!dialled.ok) return dialled;
  const socket = dialled.value;
  const authority = target.includes(':') ? `[${target}]:${port}` : `${target}:${port}`;
  const authorization =
    credentials === undefined
      ? ''
      : `Proxy-Authorization: Basic ${Buffer.from(credentials.reveal()).toString('base64')}\r\n`;
  socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${authorization}\r\n`);
  const head = await readHead(socket, timeoutMs);
  if (!head.ok) {
    socket.destroy();
    return head;
  }
  const status = /^HTTP\/1\.[01] (\d{3})(?: |\r|$)/.exec(head.value)?.[1];
  if (status === '200') return ok(socket);
  socket.destroy();
  return err(status === undefined ? 'it does not answer in HTTP' : `it refuses ${authority} with ${status}`);
}

/** Reads up to the blank line, leaving what follows in the socket. */
function readHead(socket: Socket, timeoutMs: number): Promise<Result<string, string>> {
  return new Promise((resolve) => {
    let head = Buffer.alloc(0);
    const done = (result: Result<string, string>): void => {
      clearTimeout(timer);
      socket.off('readable', read);
      socket.off('close', closed);
      socket.off('end', closed);
      resolve(result);
    };
    const closed = (): void => done(err('it closed the connection'));
    const timer = setTimeout(() => done(err('it did not answer in time')), timeoutMs);
    const read = (): void => {
      const chunk: Buffer | null = socket.read();
      if (chunk === null) return;
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) {
        if (head.length > HEAD_BYTES) done(err(`its answer exceeds ${HEAD_BYTES} bytes`));
        return;
      }
      if (end > HEAD_BYTES) {
        done(err(`its answer exceeds ${HEAD_BYTES} bytes`));
        return;
      }
      const rest = head.subarray(end + 4);
      if (rest.length > 0) socket.unshift(rest);
      done(ok(head.toString('latin1', 0, end)));
    };
    socket.on('readable', read);
    socket.once('close', closed);
    socket.once('end', closed);
    read();
  });
}
