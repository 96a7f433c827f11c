/** The page's side of the engine: a worker that does all heavy work, and the decoders that only a page has. */

import { unpack, type Call, type Calls, type Port, type Reply, type Request } from './protocol.ts';
import {
  EngineError,
  type Note,
  type Result,
  type Samples,
  type Spectrogram,
  type TrackerSettings,
  type TranscribeOptions,
} from './types.ts';

const MOST_THREADS = 4; // more do not help blocks of this size
const LONGEST_WHOLE = 20 * 60; // seconds that are decoded whole where the browser cannot stream
const LARGEST_WHOLE = 200e6; // bytes, of such a file whose length is not known
const WHOLE_RATE = 44_100; // Hz

interface Waiting {
  resolve: (value: never) => void;
  reject: (error: unknown) => void;
  onReply?: (reply: Extract<Reply, { kind: 'progress' }>) => void;
}

/** Thrown inside: the worker found no decoder. */
class NoDecoder extends Error {
  readonly total: number | null;
  constructor(total: number | null) {
    super('no decoder');
    this.total = total;
  }
}

/** A loaded model. One recording at a time: the last one transcribed is the one that is tracked and shown. */
export class Engine {
  /** The model's own settings. */
  readonly defaults: TrackerSettings;
  readonly #line: Line;

  private constructor(line: Line, defaults: TrackerSettings) {
    this.#line = line;
    this.defaults = defaults;
  }

  /** Start the worker; load the model and the runtime, which lie beside the page. */
  static async create(): Promise<Engine> {
    const base = new URL('./', document.baseURI).href;
    const worker = new Worker(new URL('worker.js', base), { type: 'module', name: 'basic_transcribe' });
    const line = new Line(worker, () => worker.terminate());
    worker.onerror = (event) => {
      event.preventDefault();
      // A script that fails says why; one that could not be fetched does not.
      const failure = event.message
        ? 'the worker could not be started; use a current Firefox, Chrome, Edge or Safari'
        : 'worker.js could not be loaded; check the connection, then try again';
      line.fail(new EngineError(failure));
    };
    return Engine.connect(line, base, Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1));
  }

  /** The same with a worker that has been started; for tests. */
  static async connect(line: Line, base: string, threads: number): Promise<Engine> {
    try {
      return new Engine(line, await line.ask('load', [base, threads]));
    } catch (error) {
      line.close();
      throw error;
    }
  }

  /**
   * Transcribe a recording, block by block; memory does not depend on its length, but for a little that is kept of it.
   * An earlier recording stays until this one is done. Rejects with an EngineError, or with the reason of the signal.
   */
  async transcribe(source: Blob | Samples, options: TranscribeOptions = {}): Promise<Result> {
    try {
      return await this.#transcribe(source, options);
    } catch (error) {
      if (!(error instanceof NoDecoder) || !(source instanceof Blob)) throw error;
      return this.#transcribe(await decodeWhole(source, error.total, options.signal), options);
    }
  }

  async #transcribe(source: Blob | Samples, { onProgress, onNotes, signal }: TranscribeOptions): Promise<Result> {
    signal?.throwIfAborted();
    const [id, answer] = this.#line.start('transcribe', [source], ({ progress, notes }) => {
      if (signal?.aborted) return;
      if (notes.numbers.length) onNotes?.(unpack(notes));
      onProgress?.(progress);
    });
    let abort = (): void => undefined;
    const aborted = new Promise<never>((_, reject) => {
      abort = () => {
        this.#line.tell('cancel', id);
        reject(signal?.reason as Error);
      };
    });
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const { notes, ...rest } = await Promise.race([answer, aborted]);
      signal?.throwIfAborted();
      this.#line.tell('keep', id);
      return { ...rest, notes: unpack(notes) };
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  /** The notes of the last recording with other settings. */
  async track(settings: TrackerSettings): Promise<Note[]> {
    return unpack(await this.#line.ask('track', [settings]));
  }

  /** Faint notes: what a lower threshold would add to those tracked last. */
  async candidates(): Promise<Note[]> {
    return unpack(await this.#line.ask('candidates', []));
  }

  spectrogram(): Promise<Spectrogram> {
    return this.#line.ask('spectrogram', []);
  }

  /** Stop the worker. What is still asked of it rejects. */
  dispose(): void {
    this.#line.fail(new EngineError('the engine has been stopped; load the page again'));
    this.#line.close();
  }
}

/** Questions to a worker and its answers. */
export class Line {
  readonly #port: Port;
  readonly #close: () => void;
  readonly #waiting = new Map<number, Waiting>();
  #broken: Error | null = null;
  #last = 0;

  constructor(port: Port, close: () => void) {
    this.#port = port;
    this.#close = close;
    port.onmessage = (event: MessageEvent) => this.#hear(event.data as Reply);
  }

  ask<C extends Call>(call: C, args: Parameters<Calls[C]>): Promise<ReturnType<Calls[C]>> {
    return this.start(call, args)[1];
  }

  start<C extends Call>(
    call: C,
    args: Parameters<Calls[C]>,
    onReply?: Waiting['onReply'],
  ): [number, Promise<ReturnType<Calls[C]>>] {
    const id = ++this.#last;
    const answer = new Promise<ReturnType<Calls[C]>>((resolve, reject) => {
      if (this.#broken) return reject(this.#broken);
      this.#waiting.set(id, { resolve, reject, onReply });
      this.#port.postMessage({ id, call, arguments: args });
    });
    return [id, answer];
  }

  /** Say something of what was asked; there is no answer. */
  tell(call: 'cancel' | 'keep', id: number): void {
    this.#port.postMessage({ id, call } satisfies Request);
  }

  /** Whatever is asked, or will be, rejects. */
  fail(error: Error): void {
    this.#broken ??= error;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  close(): void {
    this.#close();
  }

  #hear(reply: Reply): void {
    const waiting = this.#waiting.get(reply.id);
    if (!waiting) return;
    if (reply.kind === 'progress') return waiting.onReply?.(reply);
    this.#waiting.delete(reply.id);
    if (reply.kind === 'done') waiting.resolve(reply.value as never);
    else if (reply.kind === 'no decoder') waiting.reject(new NoDecoder(reply.total));
    else if (reply.kind === 'cancelled') waiting.reject(new DOMException('cancelled', 'AbortError'));
    else if (reply.expected) waiting.reject(new EngineError(reply.message));
    else waiting.reject(new EngineError(`something went wrong (${reply.message}); load the page again`));
  }
}

/** Decode a file at once, as browsers without streaming decoders can; only what fits into memory. */
async function decodeWhole(file: Blob, total: number | null, signal?: AbortSignal): Promise<Samples> {
  if (total === null ? file.size > LARGEST_WHOLE : total > LONGEST_WHOLE) {
    throw new EngineError(
      globalThis.isSecureContext === false
        ? 'too long: a page opened over plain http has such files decoded only whole; open it at localhost or over https, or convert the file to WAV'
        : 'too long for this browser, which decodes such files only whole; use a current Firefox, Chrome or Edge, or WAV',
    );
  }
  const context = new OfflineAudioContext(1, 1, WHOLE_RATE);
  let buffer: AudioBuffer;
  try {
    buffer = await context.decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new EngineError(
      'not audio, or in a format or codec that this browser cannot read; convert it to 16-bit WAV, FLAC or MP3',
    );
  }
  signal?.throwIfAborted();
  const samples = Array.from({ length: buffer.numberOfChannels }, (_, i) => buffer.getChannelData(i));
  return { samples, sampleRate: buffer.sampleRate };
}
