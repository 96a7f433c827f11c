/** The music that make_cases.py invents, invented again; and what both read. */

import { readFileSync } from 'node:fs';

import { unzipSync } from 'fflate';

import type { Note } from '../src/engine/types.ts';
import type { Grid, Posteriors } from '../src/worker/posteriors.ts';

declare const WEB: string;

export const ROOT = `${WEB}../`;

export const CASES = JSON.parse(readFileSync(`${WEB}tests/cases.json`, 'utf8'));

/** Random numbers (Marsaglia's xorshift, 32 bits). */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** 0 to 1. */
  throw(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return (x >>> 0) / 2 ** 32;
  }

  below(n: number): number {
    return Math.floor(this.throw() * n);
  }
}

/** Noise up to a height, to be drawn on; and what makes posteriors of it. */
function canvas(dice: Dice, frames: number, pitches: number, bins: number, height: number) {
  const noise = (width: number, map: (x: number) => number): Float64Array =>
    Float64Array.from({ length: frames * width }, () => map(dice.throw()));
  const faint = (x: number): number => height * x * x * x;
  const onset = noise(pitches, faint);
  const note = noise(pitches, faint);
  const offset = noise(pitches, faint);
  const contour = noise(pitches * bins, faint);
  const level = noise(pitches, (x) => -60 * x);
  const done = (): [Posteriors, Grid] => {
    const [a, b, c, d, e] = [onset, note, offset, contour, level].map((x) => Float32Array.from(x));
    const posteriors = { frames, onset: a!, note: b!, offset: c!, contour: d!, level: e! };
    return [posteriors, { frameRate: 22050 / 256, lowestPitch: 45, pitches, binsPerSemitone: bins, tuning: 0 }];
  };
  return { onset, note, offset, contour, done };
}

/** A line. Its pitches wander so many bins from the middles of their semitones; from a frame on others join it. */
export function inventedLine(
  seed: number,
  frames: number,
  pitches: number,
  bins: number,
  { start, wander, others }: { start: number; wander: number; others: number },
): [Posteriors, Grid] {
  const dice = new Dice(seed);
  const { onset, note, offset, contour, done } = canvas(dice, frames, pitches, bins, 0.1);
  const draw = (first: number, last: number, pitch: number): void => {
    const [strength, clear] = [0.5 + 0.5 * dice.throw(), dice.throw()];
    const drift = wander * (2 * dice.throw() - 1);
    for (let k = -2; k <= 2; k++) {
      for (const [array, at] of [[onset, first + k], [offset, last + k]] as const) {
        if (at < 0 || at >= frames) continue;
        const i = at * pitches + pitch;
        array[i] = Math.max(array[i]!, clear * (1 - Math.abs(k) / 3));
      }
    }
    for (let frame = first; frame < last; frame++) {
      const wave = Math.abs(((frame - first) % 14) / 7 - 1) - 0.5;
      const centre = pitch * bins + (bins >> 1) + drift + wander * wave;
      const nearest = Math.min(pitches - 1, Math.max(0, Math.floor((centre + 0.5) / bins)));
      note[frame * pitches + nearest] = strength * (0.7 + 0.3 * dice.throw());
      for (let bin = 0; bin < pitches * bins; bin++) {
        const i = frame * pitches * bins + bin;
        contour[i] = Math.max(contour[i]!, strength * (1 - Math.abs(bin - centre) / 2));
      }
    }
  };
  let pitch = pitches >> 1;
  for (let at = start; at < frames - 20; ) {
    const last = Math.min(frames - 1, at + 10 + dice.below(80));
    draw(at, last, pitch);
    if (at >= others) draw(at + dice.below(3), last, (pitch + 4) % pitches);
    pitch = Math.min(pitches - 1, Math.max(0, pitch + dice.below(5) - 2));
    at = last + dice.below(2) * dice.below(16);
  }
  return done();
}

