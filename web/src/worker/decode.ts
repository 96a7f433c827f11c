/** A recording to blocks of samples, by the browser's decoders; mediabunny reads the containers, piece by piece. */

import type { AudioSample } from 'mediabunny';

import { EngineError, type Samples } from '../engine/types.ts';

const BLOCK_SECONDS = 10;
const MIN_RATE = 1_000;
const MAX_RATE = 768_000;
const MAX_CHANNELS = 64;
const MISSED = 0.1; // seconds that may be missing without a remark
const NOT_AUDIO = 'not audio, or in a format that cannot be read here; convert it to WAV, FLAC or MP3';

/** A recording about to be read. */
export interface Sound {
  /** Seconds; null if the file does not say. */
  total: number | null;
  /** Complete after the last block. */
  warnings: string[];
  blocks(): AsyncIterable<Samples>;
}

/** Thrown where the worker has no decoder, but the page may: `decodeAudioData` exists only there. */
export class NoDecoder extends Error {
  /** Seconds; null if the file does not say. */
  readonly total: number | null;

  constructor(total: number | null) {
    super('no decoder');
    this.total = total;
  }
}

export async function open(source: Blob | Samples): Promise<Sound> {
  if (!(source instanceof Blob)) return openSamples(source);
  if (!source.size) throw new EngineError('the file is empty; choose another');
  return openFile(source);
}

function openSamples({ samples, sampleRate }: Samples): Sound {
  check(sampleRate, samples.length);
  const frames = Math.max(...samples.map((channel) => channel.length));
  if (samples.some((channel) => channel.length !== frames)) throw new EngineError('the channels differ in length');
  const step = Math.ceil(BLOCK_SECONDS * sampleRate);
  return {
    total: frames / sampleRate,
    warnings: [],
    async *blocks() {
      for (let i = 0; i < frames; i += step) {
        yield { samples: samples.map((channel) => channel.subarray(i, i + step)), sampleRate };
      }
    },
  };
}

async function openFile(file: Blob): Promise<Sound> {
  const bunny = await import('mediabunny');
  // Without playlists: they name other files.
  const formats = bunny.ALL_FORMATS.filter((format) => format !== bunny.HLS);
  const input = new bunny.Input({ source: new bunny.BlobSource(file), formats });
  const track = await input.getPrimaryAudioTrack().catch(() => null);
  if (!track) {
    const known = await input.canRead().catch(() => false);
    if (known) throw new EngineError('there is no sound in this file; choose another');
    throw new NoDecoder(null);
  }
  const stated = await track.getDurationFromMetadata().catch(() => null);
  if (!(await track.canDecode())) throw new NoDecoder(stated);
  const isMp3 = (await input.getFormat()) === bunny.MP3;
  const gap = isMp3 ? await mp3Gap(file) : null;
  const total = gap ? gap.length / (await track.getSampleRate()) : stated;
  const promised = isMp3 && !gap ? null : total; // without a header, the length of an MP3 file is a guess
  const warnings: string[] = [];
  return {
    total,
    warnings,
    async *blocks() {
      const decoded = new bunny.AudioSampleSink(track).samples();
      try {
        yield* gathered(trimmed(decoded, gap), promised, warnings);
      } finally {
        await decoded.return();
        input.dispose();
      }
    },
  };
}

/** Decoded pieces without what an encoder put before and after the sound. */
async function* trimmed(decoded: AsyncIterable<AudioSample>, gap: Gap | null): AsyncGenerator<Samples> {
  let position: number | null = null; // of the next frame, in frames of the sound
  for await (const piece of decoded) {
    try {
      const { numberOfFrames: frames, numberOfChannels: channels, sampleRate } = piece;
      position ??= gap ? -gap.before : Math.min(0, Math.round(piece.timestamp * sampleRate));
      const from = Math.min(frames, Math.max(0, -position));
      const to = Math.max(from, Math.min(frames, (gap?.length ?? Infinity) - position));
      position += frames;
      if (to > from) yield { samples: planes(piece, channels, frames).map((x) => x.subarray(from, to)), sampleRate };
    } finally {
      piece.close();
    }
  }
}

function planes(piece: AudioSample, channels: number, frames: number): Float32Array[] {
  return Array.from({ length: channels }, (_, planeIndex) => {
    const plane = new Float32Array(frames);
    piece.copyTo(plane, { planeIndex, format: 'f32-planar' });
    return plane;
  });
}

