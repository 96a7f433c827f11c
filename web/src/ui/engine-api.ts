/** What the page needs of the engine; tests give it one that needs no model. */

import type {
  MidiOptions,
  Note,
  Result,
  ShapeSettings,
  Spectrogram,
  TrackerSettings,
  TranscribeOptions,
} from '../engine/types.ts';

export interface Listener {
  readonly defaults: TrackerSettings;
  transcribe(source: Blob, options: TranscribeOptions): Promise<Result>;
  track(settings: TrackerSettings): Promise<Note[]>;
  candidates(): Promise<Note[]>;
  spectrogram(): Promise<Spectrogram>;
}

export interface Tools {
  createEngine: () => Promise<Listener>;
  shape: <T extends Note>(notes: T[], settings: ShapeSettings, tuning?: number) => T[];
  toMidi: (notes: Note[], options: MidiOptions) => Uint8Array;
  toCsv: (notes: Note[]) => string;
}
