/**
 * Where notes are so clear that they need no onset, and outlive what may have been their ends (NoteTracker._clear and
 * _risen of basic_transcribe/notes.py, whose rules these are).
 */

import type { FullSettings, Recording } from './recording.ts';

// A note is clear that is never low for LASTING frames, and on average CLEAR times the onset threshold.
const CLEAR = 4 / 3;
export const LASTING = 43;
const RISE = 2 * LASTING; // frames before it is clear in which it may have begun
const LOW = -(1 << 16);
const SCALE = 1 << 10;
const BLOCK = 1024; // rows that are read at a time

/** A note that nothing marked the onset of. */
export interface Swell {
  /** Row by which it is clear, and the one in which it began. */
  readonly row: number;
  readonly frame: number;
  readonly confidence: number;
}

/** Listens to one pitch. */
export class ClearRows {
  readonly #recording: Recording;
  readonly #pitch: number;
  readonly #least: number;
  readonly #quiet: number;
  readonly #first: number;
  readonly #levels = new Int32Array(LASTING).fill(LOW); // of the last rows
  #sum = LOW * LASTING;
  #row: number; // the next to be listened to
  #clear = false; // whether the last one was
  // The stretches of clear rows: their first, and the first no more.
  readonly #from: number[] = [];
  readonly #to: number[] = [];
  #told = 0; // stretches that next() has given
  readonly #values = new Float32Array(BLOCK);

  constructor(recording: Recording, settings: FullSettings, pitch: number, first: number) {
    this.#recording = recording;
    this.#pitch = pitch;
    this.#least = CLEAR * settings.onsetThreshold * SCALE * LASTING;
    this.#quiet = Math.fround(settings.frameThreshold);
    this.#first = this.#row = first;
  }

  /** The last row before `last` in which the note is clear; -1 if there is none. */
  lastBefore(last: number): number {
    this.#listen(last);
    let i = this.#from.length;
    while (i > 0 && this.#from[i - 1]! >= last) i--;
    return i > 0 ? Math.min(last, this.#to[i - 1]!) - 1 : -1;
  }

  /** The first row before `last` in which a note has become clear, and that was not given before; -1 if there is none. */
  next(last: number): number {
    this.#listen(last);
    const row = this.#from[this.#told];
    if (row === undefined || row >= last) return -1;
    this.#told++;
    return row;
  }

  /** What there is to be known of a note that has become clear in a row; null if no fundamental lies in the semitone. */
  swell(row: number): Swell | null {
    const { note, contour, grid } = this.#recording;
    let heard = 0;
    let fundamental = 0;
    for (let i = row + 1 - LASTING; i <= row; i++) {
      heard += note.at(i, this.#pitch);
      let best = 0;
      for (let bin = 0; bin < grid.binsPerSemitone; bin++) {
        best = Math.max(best, contour.at(i, this.#pitch * grid.binsPerSemitone + bin));
      }
      fundamental += best;
    }
    if (fundamental / LASTING < this.#quiet) return null;
    const earliest = Math.max(this.#first, row + 1 - RISE);
    let frame = row;
    while (frame > earliest && note.at(frame - 1, this.#pitch) >= this.#quiet) frame--;
    return { row, frame, confidence: heard / LASTING / CLEAR };
  }

  #listen(last: number): void {
    while (this.#row < last) {
      const end = Math.min(last, this.#row + BLOCK);
      this.#values.fill(0);
      this.#recording.note.read(this.#pitch, this.#row, Math.min(end, this.#recording.frames), this.#values, 0, 1);
      for (let row = this.#row; row < end; row++) this.#take(row, this.#values[row - this.#row]!);
      this.#row = end;
    }
  }

  #take(row: number, value: number): void {
    const level = value < this.#quiet ? LOW : Math.trunc(value * SCALE);
    this.#sum += level - this.#levels[row % LASTING]!;
    this.#levels[row % LASTING] = level;
    const clear = this.#sum >= this.#least;
    if (clear && !this.#clear) {
      this.#from.push(row);
      this.#to.push(row);
    }
    if (clear) this.#to[this.#to.length - 1] = row + 1;
    this.#clear = clear;
  }
}
