/**
 * Where notes may begin: what of the posteriors no setting changes (basic_transcribe/evidence.py,
 * NoteTracker._events and _Chunk of monophonic.py). It is found once, as the recording is read; to track again is then
 * to walk through a list.
 *
 * Sums are rounded to 32 bits at each step, as numpy does, so that ties are decided alike.
 */

import { rint } from '../engine/timing.ts';
import { joined, rowsOf, silence, type Grid, type Posteriors } from './posteriors.ts';
import { Columns } from './store.ts';

const BACK = 2; // frames before a frame that decide whether it is a peak
const TRIANGLE_MASS = 2;
export const CENTRE = 2;
const SPREAD = 3;
const TIE = 1e-3;
const LEAST_ONSET = 0.3;
// What an onset one or two octaves below takes away from the evidence for a note: much of what begins there is its partial.
const OCTAVE = 0.15;
export const SHORTEST = 5; // frames from an onset to the next
export const SUPPORT = 9;
// Velocity: 127 at this level (dB relative to full scale), and so many steps a dB below it.
const LOUDEST = -10;
const STEPS_PER_DB = 2;
const TILT = 0.2; // dB per semitone above middle C that the ear forgives

export const AHEAD = Math.max(BACK + SPREAD, SUPPORT - 1) + 1;

// Of a line: see monophonic.py.
const NEAR = 2 / 3;
const CONTOUR_MASS = 0.6;
export const BESIDE = 0.5;
const LEAST_SOUNDING = 0.02; // kept; frame thresholds are higher
export const VELOCITIES = 128;

export const ONSET = 0;
export const STROKE = 1; // an onset in a line, to which the neighbouring semitones add theirs

