/** Notes found quickly by time and place. */

import type { Note } from '../engine/types.ts';

/** Notes sorted by onset, with the latest end up to each, so that those of a stretch of time are found by bisection. */
export class NoteIndex<T extends Note> {
  readonly notes: readonly T[];
  private readonly ends: Float64Array;

  constructor(notes: readonly T[]) {
    this.notes = notes;
    this.ends = new Float64Array(notes.length);
    let latest = -Infinity;
    notes.forEach((note, i) => {
      latest = Math.max(latest, note.offset);
      this.ends[i] = latest;
    });
  }

  /** Position of the first note that may still sound at a time. */
  firstSounding(time: number): number {
    return bisect(this.notes.length, (i) => this.ends[i] > time);
  }

  /** Position of the first note that begins at a time or later. */
  firstFrom(time: number): number {
    return bisect(this.notes.length, (i) => this.notes[i].onset >= time);
  }

  /** Calls with every note that sounds between two times, in order. */
  forEach(from: number, to: number, call: (note: T) => void): void {
    for (let i = this.firstSounding(from); i < this.notes.length; i++) {
      const note = this.notes[i];
      if (note.onset >= to) break;
      if (note.offset > from) call(note);
    }
  }

  /** Seconds from the end of the note before, of the same pitch, to the onset of the one after. */
  room({ onset, pitch }: Note): [from: number, to: number] {
    const { notes } = this;
    let [before, after] = [this.firstFrom(onset) - 1, this.firstFrom(onset)];
    while (before >= 0 && notes[before].pitch !== pitch) before--;
    while (after < notes.length && (notes[after].pitch !== pitch || notes[after].onset === onset)) after++;
    return [notes[before]?.offset ?? 0, notes[after]?.onset ?? Infinity];
  }

  /** The last note that covers a place, give or take some seconds. */
  at(time: number, pitch: number, tolerance = 0): T | null {
    let best: T | null = null;
    let nearest = Infinity;
    this.forEach(time - tolerance, time + tolerance + 1e-9, (note) => {
      const distance = Math.max(0, note.onset - time, time - note.offset);
      if (note.pitch === pitch && distance <= nearest) [best, nearest] = [note, distance];
    });
    return best;
  }
}

/** Smallest position below `length` for which a condition holds that, once true, stays true; `length` if none. */
export function bisect(length: number, holds: (i: number) => boolean): number {
  let [low, high] = [0, length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** Where the arrow keys go from a note: the next or last in time, or the nearest above or below. */
export function neighbour<T extends Note>(
  notes: readonly T[],
  from: T,
  direction: 'left' | 'right' | 'up' | 'down',
): T | null {
  const position = notes.indexOf(from);
  if (direction === 'left') return notes[position - 1] ?? null;
  if (direction === 'right') return notes[position + 1] ?? null;
  const sign = direction === 'up' ? 1 : -1;
  let best: T | null = null;
  let nearest = Infinity;
  for (const note of notes) {
    const rise = (note.pitch - from.pitch) * sign;
    if (rise <= 0) continue;
    // A second aside counts as an octave away: what sounds together is a short step.
    const gap = Math.max(0, note.onset - from.offset, from.onset - note.offset);
    const distance = rise + 12 * gap + Math.abs(note.onset - from.onset);
    if (distance < nearest) [best, nearest] = [note, distance];
  }
  return best;
}
