/** What is kept of a recording, so that its notes can be tracked again. */

import type { TrackerSettings } from '../engine/types.ts';
import { curve, fromConcertPitch } from './bends.ts';
import { Edges } from './edges.ts';
import { FAINT } from './ends.ts';
import { BEFORE, columnsOfLine, EventFinder, type Events } from './evidence.ts';
import { Hearing } from './hearing.ts';
import type { Grid, Posteriors } from './posteriors.ts';
import { Columns } from './store.ts';

// What is kept: frame thresholds are higher, and a bend a cent off at most.
const LEAST_NOTE = 0.03;
const LEAST_CONTOUR = 0.02;

/** Events that a tracker is still to handle: from number `next` on, of frames before `end`. */
export interface Span {
  readonly events: Events;
  next: number;
  end: number;
}

/** Settings, and what of them only the model says. */
export interface FullSettings extends TrackerSettings {
  /** Milliseconds by which sounds begin later than this model's onset posteriors say. */
  onsetDelay: number;
}

export class Recording {
  readonly grid: Grid;
  readonly note: Columns;
  readonly contour: Columns;
  readonly offset: Columns;
  /** What a line is made of, from columnsOfLine(). */
  readonly line: Columns;
  readonly hearing: Hearing;
  /** Seconds; known at the end. */
  duration = 0;
  readonly #finder: EventFinder;
  readonly #edges: Edges;
  readonly #curves = new Map<number, { end: number; semitones: Float32Array | null }>();

  constructor(grid: Grid) {
    this.grid = grid;
    this.note = new Columns(grid.pitches, 1, LEAST_NOTE);
    this.contour = new Columns(grid.pitches, grid.binsPerSemitone, LEAST_CONTOUR);
    this.offset = new Columns(grid.pitches, 1, FAINT);
    this.line = columnsOfLine(grid.pitches);
    this.hearing = new Hearing(grid);
    this.#finder = new EventFinder(grid, this.line);
    this.#edges = new Edges(grid);
  }

  get frames(): number {
    return this.note.rows;
  }

  push(block: Posteriors): void {
    this.#finder.push(block);
    this.#edges.push(block);
    this.hearing.push(block);
    this.note.append(block.frames, block.note);
    this.contour.append(block.frames, block.contour);
    this.offset.append(block.frames, block.offset);
  }

  /** The recording is over. */
  finish(duration: number): void {
    this.#finder.flush();
    this.#edges.flush();
    this.duration = duration;
  }

  /** The events of a tracker that begins at a frame: at 0, or where Edges are. */
  eventsFrom(first: number): Span[] {
    const { events } = this.#finder;
    if (first === 0) return [{ events, next: 0, end: Infinity }];
    const { opening } = this.#edges;
    return [
      { events: opening, next: opening.from(first), end: first + BEFORE },
      { events, next: events.from(first + BEFORE), end: Infinity },
    ];
  }

  /** The bend of a note from A = 440 Hz. Most stay as they were when notes are tracked again, so they are kept. */
  curve(pitch: number, first: number, end: number): Float32Array | null {
    const key = first * this.grid.pitches + pitch;
    let found = this.#curves.get(key);
    if (found?.end !== end) {
      const { binsPerSemitone, tuning } = this.grid;
      found = { end, semitones: fromConcertPitch(curve(this.contour, first, end, pitch, binsPerSemitone), tuning) };
      this.#curves.set(key, found);
    }
    return found.semitones;
  }
}
