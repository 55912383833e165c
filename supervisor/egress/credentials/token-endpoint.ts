import { type IncomingMessage, request } from 'node:http';
import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import * as v from 'valibot';
import { Secret } from '../../observability/secret.ts';
import { err, ok, type Result } from '../../result.ts';
import { dial } from '../destination.ts';
import type { Resolve } from '../resolver.ts';
import { connectTls } from '../tls/upstream.ts';
import type { TokenGrant } from './token-grant.ts';

/** What a token endpoint gave. */
export interface IssuedToken {
  readonly token: Secret;
  /** Milliseconds that it lives from now on, as the endpoint says; undefined when it does not. */
  readonly lifeMs: number | undefined;
}

/** Asks for a token with an assertion. Errors never hold either. */
export type AskToken = (grant: TokenGrant, assertion: Secret) => Promise<Result<IssuedToken, string>>;

const TIMEOUT_MS = 30_000;
const MAX_ANSWER_BYTES = 64 * 1024;
/** RFC 9110, 11.2: what may stand behind a scheme. */
const TOKEN68 = /^[A-Za-z0-9._~+/-]{1,16384}=*$/;

const ANSWER = v.object({
  access_token: v.string(),
  expires_in: v.optional(
    v.union([v.number(), v.pipe(v.string(), v.regex(/^\d{1,9}$/), v.transform(Number))]),
  ),
});

/**
 * OAuth client credentials with a JWT as the client's assertion (RFC 6749, 4.4; RFC 7523, 2.2): one POST, 30 s in all, no
 * redirects, no proxy, at most 64 KiB of answer. Names are resolved by `resolve`, servers verified against `trust`.
 */
export function askTokenEndpoint(resolve: Resolve, trust: () => SecureContext): AskToken {
  return async ({ endpoint, audience, scopes, assertionType }, assertion) => {
    const form = new URLSearchParams({
      grant_type: 'client_credentials',
      client_assertion_type: assertionType,
      client_assertion: assertion.reveal(),
    });
    if (audience !== '') form.set('audience', audience);
    if (scopes.length > 0) form.set('scope', scopes.join(' '));
    const answer = await post(endpoint, form.toString(), resolve, trust);
    return answer.ok ? readAnswer(answer.value) : answer;
  };
}

interface RawAnswer {
  readonly status: number;
  readonly body: string;
}

function readAnswer({ status, body }: RawAnswer): Result<IssuedToken, string> {
  if (status !== 200) return err(`the token endpoint answered ${status}`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return err('the token endpoint answered with something else than JSON');
  }
  const read = v.safeParse(ANSWER, parsed);
  if (!read.success) return err('the token endpoint answered without an access_token');
  const { access_token: token, expires_in: seconds } = read.output;
  if (!TOKEN68.test(token)) return err('the token endpoint answered with a token that no field can carry');
  return ok({ token: new Secret(token), lifeMs: seconds === undefined ? undefined : seconds * 1000 });
}

async function post(
  endpoint: URL,
  body: string,
  resolve: Resolve,
  trust: () => SecureContext,
): Promise<Result<RawAnswer, string>> {
  const secure = endpoint.protocol === 'https:';
  const host = endpoint.hostname.replace(/^\[|\]$/g, '');
  const addresses = await resolve(host);
  if (!addresses.ok) return addresses;
  const dialled = await dial(
    addresses.value,
    endpoint.port === '' ? (secure ? 443 : 80) : Number(endpoint.port),
  );
  if (!dialled.ok) return dialled;
  const socket = secure ? await connectTls(dialled.value, host, trust(), ['http/1.1']) : dialled;
  return socket.ok ? exchange(socket.value, endpoint, body) : socket;
}

function exchange(socket: Socket, endpoint: URL, body: string): Promise<Result<RawAnswer, string>> {
  return new Promise((done) => {
    // Only what the system says, which knows nothing of the body.
    const failed = (error: Error): void => {
      socket.destroy();
      const code = 'code' in error ? String(error.code) : error.name;
      done(err(`the token endpoint broke off (${code})`));
    };
    const sent = request(
      {
        createConnection: () => socket,
        method: 'POST',
        path: `${endpoint.pathname}${endpoint.search}`,
        signal: AbortSignal.timeout(TIMEOUT_MS),
        headers: {
          host: endpoint.host,
          'content-type': 'application/x-www-form-urlencoded',
          'content-length': Buffer.byteLength(body),
          accept: 'application/json',
          connection: 'close',
        },
      },
      (response: IncomingMessage) => {
        const chunks: Buffer[] = [];
        let bytes = 0;
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > MAX_ANSWER_BYTES) {
            done(err('the answer of the token endpoint is too large'));
            socket.destroy();
          } else chunks.push(chunk);
        });
        response.once('error', failed);
        response.once('end', () =>
          done(ok({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') })),
        );
      },
    );
    sent.once('error', failed);
    sent.end(body);
  });
}
