import { generateKeyPairSync, randomUUID, sign, verify } from 'node:crypto';

/** Who a call comes from. An empty sandbox id is bound by the first call that names one. */
export type Principal =
  | { readonly kind: 'sandbox'; readonly token: string; readonly sandboxId: string }
  | { readonly kind: 'service-account'; readonly token: string }
  | { readonly kind: 'none' };

export interface MintedToken {
  readonly token: string;
  /** Milliseconds since the Unix epoch; 0 = it does not expire. */
  readonly expiresAtMs: number;
}

const ISSUER = 'openshell-gateway:dev';
/** The gateway's leeway for clocks that differ (contract.md, 3). */
const LEEWAY_MS = 60_000;

/**
 * The gateway's own JWTs (EdDSA, contract.md, 3), signed with a key of this process: a gateway that starts
 * anew refuses the tokens of its predecessor.
 */
export class Tokens {
  readonly #keys = generateKeyPairSync('ed25519');
  readonly #ttlSeconds: number;

  /** Tokens live for `ttlSeconds`; 0 = for ever. */
  constructor(ttlSeconds: number) {
    this.#ttlSeconds = ttlSeconds;
  }

  /** A token for the gateway, or for an extension of this audience, which the gateway itself refuses. */
  mint(sandboxId: string, audience?: string): MintedToken {
    const now = Math.floor(Date.now() / 1000);
    const exp = this.#ttlSeconds === 0 ? 0 : now + this.#ttlSeconds;
    const head = encode({
      alg: 'EdDSA',
      typ: audience === undefined ? 'JWT' : 'openshell-ext+jwt',
      kid: 'dev',
    });
    const sub = `spiffe://openshell/sandbox/${sandboxId}`;
    const body = encode({
      sub,
      iss: ISSUER,
      aud: audience ?? ISSUER,
      iat: now,
      exp,
      sandbox_id: sandboxId,
      jti: randomUUID(),
    });
    const signature = sign(null, Buffer.from(`${head}.${body}`), this.#keys.privateKey).toString('base64url');
    return { token: `${head}.${body}.${signature}`, expiresAtMs: exp * 1000 };
  }

  /** Reads an `authorization` header. Only what is not a JWT can be a service-account token here. */
  principal(header: string | undefined): Principal {
    const token = /^Bearer (.+)$/.exec(header ?? '')?.[1];
    if (token === undefined) return { kind: 'none' };
    const [head, body, signature] = token.split('.');
    if (head === undefined || body === undefined || signature === undefined)
      return { kind: 'service-account', token };
    const signed = Buffer.from(`${head}.${body}`);
    if (!verify(null, signed, this.#keys.publicKey, Buffer.from(signature, 'base64url'))) {
      // A real cluster's ServiceAccount tokens are JWTs too, of another issuer.
      return issuerOf(body) === ISSUER ? { kind: 'none' } : { kind: 'service-account', token };
    }
    const claims = decode(body);
    if (claims.aud !== ISSUER) return { kind: 'none' };
    const exp = typeof claims.exp === 'number' ? claims.exp * 1000 : 0;
    if (exp !== 0 && Date.now() > exp + LEEWAY_MS) return { kind: 'none' };
    return {
      kind: 'sandbox',
      token,
      sandboxId: typeof claims.sandbox_id === 'string' ? claims.sandbox_id : '',
    };
  }
}

const encode = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');

function decode(body: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(Buffer.from(body, 'base64url').toString('utf8'));
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}

const issuerOf = (body: string): unknown => decode(body).iss;
