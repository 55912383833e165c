import type { Socket } from 'node:net';
import type { SecureContext, TLSSocket } from 'node:tls';
import type { Clock } from '../clock.ts';
import { ok, type Result } from '../result.ts';
import type { Way } from './adapters/way-out.ts';
import type { CredentialStore } from './credentials/credential-store.ts';
import type { TokenGrants } from './credentials/token-grants.ts';
import type { EgressObserver } from './events.ts';
import { firstBytes } from './first-bytes.ts';
import { firstSpeaker, mayBeHttp } from './first-speaker.ts';
import type { ClientExchange } from './http/client-exchange.ts';
import { BodyBudget, type ConnectionContext, type ProposalGuide } from './http/connection-context.ts';
import { type ConnectionService, createInspectingServer } from './http/inspecting-server.ts';
import { inspectExchange } from './http/inspection.ts';
import { unreachable } from './http/unreachable.ts';
import { handleUpgrade } from './http/upgrade.ts';
import { openUpstream, type Upstream } from './http/upstream.ts';
import type { Middlewares } from './middleware/middlewares.ts';
import type { Granted } from './pipeline.ts';
import { MessageAssembly } from './protocols/message-assembly.ts';
import { abortRelay, relay } from './relay.ts';
import { answerText } from './responses.ts';
import type { CertificateAuthority } from './tls/certificate-authority.ts';
import { beginsTls, terminateTls } from './tls/termination.ts';
import { connectTls } from './tls/upstream.ts';

/** What terminating TLS takes. */
export interface Interception {
  readonly authority: CertificateAuthority;
  /** What upstream servers are verified against. */
  readonly trust: () => SecureContext;
}

export interface TunnelOptions {
  readonly clock: Clock;
  readonly generation: () => number;
  readonly observe: EgressObserver;
  /** Undefined where TLS cannot be terminated: then it is refused where it would have to be. */
  readonly interception?: Interception;
  /** What placeholders stand for; connections to where they are bound are looked into. */
  readonly credentials?: CredentialStore;
  /** Tokens that are fetched for requests; connections to where they are used are looked into. */
  readonly grants?: TokenGrants;
  /** What whoever is denied is told of proposals. */
  readonly proposals?: () => ProposalGuide | undefined;
  /** What requests pass on the way out. */
  readonly middlewares: Middlewares;
  /** Bounds of unfinished WebSocket messages. */
  readonly assembly?: MessageAssembly;
  /** A tunnel without a byte either way for so long is closed; one hour by default. */
  readonly idleMs?: number;
}

const DEFAULT_IDLE_MS = 3_600_000;
/** What all inspected bodies together may hold in memory. */
const BODY_BYTES = 32 << 20;
/** Requests of an HTTP/2 client may go out at once over so many HTTP/1.1 connections. */
const MAX_CONNECTIONS = 8;
/** A method of HTTP/1 and the blank behind it (RFC 9112, 3), or the preface of HTTP/2 without TLS. */
const HTTP = /^[A-Za-z][A-Za-z0-9_-]{0,31} /;

interface Open {
  readonly generation: number;
  readonly destroy: () => void;
}

/** Carries granted connections: opaque bytes as they are, requests through inspection. */
export class Tunnels {
  readonly #options: TunnelOptions;
  readonly #open = new Set<Open>();
  readonly #bodies = new BodyBudget(BODY_BYTES);
  readonly #assembly: MessageAssembly;
  readonly #server = createInspectingServer();

  constructor(options: TunnelOptions) {
    this.#options = options;
    this.#assembly = options.assembly ?? new MessageAssembly();
  }

  /** Whether the requests of such a connection are looked at. */
  inspects(granted: Granted): boolean {
    const { tls, inspect, credentials, middlewares } = granted.grant;
    if (tls === 'skip') return false;
    return inspect || middlewares.length > 0 || credentials === 'inspect-only' || this.#isBound(granted);
  }

