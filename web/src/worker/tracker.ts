/** From events and posteriors to notes, in one pass (basic_transcribe/notes.py, whose rules these are). */

import type { Note, TrackerSettings } from '../engine/types.ts';
import { curve } from './bends.ts';
import { AHEAD, EventFinder, OFFSET, ONSET, velocityOf } from './evidence.ts';
import type { Grid, Posteriors } from './posteriors.ts';
import { Columns } from './store.ts';

const SHORTEST = 5; // frames from an onset to an end
// What is kept: frame thresholds are higher, and a bend a cent off at most.
const LEAST_NOTE = 0.03;
const LEAST_CONTOUR = 0.02;
const GAP = 4; // frames the note posterior must stay low for the note to be over: shorter dips are bridged

/** Settings, and what of them only the model says. */
export interface FullSettings extends TrackerSettings {
  /** Milliseconds by which sounds begin later than this model's onset posteriors say. */
  onsetDelay: number;
}

/** All that is kept of a recording so that its notes can be tracked again. */
export class Recording {
  readonly grid: Grid;
  readonly finder: EventFinder;
  readonly note: Columns;
  readonly contour: Columns;
  /** Seconds; known at the end. */
  duration = 0;
  readonly #curves = new Map<number, { end: number; semitones: Float32Array | null }>();

  constructor(grid: Grid) {
    this.grid = grid;
    this.finder = new EventFinder(grid.pitches, grid.binsPerSemitone);
    this.note = new Columns(grid.pitches, 1, LEAST_NOTE);
    this.contour = new Columns(grid.pitches, grid.binsPerSemitone, LEAST_CONTOUR);
  }

  get frames(): number {
    return this.note.rows;
  }

  push(block: Posteriors): void {
    this.finder.push(block);
    this.note.append(block.frames, block.note);
    this.contour.append(block.frames, block.contour);
  }

  /** The recording is over. */
  finish(duration: number): void {
    this.finder.flush();
    this.duration = duration;
  }

  /** The bend of a note. Most stay as they were when notes are tracked again, so they are kept. */
  curve(pitch: number, first: number, end: number): Float32Array | null {
    const key = first * this.grid.pitches + pitch;
    let found = this.#curves.get(key);
    if (found?.end !== end) {
      found = { end, semitones: curve(this.contour, first, end, pitch, this.grid.binsPerSemitone) };
      this.#curves.set(key, found);
    }
    return found.semitones;
  }
}

/** A note that has begun: its first frame, what is known of it, and how far it has been looked at. */
interface Open {
  frame: number;
  onset: number;
  level: number;
  confidence: number;
  /** The next row to be looked at, and how many before it were silent. */
  row: number;
  quiet: number;
  /** Row from which on it is silent; -1 if that is not known yet. */
  silentFrom: number;
  /** Strongest end so far. */
  offsetMass: number;
  offsetFrame: number;
}

/** Follows a recording while it is read, or afterwards. */
export class NoteTracker {
  readonly #recording: Recording;
  readonly #settings: FullSettings;
  readonly #onsetThreshold: number;
  readonly #frameThreshold: number;
  readonly #open = new Map<number, Open>();
  readonly #ended: Float64Array; // by pitch, when its last note ended
  #next = 0; // the first event that has not been handled
  #finished: Note[] = [];

  constructor(recording: Recording, settings: FullSettings) {
    this.#recording = recording;
    this.#settings = settings;
    this.#onsetThreshold = Math.fround(settings.onsetThreshold);
    this.#frameThreshold = Math.fround(settings.frameThreshold);
    this.#ended = new Float64Array(recording.grid.pitches);
  }

  /** The notes that are finished by what has been pushed, in order of their ends. */
  advance(): Note[] {
    return this.#advance(this.#recording.frames - AHEAD);
  }

  /** The recording is over: the notes that still sound. */
  finish(): Note[] {
    return this.#advance(this.#recording.frames + GAP + 2);
  }

