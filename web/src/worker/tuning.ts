/** How a recording is tuned: how many cents its notes lie beside those of A = 440 Hz (basic_transcribe/tuning.py). */

export const LISTENED = 30; // seconds of sound that are enough to tell
export const MOST_LISTENED = 120; // seconds, with the silence before and between

const DECIMATION = 4;
const TAPS = 32;
const WINDOW = 2048; // samples after decimation: 0.4 s at 5.5 kHz, so that neighbouring semitones are apart
const HOP = 1024;
const LOWEST = 60; // Hz
const HIGHEST = 2000;
const SOFT = 0.05; // of the loudest peak of the frame: what is below is left out
const SILENT = 1e-3; // and of that of the recording
const SPREAD = 5; // cents, standard deviation of what a peak says
const NEAR = 15; // cents around the likeliest tuning within which peaks agree with it
const AGREEMENT = 0.36; // share of them that is believed
const FEWEST = 10; // peaks that say anything
const LEAST = 12; // cents that the model does not mind
const PLACES = 100; // of a semitone, each a cent wide

/**
 * Cents, -50 to 50, by which the notes of mono samples lie above those of A = 440 Hz; 0 if it is so little that it does
 * not matter, or nothing that the peaks of the spectrum agree upon.
 */
export function estimateTuning(audio: Float32Array, sampleRate: number): number {
  const peaks = peaksOf(spectra(decimated(audio)), sampleRate / DECIMATION);
  if (peaks.length < FEWEST) return 0;
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
  return Math.abs(tuning) >= LEAST && agreeing >= AGREEMENT * all ? tuning : 0;
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

/** Magnitudes up to half the sample rate, of each frame. */
function spectra(audio: Float32Array): Float32Array[] {
  const window = Float64Array.from({ length: WINDOW }, (_, i) => hann(i, WINDOW));
  const frames: Float32Array[] = [];
  for (let start = 0; start === 0 || start + WINDOW <= audio.length; start += HOP) {
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

/** Cents of the spectra's peaks above A = 440 Hz, and how much each of them counts. */
function peaksOf(frames: Float32Array[], sampleRate: number): [cents: number, weight: number][] {
  const first = Math.floor((LOWEST * WINDOW) / sampleRate) + 1;
  const end = Math.min(Math.floor((HIGHEST * WINDOW) / sampleRate) + 1, WINDOW / 2);
  const loudest = frames.map((frame) => frame.subarray(1, end).reduce((a, b) => Math.max(a, b), 0));
  const silent = SILENT * Math.max(...loudest);
  const peaks: [number, number][] = [];
  frames.forEach((frame, n) => {
    const least = Math.max(SOFT * loudest[n]!, silent);
    for (let k = first; k < end; k++) {
      const here = frame[k]!;
      if (!(here > frame[k - 1]! && here >= frame[k + 1]! && here >= least)) continue;
      // The logarithm of a Hann window's peak is close to a parabola.
      const [left, top, right] = [frame[k - 1]!, here, frame[k + 1]!].map((x) => Math.log(Math.max(x, 1e-20)));
      const offset = (0.5 * (left! - right!)) / Math.min(left! - 2 * top! + right!, -1e-6);
      peaks.push([1200 * Math.log2(((k + offset) * sampleRate) / WINDOW / 440), Math.sqrt(here)]);
    }
  });
  return peaks;
}
