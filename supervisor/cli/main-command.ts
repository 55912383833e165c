import { Fault } from '../fault.ts';
import { err, ok, type Result } from '../result.ts';

/** The main process: its argument vector, and whether it wants a terminal. */
export interface MainCommand {
  readonly argv: readonly string[];
  readonly tty: boolean;
}

const MAX_ARGUMENTS = 256;
const MAX_ARGUMENT_BYTES = 32 * 1024;
const MAX_TOTAL_BYTES = 256 * 1024;

/**
 * The main command (contract.md, 4.4): trailing arguments, then the spec in the environment, then a login
 * shell. The spec is JSON, or `base64url:` and unpadded base64url of the same JSON.
 */
export function resolveMainCommand(
  trailing: readonly string[],
  interactive: boolean,
  spec: string | undefined,
): Result<MainCommand, Fault> {
  if (trailing.length > 0) return checked({ argv: trailing, tty: interactive }, 'the command', 'usage');
  if (spec !== undefined && spec !== '') return parseSpec(spec);
  return ok({ argv: ['/bin/bash', '-l'], tty: true });
}

function parseSpec(spec: string): Result<MainCommand, Fault> {
  const bad = (why: string): Result<never, Fault> =>
    err(new Fault('config', `OPENSHELL_MAIN_PROCESS_SPEC ${why}`));
  const encoded = spec.startsWith('base64url:') ? spec.slice('base64url:'.length) : undefined;
  if (encoded !== undefined && !/^[A-Za-z0-9_-]+$/.test(encoded)) return bad('is not unpadded base64url');
  let value: unknown;
  try {
    value = JSON.parse(encoded === undefined ? spec : Buffer.from(encoded, 'base64url').toString('utf8'));
  } catch {
    return bad('is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return bad('is not a JSON object');
  const { version, command, tty, ...rest } = value as Record<string, unknown>;
  if (version !== 1) return bad(`has version ${JSON.stringify(version)}; this supervisor knows 1`);
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) return bad(`has the unknown key "${unknown.slice(0, 100)}"`);
  if (!Array.isArray(command) || !command.every((word): word is string => typeof word === 'string'))
    return bad('has no command that is a list of strings');
  if (tty !== undefined && typeof tty !== 'boolean') return bad('has a tty that is not true or false');
  return checked(
    { argv: command, tty: tty === true },
    'the command of OPENSHELL_MAIN_PROCESS_SPEC',
    'config',
  );
}

function checked(command: MainCommand, what: string, kind: 'usage' | 'config'): Result<MainCommand, Fault> {
  const bad = (why: string): Result<never, Fault> => err(new Fault(kind, `${what} ${why}`));
  if (command.argv.length === 0 || command.argv[0] === '') return bad('is empty');
  if (command.argv.length > MAX_ARGUMENTS) return bad(`has more than ${MAX_ARGUMENTS} arguments`);
  const sizes = command.argv.map((word) => Buffer.byteLength(word));
  if (sizes.some((size) => size > MAX_ARGUMENT_BYTES))
    return bad(`has an argument of more than ${MAX_ARGUMENT_BYTES} bytes`);
  if (sizes.reduce((sum, size) => sum + size, 0) > MAX_TOTAL_BYTES)
    return bad(`is larger than ${MAX_TOTAL_BYTES} bytes`);
  if (command.argv.some((word) => word.includes('\0'))) return bad('holds a NUL byte');
  return ok(command);
}
