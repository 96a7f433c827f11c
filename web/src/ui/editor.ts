/** What is being worked on: found notes, sliders, changes by hand, what is chosen; and the way back. */

import { metre, parseDivision } from '../engine/timing.ts';
import type { Note, ShapeSettings, TrackerSettings } from '../engine/types.ts';
import {
  NO_EDITS,
  addNote,
  compose,
  countEdits,
  editedId,
  foundAgain,
  members,
  openCandidates,
  removeNotes,
  replaceNotes,
  revalueNotes,
} from './document.ts';
import type { Edits, RollNote } from './document.ts';
import { History } from './history.ts';
import { NoteIndex, neighbour } from './index.ts';
import { count } from './names.ts';
import type { Grid } from './view.ts';

/** All that undo brings back. */
export interface Doc {
  readonly tracker: TrackerSettings;
  readonly shape: ShapeSettings;
  readonly edits: Edits;
}

export const PLAIN: ShapeSettings = {
  scale: null,
  scaleMode: 'snap',
  quantize: null,
  strength: 1,
  swing: 0,
  tempo: 120,
  timeSignature: [4, 4],
  firstBeat: 0,
};

/** What settings are called when they are undone. */
const TRACKER: Record<keyof TrackerSettings, string> = {
  onsetThreshold: 'note sensitivity',
  splitThreshold: 'split sensitivity',
  frameThreshold: 'note length',
  minimumNoteLength: 'shortest note',
  minimumPitch: 'lowest note',
  maximumPitch: 'highest note',
  monophonic: 'all notes or one line',
};
const SHAPE: Record<keyof ShapeSettings, string> = {
  scale: 'scale',
  scaleMode: 'notes off the scale',
  quantize: 'quantise',
  strength: 'strength',
  swing: 'swing',
  tempo: 'tempo',
  timeSignature: 'metre',
  firstBeat: 'first beat',
};

export type Shape = <T extends Note>(notes: T[], settings: ShapeSettings) => T[];

export class Editor {
  /** Called after any change, with what changed. */
  onChange: (what: { notes: boolean; tracker: boolean }) => void = () => undefined;

  private history: History<Doc>;
  private readonly shape: Shape;
  private found: readonly Note[] = [];
  private faint: readonly Note[] = [];
  private composed = new NoteIndex<RollNote>([]);
  private open = new NoteIndex<Note>([]);
  private chosen: ReadonlySet<string> = new Set();
  private focus: string | null = null;
  private serial = 0;

  constructor(shape: Shape, tracker: TrackerSettings) {
    this.shape = shape;
    this.history = new History<Doc>({ tracker, shape: PLAIN, edits: NO_EDITS });
  }

  get doc(): Doc {
    return this.history.value;
  }

  get notes(): NoteIndex<RollNote> {
    return this.composed;
  }

  /** Notes that might be, and are not. */
  get candidates(): NoteIndex<Note> {
    return this.open;
  }

  get selected(): ReadonlySet<string> {
    return this.chosen;
  }

  get focused(): RollNote | null {
    return this.composed.notes.find((note) => note.id === this.focus) ?? null;
  }

  get chosenNotes(): RollNote[] {
    return this.chosen.size ? this.composed.notes.filter((note) => this.chosen.has(note.id)) : [];
  }

  get edits(): number {
    return countEdits(this.doc.edits);
  }

  get undoLabel(): string | null {
    return this.history.undoLabel;
  }

  get redoLabel(): string | null {
    return this.history.redoLabel;
  }

  /** The grid that is drawn and that dragged notes snap to; null while there is none. */
  get grid(): Grid | null {
    const { quantize, tempo, timeSignature, swing, firstBeat = 0 } = this.doc.shape;
    if (quantize === null) return null;
    const step = ((4 * parseDivision(quantize)) / metre(timeSignature)[1]) * (60 / tempo);
    return { origin: firstBeat, tempo, timeSignature, swing, step };
  }

  // ---------------------------------------------------------------- what is found

  /**
   * Another recording: settings stay, what was done to the notes of the last one goes. The function it returns puts the
   * last one back as it was.
   */
  begin(tracker: TrackerSettings): () => void {
    const { history, found, faint, chosen, focus } = this;
    const shape = { ...this.doc.shape, firstBeat: 0 };
    this.history = new History<Doc>({ tracker, shape, edits: NO_EDITS });
    this.faint = [];
    [this.chosen, this.focus] = [new Set(), null];
    this.setFound([]);
    return () => {
      Object.assign(this, { history, found, faint, chosen, focus });
      this.refresh(false);
    };
  }

  setFound(found: readonly Note[]): void {
    this.found = found;
    this.refresh(false);
  }

  setCandidates(candidates: readonly Note[]): void {
    this.faint = candidates;
    this.openUp();
    this.onChange({ notes: false, tracker: false });
  }

  // ---------------------------------------------------------------- settings

  setTracker(change: Partial<TrackerSettings>): void {
    const tracker = { ...this.doc.tracker, ...change };
    const names = Object.keys(change) as (keyof TrackerSettings)[];
    this.commit({ ...this.doc, tracker }, names.length === 1 ? TRACKER[names[0]] : 'reset', `tracker ${names.join()}`);
  }

