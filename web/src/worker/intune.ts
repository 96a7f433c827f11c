/** A recording to mono blocks that are in tune with A = 440 Hz (AudioStream of basic_transcribe/audio.py). */

import type { Samples } from '../engine/types.ts';
import { Mixer, sounds } from './mono.ts';
import { Resampler } from './resample.ts';
import { estimateTuning, LISTENED, MOST_LISTENED } from './tuning.ts';

export interface InTune {
  /** Cents by which the recording's A lies above 440 Hz. */
  readonly tuning: number;
  /** Samples for each second of the recording. */
  readonly rate: number;
  /** Played at the rate that was asked for, their A has 440 Hz. */
  readonly blocks: AsyncIterable<Float32Array>;
}

/** Find out by its first seconds how a recording is tuned. `warnings` are complete after the last block. */
export async function inTune(sound: AsyncIterable<Samples>, wanted: number, warnings: string[]): Promise<InTune> {
  const mono = mixed(sound, wanted, warnings);
  const held: Float32Array[] = []; // to be resampled again, by the tuning
  const first = new Beginning(wanted);
  let from = wanted;
  let trial: Resampler | null = null;
  while (!first.isEnough) {
    const { value, done } = await mono.next();
    if (done) break;
    from = value.sampleRate;
    trial ??= new Resampler(from, wanted);
    held.push(value.samples[0]!);
    first.take(trial.push(value.samples[0]!));
  }
  if (trial) first.take(trial.flush());
  const tuning = estimateTuning(first.samples(), wanted);
  const resampler = new Resampler(from, wanted * 2 ** (tuning / 1200));
  return { tuning, rate: resampler.rate, blocks: resampled(held, mono, resampler) };
}

async function* mixed(sound: AsyncIterable<Samples>, usual: number, warnings: string[]): AsyncGenerator<Samples> {
  let [mixer, sampleRate]: [Mixer | null, number] = [null, usual];
  for await (const block of sound) {
    if (!mixer) {
      sampleRate = block.sampleRate;
      mixer = new Mixer(sampleRate, block.samples.length);
    }
    yield { samples: [mixer.mix(block.samples)], sampleRate };
  }
  mixer ??= new Mixer(sampleRate, 1);
  yield { samples: [mixer.finish()], sampleRate };
  warnings.push(...mixer.warnings);
}

/** What comes first, as many whole seconds as tell the tuning: silence does not count. */
class Beginning {
  readonly #rate: number;
  readonly #seconds: Float32Array[] = [];
  #second: Float32Array;
  #filled = 0;
  #sounding = 0;

  constructor(rate: number) {
    this.#rate = rate;
    this.#second = new Float32Array(rate);
  }

  get isEnough(): boolean {
    return this.#sounding >= LISTENED || this.#seconds.length >= MOST_LISTENED;
  }

  take(block: Float32Array): void {
    for (let at = 0; at < block.length && !this.isEnough; ) {
      const part = block.subarray(at, at + this.#rate - this.#filled);
      this.#second.set(part, this.#filled);
      at += part.length;
      this.#filled += part.length;
      if (this.#filled === this.#rate) this.#end();
    }
  }

  #end(): void {
    this.#seconds.push(this.#second);
    if (this.#second.some(sounds)) this.#sounding += 1;
    [this.#second, this.#filled] = [new Float32Array(this.#rate), 0];
  }

  samples(): Float32Array {
    const out = new Float32Array(this.#seconds.length * this.#rate + this.#filled);
    this.#seconds.forEach((second, i) => out.set(second, i * this.#rate));
    out.set(this.#second.subarray(0, this.#filled), this.#seconds.length * this.#rate);
    return out;
  }
}

async function* resampled(
  first: Float32Array[],
  rest: AsyncGenerator<Samples>,
  resampler: Resampler,
): AsyncGenerator<Float32Array> {
  try {
    while (first.length) yield resampler.push(first.shift()!);
    for await (const { samples } of rest) yield resampler.push(samples[0]!);
    yield resampler.flush();
  } finally {
    await rest.return(undefined); // it has begun, whether or not it was asked for more here
  }
}
