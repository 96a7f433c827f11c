/** Decoded sound to mono: checked, mixed, with the warnings of basic_transcribe/audio.py. */

import { EngineError } from '../engine/types.ts';

const MIN_FULL_RATE = 16_000; // Hz; below it the upper octaves of a piano lose their partials
const MAX_SAMPLE = 1e6;
const SILENCE = 1e-3;
const CANCELLED = 10 ** -1.5;
const CLIPPED_LEVEL = 0.99;
const CLIPPED_SHARE = 1e-3;

/** Mixes blocks of one recording; what was wrong with it is in `warnings` after the last. */
export class Mixer {
  readonly warnings: string[] = [];
  readonly #rate: number;
  readonly #channels: number;
  #chosen: number | 'mean' | null = null; // known once something sounds
  #mixedEnergy = 0;
  readonly #energy: Float64Array;
  #frames = 0;
  #clipped = 0;

  constructor(sampleRate: number, channels: number) {
    this.#rate = sampleRate;
    this.#channels = channels;
    this.#energy = new Float64Array(channels);
    if (sampleRate < MIN_FULL_RATE) {
      this.warnings.push(`sample rate ${sampleRate} Hz: frequencies above ${sampleRate / 2} Hz are missing`);
    }
  }

  /** The mean of the channels, or the louder one where they cancel each other. */
  mix(block: Float32Array[]): Float32Array {
    const peak = Math.max(...block.map((channel) => this.#peak(channel)));
    this.#frames += block[0]!.length;
    if (peak >= CLIPPED_LEVEL) for (const channel of block) this.#clipped += clippedSamples(channel);
    if (block.length === 1) return block[0]!;
    const mono = meanOf(block);
    const energy = block.map(energyOf);
    const mixedEnergy = energyOf(mono);
    energy.forEach((e, i) => (this.#energy[i]! += e));
    this.#mixedEnergy += mixedEnergy;
    // A stream cannot look ahead over the whole file: the first block that sounds decides.
    if (this.#chosen === null && peak > SILENCE) {
      this.#chosen = 'mean';
      if (cancels(mixedEnergy, energy)) {
        this.#chosen = energy.indexOf(Math.max(...energy));
        this.warnings.push(
          'opposite phase: the channels cancel each other when mixed to mono, so only channel ' +
            `${this.#chosen + 1} was used`,
        );
      }
    }
    return typeof this.#chosen === 'number' ? block[this.#chosen]! : mono;
  }

  /** After the last block. */
  finish(): void {
    const samples = this.#frames * this.#channels;
    if (!samples) this.warnings.push('no samples: there is a header but no audio');
    else if (this.#clipped > CLIPPED_SHARE * samples) {
      const share = ((100 * this.#clipped) / samples).toFixed(1);
      this.warnings.push(`clipped: ${share}% of the samples are cut off at full scale; expect false notes`);
    }
    if (this.#chosen === 'mean' && cancels(this.#mixedEnergy, [...this.#energy])) {
      this.warnings.push(
        'opposite phase: from some point on the channels cancel each other when mixed to mono, so notes are missing',
      );
    }
  }

  /** The largest absolute sample; an EngineError if one is not a finite number of reasonable size. */
  #peak(channel: Float32Array): number {
    let peak = 0;
    for (let i = 0; i < channel.length; i++) {
      const size = Math.abs(channel[i]!);
      if (!(size <= MAX_SAMPLE)) {
        const at = this.#frames + i;
        throw new EngineError(
          `sample ${at} (${(at / this.#rate).toFixed(3)} s) is ${channel[i]}, not a valid value; ` +
            'export the file again as 16 or 24 bit',
        );
      }
      if (size > peak) peak = size;
    }
    return peak;
  }
}

function meanOf(block: Float32Array[]): Float32Array {
  const mono = new Float32Array(block[0]!.length);
  for (const channel of block) for (let i = 0; i < mono.length; i++) mono[i]! += channel[i]! / block.length;
  return mono;
}

function energyOf(x: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * x[i]!;
  return sum;
}

/** The mean of n unrelated channels has 1/n of their mean energy. */
function cancels(mixedEnergy: number, energy: number[]): boolean {
  return mixedEnergy * energy.length < (CANCELLED * energy.reduce((a, b) => a + b, 0)) / energy.length;
}

/** Samples inside a flat run of three or more at full scale; one above full scale counts as flat. */
function clippedSamples(channel: Float32Array): number {
  const flat = (i: number): number => Math.min(1, Math.max(-1, channel[i]!));
  let count = 0;
  for (let i = 2; i < channel.length; i++) {
    const same = flat(i) === flat(i - 1) && flat(i - 1) === flat(i - 2);
    if (same && Math.abs(flat(i)) >= CLIPPED_LEVEL) count++;
  }
  return count;
}

/** Lowest and highest sample of each 10 ms. */
export class Peaks {
  readonly #rate: number;
  #values = new Float32Array(4096);
  #samples = 0;

  constructor(sampleRate: number) {
    this.#rate = sampleRate;
  }

  push(samples: Float32Array): void {
    for (let i = 0; i < samples.length; i++) {
      const at = 2 * Math.floor(((this.#samples + i) * 100) / this.#rate);
      if (at >= this.#values.length) {
        const grown = new Float32Array(2 * this.#values.length);
        grown.set(this.#values);
        this.#values = grown;
      }
      const value = samples[i]!;
      if (value < this.#values[at]!) this.#values[at] = value;
      if (value > this.#values[at + 1]!) this.#values[at + 1] = value;
    }
    this.#samples += samples.length;
  }

  finish(): Float32Array<ArrayBuffer> {
    return this.#values.slice(0, 2 * Math.ceil((this.#samples * 100) / this.#rate));
  }
}
