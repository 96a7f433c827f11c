/** Notes as CSV, the same text as basic_transcribe/exports.py writes. */

import type { Note } from './types.ts';

const HEADER = 'onset_s,offset_s,pitch,velocity,confidence,bend_cents';

/** One line per note; the last column is the mean pitch bend, empty where none was estimated. */
export function toCsv(notes: Note[]): string {
  const lines = notes.map((note) =>
    [
      fixed(note.onset, 6),
      fixed(note.offset, 6),
      note.pitch,
      note.velocity,
      fixed(note.confidence, 4),
      note.bend?.semitones.length ? fixed(100 * mean(note.bend.semitones), 1) : '',
    ].join(','),
  );
  return [HEADER, ...lines, ''].join('\n');
}

/** As toFixed, but what lies halfway goes to the even digit, as in Python. */
function fixed(x: number, digits: number): string {
  const text = x.toFixed(digits);
  const halfway = /^50*$/.test(x.toFixed(digits + 30).slice(-30));
  if (!halfway || Number(text.at(-1)) % 2 === 0) return text;
  const other = (x - Math.sign(x) * 0.75 * 10 ** -digits).toFixed(digits);
  return other;
}

/** Mean in 32 bits, summed in numpy's order. */
function mean(values: Float32Array): number {
  return Math.fround(pairwise(values) / values.length);
}

function pairwise(x: Float32Array): number {
  const n = x.length;
  if (n < 8) return x.reduce((sum, value) => Math.fround(sum + value), -0);
  if (n > 128) {
    const half = (n >> 1) - ((n >> 1) % 8);
    return Math.fround(pairwise(x.subarray(0, half)) + pairwise(x.subarray(half)));
  }
  const sums = x.slice(0, 8);
  let i = 8;
  for (; i + 8 <= n; i += 8) for (let k = 0; k < 8; k++) sums[k]! += x[i + k]!;
  const [a, b, c, d] = [0, 2, 4, 6].map((k) => Math.fround(sums[k]! + sums[k + 1]!));
  let sum = Math.fround(Math.fround(a! + b!) + Math.fround(c! + d!));
  for (; i < n; i++) sum = Math.fround(sum + x[i]!);
  return sum;
}
