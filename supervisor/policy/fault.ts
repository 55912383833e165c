/** Where something stands in a policy: keys and indexes from the top. */
export type Place = readonly (string | number)[];

/** A fault of a policy: where in the document, and what is wrong. */
export interface PolicyFault {
  /** For example `network_policies.github.endpoints[0].port`; empty for the whole document. */
  readonly path: string;
  /** The same, as keys. */
  readonly at: Place;
  readonly message: string;
  /** 1-based place in the YAML text, when it came from one. */
  readonly line?: number;
  readonly column?: number;
}

/** A fault at a place. */
export const faultAt = (at: Place, message: string): PolicyFault => ({ path: placeText(at), at, message });

/** Of a value that somebody has put in the wrong place: it may be a whole document. */
const MAX_SHOWN = 80;

/** The beginning of what stands there, for a message. */
export const shown = (value: string): string =>
  value.length > MAX_SHOWN ? `${value.slice(0, MAX_SHOWN)}…` : value;

/** A place as text: dots between names, brackets around indexes and around names that need quotes. */
export function placeText(at: Place): string {
  let text = '';
  for (const key of at)
    if (typeof key === 'number') text += `[${key}]`;
    else if (/^[\w/:*@+-]+$/.test(key)) text += text === '' ? key : `.${key}`;
    else text += `[${JSON.stringify(key)}]`;
  return text;
}

/** One line for a person: "network_policies.a.endpoints[0].port (line 7, column 9): must be …". */
export function describeFault(fault: PolicyFault): string {
  const place = fault.line === undefined ? '' : ` (line ${fault.line}, column ${fault.column ?? 1})`;
  return `${fault.path === '' ? 'the document' : fault.path}${place}: ${fault.message}`;
}
