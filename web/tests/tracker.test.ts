/** The trackers beside those in Python. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Note } from '../src/engine/types.ts';
import { CHUNK } from '../src/worker/edges.ts';
import { MonophonicTracker } from '../src/worker/monophonic.ts';
import { pictureOf } from '../src/worker/picture.ts';
import { rowsOf, type Grid, type Posteriors } from '../src/worker/posteriors.ts';
import { Recording, type FullSettings } from '../src/worker/recording.ts';
import { Columns } from '../src/worker/store.ts';
import { ClearRows } from '../src/worker/swells.ts';
import { NoteTracker } from '../src/worker/tracker.ts';
import { inOrder, trackerFor, trackNotes, voiceThreshold } from '../src/worker/tracking.ts';
import { CASES, Dice, inventedLine, inventedPosteriors, readNpz, ROOT } from './invented.ts';

const GOLDEN = `${ROOT}tests/golden/posteriors.npz`;

interface Case {
  seed?: number;
  frames: number;
  pitches: number;
  bins: number;
  /** Of a line. */
  start?: number;
  wander?: number;
  others?: number;
  /** Cents; 0 if omitted. */
  tuning?: number;
  settings: Partial<FullSettings>;
  /** Of bends one value in so many is there; all if omitted. */
  every?: number;
  notes: [number, number, number, number, number, number[] | null][];
}

const ALL = CASES.tracker as Case[];
const LINES = CASES.line as Case[];

function source(made: Case): [Posteriors, Grid] {
  const [p, grid] = inTune(made);
  const { tuning = 0 } = made;
  return [p, { ...grid, tuning, frameRate: grid.frameRate * 2 ** (tuning / 1200) }];
}

function inTune({ seed, frames, pitches, bins, start, wander, others }: Case): [Posteriors, Grid] {
  if (!seed) return readNpz(GOLDEN);
  if (start === undefined) return inventedPosteriors(seed, frames, pitches, bins);
  return inventedLine(seed, frames, pitches, bins, { start, wander: wander!, others: others! });
}

function full(settings: Partial<FullSettings>): FullSettings {
  return { minimumPitch: 0, maximumPitch: 127, monophonic: false, ...settings } as FullSettings;
}

/** The notes found while posteriors arrive in blocks of these sizes, again and again. */
function inBlocks(p: Posteriors, grid: Grid, settings: FullSettings, sizes: number[]): [Note[], Recording] {
  const recording = new Recording(grid);
  const tracker = trackerFor(recording, settings);
  const notes: Note[] = [];
  for (let at = 0, i = 0; at < p.frames; i++) {
    const size = Math.min(p.frames - at, sizes[i % sizes.length]!);
    recording.push(rowsOf(p, grid, at, at + size));
    notes.push(...tracker.advance());
    at += size;
  }
  recording.finish(p.frames / grid.frameRate);
  return [inOrder([...notes, ...tracker.finish()], recording.duration), recording];
}

function close(a: number, b: number, tolerance: number, what: string): void {
  assert.ok(Math.abs(a - b) <= tolerance, `${what}: ${a} is not ${b}`);
}

[...ALL, ...LINES].forEach((made, i) => {
  test(`notes of Python, case ${i}`, () => {
    const [p, grid] = source(made);
    const [live, recording] = inBlocks(p, grid, full(made.settings), [p.frames]);
    const notes = trackNotes(recording, full(made.settings));
    assert.deepEqual(notes, live);
    assert.deepEqual(notes.map((n) => [n.pitch, n.velocity]), made.notes.map((n) => [n[2], n[3]]));
    notes.forEach((note, k) => {
      const [onset, offset, , , confidence, bend] = made.notes[k]!;
      close(note.onset, onset, 2e-6, 'onset');
      close(note.offset, offset, 2e-5, 'offset'); // 16 bits
      close(note.confidence, confidence, made.settings.monophonic === false ? 2e-6 : 2e-5, 'confidence'); // 16 bits
      assert.equal(note.bend === null, bend === null);
      if (!note.bend || !bend) return;
      close(note.bend.start, bend[0]!, 2e-6, 'start of a bend');
      const semitones = note.bend.semitones.filter((_, j) => j % (made.every ?? 1) === 0);
      assert.equal(semitones.length, bend.length - 1);
      semitones.forEach((value, j) => close(value, bend[j + 1]!, 2e-4, 'bend'));
    });
  });
});

