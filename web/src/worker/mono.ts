/** Decoded sound to mono: checked, mixed, with the warnings of basic_transcribe/audio.py. */

import { EngineError } from '../engine/types.ts';
import { Loudness } from './loudness.ts';

const MIN_FULL_RATE = 16_000; // Hz; below it the upper octaves of a piano lose their partials
const MAX_SAMPLE = 1e6;
const SILENCE = 1e-4;
const CANCELLED = 10 ** -1.5;
const CLIPPED_LEVEL = 0.99;
const CLIPPED_SHARE = 1e-3;
const INAUDIBLE = 1e-5; // of the loudest sample
const QUIET = 1e-2; // of the loudest tenth of a second: hardly any velocities are left
const LOST = 1e-3; // notes get lost, in 16 bits
const FLOOR = 1e-5; // mean square, -50 dB; what is softer may be noise
const UNUSED = 1e-4; // of the loudest channel's mean square, 40 dB: what is below is silent beside it
const FADE_SECONDS = 0.02; // in which a channel that begins to sound gets its share

/** Mixes blocks of one recording; what was wrong with it is in `warnings` after the last. */
export class Mixer {
  readonly warnings: string[] = [];
  readonly #rate: number;
  readonly #channels: number;
  readonly #second: number;
  #held: Float32Array[]; // less than a second
  #mixed = 0; // samples so far
  #cancels = false; // whether the channels do, in the last second
  #louder = 0;
  #firstCancelled = -1;
  #replaced = 0;
  readonly #used = new Set<number>();
  #weights: number[];
  #before: number[]; // those that are faded out
  #fade = 0; // samples that this takes
  #faded = 0; // and took so far
  readonly #sounded: boolean[];
  #loudestChannel = 0; // mean square so far
  readonly #loudness: Loudness;
  #frames = 0;
  #clipped = 0;
  #over = 0;
  #loudest = 0;

  constructor(sampleRate: number, channels: number) {
    this.#rate = sampleRate;
    this.#channels = channels;
    this.#second = Math.round(sampleRate);
    this.#held = Array.from({ length: channels }, () => new Float32Array(0));
    this.#weights = this.#before = new Array<number>(channels).fill(1 / channels);
    this.#sounded = new Array<boolean>(channels).fill(false);
    this.#loudness = new Loudness(sampleRate);
    if (sampleRate < MIN_FULL_RATE) {
      this.warnings.push(`sample rate ${sampleRate} Hz: frequencies above ${sampleRate / 2} Hz are missing`);
    }
  }

