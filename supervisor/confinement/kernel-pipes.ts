import type { ChildProcess } from 'node:child_process';
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';

/** Our ends of a process's standard streams. */
export interface ProcessPipes {
  readonly input: Writable;
  readonly output: Readable;
  readonly errors: Readable;
}

/** What Node hands over for a descriptor that came as `net.Native`: the handle under a Socket. */
interface RawHandle {
  close(): void;
}

const NAMES = ['stdin', 'stdout', 'stderr'] as const;
type Name = (typeof NAMES)[number];
const isName = (message: unknown): message is Name => NAMES.includes(message as Name);

/**
 * The ends of the pipes that a shim makes for its process and sends over Node's IPC (init/pipes.h); undefined when it ends
 * before it has sent all three. Node's own pipes are socket pairs, which programs cannot open as /dev/stdout.
 */
export function receivePipes(child: ChildProcess): Promise<ProcessPipes | undefined> {
  const handles = new Map<Name, RawHandle>();
  return new Promise((resolve) => {
    const settle = (): void => {
      const [input, output, errors] = NAMES.map((name) => handles.get(name));
      if (input === undefined || output === undefined || errors === undefined) {
        for (const handle of handles.values()) handle.close();
        resolve(undefined);
      } else {
        resolve({
          input: socketOn(input, 'writable'),
          output: socketOn(output, 'readable'),
          errors: socketOn(errors, 'readable'),
        });
      }
      handles.clear();
    };
    child.on('message', (name, handle) => {
      if (isName(name) && handle !== undefined) handles.set(name, handle as unknown as RawHandle);
    });
    // It closes the channel when it has sent them, or ends; who cannot be started has none.
    child.once('disconnect', settle);
    child.once('error', settle);
  });
}

function socketOn(handle: RawHandle, direction: 'readable' | 'writable'): Socket {
  const options = { handle, readable: direction === 'readable', writable: direction === 'writable' };
  return new Socket(options as ConstructorParameters<typeof Socket>[0]);
}
