/** Which tracker follows a recording: for all notes, or a line (as basic_transcribe/tracking.py has it). */

import type { Note } from '../engine/types.ts';
import { CHUNK } from './edges.ts';
import { MonophonicTracker } from './monophonic.ts';
import type { FullSettings, Recording } from './recording.ts';
import { NoteTracker } from './tracker.ts';

const ENOUGH = 6 * CHUNK; // frames with a note that settle what a recording is
const LEAST = CHUNK >> 1; // and the fewest that say anything, if it is shorter
const PATIENCE = 30 * CHUNK; // frames after which it is settled by what has been heard until then
const UNSTEADY = 0.25; // share of the line's frames that lie beside the middle of a semitone
const CHORDS = CHUNK >> 1; // frames with several notes, those of the last seconds, that show that others play along
const FORGET = 0.8; // how much the frames with several notes count a chunk later
const STRAY = 0.05; // share of frames with several notes that a line alone may have
const CLEARER = 0.3; // part of the way from the onset threshold to 1 at which that of a voice lies
const DELAY = 2; // chunks by which the line is decided late: others join in where it has got to

/** The onset threshold of a voice: it glides, and half of a glide looks like an onset. */
export function voiceThreshold(threshold: number): number {
  return threshold + CLEARER * (1 - threshold);
}

/** Follows a recording while it is read, or afterwards. */
export interface Tracker {
  /** The notes that are finished by what has been pushed, in order of their ends. */
  advance(): Note[];
  /** The recording is over: the notes that still sound. */
  finish(): Note[];
}

/** Gives no notes until it is known which tracker suits them: a voice alone is a line, until others join in. */
class AutomaticTracker implements Tracker {
  readonly #recording: Recording;
  readonly #settings: FullSettings;
  #all: NoteTracker | null = null;
  #line: MonophonicTracker | null = null;
  #judged = 0; // frames
  #frame = 0; // first one that no tracker has, or that the line has not decided
  #heard = 0; // frames with a note, and with more than one
  #several = 0;
  #unsteady = 0; // frames with a single note that lies beside the middle of its semitone
  #chords = 0; // frames with several notes, the earlier the less

  constructor(recording: Recording, settings: FullSettings) {
    this.#recording = recording;
    this.#settings = settings;
  }

  advance(): Note[] {
    const notes = this.#judge();
    return this.#all ? notes.concat(this.#all.advance()) : notes;
  }

  finish(): Note[] {
    const notes = this.#judge();
    if (!this.#all) {
      this.#listen(this.#recording.frames);
      if (!this.#line) notes.push(...this.#settle());
    }
    return notes.concat((this.#all ?? this.#line)!.finish());
  }

  /** Judge the chunks that are there, chunk by chunk, whatever the blocks. */
  #judge(): Note[] {
    const notes: Note[] = [];
    while (!this.#all && this.#judged + CHUNK <= this.#recording.frames) notes.push(...this.#take());
    return notes;
  }

  /** Judge the next chunk, and give it to the line. */
  #take(): Note[] {
    this.#listen(this.#judged + CHUNK);
    if (this.#line) return this.#chords >= CHORDS ? this.#lookForAll() : this.#follow(this.#line);
    const waited = this.#judged - this.#frame;
    if (this.#chords >= CHORDS || this.#heard >= ENOUGH || waited >= PATIENCE) return this.#settle();
    if (!this.#heard) this.#pass(); // no tracker needs the silence before the first note
    return [];
  }

  /** Count the frames up to `end` with a note, with several, and with one beside the middle of its semitone. */
  #listen(end: number): void {
    const { hearing } = this.#recording;
    const { heard, several, unsteady } = hearing.count(this.#judged, end, this.#settings.frameThreshold);
    this.#judged = end;
    this.#heard += heard;
    this.#several += several;
    this.#unsteady += unsteady;
    this.#chords = FORGET * this.#chords + several;
  }

  /** Choose the tracker. */
  #settle(): Note[] {
    const alone = this.#heard >= LEAST && this.#chords < CHORDS && this.#several <= STRAY * this.#heard;
    if (alone && this.#unsteady >= UNSTEADY * this.#heard) {
      const onsetThreshold = voiceThreshold(this.#settings.onsetThreshold);
      this.#line = new MonophonicTracker(this.#recording, { ...this.#settings, onsetThreshold }, this.#frame);
      return this.#follow(this.#line);
    }
    return this.#lookForAll();
  }

  #follow(line: MonophonicTracker): Note[] {
    this.#pass();
    return line.advance(this.#judged);
  }

  /** Look for all notes from here on. The note that the line is at goes on. */
  #lookForAll(): Note[] {
    this.#all = new NoteTracker(this.#recording, this.#settings, this.#frame, this.#line?.begun);
    return [];
  }

  /** All but the last chunks are done with. */
  #pass(): void {
    this.#frame = Math.max(this.#frame, this.#judged - DELAY * CHUNK);
  }
}

/** The tracker that the settings ask for. */
export function trackerFor(recording: Recording, settings: FullSettings): Tracker {
  if (settings.monophonic === null) return new AutomaticTracker(recording, settings);
  return new (settings.monophonic ? MonophonicTracker : NoteTracker)(recording, settings);
}

/** The notes of a recording that has been read, sorted by onset, then pitch. */
export function trackNotes(recording: Recording, settings: FullSettings): Note[] {
  return inOrder(trackerFor(recording, settings).finish(), recording.duration);
}

/** Notes cut at the end of the recording, sorted by onset, then pitch. */
export function inOrder(notes: Note[], duration: number): Note[] {
  return notes
    .filter((note) => note.onset < duration)
    .map((note) => (note.offset > duration ? { ...note, offset: duration } : note))
    .sort((a, b) => a.onset - b.onset || a.pitch - b.pitch);
}