/** Pieces of any length gathered to blocks. What is missing at the end, or of the seconds promised, is warned of. */
async function* gathered(
  pieces: AsyncIterable<Samples>,
  promised: number | null,
  warnings: string[],
): AsyncGenerator<Samples> {
  let block: Float32Array[] = [];
  let [rate, filled, seconds] = [0, 0, 0];
  const taken = (): Samples => {
    const samples = block.map((channel) => channel.slice(0, filled));
    seconds += filled / rate;
    filled = 0;
    return { samples, sampleRate: rate };
  };
  let damaged = false;
  try {
    for await (const { samples, sampleRate } of pieces) {
      if (!rate) {
        check(sampleRate, samples.length);
        rate = sampleRate;
        block = samples.map(() => new Float32Array(Math.ceil(BLOCK_SECONDS * rate)));
      }
      if (sampleRate !== rate || samples.length !== block.length) {
        throw new EngineError('the sample rate or the channels change within the file; convert it to WAV');
      }
      for (let i = 0; i < samples[0]!.length; ) {
        const take = Math.min(samples[0]!.length - i, block[0]!.length - filled);
        samples.forEach((channel, c) => block[c]!.set(channel.subarray(i, i + take), filled));
        filled += take;
        i += take;
        if (filled === block[0]!.length) yield taken();
      }
    }
  } catch (error) {
    if (error instanceof EngineError) throw error;
    // A decoder gives up at the first damage. What came before it is worth having.
    if (!rate) throw new EngineError(`damaged, or ${NOT_AUDIO}`);
    damaged = true;
  }
  if (filled) yield taken();
  if (rate && promised !== null && seconds < promised - MISSED) {
    warnings.push(`damaged or cut short: ${seconds.toFixed(2)} s of ${promised.toFixed(2)} s could be read`);
  } else if (damaged) warnings.push(`damaged at ${seconds.toFixed(2)} s: only what comes before was transcribed`);
}

function check(sampleRate: number, channels: number): void {
  if (!(sampleRate >= MIN_RATE && sampleRate <= MAX_RATE)) {
    throw new EngineError(`sample rate ${sampleRate} Hz; it must lie between ${MIN_RATE} and ${MAX_RATE}`);
  }
  if (!(channels >= 1 && channels <= MAX_CHANNELS)) {
    throw new EngineError(`${channels} channels; there must be 1 to ${MAX_CHANNELS}`);
  }
}

/** What an encoder of MP3 put before the sound, and how long the sound is; in frames. */
interface Gap {
  before: number;
  length: number;
}

const DECODER_DELAY = 529; // samples that every decoder of MP3 is late

/** The gaps as the first frame of an MP3 file tells them ("LAME tag"); null if it does not. */
export async function mp3Gap(file: Blob): Promise<Gap | null> {
  const bytes = async (at: number, count: number): Promise<DataView> =>
    new DataView(await file.slice(at, at + count).arrayBuffer());
  let at = 0;
  for (;;) {
    const tag = await bytes(at, 10);
    if (tag.byteLength < 10 || (tag.getUint32(0) & 0xffffff00) !== 0x49443300) break; // ID3
    const size = [6, 7, 8, 9].reduce((sum, i) => (sum << 7) | (tag.getUint8(i) & 0x7f), 0);
    at += 10 + size;
  }
  const frame = await bytes(at, 192);
  if (frame.byteLength < 192) return null;
  for (let i = 4; i <= 36; i++) {
    const name = frame.getUint32(i);
    if (name !== 0x58696e67 && name !== 0x496e666f) continue; // Xing, Info
    if (!(frame.getUint32(i + 4) & 1) || !frame.getUint8(i + 120)) return null; // no count of frames, no encoder
    const version1 = (frame.getUint8(1) & 0x18) === 0x18;
    const frames = frame.getUint32(i + 8) * (version1 ? 1152 : 576);
    const delays = (frame.getUint8(i + 141) << 16) | frame.getUint16(i + 142);
    const [delay, padding] = [delays >> 12, delays & 0xfff];
    return { before: delay + DECODER_DELAY, length: frames - delay - padding };
  }
  return null;
}
