/** From events and posteriors to the best single line (basic_transcribe/monophonic.py, whose rules these are). */

import type { Note } from '../engine/types.ts';
import { finished, type Begun } from './bends.ts';
import { CHUNK } from './edges.ts';
import { endOf, LATE } from './ends.ts';
import { AFTER, BESIDE, SHORTEST, STROKE, SUPPORT, VELOCITIES, velocityOf, type Events } from './evidence.ts';
import type { FullSettings, Recording, Span } from './recording.ts';

const ONSET_WEIGHT = 9; // what an onset of mass 1 is worth, in frames of a sounding pitch
const SILENT_WEIGHT = 3; // how much more than a frame above the frame threshold counts one as far below
const FADING = 12; // frames before the line leaves a note in which an end says when it was over

const fround = Math.fround;

/** What events say of a chunk, and how the best lines run through it. */
class Chunk {
  readonly first: number;
  /** By row and state, whether the best line into the state enters it there, and if so, by row, from where. */
  readonly enters: Uint8Array;
  readonly origin = new Int16Array(CHUNK);
  /** By frame and pitch: strokes, as numbers of events. */
  readonly struck = new Map<number, [Events, number]>();

  constructor(first: number, states: number) {
    this.first = first;
    this.enters = new Uint8Array(CHUNK * states);
  }
}

/**
 * Follows a recording while it is read, or afterwards; of its notes never two sound at once. A CHUNK is searched at once;
 * a decision is final a chunk later.
 */
export class MonophonicTracker {
  readonly #recording: Recording;
  readonly #settings: FullSettings;
  readonly #states: number; // the pitches; the last one is silence
  readonly #events: Span[]; // that have not been handled
  readonly #sounding: Float32Array; // of the chunk that is searched
  readonly #gains: Float64Array;
  readonly #costs: Float64Array;
  readonly #gain: Float64Array; // of the best line into each state
  #searched: number; // frame up to which the best lines are known
  #undecided: Chunk | null = null;
  #open: Begun | null = null;
  #ended = 0; // when the last note ended
  #finished: Note[] = [];

  /** `first` is the frame that it begins with. */
  constructor(recording: Recording, settings: FullSettings, first = 0) {
    this.#recording = recording;
    this.#settings = settings;
    this.#states = recording.grid.pitches + 1;
    this.#events = recording.eventsFrom(first);
    this.#sounding = new Float32Array(CHUNK * recording.grid.pitches);
    this.#gains = new Float64Array(CHUNK * this.#states);
    this.#costs = new Float64Array(CHUNK * this.#states);
    this.#gain = new Float64Array(this.#states).fill(-Infinity);
    this.#gain[this.#states - 1] = 0;
    this.#searched = first;
  }

  /** The note that has begun and is not finished, if any, from which another tracker can go on. */
  get begun(): Begun | null {
    return this.#open;
  }

