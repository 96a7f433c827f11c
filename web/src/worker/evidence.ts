/**
 * Where notes may begin or end: what of the posteriors no setting changes (basic_transcribe/evidence.py and
 * NoteTracker._events). It is found once, as the recording is read; to track again is then to walk through a list.
 *
 * Sums are rounded to 32 bits at each step, as numpy does, so that ties are decided alike.
 */

import type { Posteriors } from './posteriors.ts';

const BACK = 2; // frames before a frame that decide whether it is a peak
const TRIANGLE_MASS = 2;
const CENTRE = 2;
const SPREAD = 3;
const TIE = 1e-3;
const LEAST_ONSET = 0.3;
export const SUPPORT = 9;
// Velocity: 127 at this level (dB relative to full scale), and so many steps a dB below it.
const LOUDEST = -10;
const STEPS_PER_DB = 2;
const TILT = 0.2; // dB per semitone above middle C that the ear forgives

const LEAST_OFFSET = 0.1; // mass of an end that is considered
export const AHEAD = Math.max(BACK + SPREAD, SUPPORT - 1) + 1;

export const OFFSET = 0;
export const ONSET = 1;

const BEFORE = BACK + SPREAD; // rows kept before the first whose events are still to be found
const AFTER = Math.max(BACK + SPREAD, SUPPORT - 1); // rows after a frame that its events depend on

const fround = Math.fround;

/** Events in order of frame, then pitch, then kind; a table, since an hour has some hundred thousand. */
export class Events {
  length = 0;
  frame = new Int32Array(1024);
  pitch = new Uint8Array(1024);
  kind = new Uint8Array(1024);
  /** Of the peak, in events. */
  mass = new Float32Array(1024);
  confidence = new Float32Array(1024);
  /** Frames by which the onset lies after its frame. */
  fraction = new Float64Array(1024);
  /** Of a note that begins here, in dB. */
  level = new Float64Array(1024);

  /** A new last event; fraction and level are still to be filled in. */
  add(frame: number, pitch: number, kind: number, mass: number, confidence: number): number {
    const i = this.length++;
    if (i === this.frame.length) this.#grow(2 * i);
    this.frame[i] = frame;
    this.pitch[i] = pitch;
    this.kind[i] = kind;
    this.mass[i] = mass;
    this.confidence[i] = confidence;
    return i;
  }

  #grow(size: number): void {
    for (const name of ['frame', 'pitch', 'kind', 'mass', 'confidence', 'fraction', 'level'] as const) {
      const old = this[name];
      const grown = new (old.constructor as new (n: number) => typeof old)(size);
      grown.set(old);
      (this as Record<string, unknown>)[name] = grown;
    }
  }
}

/** Finds the events of consecutive blocks; they do not depend on how a recording is cut into blocks. */
export class EventFinder {
  readonly events = new Events();
  /** Frames whose events are all known. */
  found = 0;
  readonly #pitches: number;
  readonly #bins: number;
  #rows = BEFORE; // in the buffers; they begin with silence before the recording
  #onset: Float32Array;
  #note: Float32Array;
  #offset: Float32Array;
  #level: Float32Array;
  #contour: Float32Array;

  constructor(pitches: number, binsPerSemitone: number) {
    this.#pitches = pitches;
    this.#bins = binsPerSemitone;
    this.#contour = new Float32Array(BEFORE * pitches * binsPerSemitone);
    this.#onset = new Float32Array(BEFORE * pitches);
    this.#note = new Float32Array(BEFORE * pitches);
    this.#offset = new Float32Array(BEFORE * pitches);
    this.#level = new Float32Array(BEFORE * pitches);
  }

  push(block: Posteriors): void {
    this.#take(block);
    this.#find(this.#rows - AFTER);
  }

