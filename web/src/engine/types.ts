/** What flows between the rooms of the page, as in basic_transcribe/types.py. */

/** Deviation of a note from its pitch, on a uniform grid. */
export interface Bend {
  /** Time of the first value, in seconds. */
  start: number;
  /** Seconds between values. */
  step: number;
  /** Deviation from the note's pitch. */
  semitones: Float32Array;
}

export interface Note {
  /** Seconds. */
  onset: number;
  /** Seconds, after the onset. */
  offset: number;
  /** MIDI note number. */
  pitch: number;
  /** 1 to 127. */
  velocity: number;
  /** 0 to 1. */
  confidence: number;
  bend: Bend | null;
}

/** How posteriors become notes, as basic_transcribe.TrackerSettings. */
export interface TrackerSettings {
  /** Smallest evidence that starts a note, 0 to 1, both exclusive. Lower finds more notes. */
  onsetThreshold: number;
  /** Smallest mass of an onset that strikes a sounding note again, 0 to 1, both exclusive. Higher splits less. */
  splitThreshold: number;
  /** Note posterior below which a note is over, 0 to 1, both exclusive. Lower makes notes longer. */
  frameThreshold: number;
  /** Shortest note kept, in milliseconds. */
  minimumNoteLength: number;
  /** Lowest MIDI pitch kept. */
  minimumPitch: number;
  /** Highest MIDI pitch kept. */
  maximumPitch: number;
  /** Find the best single line instead of all notes; null finds out: a line for a voice alone, else all notes. */
  monophonic: boolean | null;
}

/** What to do to notes that have been found, as basic_transcribe.ShapeSettings. */
export interface ShapeSettings {
  /** Such as `C minor` or `D dorian`; null leaves the pitches alone. */
  scale: string | null;
  scaleMode: 'snap' | 'drop' | 'mark';
  /** The grid: `1/16`, of triplets `1/8T`; null leaves the times alone. */
  quantize: string | null;
  /** How far notes move to the grid, 0 to 1. */
  strength: number;
  /** How late every second line of the grid is, 0 to 1. */
  swing: number;
  /** Beats of the metre per minute, of 6/8 dotted quarters. */
  tempo: number;
  /** Numerator and denominator. */
  timeSignature: [number, number];
  /** When the first beat of a bar falls, in seconds; 0 if omitted. */
  firstBeat?: number;
}

export interface Progress {
  /** Seconds transcribed so far. */
  seconds: number;
  /** Seconds expected; null if the file does not say. */
  total: number | null;
  notesSoFar: number;
  /** As in the Result. */
  tuning: number;
}

/** In seconds of the recording. */
export interface Silence {
  start: number;
  end: number;
}

export interface Result {
  /** Seconds. */
  duration: number;
  /** Sorted by onset, then pitch; no two of one pitch overlap. */
  notes: Note[];
  /** Cents by which its A lies above 440 Hz; 0 if it hardly does. Bends of notes count from 440 Hz. */
  tuning: number;
  /** What a careful listener should know, one line each. */
  warnings: string[];
  /** Where the file has nothing, and silence was put: a browser that plays it leaves that out. */
  silences: Silence[];
  /** Lowest and highest sample of each 10 ms of the mono sound: min, max, min, max, ... */
  peaks: Float32Array;
}

/** The contour posterior as a picture. */
export interface Spectrogram {
  /** Columns, in time. */
  width: number;
  /** Bins of pitch; row 0 is the lowest. */
  height: number;
  /** Row after row: `data[row * width + column]`, 0 to 255. */
  data: Uint8Array;
  secondsPerColumn: number;
  /** MIDI pitch of the lowest semitone; its centre lies in row `binsPerSemitone >> 1`. */
  lowestPitch: number;
  binsPerSemitone: number;
}

/** Decoded sound, one array per channel, full scale 1. */
export interface Samples {
  samples: Float32Array[];
  sampleRate: number;
}

export interface TranscribeOptions {
  onProgress?: (progress: Progress) => void;
  /** Called with notes that are finished, a few at a time, in order of their ends. */
  onNotes?: (finished: Note[]) => void;
  /** Rejects with the signal's reason. */
  signal?: AbortSignal;
}

export interface MidiOptions {
  /** Beats of the metre per minute. Times in seconds do not depend on it. */
  tempo: number;
  /** As `--pitch-bends`. */
  bends: 'plain' | 'channels' | 'mpe' | 'none';
  /** Track name. */
  title: string;
  /** General MIDI, 0 to 127; 0 if omitted. */
  program?: number;
  timeSignature?: [number, number];
  /** When the first beat of a bar falls, in seconds: the bars begin there. 0 if omitted. */
  firstBeat?: number;
  /** Cents by which the recording's A lies above 440 Hz; 0 if omitted. Bends of notes include it. */
  tuning?: number;
}

/** What went wrong, in one line for people: what, why, what to do. */
export class EngineError extends Error {
  override name = 'EngineError';
}