export const BEFORE = BACK + SPREAD; // rows before a frame that its events depend on
export const AFTER = Math.max(BACK + SPREAD, SUPPORT - 1); // and after it

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

  /** Number of the first event of a frame or of a later one. */
  from(frame: number): number {
    let [low, high] = [0, this.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.frame[middle]! < frame) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Add another's events from number `first` on. */
  take(other: Events, first: number): void {
    for (let i = first; i < other.length; i++) {
      const to = this.add(other.frame[i]!, other.pitch[i]!, other.kind[i]!, other.mass[i]!, other.confidence[i]!);
      this.fraction[to] = other.fraction[i]!;
      this.level[to] = other.level[i]!;
    }
  }

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

/** The greater of the means of the first SHORTEST values, and of the first SUPPORT. */
function meanAhead(value: (k: number) => number): number {
  let sum = value(0);
  let short = 0;
  for (let k = 1; k < SUPPORT; k++) {
    sum = fround(sum + value(k));
    if (k === SHORTEST - 1) short = fround(sum / SHORTEST);
  }
  return Math.max(short, fround(sum / SUPPORT));
}

/** Finds the events of consecutive blocks; they do not depend on how a recording is cut into blocks. */
export class EventFinder {
  readonly events = new Events();
  /** Frame up to which all events are known. */
  found: number;
  readonly #first: number;
  readonly #grid: Grid;
  readonly #line: Columns | null;
  #rows: Posteriors; // they begin with silence before the recording

  /** `line` is given what columnsOfLine() describes; `first` is the frame that the blocks begin with. */
  constructor(grid: Grid, line: Columns | null = null, first = 0) {
    this.#grid = grid;
    this.#line = line;
    this.#first = this.found = first;
    this.#rows = silence(BEFORE, grid);
  }

  push(block: Posteriors): void {
    this.#rows = joined(this.#rows, block, this.#grid);
    this.#find(this.#rows.frames - AFTER);
  }

  /** The recording is over; silence follows. */
  flush(): void {
    this.push(silence(2 * AFTER, this.#grid));
  }

  /** Find the events of rows BEFORE to `last`, and forget the rows that no other needs. */
  #find(last: number): void {
    if (last <= BEFORE) return;
    const { pitches } = this.#grid;
    const shared = withNeighbours(this.#rows.onset, pitches);
    const onset = masses(this.#rows.onset, pitches, BEFORE - BACK, last + BACK);
    const stroke = masses(shared, pitches, BEFORE - BACK, last + BACK);
    for (let row = BEFORE; row < last; row++) {
      const frame = this.found + row - BEFORE;
      const at = row * pitches;
      for (let pitch = 0; pitch < pitches; pitch++) {
        const i = at + pitch;
        if (onset[i]! >= LEAST_ONSET_32 && isPeak(onset, i, pitches)) {
          const sum = fround(fround(fround(onset[i]! + this.#support(i)) + this.#clarity(row, pitch)) / 3);
          const evidence = fround(sum - fround(OCTAVE_32 * this.#octavesBelow(onset, row, pitch)));
          this.#describe(this.events.add(frame, pitch, ONSET, onset[i]!, evidence), row, pitch, this.#rows.onset);
        }
        if (stroke[i]! >= LEAST_ONSET_32 && isPeak(stroke, i, pitches)) {
          this.#describe(this.events.add(frame, pitch, STROKE, stroke[i]!, stroke[i]!), row, pitch, shared);
        }
      }
    }
    this.#line?.append(last - BEFORE, this.#lineOf(last));
    this.found += last - BEFORE;
    this.#rows = rowsOf(this.#rows, this.#grid, last - BEFORE, this.#rows.frames);
  }

  /** Mean of the note posterior at an index over this frame and the next ones, as many as say most. */
  #support(i: number): number {
    const { note } = this.#rows;
    return meanAhead((k) => note[i + k * this.#grid.pitches]!);
  }

  /** Mean of the contour posterior in the best bin of a pitch, over this frame and the next ones, as many as say most. */
  #clarity(row: number, pitch: number): number {
    const { pitches, binsPerSemitone: bins } = this.#grid;
    const { contour } = this.#rows;
    return meanAhead((k) => {
      const first = ((row + k) * pitches + pitch) * bins;
      let best = contour[first]!;
      for (let bin = 1; bin < bins; bin++) best = Math.max(best, contour[first + bin]!);
      return best;
    });
  }

  /** The greater mass one and two octaves below a place, of notes as loud at least; 0 without one. */
  #octavesBelow(onset: Float32Array, row: number, pitch: number): number {
    const level = this.#levelAt(row, pitch);
    let below = 0;
    for (const octave of [12, 24]) {
      const lower = pitch - octave;
      if (lower >= 0 && this.#levelAt(row, lower) >= level) {
        below = Math.max(below, onset[row * this.#grid.pitches + lower]!);
      }
    }
    return below;
  }

  /** Fill in when exactly, by an onset posterior, and how loud, a note begins in a row. */
  #describe(event: number, row: number, pitch: number, posterior: Float32Array): void {
    let mass = 0;
    let moment = 0;
    for (let k = -CENTRE; k <= CENTRE; k++) {
      const value = posterior[(row + k) * this.#grid.pitches + pitch]!;
      mass += value;
      moment += value * k;
    }
    this.events.fraction[event] = moment / Math.max(mass, 1e-9);
    this.events.level[event] = this.#levelAt(row, pitch);
  }

  /** Level of a note that begins in a row. */
  #levelAt(row: number, pitch: number): number {
    const { onset, level } = this.#rows;
    let weights = 0;
    let sum = 0;
    const before = Math.min(CENTRE, this.found + row - BEFORE - this.#first); // rows before the first do not count
    for (let k = -before; k <= CENTRE; k++) {
      const i = (row + k) * this.#grid.pitches + pitch;
      const weight = onset[i]! + 1e-6;
      weights += weight;
      sum += weight * level[i]!;
    }
    return sum / weights;
  }

  /** What columnsOfLine() describes, of rows BEFORE to `last`. */
  #lineOf(last: number): Float32Array {
    const { pitches, binsPerSemitone: bins, lowestPitch } = this.#grid;
    const { contour } = this.#rows;
    const reach = rint(NEAR * bins);
    const whole = fround(CONTOUR_MASS * bins);
    const out = new Float32Array((last - BEFORE) * pitches * 2);
    for (let row = BEFORE, to = 0; row < last; row++) {
      const from = row * pitches * bins;
      for (let pitch = 0; pitch < pitches; pitch++, to += 2) {
        const centre = pitch * bins + (bins >> 1);
        let sum = 0;
        for (let bin = Math.max(0, centre - reach); bin <= Math.min(pitches * bins - 1, centre + reach); bin++) {
          sum = fround(sum + contour[from + bin]!);
        }
        out[to] = Math.min(fround(sum / whole), 1);
        if (out[to]! < LEAST_SOUNDING) continue;
        out[to + 1] = velocityOf(this.#levelAt(row, pitch), lowestPitch + pitch) / VELOCITIES;
      }
    }
    return out;
  }
}

/**
 * Where an EventFinder puts what a line is made of besides events, two columns a pitch: how surely it sounds, 0 to 1,
 * which is the mass of the contour posterior near it; and the velocity of a note that begins there, over VELOCITIES.
 */
export function columnsOfLine(pitches: number): Columns {
  return new Columns(pitches, 2, LEAST_SOUNDING);
}

const LEAST_ONSET_32 = fround(LEAST_ONSET);
const OCTAVE_32 = fround(OCTAVE);
const TIE_32 = fround(TIE);
const WHOLE_32 = fround(1 + TIE);

/** Mass of an onset posterior around each frame from `first` to `last`, in events. */
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

/** An onset posterior with a part of the stronger of its neighbouring semitones. */
function withNeighbours(onset: Float32Array, pitches: number): Float32Array {
  const out = new Float32Array(onset.length);
  for (let row = 0; row < onset.length; row += pitches) {
    for (let pitch = 0; pitch < pitches; pitch++) {
      const i = row + pitch;
      const beside = Math.max(pitch > 0 ? onset[i - 1]! : 0, pitch < pitches - 1 ? onset[i + 1]! : 0);
      out[i] = Math.min(onset[i]! + BESIDE * beside, 1);
    }
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
  const velocity = rint(127 + (level + TILT * (pitch - 60) - LOUDEST) * STEPS_PER_DB);
  return Math.min(127, Math.max(1, velocity));
}
