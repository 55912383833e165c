import { type Metadata, type ServerReadableStream, type sendUnaryData, status } from '@grpc/grpc-js';
import type {
  PushSandboxLogsRequest,
  PushSandboxLogsResponse,
} from '../../proto/generated/openshell/v1/openshell.ts';
import { type LogView, Recent } from './state.ts';
import { answer, asServiceError, failure } from './status-errors.ts';

/** The gateway keeps the first 100 lines of a batch and 2000 a sandbox (contract.md, 1.6). */
const LINES_OF_A_BATCH = 100;
const LINES_OF_A_SANDBOX = 2_000;
const SANDBOXES = 256;

/** The logs that sandboxes have sent: the last lines of each, and whoever follows them. */
export class SandboxLogs {
  readonly #recent = new Map<string, Recent<LogView>>();
  readonly #listeners = new Set<(line: LogView) => void>();

  all(): readonly LogView[] {
    return [...this.#recent.values()].flatMap((recent) => recent.all());
  }

  /** Calls `listener` with each line that comes, until the function that it returns is called. */
  onLine(listener: (line: LogView) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Serves a PushSandboxLogs: one sandbox's batches. `authorize` throws when the caller may not speak for it. */
  take(
    call: ServerReadableStream<PushSandboxLogsRequest, PushSandboxLogsResponse>,
    callback: sendUnaryData<PushSandboxLogsResponse>,
    authorize: (metadata: Metadata, sandboxId: string) => void,
  ): void {
    let sandboxId = '';
    let done = false;
    call.on('error', () => undefined); // the supervisor went away; it sends the batch again
    call.on('data', (batch: PushSandboxLogsRequest) => {
      if (done || batch.sandboxId === '') return;
      try {
        authorize(call.metadata, batch.sandboxId);
        if (sandboxId !== '' && sandboxId !== batch.sandboxId)
          throw failure(status.PERMISSION_DENIED, 'the sandbox id changed within the stream');
        sandboxId = batch.sandboxId;
        this.#keep(batch);
      } catch (error) {
        done = true;
        callback(asServiceError(error));
      }
    });
    call.on('end', () => {
      if (done) return;
      answer(callback, () => {
        authorize(call.metadata, sandboxId);
        return {};
      });
    });
  }

  #keep({ sandboxId, logs }: PushSandboxLogsRequest): void {
    const recent = this.#recent.get(sandboxId) ?? new Recent<LogView>(LINES_OF_A_SANDBOX);
    this.#recent.set(sandboxId, recent);
    const [oldest] = this.#recent.keys();
    if (this.#recent.size > SANDBOXES && oldest !== undefined) this.#recent.delete(oldest);
    const kept = logs
      .slice(0, LINES_OF_A_BATCH)
      .map((line) => ({ ...line, sandboxId, source: 'sandbox', timestampMs: Number(line.timestampMs) }));
    recent.push(...kept);
    for (const listener of this.#listeners) for (const line of kept) listener(line);
  }
}