  /** The notes that are finished by the frames before `end`, in order. */
  advance(end = this.#recording.frames): Note[] {
    this.#finished = [];
    while (this.#searched + CHUNK + AFTER <= end) this.#advance();
    return this.#finished;
  }

  /** The recording is over: the notes that still sound. */
  finish(): Note[] {
    this.#finished = [];
    while (this.#searched <= this.#recording.frames) this.#advance(); // at least a frame of silence, in which the line falls silent
    if (this.#undecided) this.#decide(this.#undecided, highest(this.#gain));
    return this.#finished;
  }

  /** Search the next chunk, and choose the line through the one before it. */
  #advance(): void {
    const chunk = this.#read();
    this.#search(chunk);
    if (this.#undecided) {
      const origins = this.#origins(chunk);
      const state = origins[highest(this.#gain)]!;
      // The other lines contradict the choice.
      origins.forEach((origin, i) => origin !== state && (this.#gain[i] = -Infinity));
      this.#decide(this.#undecided, state);
    }
    this.#undecided = chunk;
    this.#searched += CHUNK;
  }

  /** The next chunk: its events, and what sounds in it. */
  #read(): Chunk {
    const { grid, line } = this.#recording;
    const chunk = new Chunk(this.#searched, this.#states);
    const last = this.#searched + CHUNK;
    for (const span of this.#events) {
      const { events } = span;
      const end = Math.min(last, span.end);
      for (; span.next < events.length && events.frame[span.next]! < end; span.next++) {
        const at = this.#at(events.frame[span.next]!, events.pitch[span.next]!);
        if (events.kind[span.next] === STROKE) chunk.struck.set(at, [events, span.next]);
      }
    }
    this.#sounding.fill(0);
    const known = Math.min(last, line.rows);
    for (let pitch = 0; pitch < grid.pitches; pitch++) {
      line.read(2 * pitch, this.#searched, known, this.#sounding, pitch, grid.pitches);
    }
    return chunk;
  }

  /** Find the best line into each state at the end of a chunk. */
  #search(chunk: Chunk): void {
    this.#weigh(chunk);
    const [states, gain] = [this.#states, this.#gain];
    for (let row = 0, i = 0; row < CHUNK; row++) {
      const best = highest(gain);
      const most = gain[best]!;
      chunk.origin[row] = best;
      for (let state = 0; state < states; state++, i++) {
        const entered = most - this.#costs[i]!;
        if (entered > gain[state]!) {
          chunk.enters[i] = 1;
          gain[state] = entered;
        }
        gain[state]! += this.#gains[i]!;
      }
    }
  }

  /** What it is worth in each row of a chunk to be in a state, and what it costs to enter it. */
  #weigh(chunk: Chunk): void {
    const { grid } = this.#recording;
    const low = this.#settings.minimumPitch - grid.lowestPitch;
    const high = this.#settings.maximumPitch - grid.lowestPitch;
    const frameThreshold = fround(this.#settings.frameThreshold);
    const least = fround(this.#settings.onsetThreshold);
    const unstruck = fround(2 * this.#settings.onsetThreshold);
    for (let row = 0, i = 0, from = 0; row < CHUNK; row++, i++) {
      for (let pitch = 0; pitch < grid.pitches; pitch++, i++, from++) {
        const above = fround(this.#sounding[from]! - frameThreshold);
        this.#gains[i] = above < 0 ? fround(SILENT_WEIGHT * above) : above;
        this.#costs[i] = pitch < low || pitch > high ? Infinity : fround(ONSET_WEIGHT * unstruck);
      }
    }
    for (const [at, [events, event]] of chunk.struck) {
      const pitch = at % grid.pitches;
      if (pitch < low || pitch > high) continue;
      const i = (Math.floor(at / grid.pitches) - chunk.first) * this.#states + pitch;
      const mass = events.mass[event]!;
      this.#gains[i]! += fround(ONSET_WEIGHT * Math.max(fround(mass - least), 0));
      this.#costs[i] = fround(ONSET_WEIGHT * Math.max(fround(unstruck - mass), 0));
    }
  }

  /** For each state at the end of a chunk, the state before the chunk from which the best line comes. */
  #origins(chunk: Chunk): Int16Array {
    const origins = Int16Array.from({ length: this.#states }, (_, state) => state);
    for (let row = CHUNK - 1; row >= 0; row--) {
      const [at, origin] = [row * this.#states, chunk.origin[row]!];
      for (let i = 0; i < origins.length; i++) if (chunk.enters[at + origins[i]!]) origins[i] = origin;
    }
    return origins;
  }

  /** Follow the line through a chunk, given its state at the end. */
  #decide(chunk: Chunk, state: number): void {
    const line = new Int16Array(CHUNK);
    for (let row = CHUNK - 1; row >= 0; row--) {
      line[row] = state;
      if (chunk.enters[row * this.#states + state]) state = chunk.origin[row]!;
    }
    for (let start = 0, stop = 1; start < CHUNK; start = stop++) {
      while (stop < CHUNK && line[stop] === line[start]) stop++;
      const pitch = line[start]! < this.#states - 1 ? line[start]! : null;
      this.#stay(chunk, pitch, chunk.first + start, chunk.first + stop);
    }
  }

  /** Follow the line through frames in which it stays at one pitch, or silent. */
  #stay(chunk: Chunk, pitch: number | null, first: number, last: number): void {
    if ((this.#open?.pitch ?? null) !== pitch) this.#change(chunk, first, pitch);
    if (pitch === null) return;
    const splitThreshold = fround(this.#settings.splitThreshold);
    for (let frame = first; frame < last; frame++) {
      const [events, stroke] = chunk.struck.get(this.#at(frame, pitch)) ?? [];
      const clear = events && events.mass[stroke!]! >= splitThreshold;
      if (clear && frame >= this.#open!.frame + SHORTEST) this.#change(chunk, frame, pitch);
    }
  }

  /** End the note that sounds, if any, and begin one at `pitch`, if any. */
  #change(chunk: Chunk, frame: number, pitch: number | null): void {
    const begun = pitch === null ? null : this.#begin(chunk, frame, pitch);
    if (this.#open) this.#close(this.#open, frame, begun?.onset ?? Infinity);
    if (begun) begun.onset = Math.max(begun.onset, this.#ended);
    this.#open = begun;
  }

  #begin(chunk: Chunk, frame: number, pitch: number): Begun {
    const { grid, line } = this.#recording;
    // Without a stroke, and just beside an edge, this has heard a little of what lies beyond.
    let velocity = Math.round(line.at(frame, 2 * pitch + 1) * VELOCITIES);
    let fraction = 0;
    let confidence = this.#support(frame, pitch);
    const [events, stroke] = chunk.struck.get(this.#at(frame, pitch)) ?? [];
    if (events) {
      velocity = velocityOf(events.level[stroke!]!, grid.lowestPitch + pitch);
      fraction = events.fraction[stroke!]!;
      confidence = 0.5 * (events.mass[stroke!]! + confidence);
    }
    const onset = Math.max(0, (frame + fraction) / grid.frameRate + this.#settings.onsetDelay / 1000);
    return { pitch, frame, onset, velocity, confidence: Math.min(1, confidence) };
  }

  /** How surely a pitch sounds from a frame on, SUPPORT in all. */
  #support(frame: number, pitch: number): number {
    let sum = 0;
    for (let i = frame; i < frame + SUPPORT; i++) sum = fround(sum + this.#recording.line.at(i, 2 * pitch));
    return fround(sum / SUPPORT);
  }

  /** Finish a note that the line leaves in frame `left`, by the time `latest`, unless it is too short. */
  #close(note: Begun, left: number, latest: number): void {
    const first = Math.max(note.frame, left - FADING);
    const end = endOf(this.#offset(note.pitch, first, left + LATE), first, note.frame, left);
    const offset = Math.max(this.#ended, Math.min(end / this.#recording.grid.frameRate, latest));
    this.#ended = offset;
    const whole = finished(note, end, offset, this.#recording, this.#settings);
    if (whole) this.#finished.push(whole);
  }

  /** The offset posterior of a pitch in some frames, with a part of the stronger of its neighbours'. */
  #offset(pitch: number, first: number, last: number): Float32Array {
    const { offset, frames, grid } = this.#recording;
    const known = Math.min(last, frames);
    const of = (column: number): Float32Array => {
      const values = new Float32Array(last - first);
      if (column >= 0 && column < grid.pitches) offset.read(column, first, known, values, 0, 1);
      return values;
    };
    const [here, below, above] = [of(pitch), of(pitch - 1), of(pitch + 1)];
    return here.map((value, i) => Math.min(value + BESIDE * Math.max(below[i]!, above[i]!), 1));
  }

  /** Number of a frame and pitch. */
  #at(frame: number, pitch: number): number {
    return frame * this.#recording.grid.pitches + pitch;
  }
}

/** Where an array is at its highest; the first of equals. */
function highest(x: Float64Array): number {
  let best = 0;
  for (let i = 1; i < x.length; i++) if (x[i]! > x[best]!) best = i;
  return best;
}