  /**
   * All whole seconds not given yet: the mean of the channels, or the louder one where they cancel each other. A channel
   * that is silent beside the others is left out until the first second in which it is not.
   */
  mix(block: Float32Array[]): Float32Array {
    const peak = Math.max(...block.map((channel) => this.#peak(channel)));
    this.#frames += block[0]!.length;
    this.#loudest = Math.max(this.#loudest, peak);
    if (peak >= CLIPPED_LEVEL) {
      for (const channel of block) {
        const { flat, beyond } = flatAndBeyond(channel);
        this.#clipped += flat;
        this.#over += beyond;
      }
    }
    if (block.length === 1) {
      this.#loudness.push(block[0]!);
      return block[0]!;
    }
    const held = block.map((channel, i) => joined(this.#held[i]!, channel));
    const whole = held[0]!.length - (held[0]!.length % this.#second);
    this.#held = held.map((channel) => channel.slice(whole));
    return this.#mixedOf(held.map((channel) => channel.subarray(0, whole)));
  }

  /** The rest, after the last block. */
  finish(): Float32Array {
    const rest = this.#mixedOf(this.#held);
    if (this.#used.size) {
      const [length, first] = [this.#replaced, this.#firstCancelled].map((n) => +(n / this.#rate).toFixed(2));
      const used = [...this.#used].sort((a, b) => a - b).map((channel) => channel + 1);
      this.warnings.push(
        `opposite phase: for ${length} s, first at ${first} s, the channels cancel each other when mixed to mono, ` +
          `so only channel ${used.join(' or ')} was used there`,
      );
    }
    const samples = this.#frames * this.#channels;
    if (!samples) this.warnings.push('no samples: there is a header but no audio');
    else if (this.#clipped > CLIPPED_SHARE * samples) {
      const share = ((100 * this.#clipped) / samples).toFixed(1);
      this.warnings.push(`clipped: ${share}% of the samples are cut off at full scale; expect false notes`);
    } else if (this.#over > CLIPPED_SHARE * samples) {
      const share = ((100 * this.#over) / samples).toFixed(1);
      this.warnings.push(
        `over full scale: ${share}% of the samples; nothing is cut off here, but expect false notes if it was before`,
      );
    } else if (this.#loudest < INAUDIBLE) this.warnings.push('silence: there is nothing to hear');
    else if (this.#loudness.level < QUIET) {
      const lost = this.#loudness.level < LOST ? 'notes may be missing' : 'velocities are low';
      const level = (-20 * Math.log10(Math.max(this.#loudness.level, INAUDIBLE))).toFixed(0);
      this.warnings.push(
        `very quiet: its loudest tenth of a second is ${level} dB below full scale; ` +
          `${lost}, so raise its level when it is recorded`,
      );
    }
    return rest;
  }

  #mixedOf(block: Float32Array[]): Float32Array {
    const mono = new Float32Array(block[0]!.length);
    for (let first = 0; first < mono.length; first += this.#second) {
      const second = block.map((channel) => channel.subarray(first, first + this.#second));
      const mean = mono.subarray(first, first + this.#second);
      // A few samples may cancel each other by chance, so a short rest is taken like what comes before it.
      const judged = 2 * mean.length >= this.#second || !this.#mixed;
      const energy = judged ? second.map(energyOf) : [];
      if (judged) this.#leaveOutSilent(energy.map((sum) => sum / mean.length));
      addMean(mean, second, this.#weights);
      if (judged) {
        const used = energy.map((sum, i) => (this.#weights[i]! > 0 ? sum : 0));
        const limit = this.#cancels ? 3 * CANCELLED : CANCELLED; // from a second to the next it must not go to and fro
        const count = this.#weights.filter((weight) => weight > 0).length;
        this.#cancels = cancels(energyOf(mean), used, count, limit) && second.some((channel) => channel.some(sounds));
        const loudest = Math.max(...used);
        if (this.#cancels && (!this.#used.size || used[this.#louder]! < loudest / 2)) {
          this.#louder = used.indexOf(loudest);
        }
      }
      this.#fadeOver(mean, second);
      if (this.#cancels) {
        if (!this.#used.size) this.#firstCancelled = this.#mixed;
        this.#replaced += mean.length;
        this.#used.add(this.#louder);
        mean.set(second[this.#louder]!);
      }
      this.#mixed += mean.length;
    }
    if (block.length > 1) this.#loudness.push(mono);
    return mono;
  }

  #leaveOutSilent(power: number[]): void {
    this.#loudestChannel = Math.max(this.#loudestChannel, ...power);
    if (this.#loudestChannel < FLOOR) return; // noise, maybe, and others may fade in
    power.forEach((value, i) => {
      if (value >= Math.max(UNUSED * this.#loudestChannel, FLOOR / 10)) this.#sounded[i] = true;
    });
    const used = this.#weights.filter((weight) => weight > 0).length;
    const count = this.#sounded.filter(Boolean).length;
    if (used === count) return;
    this.#before = this.#weights;
    this.#weights = this.#sounded.map((sounds) => (sounds ? 1 / count : 0));
    [this.#fade, this.#faded] = [this.#mixed ? Math.floor(FADE_SECONDS * this.#rate) : 0, 0];
  }

  #fadeOver(mean: Float32Array, second: Float32Array[]): void {
    const left = Math.min(this.#fade - this.#faded, mean.length);
    for (let i = 0; i < left; i++) {
      const before = second.reduce((sum, channel, c) => sum + channel[i]! * (this.#before[c]! - this.#weights[c]!), 0);
      mean[i]! += (1 - (this.#faded + i) / this.#fade) * before;
    }
    this.#faded += Math.max(0, left);
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

function addMean(mono: Float32Array, block: Float32Array[], weights: number[]): void {
  block.forEach((channel, c) => {
    const weight = weights[c]!;
    if (weight > 0) for (let i = 0; i < mono.length; i++) mono[i]! += channel[i]! * weight;
  });
}

function joined(a: Float32Array, b: Float32Array): Float32Array {
  const whole = new Float32Array(a.length + b.length);
  whole.set(a);
  whole.set(b, a.length);
  return whole;
}

const sounds = (sample: number): boolean => Math.abs(sample) > SILENCE;

function energyOf(x: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i]! * x[i]!;
  return sum;
}

/** The mean of n unrelated channels has 1/n of their mean energy. */
function cancels(mixedEnergy: number, energy: number[], count: number, limit: number): boolean {
  return mixedEnergy * count < (limit * energy.reduce((a, b) => a + b, 0)) / count;
}

/** How many samples are in a flat run of three or more at full scale or above; how many are above full scale. */
function flatAndBeyond(channel: Float32Array): { flat: number; beyond: number } {
  let flat = 0;
  let beyond = 0;
  for (let i = 0; i < channel.length; i++) {
    const size = Math.abs(channel[i]!);
    if (size > 1) beyond++;
    // Before the first sample there is none that it could be equal to.
    if (size >= CLIPPED_LEVEL && channel[i] === channel[i - 1] && channel[i] === channel[i - 2]) flat++;
  }
  return { flat, beyond };
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