  #isBound({ intent }: Granted): boolean {
    const { credentials, grants } = this.#options;
    return [credentials, grants].some((one) => one?.isBound(intent.host, intent.port) === true);
  }

  way(granted: Granted): Way {
    return {
      carry: (client, head) => this.carry(granted, client, head),
      abandon: () => granted.upstream.destroy(),
    };
  }

  /** Takes over a client whose connection was granted, what has been read of it already, and its upstream. */
  carry(granted: Granted, client: Socket, head: Buffer): void {
    if (!this.inspects(granted)) {
      if (head.length > 0) granted.upstream.write(head);
      this.#relay(granted, client);
      return;
    }
    // Whoever has ended already waits for no answer.
    if (client.readableEnded) {
      abortRelay(client, granted.upstream);
      return;
    }
    if (head.length > 0) client.unshift(head);
    this.#account(granted, client);
    this.#inspect(granted, client).catch(() => abortRelay(client, granted.upstream));
  }

  /**
   * Whether bytes that are no requests may pass as they are: only middlewares would look at them, and those may be
   * passed over.
   */
  #mayPassRaw(granted: Granted): boolean {
    const { grant } = granted;
    return (
      !this.#isBound(granted) &&
      grant.credentials === 'free' &&
      !grant.endpoints.some(({ inspected }) => inspected) &&
      grant.middlewares.length > 0 &&
      grant.middlewares.every(({ config }) => config.onError === 'fail_open')
    );
  }

  /** Handles one request of a plain proxy's client. */
  async inspectOne(granted: Granted, exchange: ClientExchange): Promise<void> {
    const upstream = await openUpstream(this.#plain(granted), 1);
    if (!upstream.ok) return exchange.abort();
    exchange.onClose(() => upstream.value.close());
    await inspectExchange(exchange, this.#context(granted, 'http', upstream.value));
  }

  /**
   * Closes every raw tunnel that an older generation granted. Inspected connections end with their next request:
   * one that is under way was allowed (contract.md, 7.9).
   */
  closeStale(generation: number): void {
    for (const entry of [...this.#open]) if (entry.generation < generation) entry.destroy();
  }

  close(): void {
    this.#server.close();
  }

  /** An accounted client says by itself when it is closed. */
  #relay(granted: Granted, client: Socket, accounted = false): void {
    const { intent, upstream, grant } = granted;
    const { clock, observe, idleMs } = this.#options;
    const startedAt = clock.monotonic();
    const entry: Open = { generation: grant.generation, destroy: () => abortRelay(client, upstream) };
    this.#open.add(entry);
    relay(client, upstream, idleMs ?? DEFAULT_IDLE_MS, (totals) => {
      this.#open.delete(entry);
      if (accounted) return;
      observe({ kind: 'closed', intent, ...totals, durationMs: Math.round(clock.monotonic() - startedAt) });
    });
  }

  #account({ intent, upstream }: Granted, client: Socket): void {
    const { clock, observe, idleMs } = this.#options;
    const startedAt = clock.monotonic();
    client.setTimeout(idleMs ?? DEFAULT_IDLE_MS, () => client.destroy());
    client.once('close', () => {
      upstream.destroy();
      const { bytesRead: sentBytes, bytesWritten: receivedBytes } = client;
      observe({
        kind: 'closed',
        intent,
        sentBytes,
        receivedBytes,
        durationMs: Math.round(clock.monotonic() - startedAt),
      });
    });
  }

  async #inspect(granted: Granted, client: Socket): Promise<void> {
    if (this.#mayPassRaw(granted)) return this.#inspectRequests(granted, client);
    const first = await firstBytes(client);
    if (first === undefined) return abortRelay(client, granted.upstream);
    if (beginsTls(first)) return this.#inspectTls(granted, client);
    if (!HTTP.test(first.toString('latin1', 0, 33))) {
      this.#refuse(
        granted,
        client,
        'what the client speaks is neither TLS nor HTTP/1, so its requests cannot be inspected',
      );
      return;
    }
    return this.#inspectHttp(granted, client);
  }

  /** Looks at requests, and lets pass what is none: a server that speaks first, or another protocol. */
  async #inspectRequests(granted: Granted, client: Socket): Promise<void> {
    const { interception, idleMs = DEFAULT_IDLE_MS } = this.#options;
    const first = await firstSpeaker(client, granted.upstream, idleMs);
    if (first === undefined) return abortRelay(client, granted.upstream);
    const said = first === 'server' ? Buffer.alloc(0) : first;
    if (beginsTls(said) && interception !== undefined) return this.#inspectTls(granted, client);
    if (mayBeHttp(said)) return this.#inspectHttp(granted, client);
    this.#relay(granted, client, true);
  }

  async #inspectHttp(granted: Granted, client: Socket): Promise<void> {
    const upstream = await openUpstream(this.#plain(granted), 1);
    if (!upstream.ok) return abortRelay(client, granted.upstream);
    this.#server.serve(client, inspected(this.#context(granted, 'http', upstream.value)));
  }

  async #inspectTls(granted: Granted, client: Socket): Promise<void> {
    const { interception } = this.#options;
    const { host } = granted.intent;
    if (interception === undefined) {
      this.#refuse(granted, client, 'TLS cannot be terminated here, so its requests cannot be inspected');
      return;
    }
    const terminated = await terminateTls(client, host, interception.authority, ['h2', 'http/1.1']);
    if (!terminated.ok) {
      granted.upstream.destroy();
      this.#denied(granted, terminated.error);
      return;
    }
    const secured = terminated.value;
    const concurrent = secured.alpnProtocol === 'h2';
    const protocols = concurrent ? ['h2', 'http/1.1'] : ['http/1.1'];
    let first: Socket | undefined = granted.upstream;
    const open = async (): Promise<Result<TLSSocket, string>> => {
      const ready = first;
      first = undefined;
      const dialled = ready !== undefined && !ready.destroyed ? ok(ready) : await granted.redial();
      return dialled.ok ? connectTls(dialled.value, host, interception.trust(), protocols) : dialled;
    };
    const upstream = await openUpstream(open, concurrent ? MAX_CONNECTIONS : 1);
    // The client's handshake is done: it can be told in its own words.
    const reached = upstream.ok ? upstream.value : unreachable(upstream.error);
    if (secured.destroyed) return reached.close();
    this.#server.serve(secured, inspected(this.#context(granted, 'https', reached)));
  }

  /** Connections without TLS: the one that was dialled, then others to the same place. */
  #plain({ upstream, redial }: Granted): () => Promise<Result<Socket, string>> {
    let first: Socket | undefined = upstream;
    return async () => {
      const ready = first;
      first = undefined;
      return ready !== undefined && !ready.destroyed ? ok(ready) : redial();
    };
  }

  #context(
    { intent, identity, grant }: Granted,
    scheme: 'http' | 'https',
    upstream: Upstream,
  ): ConnectionContext {
    const { generation, observe, credentials, grants, proposals, middlewares } = this.#options;
    return {
      ...(proposals === undefined ? {} : { proposals }),
      ...(grants === undefined ? {} : { grants }),
      ...(credentials === undefined ? {} : { credentials }),
      intent,
      identity,
      grant,
      scheme,
      upstream,
      current: () => generation() === grant.generation,
      observe: (request) => observe({ kind: 'request', intent, identity, request }),
      middlewares,
      observeMiddleware: (evaluation) =>
        observe({ kind: 'middleware', intent, identity, policy: grant.policy, evaluation }),
      bodies: this.#bodies,
      assembly: this.#assembly,
    };
  }

  #refuse(granted: Granted, client: Socket, why: string): void {
    const required = granted.grant.middlewares.find(({ config }) => config.onError !== 'fail_open');
    const error = required === undefined ? 'unsupported_l7_protocol' : 'middleware_required';
    const reason =
      required === undefined
        ? why
        : `${why}, and what goes to this host must pass the middleware ${required.config.name}`;
    this.#denied(granted, reason);
    // A client that knows of no proxy would take our words for its server's.
    if (granted.intent.via === 'transparent') client.resetAndDestroy();
    else client.end(answerText({ status: 403, error, detail: reason }));
    granted.upstream.destroy();
  }

  #denied({ intent, identity, grant }: Granted, reason: string): void {
    const stage = intent.via === 'forward' ? 'forward-l7-parse-rejection' : 'connect-l7-parse-rejection';
    this.#options.observe({ kind: 'denied', stage, intent, identity, policy: grant.policy, reason });
  }
}

const inspected = (context: ConnectionContext): ConnectionService => ({
  exchange: (client) => inspectExchange(client, context),
  upgrade: (request, socket, head) => handleUpgrade(request, socket, head, context),
  closed: () => context.upstream.close(),
});
