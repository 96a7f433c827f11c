/** A recording to mono blocks that are in tune with A = 440 Hz (AudioStream of basic_transcribe/audio.py). */

import type { Samples } from '../engine/types.ts';
import { Mixer } from './mono.ts';
import { Resampler } from './resample.ts';
import { TuningEstimator } from './tuning.ts';

export interface InTune {
  /** Cents by which the recording's A lies above 440 Hz. */
  readonly tuning: number;
  /** Decibels by which the model should hear it louder: it is faint. */
  readonly gain: number;
  /** Samples for each second of the recording. */
  readonly rate: number;
  /** Played at the rate that was asked for, their A has 440 Hz. */
  readonly blocks: AsyncIterable<Float32Array>;
}

/**
 * Find out by its first seconds how a recording is tuned, and how loud it is. `warnings` are complete after the last
 * block.
 */
export async function inTune(sound: AsyncIterable<Samples>, wanted: number, warnings: string[]): Promise<InTune> {
  const mono = mixed(sound, wanted, warnings);
  const held: (Float32Array | number)[] = []; // to be resampled again, by the tuning
  const estimator = new TuningEstimator(wanted);
  let from = wanted;
  let trial: Resampler | null = null;
  while (!estimator.isEnough) {
    const { value, done } = await mono.next();
    if (done) break;
    from = value.sampleRate;
    trial ??= new Resampler(from, wanted);
    held.push(putAside(value.samples[0]!));
    estimator.push(trial.push(value.samples[0]!));
  }
  if (trial) estimator.push(trial.flush());
  const tuning = estimator.finish();
  const resampler = new Resampler(from, wanted * 2 ** (tuning / 1200));
  return { tuning, gain: estimator.loudness.gain, rate: resampler.rate, blocks: resampled(held, mono, resampler) };
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

/** The same; of silence, which may last for hours, no more than its length. */
function putAside(samples: Float32Array): Float32Array | number {
  return samples.some((x) => x !== 0) ? samples : samples.length;
}

async function* resampled(
  first: (Float32Array | number)[],
  rest: AsyncGenerator<Samples>,
  resampler: Resampler,
): AsyncGenerator<Float32Array> {
  try {
    while (first.length) {
      const block = first.shift()!;
      yield resampler.push(typeof block === 'number' ? new Float32Array(block) : block);
    }
    for await (const { samples } of rest) yield resampler.push(samples[0]!);
    yield resampler.flush();
  } finally {
    await rest.return(undefined); // it has begun, whether or not it was asked for more here
  }
}
