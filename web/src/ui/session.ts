/** One recording at a time through the engine. */

import type { Note, Progress, Result, Spectrogram, TrackerSettings } from '../engine/types.ts';
import type { Listener } from './engine-api.ts';

export interface SessionEvents {
  onProgress: (progress: Progress) => void;
  /** All notes that are finished so far. */
  onNotes: (notes: readonly Note[]) => void;
  onResult: (result: Result) => void;
  onPicture: (picture: Spectrogram) => void;
  onCandidates: (candidates: readonly Note[]) => void;
  /** The notes with other settings. */
  onTracked: (notes: readonly Note[]) => void;
  onError: (error: unknown) => void;
}

export class Session {
  private readonly start: () => Promise<Listener>;
  private engine: Promise<Listener> | null = null;
  private readonly events: SessionEvents;
  private abort: AbortController | null = null;
  private round = 0;
  private tracking = false;
  private wanted: TrackerSettings | null = null;

  constructor(start: () => Promise<Listener>, events: SessionEvents) {
    this.start = start;
    this.events = events;
  }

  /** The engine; where it could not be started, it is each time anew. */
  async ready(): Promise<Listener> {
    const engine = (this.engine ??= this.start());
    try {
      return await engine;
    } catch (error) {
      if (this.engine === engine) this.engine = null;
      throw error;
    }
  }

  /** Transcribe a recording; false if it was cancelled or went wrong. */
  async open(file: Blob): Promise<boolean> {
    this.cancel();
    const round = ++this.round;
    const abort = (this.abort = new AbortController());
    const current = (): boolean => round === this.round && !abort.signal.aborted;
    const finished: Note[] = [];
    this.wanted = null;
    try {
      const engine = await this.ready();
      abort.signal.throwIfAborted();
      const result = await engine.transcribe(file, {
        signal: abort.signal,
        onProgress: (progress) => current() && this.events.onProgress(progress),
        onNotes: (notes) => {
          finished.push(...notes);
          if (current()) this.events.onNotes([...finished]);
        },
      });
      if (!current()) return false;
      this.abort = null;
      this.events.onResult(result);
      const picture = await engine.spectrogram();
      if (current()) this.events.onPicture(picture);
      const candidates = await engine.candidates();
      if (current()) this.events.onCandidates(candidates);
      return true;
    } catch (error) {
      if (current()) this.events.onError(error);
      return false;
    } finally {
      if (this.abort === abort) this.abort = null;
    }
  }

  cancel(): void {
    this.abort?.abort(new DOMException('cancelled', 'AbortError'));
    this.abort = null;
  }

  /** Find the notes again. While they are, only the last settings asked for are remembered. */
  async track(settings: TrackerSettings): Promise<void> {
    this.wanted = settings;
    if (this.tracking) return;
    this.tracking = true;
    try {
      const engine = await this.ready();
      while (this.wanted) {
        const [asked, round]: [TrackerSettings, number] = [this.wanted, this.round];
        this.wanted = null;
        const notes = await engine.track(asked);
        if (round === this.round) this.events.onTracked(notes);
        if (this.wanted) continue;
        const candidates = await engine.candidates();
        if (round === this.round) this.events.onCandidates(candidates);
      }
    } catch (error) {
      this.events.onError(error);
    } finally {
      this.tracking = false;
    }
  }
}
