/** From a file to mono samples at the model's rate. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as bunny from 'mediabunny';

import { EngineError, type Samples, type Silence } from '../src/engine/types.ts';
import { filled, gapsOf, gapWarning, matroskaDelay, mp3Padding, open } from '../src/worker/decode.ts';
import { Mixer, Peaks } from '../src/worker/mono.ts';
import { Resampler } from '../src/worker/resample.ts';
import { CASES, Dice } from './invented.ts';
import { wav } from './sounds.ts';

function tone(frequency: number, rate: number, seconds: number, gain = 1): Float32Array {
  const phase = (2 * Math.PI * frequency) / rate;
  return Float32Array.from({ length: Math.floor(seconds * rate) }, (_, i) => gain * Math.sin(phase * i));
}

function resampled(samples: Float32Array, from: number, to: number, sizes = [samples.length]): Float32Array {
  const resampler = new Resampler(from, to);
  const parts: Float32Array[] = [];
  for (let at = 0, i = 0; at < samples.length; i++) {
    const size = sizes[i % sizes.length]!;
    parts.push(resampler.push(samples.subarray(at, at + size)));
    at += size;
  }
  parts.push(resampler.flush());
  return joined(parts);
}

function joined(parts: Float32Array[]): Float32Array {
  const whole = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Gain in dB of what is left of a tone, away from its ends. */
function gain(frequency: number, from: number, to: number): number {
  const out = resampled(tone(frequency, from, 0.2), from, to);
  const middle = out.subarray(out.length >> 2, 3 * (out.length >> 2));
  return 10 * Math.log10((2 * middle.reduce((sum, x) => sum + x * x, 0)) / middle.length + 1e-30);
}

test('tones are resampled as by soxr', () => {
  for (const { rate, length, middle } of CASES.resampling as { rate: number; length: number; middle: number[] }[]) {
    const tones = new Float32Array(Math.floor(0.25 * rate));
    for (const f of [110, 997, 3301, 6007, 8999]) {
      if (f < 0.45 * rate) tone(f, rate, 0.25, 0.1).forEach((x, i) => (tones[i]! += x));
    }
    const out = resampled(tones, rate, 22050);
    assert.ok(Math.abs(out.length - length) <= 1, `${rate} Hz: ${out.length} samples, not ${length}`);
    middle.forEach((x, i) => assert.ok(Math.abs(out[2700 + i]! - x) < 1e-3, `${rate} Hz, sample ${2700 + i}`));
  }
});

test('what can be heard passes, what would fold does not', () => {
  for (const rate of [32000, 44100, 48000, 96000]) {
    for (const f of [30, 1000, 5000, 9000]) assert.ok(Math.abs(gain(f, rate, 22050)) < 0.1, `${f} Hz of ${rate}`);
    for (const f of [12100, 13000, 15000]) assert.ok(gain(f, rate, 22050) < -80, `${f} Hz of ${rate}`);
  }
});

test('resampling does not depend on the blocks', () => {
  const dice = new Dice(7);
  const noise = Float32Array.from({ length: 30_000 }, () => dice.throw() - 0.5);
  for (const rate of [8000, 44100, 47999]) {
    const whole = resampled(noise, rate, 22050);
    const sizes = Array.from({ length: 9 }, () => 1 + dice.below(3000));
    assert.deepEqual(resampled(noise, rate, 22050, sizes), whole);
    assert.equal(whole.length, Math.round((noise.length * 22050) / rate));
  }
  assert.equal(resampled(noise.subarray(0, 1), 44100, 22050).length, 1);
});

async function decoded(source: Blob | Samples): Promise<[Float32Array[], number, string[]]> {
  const sound = await open(source);
  const parts: Samples[] = [];
  for await (const block of sound.blocks()) parts.push(block);
  const channels = parts[0]?.samples.map((_, c) => joined(parts.map((part) => part.samples[c]!)));
  return [channels ?? [], parts[0]?.sampleRate ?? 0, sound.warnings];
}

