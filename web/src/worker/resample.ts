/** Another sample rate, by windowed sinc filters (J. O. Smith, "Digital Audio Resampling", 2002). */

const PASS = 0.907; // of the lower Nyquist frequency: up to here nothing is lost
const STOP = 1.043; // from here on nothing is left; what lies between folds into the band above PASS only
const ATTENUATION = 96; // dB
const MOST_PHASES = 1000;

/** Samples in, samples at another rate out; they do not depend on how the input is cut. */
export class Resampler {
  /** Samples a second that come out: about as many as were asked for. */
  readonly rate: number;
  readonly #up: number;
  readonly #down: number;
  readonly #taps: number;
  readonly #filters: Float32Array; // one after the other, by phase
  #buffer: Float32Array<ArrayBuffer>;
  #taken = 0; // input samples
  #given = 0; // output samples
  #start: number; // input sample that the buffer begins with

  constructor(from: number, to: number) {
    [this.#up, this.#down] = ratio(to, from);
    this.rate = (from * this.#up) / this.#down;
    const nyquist = Math.min(from, to) / 2 / from; // in cycles per input sample
    const width = 2 * Math.PI * (STOP - PASS) * nyquist;
    const half = Math.ceil((ATTENUATION - 8) / (2.285 * width) / 2);
    this.#taps = 2 * half;
    this.#filters = filters(this.#up, half, (PASS + STOP) * nyquist);
    this.#start = -half + 1; // silence before the recording
    this.#buffer = new Float32Array(half - 1);
  }

  push(samples: Float32Array): Float32Array {
    if (this.#up === this.#down) return samples;
    this.#taken += samples.length;
    return this.#filter(samples, Infinity);
  }

  /** The end: as many samples as make the recording as long as it was. */
  flush(): Float32Array {
    const wanted = Math.round((this.#taken * this.#up) / this.#down);
    return this.#filter(new Float32Array(this.#taps + Math.ceil(this.#down / this.#up)), wanted);
  }

  #filter(samples: Float32Array, most: number): Float32Array {
    const buffer = new Float32Array(this.#buffer.length + samples.length);
    buffer.set(this.#buffer);
    buffer.set(samples, this.#buffer.length);
    const [up, down, taps, filters] = [this.#up, this.#down, this.#taps, this.#filters];
    // Output k lies at input sample k * down / up, whose filter begins half - 1 samples earlier.
    const half = taps / 2;
    const lastBegin = this.#start + buffer.length - taps;
    const ready = Math.max(0, Math.ceil(((lastBegin + half) * up) / down) - this.#given);
    const out = new Float32Array(Math.max(0, Math.min(ready, most - this.#given)));
    for (let k = 0; k < out.length; k++) {
      const position = (this.#given + k) * down;
      const whole = Math.floor(position / up);
      let i = whole - half + 1 - this.#start;
      const first = (position - whole * up) * taps;
      let [a, b] = [0, 0];
      for (let j = first; j < first + taps; j += 2, i += 2) {
        a += filters[j]! * buffer[i]!;
        b += filters[j + 1]! * buffer[i + 1]!;
      }
      out[k] = a + b;
    }
    this.#given += out.length;
    const begin = Math.floor((this.#given * down) / up) - half + 1;
    const spent = Math.min(buffer.length, Math.max(0, begin - this.#start));
    this.#buffer = buffer.slice(spent);
    this.#start += spent;
    return out;
  }
}

/** Two whole numbers in about this ratio, two cents off at most. */
function ratio(up: number, down: number): [number, number] {
  // Continued fraction, until the numbers grow too large.
  let [p0, q0, p1, q1] = [0, 1, 1, 0];
  let [a, b] = [up, down];
  while (b > 1e-9 * up) {
    const whole = Math.floor(a / b + 1e-12);
    const [p2, q2] = [whole * p1 + p0, whole * q1 + q0];
    if (p2 > MOST_PHASES) break;
    [p0, q0, p1, q1] = [p1, q1, p2, q2];
    [a, b] = [b, a - whole * b];
  }
  return [p1, q1];
}

/** Kaiser-windowed sincs, 2 * half taps for each fraction of a sample; `cutoff` is twice the frequency. */
function filters(phases: number, half: number, cutoff: number): Float32Array {
  const beta = 0.1102 * (ATTENUATION - 8.7);
  const taps = new Float32Array(phases * 2 * half);
  for (let phase = 0; phase < phases; phase++) {
    let sum = 0;
    const at = phase * 2 * half;
    const values = Array.from({ length: 2 * half }, (_, j) => {
      const x = j - half + 1 - phase / phases;
      const window = bessel(beta * Math.sqrt(Math.max(0, 1 - (x / half) ** 2)));
      const value = (x === 0 ? 1 : Math.sin(Math.PI * cutoff * x) / (Math.PI * cutoff * x)) * window;
      sum += value;
      return value;
    });
    values.forEach((value, j) => (taps[at + j] = value / sum)); // each phase passes a constant unchanged
  }
  return taps;
}

/** Modified Bessel function of order 0. */
function bessel(x: number): number {
  let [sum, term] = [1, 1];
  for (let k = 1; term > sum * 1e-12; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
