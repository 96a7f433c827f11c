/** A recording to mono blocks that are in tune with A = 440 Hz (AudioStream of basic_transcribe/audio.py). */

import type { Samples } from '../engine/types.ts';
import { Mixer } from './mono.ts';
import { Resampler } from './resample.ts';
import { estimateTuning, LISTENED } from './tuning.ts';

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
  let [from, samples] = [wanted, 0];
  while (samples < LISTENED * from) {
    const { value, done } = await mono.next();
    if (done) break;
    held.push(value.samples[0]!);
    from = value.sampleRate;
    samples += value.samples[0]!.length;
  }
  const tuning = estimateTuning(beginning(held, from, wanted), wanted);
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

/** The first seconds at another rate. */
function beginning(blocks: Float32Array[], from: number, to: number): Float32Array {
  const resampler = new Resampler(from, to);
  const out = new Float32Array(LISTENED * to);
  let at = 0;
  for (const block of [...blocks.map((samples) => resampler.push(samples)), resampler.flush()]) {
    const fitting = block.subarray(0, out.length - at);
    out.set(fitting, at);
    at += fitting.length;
  }
  return out.subarray(0, at);
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
