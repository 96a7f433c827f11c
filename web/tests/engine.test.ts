/** The page's side and the worker's side of the engine, on the two ends of a channel. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageChannel } from 'node:worker_threads';

import { Engine, Line } from '../src/engine/engine.ts';
import type { Port, Reply } from '../src/engine/protocol.ts';
import { EngineError, type Note, type Progress } from '../src/engine/types.ts';
import type { Network } from '../src/worker/model.ts';
import { serve, Service } from '../src/worker/service.ts';
import { EchoNetwork } from './networks.ts';
import { wav } from './sounds.ts';

const RATE = 22050;

/** An engine whose worker is in this thread. `hear` is called with each reply, before the engine hears it. */
async function engineWith(network: Network, hear?: (reply: Reply) => void): Promise<Engine> {
  const { port1, port2 } = new MessageChannel();
  serve(port2 as unknown as Port, () => Promise.resolve(new Service(network)));
  const engine = Engine.connect(new Line(port1 as unknown as Port, () => port1.close()), 'http://page/', 1);
  const { onmessage } = port1 as unknown as Port;
  (port1 as unknown as Port).onmessage = (event) => {
    hear?.(event.data as Reply);
    onmessage?.(event);
  };
  return engine;
}

/** Sound whose samples are, for the network above, the posteriors of a note every second. */
function pulses(seconds: number): Float32Array {
  return Float32Array.from({ length: seconds * RATE }, (_, i) => {
    const frame = Math.floor(i / 256) % 86;
    return frame < 40 ? 0.9 - 0.2 * Math.min(1, frame / 30) : 0;
  });
}

test('a recording is transcribed, and tracked again', async () => {
  const engine = await engineWith(new EchoNetwork());
  assert.equal(engine.defaults.minimumPitch, 60);
  assert.deepEqual(await engine.track(engine.defaults), []);

  const progress: Progress[] = [];
  const told: Note[] = [];
  const sound = { samples: [pulses(60)], sampleRate: RATE };
  const result = await engine.transcribe(sound, {
    onProgress: (p) => progress.push(p),
    onNotes: (notes) => told.push(...notes),
  });
  assert.equal(result.duration, 60);
  assert.equal(result.peaks.length, 2 * 6000);
  assert.ok(result.notes.length > 50);
  assert.deepEqual(told, result.notes.slice(0, told.length));
  assert.ok(progress.length > 4 && progress.every((p) => p.total === 60));
  assert.ok(progress.every((p, i) => i === 0 || p.seconds > progress[i - 1]!.seconds));

  assert.deepEqual(await engine.track(engine.defaults), result.notes);
  const low = { ...engine.defaults, minimumPitch: 61 };
  assert.deepEqual(await engine.track(low), []);
  assert.deepEqual(await engine.track(engine.defaults), result.notes);
  assert.equal(engine.defaults.monophonic, null);
  assert.deepEqual(await engine.track({ ...engine.defaults, monophonic: false }), result.notes);
  const line = await engine.track({ ...engine.defaults, monophonic: true });
  assert.ok(line.length > 50);
  assert.notDeepEqual(line, result.notes);
  const strict = await engine.track({ ...engine.defaults, onsetThreshold: 0.99 });
  const faint = await engine.candidates();
  assert.ok(faint.every((note) => !strict.some((n) => n.onset < note.offset && n.offset > note.onset)));
  assert.equal((await engine.spectrogram()).width, Math.ceil((60 * RATE) / 256));
  engine.dispose();
});

test('a file gives what its samples give', async () => {
  const engine = await engineWith(new EchoNetwork());
  const samples = pulses(3);
  const { notes } = await engine.transcribe({ samples: [samples], sampleRate: RATE });
  const file = await engine.transcribe(wav([samples, samples], RATE, 'float32'));
  assert.deepEqual(file.notes, notes);
  assert.deepEqual(file.warnings, []);
  engine.dispose();
});

test('of a file that is too long to be decoded whole it is said what to do', async (t) => {
  const engine = await engineWith(new EchoNetwork());
  const large = Object.defineProperty(new Blob(['no sound']), 'size', { value: 3e8 });
  await assert.rejects(engine.transcribe(large), /^EngineError: too long for this browser, .*; use a current/);
  Object.assign(globalThis, { isSecureContext: false });
  t.after(() => Object.assign(globalThis, { isSecureContext: undefined }));
  await assert.rejects(engine.transcribe(large), /^EngineError: too long: .* http .*; open it at localhost or over https/);
  engine.dispose();
});

test('cancelling stops within a block, and leaves what was there', async () => {
  const network = new EchoNetwork();
  const engine = await engineWith(network);
  const { notes } = await engine.transcribe({ samples: [pulses(5)], sampleRate: RATE });
  const control = new AbortController();
  const before = network.runs;
  const long = engine.transcribe(
    { samples: [pulses(90)], sampleRate: RATE },
    { signal: control.signal, onProgress: () => control.abort() },
  );
  await assert.rejects(long, { name: 'AbortError' });
  assert.deepEqual(await engine.track(engine.defaults), notes);
  assert.ok(network.runs - before <= 2);

  const aborted = engine.transcribe({ samples: [pulses(5)], sampleRate: RATE }, { signal: AbortSignal.abort('no') });
  await assert.rejects(aborted, (reason) => reason === 'no');
  // One that still waits for its turn is not begun.
  const waiting = new AbortController();
  const first = engine.transcribe({ samples: [pulses(5)], sampleRate: RATE });
  const second = engine.transcribe({ samples: [pulses(90)], sampleRate: RATE }, { signal: waiting.signal });
  waiting.abort();
  await assert.rejects(second, { name: 'AbortError' });
  assert.deepEqual((await first).notes, notes);
  engine.dispose();
});

test('a recording that is cancelled when its result is on the way leaves what was there', async () => {
  let control: AbortController | null = null;
  const engine = await engineWith(new EchoNetwork(), ({ kind }) => kind === 'done' && control?.abort());
  const { notes } = await engine.transcribe({ samples: [pulses(5)], sampleRate: RATE });
  const { width } = await engine.spectrogram();
  control = new AbortController();
  const late = engine.transcribe({ samples: [pulses(9)], sampleRate: RATE }, { signal: control.signal });
  await assert.rejects(late, { name: 'AbortError' });
  control = null;
  assert.equal((await engine.spectrogram()).width, width);
  assert.deepEqual(await engine.track(engine.defaults), notes);
  // Nor does what was asked of it before come from another.
  const next = engine.transcribe({ samples: [pulses(9)], sampleRate: RATE });
  assert.equal((await engine.spectrogram()).width, width);
  assert.ok((await next).notes.length > notes.length);
  assert.ok((await engine.spectrogram()).width > width);
  engine.dispose();
});

test('what goes wrong is said in one line', async () => {
  const engine = await engineWith(new EchoNetwork());
  const bad = { samples: [Float32Array.of(0, Infinity)], sampleRate: RATE };
  await assert.rejects(engine.transcribe(bad), EngineError);
  assert.deepEqual((await engine.transcribe({ samples: [pulses(0)], sampleRate: RATE })).notes, []);

  const broken = await engineWith({ meta: new EchoNetwork().meta, run: () => Promise.reject(new Error('out of memory')) });
  await assert.rejects(broken.transcribe({ samples: [pulses(1)], sampleRate: RATE }), /EngineError: .*out of memory.*load/);
  broken.dispose();

  const asked = engine.track(engine.defaults);
  engine.dispose();
  await assert.rejects(asked, EngineError);
  await assert.rejects(engine.track(engine.defaults), EngineError);
});