  resetSettings(tracker: TrackerSettings): void {
    this.commit({ ...this.doc, tracker, shape: PLAIN }, 'reset', null);
  }

  setShape(change: Partial<ShapeSettings>): void {
    const [name] = Object.keys(change) as (keyof ShapeSettings)[];
    this.commit({ ...this.doc, shape: { ...this.doc.shape, ...change } }, SHAPE[name], `shape ${name}`);
  }

  // ---------------------------------------------------------------- by hand

  remove(notes: readonly RollNote[] = this.chosenNotes): number {
    if (!notes.length) return 0;
    const next = notes.length === 1 ? neighbour(this.composed.notes, notes[0], 'right') : null;
    [this.chosen, this.focus] = [new Set(next ? [next.id] : []), next?.id ?? null];
    this.commitEdits(removeNotes(this.doc.edits, notes), `delete ${count(notes.length, 'note')}`);
    return notes.length;
  }

  /**
   * Notes in place of others; they are chosen, if those were. What stays as it was, or is gone by now, is left out.
   * Returns how many others are gone, being wholly covered.
   */
  replace(pairs: readonly (readonly [RollNote, Note])[], label: string, merge: string | null = null): number {
    const there = new Set(this.composed.notes.map((note) => note.id));
    const changed = pairs.filter(([old, note]) => there.has(old.id) && !sameNote(old, note));
    if (!changed.length) return 0;
    this.rename(changed.map(([note]) => note));
    this.commitEdits(replaceNotes(this.doc.edits, changed), `${label} ${count(changed.length, 'note')}`, merge);
    return Math.max(0, there.size - this.composed.notes.length);
  }

  setVelocity(pairs: readonly (readonly [RollNote, number])[]): void {
    if (!pairs.length) return;
    this.rename(pairs.map(([note]) => note));
    this.commitEdits(revalueNotes(this.doc.edits, pairs), `velocity of ${count(pairs.length, 'note')}`, 'velocity');
  }

  /** Add a note; returns how many others are gone, being wholly covered. */
  add(note: Note, pinned: boolean): number {
    const before = this.composed.notes.length;
    const id = `n${++this.serial}`;
    [this.chosen, this.focus] = [new Set([id]), id];
    this.commitEdits(addNote(this.doc.edits, note, id, pinned), pinned ? 'draw a note' : 'accept a note');
    return Math.max(0, before + 1 - this.composed.notes.length);
  }

  discardEdits(): void {
    this.commitEdits(NO_EDITS, `discard ${count(this.edits, 'edit')}`);
  }

  undo(): string | null {
    return this.travel(() => this.history.undo());
  }

  redo(): string | null {
    return this.travel(() => this.history.redo());
  }

  // ---------------------------------------------------------------- what is chosen

  select(ids: ReadonlySet<string>, focus: string | null): void {
    [this.chosen, this.focus] = [ids, focus];
    this.history.settle(); // what is done to other notes is undone for itself
    this.onChange({ notes: false, tracker: false });
  }

  selectAll(): void {
    this.select(new Set(this.composed.notes.map((note) => note.id)), this.focus);
  }

  // ----------------------------------------------------------------

  private rename(notes: readonly RollNote[]): void {
    const names = new Map(notes.map((note) => [note.id, editedId(note)]));
    this.chosen = new Set([...this.chosen].map((id) => names.get(id) ?? id));
    if (this.focus !== null) this.focus = names.get(this.focus) ?? this.focus;
  }

  private commitEdits(edits: Edits, label: string, merge: string | null = null): void {
    this.commit({ ...this.doc, edits }, label, merge);
  }

  private commit(doc: Doc, label: string, merge: string | null): void {
    const before = this.doc;
    this.history.commit(doc, label, merge);
    this.refresh(doc.tracker !== before.tracker);
  }

  private travel(step: () => string | null): string | null {
    const before = this.doc;
    const label = step();
    if (label !== null) this.refresh(this.doc.tracker !== before.tracker);
    return label;
  }

  private openUp(): void {
    this.open = new NoteIndex(openCandidates(this.faint, this.composed, this.doc.edits));
  }

  private refresh(tracker: boolean): void {
    const { edits, shape } = this.doc;
    const notes = compose(this.found, edits, (loose) => this.shape(loose, shape));
    this.composed = new NoteIndex(notes);
    this.openUp();
    if (this.chosen.size || this.focus !== null) {
      const known = new Map(notes.flatMap((note) => members(note).map((one) => [one.id, note.id] as const)));
      // After undo a note that was changed is the one that was found again; joined with another, it is that one.
      const now = (id: string): string => known.get(id) ?? known.get(foundAgain(id)) ?? id;
      this.chosen = new Set([...this.chosen].map(now).filter((id) => known.has(id)));
      if (this.focus !== null) this.focus = now(this.focus);
    }
    this.onChange({ notes: true, tracker });
  }
}

function sameNote(a: Note, b: Note): boolean {
  return a.onset === b.onset && a.offset === b.offset && a.pitch === b.pitch && a.velocity === b.velocity;
}
