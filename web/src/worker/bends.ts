/** From the contour posterior to the pitch a note really has, frame by frame (basic_transcribe/bends.py). */

import type { Note } from '../engine/types.ts';
import type { FullSettings, Recording } from './recording.ts';
import type { Columns } from './store.ts';

const REACH = 8; // bins on either side of the note's own that its pitch may move to
const HOME = 2; // bins on either side of the note's own where its pitch must be at its clearest
const STEP = 2; // bins from one frame to the next
const FLOOR = 1e-3; // added to the posterior before its logarithm is taken
const MIN_PEAK = Math.fround(0.08); // posterior below which a peak says nothing
const SMOOTHING = 5; // frames, odd
const WIDTH = 2 * REACH + 1;
const BEND_UNIT = 2 ** -12; // semitones; the bends of notes that were found are multiples of it in Python

/** A note's bend in semitones, one value a frame from `first` to `last`; null where the contour says nothing. */
export function curve(
  contour: Columns,
  first: number,
  last: number,
  pitch: number,
  binsPerSemitone: number,
): Float32Array | null {
  const near = window(contour, first, last, pitch, binsPerSemitone);
  const frames = last - first;
  const path = follow(near, frames);
  const bend = new Float64Array(frames);
  let known = -1; // the last frame whose pitch is known
  for (let i = 0; i < frames; i++) {
    if (path[i]! < 0) continue;
    bend[i] = refined(near, i, path[i]!) / binsPerSemitone;
    for (let j = known + 1; j < i; j++) {
      bend[j] = known < 0 ? bend[i]! : bend[known]! + ((bend[i]! - bend[known]!) * (j - known)) / (i - known);
    }
    known = i;
  }
  if (known < 0) return null;
  bend.fill(bend[known]!, known + 1);
  return frames < SMOOTHING ? Float32Array.from(bend) : medians(bend);
}

/** The same from A = 440 Hz, of a recording that is tuned by so many cents. */
export function fromConcertPitch(bend: Float32Array | null, cents: number): Float32Array | null {
  const tuning = Math.round(cents / 100 / BEND_UNIT) * BEND_UNIT;
  if (tuning === 0) return bend;
  return bend ? bend.map((semitones) => semitones + tuning) : Float32Array.of(tuning);
}

/** The part of the contour that the note may move in, WIDTH values a frame; zero beyond the edges. */
function window(contour: Columns, first: number, last: number, pitch: number, per: number): Float32Array {
  const near = new Float32Array((last - first) * WIDTH);
  const low = pitch * per + (per >> 1) - REACH;
  for (let i = Math.max(0, -low); i < Math.min(WIDTH, contour.width - low); i++) {
    contour.read(low + i, first, last, near, i, WIDTH);
  }
  return near;
}

/** Column of the note's peak in each frame, -1 where there is none within STEP of the last. */
function follow(near: Float32Array, frames: number): Int8Array {
  let [anchor, column, clearest] = [0, 0, -1];
  for (let i = 0; i < frames; i++) {
    for (let k = 0; k <= 2 * HOME; k++) {
      const value = near[i * WIDTH + REACH - HOME + k]!;
      if (value > clearest) [anchor, column, clearest] = [i, k, value];
    }
  }
  const path = new Int8Array(frames).fill(-1);
  const walk = (from: number, to: number, direction: number): void => {
    let last = column + REACH - HOME;
    for (let i = from; i !== to; i += direction) {
      let top = 0;
      for (let at = Math.max(1, last - STEP); at <= Math.min(WIDTH - 2, last + STEP); at++) {
        const value = near[i * WIDTH + at]!;
        const peak = value > MIN_PEAK && value >= near[i * WIDTH + at - 1]! && value >= near[i * WIDTH + at + 1]!;
        if (peak && value > top) [top, path[i]] = [value, at];
      }
      if (path[i]! >= 0) last = path[i]!;
    }
  };
  walk(anchor, frames, 1);
  walk(anchor - 1, -1, -1);
  return path;
}

/** Bins by which the peak lies above the note's own: the logarithms of three values lie on a parabola. */
function refined(near: Float32Array, frame: number, column: number): number {
  const i = frame * WIDTH + column;
  const left = Math.log(near[i - 1]! + FLOOR);
  const top = Math.log(near[i]! + FLOOR);
  const right = Math.log(near[i + 1]! + FLOOR);
  const offset = (0.5 * (left - right)) / Math.min(left - 2 * top + right, -1e-6);
  return column - REACH + Math.min(0.5, Math.max(-0.5, offset));
}

function medians(x: Float64Array): Float32Array {
  const half = SMOOTHING >> 1;
  const out = new Float32Array(x.length);
  const around = new Float64Array(SMOOTHING); // sorted by insertion: for five values nothing is faster
  for (let i = 0; i < x.length; i++) {
    for (let k = 0; k < SMOOTHING; k++) {
      const value = x[Math.min(x.length - 1, Math.max(0, i + k - half))]!;
      let j = k;
      for (; j > 0 && around[j - 1]! > value; j--) around[j] = around[j - 1]!;
      around[j] = value;
    }
    out[i] = around[half]!;
  }
  return out;
}

/** A note that has begun: its column, its first frame, and what is known of it. */
export interface Begun {
  pitch: number;
  frame: number;
  onset: number;
  velocity: number;
  confidence: number;
}

/** A note that is over in frame `end`, or between two, and at `offset` seconds, with its bend; null if it is too short. */
export function finished(
  note: Begun,
  end: number,
  offset: number,
  recording: Recording,
  settings: FullSettings,
): Note | null {
  const { onset, velocity, confidence } = note;
  const { frameRate, lowestPitch } = recording.grid;
  const heard = Math.min(offset, recording.duration || Infinity); // where inOrder() will cut it
  if (heard - onset < Math.max(settings.minimumNoteLength / 1000, 0.5 / frameRate)) return null;
  const semitones = recording.curve(note.pitch, note.frame, Math.ceil(end));
  const bend = semitones && { start: note.frame / frameRate, step: 1 / frameRate, semitones };
  return { onset, offset, pitch: lowestPitch + note.pitch, velocity, confidence, bend };
}
