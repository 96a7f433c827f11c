/** What the page and the worker say to each other. */

import type { Note, Progress, Result, Samples, Spectrogram, TrackerSettings } from './types.ts';

/** What can be asked of the worker, and what it answers. */
export interface Calls {
  /** Gives the model's own settings. */
  load(base: string, threads: number): TrackerSettings;
  transcribe(source: Blob | Samples): Omit<Result, 'notes'> & { notes: Packed };
  track(settings: TrackerSettings): Packed;
  candidates(): Packed;
  spectrogram(): Spectrogram;
}

export type Call = keyof Calls;

export type Request =
  | { [C in Call]: { id: number; call: C; arguments: Parameters<Calls[C]> } }[Call]
  | { id: number; call: 'cancel' }
  /** The result of a request to transcribe has come, and was not cancelled. */
  | { id: number; call: 'keep' };

export type Reply =
  | { id: number; kind: 'done'; value: ReturnType<Calls[Call]> }
  | { id: number; kind: 'progress'; progress: Progress; notes: Packed }
  | { id: number; kind: 'cancelled' }
  /** `message` is for people if `expected`; the worker has no decoder, but the page may, if `total` is there. */
  | { id: number; kind: 'failed'; message: string; expected: boolean }
  | { id: number; kind: 'no decoder'; total: number | null };

/** One end of the line: a Worker, a MessagePort, or a worker's own scope. */
export interface Port {
  postMessage(message: unknown, transfer?: Transferable[]): void;
  onmessage: ((event: MessageEvent) => void) | null;
}

/** Notes in two arrays, which are handed over in no time: thousands of small arrays are not. */
export interface Packed {
  /** FIELDS numbers a note. */
  numbers: Float64Array<ArrayBuffer>;
  semitones: Float32Array<ArrayBuffer>;
}

const FIELDS = 8; // onset, offset, pitch, velocity, confidence; start, step, length of the bend, -1 without one

export function pack(notes: Note[]): Packed {
  const numbers = new Float64Array(FIELDS * notes.length);
  const semitones = new Float32Array(notes.reduce((sum, { bend }) => sum + (bend?.semitones.length ?? 0), 0));
  let at = 0;
  notes.forEach(({ onset, offset, pitch, velocity, confidence, bend }, i) => {
    const { start, step } = bend ?? { start: 0, step: 0 };
    numbers.set([onset, offset, pitch, velocity, confidence, start, step, bend?.semitones.length ?? -1], FIELDS * i);
    if (!bend) return;
    semitones.set(bend.semitones, at);
    at += bend.semitones.length;
  });
  return { numbers, semitones };
}

export function unpack({ numbers, semitones }: Packed): Note[] {
  let at = 0;
  return Array.from({ length: numbers.length / FIELDS }, (_, i): Note => {
    const fields = numbers.subarray(FIELDS * i, FIELDS * (i + 1)) as unknown as number[];
    const [onset, offset, pitch, velocity, confidence, start, step, length] = fields;
    const note = { onset: onset!, offset: offset!, pitch: pitch!, velocity: velocity!, confidence: confidence! };
    if (length! < 0) return { ...note, bend: null };
    const bend = { start: start!, step: step!, semitones: semitones.subarray(at, at + length!) };
    at += length!;
    return { ...note, bend };
  });
}

/** What of packed notes is handed over rather than copied. */
export function buffersOf({ numbers, semitones }: Packed): ArrayBuffer[] {
  return [numbers.buffer, semitones.buffer];
}
