/** What the worker does: reads recordings through the network, keeps what is needed to track them again. */

import { buffersOf, pack, type Port, type Reply, type Request } from '../engine/protocol.ts';
import { EngineError, type Note, type Progress, type Result, type Samples, type TrackerSettings } from '../engine/types.ts';
import { NoDecoder, open } from './decode.ts';
import { inTune } from './intune.ts';
import type { Metadata } from './metadata.ts';
import { Peaks } from './mono.ts';
import { Feed, gridOf, type Network } from './model.ts';
import { pictureOf } from './picture.ts';
import { Recording, type FullSettings } from './recording.ts';
import { inOrder, trackerFor, trackNotes } from './tracking.ts';

const FAINT = 0.7; // of the threshold: what reaches it is a candidate

/** Thrown when the page wants no more of a recording. */
class Cancelled extends Error {}

/** What is tracked and shown. */
interface Shown {
  recording: Recording | null;
  settings: FullSettings;
  notes: Note[];
}

export class Service {
  readonly #network: Network;
  #open: Shown;

  constructor(network: Network) {
    this.#network = network;
    this.#open = { recording: null, settings: defaultsOf(network.meta), notes: [] };
  }

  /** Transcribe with the model's settings. An earlier recording stays until the function it returns is called. */
  async transcribe(
    source: Blob | Samples,
    tell: (progress: Progress, finished: Note[]) => void,
    cancelled: () => boolean,
  ): Promise<[Result, keep: () => void]> {
    const { meta } = this.#network;
    const sound = await open(source);
    const warnings: string[] = [];
    const { tuning, gain, rate, blocks } = await inTune(unless(cancelled, sound.blocks()), meta.sample_rate, warnings);
    const recording = new Recording(gridOf(meta, rate, tuning));
    const settings = defaultsOf(meta);
    const tracker = trackerFor(recording, settings);
    const feed = new Feed(this.#network);
    const factor = 10 ** (gain / 20);
    const peaks = new Peaks(rate);
    const notes: Note[] = [];
    let samples = 0;

    const read = async (frames: ReturnType<Feed['push']>): Promise<void> => {
      for await (const block of frames) {
        recording.push(gain ? { ...block, level: block.level.map((level) => level - gain) } : block);
        const finished = tracker.advance();
        notes.push(...finished);
        const seconds = Math.min(samples / rate, recording.frames / recording.grid.frameRate);
        tell({ seconds, total: sound.total, notesSoFar: notes.length, tuning }, finished);
        await breath();
        if (cancelled()) throw new Cancelled();
      }
    };
    for await (const mono of blocks) {
      samples += mono.length;
      peaks.push(mono);
      await read(feed.push(gain ? mono.map((x) => x * factor) : mono));
    }
    await read(feed.flush());

    const duration = samples / rate;
    recording.finish(duration);
    notes.push(...tracker.finish());
    await breath();
    if (cancelled()) throw new Cancelled();
    const heard = { recording, settings, notes: inOrder(notes, duration) };
    warnings.unshift(...sound.warnings);
    const result = { duration, tuning, warnings, silences: sound.silences, peaks: peaks.finish() };
    return [{ ...result, notes: heard.notes }, () => (this.#open = heard)];
  }

  track(settings: Partial<FullSettings>): Note[] {
    const known = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
    const { recording } = this.#open;
    const tracker = { ...defaultsOf(this.#network.meta), ...known };
    this.#open = { recording, settings: tracker, notes: recording ? trackNotes(recording, tracker) : [] };
    return this.#open.notes;
  }

  /** Notes that a lower threshold would add to those tracked last. */
  candidates(): Note[] {
    const { recording, settings, notes } = this.#open;
    if (!recording) return [];
    const lower = { ...settings, onsetThreshold: FAINT * settings.onsetThreshold };
    return without(trackNotes(recording, lower), notes);
  }

  spectrogram(): ReturnType<typeof pictureOf> {
    const { meta } = this.#network;
    return pictureOf(this.#open.recording ?? new Recording(gridOf(meta)));
  }

  /** The model's own settings. */
  get defaults(): TrackerSettings {
    const { onsetDelay: _, ...defaults } = defaultsOf(this.#network.meta);
    return defaults;
  }
}

/**
 * Answer the requests of a port, one after the other; only cancelling does not wait. The page says of each recording that
 * is done whether it keeps it: it may have cancelled it while the result was on its way.
 */
export function serve(port: Port, load: (base: string, threads: number) => Promise<Service>): void {
  const cancelled = new Set<number>();
  const done = new Map<number, () => void>();
  let service: Service | null = null;
  let last = Promise.resolve();

  const answer = async (request: Exclude<Request, { call: 'cancel' | 'keep' }>): Promise<[Reply, Transferable[]]> => {
    const { id } = request;
    if (request.call === 'load') {
      service = await load(...request.arguments);
      return [{ id, kind: 'done', value: service.defaults }, []];
    }
    if (!service) throw new Error(`${request.call} before load`);
    switch (request.call) {
      case 'transcribe': {
        if (cancelled.has(id)) throw new Cancelled();
        const tell = (progress: Progress, notes: Note[]): void =>
          port.postMessage({ id, kind: 'progress', progress, notes: pack(notes) } satisfies Reply);
        const [result, keep] = await service.transcribe(...request.arguments, tell, () => cancelled.has(id));
        done.set(id, keep);
        const { notes, ...rest } = result;
        const value = { ...rest, notes: pack(notes) };
        return [{ id, kind: 'done', value }, [value.peaks.buffer as ArrayBuffer, ...buffersOf(value.notes)]];
      }
      case 'track':
        return withNotes(id, service.track(...request.arguments));
      case 'candidates':
        return withNotes(id, service.candidates());
      case 'spectrogram': {
        const value = service.spectrogram();
        return [{ id, kind: 'done', value }, [value.data.buffer as ArrayBuffer]];
      }
    }
  };

  port.onmessage = (event: MessageEvent) => {
    const request = event.data as Request;
    const { id } = request;
    if (request.call === 'cancel') {
      if (!done.delete(id)) cancelled.add(id);
      return;
    }
    last = last.then(async () => {
      if (request.call === 'keep') {
        done.get(id)?.();
        done.delete(id);
        return;
      }
      try {
        port.postMessage(...(await answer(request)));
      } catch (error) {
        port.postMessage(failure(id, error));
      }
      cancelled.delete(id);
    });
  };
}

function withNotes(id: number, notes: Note[]): [Reply, Transferable[]] {
  const value = pack(notes);
  return [{ id, kind: 'done', value }, buffersOf(value)];
}

function failure(id: number, error: unknown): Reply {
  if (error instanceof Cancelled) return { id, kind: 'cancelled' };
  if (error instanceof NoDecoder) return { id, kind: 'no decoder', total: error.total };
  const message = error instanceof Error ? error.message : String(error);
  return { id, kind: 'failed', message, expected: error instanceof EngineError };
}

/** The model's own settings, also what only it says. */
function defaultsOf(meta: Metadata): FullSettings {
  return {
    onsetThreshold: meta.defaults.onset_threshold,
    splitThreshold: meta.defaults.split_threshold,
    frameThreshold: meta.defaults.frame_threshold,
    onsetDelay: meta.defaults.onset_delay,
    minimumNoteLength: meta.defaults.minimum_note_length,
    minimumPitch: meta.lowest_pitch,
    maximumPitch: meta.lowest_pitch + meta.pitches - 1,
    monophonic: null,
  };
}

/** Notes that overlap none of `others` of the same pitch. Both are sorted by onset, and do not overlap themselves. */
function without(notes: Note[], others: Note[]): Note[] {
  const coming = new Map<number, Note[]>(); // by pitch, those that are not over, the next one last
  for (const note of [...others].reverse()) {
    const same = coming.get(note.pitch);
    if (same) same.push(note);
    else coming.set(note.pitch, [note]);
  }
  return notes.filter(({ pitch, onset, offset }) => {
    const same = coming.get(pitch) ?? [];
    while ((same.at(-1)?.offset ?? Infinity) <= onset) same.pop();
    return (same.at(-1)?.onset ?? Infinity) >= offset;
  });
}

/** The same, until nobody wants more. */
async function* unless<T>(cancelled: () => boolean, blocks: AsyncIterable<T>): AsyncGenerator<T> {
  for await (const block of blocks) {
    if (cancelled()) throw new Cancelled();
    yield block;
  }
}

/** Lets the messages that have arrived be handled. */
function breath(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
