/** How a recording is tuned, beside what Python finds; and what becomes of it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Note, Samples } from '../src/engine/types.ts';
import { fromConcertPitch } from '../src/worker/bends.ts';
import { inTune } from '../src/worker/intune.ts';
import type { Posteriors } from '../src/worker/posteriors.ts';
import { Resampler } from '../src/worker/resample.ts';
import { Service } from '../src/worker/service.ts';
import { estimateTuning, LISTENED, TuningEstimator } from '../src/worker/tuning.ts';
import { CASES, Dice, inventedChords } from './invented.ts';
import { EchoNetwork } from './networks.ts';
import { wav } from './sounds.ts';

const RATE = 22050;

interface Case {
  cents: number;
  noise: number;
  rate: number;
  seconds: number;
  hum: number;
  struck: number;
  level: number;
  tuning: number;
  gain: number;
}

test('tuning and gain are those that Python finds', () => {
  const cases = CASES.tuning as Case[];
  for (const { cents, noise, rate, seconds, hum, struck, level, tuning, gain } of cases) {
    const estimator = new TuningEstimator(rate);
    estimator.push(inventedChords(cents, noise, rate, seconds, hum, struck).map((x) => level * x));
    const found = estimator.finish();
    const case_ = `${cents} cents, noise ${noise}, hum ${hum}, struck ${struck}, level ${level}`;
    assert.ok(Math.abs(found - tuning) < 0.02, `${case_}: ${found} is not ${tuning}`);
    assert.ok(Math.abs(estimator.loudness.gain - gain) < 0.001, `${case_}: ${estimator.loudness.gain} dB, not ${gain}`);
  }
  assert.ok(cases.some(({ gain }) => gain === 0) && cases.some(({ gain }) => gain > 0 && gain < 40));
  assert.ok(cases.some(({ tuning }) => tuning > 0) && cases.some(({ tuning }) => tuning < 0));
  assert.ok(cases.some(({ cents, tuning }) => cents !== 0 && tuning === 0));
});

test('what has no tuning is left alone', () => {
  const dice = new Dice(1);
  const noise = Float32Array.from({ length: 8 * RATE }, () => dice.throw() - 0.5);
  const octave = (220 * 4) / Math.log(2); // in four seconds
  const glide = noise.map((_, i) => Math.sin(2 * Math.PI * octave * 2 ** (i / RATE / 4)));
  for (const audio of [noise, glide, new Float32Array(RATE), new Float32Array(0), noise.subarray(0, 1000)]) {
    assert.equal(estimateTuning(audio, RATE), 0);
  }
});

test('a beginning that hardly agrees does not decide the tuning', () => {
  const chords = (cents: number, seconds: number): Float32Array => inventedChords(cents, 0, RATE, seconds);
  const scattered = Array.from({ length: 16 }, (_, i) => chords(i % 8 === 0 ? 25 : (100 * i) / 16, 2));
  const joined = (parts: Float32Array[]): Float32Array => Float32Array.from(parts.flatMap((part) => [...part]));
  assert.ok(Math.abs(estimateTuning(joined(scattered), RATE) - 25) < 3);
  for (const cents of [0, 25]) {
    const after = Array.from({ length: 12 }, () => chords(cents, 4));
    const found = estimateTuning(joined([...scattered, ...after]), RATE);
    assert.ok(Math.abs(found - cents) < 1.5, `${found} is not ${cents}`);
  }
});

/** Chords again and again, in blocks, and whether whoever took them let go of them. */
function recording(cents: number, rate: number, seconds: number): { blocks: () => AsyncGenerator<Samples>; open: number } {
  const chords = inventedChords(cents, 0, rate, 4);
  const whole = Float32Array.from({ length: seconds * rate }, (_, i) => chords[i % chords.length]!);
  const made = {
    open: 0,
    async *blocks(): AsyncGenerator<Samples> {
      made.open++;
      try {
        for (let at = 0; at < whole.length; at += 100_000) {
          yield { samples: [whole.subarray(at, at + 100_000)], sampleRate: rate };
        }
      } finally {
        made.open--;
      }
    },
  };
  return made;
}

async function heard(sound: AsyncIterable<Samples>): Promise<{ tuning: number; rate: number; samples: Float32Array }> {
  const { tuning, rate, blocks } = await inTune(sound, RATE, []);
  const samples: number[] = [];
  for await (const block of blocks) for (const sample of block) samples.push(sample);
  return { tuning, rate, samples: Float32Array.from(samples) };
}

test('a recording is brought to A = 440 Hz, as long as it was', async () => {
  for (const [cents, rate, seconds] of [[35, 44100, 8], [-40, RATE, 8], [0, 16000, 8], [35, 16327, LISTENED + 5]] as const) {
    const { tuning, rate: out, samples } = await heard(recording(cents, rate, seconds).blocks());
    assert.ok(Math.abs(tuning - cents) < 1, `${tuning}`);
    assert.ok(Math.abs(1200 * Math.log2(out / RATE) - tuning) < 1, `${out} Hz`);
    assert.ok(Math.abs(samples.length / out - seconds) <= 1 / out, `${samples.length / out} s`);
    assert.equal(estimateTuning(samples, RATE), 0);
  }
});

