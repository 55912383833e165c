import type { Readable, Writable } from 'node:stream';
import { ContainerOutput } from './container-output.ts';
import { MainInput } from './main-input.ts';
import { OutputLog, type OutputName, type OutputReader } from './output-log.ts';

/** Somebody who watches the main process. Output comes to it in order; `lagged` or `ended` comes last, and once. */
export interface Viewer {
  /** Settles when it has gone out. */
  write(stream: OutputName, chunk: Buffer): Promise<void>;
  /** It reads too slowly to be waited for. */
  lagged(): void;
  /** The main process has ended, and all of its output is out. */
  ended(): void;
}

/** What a viewer may do. */
export interface Attachment {
  /** Whether it is the one whose input counts. No more after it was sent away, has detached, or has got all there is. */
  readonly owner: boolean;
  /**
   * False when the process takes no more for now: `drained` is called when it does, and what comes before that is dropped.
   * Input of others than the owner is dropped.
   */
  input(chunk: Buffer, drained: () => void): boolean;
  detach(): void;
}

export interface MainStreamsOptions {
  readonly input: Writable;
  readonly output: Readable;
  readonly errors: Readable | undefined;
  /** Of the container: what the process prints goes there as well, at the pace of whoever reads it. */
  readonly container: Readonly<Record<OutputName, Writable>>;
}

/** What is kept for whoever attaches later (contract.md, 6). */
const REPLAY_BYTES = 1 << 20;
/** How far a viewer may lag behind. */
const LAG_BYTES = 1 << 20;
const MAX_VIEWERS = 16;
/** What is kept consists of at most so many pieces: streams that take turns byte by byte cannot be joined. */
const MAX_PIECES = 8_192;

interface Watching {
  readonly viewer: Viewer;
  readonly reader: OutputReader;
  /** On its way to the viewer. */
  sending: number;
  writing: boolean;
  gone: boolean;
  /** Gives up the input. */
  readonly leave: () => void;
}

/**
 * The standard streams of the main process, which outlive every viewer: the last MiB of what it printed is replayed to who
 * attaches, and the first of them who may write owns its input until it leaves. A viewer that does not keep up is sent away;
 * the process is slowed down by the container's own output alone.
 */
export class MainStreams {
  readonly #input: Writable;
  readonly #owned: MainInput;
  readonly #container: Readonly<Record<OutputName, ContainerOutput>>;
  readonly #log = new OutputLog({ bytes: REPLAY_BYTES, pieces: MAX_PIECES });
  readonly #viewers = new Set<Watching>();
  #ended = false;
  /** Settles when the process and all that it left behind print no more, and everything has been read. */
  readonly read: Promise<void>;
  /** Settles when the container's output has taken it, too, or never will. */
  readonly drained: Promise<void>;

  constructor(options: MainStreamsOptions) {
    const { input, output, errors, container } = options;
    this.#input = input;
    this.#owned = new MainInput(input);
    this.#container = {
      output: new ContainerOutput(container.output),
      errors: new ContainerOutput(container.errors),
    };
    const copies = [this.#copy(output, 'output')];
    if (errors !== undefined) copies.push(this.#copy(errors, 'errors'));
    this.read = Promise.all(copies).then(() => undefined);
    this.drained = this.read.then(async () => {
      await Promise.all(Object.values(this.#container).map((one) => one.flushed()));
    });
  }

  /** What comes by the container's own input; its end is the process's only where `closes`. */
  feed(source: Readable, closes: boolean): void {
    source.on('error', () => undefined);
    source.pipe(this.#input, { end: closes });
  }

  /** Undefined when enough watch already. The viewer hears nothing before this returns. */
  attach(viewer: Viewer, readOnly: boolean): Attachment | undefined {
    if (this.#viewers.size >= MAX_VIEWERS) return undefined;
    const lease = readOnly ? undefined : this.#owned.take();
    const watching: Watching = {
      viewer,
      reader: this.#log.reader(),
      sending: 0,
      writing: false,
      gone: false,
      leave: () => lease?.release(),
    };
    this.#viewers.add(watching);
    queueMicrotask(() => void this.#deliver(watching));
    return {
      get owner() {
        return lease?.held === true;
      },
      input: (chunk, drained) => lease?.write(chunk, drained) ?? true,
      detach: () => this.#leave(watching),
    };
  }

  /** The container's output is not waited for any more, so that viewers get what the process has printed last. */
  giveUpContainer(): void {
    for (const one of Object.values(this.#container)) one.giveUp();
  }

  /** The process has ended. What is printed from now on is for the container alone, and viewers that have got the rest hear it. */
  end(): void {
    this.#ended = true;
    for (const watching of [...this.#viewers]) void this.#deliver(watching);
  }

  #leave(watching: Watching): void {
    watching.gone = true;
    watching.reader.close();
    watching.leave();
    this.#viewers.delete(watching);
  }

  async #copy(source: Readable, stream: OutputName): Promise<void> {
    try {
      for await (const chunk of source as AsyncIterable<Buffer>) {
        this.#tell(stream, chunk);
        await this.#container[stream].write(chunk);
      }
    } catch {
      // a terminal that hangs up, or a pipe that broke: the end as well
    }
  }

  #tell(stream: OutputName, chunk: Buffer): void {
    if (this.#ended) return;
    this.#log.append(stream, chunk);
    for (const watching of this.#viewers) {
      const { bytes, pieces } = watching.reader.unread;
      // What is replayed at first is not its fault.
      if (bytes + watching.sending > LAG_BYTES + REPLAY_BYTES || pieces > 2 * MAX_PIECES) {
        this.#leave(watching);
        watching.viewer.lagged();
      } else void this.#deliver(watching);
    }
  }

  async #deliver(watching: Watching): Promise<void> {
    if (watching.writing || watching.gone) return;
    watching.writing = true;
    for (let next = watching.reader.next(); next !== undefined; next = watching.reader.next()) {
      watching.sending = next.chunk.length;
      await watching.viewer.write(next.stream, next.chunk);
    }
    watching.sending = 0;
    watching.writing = false;
    if (this.#ended && !watching.gone) {
      this.#leave(watching);
      watching.viewer.ended();
    }
  }
}