export function inventedPosteriors(seed: number, frames: number, pitches: number, bins: number): [Posteriors, Grid] {
  const dice = new Dice(seed);
  const { onset, note, offset, contour, done } = canvas(dice, frames, pitches, bins, 0.3);
  for (let n = 0; n < Math.floor((frames * pitches) / 200); n++) {
    const [pitch, start] = [dice.below(pitches), dice.below(frames)];
    const held = dice.below(8) === 0; // and clearly heard: ends of others within it are none
    const rise = held ? 90 * dice.below(3) : 0; // frames in which it swells, without an onset
    const [hollow, dip] = [dice.below(4) === 0, start + dice.below(90)]; // without a fundamental; where it is low
    const end = Math.min(frames - 1, start + 4 + dice.below(60) + (held ? 150 + rise : 0));
    const [strength, bend] = [0.4 + 0.6 * dice.throw(), dice.below(3) - 1];
    for (let k = -2; k <= 2; k++) {
      for (const [array, at] of [[onset, start + k], [offset, end + k]] as const) {
        if (at < 0 || at >= frames || (rise && array === onset)) continue;
        const i = at * pitches + pitch;
        array[i] = Math.max(array[i]!, strength * (1 - Math.abs(k) / 3));
      }
    }
    for (let frame = start; frame < end; frame++) {
      const risen = Math.min(1, (frame - start + 1) / (rise + 1));
      note[frame * pitches + pitch] = risen * Math.max(strength * (0.7 + 0.3 * dice.throw()), held ? 0.85 : 0);
      if (rise && frame === dip) note[frame * pitches + pitch] = 0.1;
      if (rise && hollow) continue;
      const centre = pitch * bins + (bins >> 1) + (frame > (start + end) / 2 ? bend : 0);
      for (let k = -1; k <= 1; k++) {
        if (centre + k < 0 || centre + k >= pitches * bins) continue;
        contour[frame * pitches * bins + centre + k] =
          strength * (1 - 0.4 * Math.abs(k) * dice.throw() - 0.3 * Math.abs(k));
      }
    }
  }
  return done();
}

export function inventedNotes(seed: number, count: number): Note[] {
  const dice = new Dice(seed);
  const notes: Note[] = [];
  for (let n = 0; n < count; n++) {
    const onset = (dice.throw() * count) / 4;
    const offset = onset + 0.02 + dice.throw() * dice.throw() * 3;
    const [pitch, velocity, confidence] = [40 + dice.below(30), 1 + dice.below(127), dice.throw()];
    let bend: Note['bend'] = null;
    if (dice.below(3)) {
      const step = 256 / 22050;
      const depth = dice.throw() * (dice.below(4) === 0 ? 4 : 0.6);
      const length = Math.max(1, Math.floor((offset - onset) / step));
      const semitones = Float32Array.from({ length }, () => depth * (dice.throw() - 0.3));
      bend = { start: onset - 0.005, step, semitones };
    }
    notes.push({ onset, offset, pitch, velocity, confidence, bend });
  }
  return notes.sort((a, b) => a.onset - b.onset || a.pitch - b.pitch);
}

/** Four triads one after the other, so many cents too high, held or struck so many times a second; with noise, with hum. */
export function inventedChords(
  cents: number,
  noise: number,
  rate: number,
  seconds: number,
  hum = 0,
  struck = 0,
): Float32Array {
  const dice = new Dice(51);
  const length = Math.floor(seconds * rate);
  const each = Math.ceil(length / 4);
  return Float32Array.from({ length }, (_, i) => {
    const root = [48, 53, 55, 60][Math.floor(i / each)]!;
    const since = struck ? (i / rate) % (1 / struck) : i / rate;
    let [chord, mains] = [0, 0];
    for (const step of [0, 4, 7]) {
      const frequency = 440 * 2 ** ((root + step - 69 + cents / 100) / 12);
      for (let k = 1; k <= 5; k++) chord += Math.sin(2 * Math.PI * k * frequency * since) / k;
    }
    for (let k = 1; k <= 5; k++) mains += Math.sin((2 * Math.PI * k * hum * i) / rate);
    return 0.1 * (chord * (struck ? Math.exp(-6 * since) : 1) + mains) + noise * (dice.throw() - 0.5);
  });
}

/** Posteriors as `--npz` writes them. */
export function readNpz(path: string): [Posteriors, Grid] {
  const members = unzipSync(readFileSync(path));
  const member = (name: string): [number[], Float32Array | Float64Array | BigInt64Array] => {
    const bytes = members[`${name}.npy`]!.slice();
    const end = 10 + new DataView(bytes.buffer).getUint16(8, true);
    const [, kind, shape] = /'descr': '<(..)'.*'shape': \((.*?)\)/.exec(new TextDecoder().decode(bytes.slice(10, end)))!;
    const data = bytes.slice(end).buffer;
    const values = { f4: Float32Array, f8: Float64Array, i8: BigInt64Array }[kind as 'f4' | 'f8' | 'i8'];
    return [shape!.split(',').filter((n) => n.trim()).map(Number), new values(data)];
  };
  const array = (name: string): Float32Array => member(name)[1] as Float32Array;
  const [frames, pitches] = member('note')[0] as [number, number];
  const bins = member('contour')[0][1]! / pitches;
  const [onset, note, offset, contour, level] = ['onset', 'note', 'offset', 'contour', 'level'].map(array);
  return [
    { frames, onset: onset!, note: note!, offset: offset!, contour: contour!, level: level! },
    {
      frameRate: Number(member('frame_rate')[1][0]),
      lowestPitch: Number(member('lowest_pitch')[1][0]),
      pitches,
      binsPerSemitone: bins,
      tuning: 0,
    },
  ];
}
