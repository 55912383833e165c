/**
 * A policy as its author wrote it, whichever way it came (YAML or the wire), with the whole schema of
 * the contract (contract.md, 1.4 and 7.1): nothing is dropped silently on the way in.
 */
export interface PolicyDocument {
  readonly version: number;
  readonly filesystem: FilesystemSection | undefined;
  readonly landlock: LandlockCompatibility;
  readonly process: ProcessSection | undefined;
  /** By the rule's key, which is the name that decisions, logs and errors give. */
  readonly networkPolicies: Readonly<Record<string, NetworkRule>>;
  readonly networkMiddlewares: readonly MiddlewareConfig[];
}

export type LandlockCompatibility = 'best_effort' | 'hard_requirement';

export interface FilesystemSection {
  readonly includeWorkdir: boolean;
  readonly readOnly: readonly string[];
  readonly readWrite: readonly string[];
}

export interface ProcessSection {
  readonly runAsUser: string | undefined;
  readonly runAsGroup: string | undefined;
}

export interface NetworkRule {
  /** What its author calls it; its key when empty. */
  readonly name: string;
  readonly endpoints: readonly Endpoint[];
  readonly binaries: readonly Binary[];
}

export interface Binary {
  /** Absolute path, or a glob when it holds `*`. */
  readonly path: string;
  /** Carried only by approved proposals (`harness` on the wire); gives no trust in private addresses. */
  readonly advisorProposed: boolean;
}

/** The protocols that name something above TCP; everything else is opaque. */
export const INSPECTED_PROTOCOLS = ['rest', 'websocket', 'graphql', 'sql', 'json-rpc', 'mcp'] as const;
export type InspectedProtocol = (typeof INSPECTED_PROTOCOLS)[number];

export const CREDENTIAL_SIGNINGS = ['sigv4', 'sigv4:body', 'sigv4:no_body'] as const;
export type CredentialSigning = (typeof CREDENTIAL_SIGNINGS)[number];

/** What a body may hold where its endpoint says nothing, in bytes. */
export const DEFAULT_BODY_BYTES = 65_536;

export interface Endpoint {
  /** Exact name, DNS glob or address literal; empty only together with `allowedIps`. */
  readonly host: string;
  readonly ports: readonly number[];
  /** Path glob that scopes the endpoint on a shared host and port; empty is every path. */
  readonly path: string;
  /** `opaque` is the absent protocol; both it and `tcp` are L4. */
  readonly protocol: InspectedProtocol | 'opaque' | 'tcp';
  readonly tls: 'auto' | 'skip';
  readonly enforcement: 'enforce' | 'audit';
  readonly access: AccessPreset | undefined;
  readonly rules: readonly OperationPattern[];
  readonly denyRules: readonly OperationPattern[];
  readonly allowedIps: readonly string[];
  readonly allowEncodedSlash: boolean;
  readonly persistedQueries: 'deny' | 'allow_registered';
  /** GraphQL operations that saved queries stand for, by hash or id. */
  readonly graphqlPersistedQueries: Readonly<Record<string, RegisteredOperation>>;
  /** In bytes; 65536 where the author says nothing. */
  readonly graphqlMaxBodyBytes: number;
  /** Of json-rpc and mcp, in bytes; 65536 where the author says nothing. */
  readonly jsonRpcMaxBodyBytes: number;
  readonly mcp: McpOptions | undefined;
  readonly websocketCredentialRewrite: boolean;
  readonly requestBodyCredentialRewrite: boolean;
  readonly credentialSigning: CredentialSigning | undefined;
  readonly signingService: string;
  readonly signingRegion: string;
  /** Provider whose static credentials are bound to this endpoint. */
  readonly credentialBinding: string | undefined;
  readonly allowUninspectedCredentials: boolean;
  /** Set by the gateway only: gives no trust in private addresses. */
  readonly advisorProposed: boolean;
  /** Set by the gateway only: credentials travel to this endpoint. */
  readonly providerCredentialed: boolean;
  /** What its author wrote that means the same as something else: for warnings. */
  readonly deprecated: readonly string[];
}

export type AccessPreset = 'read-only' | 'read-write' | 'full';

export interface McpOptions {
  /** Undefined is true. */
  readonly strictToolNames: boolean | undefined;
  /** Undefined is false. */
  readonly allowAllKnownMethods: boolean | undefined;
}

/** An allow or deny rule; an empty text and an empty list or map say nothing. */
export interface OperationPattern {
  readonly method: string;
  readonly path: string;
  readonly command: string;
  readonly query: Readonly<Record<string, ValuePattern>>;
  readonly operationType: string;
  readonly operationName: string;
  readonly fields: readonly string[];
  /** Flat, nested keys joined by dots; `tool` of the YAML is `name`. */
  readonly params: Readonly<Record<string, ValuePattern>>;
}

/** A value matches when any of the globs does. */
export type ValuePattern = readonly string[];

export interface RegisteredOperation {
  readonly operationType: string;
  readonly operationName: string;
  readonly fields: readonly string[];
}

export type JsonValue =
  | string
  | number
  | boolean
  | null
  | readonly JsonValue[]
  | { readonly [key: string]: JsonValue };
export type JsonObject = Readonly<Record<string, JsonValue>>;

export interface MiddlewareConfig {
  readonly key: string;
  /** What its author calls it; its key when empty. */
  readonly name: string;
  /** The registered service, or a built-in such as `openshell/regex`. */
  readonly middleware: string;
  readonly config: JsonObject;
  readonly onError: 'fail_closed' | 'fail_open';
  /** Host patterns; a request to another host skips this middleware. */
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly order: number;
}

/** An endpoint of which nothing is said; what a constructor of endpoints starts from. */
export const BLANK_ENDPOINT: Endpoint = Object.freeze({
  host: '',
  ports: [],
  path: '',
  protocol: 'opaque',
  tls: 'auto',
  enforcement: 'audit',
  access: undefined,
  rules: [],
  denyRules: [],
  allowedIps: [],
  allowEncodedSlash: false,
  persistedQueries: 'deny',
  graphqlPersistedQueries: {},
  graphqlMaxBodyBytes: DEFAULT_BODY_BYTES,
  jsonRpcMaxBodyBytes: DEFAULT_BODY_BYTES,
  mcp: undefined,
  websocketCredentialRewrite: false,
  requestBodyCredentialRewrite: false,
  credentialSigning: undefined,
  signingService: '',
  signingRegion: '',
  credentialBinding: undefined,
  allowUninspectedCredentials: false,
  advisorProposed: false,
  providerCredentialed: false,
  deprecated: [],
});
