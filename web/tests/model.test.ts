/** The model file, and the streaming of audio through a network. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { EngineError } from '../src/engine/types.ts';
import { readMetadata } from '../src/worker/metadata.ts';
import { Feed, gridOf, Model, type Network } from '../src/worker/model.ts';
import { rowsOf, type Posteriors } from '../src/worker/posteriors.ts';
import { Dice, ROOT } from './invented.ts';
import { EchoNetwork } from './networks.ts';

const FILE = new Uint8Array(readFileSync(`${ROOT}models/basic_transcribe.onnx`));

/** A protobuf field of bytes. */
function field(number: number, content: Uint8Array | string): Uint8Array {
  const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
  const [low, high] = [(bytes.length & 0x7f) | 0x80, bytes.length >> 7];
  return Uint8Array.of((number << 3) | 2, low, high, ...bytes);
}

function onnxWith(text: string): Uint8Array {
  const entry = Uint8Array.of(...field(1, 'basic_transcribe'), ...field(2, text));
  return Uint8Array.of(0x08, 0x08, ...field(2, 'somebody'), ...field(14, entry)); // ir_version, producer_name
}

test('the constants of the shipped model are read', () => {
  const meta = readMetadata(FILE);
  assert.equal(meta.name, 'basic_transcribe');
  assert.equal(meta.lowest_pitch + meta.pitches, 109);
  assert.deepEqual(readMetadata(onnxWith(JSON.stringify(meta))), meta);
});

test('a file that is no model of ours is refused in one line', () => {
  const meta = readMetadata(FILE);
  const bad = [
    new Uint8Array(),
    FILE.subarray(0, FILE.length - 100),
    new TextEncoder().encode('<!doctype html><title>404</title>'),
    onnxWith('{'),
    onnxWith('null'),
    onnxWith('{"format": 2}'),
    onnxWith(JSON.stringify({ ...meta, hop: 0 })),
    onnxWith(JSON.stringify({ ...meta, hop: 255 })),
    onnxWith(JSON.stringify({ ...meta, pitches: 120 })),
    onnxWith(JSON.stringify({ ...meta, defaults: {} })),
    onnxWith(JSON.stringify({ ...meta, name: 7 })),
  ];
  for (const file of bad) {
    const inOneLine = (error: Error): boolean => error instanceof EngineError && !error.message.includes('\n');
    assert.throws(() => readMetadata(file), inOneLine);
  }
});

/** What a network gives for audio that is pushed in pieces of these sizes, again and again. */
async function through(network: Network, audio: Float32Array, pieces: number[], seconds: number): Promise<Posteriors[]> {
  const feed = new Feed(network, seconds);
  const blocks: Posteriors[] = [];
  for (let at = 0, i = 0; at < audio.length; i++) {
    const size = pieces[i % pieces.length]!;
    for await (const block of feed.push(audio.subarray(at, at + size))) blocks.push(block);
    at += size;
  }
  for await (const block of feed.flush()) blocks.push(block);
  return blocks;
}

test('every frame is given once, with its own context, whatever the blocks and the step of the network', async () => {
  const dice = new Dice(8);
  for (const multiple of [1, 2, 4]) {
    for (const length of [0, 1, 255, 256, 257, 5000, 40_000]) {
      const audio = Float32Array.from({ length }, () => dice.throw());
      for (const seconds of [0.01, 0.1, 1]) {
        const network = new EchoNetwork(multiple);
        const blocks = await through(network, audio, [1 + dice.below(9000), 1 + dice.below(300)], seconds);
        const frames = blocks.flatMap((block) => [...block.note.subarray(0, block.frames)]);
        // What the network sees at the centre of frame i is sample i * hop.
        const expected = Array.from({ length: Math.ceil(length / 256) }, (_, i) => audio[i * 256]!);
        assert.deepEqual(frames, expected);
      }
    }
  }
});

test('posteriors of the shipped model do not depend on the blocks', async () => {
  const model = await Model.load(FILE, 1, null);
  const grid = gridOf(model.meta);
  const dice = new Dice(6);
  const audio = Float32Array.from({ length: 20_000 }, (_, i) => {
    const seconds = (i / 22_050) % 0.5;
    return 0.4 * Math.sin(2 * Math.PI * 440 * seconds) * Math.exp(-6 * seconds) + 0.001 * dice.throw();
  });
  const [whole] = await through(model, audio, [audio.length], 3);
  const pieces = await through(model, audio, [777], 0.5);
  assert.equal(whole!.frames, Math.ceil(audio.length / model.meta.hop));
  let at = 0;
  for (const piece of pieces) {
    const same = rowsOf(whole!, grid, at, at + piece.frames);
    for (const name of ['onset', 'note', 'offset', 'contour', 'level'] as const) {
      const values = rowsOf(piece, grid, 0, piece.frames)[name];
      const difference = Math.max(...values.map((x, i) => Math.abs(x - same[name][i]!)));
      assert.ok(difference < 2e-3 * (name === 'level' ? 100 : 1), `${name} from frame ${at}: ${difference}`);
    }
    at += piece.frames;
  }
  assert.equal(at, whole!.frames);
  assert.ok(Math.max(...whole!.onset) > 0.3);
});