test('WAV files are read as they were written', async () => {
  const [left, right] = [tone(440, 8000, 12, 0.5), tone(660, 8000, 12, 0.25)];
  for (const kind of ['int16', 'int24', 'float32'] as const) {
    const [channels, rate, warnings] = await decoded(wav([left, right], 8000, kind));
    assert.equal(rate, 8000);
    assert.deepEqual(warnings, []);
    assert.equal(channels.length, 2);
    for (const [channel, expected] of [[channels[0]!, left], [channels[1]!, right]] as const) {
      assert.equal(channel.length, expected.length);
      assert.ok(channel.every((x, i) => Math.abs(x - expected[i]!) < 1e-4));
    }
  }
});

/** A film of PCM at 8 kHz, pieces of 0.1 s at the times given, and a picture at the beginning. */
async function film(times: number[]): Promise<Blob> {
  const output = new bunny.Output({ format: new bunny.MkvOutputFormat(), target: new bunny.BufferTarget() });
  const [sound, pictures] = [new bunny.EncodedAudioPacketSource('pcm-s16'), new bunny.EncodedVideoPacketSource('vp8')];
  output.addAudioTrack(sound);
  output.addVideoTrack(pictures);
  await output.start();
  const size = { codedWidth: 16, codedHeight: 16 };
  await pictures.add(new bunny.EncodedPacket(new Uint8Array(9), 'key', 0, 1), { decoderConfig: { codec: 'vp8', ...size } });
  const bytes = new Uint8Array(new Int16Array(800).fill(8192).buffer);
  const meta = { decoderConfig: { codec: 'pcm-s16', numberOfChannels: 1, sampleRate: 8000 } };
  for (const time of times) await sound.add(new bunny.EncodedPacket(bytes, 'key', time, 0.1), meta);
  await output.finalize();
  return new Blob([output.target.buffer!]);
}

const tenths = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => (from + i) / 10);

test('where a film has no sound, silence is, so that notes are in step with the pictures', async () => {
  const sound = await open(await film([...tenths(15, 30), ...tenths(42, 60)]));
  const parts: Samples[] = [];
  for await (const block of sound.blocks()) parts.push(block);
  const mono = joined(parts.map(({ samples }) => samples[0]!));
  const loud = Array.from({ length: 60 }, (_, i) => mono.subarray(800 * i, 800 * (i + 1)).every((x) => x === 0.25));
  assert.equal(mono.length, 48_000);
  assert.deepEqual(loud.map((on, i) => (on ? i / 10 : -1)).filter((time) => time >= 0), [...tenths(15, 30), ...tenths(42, 60)]);
  const rounded = sound.silences.map(({ start, end }) => [start.toFixed(2), end.toFixed(2)]);
  assert.deepEqual(rounded, [['0.00', '1.50'], ['3.00', '4.20']]);
  const reason = 'what could be decoded was used, silence is in the place of the 1.20 s that are missing';
  assert.deepEqual(sound.warnings, [`damaged at 3.00 s: ${reason}`]);
});

test('times that cannot be believed make no silence', async () => {
  const heard = async (times: number[]): Promise<[number, string | null]> => {
    const [silences, astray]: [Silence[], [number, number][]] = [[], []];
    async function* pieces() {
      for (const _ of times) yield { samples: [new Float32Array(800)], sampleRate: 8000 };
    }
    async function* packets() {
      for (const timestamp of times) yield { timestamp, duration: 0.1 };
    }
    let frames = 0;
    const gaps = gapsOf(packets(), 0.1, 0, 10, astray);
    for await (const { samples } of filled(pieces(), gaps, silences)) frames += samples[0]!.length;
    return [frames / 8000, gapWarning(silences, astray)];
  };
  assert.deepEqual(await heard(tenths(0, 20)), [2, null]);
  assert.deepEqual(await heard(tenths(0, 20).map((time, i) => (i === 9 ? 5 : time))), [2, null]); // one alone
  assert.deepEqual(await heard(tenths(0, 20).map((time) => time + 0.03 * Math.sin(90 * time))), [2, null]);
  assert.deepEqual(await heard(tenths(700, 720)), [2, null]);
  const early = 'damaged at 1.00 s: what could be decoded was used, notes after it may be early';
  assert.deepEqual(await heard([...tenths(0, 10), ...tenths(900, 910)]), [2, early]);
  const both = 'silence is in the place of the 4.00 s that are missing, notes after it may be early';
  const after = [...tenths(0, 10), ...tenths(50, 60), ...tenths(105, 110)];
  assert.deepEqual(await heard(after), [6.5, `damaged at 1.00 s to 6.00 s: what could be decoded was used, ${both}`]);
  // Far ahead, and back again.
  assert.deepEqual(await heard([...tenths(0, 10), ...tenths(900, 905), ...tenths(15, 20)]), [2, null]);
});

