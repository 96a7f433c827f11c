export { toCsv } from './csv.ts';
export { Engine } from './engine.ts';
export { toMidi } from './midi.ts';
export { parseScale, SCALES } from './keys.ts';
export { shape } from './shape.ts';
export * from './types.ts';
