/** How a kind of provider is spoken to (contract.md, 9). */
export interface Provider {
  /** The field that carries the key; undefined where somebody else signs. */
  readonly keyField: 'authorization' | 'x-api-key' | undefined;
  /** Fields of the client that it takes beside the common ones, in lower case. */
  readonly passes: readonly string[];
  /** Sent where the client says nothing. */
  readonly defaults: Readonly<Record<string, string>>;
}

const bearer = (...passes: readonly string[]): Provider => ({
  keyField: 'authorization',
  passes,
  defaults: {},
});

const PROVIDERS: Readonly<Record<string, Provider>> = {
  anthropic: {
    keyField: 'x-api-key',
    passes: ['anthropic-version', 'anthropic-beta'],
    defaults: { 'anthropic-version': '2023-06-01' },
  },
  openai: bearer('openai-organization', 'x-model-id'),
  nvidia: bearer('x-model-id'),
  deepinfra: bearer('x-model-id'),
  'google-vertex-ai': bearer(),
  'aws-bedrock': { keyField: undefined, passes: [], defaults: {} },
};
const OTHER = bearer();

/** A type that nobody knows takes its key as a bearer token. */
export const providerOf = (type: string): Provider =>
  Object.hasOwn(PROVIDERS, type) ? (PROVIDERS[type] ?? OTHER) : OTHER;