test('a file that was cut short gives what there is', async () => {
  const whole = wav([tone(440, 8000, 12)], 8000);
  const [channels, , warnings] = await decoded(whole.slice(0, 100_000));
  assert.equal(channels[0]!.length, (100_000 - 44) / 2);
  assert.deepEqual(warnings, ['damaged or cut short: 6.25 s of 12.00 s could be read']);
  // A writer that did not know the length is not believed; one of large files says it elsewhere.
  const bytes = new Uint8Array(await whole.arrayBuffer());
  const sized = (size: number): Blob => {
    new DataView(bytes.buffer).setUint32(40, size, true);
    return new Blob([bytes]);
  };
  for (const size of [2 ** 32 - 1, 2 ** 31 - 37]) assert.deepEqual((await decoded(sized(size)))[2], []);
  const ds64 = new DataView(new ArrayBuffer(36));
  [...'ds64'].forEach((c, i) => ds64.setUint8(i, c.charCodeAt(0)));
  ds64.setUint32(4, 28, true);
  ds64.setBigUint64(8, 192_072n, true);
  ds64.setBigUint64(16, 192_000n, true);
  const large = new Blob(['RF64', sized(2 ** 32 - 1).slice(4, 12), ds64, sized(2 ** 32 - 1).slice(12)]);
  assert.deepEqual((await decoded(large))[2], []);
  assert.match((await decoded(large.slice(0, 100_000)))[2].join(), /^damaged or cut short: 6\.2. s of 12\.00 s could/);
});

test('samples are read as they are', async () => {
  const samples = [tone(440, 8000, 12), tone(660, 8000, 12)];
  assert.deepEqual((await decoded({ samples, sampleRate: 8000 }))[0], samples);
});

test('what is no sound is said in one line', async () => {
  const bad = [
    new Blob([]),
    { samples: [], sampleRate: 8000 },
    { samples: [new Float32Array(3)], sampleRate: 10 },
    { samples: [new Float32Array(3), new Float32Array(4)], sampleRate: 8000 },
  ];
  for (const source of bad) {
    await assert.rejects(decoded(source), (error: Error) => error instanceof EngineError && !error.message.includes('\n'));
  }
  // What the worker cannot read, the page may; a codec that is not known is not the same as no sound.
  const adpcm = new Uint8Array(await wav([tone(440, 8000, 1)], 8000).arrayBuffer());
  adpcm[20] = 17;
  await assert.rejects(decoded(new Blob([adpcm])), { message: 'no decoder' });
  await assert.rejects(decoded(new Blob(['no sound at all'.repeat(100)])), { message: 'no decoder' });
});

/** What a mixer makes of the blocks. */
function mixed(mixer: Mixer, blocks: Float32Array[][]): Float32Array {
  const pieces = [...blocks.map((block) => mixer.mix(block)), mixer.finish()];
  return Float32Array.from(pieces.flatMap((piece) => [...piece]));
}

test('the mean of the channels, or the louder one where they cancel', () => {
  const [a, b] = [tone(440, 8000, 1, 0.5), tone(440, 8000, 1, -0.4)];
  const mixer = new Mixer(44100, 2);
  const silence = new Float32Array(100);
  assert.deepEqual(mixed(mixer, [[silence, silence], [a, b]]), Float32Array.of(...silence, ...a));
  assert.match(mixer.warnings.join(), /^opposite phase.*channel 1/);

  const stereo = new Mixer(8000, 2);
  const mean = mixed(stereo, [[a, a]]);
  assert.equal(mean.length, a.length);
  assert.ok(mean.every((x, i) => Math.abs(x - a[i]!) < 1e-6));
  assert.match(stereo.warnings.join(), /^sample rate 8000 Hz[^,]*$/);
});

