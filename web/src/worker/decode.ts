/** A recording to blocks of samples, by the browser's decoders; mediabunny reads the containers, piece by piece. */

import type { AudioSample, EncodedPacket } from 'mediabunny';

import { EngineError, type Samples, type Silence } from '../engine/types.ts';

const BLOCK_SECONDS = 10;
const MIN_RATE = 1_000;
const MAX_RATE = 768_000;
const MAX_CHANNELS = 64;
const MISSED = 0.1; // seconds that may be missing without a remark
const LEAST_GAP = 0.05; // seconds; timestamps are rounded, and encoders pad
const LEAST_JUMP = 0.01; // seconds, and half a piece, by which a timestamp is another than that of the next piece
const MOST_SILENCE = 60; // seconds put in one place; a damaged timestamp may ask for any length
const MOST_DELAY = 1; // seconds that an encoder may put before the sound; a damaged file may ask for any length
const MOST_CHUNKS = 1000; // that are looked through
const UNKNOWN_SIZE = 2 ** 40; // bytes; headers that do not know write more
const NOT_AUDIO = 'not audio, or in a format that cannot be read here; convert it to WAV, FLAC or MP3';

/** A recording about to be read. */
export interface Sound {
  /** Seconds; null if the file does not say. */
  total: number | null;
  /** Complete after the last block. */
  warnings: string[];
  /** Put where the file has nothing; complete after the last block. */
  silences: Silence[];
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
    silences: [],
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
  // Fails too where the container is known and what is in it is not.
  const track = await input.getPrimaryAudioTrack().catch(() => undefined);
  if (track === null && (await input.canRead().catch(() => false))) {
    throw new EngineError('there is no sound in this file; choose another');
  }
  if (!track) throw new NoDecoder(null);
  const format = await input.getFormat();
  // The time of a video is that of its pictures, which sound may follow later. Other formats have no times of their own.
  const hasTimes = [bunny.MP4, bunny.QTFF, bunny.MATROSKA, bunny.WEBM, bunny.MPEG_TS].includes(format);
  const first = hasTimes ? Math.max(0, await input.getFirstTimestamp().catch(() => 0)) : null;
  const isMatroska = format === bunny.MATROSKA || format === bunny.WEBM;
  // The browser's decoders see to that of Opus themselves.
  const isLate = isMatroska && (await track.getCodec()) !== 'opus';
  const start = first === null ? null : first + (isLate ? await matroskaDelay(file, track.id) : 0);
  const end = await track.getDurationFromMetadata().catch(() => null);
  const stated = end === null ? null : end - (start ?? 0);
  if (!(await track.canDecode())) throw new NoDecoder(stated);
  const isMp3 = format === bunny.MP3;
  const padding = isMp3 ? await mp3Padding(file) : null;
  const total = padding ? padding.length / (await track.getSampleRate()) : stated;
  // Without a header, the length of an MP3 file is a guess; that of a WAV file is of what is there.
  const promised = isMp3 && !padding ? null : total && total * (format === bunny.WAVE ? await wavPromise(file) : 1);
  const warnings: string[] = [];
  const silences: Silence[] = [];
  return {
    total,
    warnings,
    silences,
    async *blocks() {
      const decoded = new bunny.AudioSampleSink(track).samples();
      const sound = trimmed(decoded, padding, start ?? 0);
      const sink = new bunny.EncodedPacketSink(track);
      const packets = (): AsyncGenerator<Packet> => sink.packets(undefined, undefined, { metadataOnly: true });
      const astray: Astray = [];
      const gaps = start === null ? null : gapsOf(packets(), await usualLength(packets()), start, stated, astray);
      try {
        yield* gathered(gaps ? filled(sound, gaps, silences) : sound, promised, warnings);
        const warning = gapWarning(silences, astray);
        if (warning) warnings.push(warning);
      } finally {
        await gaps?.return(undefined);
        await decoded.return();
        input.dispose();
      }
    },
  };
}

/** Half of the first packets are shorter. In seconds. */
async function usualLength(packets: AsyncIterable<Packet>): Promise<number> {
  const lengths: number[] = [];
  for await (const { duration } of packets) {
    if (lengths.push(duration) === 64) break;
  }
  return lengths.sort((a, b) => a - b)[lengths.length >> 1] ?? 0;
}

