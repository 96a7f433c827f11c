import { Engine, shape, toCsv, toMidi } from './engine/index.ts';
import { startApp } from './ui/app.ts';

startApp({ createEngine: () => Engine.create(), shape, toCsv, toMidi });
