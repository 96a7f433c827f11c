/** The model: ONNX Runtime in WebAssembly, and the streaming of audio through it (basic_transcribe/model.py). */

import * as ort from 'onnxruntime-web/wasm';

import { EngineError } from '../engine/types.ts';
import { readMetadata, type Metadata } from './metadata.ts';
import type { Grid, Posteriors } from './posteriors.ts';

const OUTPUTS = ['onset', 'note', 'offset', 'contour', 'level'] as const;
const BLOCK_SECONDS = 12; // changes memory and speed, never the posteriors

/** Where the runtime's own files are; not needed where they can be found without. */
export interface RuntimeFiles {
  /** URL of ort-wasm-simd-threaded.mjs. */
  glue: string;
  /** Contents of ort-wasm-simd-threaded.wasm. */
  wasm: ArrayBuffer;
}

/** Anything that turns a block of audio with its context into posteriors. */
export interface Network {
  readonly meta: Metadata;
  run(audio: Float32Array): Promise<Posteriors>;
}

export class Model implements Network {
  readonly meta: Metadata;
  readonly #session: ort.InferenceSession;

  private constructor(session: ort.InferenceSession, meta: Metadata) {
    this.#session = session;
    this.meta = meta;
  }

  static async load(file: Uint8Array, threads: number, runtime: RuntimeFiles | null): Promise<Model> {
    const meta = readMetadata(file);
    ort.env.logLevel = 'error';
    ort.env.wasm.numThreads = threads;
    if (runtime) {
      ort.env.wasm.wasmPaths = { mjs: runtime.glue };
      ort.env.wasm.wasmBinary = runtime.wasm;
    }
    try {
      const session = await ort.InferenceSession.create(file, { executionProviders: ['wasm'] });
      return new Model(session, meta);
    } catch (error) {
      const reason = (error instanceof Error ? error.message : String(error)).split('\n')[0]!.slice(0, 200);
      throw new EngineError(`the network could not be started (${reason}); use a current Firefox, Chrome, Edge or Safari`);
    }
  }

  async run(audio: Float32Array): Promise<Posteriors> {
    const input = new ort.Tensor('float32', audio, [1, audio.length]);
    const values = await this.#session.run({ audio: input });
    const arrays = Object.fromEntries(OUTPUTS.map((name) => [name, values[name]!.data as Float32Array]));
    return { frames: values['note']!.dims[1]!, ...arrays } as Posteriors;
  }
}

/** Of a recording with so many samples a second that is tuned by so many cents. */
export function gridOf(meta: Metadata, rate = meta.sample_rate, tuning = 0): Grid {
  return {
    frameRate: rate / meta.hop,
    lowestPitch: meta.lowest_pitch,
    pitches: meta.pitches,
    binsPerSemitone: meta.bins_per_semitone,
    tuning,
  };
}

/** Mono audio pushed through a network, block by block, with exactly the context that the frames need. */
export class Feed {
  readonly #network: Network;
  readonly #blockFrames: number;
  readonly #step: number;
  readonly #whole: number;
  readonly #buffer: Float32Array;
  #filled: number;
  #samples = 0; // taken so far
  #frames = 0; // given so far

  constructor(network: Network, blockSeconds = BLOCK_SECONDS) {
    const { meta } = network;
    const multiples = Math.round((blockSeconds * meta.sample_rate) / meta.hop / meta.frames_multiple);
    this.#network = network;
    this.#blockFrames = Math.max(1, multiples) * meta.frames_multiple;
    this.#step = this.#blockFrames * meta.hop;
    this.#whole = meta.context_before + this.#step + meta.context_after - meta.hop;
    this.#buffer = new Float32Array(this.#whole + meta.sample_rate);
    this.#filled = meta.context_before; // silence before the recording is its first context
  }

  /** Take the next samples; yield the frames that are complete by them. */
  async *push(samples: Float32Array): AsyncGenerator<Posteriors> {
    const buffer = this.#buffer;
    this.#samples += samples.length;
    for (let taken = 0; taken < samples.length; ) {
      const take = Math.min(samples.length - taken, buffer.length - this.#filled);
      buffer.set(samples.subarray(taken, taken + take), this.#filled);
      this.#filled += take;
      taken += take;
      while (this.#filled >= this.#whole) {
        const posteriors = await this.#network.run(buffer.subarray(0, this.#whole));
        this.#frames += this.#blockFrames;
        buffer.copyWithin(0, this.#step, this.#filled);
        this.#filled -= this.#step;
        yield posteriors;
      }
    }
  }

  /** The recording is over: yield the remaining frames. */
  async *flush(): AsyncGenerator<Posteriors> {
    const { meta } = this.#network;
    const frames = Math.ceil(this.#samples / meta.hop);
    const buffer = this.#buffer;
    while (this.#frames < frames) {
      // The last block is padded with silence to the next multiple of the model's step.
      const left = frames - this.#frames;
      const wanted = Math.min(this.#blockFrames, Math.ceil(left / meta.frames_multiple) * meta.frames_multiple);
      const length = meta.context_before + (wanted - 1) * meta.hop + meta.context_after;
      buffer.fill(0, this.#filled);
      const posteriors = await this.#network.run(buffer.subarray(0, length));
      this.#frames += wanted;
      buffer.copyWithin(0, this.#step);
      this.#filled = Math.max(0, this.#filled - this.#step);
      yield { ...posteriors, frames: Math.min(posteriors.frames, left) };
    }
  }
}
