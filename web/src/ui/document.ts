/**
 * The notes on the roll: those that were found, as the sliders have them, under the changes made by hand.
 *
 * Changes by hand are kept apart from what was found, so that moving a slider, which finds the notes again, loses none
 * of them: a note that was changed stays as it was left, and one that was removed stays away.
 */

import type { Bend, Note } from '../engine/types.ts';
import { NoteIndex, bisect } from './index.ts';

/** A note as it is drawn, played and saved. */
export interface RollNote extends Note {
  /** The same for the same note after the notes have been found again. */
  readonly id: string;
  /** Whether it was made or changed by hand. */
  readonly edited: boolean;
  /** Before scale and grid. */
  readonly raw: Note;
  /** Others that scale or grid made one with it: what is done to it is done to them. */
  readonly joined: readonly RollNote[];
}

/** A note made or changed by hand. */
export interface KeptNote extends Note {
  readonly id: string;
  /** Moved, stretched or drawn: scale and grid leave it where it was put. */
  readonly pinned: boolean;
}

/** Where a found note was taken away. */
export interface Removal {
  readonly pitch: number;
  readonly onset: number;
  readonly offset: number;
  /** The kept note that took its place, if one did. */
  readonly by: string | null;
}

export interface Edits {
  /** The one changed last is the last: those before give way to it. */
  readonly kept: readonly KeptNote[];
  readonly removed: readonly Removal[];
}

export const NO_EDITS: Edits = { kept: [], removed: [] };
export const SHORTEST = 0.02; // seconds, of a note made by hand
const NEAR = 0.05; // seconds between onsets that are the same one: found again with other settings, or joined by a scale
const LOWEST = 21;
const HIGHEST = 108;

/** How many changes by hand there are. */
export function countEdits(edits: Edits): number {
  const ids = new Set(edits.kept.map((note) => note.id));
  return edits.kept.length + edits.removed.filter((r) => r.by === null || !ids.has(r.by)).length;
}

/**
 * The notes on the roll, sorted by onset, then pitch; no two of one pitch overlap.
 *
 * `found` is as the tracker has it, in the same order and without overlaps, and `shape`, what scale and grid do to notes,
 * keeps both, and properties that it does not know.
 */
export function compose(
  found: readonly Note[],
  edits: Edits,
  shape: (notes: RollNote[]) => RollNote[] = (notes) => notes,
): RollNote[] {
  const loose: RollNote[] = [];
  const pinned: RollNote[] = [];
  const removed = byPitch(edits.removed);
  for (const note of found) {
    if (!removed.get(note.pitch)?.some((removal) => takes(removal, note))) {
      loose.push(rollNote(note, foundId(note), false));
    }
  }
  const unchanged = loose.length;
  for (const note of edits.kept) {
    (note.pinned ? pinned : loose).push(rollNote(note, note.id, true));
  }
  // What the tracker and `shape` return is in order by itself.
  const tidy = loose.length > unchanged ? untangled(loose) : loose;
  const shaped = withJoined(shape(tidy), tidy, shape);
  return pinned.length ? untangled([...shaped, ...pinned]) : shaped;
}

/** Shaped notes, and with each those that were lost in it: they would sound there, were they alone. */
function withJoined(
  shaped: RollNote[],
  notes: readonly RollNote[],
  shape: (notes: RollNote[]) => RollNote[],
): RollNote[] {
  if (shaped.length === notes.length) return shaped;
  const index = new NoteIndex(shaped);
  const left = new Set(shaped.map((note) => note.id));
  const joined = new Map<string, RollNote[]>();
  for (const note of notes) {
    if (left.has(note.id)) continue;
    const [alone] = shape([note]);
    const into = alone && index.at(alone.onset, alone.pitch, NEAR);
    if (into) joined.set(into.id, [...(joined.get(into.id) ?? []), note]);
  }
  return shaped.map((note) => ({ ...note, joined: joined.get(note.id) ?? [] }));
}

function rollNote(note: Note, id: string, edited: boolean): RollNote {
  const { onset, offset, pitch, velocity, confidence, bend } = note;
  return { onset, offset, pitch, velocity, confidence, bend, id, edited, raw: note, joined: [] };
}