test('there are cases with and without notes', () => {
  for (const cases of [ALL, LINES]) {
    const counts = cases.map((made) => made.notes.length);
    assert.ok(Math.max(...counts) > 20 && Math.min(...counts) === 0);
  }
});

test('notes do not depend on the blocks', () => {
  const dice = new Dice(99);
  for (const made of [...ALL, ...LINES]) {
    const [p, grid] = source(made);
    const [whole] = inBlocks(p, grid, full(made.settings), [p.frames]);
    const sizes = Array.from({ length: 5 }, () => 1 + dice.below(90));
    const [pieces, recording] = inBlocks(p, grid, full(made.settings), sizes);
    assert.deepEqual(pieces, whole);
    assert.deepEqual(trackNotes(recording, full(made.settings)), whole);
  }
});

test('an unsteady line is a line, until others join it; a steady one is not', () => {
  const kinds = new Map<number, string>();
  for (const made of LINES) {
    if (made.wander === undefined || kinds.has(made.seed!)) continue;
    const [, recording] = inBlocks(...source(made), full(made.settings), [1000]);
    const { onsetThreshold } = full(made.settings);
    const track = (monophonic: boolean | null, threshold = onsetThreshold): string =>
      JSON.stringify(trackNotes(recording, full({ ...made.settings, onsetThreshold: threshold, monophonic })));
    const [own, all, line] = [track(null), track(false), track(true, voiceThreshold(onsetThreshold))];
    assert.notEqual(all, line);
    kinds.set(made.seed!, own === all ? 'all' : own === line ? 'line' : 'both');
  }
  assert.deepEqual([...kinds.values()], ['all', 'line', 'line', 'line', 'both', 'all']);
});

test('a tracker that begins late hears nothing of what lies before', () => {
  const settings = full({ ...ALL[0]!.settings, onsetThreshold: 0.3, minimumNoteLength: 0 });
  const [p, grid] = inventedPosteriors(7, 12 * CHUNK, 12, 3);
  const [, recording] = inBlocks(p, grid, settings, [100]);
  for (let first = CHUNK; first < 8 * CHUNK; first += CHUNK) {
    const [, part] = inBlocks(rowsOf(p, grid, first, p.frames), grid, settings, [1000]);
    for (const Tracker of [NoteTracker, MonophonicTracker]) {
      const found = new Tracker(recording, settings, first).finish();
      const alone = new Tracker(part, settings).finish();
      assert.ok(found.length > 5);
      assert.equal(found.length, alone.length);
      found.forEach(({ onset, offset, bend, ...note }, i) => {
        const { onset: begin, offset: end, bend: curve, ...same } = alone[i]!;
        assert.deepEqual(note, same);
        close(onset, first / grid.frameRate + begin, 1e-9, 'onset');
        close(offset, first / grid.frameRate + end, 1e-9, 'offset');
        assert.deepEqual(bend?.semitones, curve?.semitones);
      });
    }
  }
});

/** A single pitch that sounds as its note posterior says, with triangles in these rows of the others. */
function drawn(note: Float32Array, onsets: [number, number][] = [], offsets: [number, number][] = []): [Posteriors, Grid] {
  const frames = note.length;
  const triangles = (at: [number, number][]): Float32Array => {
    const values = new Float32Array(frames);
    for (const [row, value] of at) values.set([value / 2, value, value / 2], row - 1);
    return values;
  };
  const contour = Float32Array.from({ length: 3 * frames }, (_, i) => note[Math.floor(i / 3)]!);
  const [onset, offset, level] = [triangles(onsets), triangles(offsets), new Float32Array(frames).fill(-20)];
  return [{ frames, note, contour, onset, offset, level }, inventedPosteriors(1, 1, 1, 3)[1]];
}

