/** What is made of notes, beside what Python makes of them. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';

import { toCsv } from '../src/engine/csv.ts';
import { parseScale, SCALES } from '../src/engine/keys.ts';
import { toMidi } from '../src/engine/midi.ts';
import { shape } from '../src/engine/shape.ts';
import { EngineError, type MidiOptions, type Note, type ShapeSettings } from '../src/engine/types.ts';
import { CASES, inventedNotes } from './invented.ts';

const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex');

test('MIDI files say what those of Python say', () => {
  const cases = CASES.midi as { seed: number; count: number; options: MidiOptions; messages: number; sha256: string }[];
  for (const { seed, count, options, messages, sha256: expected } of cases) {
    const notes = inventedNotes(seed, count);
    const { tuning } = options;
    if (tuning) {
      const semitones = Float32Array.of(tuning / 100);
      notes.forEach((note, i) => i % 4 || (note.bend = { start: note.onset, step: 0.01, semitones }));
    }
    const said = messagesOf(toMidi(notes, options));
    const what = `${count} notes, ${JSON.stringify(options)}`;
    assert.equal(said.length, messages, what);
    assert.equal(sha256(said.join('\n')), expected, what);
  }
});

/** What a MIDI file says, however it is packed: the resolution; track, tick and bytes of each message. */
function messagesOf(file: Uint8Array): string[] {
  const view = new DataView(file.buffer);
  const said = [String(view.getUint16(12))];
  let at = 14;
  const number = (): number => {
    let value = 0;
    for (;;) {
      const byte = file[at++]!;
      value = (value << 7) | (byte & 0x7f);
      if (byte < 0x80) return value;
    }
  };
  for (let track = 0; track < view.getUint16(10); track++) {
    const end = at + 8 + view.getUint32(at + 4);
    let [tick, status] = [0, 0];
    for (at += 8; at < end; ) {
      tick += number();
      const begin = at;
      if (file[at]! >= 0x80) status = file[at++]!;
      if (status === 0xff) {
        at++;
        const length = number();
        at += length;
      } else at += (status & 0xe0) === 0xc0 ? 1 : 2;
      const bytes = Buffer.from(file.subarray(begin, at)).toString('hex');
      said.push(`${track} ${tick} ${file[begin]! < 0x80 ? status.toString(16) : ''}${bytes}`);
    }
    assert.equal(at, end);
  }
  assert.equal(at, file.length);
  return said;
}

test('a MIDI file without notes', () => {
  const data = toMidi([], { tempo: 120, bends: 'channels', title: '' });
  assert.ok(new TextDecoder('latin1').decode(data).includes('basic_transcribe'));
});

test('what cannot be written is said', () => {
  const note: Note = { onset: 0, offset: 1, pitch: 60, velocity: 80, confidence: 1, bend: null };
  const options: MidiOptions = { tempo: 120, bends: 'plain', title: '' };
  assert.throws(() => toMidi([{ ...note, onset: NaN }], options), EngineError);
  assert.throws(() => toMidi([{ ...note, pitch: 128 }], options), EngineError);
  assert.throws(() => toMidi([note], { ...options, tempo: 0 }), EngineError);
  assert.throws(() => toMidi([note], { ...options, timeSignature: [4, 3] }), EngineError);
  assert.throws(() => toMidi([note], { ...options, tempo: 3.9 }), EngineError);
  assert.throws(() => toMidi([note], { ...options, tempo: 1000, timeSignature: [6, 8] }), EngineError);
  assert.ok(toMidi([note], { ...options, tempo: 4, firstBeat: 1.5 }).length); // neither too slow nor too fast
});

test('CSV is that of Python, letter for letter', () => {
  for (const { seed, count, sha256: expected } of CASES.csv as { seed: number; count: number; sha256: string }[]) {
    const notes = inventedNotes(seed, count);
    const halves = notes.map((n, i) => ({ ...n, onset: i / 128, offset: (i + 3) / 128, confidence: (i % 33) / 32 }));
    assert.equal(sha256(toCsv([...notes, ...halves])), expected);
  }
});

test('shapes are those of Python', () => {
  for (const { seed, count, settings, notes, bends, tuning } of CASES.shape as {
    seed: number;
    count: number;
    settings: ShapeSettings;
    notes: number[][];
    bends: number;
    tuning: number;
  }[]) {
    const given = withoutOverlaps(inventedNotes(seed, count)).map((note, id) => ({ ...note, id }));
    const before = structuredClone(given);
    const shaped = shape(given, settings, tuning);
    assert.deepEqual(given, before); // it changes nothing in place
    assert.ok(shaped.every((note) => Number.isInteger(note.id)));
    assert.equal(shaped.length, notes.length);
    shaped.forEach((note, i) => {
      const written = [note.onset, note.offset, note.pitch, note.velocity, note.confidence];
      written.forEach((value, k) => assert.ok(Math.abs(value - notes[i]![k]!) < 2e-6, `note ${i}: ${written}`));
    });
    const sum = shaped.flatMap((n) => [...(n.bend?.semitones ?? [])]).reduce((a, b) => a + b, 0);
    assert.ok(Math.abs(sum - bends) < 0.01);
  }
});

test('scales by name', () => {
  assert.deepEqual([...parseScale('C minor')], [...parseScale('cm')]);
  assert.deepEqual([...parseScale('F♯  Harmonic-Minor')].sort((a, b) => a - b), [1, 2, 5, 6, 8, 9, 11]);
  for (const name of SCALES) assert.ok(parseScale(`Cb ${name}`).has(11));
  for (const name of ['', 'H major', 'C majorish', 'C constructor']) assert.throws(() => parseScale(name), EngineError);
});

function withoutOverlaps(notes: Note[]): Note[] {
  const last = new Map<number, number>();
  return notes.filter((note) => {
    const free = note.onset >= (last.get(note.pitch) ?? 0);
    if (free) last.set(note.pitch, note.offset);
    return free;
  });
}
