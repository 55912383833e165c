import { type StdioOptions, spawn } from 'node:child_process';
import { ROOT } from './paths.ts';

export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly input?: string;
  /** `inherit` shows standard output and error as they come; by default both are collected. */
  readonly output?: 'collect' | 'inherit';
  /** Milliseconds after which the command is killed; 0, the default, is never. */
  readonly timeout?: number;
}

export interface CommandResult {
  /** The exit code, or 128 plus the signal's number. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** What a collecting command may print before it is killed: 64 MiB on each stream. */
const OUTPUT_LIMIT = 64 << 20;

/** Signals that end our commands; others count as SIGKILL. */
const SIGNAL_NUMBER: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGKILL: 9,
  SIGTERM: 15,
};

/** The exit code that a shell would show for how a process ended. */
export const exitCode = (code: number | null, signal: NodeJS.Signals | null): number =>
  code ?? 128 + (SIGNAL_NUMBER[signal ?? 'SIGKILL'] ?? 9);

/** Runs a command to its end. Rejects only when it cannot be started. */
export const attempt = (
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> =>
  new Promise((done, fail) => {
    const input = options.input === undefined ? 'ignore' : 'pipe';
    const stdio: StdioOptions =
      options.output === 'inherit' ? [input, 'inherit', 'inherit'] : [input, 'pipe', 'pipe'];
    const child = spawn(command, [...args], {
      cwd: options.cwd ?? ROOT,
      env: options.env ?? process.env,
      stdio,
      timeout: options.timeout ?? 0,
      killSignal: 'SIGKILL',
    });
    const collected = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) {
      child[name]?.setEncoding('utf8').on('data', (text: string) => {
        collected[name] += text;
        if (collected[name].length > OUTPUT_LIMIT) child.kill('SIGKILL');
      });
    }
    child.stdin?.on('error', () => {
      // The command did not want its input; its exit code tells whether that is an error.
    });
    child.stdin?.end(options.input);
    child.on('error', fail);
    child.on('close', (code, signal) => done({ code: exitCode(code, signal), ...collected }));
  });

/** Runs a command to its end and returns what it printed. Rejects, with its last words, when it fails. */
export const run = async (
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> => {
  const result = await attempt(command, args, options);
  if (result.code !== 0) {
    const words = `${result.stdout}\n${result.stderr}`.trim().split('\n').slice(-20).join('\n');
    throw new Error(`${[command, ...args].join(' ')} ended with ${result.code}\n${words}`);
  }
  return result.stdout;
};
