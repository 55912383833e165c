import { hostname } from 'node:os';
import type { RecordBuffer } from './buffer/record-buffer.ts';
import type { Config } from './config.ts';
import { findLogDirectory } from './log-directory.ts';
import { createLogging, type Logging } from './observability/log.ts';
import { LogFiles } from './observability/log-files.ts';
import type { OcsfEvent } from './observability/ocsf.ts';
import { ocsfJson } from './observability/ocsf-json.ts';
import { VERSION } from './version.ts';

export interface SandboxLogOptions {
  readonly config: Pick<
    Config,
    'logLevel' | 'logFormat' | 'pushLevel' | 'logDir' | 'sandboxId' | 'sandboxName'
  >;
  /** Takes what the gateway is to have. */
  readonly buffer: RecordBuffer;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Every line as it is told, with its time. */
  readonly onLine: (line: string) => void;
  /** Whether security events go to a JSON file as well; a setting of the gateway, so asked each time. */
  readonly ocsfJson: () => boolean;
}

/** Everything a sandbox tells: on stderr, in files of a log directory where there is one, and to the gateway. */
export interface SandboxLog {
  readonly logging: Logging;
  /** Ends the files; what comes later is told elsewhere only. */
  close(): Promise<void>;
}

/** Opens the files at once. A log directory that takes none is told once, and left out. */
export function openSandboxLog(options: SandboxLogOptions): SandboxLog {
  const { config, buffer, now } = options;
  let files: LogFiles | undefined;
  const logging = createLogging({
    level: config.logLevel,
    format: config.logFormat,
    pushLevel: config.pushLevel,
    now,
    onLine: (at, text) => {
      const line = `${new Date(at).toISOString()} ${text}`;
      options.onLine(line);
      files?.write('openshell', line);
    },
    onEvent: (at, event, suppressed) => {
      if (files !== undefined && options.ocsfJson())
        files.write('openshell-ocsf', jsonLine(config, at, event, suppressed));
    },
    push: (line) => {
      if (line.level === 'OCSF')
        buffer.append('audit', { kind: 'event', at: line.at, message: line.message });
      else buffer.append('logs', { kind: 'log', ...line });
    },
  });
  // It belongs to whoever keeps the pod.
  const directory = findLogDirectory(config.logDir);
  if (directory !== undefined)
    files = new LogFiles(directory, {
      now,
      onFailure: (reason) => logging.logger('supervisor').warn(`log files are left out: ${reason}`),
    });
  return { logging, close: async () => files?.close() };
}

function jsonLine(
  { sandboxId, sandboxName }: Pick<Config, 'sandboxId' | 'sandboxName'>,
  at: number,
  event: OcsfEvent,
  suppressed: number,
): string {
  const place = { sandboxId, sandboxName, version: VERSION, image: undefined, hostname: hostname() };
  return JSON.stringify({
    ...ocsfJson(event, at, place),
    ...(suppressed === 0 ? {} : { count: suppressed }),
  });
}