function foundId(note: Note): string {
  return `f${note.pitch}:${Math.round(note.onset * 1000)}`;
}

function takes(removal: Removal, note: Note): boolean {
  return note.onset >= removal.onset - NEAR && note.onset < Math.max(removal.onset + NEAR, removal.offset - NEAR);
}

function byPitch<T extends { pitch: number }>(items: readonly T[]): Map<number, T[]> {
  const groups = new Map<number, T[]>();
  for (const item of items) {
    const group = groups.get(item.pitch);
    if (group) group.push(item);
    else groups.set(item.pitch, [item]);
  }
  return groups;
}

/**
 * Sorted notes without overlaps on a pitch. Of two the later in the list stays as it is, which is the one changed last:
 * the other ends where it begins, or begins where it ends, and is gone only if nothing is left of it.
 */
function untangled(notes: RollNote[]): RollNote[] {
  const result: RollNote[] = [];
  for (const group of byPitch(notes).values()) {
    const line: RollNote[] = [];
    for (const note of group.reverse()) {
      let { onset } = note;
      let place = bisect(line.length, (i) => line[i].offset > onset + 1e-9);
      const begun = (other: RollNote): boolean => other.onset < Math.min(onset + SHORTEST, note.offset) - 1e-9;
      for (; place < line.length && begun(line[place]); place++) onset = line[place].offset;
      const next = line[place]?.onset ?? Infinity;
      const offset = note.offset > next + 1e-9 ? next : note.offset;
      if (onset === note.onset && offset === note.offset) line.splice(place, 0, note);
      else if (offset - onset >= SHORTEST) line.splice(place, 0, cutNote(note, onset, offset));
    }
    result.push(...line);
  }
  return result.sort((a, b) => a.onset - b.onset || a.pitch - b.pitch);
}

// ---------------------------------------------------------------- one note

/** The note between two times within it, and its bend. */
function cutNote<T extends Note>(note: T, onset: number, offset: number): T {
  return { ...note, onset, offset, bend: note.bend && cutBend(note.bend, onset, offset) };
}

function cutBend(bend: Bend, from: number, to: number): Bend {
  const last = bend.semitones.length - 1;
  const first = Math.min(last, Math.max(0, Math.ceil((from - bend.start) / bend.step - 1e-6)));
  const end = Math.min(last + 1, Math.max(first + 1, Math.ceil((to - bend.start) / bend.step - 1e-6)));
  return { ...bend, start: bend.start + first * bend.step, semitones: bend.semitones.slice(first, end) };
}

/** A shift that takes none of the notes before 0 or off the keyboard, so that they stay as they are to each other. */
export function heldShift(
  notes: readonly Note[],
  seconds: number,
  semitones: number,
): [seconds: number, semitones: number] {
  const first = notes.reduce((least, { onset }) => Math.min(least, onset), Infinity);
  const [low, high] = notes.reduce(([l, h], { pitch }) => [Math.min(l, pitch), Math.max(h, pitch)], [HIGHEST, LOWEST]);
  return [Math.max(seconds, -first), Math.min(HIGHEST - high, Math.max(LOWEST - low, semitones))];
}

/** The note elsewhere, its bend with it; never before 0 nor off the keyboard. */
export function movedNote<T extends Note>(note: T, seconds: number, semitones: number): T {
  const by = Math.max(seconds, -note.onset);
  const pitch = Math.min(HIGHEST, Math.max(LOWEST, note.pitch + semitones));
  const bend = note.bend && { ...note.bend, start: note.bend.start + by };
  return { ...note, onset: note.onset + by, offset: note.offset + by, pitch, bend };
}

/** The note with other ends, which stop at its neighbours; what lies outside of them is cut off its bend. */
export function stretchedNote<T extends Note>(note: T, onset: number, offset: number, room = [0, Infinity]): T {
  const end = Math.min(offset, room[1]);
  const from = Math.max(room[0], Math.min(onset, end - SHORTEST));
  return cutNote(note, from, Math.max(end, from + SHORTEST));
}

