/** An engine that hears nothing: it makes up notes, the same ones each time. For tests of the page only. */

import type { Note, Progress, Result, Spectrogram, TrackerSettings, TranscribeOptions } from '../src/engine/types.ts';

export const DEFAULTS: TrackerSettings = {
  onsetThreshold: 0.56,
  splitThreshold: 0.68,
  frameThreshold: 0.28,
  minimumNoteLength: 40,
  minimumPitch: 21,
  maximumPitch: 108,
  monophonic: null,
};

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Notes of all lengths, velocities and certainties, some of them bent; sorted, none overlapping one of its pitch. */
export function madeUp(count: number, duration: number, seed = 1): Note[] {
  const next = random(seed);
  const last = new Map<number, number>();
  const notes: Note[] = [];
  for (let i = 0; i < count; i++) {
    const onset = (duration * (i + next() * 0.5)) / count;
    const pitch = 40 + Math.floor(next() ** 1.3 * 40);
    const length = 0.08 + next() ** 3 * 1.4;
    const offset = Math.min(duration, onset + length);
    const bent = next() < 0.2;
    const values = Float32Array.from({ length: Math.ceil(length / 0.0116) }, (_, k) => 0.6 * Math.sin(k / 6));
    const bend = bent ? { start: onset, step: 0.0116, semitones: values } : null;
    const note = { onset, offset, pitch, velocity: 20 + Math.floor(next() * 107), confidence: next(), bend };
    if (onset < (last.get(pitch) ?? 0) || offset - onset < 0.05) continue;
    last.set(pitch, offset);
    notes.push(note);
  }
  return notes;
}

export class FakeEngine {
  readonly defaults = DEFAULTS;
  /** Settings asked for, in order. */
  readonly tracked: TrackerSettings[] = [];
  private readonly notes: readonly Note[];
  private readonly duration: number;
  private settings = DEFAULTS;
  /** Cents. */
  tuning = 0;
  /** Awaited before each answer. */
  pause: () => Promise<void> = () => Promise.resolve();

  constructor(count = 120, duration = 20) {
    this.notes = madeUp(count, duration);
    this.duration = duration;
  }

  async transcribe(_: Blob, { onProgress, onNotes, signal }: TranscribeOptions): Promise<Result> {
    const parts = 8;
    let told = 0;
    for (let part = 1; part <= parts; part++) {
      await this.pause();
      signal?.throwIfAborted();
      const seconds = (this.duration * part) / parts;
      const finished = this.heard().filter((note) => note.offset <= seconds);
      onNotes?.(finished.slice(told));
      told = finished.length;
      onProgress?.({ seconds, total: this.duration, notesSoFar: told, tuning: this.tuning } satisfies Progress);
    }
    const swell = (i: number): number => (i % 2 ? 0.6 : -0.6) * Math.abs(Math.sin(i / 370));
    const peaks = Float32Array.from({ length: 200 * this.duration }, (_, i) => swell(i));
    const { duration, tuning } = this;
    return { duration, notes: this.heard(), tuning, warnings: ['made up'], silences: [], peaks };
  }

  async track(settings: TrackerSettings): Promise<Note[]> {
    this.tracked.push(settings);
    await this.pause();
    this.settings = settings;
    return this.heard();
  }

  async candidates(): Promise<Note[]> {
    await this.pause();
    return this.notes.filter((note) => note.confidence < this.bar && note.confidence >= this.bar - 0.15);
  }

  async spectrogram(): Promise<Spectrogram> {
    const [width, height] = [400, 264];
    const data = new Uint8Array(width * height);
    for (const note of this.notes) {
      for (let x = Math.floor((note.onset / this.duration) * width); x < (note.offset / this.duration) * width; x++) {
        data.fill(220, ((note.pitch - 21) * 3 + 1) * width + x, ((note.pitch - 21) * 3 + 1) * width + x + 1);
      }
    }
    return { width, height, data, secondsPerColumn: this.duration / width, lowestPitch: 21, binsPerSemitone: 3 };
  }

  private get bar(): number {
    return this.settings.onsetThreshold * 0.7;
  }

  private heard(): Note[] {
    const { minimumPitch, maximumPitch, minimumNoteLength } = this.settings;
    return this.notes.filter(
      (note) =>
        note.confidence >= this.bar &&
        note.pitch >= minimumPitch &&
        note.pitch <= maximumPitch &&
        note.offset - note.onset >= minimumNoteLength / 1000,
    );
  }
}
