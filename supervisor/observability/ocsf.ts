/** OCSF severities with their tags in the shorthand (contract.md, 11). */
const SEVERITY_TAG = {
  info: 'INFO',
  low: 'LOW',
  medium: 'MED',
  high: 'HIGH',
  critical: 'CRIT',
  fatal: 'FATAL',
} as const;
export type Severity = keyof typeof SEVERITY_TAG;

/** The security events of the supervisor, by OCSF class. */
export type OcsfEvent =
  | {
      readonly class: 'network';
      readonly activity: 'OPEN' | 'CLOSE' | 'REFUSE' | 'FAIL';
      readonly severity: Severity;
      readonly action: 'ALLOWED' | 'DENIED' | 'OBSERVED';
      readonly process: { readonly name: string; readonly pid: number } | undefined;
      readonly host: string;
      readonly port: number;
      readonly policy: string | undefined;
      readonly engine: string;
      readonly reason: string | undefined;
    }
  | {
      readonly class: 'http';
      readonly severity: Severity;
      readonly action: 'ALLOWED' | 'DENIED' | 'OBSERVED';
      readonly method: string;
      readonly process: { readonly name: string; readonly pid: number };
      /** Without its query, which may hold what nobody is to read. */
      readonly url: string;
      readonly policy: string | undefined;
      readonly reason: string | undefined;
    }
  | {
      readonly class: 'process';
      readonly activity: 'LAUNCH' | 'TERMINATE';
      readonly severity: Severity;
      readonly name: string;
      readonly pid: number;
      readonly exitCode: number | undefined;
    }
  | {
      readonly class: 'lifecycle';
      readonly activity: 'START' | 'STOP';
      readonly severity: Severity;
      readonly app: string;
      readonly status: 'SUCCESS' | 'FAILURE';
    }
  | {
      readonly class: 'config';
      readonly state: string;
      readonly severity: Severity;
      readonly message: string;
      readonly version: number | undefined;
      readonly hash: string | undefined;
    }
  | {
      readonly class: 'ssh';
      readonly activity: 'OPEN' | 'CLOSE' | 'FAIL';
      readonly severity: Severity;
      readonly action: 'ALLOWED' | 'DENIED';
      readonly peer: string;
      readonly auth: string | undefined;
      /** Why it was denied, or ended from our side. */
      readonly reason?: string | undefined;
    }
  | {
      readonly class: 'api';
      readonly severity: Severity;
      /** Of HTTP. */
      readonly status: number;
      readonly model: string;
      readonly provider: string;
      readonly durationMs: number;
      readonly operation: string;
    }
  | {
      readonly class: 'finding';
      readonly severity: Severity;
      readonly title: string;
      readonly type: string;
    }
  /** What no other class fits. */
  | { readonly class: 'base'; readonly severity: Severity; readonly message: string };

const MAX_REASON = 256;
const MAX_MESSAGE = 120;

/** The one-line form that people grep and the gateway keeps. Absent parts vanish. */
export function shorthand(event: OcsfEvent): string {
  const tag = `[${SEVERITY_TAG[event.severity]}]`;
  switch (event.class) {
    case 'network': {
      const caller = event.process === undefined ? '' : ` ${who(event.process)} ->`;
      const reason =
        event.action === 'DENIED' && event.reason !== undefined
          ? ` [reason:${cut(event.reason, MAX_REASON)}]`
          : '';
      const engine = ` [policy:${word(event.policy ?? '-')} engine:${word(event.engine)}]`;
      return `NET:${event.activity} ${tag} ${event.action}${caller} ${word(event.host)}:${event.port}${engine}${reason}`;
    }
    case 'http': {
      const { method, action, process, url, policy, reason } = event;
      const why = action === 'DENIED' && reason !== undefined ? ` [reason:${cut(reason, MAX_REASON)}]` : '';
      return `HTTP:${word(method)} ${tag} ${action} ${who(process)} -> ${word(method)} ${word(url)} [policy:${word(policy ?? '-')} engine:l7]${why}`;
    }
    case 'process': {
      const exit = event.exitCode === undefined ? '' : ` [exit:${event.exitCode}]`;
      return `PROC:${event.activity} ${tag} ${who(event)}${exit}`;
    }
    case 'lifecycle':
      return `LIFECYCLE:${event.activity} ${tag} ${word(event.app)} ${event.status.toLowerCase()}`;
    case 'config': {
      const facts = [
        event.version === undefined ? '' : `version:${event.version}`,
        event.hash === undefined || event.hash === '' ? '' : `hash:${word(event.hash)}`,
      ].filter((fact) => fact !== '');
      const tail = facts.length === 0 ? '' : ` [${facts.join(' ')}]`;
      return `CONFIG:${event.state} ${tag} ${cut(event.message, MAX_MESSAGE)}${tail}`;
    }
    case 'ssh': {
      const auth = event.auth === undefined ? '' : ` [auth:${word(event.auth)}]`;
      return `SSH:${event.activity} ${tag} ${event.action} ${word(event.peer)}${auth}`;
    }
    case 'api': {
      const { status, model, provider, durationMs, operation } = event;
      return `API:INFERENCE ${tag} ${status < 400 ? 'Success' : 'Failure'} ${word(model)} via ${word(provider)} ${Math.round(durationMs)}ms [${word(operation)}]`;
    }
    case 'finding':
      return `FINDING:DETECTED ${tag} "${quoted(cut(event.title, MAX_MESSAGE))}" [type:${word(event.type)}]`;
    case 'base':
      return `EVENT ${tag} ${cut(event.message, MAX_MESSAGE)}`;
  }
}

/** The workload names its own programs: a name must not look like the parts around it. */
const who = ({ name, pid }: { readonly name: string; readonly pid: number }): string =>
  `${word(name)}(${pid})`;

const quoted = (text: string): string => text.replaceAll(/["\\]/g, (char) => `\\${char}`);

/** Escapes what would end a bracket or split a word, as upstream does: `\[`, and `\u{20}` for a blank. */
const word = (text: string): string =>
  text.replaceAll(/[\\[\]]|[\s\p{Cc}]/gu, (char) =>
    /[\\[\]]/.test(char) ? `\\${char}` : `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`,
  );

/** One line, at most `limit` bytes, cut between characters. */
function cut(text: string, limit: number): string {
  const flat = text.replaceAll(/[\p{Cc}\u2028\u2029]+/gu, ' ');
  const bytes = Buffer.from(flat);
  if (bytes.length <= limit) return flat;
  let end = limit;
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return bytes.toString('utf8', 0, end);
}