const THRESHOLDS = { onsetThreshold: 0.5, splitThreshold: 0.5, frameThreshold: 0.3 };
const EVEN = full({ ...THRESHOLDS, onsetDelay: 0, minimumNoteLength: 0 });

test('where a note is clear', () => {
  const rows = (note: Float32Array, first = 0): ClearRows => {
    const [, recording] = inBlocks(...drawn(note), EVEN, [1000]);
    return new ClearRows(recording, EVEN, 0, first);
  };
  const twice = rows(new Float32Array(300).fill(0.2, 0, 10).fill(0.9, 10, 100).fill(0.1, 100, 200).fill(0.9, 200, 250));
  assert.equal(twice.next(52), -1);
  const last = [52, 53, 99, 100, 200, 243];
  assert.deepEqual(last.map((row) => twice.lastBefore(row)), [-1, 52, 98, 99, 99, 242]);
  assert.deepEqual([twice.next(300), twice.next(300), twice.next(300)], [52, 242, -1]);
  assert.deepEqual([twice.swell(52)?.frame, twice.swell(242)?.frame], [10, 200]);
  const late = rows(new Float32Array(70).fill(0.9), 20);
  assert.deepEqual([late.next(62), late.next(63), late.swell(62)?.frame], [-1, 62, 20]);
  assert.deepEqual([late.lastBefore(70), late.lastBefore(76)], [69, 69]); // silence follows
});

test('what is clear is a note, and outlives its end from the very row on by which it is', () => {
  const found = (...made: Parameters<typeof drawn>): number[][][] =>
    [1, 50, 500].map((size) => {
      const [p, grid] = drawn(...made);
      const [notes] = inBlocks(p, grid, EVEN, [size]);
      return notes.map((note) => [Math.round(note.onset * grid.frameRate), Math.round(note.offset * grid.frameRate)]);
    });
  const always = (notes: number[][]): number[][][] => [notes, notes, notes];
  // By which row alone it is clear, where a weaker end lies, and where it ends, as in tests/test_notes.py.
  const rows = [[200, 300, 160], [201, 300, 300], [245, 300, 300], [300, 300, 300], [300, 301, 301]] as const;
  for (const [row, weaker, end] of rows) {
    const note = new Float32Array(500).fill(0.9, 110, 160).fill(0.5, 160, 360);
    note.fill(0.8, row - 42, row - 30).fill(0.8, row - 11, row + 1);
    assert.deepEqual(found(note, [[110, 0.9]], [[160, 0.8], [weaker, 0.4]]), always([[110, end]]), `row ${row}`);
  }
  const swell = new Float32Array(500).fill(0.9, 100, 300);
  assert.deepEqual(found(swell), always([[100, 300]]));
  assert.deepEqual(found(swell, [[142, 0.9]]), always([[142, 300]])); // as soon as it is clear
  assert.deepEqual(found(swell, [[200, 0.8]], [[280, 0.8]]), always([[100, 200], [200, 281]]));
});

test('no note is shorter than the settings allow, however the end of the recording cuts it', () => {
  let cut = 0;
  for (const heard of [true, false]) {
    const [p, grid] = inventedLine(41, 6 * CHUNK, 9, 3, { start: 5, wander: 0, others: 9999 });
    if (!heard) p.offset.fill(0); // no ends but that of the recording
    for (const monophonic of [true, false, null]) {
      const settings = full({ ...ALL[0]!.settings, minimumNoteLength: 100, monophonic });
      for (let frames = 3 * CHUNK; frames < 5 * CHUNK; frames++) {
        const recording = new Recording(grid);
        const tracker = trackerFor(recording, settings);
        recording.push(rowsOf(p, grid, 0, frames));
        const finished = tracker.advance();
        recording.finish((frames - 0.9) / grid.frameRate);
        const notes = inOrder([...finished, ...tracker.finish()], recording.duration);
        for (const { onset, offset } of notes) assert.ok(offset - onset >= 0.1, `${offset} - ${onset}`);
        assert.deepEqual(trackNotes(recording, settings), notes);
        cut += notes.filter((note) => note.offset === recording.duration).length;
      }
    }
  }
  assert.ok(cut > 100);
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
