/** What an ONNX file says of itself. The runtime for browsers does not tell, so the file's protobuf is read here. */

import { EngineError } from '../engine/types.ts';

const KEY = 'basic_transcribe';
const METADATA_PROPS = 14; // field of ModelProto: StringStringEntryProto { key = 1; value = 2 }
const REMEDY = 'use the model shipped with the package, or one written by scripts/export.py';
const INTEGERS = [
  'sample_rate',
  'hop',
  'frames_multiple',
  'context_before',
  'context_after',
  'lowest_pitch',
  'pitches',
  'bins_per_semitone',
] as const;
const DEFAULTS = [
  'onset_threshold',
  'split_threshold',
  'frame_threshold',
  'onset_delay',
  'minimum_note_length',
] as const;

type Integers = { [key in (typeof INTEGERS)[number]]: number };

/** As basic_transcribe/model.py reads it. */
export interface Metadata extends Integers {
  name: string;
  version: string;
  defaults: { [key in (typeof DEFAULTS)[number]]: number };
}

/** The constants of a model, checked. Throws an EngineError if the file is none of ours. */
export function readMetadata(file: Uint8Array): Metadata {
  let text: string | undefined;
  try {
    text = properties(file).get(KEY);
  } catch (error) {
    if (error instanceof RangeError) throw fail('it is no ONNX file, or cut short');
    throw error;
  }
  if (text === undefined) throw fail(`its metadata has no key '${KEY}'`);
  let meta: Record<string, unknown> | null;
  try {
    meta = JSON.parse(text) as Record<string, unknown> | null;
  } catch {
    throw fail('its metadata is not JSON');
  }
  if (typeof meta !== 'object' || meta === null || meta['format'] !== 1) {
    throw fail('its metadata is not of format 1; a newer page may read it');
  }
  for (const key of INTEGERS) {
    const value = meta[key];
    if (!Number.isInteger(value) || (value as number) <= 0 || (value as number) > 1e7) {
      throw fail(`metadata '${key}' is ${String(value)}, expected a positive integer`);
    }
  }
  const known = meta as unknown as Metadata;
  if (known.lowest_pitch + known.pitches > 128) throw fail('its pitches go beyond MIDI note 127');
  if (known.context_before % known.hop || known.context_after % known.hop) {
    throw fail('its context is not a whole number of hops');
  }
  if (!known.defaults || !DEFAULTS.every((key) => Number.isFinite(known.defaults[key]))) {
    throw fail(`metadata 'defaults' must give numbers for ${DEFAULTS.join(', ')}`);
  }
  if (typeof known.name !== 'string' || typeof known.version !== 'string') {
    throw fail("metadata 'name' and 'version' must be text");
  }
  return known;
}

function fail(what: string): EngineError {
  return new EngineError(`the model is not one of basic_transcribe: ${what}; ${REMEDY}`);
}

/** The metadata_props of an ONNX file; a RangeError if its bytes are no protobuf. */
function properties(file: Uint8Array): Map<string, string> {
  const found = new Map<string, string>();
  const decoder = new TextDecoder();
  for (const [field, content] of fields(file)) {
    if (field !== METADATA_PROPS) continue;
    const entry = new Map([...fields(content)].map(([number, bytes]) => [number, decoder.decode(bytes)]));
    found.set(entry.get(1) ?? '', entry.get(2) ?? '');
  }
  return found;
}

/** The length-delimited fields of a protobuf message: their numbers and bytes. */
function* fields(bytes: Uint8Array): Generator<[number, Uint8Array]> {
  let at = 0;
  const varint = (): number => {
    let [value, weight] = [0, 1];
    for (;;) {
      const byte = bytes[at++];
      if (byte === undefined) throw new RangeError('cut short');
      value += (byte & 0x7f) * weight;
      if (byte < 0x80) return value;
      weight *= 128;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const kind = tag & 7;
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      if (length > bytes.length - at) throw new RangeError('cut short');
      yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
      at += length;
    } else throw new RangeError('no protobuf');
  }
}
