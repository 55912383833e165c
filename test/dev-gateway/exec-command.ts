import type { ExecSandboxRequest } from '../../proto/generated/openshell/v1/openshell.ts';

/** Contract.md, 1.10. */
const MAX_WORDS = 1024;
const MAX_WORD_BYTES = 32 * 1024;
const MAX_WORKDIR = 4096;
const MAX_COMMAND_BYTES = 256 * 1024;

/** A word as a shell takes it for itself: bare when nothing in it means anything, else between single quotes. */
export const quoted = (word: string): string =>
  /^[A-Za-z0-9./_-]+$/.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;

/** The command that a sandbox's shell is given (contract.md, 6). Throws what is wrong with the request. */
export function commandOf({ command, workdir, environment }: ExecSandboxRequest): string {
  if (command.length === 0 || command.length > MAX_WORDS)
    throw new Error(`a command has 1 to ${MAX_WORDS} words`);
  if (workdir.length > MAX_WORKDIR) throw new Error(`workdir has at most ${MAX_WORKDIR} characters`);
  const variables = Object.entries(environment).sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [key] of variables)
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(key))
      throw new Error(`${JSON.stringify(key)} is no name of a variable`);
  for (const word of [...command, workdir, ...variables.map(([, value]) => value)]) {
    if (word.includes('\0')) throw new Error('a word holds a NUL');
    if (Buffer.byteLength(word) > MAX_WORD_BYTES)
      throw new Error(`a word has at most ${MAX_WORD_BYTES} bytes`);
  }
  const words = [...variables.map(([key, value]) => `${key}=${quoted(value)}`), ...command.map(quoted)];
  const text = `${workdir === '' ? '' : `cd ${quoted(workdir)} && `}${words.join(' ')}`;
  if (Buffer.byteLength(text) > MAX_COMMAND_BYTES)
    throw new Error(`a command has at most ${MAX_COMMAND_BYTES} bytes`);
  return text;
}