  /** The recording is over; silence follows. */
  flush(): void {
    const frames = 2 * AFTER;
    const silence = new Float32Array(frames * this.#pitches);
    const contour = new Float32Array(frames * this.#pitches * this.#bins);
    this.#take({ frames, onset: silence, note: silence, offset: silence, level: silence, contour });
    this.#find(this.#rows - AFTER);
  }

  #take(block: Posteriors): void {
    const { frames } = block;
    const joined = (old: Float32Array, next: Float32Array, width: number): Float32Array => {
      const kept = this.#rows * width;
      const both = new Float32Array(kept + frames * width);
      both.set(old.subarray(0, kept));
      both.set(next.subarray(0, frames * width), kept);
      return both;
    };
    this.#onset = joined(this.#onset, block.onset, this.#pitches);
    this.#note = joined(this.#note, block.note, this.#pitches);
    this.#offset = joined(this.#offset, block.offset, this.#pitches);
    this.#level = joined(this.#level, block.level, this.#pitches);
    this.#contour = joined(this.#contour, block.contour, this.#pitches * this.#bins);
    this.#rows += frames;
  }

  /** Find the events of rows BEFORE to `last`, and forget the rows that no other needs. */
  #find(last: number): void {
    if (last <= BEFORE) return;
    const width = this.#pitches;
    const onset = masses(this.#onset, width, BEFORE - BACK, last + BACK);
    const offset = masses(this.#offset, width, BEFORE - BACK, last + BACK);
    for (let row = BEFORE; row < last; row++) {
      const frame = this.found + row - BEFORE;
      const at = row * width;
      for (let pitch = 0; pitch < width; pitch++) {
        const i = at + pitch;
        if (offset[i]! >= LEAST_OFFSET_32 && isPeak(offset, i, width)) {
          this.events.add(frame, pitch, OFFSET, offset[i]!, offset[i]!);
        }
        if (onset[i]! >= LEAST_ONSET_32 && isPeak(onset, i, width)) {
          const evidence = fround(fround(fround(onset[i]! + this.#support(i)) + this.#clarity(row, pitch)) / 3);
          this.#describe(this.events.add(frame, pitch, ONSET, onset[i]!, evidence), row, pitch);
        }
      }
    }
    this.found += last - BEFORE;
    const from = (last - BEFORE) * width;
    const to = this.#rows * width;
    this.#onset = this.#onset.slice(from, to);
    this.#note = this.#note.slice(from, to);
    this.#offset = this.#offset.slice(from, to);
    this.#level = this.#level.slice(from, to);
    this.#contour = this.#contour.slice(from * this.#bins, to * this.#bins);
    this.#rows -= last - BEFORE;
  }

  /** Mean of the note posterior at an index over this frame and the next ones, SUPPORT in all. */
  #support(i: number): number {
    let sum = this.#note[i]!;
    for (let k = 1; k < SUPPORT; k++) sum = fround(sum + this.#note[i + k * this.#pitches]!);
    return fround(sum / SUPPORT);
  }

  /** Mean of the contour posterior in the best bin of a pitch, over this frame and the next ones, SUPPORT in all. */
  #clarity(row: number, pitch: number): number {
    const bins = this.#bins;
    let sum = 0;
    for (let k = 0; k < SUPPORT; k++) {
      const first = ((row + k) * this.#pitches + pitch) * bins;
      let best = this.#contour[first]!;
      for (let bin = 1; bin < bins; bin++) best = Math.max(best, this.#contour[first + bin]!);
      sum = fround(sum + best);
    }
    return fround(sum / SUPPORT);
  }

  /** Fill in when exactly, and how loud, a note begins in a row. */
  #describe(event: number, row: number, pitch: number): void {
    const width = this.#pitches;
    let mass = 0;
    let moment = 0;
    let weights = 0;
    let level = 0;
    const before = Math.min(CENTRE, this.found + row - BEFORE); // rows before the recording do not count
    for (let k = -before; k <= CENTRE; k++) {
      const i = (row + k) * width + pitch;
      const onset = this.#onset[i]!;
      mass += onset;
      moment += onset * k;
      weights += onset + 1e-6;
      level += (onset + 1e-6) * this.#level[i]!;
    }
    this.events.fraction[event] = moment / Math.max(mass, 1e-9);
    this.events.level[event] = level / weights;
  }
}

const LEAST_ONSET_32 = fround(LEAST_ONSET);
const LEAST_OFFSET_32 = fround(LEAST_OFFSET);
const TIE_32 = fround(TIE);
const WHOLE_32 = fround(1 + TIE);

/** Mass of an onset or offset posterior around each frame from `first` to `last`, in events. */
function masses(x: Float32Array, width: number, first: number, last: number): Float32Array {
  const out = new Float32Array(last * width);
  const [b3, b2, b1] = [3 * width, 2 * width, width];
  for (let i = first * width; i < last * width; i++) {
    let sum = fround(x[i - b3]! + x[i - b2]!);
    sum = fround(sum + x[i - b1]!);
    sum = fround(sum + x[i]!);
    sum = fround(sum + x[i + b1]!);
    sum = fround(sum + x[i + b2]!);
    sum = fround(sum + x[i + b3]!);
    const mass = Math.min(sum / TRIANGLE_MASS, 1);
    out[i] = fround(mass + fround(TIE_32 * x[i]!)) / WHOLE_32;
  }
  return out;
}

/** Whether a column is at its highest within BACK rows; the first of equals. */
function isPeak(x: Float32Array, i: number, width: number): boolean {
  const value = x[i]!;
  return (
    value > x[i - width]! && value > x[i - 2 * width]! && value >= x[i + width]! && value >= x[i + 2 * width]!
  );
}

/** MIDI velocity of a note's level in dB. */
export function velocityOf(level: number, pitch: number): number {
  const velocity = roundHalfEven(127 + (level + TILT * (pitch - 60) - LOUDEST) * STEPS_PER_DB);
  return Math.min(127, Math.max(1, velocity));
}

/** As Python's round and numpy's rint. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}