export function clampVelocity(velocity: number): number {
  return Math.min(127, Math.max(1, Math.round(velocity)));
}

// ---------------------------------------------------------------- changes by hand

/** Take notes away. */
export function removeNotes(edits: Edits, notes: readonly RollNote[]): Edits {
  const all = notes.flatMap(members);
  const ids = new Set(all.filter((note) => note.edited).map((note) => note.id));
  const gone = all.filter((note) => !note.edited).map((note) => removal(note.raw, null));
  return { kept: edits.kept.filter((note) => !ids.has(note.id)), removed: [...edits.removed, ...gone] };
}

/** Replace notes by others, pair by pair, pinned where they are put. */
export function replaceNotes(edits: Edits, pairs: readonly (readonly [RollNote, Note])[]): Edits {
  return exchanged(edits, pairs, () => true);
}

/** Give notes other velocities; scale and grid go on shaping those that they shaped. */
export function revalueNotes(edits: Edits, pairs: readonly (readonly [RollNote, number])[]): Edits {
  const pinned = new Set(edits.kept.filter((note) => note.pinned).map((note) => note.id));
  const revalued = exchanged(
    edits,
    pairs.flatMap(([note, velocity]) =>
      members(note).map((one) => [{ ...one, joined: [] }, { ...one.raw, velocity: clampVelocity(velocity) }] as const),
    ),
    (note) => pinned.has(note.id),
  );
  // It changes no times: a note that gave way to another goes on doing so.
  const places = new Map(edits.kept.map(({ id }, place) => [id, place]));
  const place = ({ id }: KeptNote): number => places.get(id) ?? places.size;
  return { ...revalued, kept: [...revalued.kept].sort((a, b) => place(a) - place(b)) };
}

function exchanged(
  edits: Edits,
  pairs: readonly (readonly [RollNote, Note])[],
  pinned: (note: RollNote) => boolean,
): Edits {
  const news = new Map<string, KeptNote>();
  const replaced = new Set<string>();
  const gone: Removal[] = [];
  for (const [old, note] of pairs) {
    const id = old.edited ? old.id : `e${old.id}`;
    const { onset, offset, pitch, velocity, confidence, bend } = note;
    news.set(id, { onset, offset, pitch, velocity, confidence, bend, id, pinned: pinned(old) });
    for (const one of members(old)) {
      if (one.edited) replaced.add(one.id);
      else gone.push(removal(one.raw, id));
    }
  }
  return {
    kept: [...edits.kept.filter(({ id }) => !replaced.has(id) && !news.has(id)), ...news.values()],
    removed: [...edits.removed, ...gone],
  };
}

/** A note, and those joined with it. */
export function members(note: RollNote): RollNote[] {
  return [note, ...note.joined];
}

function removal({ pitch, onset, offset }: Note, by: string | null): Removal {
  return { pitch, onset, offset, by };
}

/** The identity that a found note has once it was changed. */
export function editedId(note: RollNote): string {
  return note.edited ? note.id : `e${note.id}`;
}

/** The identity that a changed note had when it was found. */
export function foundAgain(id: string): string {
  return id.startsWith('ef') ? id.slice(1) : id;
}

/** Add a note: drawn (pinned), or a candidate that was accepted. */
export function addNote(edits: Edits, note: Note, id: string, pinned: boolean): Edits {
  const { onset, offset, pitch, velocity, confidence, bend } = note;
  return { ...edits, kept: [...edits.kept, { onset, offset, pitch, velocity, confidence, bend, id, pinned }] };
}

/** Candidates where there is no note of their pitch, and none was taken away. Both sorted by onset. */
export function openCandidates(candidates: readonly Note[], notes: NoteIndex<Note>, edits: Edits): Note[] {
  const removed = byPitch(edits.removed);
  return candidates.filter((candidate) => {
    const meets = ({ onset, offset }: Removal): boolean => candidate.onset < offset && onset < candidate.offset;
    let taken = removed.get(candidate.pitch)?.some(meets) ?? false;
    notes.forEach(candidate.onset, candidate.offset, (note) => (taken ||= note.pitch === candidate.pitch));
    return !taken;
  });
}
