/** The note tracker beside the one in Python. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Note } from '../src/engine/types.ts';
import type { Grid, Posteriors } from '../src/worker/posteriors.ts';
import { pictureOf } from '../src/worker/picture.ts';
import { Columns } from '../src/worker/store.ts';
import { inOrder, NoteTracker, Recording, trackNotes, type FullSettings } from '../src/worker/tracker.ts';
import { CASES, Dice, inventedPosteriors, readNpz, ROOT, rows } from './invented.ts';

const GOLDEN = `${ROOT}tests/golden/posteriors.npz`;

interface Case {
  seed?: number;
  frames: number;
  pitches: number;
  bins: number;
  settings: Partial<FullSettings>;
  notes: [number, number, number, number, number, number[] | null][];
}

function source(made: Case): [Posteriors, Grid] {
  return made.seed ? inventedPosteriors(made.seed, made.frames, made.pitches, made.bins) : readNpz(GOLDEN);
}

function full(settings: Partial<FullSettings>): FullSettings {
  return { minimumPitch: 0, maximumPitch: 127, ...settings } as FullSettings;
}

/** The notes found while posteriors arrive in blocks of these sizes, again and again. */
function inBlocks(p: Posteriors, grid: Grid, settings: FullSettings, sizes: number[]): [Note[], Recording] {
  const recording = new Recording(grid);
  const tracker = new NoteTracker(recording, settings);
  const notes: Note[] = [];
  for (let at = 0, i = 0; at < p.frames; i++) {
    const size = Math.min(p.frames - at, sizes[i % sizes.length]!);
    recording.push(rows(p, grid, at, at + size));
    notes.push(...tracker.advance());
    at += size;
  }
  recording.finish(p.frames / grid.frameRate);
  return [inOrder([...notes, ...tracker.finish()], recording.duration), recording];
}

function close(a: number, b: number, tolerance: number, what: string): void {
  assert.ok(Math.abs(a - b) <= tolerance, `${what}: ${a} is not ${b}`);
}

(CASES.tracker as Case[]).forEach((made, i) => {
  test(`notes of Python, case ${i}`, () => {
    const [p, grid] = source(made);
    const [live, recording] = inBlocks(p, grid, full(made.settings), [p.frames]);
    const notes = trackNotes(recording, full(made.settings));
    assert.deepEqual(notes, live);
    assert.deepEqual(notes.map((n) => [n.pitch, n.velocity]), made.notes.map((n) => [n[2], n[3]]));
    notes.forEach((note, k) => {
      const [onset, offset, , , confidence, bend] = made.notes[k]!;
      close(note.onset, onset, 2e-6, 'onset');
      close(note.offset, offset, 2e-6, 'offset');
      close(note.confidence, confidence, 2e-6, 'confidence');
      assert.equal(note.bend === null, bend === null);
      if (!note.bend || !bend) return;
      close(note.bend.start, bend[0]!, 2e-6, 'start of a bend');
      assert.equal(note.bend.semitones.length, bend.length - 1);
      note.bend.semitones.forEach((value, j) => close(value, bend[j + 1]!, 2e-4, 'bend'));
    });
  });
});

test('there are cases with and without notes', () => {
  const counts = (CASES.tracker as Case[]).map((made) => made.notes.length);
  assert.ok(Math.max(...counts) > 20 && Math.min(...counts) === 0);
});

test('notes do not depend on the blocks', () => {
  const dice = new Dice(99);
  for (const made of CASES.tracker as Case[]) {
    const [p, grid] = source(made);
    const [whole] = inBlocks(p, grid, full(made.settings), [p.frames]);
    const sizes = Array.from({ length: 5 }, () => 1 + dice.below(90));
    const [pieces, recording] = inBlocks(p, grid, full(made.settings), sizes);
    assert.deepEqual(pieces, whole);
    assert.deepEqual(trackNotes(recording, full(made.settings)), whole);
  }
});

test('columns give back what was put in, and keep no silence', () => {
  const dice = new Dice(5);
  const [groups, per, count] = [7, 3, 1000];
  const values = Float32Array.from({ length: count * groups * per }, (_, i) => {
    const group = Math.floor((i % (groups * per)) / per);
    return group % 2 ? dice.throw() : 0;
  });
  const columns = new Columns(groups, per, 0.01);
  for (let row = 0; row < count; ) {
    const size = Math.min(count - row, 1 + dice.below(100));
    columns.append(size, values.subarray(row * groups * per, (row + size) * groups * per));
    row += size;
    const at = dice.below(row); // also while some rows make no whole block yet
    close(columns.at(at, per + 2), values[(at * groups + 1) * per + 2]!, 1e-5, 'value');
  }
  for (let i = 0; i < values.length; i++) {
    const [row, column] = [Math.floor(i / (groups * per)), i % (groups * per)];
    close(columns.at(row, column), values[i]!, 1e-5, `row ${row}`);
  }
  const column = new Float32Array(2 * 900);
  columns.read(4, 77, 977, column, 1, 2);
  for (let i = 0; i < 900; i++) close(column[1 + 2 * i]!, columns.at(77 + i, 4), 0, `row ${77 + i}`);
  assert.equal(columns.at(count, 1), 0);
  const silent = new Columns(groups, per, 0.01);
  silent.append(100_000, new Float32Array(100_000 * groups * per));
  assert.ok(silent.bytes < 2 * 100_000);
});

test('the picture shows the contour', () => {
  const [p, grid] = inventedPosteriors(2, 333, 5, 3);
  const [, recording] = inBlocks(p, grid, full({}), [100]);
  const picture = pictureOf(recording);
  assert.deepEqual([picture.width, picture.height, picture.lowestPitch], [333, 15, 45]);
  for (const [frame, bin] of [[0, 0], [100, 7], [332, 14]] as const) {
    close((picture.data[bin * 333 + frame]! / 255) ** 2, p.contour[frame * 15 + bin]!, 0.01, 'pixel');
  }
});
