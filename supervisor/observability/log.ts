import pino from 'pino';
import { type OcsfEvent, shorthand } from './ocsf.ts';
import { redactEvent, redactText } from './redaction.ts';

export const LOG_LEVELS = ['error', 'warn', 'info', 'debug', 'trace'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogFormat = 'json' | 'pretty';

export type LogFields = Readonly<Record<string, unknown>>;

/** One line as it goes to the gateway. `OCSF` ranks as info there (contract.md, 11). */
export interface LogRecord {
  readonly at: number;
  readonly level: Uppercase<LogLevel> | 'OCSF';
  readonly target: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, string>>;
}

/** Writes lines of one part of the supervisor. */
export type Logger = Readonly<Record<LogLevel, (message: string, fields?: LogFields) => void>>;

export interface LoggingOptions {
  readonly level: LogLevel;
  readonly format: LogFormat;
  readonly pushLevel: LogLevel;
  readonly now: () => number;
  /** Takes every line at or above the push level; must not throw. */
  readonly push: (record: LogRecord) => void;
  /** Every line for a file, in its shorthand form, and every security event; neither may throw. */
  readonly onLine?: (at: number, text: string) => void;
  readonly onEvent?: (at: number, event: OcsfEvent, suppressed: number) => void;
  /** Standard output, unless a test wants to see it. */
  readonly write?: (line: string) => void;
}

export interface Logging {
  readonly logger: (target: string) => Logger;
  /**
   * A security event: its shorthand goes to the console at info, and to the gateway as level OCSF. `suppressed` says
   * how many like it were not told.
   */
  readonly ocsf: (event: OcsfEvent, suppressed?: number) => void;
  /** Lines that the console could not take, because standard output was not being read. */
  readonly dropped: () => number;
  readonly flush: () => void;
}

const RANK: Readonly<Record<LogLevel, number>> = { error: 0, warn: 1, info: 2, debug: 3, trace: 4 };
const MAX_WAITING_BYTES = 1024 * 1024;
const SECRET_NAME = /token|secret|password|authorization|api[_-]?key|credential/i;

/**
 * Logging with two sinks: standard output (pino, JSON or readable) and the gateway. Standard output is
 * written asynchronously with at most 1 MiB waiting: a reader that stalls costs lines, which are counted,
 * never the supervisor's progress.
 */
export function createLogging(options: LoggingOptions): Logging {
  let dropped = 0;
  const sink = openSink(options, () => {
    dropped += 1;
  });
  const root = pino(
    {
      level: options.level,
      base: null,
      timestamp: () => `,"time":"${new Date(options.now()).toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    sink.stream,
  );
  const push = (
    level: LogRecord['level'],
    rank: number,
    target: string,
    message: string,
    fields: LogFields,
  ): void => {
    if (rank <= RANK[options.pushLevel])
      options.push({ at: options.now(), level, target, message, fields: printable(fields) });
  };
  const emit =
    (level: LogLevel, target: string) =>
    (text: string, fields: LogFields = {}): void => {
      const message = redactText(text);
      root[level]({ target, ...redact(fields) }, message);
      push(level.toUpperCase() as Uppercase<LogLevel>, RANK[level], target, message, fields);
      if (RANK[level] <= RANK.info)
        options.onLine?.(
          options.now(),
          `${level.toUpperCase()} ${target}: ${message}${tail(redact(fields))}`,
        );
    };
  return {
    logger: (target) => ({
      error: emit('error', target),
      warn: emit('warn', target),
      info: emit('info', target),
      debug: emit('debug', target),
      trace: emit('trace', target),
    }),
    ocsf(told, suppressed = 0) {
      const event = redactEvent(told);
      const at = options.now();
      const line = shorthand(event) + (suppressed === 0 ? '' : ` [suppressed:${suppressed}]`);
      root.info({ target: 'ocsf' }, line);
      push('OCSF', RANK.info, 'ocsf', line, {});
      options.onLine?.(at, `OCSF ${line}`);
      options.onEvent?.(at, event, suppressed);
    },
    dropped: () => dropped,
    flush: sink.flush,
  };
}

interface Sink {
  readonly stream: { write(line: string): void };
  readonly flush: () => void;
}

function openSink(options: LoggingOptions, onDrop: () => void): Sink {
  const format = options.format === 'pretty' ? prettyLine : (line: string) => line;
  const { write } = options;
  if (write !== undefined)
    return { stream: { write: (line) => write(format(line)) }, flush: () => undefined };
  const destination = pino.destination({ fd: 1, sync: false, maxLength: MAX_WAITING_BYTES });
  destination.on('drop', onDrop);
  destination.on('error', onDrop); // EPIPE: nobody reads any more; the sandbox goes on
  return {
    stream: { write: (line) => void destination.write(format(line)) },
    flush() {
      try {
        destination.flushSync();
      } catch {
        onDrop(); // not ready, or closed: there is nothing to flush to
      }
    },
  };
}

/** `12:00:01.250 WARN  egress: denied host=a port=1` */
export function prettyLine(line: string): string {
  const { level, time, target, msg, ...fields } = JSON.parse(line) as Record<string, unknown>;
  const clock = String(time).slice(11, 23);
  const rest = Object.entries(fields)
    .map(([key, value]) => ` ${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join('');
  return `${clock} ${String(level).toUpperCase().padEnd(5)} ${target}: ${msg}${rest}\n`.replaceAll(
    /[\r\n]+(?!$)/g,
    ' ',
  );
}

function tail(fields: LogFields): string {
  const parts = Object.entries(printable(fields)).map(([key, value]) => ` ${key}=${value}`);
  return parts.join('');
}

/** Values under names that promise a secret never get out; values of type Secret print themselves redacted. */
function redact(fields: LogFields): LogFields {
  const safe: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields))
    safe[key] = SECRET_NAME.test(key) ? '[redacted]' : typeof value === 'string' ? redactText(value) : value;
  return safe;
}

function printable(fields: LogFields): Readonly<Record<string, string>> {
  const text: Record<string, string> = {};
  for (const [key, value] of Object.entries(redact(fields)))
    if (value !== undefined)
      text[key] = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  return text;
}
