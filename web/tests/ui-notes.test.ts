/** Notes on the roll: what is found, what is done by hand, and the way back. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { shape } from '../src/engine/shape.ts';
import type { Note } from '../src/engine/types.ts';
import { NO_EDITS, compose, countEdits, heldShift, movedNote, openCandidates, stretchedNote } from '../src/ui/document.ts';
import type { RollNote } from '../src/ui/document.ts';
import { Editor, PLAIN } from '../src/ui/editor.ts';
import { History } from '../src/ui/history.ts';
import { NoteIndex, neighbour } from '../src/ui/index.ts';
import { DEFAULTS, madeUp, random } from './fake-engine.ts';

const SEEDS = Array.from({ length: 30 }, (_, i) => i + 1);
const plain = ({ onset, offset, pitch, velocity }: Note) => ({ onset, offset, pitch, velocity });

function note(onset: number, offset: number, pitch: number): Note {
  return { onset, offset, pitch, velocity: 80, confidence: 0.9, bend: null };
}

function editorWith(found: readonly Note[]): Editor {
  const editor = new Editor(shape, DEFAULTS);
  editor.begin(DEFAULTS);
  editor.setFound(found);
  return editor;
}

/** Does something that a person might do to notes, by chance. */
function tinker(editor: Editor, next: () => number): void {
  const { notes } = editor.notes;
  const chosen = notes.filter(() => next() < 0.1);
  const deed = Math.floor(next() * 6);
  const moved = (n: Note): Note => movedNote(n, next() - 0.5, Math.floor(next() * 5) - 2);
  const stretched = (n: Note): Note => stretchedNote(n, n.onset - next() / 4, n.offset + next() / 4);
  if (deed === 0) editor.remove(chosen);
  else if (deed === 1) editor.replace(chosen.map((n) => [n, moved(n)] as const), 'move');
  else if (deed === 2) editor.replace(chosen.map((n) => [n, stretched(n)] as const), 'stretch');
  else if (deed === 3) editor.setVelocity(chosen.map((n) => [n, n.velocity + 30 * next()] as const));
  else if (deed === 4) editor.add(note(10 * next(), 10 + next(), 40 + Math.floor(40 * next())), true);
  else editor.setShape(next() < 0.5 ? { quantize: '1/16' } : { scale: 'D dorian' });
}

function assertTidy(notes: readonly RollNote[]): void {
  const ends = new Map<number, number>();
  assert.equal(new Set(notes.map((n) => n.id)).size, notes.length);
  notes.forEach((n, i) => {
    assert.ok(n.onset >= 0 && n.offset > n.onset && n.velocity >= 1 && n.velocity <= 127);
    assert.ok(i === 0 || notes[i - 1].onset <= n.onset);
    assert.ok(n.onset >= (ends.get(n.pitch) ?? 0) - 1e-9, `${n.pitch} overlaps at ${n.onset}`);
    ends.set(n.pitch, n.offset);
  });
}

test('whatever is done by hand, notes are sorted and free of overlaps, and undo leads back', () => {
  for (const seed of SEEDS) {
    const next = random(seed);
    const editor = editorWith(madeUp(80, 10, seed));
    const first = editor.notes.notes.map(plain);
    for (let i = 0; i < 12; i++) {
      tinker(editor, next);
      assertTidy(editor.notes.notes);
    }
    const last = editor.notes.notes.map(plain);
    let steps = 0;
    while (editor.undo() !== null) steps++;
    assert.deepEqual(editor.notes.notes.map(plain), first);
    for (let i = 0; i < steps; i++) editor.redo();
    assert.deepEqual(editor.notes.notes.map(plain), last);
  }
});

test('what was done by hand outlives finding the notes again', () => {
  const found = madeUp(60, 10);
  const editor = editorWith(found);
  const [removed, moved, softer] = [editor.notes.notes[5], editor.notes.notes[15], editor.notes.notes[25]];
  editor.remove([removed]);
  editor.replace([[moved, movedNote(moved, 0.02, 12)]], 'move');
  editor.setVelocity([[softer, 3]]);
  editor.add(note(9.5, 9.9, 100), true);
  const after = (): Note[] => editor.notes.notes.map(plain) as Note[];
  const before = after();
  // Found with other settings: some notes fewer, all a little elsewhere.
  const again = found.filter((_, i) => i % 7 !== 3);
  editor.setFound(again.map((n) => ({ ...n, onset: n.onset + 0.011, offset: n.offset + 0.005 })));
  const has = (n: Note): boolean => after().some((m) => JSON.stringify(plain(m)) === JSON.stringify(plain(n)));
  assert.ok(has({ ...movedNote(moved, 0.02, 12) }));
  assert.ok(has({ ...softer, velocity: 3 }));
  assert.ok(has(note(9.5, 9.9, 100)));
  assert.ok(!after().some((n) => n.pitch === removed.pitch && Math.abs(n.onset - removed.onset) < 0.03));
  assert.ok(!after().some((n) => n.pitch === moved.pitch && Math.abs(n.onset - moved.onset) < 0.03));
  assert.equal(editor.edits, 4);
  editor.setFound(found);
  assert.deepEqual(after(), before);
  editor.discardEdits();
  assert.deepEqual(after(), found.map(plain));
});

