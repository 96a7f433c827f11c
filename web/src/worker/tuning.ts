/** How a recording is tuned: how many cents its notes lie beside those of A = 440 Hz (basic_transcribe/tuning.py). */

import { Loudness } from './loudness.ts';

export const LISTENED = 30; // seconds of music that are enough to tell, unless hardly enough peaks agree
const MOST_LISTENED = 120; // seconds, with what is before and between; digital silence is free

const DECIMATION = 4;
const TAPS = 32;
const WINDOW = 2048; // samples after decimation: 0.4 s at 5.5 kHz, so that neighbouring semitones are apart
const HOP = 1024;
const LOWEST = 60; // Hz
const HIGHEST = 2000;
const SOFT = 0.05; // of the loudest peak of the frame: what is below is left out
const SILENT = 1e-3; // and of that of the recording
const MOST = 90; // peaks of a frame; noise has more
const STANDING = 27; // frames, 5 s: what stands still for longer counts no more
const HEARD = (1e-3 * WINDOW) / 4; // a partial 60 dB below full scale
const MAINS = [50, 60]; // Hz
const HUM = 0.4; // Hz around their first nine multiples; no note in tune lies there
const CLOSE = 26; // Hz between peaks that may be sidebands, of notes struck so many times a second
const MANY_CLOSE = 0.2; // share of the peaks that are close
const EVEN = 0.25; // and of these that are equally far apart
const COMBS = 0.25; // share of the pieces with sidebands from which on nothing is believed
const FRAMES = 16; // of a piece, which is taken at once
const SECONDS = 3;
const PIECE = FRAMES * HOP * DECIMATION; // samples
const OVERLAP = DECIMATION * (WINDOW - HOP - 1) + TAPS; // of its last frame that the next piece needs, too
const SPREAD = 5; // cents, standard deviation of what a peak says
const NEAR = 15; // cents around the likeliest tuning within which peaks agree with it
const AGREEMENT = 0.36; // share of them that is believed
const SURE = 0.46; // share that is believed at once; less only after MOST_LISTENED
const FEWEST = 10; // peaks that say anything
const LEAST = 12; // cents that the model does not mind
const PLACES = 100; // of a semitone, each a cent wide

/**
 * Cents, -50 to 50, by which the notes of mono samples lie above those of A = 440 Hz; 0 if it is so little that it does
 * not matter, or nothing that the peaks of the spectrum agree upon.
 */
export function estimateTuning(audio: Float32Array, sampleRate: number): number {
  const estimator = new TuningEstimator(sampleRate);
  estimator.push(audio);
  return estimator.finish();
}

/**
 * Finds how a recording is tuned while it is read, and how much of it must be. What may stand at the head of a tape has
 * no tuning: noise, whose peaks are many, and tones that stand still.
 */
export class TuningEstimator {
  /** Whether more would not be listened to. */
  isEnough = false;
  /** Of what was listened to. */
  readonly loudness: Loudness;
  readonly #rate: number;
  readonly #rest = new Float32Array(PIECE + OVERLAP); // of which no whole piece can be made yet
  #filled = 0;
  #pieces = 0;
  #sounding = 0;
  #combs = 0;
  #age: Uint32Array; // frames for which each bin has been a peak
  readonly #peaks: [cents: number, magnitude: number][] = [];

  constructor(sampleRate: number) {
    this.#rate = sampleRate / DECIMATION;
    this.loudness = new Loudness(sampleRate);
    this.#age = new Uint32Array(Math.min(Math.floor((HIGHEST * WINDOW) / this.#rate) + 2, WINDOW / 2 + 1));
  }

