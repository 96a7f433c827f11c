/** What tells a line from chords, a voice from the rest (AutomaticTracker._listen of basic_transcribe/tracking.py). */

import type { Grid, Posteriors } from './posteriors.ts';

const SECOND = Math.fround(0.4); // note posterior from which a second note of a frame counts: noise stays below

/** What is counted in some frames. */
export interface Counts {
  /** Frames with a note. */
  heard: number;
  /** Frames with more than one. */
  several: number;
  /** Frames with one that lies beside the middle of its semitone. */
  unsteady: number;
}

/** Of each frame what can be counted with any frame threshold: its two strongest pitches. */
export class Hearing {
  readonly #grid: Grid;
  #frames = 0;
  #strongest = new Float32Array(1024);
  #second = new Float32Array(1024);
  #beside = new Uint8Array(1024); // whether the strongest lies beside the middle of its semitone

  constructor(grid: Grid) {
    this.#grid = grid;
  }

  push({ frames, note, contour }: Posteriors): void {
    const { pitches, binsPerSemitone: bins } = this.#grid;
    this.#reserve(this.#frames + frames);
    for (let row = 0; row < frames; row++) {
      let [strongest, second, which] = [0, 0, -1];
      for (let pitch = 0; pitch < pitches; pitch++) {
        const i = row * pitches + pitch;
        const value = note[i]!;
        const highest = value >= (pitch > 0 ? note[i - 1]! : 0) && value > (pitch < pitches - 1 ? note[i + 1]! : 0);
        if (!highest) continue;
        if (value > strongest) [strongest, second, which] = [value, strongest, pitch];
        else if (value > second) second = value;
      }
      let clearest = 0;
      const first = (row * pitches + which) * bins;
      for (let bin = 1; which >= 0 && bin < bins; bin++) {
        if (contour[first + bin]! > contour[first + clearest]!) clearest = bin;
      }
      this.#strongest[this.#frames] = strongest;
      this.#second[this.#frames] = second;
      this.#beside[this.#frames++] = clearest === bins >> 1 ? 0 : 1;
    }
  }

  /** Count frames `first` to `last`. */
  count(first: number, last: number, frameThreshold: number): Counts {
    const threshold = Math.fround(frameThreshold);
    const counts = { heard: 0, several: 0, unsteady: 0 };
    for (let i = first; i < last; i++) {
      if (this.#strongest[i]! < threshold) continue;
      counts.heard++;
      if (this.#second[i]! >= Math.max(threshold, SECOND)) counts.several++;
      else counts.unsteady += this.#beside[i]!;
    }
    return counts;
  }

  #reserve(frames: number): void {
    if (frames <= this.#strongest.length) return;
    const size = Math.max(frames, 2 * this.#strongest.length);
    const grown = <T extends Float32Array | Uint8Array>(old: T, next: T): T => {
      next.set(old);
      return next;
    };
    this.#strongest = grown(this.#strongest, new Float32Array(size));
    this.#second = grown(this.#second, new Float32Array(size));
    this.#beside = grown(this.#beside, new Uint8Array(size));
  }
}