test('scale and grid leave alone what was moved by hand, and go on shaping what was only made louder', () => {
  const editor = editorWith([note(0.1, 0.4, 61), note(1.1, 1.4, 61), note(2.1, 2.4, 61)]);
  const [first, second] = editor.notes.notes;
  editor.replace([[first, movedNote(first, 0.03, 0)]], 'move');
  editor.setVelocity([[second, 100]]);
  editor.setShape({ quantize: '1/4', scale: 'C major' });
  assert.deepEqual(editor.notes.notes.map(({ onset, pitch }) => [Number(onset.toFixed(3)), pitch]), [
    [0.13, 61],
    [1, 60],
    [2, 60],
  ]);
});

test('a note drawn over others wins: they end where it begins, or begin where it ends', () => {
  const drawn = { ...note(1, 2, 60), id: 'n1', pinned: true };
  const found = [note(0.5, 1.5, 60), note(1.6, 2.5, 60), note(1, 2, 62)];
  const notes = compose(found, { kept: [drawn], removed: [] });
  assert.deepEqual(notes.map(({ onset, offset, pitch }) => [onset, offset, pitch]), [
    [0.5, 1, 60],
    [1, 2, 60],
    [1, 2, 62],
    [2, 2.5, 60],
  ]);
});

test('a note that is moved onto another of its pitch takes the place that it needs, and gives it back', () => {
  const found = [note(1, 2, 60), note(3, 4, 60), note(3, 4, 61)];
  const times = (editor: Editor): number[][] =>
    editor.notes.notes.filter(({ pitch }) => pitch === 60).map(({ onset, offset }) => [onset, offset]);
  const places: [number, number[][]][] = [
    [1.5, [[2.5, 3.5], [3.5, 4]]],
    [2.5, [[3, 3.5], [3.5, 4.5]]],
    [4, [[3, 4], [5, 6]]],
  ];
  for (const changedBefore of [false, true]) {
    const editor = editorWith(found);
    // What was changed by hand before gives way as what was found does.
    if (changedBefore) editor.replace([[editor.notes.notes[1], { ...found[1], velocity: 90 }]], 'move');
    const before = times(editor);
    let at = 0;
    for (const [by, expected] of places) {
      const first = editor.notes.notes.find((n) => n.offset - n.onset === 1 && n.onset === 1 + at);
      assert.ok(first);
      assert.equal(editor.replace([[first, movedNote(first, by - at, 0)]], 'move'), 0);
      assert.deepEqual(times(editor), expected);
      at = by;
    }
    for (const _ of places) editor.undo();
    assert.deepEqual(times(editor), before);
  }
  // What gave way goes on doing so when it is made louder.
  const louder = editorWith(found);
  for (const [i, by] of [[1, -0.5], [0, 1]]) {
    const one = louder.notes.notes[i];
    louder.replace([[one, movedNote(one, by, 0)]], 'move');
  }
  assert.deepEqual(times(louder), [[2, 3], [3, 3.5]]);
  louder.setVelocity([[louder.notes.notes[1], 100]]);
  assert.deepEqual(times(louder), [[2, 3], [3, 3.5]]);
  // Of two that come to lie on each other one is left, and it is said.
  const editor = editorWith(found);
  assert.equal(editor.replace([[editor.notes.notes[2], movedNote(editor.notes.notes[2], 0, -1)]], 'move'), 1);
  assert.equal(editor.add(note(0.5, 2.5, 60), true), 1);
  editor.undo();
  editor.undo();
  assert.equal(editor.notes.notes.length, 3);
});

