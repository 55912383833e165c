import type { CompiledEndpoint } from './compilation.ts';

/** One request or message inside a granted connection, as its parser describes it. */
export interface RequestFacts {
  /** HTTP method; `WEBSOCKET_TEXT` for a client's text message, which has the handshake's path and query. */
  readonly method: string;
  /** Canonical (path.ts), never raw. */
  readonly path: string;
  readonly query: QueryParameters;
  readonly body: BodyFacts;
}

/** Decoded values by decoded key, in the order they came. */
export type QueryParameters = ReadonlyMap<string, readonly string[]>;

export type BodyFacts =
  /** Nothing but method, path and query is looked at: rest, a handshake, an uninterpreted text message. */
  | { readonly kind: 'none' }
  | { readonly kind: 'graphql'; readonly operations: readonly GraphqlOperation[] }
  | {
      readonly kind: 'json-rpc';
      readonly calls: readonly RpcCall[];
      /** Whether the body holds a response, which only mcp lets a client send. */
      readonly hasResponse: boolean;
    }
  /** An mcp GET without a body that asks for an event stream. */
  | { readonly kind: 'receive-stream' }
  /** What the endpoint's protocol does not allow to be said: blocked, audit or not. */
  | { readonly kind: 'malformed'; readonly error: string };

export interface GraphqlOperation {
  /** Empty only for a saved query whose text the client did not send. */
  readonly type: 'query' | 'mutation' | 'subscription' | '';
  /** Empty when anonymous. */
  readonly name: string;
  /** Root fields by name, not alias, fragments expanded. */
  readonly fields: readonly string[];
  /** Hash or id of a saved query, when `type` is empty. */
  readonly persisted?: string;
}

export interface RpcCall {
  readonly method: string;
  /** `params.name` of an mcp `tools/call`. */
  readonly tool?: string;
}

/** What becomes of one request. */
export interface RequestDecision {
  /** `audit` would be a denial, but its endpoint only asks for it to be logged: let it pass. */
  readonly kind: 'allow' | 'deny' | 'audit';
  readonly policy: string;
  /** Place of the rule that decided, such as `network_policies.a.endpoints[0].deny_rules[1]`. */
  readonly rule: string | undefined;
  readonly reason: string;
  /** Counter of the compiled policy this decision came from. */
  readonly generation: number;
  /** The endpoint whose options hold for the request: the one with the most specific path. */
  readonly endpoint: CompiledEndpoint | undefined;
}