  /** What comes next, of any length; it does not matter in which blocks it comes. */
  push(audio: Float32Array): void {
    for (let at = 0; at < audio.length && !this.isEnough; ) {
      const part = audio.subarray(at, at + this.#rest.length - this.#filled);
      this.#rest.set(part, this.#filled);
      at += part.length;
      this.#filled += part.length;
      if (this.#filled < this.#rest.length) return;
      this.#listen(decimated(this.#rest));
      this.isEnough =
        this.#pieces >= MOST_LISTENED / SECONDS ||
        (this.#sounding >= LISTENED / SECONDS && !isDoubtful(this.#found()[1]));
      this.loudness.push(this.#rest.subarray(0, PIECE));
      this.#rest.copyWithin(0, PIECE);
      this.#filled = OVERLAP;
    }
  }

  /** The tuning in cents, as `estimateTuning` gives it. */
  finish(): number {
    if (!this.isEnough) {
      const rest = this.#rest.subarray(0, this.#filled);
      this.#listen(decimated(rest));
      this.loudness.push(rest);
    }
    const [tuning, share] = this.#found();
    return share >= AGREEMENT ? tuning : 0;
  }

  /** The likeliest tuning, and the share of the peaks that agree on it; zeros if there is none that matters. */
  #found(): [tuning: number, share: number] {
    if (this.#combs > COMBS * this.#pieces) return [0, 0];
    const loudest = this.#peaks.reduce((most, [, magnitude]) => Math.max(most, magnitude), 0);
    const loud = this.#peaks.filter(([, magnitude]) => magnitude >= SILENT * loudest);
    return agreed(loud.map(([cents, magnitude]) => [cents, Math.sqrt(magnitude)]));
  }

  /** Take the peaks of a piece, unless there is no music in it. */
  #listen(audio: Float32Array): void {
    if (audio.length < WINDOW || !audio.some((x) => x !== 0)) return;
    const frames = spectra(audio);
    const peaks = frames.map((frame) => this.#peaksOf(frame));
    const moving = peaks.map((bins) => {
      const age = this.#aged(bins);
      return bins.length <= MOST ? bins.filter((k) => age[k]! <= STANDING) : [];
    });
    this.#pieces += 1;
    if (areMusic(moving.map((bins, n) => bins.filter((k) => frames[n]![k]! >= HEARD)))) this.#sounding += 1;
    if (!areMusic(moving)) return;
    const hertz = moving.map((bins, n) => bins.map((k) => this.#hertzOf(frames[n]!, k)));
    if (isComb(hertz.flatMap((row) => row.slice(1).map((frequency, i) => frequency - row[i]!)))) {
      this.#combs += 1;
      return;
    }
    moving.forEach((bins, n) => {
      bins.forEach((k, i) => {
        const frequency = hertz[n]![i]!;
        if (!isHum(frequency)) this.#peaks.push([1200 * Math.log2(frequency / 440), frames[n]![k]!]);
      });
    });
  }

  /** The bins of a spectrum that are peaks. */
  #peaksOf(frame: Float32Array): number[] {
    const first = Math.floor((LOWEST * WINDOW) / this.#rate) + 1;
    const end = this.#age.length - 1;
    const least = SOFT * frame.subarray(1, end).reduce((a, b) => Math.max(a, b), 0);
    const bins: number[] = [];
    for (let k = first; k < end; k++) {
      const here = frame[k]!;
      if (here > frame[k - 1]! && here >= frame[k + 1]! && here >= least) bins.push(k);
    }
    return bins;
  }

  /** The frames for which each bin has been a peak, with this one. */
  #aged(bins: number[]): Uint32Array {
    const [before, age] = [this.#age, new Uint32Array(this.#age.length)];
    for (const k of bins) age[k] = Math.max(before[k - 1]!, before[k]!, before[k + 1]!) + 1;
    this.#age = age;
    return age;
  }

  /** The frequency of a peak. */
  #hertzOf(frame: Float32Array, k: number): number {
    // The logarithm of a Hann window's peak is close to a parabola.
    const [left, top, right] = [-1, 0, 1].map((step) => Math.log(Math.max(frame[k + step]!, 1e-20)));
    const offset = (0.5 * (left! - right!)) / Math.min(left! - 2 * top! + right!, -1e-6);
    return ((k + offset) * this.#rate) / WINDOW;
  }
}

/** Whether a quarter of the frames of a piece have any of these peaks. */
function areMusic(peaks: number[][]): boolean {
  return peaks.filter((bins) => bins.length > 0).length >= peaks.length / 4;
}

/** Whether a peak is the hum of the mains. */
function isHum(frequency: number): boolean {
  return MAINS.some((mains) => {
    return Math.abs(frequency - mains * Math.round(frequency / mains)) < HUM && frequency < 9.5 * mains;
  });
}

/**
 * Whether many neighbouring peaks are so many Hz apart, all the same: sidebands, which tell how often, not what. A note
 * that is struck again and again at one rate, as sequencers do, has its partials split into them.
 */
function isComb(apart: number[]): boolean {
  const close = apart.filter((distance) => distance < CLOSE);
  if (close.length < Math.max(4, MANY_CLOSE * apart.length)) return false;
  const counts = new Uint32Array(2 * CLOSE);
  for (const distance of close) counts[Math.floor(2 * distance)]! += 1;
  return counts.some((count, i) => i > 0 && count + counts[i - 1]! >= EVEN * close.length);
}

/** Whether such a share of the peaks is believed, but only after MOST_LISTENED. */
function isDoubtful(share: number): boolean {
  return AGREEMENT <= share && share < SURE;
}

/** The tuning on which most peaks agree, and their share; zeros if they are too few, or it does not matter. */
function agreed(peaks: [cents: number, weight: number][]): [tuning: number, share: number] {
  if (peaks.length < FEWEST) return [0, 0];
  const counts = new Float64Array(PLACES);
  let all = 0;
  for (const [cents, weight] of peaks) {
    counts[Math.floor(modulo(cents))]! += weight;
    all += weight;
  }
  const blurred = counts.map((_, i) => {
    return counts.reduce((sum, count, j) => sum + count * Math.exp(-0.5 * (distance(i - j) / SPREAD) ** 2), 0);
  });
  const best = blurred.indexOf(Math.max(...blurred));
  const [left, top, right] = [-1, 0, 1].map((step) => blurred[modulo(best + step)]!) as [number, number, number];
  const place = best + 0.5 + (0.5 * (left - right)) / Math.min(left - 2 * top + right, -1e-9);
  const tuning = modulo(place + 50) - 50;
  const agreeing = counts.reduce((sum, count, i) => sum + (distance(i + 0.5 - tuning) <= NEAR ? count : 0), 0);
  return Math.abs(tuning) >= LEAST ? [tuning, agreeing / all] : [0, 0];
}

/** The place in its semitone. */
function modulo(cents: number): number {
  return ((cents % PLACES) + PLACES) % PLACES;
}

/** Cents between two places, whichever way is shorter. */
function distance(cents: number): number {
  const up = modulo(cents);
  return Math.min(up, PLACES - up);
}

/** Every fourth sample, after a low pass (a sinc under a Hann window). */
function decimated(audio: Float32Array): Float32Array {
  const taps = Float64Array.from({ length: TAPS }, (_, i) => {
    const x = (Math.PI * (i - (TAPS - 1) / 2)) / DECIMATION;
    return (Math.sin(x) / x) * hann(i + 1, TAPS + 2);
  });
  const sum = taps.reduce((a, b) => a + b, 0);
  const length = Math.max(0, Math.ceil(audio.length / DECIMATION) - TAPS / DECIMATION + 1);
  return Float32Array.from({ length }, (_, i) => {
    let value = 0;
    for (let k = 0; k < TAPS; k++) value += taps[k]! * (audio[DECIMATION * i + k] ?? 0);
    return value / sum;
  });
}

function hann(i: number, length: number): number {
  return 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / (length - 1));
}

/** Magnitudes up to half the sample rate, of each whole frame. */
function spectra(audio: Float32Array): Float32Array[] {
  const window = Float64Array.from({ length: WINDOW }, (_, i) => hann(i, WINDOW));
  const frames: Float32Array[] = [];
  for (let start = 0; start + WINDOW <= audio.length; start += HOP) {
    const real = window.map((weight, i) => weight * (audio[start + i] ?? 0));
    const imaginary = new Float64Array(WINDOW);
    transform(real, imaginary);
    frames.push(Float32Array.from({ length: WINDOW / 2 + 1 }, (_, k) => Math.hypot(real[k]!, imaginary[k]!)));
  }
  return frames;
}

/** The discrete Fourier transform, in place: Cooley and Tukey's, of a power of two. */
function transform(real: Float64Array, imaginary: Float64Array): void {
  const n = real.length;
  const swap = (x: Float64Array, i: number, j: number): unknown => ([x[i], x[j]] = [x[j]!, x[i]!]);
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      swap(real, i, j);
      swap(imaginary, i, j);
    }
  }
  for (let size = 2; size <= n; size *= 2) {
    const half = size / 2;
    for (let k = 0; k < half; k++) {
      const [cos, sin] = [Math.cos((-2 * Math.PI * k) / size), Math.sin((-2 * Math.PI * k) / size)];
      for (let a = k; a < n; a += size) {
        const b = a + half;
        const [x, y] = [real[b]! * cos - imaginary[b]! * sin, real[b]! * sin + imaginary[b]! * cos];
        real[b] = real[a]! - x;
        imaginary[b] = imaginary[a]! - y;
        real[a]! += x;
        imaginary[a]! += y;
      }
    }
  }
}
