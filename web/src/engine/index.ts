export { toCsv } from './csv.ts';
export { Engine } from './engine.ts';
export { toMidi } from './midi.ts';
export { shape } from './shape.ts';
