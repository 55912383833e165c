import type { ChildProcess } from 'node:child_process';
import { Socket } from 'node:net';

/** Our ends of a child's pipes. */
export interface ChildStreams {
  readonly stdin: Socket;
  readonly stdout: Socket;
  /** None where it is not a pipe. */
  readonly stderr: Socket | undefined;
}

/**
 * Takes a child's pipes out of Node's hands, which at the end of the child would throw away what it has printed and
 * nobody has begun to read. Undefined when stdin or stdout are no pipes.
 */
export function takeStreams(child: ChildProcess): ChildStreams | undefined {
  const { stdin, stdout, stderr } = child;
  if (!(stdin instanceof Socket) || !(stdout instanceof Socket)) return undefined;
  (child.stdio as unknown as unknown[]).fill(null, 0, 3);
  return { stdin, stdout, stderr: stderr instanceof Socket ? stderr : undefined };
}