test('a note is stretched as far as its neighbours', () => {
  const editor = editorWith([note(1, 2, 60), note(2.5, 3, 61), note(3, 3.2, 60), note(5, 6, 60)]);
  const [, , middle] = editor.notes.notes;
  const longer = stretchedNote(middle, 0.5, 9, editor.notes.room(middle));
  assert.deepEqual([longer.onset, longer.offset], [2, 5]);
  assert.equal(editor.replace([[middle, longer]], 'stretch'), 0);
  assert.equal(editor.notes.notes.length, 4);
  assert.deepEqual(editor.notes.room(note(0.1, 0.2, 60)), [0, 1]);
  assert.deepEqual(editor.notes.room(note(7, 8, 60)), [6, Infinity]);
});

test('notes that grid or scale made one are deleted, moved and made softer as one', () => {
  for (const settings of [{ quantize: '1/4' }, { scale: 'C major' }] as const) {
    // Two that begin on one point of the grid, or that the scale puts on one pitch, and one apart.
    const pair = settings.quantize ? [note(0.9, 1.2, 60), note(1.22, 1.3, 60)] : [note(1, 1.4, 60), note(1.01, 1.3, 61)];
    const start = (): Editor => {
      const editor = editorWith([...pair, note(3, 3.4, 72)]);
      editor.setShape(settings);
      assert.deepEqual(editor.notes.notes.map(({ pitch }) => pitch), [60, 72]);
      return editor;
    };
    const deleted = start();
    deleted.remove([deleted.notes.notes[0]]);
    assert.deepEqual(deleted.notes.notes.map(({ pitch }) => pitch), [72]);

    const moved = start();
    moved.replace([[moved.notes.notes[0], movedNote(moved.notes.notes[0], 0, 5)]], 'move');
    assert.deepEqual(moved.notes.notes.map(({ pitch }) => pitch), [65, 72]);
    assert.equal(moved.edits, 1);

    const softer = start();
    const [first] = softer.notes.notes;
    softer.select(new Set([first.id]), first.id);
    for (const velocity of [60, 40]) {
      softer.setVelocity(softer.chosenNotes.map((n) => [n, velocity] as const));
      assert.deepEqual(softer.chosenNotes.map((n) => n.velocity), [velocity]);
    }
    assert.deepEqual(softer.notes.notes.map((n) => n.velocity), [40, 80]);
  }
});

test('an edit that is undone by hand is none', () => {
  const editor = editorWith(madeUp(20, 5));
  editor.add(note(1, 2, 90), true);
  assert.equal(editor.edits, 1);
  editor.remove(editor.chosenNotes);
  assert.equal(editor.edits, 0);
  assert.equal(countEdits(NO_EDITS), 0);
});

test('a note that was changed stays chosen, also after undo', () => {
  const editor = editorWith(madeUp(20, 5));
  const [first] = editor.notes.notes;
  editor.select(new Set([first.id]), first.id);
  editor.replace([[first, movedNote(first, 0, 1)]], 'move');
  assert.equal(editor.focused?.pitch, first.pitch + 1);
  editor.undo();
  assert.equal(editor.focused?.id, first.id);
  assert.deepEqual([...editor.selected], [first.id]);
});

test('a note that stays where it was is no edit, and one that is gone does not come back', () => {
  const editor = editorWith([note(1, 2, 60), note(3, 4, 60)]);
  const [first, second] = editor.notes.notes;
  editor.replace([[first, movedNote(first, 0, 0)]], 'move');
  assert.deepEqual([editor.edits, editor.undoLabel], [0, null]);
  editor.remove([first]);
  editor.replace([[first, movedNote(first, 0.1, 0)], [second, movedNote(second, 0.1, 0)]], 'move');
  assert.deepEqual(editor.notes.notes.map(({ onset }) => onset), [3.1]);
});

test('changes to other notes are undone for themselves', () => {
  const editor = editorWith([note(1, 2, 60), note(3, 4, 60)]);
  for (const place of [0, 1]) {
    const one = editor.notes.notes[place];
    editor.select(new Set([one.id]), one.id);
    for (let i = 0; i < 2; i++) editor.replace(editor.chosenNotes.map((n) => [n, movedNote(n, 0, 1)] as const), 'move', 'move');
  }
  assert.deepEqual(editor.notes.notes.map(({ pitch }) => pitch), [62, 62]);
  editor.undo();
  assert.deepEqual(editor.notes.notes.map(({ pitch }) => pitch), [62, 60]);
});

test('notes that are moved together keep their distances at the edges', () => {
  const notes = [note(0.1, 0.2, 30), note(0.4, 0.5, 40), note(2, 3, 100)];
  assert.deepEqual(heldShift(notes, -0.25, 12), [-0.1, 8]);
  assert.deepEqual(heldShift(notes, 0.25, -12), [0.25, -9]);
});