test('only where the channels cancel the louder one is taken, in whatever blocks they come', () => {
  const left = tone(440, 16000, 5.2, 0.5);
  const right = left.map((x, i) => (i < 32000 || i >= 64000 ? x : -0.9 * x));
  const expected = left.map((x, i) => (i < 32000 || i >= 64000 ? (x + right[i]!) / 2 : x));
  for (const size of [1e6, 16000, 7777, 500]) {
    const mixer = new Mixer(16000, 2);
    const blocks: Float32Array[][] = [];
    for (let at = 0; at < left.length; at += size) {
      blocks.push([left, right].map((channel) => channel.subarray(at, at + size)));
    }
    const mono = mixed(mixer, blocks);
    assert.equal(mono.length, left.length);
    assert.ok(mono.every((x, i) => Math.abs(x - expected[i]!) < 1e-6));
    assert.match(mixer.warnings.join(), /^opposite phase: for 2 s, first at 2 s, .* only channel 1 was used there$/);
  }
});

test('what is wrong with a recording is said', () => {
  const clipped = new Mixer(44100, 1);
  clipped.mix([tone(440, 44100, 1, 3).map((x) => Math.min(1, Math.max(-1, x)))]);
  clipped.finish();
  assert.match(clipped.warnings.join(), /^clipped: 74\.\d% of/);

  const cutAbove = new Mixer(44100, 1);
  cutAbove.mix([tone(440, 44100, 1, 3).map((x) => Math.min(2, Math.max(-2, x)))]);
  cutAbove.finish();
  assert.match(cutAbove.warnings.join(), /^clipped: 49\.\d% of/);

  const loud = new Mixer(44100, 1);
  loud.mix([tone(440, 44100, 1, 3)]);
  loud.finish();
  assert.match(loud.warnings.join(), /^over full scale: 7\d\.\d% of the samples; nothing is cut off here, [^,]*$/);

  const empty = new Mixer(44100, 1);
  empty.finish();
  assert.match(empty.warnings.join(), /^no samples/);

  const broken = new Mixer(44100, 1);
  broken.mix([tone(440, 44100, 1)]);
  assert.throws(() => broken.mix([Float32Array.of(0, NaN)]), /^EngineError: sample 44101 \(1\.000 s\) is NaN/);
});

test('what can hardly be heard is said', () => {
  const warnings = (level: number): string => {
    const mixer = new Mixer(44100, 2);
    mixer.mix([new Float32Array(44100), tone(440, 44100, 1, level)]);
    mixer.finish();
    return mixer.warnings.join();
  };
  assert.equal(warnings(0), 'silence: there is nothing to hear');
  assert.equal(warnings(0.9e-5), 'silence: there is nothing to hear');
  assert.equal(
    warnings(0.005),
    'very quiet: its loudest tenth of a second is 46 dB below full scale; ' +
      'velocities are low, so raise its level when it is recorded',
  );
  assert.match(warnings(0.0009), /^very quiet: .* is 67 dB below full scale; notes may be missing, so raise its level/);
  assert.equal(warnings(0.011), '');
});

test('clicks do not make a quiet recording loud', () => {
  const quiet = tone(440, 44100, 4, 0.005).map((x, i) => (i % 20000 < 50 ? 0.5 : x));
  for (const size of [1e6, 777]) {
    const mixer = new Mixer(44100, 1);
    for (let at = 0; at < quiet.length; at += size) mixer.mix([quiet.subarray(at, at + size)]);
    mixer.finish();
    assert.match(mixer.warnings.join(), /^very quiet: its loudest tenth of a second is 46 dB/);
  }
});