test('what stands at the head of a tape does not count as heard', async () => {
  const music = recording(35, 16000, 12);
  const dice = new Dice(2);
  const leads: Record<string, (i: number) => number> = {
    silence: () => 0,
    hiss: () => 0.02 * (dice.throw() - 0.5),
    tone: (i) => 0.1 * Math.sin((2 * Math.PI * 1000 * i) / 16000),
  };
  for (const [name, sample] of Object.entries(leads)) {
    const seconds = name === 'silence' ? 130 : LISTENED + 5;
    async function* late(): AsyncGenerator<Samples> {
      for (let second = 0; second < seconds; second++) {
        yield { samples: [Float32Array.from({ length: 16000 }, (_, i) => sample(i))], sampleRate: 16000 };
      }
      yield* music.blocks();
    }
    const { tuning, rate, samples } = await heard(late());
    assert.ok(Math.abs(tuning - 35) < 2, `${name}: ${tuning}`);
    assert.ok(Math.abs(samples.length / rate - (seconds + 12)) <= 1 / rate);
  }
});

test('nothing is lost where listening ends', async () => {
  for (const cents of [0, 35]) {
    const sound = recording(cents, 16000, LISTENED + 9);
    const { tuning, rate, samples } = await heard(sound.blocks());
    const resampler = new Resampler(16000, RATE * 2 ** (tuning / 1200));
    assert.equal(resampler.rate, rate);
    let at = 0;
    for await (const block of sound.blocks()) {
      const expected = resampler.push(block.samples[0]!);
      assert.deepEqual(samples.subarray(at, at + expected.length), expected);
      at += expected.length;
    }
    assert.deepEqual(samples.subarray(at), resampler.flush());
  }
});

test('whoever wants no more of a recording lets go of it', async () => {
  for (const blocks of [1, 8]) {
    const sound = recording(35, RATE, LISTENED + 20);
    const wanted = await inTune(sound.blocks(), RATE, []);
    let taken = 0;
    for await (const _ of wanted.blocks) if (++taken === blocks) break;
    assert.equal(taken, blocks);
    assert.equal(sound.open, 0);
  }
});

test('times are those of the recording, whatever its tuning; it stays when notes are tracked again', async () => {
  const service = new Service(new EchoNetwork());
  const rate = 32000;
  const seconds = 9;
  // To this network a note is what lies above zero, half of each second.
  const music = inventedChords(35, 0, rate, seconds).map((x, i) => 0.2 * x + (i % rate < rate / 2 ? 0.7 : 0));
  const told: number[] = [];
  const tell = ({ tuning }: { tuning: number }): unknown => told.push(tuning);
  const [result, keep] = await service.transcribe(wav([music], rate, 'float32'), tell, () => false);
  keep();
  assert.ok(Math.abs(result.tuning - 35) < 1);
  assert.ok(told.length && told.every((tuning) => tuning === result.tuning));
  assert.ok(Math.abs(result.duration - seconds) < 1e-4);
  assert.ok([200 * seconds, 200 * seconds + 2].includes(result.peaks.length)); // a sample more begins another pair
  const { width, secondsPerColumn } = service.spectrogram();
  assert.ok(Math.abs(width * secondsPerColumn - seconds) < 0.02);
  assert.ok(Math.abs(secondsPerColumn / (256 / RATE) - 2 ** (-result.tuning / 1200)) < 1e-3);
  assert.ok(result.notes.length > 5);
  for (const notes of [result.notes, service.track({ monophonic: false })]) {
    for (const { bend } of notes) assert.ok(Math.abs(bend!.semitones[0]! - result.tuning / 100) < 2 ** -12);
  }
});

/** It hears a note where samples are at .05, however loud the recording is. */
class Listener extends EchoNetwork {
  override async run(audio: Float32Array): Promise<Posteriors> {
    const { note, ...others } = await super.run(audio);
    const seen = note.map((x) => (Math.abs(x - 0.05) < 1e-4 ? 0.9 : 0));
    const level = note.map((x) => 20 * Math.log10(Math.abs(x)));
    return { ...others, onset: seen, note: seen, contour: seen, level };
  }
}

test('the model hears a faint recording louder, and its notes are as soft as it is', async () => {
  const heard = async (level: number): Promise<Note[]> => {
    const faint = Float32Array.from({ length: 3 * RATE }, (_, i) => (i % RATE < RATE / 2 ? level : -level));
    const [{ notes }, keep] = await new Service(new Listener()).transcribe(
      wav([faint], RATE, 'float32'),
      () => undefined,
      () => false,
    );
    keep();
    return notes;
  };
  const [loud, faint] = [await heard(0.05), await heard(0.005)];
  assert.ok(loud.length > 1);
  assert.deepEqual(
    faint.map(({ onset }) => onset),
    loud.map(({ onset }) => onset),
  );
  faint.forEach(({ velocity }, i) => assert.equal(velocity, loud[i]!.velocity - 40));
  assert.equal((await heard(0.2)).length, 0);
});

test('a bend counts from A = 440 Hz, and is the tuning where nothing else is known', () => {
  assert.equal(fromConcertPitch(null, 0), null);
  assert.deepEqual(fromConcertPitch(null, 25), Float32Array.of(0.25));
  assert.deepEqual(fromConcertPitch(Float32Array.of(0.5, -0.25), -50), Float32Array.of(0, -0.75));
});