  /** Handle all events of frames before `limit`. */
  #advance(limit: number): Note[] {
    const { grid, finder } = this.#recording;
    const { events } = finder;
    const low = Math.max(0, this.#settings.minimumPitch - grid.lowestPitch);
    const high = Math.min(grid.pitches - 1, this.#settings.maximumPitch - grid.lowestPitch);
    this.#finished = [];
    for (; this.#next < events.length && events.frame[this.#next]! < limit; this.#next++) {
      const i = this.#next;
      const pitch = events.pitch[i]!;
      const kind = events.kind[i]!;
      if (pitch < low || pitch > high) continue;
      if (kind === ONSET && events.confidence[i]! < this.#onsetThreshold) continue;
      const frame = events.frame[i]!;
      const current = this.#open.get(pitch);
      if (current !== undefined) {
        const end = this.#endOf(pitch, current, limit);
        if (kind === OFFSET) {
          const inside = current.frame + SHORTEST <= frame && frame < end + GAP;
          if (inside && events.mass[i]! > current.offsetMass) {
            current.offsetMass = events.mass[i]!;
            current.offsetFrame = frame;
          }
          continue;
        }
        if (end <= frame) this.#close(pitch, current, end);
        else if (events.mass[i]! >= this.#settings.splitThreshold) this.#close(pitch, current, frame);
        else continue;
      }
      if (kind !== OFFSET) this.#begin(i);
    }
    for (const [pitch, current] of this.#open) {
      const end = this.#endOf(pitch, current, limit);
      if (end + GAP < limit) this.#close(pitch, current, end);
    }
    return this.#finished;
  }

  #begin(event: number): void {
    const { grid, finder } = this.#recording;
    const { events } = finder;
    const frame = events.frame[event]!;
    const pitch = events.pitch[event]!;
    const onset = (frame + events.fraction[event]!) / grid.frameRate + this.#settings.onsetDelay / 1000;
    this.#open.set(pitch, {
      frame,
      onset: Math.max(onset, this.#ended[pitch]!),
      level: events.level[event]!,
      confidence: events.confidence[event]!,
      row: frame + 1,
      quiet: 0,
      silentFrom: -1,
      offsetMass: 0,
      offsetFrame: 0,
    });
  }

  /** Row from which on an open note is silent; infinite if it is not known to be before `limit`. */
  #endOf(pitch: number, note: Open, limit: number): number {
    if (note.silentFrom >= 0) return note.silentFrom;
    const { note: posterior } = this.#recording;
    for (; note.row < limit + GAP - 1; note.row++) {
      note.quiet = posterior.at(note.row, pitch) < this.#frameThreshold ? note.quiet + 1 : 0;
      if (note.quiet === GAP) {
        note.silentFrom = note.row - GAP + 1;
        return note.silentFrom;
      }
    }
    return Infinity;
  }

  /** Finish the open note of a pitch by frame `end`, unless it is too short. */
  #close(pitch: number, note: Open, end: number): void {
    const { grid } = this.#recording;
    this.#open.delete(pitch);
    if (note.offsetMass > 0) end = Math.min(note.offsetFrame, end);
    const offset = end / grid.frameRate;
    this.#ended[pitch] = offset;
    if (offset - note.onset < Math.max(this.#settings.minimumNoteLength / 1000, 0.5 / grid.frameRate)) return;
    const semitones = this.#recording.curve(pitch, note.frame, end);
    this.#finished.push({
      onset: note.onset,
      offset,
      pitch: grid.lowestPitch + pitch,
      velocity: velocityOf(note.level, grid.lowestPitch + pitch),
      confidence: Math.min(1, note.confidence),
      bend: semitones && { start: note.frame / grid.frameRate, step: 1 / grid.frameRate, semitones },
    });
  }
}

/** The notes of a recording that has been read, sorted by onset, then pitch. */
export function trackNotes(recording: Recording, settings: FullSettings): Note[] {
  return inOrder(new NoteTracker(recording, settings).finish(), recording.duration);
}

/** Notes cut at the end of the recording, sorted by onset, then pitch. */
export function inOrder(notes: Note[], duration: number): Note[] {
  return notes
    .filter((note) => note.onset < duration)
    .map((note) => (note.offset > duration ? { ...note, offset: duration } : note))
    .sort((a, b) => a.onset - b.onset || a.pitch - b.pitch);
}