test('a silent channel does not make the others softer; one that comes later gets its share from then on', () => {
  const rate = 16000;
  const left = tone(440, rate, 5.3, 0.5);
  const right = tone(555, rate, 5.3, 0.4).map((x, i) => (i < 2.5 * rate ? 0 : x));
  const fade = Math.round(0.02 * rate);
  const expected = left.map((x, i) => {
    if (i < 2 * rate) return x;
    const weight = Math.max(0.5, 1 - (i - 2 * rate) / fade / 2);
    return x * weight + right[i]! / 2;
  });
  for (const size of [1e6, 777]) {
    const mixer = new Mixer(rate, 3);
    const blocks: Float32Array[][] = [];
    for (let at = 0; at < left.length; at += size) {
      blocks.push([left, new Float32Array(left.length), right].map((channel) => channel.subarray(at, at + size)));
    }
    const mono = mixed(mixer, blocks);
    assert.equal(mono.length, left.length);
    mono.forEach((x, i) => assert.ok(Math.abs(x - expected[i]!) < 1e-6, `${i}`));
    assert.deepEqual(mixer.warnings, []);
  }
});

test('peaks are the extremes of each hundredth of a second', () => {
  const dice = new Dice(3);
  const noise = Float32Array.from({ length: 22050 }, () => dice.throw() - 0.5);
  const peaks = new Peaks(22050);
  peaks.push(noise.subarray(0, 777));
  peaks.push(noise.subarray(777));
  const values = peaks.finish();
  assert.equal(values.length, 200);
  assert.equal(values[2 * 50], Math.min(...noise.subarray(11025, 11246)));
  assert.equal(values[2 * 50 + 1], Math.max(...noise.subarray(11025, 11246)));
});

test('a Matroska file tells what an encoder put before the sound of a track', async () => {
  const element = (id: number[], ...body: (number | Uint8Array)[]): Uint8Array => {
    const bytes = body.flatMap((part) => (typeof part === 'number' ? [part] : [...part]));
    return Uint8Array.of(...id, 0x40 | (bytes.length >> 8), bytes.length & 255, ...bytes);
  };
  const track = (number: number, ...delay: Uint8Array[]): Uint8Array => element([0xae], ...delay, element([0xd7], number));
  const delay = element([0x56, 0xaa], 0x01, 0x62, 0x4c, 0xd7); // 23,219,415 ns
  const tracks = element([0x16, 0x54, 0xae, 0x6b], track(1), track(2, delay), track(3));
  const cluster = Uint8Array.of(0x1f, 0x43, 0xb6, 0x75, 0x81, ...new Uint8Array(99));
  const file = (...parts: Uint8Array[]): Blob => {
    const segment = [0x18, 0x53, 0x80, 0x67, 0x01, 255, 255, 255, 255, 255, 255, 255]; // of unknown length
    return new Blob([element([0x1a, 0x45, 0xdf, 0xa3], 0x42, 0x86, 0x81, 1), Uint8Array.from(segment), ...parts] as BlobPart[]);
  };
  const whole = file(element([0xec], ...new Uint8Array(300)), tracks, cluster);
  const delays = await Promise.all([1, 2, 3].map((number) => matroskaDelay(whole, number)));
  assert.deepEqual(delays, [0, 0.023219415, 0]);
  assert.equal(await matroskaDelay(file(cluster, tracks, cluster), 2), 0);
  for (const size of [0, 10, 30]) assert.equal(await matroskaDelay(whole.slice(0, size), 2), 0);
  assert.equal(await matroskaDelay(new Blob([new Uint8Array(100)]), 2), 0);
});

test('an MP3 file tells what its encoder put around the sound', async () => {
  const frame = new Uint8Array(417);
  frame.set([0xff, 0xfb, 0x90, 0x00]);
  frame.set([...'Xing'].map((c) => c.charCodeAt(0)), 36);
  frame.set([0, 0, 0, 15, 0, 0, 0, 100], 40); // all fields, 100 frames
  frame.set([...'LAME3.100'].map((c) => c.charCodeAt(0)), 156);
  frame.set([0x24, 0x04, 0x00], 177); // 576 before, 1024 after
  const tag = new Uint8Array(30);
  tag.set([0x49, 0x44, 0x33, 4, 0, 0, 0, 0, 0, 20]);
  assert.deepEqual(await mp3Padding(new Blob([tag, frame])), { before: 576 + 529, length: 115200 - 1600 });
  frame[36] = 0;
  assert.equal(await mp3Padding(new Blob([frame])), null);
  assert.equal(await mp3Padding(new Blob([frame.subarray(0, 20)])), null);
});