test('a recording that was open is put back with its edits and the way back', () => {
  const editor = editorWith([note(1, 2, 60), note(3, 4, 60)]);
  editor.setCandidates([note(5, 6, 60)]);
  editor.remove([editor.notes.notes[0]]);
  const before = [editor.doc, editor.notes.notes, editor.candidates.notes, editor.selected];
  const putBack = editor.begin(DEFAULTS);
  editor.setFound([note(0, 1, 50)]);
  assert.deepEqual([editor.edits, editor.undoLabel, editor.candidates.notes.length], [0, null, 0]);
  putBack();
  assert.deepEqual([editor.doc, editor.notes.notes, editor.candidates.notes, editor.selected], before);
  editor.undo();
  assert.equal(editor.notes.notes.length, 2);
});

test('faint notes are offered where there is no note, and not where one was removed', () => {
  const [present, gone, free] = [note(1, 2, 60), note(3, 4, 60), note(5, 6, 60)];
  const editor = editorWith([present, gone]);
  editor.remove([editor.notes.notes[1]]);
  const open = openCandidates([note(1.5, 2.5, 60), note(3.5, 3.8, 60), free], editor.notes, editor.doc.edits);
  assert.deepEqual(open, [free]);
});

test('a bend moves with its note and is cut with it', () => {
  const semitones = Float32Array.from({ length: 101 }, (_, i) => i / 100);
  const bent = { ...note(1, 2, 60), bend: { start: 1, step: 0.01, semitones } };
  assert.equal(movedNote(bent, 0.5, 0).bend?.start, 1.5);
  assert.equal(movedNote(bent, -9, 0).bend?.start, 0);
  const { bend } = stretchedNote(bent, 1.25, 1.5);
  assert.ok(bend && Math.abs(bend.start - 1.25) < 1e-9);
  assert.deepEqual([bend.semitones.length, bend.semitones[0].toFixed(2)], [25, '0.25']);
});

test('all settings are reset at once, and edits stay', () => {
  const editor = editorWith([note(1, 2, 61), note(3, 4, 60)]);
  editor.remove([editor.notes.notes[1]]);
  editor.setShape({ scale: 'C major' });
  editor.setTracker({ onsetThreshold: 0.2 });
  const { doc } = editor;
  editor.resetSettings(DEFAULTS);
  assert.deepEqual([editor.doc.tracker, editor.doc.shape], [DEFAULTS, PLAIN]);
  assert.deepEqual(editor.notes.notes.map(({ pitch }) => pitch), [61]);
  editor.undo();
  assert.equal(editor.doc, doc);
});

test('changes of one kind that follow closely are undone together', () => {
  let now = 0;
  const history = new History(0, () => now);
  for (const value of [1, 2, 3]) history.commit(value, 'slide', 'slider');
  now = 5000;
  history.commit(4, 'slide', 'slider');
  assert.deepEqual([history.undo(), history.value], ['slide', 3]);
  assert.deepEqual([history.undo(), history.value], ['slide', 0]);
  assert.deepEqual([history.undo(), history.redoLabel], [null, 'slide']);
  history.redo();
  history.commit(9, 'other');
  assert.equal(history.redo(), null);
});

test('notes of a stretch of time are found as by looking at all of them', () => {
  for (const seed of SEEDS) {
    const next = random(seed);
    const notes = madeUp(200, 20, seed);
    const index = new NoteIndex(notes);
    const from = 22 * next() - 1;
    const to = from + 4 * next();
    const seen: Note[] = [];
    index.forEach(from, to, (n) => seen.push(n));
    assert.deepEqual(seen, notes.filter((n) => n.offset > from && n.onset < to));
    const target = notes[Math.floor(next() * notes.length)];
    assert.equal(index.at((target.onset + target.offset) / 2, target.pitch), target);
  }
});

test('arrow keys reach every note in time, and go up and down in pitch', () => {
  const notes = madeUp(50, 10);
  let here: Note | null = notes[0];
  const seen = [here];
  while ((here = neighbour(notes, here, 'right'))) seen.push(here);
  assert.deepEqual(seen, notes);
  const chord = [note(0, 1, 60), note(0, 1, 64), note(0, 1, 67), note(3, 4, 65)];
  assert.equal(neighbour(chord, chord[0], 'up'), chord[1]);
  assert.equal(neighbour(chord, chord[1], 'up'), chord[2]);
  assert.equal(neighbour(chord, chord[2], 'down'), chord[1]);
  assert.equal(neighbour(chord, chord[0], 'down'), null);
});
