/** From events and posteriors to notes, in one pass (basic_transcribe/notes.py, whose rules these are). */

import type { Note } from '../engine/types.ts';
import { finished, type Begun } from './bends.ts';
import { endOf, LATE } from './ends.ts';
import { AHEAD, CENTRE, ONSET, VELOCITIES, velocityOf, type Events } from './evidence.ts';
import type { FullSettings, Recording, Span } from './recording.ts';
import { ClearRows, LASTING, type Swell } from './swells.ts';

const GAP = 4; // frames the note posterior must stay low for the note to be over: shorter dips are bridged

/** A note that has begun, how far it has been looked at, and where it is silent. */
interface Open extends Begun {
  /** The next row to be looked at, and how many before it were silent. */
  row: number;
  quiet: number;
  /** Row from which on it is silent; -1 if that is not known yet. */
  silentFrom: number;
}

/** Follows a recording while it is read, or afterwards. */
export class NoteTracker {
  readonly #recording: Recording;
  readonly #settings: FullSettings;
  readonly #onsetThreshold: number;
  readonly #frameThreshold: number;
  readonly #open = new Map<number, Open>();
  readonly #first: number;
  readonly #ended: Float64Array; // by pitch, when its last note ended
  readonly #events: Span[]; // that have not been handled
  readonly #clear: ClearRows[]; // by pitch
  #finished: Note[] = [];

  /** `first` is the frame that it begins with, `begun` a note that has been followed up to there, and that goes on. */
  constructor(recording: Recording, settings: FullSettings, first = 0, begun: Begun | null = null) {
    this.#recording = recording;
    this.#settings = settings;
    this.#first = first;
    this.#events = recording.eventsFrom(first);
    this.#onsetThreshold = Math.fround(settings.onsetThreshold);
    this.#frameThreshold = Math.fround(settings.frameThreshold);
    this.#ended = new Float64Array(recording.grid.pitches).fill(first / recording.grid.frameRate);
    const pitches = Array.from(this.#ended.keys());
    this.#clear = pitches.map((pitch) => new ClearRows(recording, settings, pitch, first));
    if (begun) this.#follow(begun, first);
  }

  /** The notes that are finished by what has been pushed, in order of their ends. */
  advance(): Note[] {
    return this.#advance(this.#recording.frames - AHEAD);
  }

  /** The recording is over: the notes that still sound. */
  finish(): Note[] {
    return this.#advance(this.#recording.frames + GAP + 2);
  }

  /** Handle all events of frames before `limit`. */
  #advance(limit: number): Note[] {
    const { grid } = this.#recording;
    const low = Math.max(0, this.#settings.minimumPitch - grid.lowestPitch);
    const high = Math.min(grid.pitches - 1, this.#settings.maximumPitch - grid.lowestPitch);
    this.#finished = [];
    for (const span of this.#events) {
      const { events } = span;
      const end = Math.min(limit, span.end);
      for (; span.next < events.length && events.frame[span.next]! < end; span.next++) {
        const pitch = events.pitch[span.next]!;
        if (pitch >= low && pitch <= high) this.#handle(events, span.next, pitch, limit);
      }
    }
    for (let pitch = low; pitch <= high; pitch++) this.#swell(pitch, limit, limit);
    for (const [pitch, current] of this.#open) {
      const end = this.#endOf(pitch, current, limit);
      if (end + GAP < limit) this.#close(pitch, current, end);
    }
    return this.#finished;
  }

  #handle(events: Events, i: number, pitch: number, limit: number): void {
    if (events.kind[i]! !== ONSET || events.confidence[i]! < this.#onsetThreshold) return;
    const frame = events.frame[i]!;
    this.#swell(pitch, frame, limit);
    const current = this.#open.get(pitch);
    if (current !== undefined) {
      const end = this.#endOf(pitch, current, limit);
      if (end > frame && events.mass[i]! < this.#settings.splitThreshold) return;
      this.#close(pitch, current, Math.min(end, frame), this.#onset(events, i));
    }
    this.#begin(events, i);
  }

  /** Begin the notes of a pitch that have become clear in rows before `last`, where none sounds. */
  #swell(pitch: number, last: number, limit: number): void {
    const clear = this.#clear[pitch]!;
    for (let row = clear.next(last); row >= 0; row = clear.next(last)) {
      const current = this.#open.get(pitch);
      if (current !== undefined) {
        const end = this.#endOf(pitch, current, limit);
        if (end > row) continue;
        this.#close(pitch, current, end);
      }
      const swell = clear.swell(row);
      if (swell) this.#rise(pitch, swell);
    }
  }

  /** Begin a note that nothing marked the onset of. */
  #rise(pitch: number, { row, frame, confidence }: Swell): void {
    const { grid, line } = this.#recording;
    const onset = Math.max(frame / grid.frameRate + this.#settings.onsetDelay / 1000, this.#ended[pitch]!);
    const velocity = Math.max(1, Math.round(line.at(row, 2 * pitch + 1) * VELOCITIES));
    this.#follow({ pitch, frame, onset, velocity, confidence }, frame + 1);
  }

  /** Seconds at which a note begins. */
  #onset(events: Events, event: number): number {
    const frames = events.frame[event]! + events.fraction[event]!;
    return frames / this.#recording.grid.frameRate + this.#settings.onsetDelay / 1000;
  }

  #begin(events: Events, event: number): void {
    const { grid } = this.#recording;
    const frame = events.frame[event]!;
    const pitch = events.pitch[event]!;
    const begun = {
      pitch,
      frame,
      onset: Math.max(this.#onset(events, event), this.#ended[pitch]!),
      velocity: velocityOf(events.level[event]!, grid.lowestPitch + pitch),
      confidence: Math.min(1, events.confidence[event]!),
    };
    this.#follow(begun, frame + 1);
  }

  /** Follow a note, which may be over from a row on. */
  #follow(begun: Begun, row: number): void {
    this.#open.set(begun.pitch, { ...begun, row, quiet: 0, silentFrom: -1 });
  }

  /** Row from which on an open note is silent; infinite if it is not known to be before `limit`. */
  #endOf(pitch: number, note: Open, limit: number): number {
    if (note.silentFrom >= 0) return note.silentFrom;
    const { note: posterior } = this.#recording;
    for (; note.row < limit + GAP - 1; note.row++) {
      note.quiet = posterior.at(note.row, pitch) < this.#frameThreshold ? note.quiet + 1 : 0;
      if (note.quiet === GAP) {
        note.silentFrom = note.row - GAP + 1;
        return note.silentFrom;
      }
    }
    return Infinity;
  }

  /** Finish the open note of a pitch, which is over by frame `silent` and the time `latest`, unless it is too short. */
  #close(pitch: number, note: Open, silent: number, latest = Infinity): void {
    this.#open.delete(pitch);
    const { offset: posterior, frames, grid } = this.#recording;
    // What sounds on clearly for long has not ended before.
    const sure = this.#clear[pitch]!.lastBefore(silent) + 1 - LASTING + CENTRE;
    const first = Math.max(this.#first, note.frame, sure);
    const offsets = new Float32Array(silent + LATE - first);
    posterior.read(pitch, first, Math.min(silent + LATE, frames), offsets, 0, 1);
    const end = endOf(offsets, first, note.frame, silent);
    latest = Math.max(note.onset, Math.min(silent / grid.frameRate, latest));
    this.#ended[pitch] = latest;
    const offset = Math.max(note.onset, Math.min(end / grid.frameRate, latest));
    const whole = finished(note, end, offset, this.#recording, this.#settings);
    if (whole) this.#finished.push(whole);
  }
}
