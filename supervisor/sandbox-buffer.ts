import { type BufferEvent, DEFAULT_DISK_BYTES, openDiskBuffer } from './buffer/disk-buffer.ts';
import { createMemoryBuffer, DEFAULT_MAX_BYTES } from './buffer/memory-buffer.ts';
import type { RecordBuffer } from './buffer/record-buffer.ts';
import type { Clock } from './clock.ts';
import type { Logger } from './observability/log.ts';
import type { StateDirectory } from './state-directory.ts';

export interface SandboxBufferOptions {
  /** Where it outlives us; in memory without. */
  readonly state: StateDirectory | undefined;
  readonly boot: string;
  readonly sandboxId: string;
  readonly clock: Clock;
  readonly asOwner: <T>(act: () => T) => T;
  /** Asked when there is something to tell: what is logged goes into the buffer, which is there first. */
  readonly log: () => Logger;
}

/** The buffer of what the gateway is to have, and how to let go of its files. */
export interface SandboxBuffer {
  readonly buffer: RecordBuffer;
  close(): void;
}

/** Opens it on disk where something there outlives the supervisor, else in memory. Never fails: see openDiskBuffer. */
export function openSandboxBuffer(options: SandboxBufferOptions): SandboxBuffer {
  const { state, log, boot } = options;
  if (state === undefined) return { buffer: createMemoryBuffer({ boot }), close: () => undefined };
  const buffer = openDiskBuffer({
    directory: state.path,
    boot,
    sandboxId: options.sandboxId,
    clock: options.clock,
    maxBytes: state.memory ? DEFAULT_MAX_BYTES : DEFAULT_DISK_BYTES,
    asOwner: options.asOwner,
    report: (event) => tell(event, log()),
  });
  return { buffer, close: () => buffer.close() };
}

function tell(event: BufferEvent, log: Logger): void {
  switch (event.kind) {
    case 'predecessor':
      log.info('records of an earlier start wait for delivery', { records: event.records });
      return;
    case 'damaged': {
      const { reason, recovered, lost, aside } = event;
      log.error(`the buffer was damaged: ${reason}`, { recovered, lost, aside });
      return;
    }
    case 'degraded':
      log.warn(`the buffer is in memory alone: ${event.reason}`);
      return;
    case 'restored':
      log.info('the buffer is on disk again', { records: event.records });
  }
}