/** Decoded pieces without what an encoder put before and after the sound. Times count from `start`. */
async function* trimmed(
  decoded: AsyncIterable<AudioSample>,
  padding: Padding | null,
  start: number,
): AsyncGenerator<Samples> {
  let position: number | null = null; // of the next frame, in frames of the sound
  for await (const piece of decoded) {
    try {
      const { numberOfFrames: frames, numberOfChannels: channels, sampleRate } = piece;
      position ??= padding ? -padding.before : Math.min(0, Math.round((piece.timestamp - start) * sampleRate));
      const from = Math.min(frames, Math.max(0, -position));
      const to = Math.max(from, Math.min(frames, (padding?.length ?? Infinity) - position));
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

/** What a container says of a packet, in seconds. */
type Packet = Pick<EncodedPacket, 'timestamp' | 'duration'>;

/** A place in what is decoded, and the seconds that are missing before it. */
interface Gap {
  at: number;
  missing: number;
}

/** Where times go too far ahead to be believed, and by how many seconds. */
type Astray = [at: number, seconds: number][];

/**
 * For each packet, where it begins and what is missing before it. The packets are asked because decoders of browsers
 * count on where there is a gap. `usual` is how long packets are: of some the container does not say it, and of one
 * before a gap that it lasts until the next. Times count from `start`; `duration` is what the file says that it lasts.
 */
export async function* gapsOf(
  packets: AsyncIterable<Packet>,
  usual: number,
  start: number,
  duration: number | null,
  astray: Astray,
): AsyncGenerator<Gap> {
  let due: number | null = null; // the time of the next packet
  let ahead = 0; // seconds by which the times are ahead of what is decoded
  let missing = 0; // of them, those that silence may take the place of
  let filled = 0; // seconds of silence so far
  for await (const [packet, next] of pairs(packets)) {
    const time = packet.timestamp - start;
    const said = packet.duration;
    const length = said > 0 && said <= usual + LEAST_GAP ? said : usual;
    const jump = Math.max(LEAST_JUMP, length / 2);
    let step = due !== null && Math.abs(time - due) > jump ? time - due : 0;
    ahead += due === null ? Math.max(0, time) : step;
    const here = time - ahead + filled;
    const most = Math.min(MOST_SILENCE, (duration ?? Infinity) - here);
    let fill = 0;
    if (due === null) {
      if (time > LEAST_GAP && time < most) fill = time;
    } else {
      if (astray.length && -step >= astray.at(-1)![1] - jump) step += astray.pop()![1];
      missing += step;
      // A damaged time stands alone, or leads out of the recording.
      const follows = next !== null && Math.abs(next.timestamp - start - time - length) <= jump;
      if (missing > LEAST_GAP && follows) {
        if (missing <= most) fill = missing;
        else astray.push([here, missing]);
        missing = 0;
      }
    }
    filled += fill;
    yield { at: time - ahead, missing: fill };
    due = time + length;
  }
}

/** Pieces, with silence where some are missing. */
export async function* filled(
  pieces: AsyncIterable<Samples>,
  gaps: AsyncIterator<Gap>,
  silences: Silence[],
): AsyncGenerator<Samples> {
  let position = 0; // frames so far, without
  let added = 0; // frames of silence
  let gap = await gaps.next();
  for await (const { samples, sampleRate } of pieces) {
    let rest = samples;
    while (!gap.done && Math.round(gap.value.at * sampleRate) < position + rest[0]!.length) {
      const frames = Math.round(gap.value.missing * sampleRate);
      const before = frames ? Math.max(0, Math.round(gap.value.at * sampleRate) - position) : 0;
      if (before) yield { samples: rest.map((channel) => channel.subarray(0, before)), sampleRate };
      rest = rest.map((channel) => channel.subarray(before));
      position += before;
      if (frames) {
        const start = (position + added) / sampleRate;
        silences.push({ start, end: start + frames / sampleRate });
        yield { samples: rest.map(() => new Float32Array(frames)), sampleRate };
        added += frames;
      }
      gap = await gaps.next();
    }
    position += rest[0]!.length;
    yield { samples: rest, sampleRate };
  }
}

/** What is said of gaps; null if there are none. */
export function gapWarning(silences: readonly Silence[], astray: Astray): string | null {
  const gaps = silences.filter(({ start }) => start > 0);
  const places = [...gaps.map(({ start }) => start), ...astray.map(([at]) => at)].sort((a, b) => a - b);
  if (!places.length) return null;
  const [from, last] = [places[0]!, places.at(-1)!];
  const to = last - from > 0.01 ? ` to ${last.toFixed(2)} s` : '';
  const sum = gaps.reduce((total, { start, end }) => total + end - start, 0);
  const after = [
    ...(gaps.length ? [`silence is in the place of the ${sum.toFixed(2)} s that are missing`] : []),
    ...(astray.length ? ['notes after it may be early'] : []),
  ];
  return `damaged at ${from.toFixed(2)} s${to}: what could be decoded was used, ${after.join(', ')}`;
}

/** Each item with the one after it. */
async function* pairs<T>(items: AsyncIterable<T>): AsyncGenerator<[T, T | null]> {
  let last: T | null = null;
  for await (const item of items) {
    if (last !== null) yield [last, item];
    last = item;
  }
  if (last !== null) yield [last, null];
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

async function bytesOf(file: Blob, at: number, count: number): Promise<DataView> {
  return new DataView(await file.slice(at, at + count).arrayBuffer());
}

/** How many times as much sound as there is the header of a WAV file promises; 1 if all of it is there. */
async function wavPromise(file: Blob): Promise<number> {
  const little = (await bytesOf(file, 0, 4)).getUint32(0) !== 0x52494658; // RIFX
  let promised: number | null = null;
  let at = 12;
  for (let i = 0; i < MOST_CHUNKS; i++) {
    const head = await bytesOf(file, at, 24);
    if (head.byteLength < 8) return 1;
    const [name, size] = [head.getUint32(0), head.getUint32(4, little)];
    if (name === 0x64733634 && head.byteLength === 24) promised = Number(head.getBigUint64(16, little)); // ds64
    if (name === 0x64617461) {
      promised ??= size;
      // Streaming writers put such sizes there, who do not know them.
      const open = [2 ** 31, 2 ** 32].some((limit) => promised! <= limit && limit - promised! <= 2 ** 16);
      return open || promised >= UNKNOWN_SIZE ? 1 : Math.max(1, promised / Math.max(1, file.size - at - 8));
    }
    at += 8 + size + (size % 2);
  }
  return 1;
}

const [SEGMENT, TRACKS, TRACK, NUMBER, DELAY, CLUSTER] = [0x18538067, 0x1654ae6b, 0xae, 0xd7, 0x56aa, 0x1f43b675];

/** Seconds that an encoder put before the sound of a track, as a Matroska file tells them ("CodecDelay"). */
export async function matroskaDelay(file: Blob, track: number): Promise<number> {
  let [at, number, delay] = [0, -1, 0];
  for (let i = 0; i < MOST_CHUNKS; i++) {
    const head = await bytesOf(file, at, 20);
    if (head.byteLength < 20) return 0;
    const uint = (from: number, to: number, mask = 0xff): number => {
      let value = head.getUint8(from) & mask;
      for (let k = from + 1; k < to; k++) value = 256 * value + head.getUint8(k);
      return value;
    };
    const idEnd = Math.clz32(head.getUint8(0)) - 23; // as many bytes as there are zeros before the first one, and one
    if (idEnd > 4) return 0;
    const sizeBytes = Math.clz32(head.getUint8(idEnd)) - 23;
    if (sizeBytes > 8) return 0;
    const [id, body] = [uint(0, idEnd), idEnd + sizeBytes];
    const size = uint(idEnd, body, 0xff >> sizeBytes);
    if (id === CLUSTER) return 0;
    if (id === TRACK) [number, delay] = [-1, 0];
    if (id === NUMBER && size <= 8) number = uint(body, body + size);
    if (id === DELAY && size <= 8) delay = uint(body, body + size) / 1e9;
    if (number === track && delay) return delay < MOST_DELAY ? delay : 0;
    at += [SEGMENT, TRACKS, TRACK].includes(id) ? body : body + size;
  }
  return 0;
}

/** What an encoder of MP3 put before the sound, and how long the sound is; in frames. */
interface Padding {
  before: number;
  length: number;
}

const DECODER_DELAY = 529; // samples that every decoder of MP3 is late

/** The padding as the first frame of an MP3 file tells them ("LAME tag"); null if it does not. */
export async function mp3Padding(file: Blob): Promise<Padding | null> {
  let at = 0;
  for (;;) {
    const tag = await bytesOf(file, at, 10);
    if (tag.byteLength < 10 || (tag.getUint32(0) & 0xffffff00) !== 0x49443300) break; // ID3
    const size = [6, 7, 8, 9].reduce((sum, i) => (sum << 7) | (tag.getUint8(i) & 0x7f), 0);
    at += 10 + size;
  }
  const frame = await bytesOf(file, at, 192);
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
