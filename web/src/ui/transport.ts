/** Plays recording and notes together, by the clock of the sound card. */

import type { Note, Silence } from '../engine/types.ts';
import { NoteIndex } from './index.ts';
import { openOriginal } from './original.ts';
import type { Original } from './original.ts';
import { LATENCY, Synth } from './synth.ts';
import type { Sound, Voice } from './synth.ts';
import { SHORTEST_LOOP, endTime, firstStretch, nextStretch, positionAt } from './timeline.ts';
import type { Region, Stretch } from './timeline.ts';

const TICK = 60; // milliseconds between looks ahead
const AHEAD = 0.3; // seconds laid down ahead of the ear
const AHEAD_HIDDEN = 2.5; // the same, while the page is hidden: its timers then come once a second
const LEAD = 0.06; // seconds between the key and the first sound
const LOOKS = 9; // at the place of a streamed recording, before it is judged
const LATE = 0.012; // seconds that it may be off when it starts,
const STALLED = 0.08; // and later
const RESUME = 0.08; // seconds that a note must still sound to be taken up in its middle

interface Sounding {
  voice: Voice;
  /** What was played; if the note is another by now, it stops. */
  note: Note;
  /** When it began or begins, on the audio clock. */
  at: number;
}

export interface TransportEvents {
  /** Playing began or ended, or the loop or the place changed. */
  onChange: () => void;
  /** The browser cannot play this recording; the notes can be heard still. */
  onUnplayable: () => void;
}

export class Transport {
  private context: AudioContext | null = null;
  private synth: Synth | null = null;
  private originalGain: GainNode | null = null;
  private notesGain: GainNode | null = null;
  private original: Promise<Original | null> | null = null;
  private file: Blob | null = null;
  private silences: readonly Silence[] = [];
  private notes = new NoteIndex<Note>([]);
  private stretches: Stretch[] = [];
  private opened: Original | null = null;
  private sounding: Sounding[] = [];
  /** Notes of the last stretch are laid down up to here, in seconds of the recording. */
  private laidDown = 0;
  private looks: number[] = [];
  private settled = false;
  private timer: ReturnType<typeof setInterval> | undefined;
  private resting = 0;
  private starting = false;
  private length = 0;
  private region: Region | null = null;
  private looping = false;
  private mix = 0.5;
  private timbre: Sound = 'plucked';
  private readonly events: TransportEvents;

  constructor(events: TransportEvents) {
    this.events = events;
  }

  get playing(): boolean {
    return this.timer !== undefined || this.starting;
  }

  get duration(): number {
    return this.length;
  }

  /** The region that is played again and again while `isLooping`. */
  get loop(): Region | null {
    return this.region;
  }

  get isLooping(): boolean {
    return this.looping && this.region !== null;
  }

  /** Seconds of the recording that are heard now. */
  position(): number {
    const { context } = this;
    if (this.timer === undefined || !context) return this.resting;
    const delay = context.outputLatency || context.baseLatency || 0;
    return positionAt(this.stretches, context.currentTime - delay);
  }

  /** Another recording. Playing its file leaves out what is said to be silent. */
  load(file: Blob, duration: number, silences: readonly Silence[]): void {
    this.unload();
    this.file = file;
    this.silences = silences;
    this.length = duration;
    this.events.onChange();
  }

  unload(): void {
    this.pause();
    void this.original?.then((original) => original?.dispose());
    this.original = this.opened = this.file = null;
    this.resting = this.length = 0;
    this.region = null;
    this.looping = false;
    this.setNotes([]);
  }

  /** Other notes, sorted by onset. Those that stay the same sound on. */
  setNotes(notes: readonly Note[]): void {
    this.notes = new NoteIndex(notes);
    if (this.timer !== undefined) this.relay();
  }

  setSound(sound: Sound): void {
    this.timbre = sound;
    if (this.synth) this.synth.sound = sound;
    if (this.timer !== undefined) this.relay(true);
  }

  /** 0: the recording alone, 1: the notes alone; between, both, at the middle in full. */
  setBalance(mix: number): void {
    this.mix = mix;
    const now = this.context?.currentTime ?? 0;
    this.originalGain?.gain.setTargetAtTime(Math.min(1, 2 - 2 * mix), now, 0.015);
    this.notesGain?.gain.setTargetAtTime(Math.min(1, 2 * mix), now, 0.015);
  }

  setLoop(region: Region | null, on = region !== null): void {
    if (region && region.end - region.start < SHORTEST_LOOP) region = null;
    const position = this.position();
    this.region = region;
    this.looping = on && region !== null;
    if (this.playing) this.restart(position);
    this.events.onChange();
  }

  setLooping(on: boolean): void {
    this.setLoop(this.region, on);
  }

  toggle(): void {
    if (this.playing) this.pause();
    else void this.play();
  }

  async play(): Promise<void> {
    if (this.playing || !this.length) return;
    this.starting = true;
    this.events.onChange();
    const { context } = this.audio();
    await context.resume();
    const file = this.file;
    if (file && !this.original) {
      this.original = openOriginal(context, file, this.length, this.silences, this.originalGain as GainNode);
      void this.original.then((original) => {
        if (!original && this.file === file) this.events.onUnplayable();
      });
    }
    const original = await this.original;
    if (!this.starting || this.file !== file) return;
    this.starting = false;
    this.opened = original;
    this.start(this.resting >= this.length - 0.02 ? 0 : this.resting);
    this.timer = setInterval(() => this.tick(), TICK);
    this.events.onChange();
  }

  pause(): void {
    if (!this.playing) return;
    this.resting = this.position();
    this.starting = false;
    clearInterval(this.timer);
    this.timer = undefined;
    this.silence();
    this.events.onChange();
  }

  seek(position: number): void {
    const place = Math.min(Math.max(0, position), this.length);
    this.resting = place;
    if (this.timer !== undefined) this.restart(place);
    this.events.onChange();
  }

  /** Let a note be heard for itself, while it is drawn or chosen. */
  audition(note: Note): void {
    const { context, synth } = this.audio();
    void context.resume();
    const length = Math.min(1, note.offset - note.onset);
    synth.play({ ...note, offset: note.onset + length }, context.currentTime + 0.01);
  }

  private audio(): { context: AudioContext; synth: Synth } {
    if (!this.context || !this.synth) {
      // Made at the first sound: browsers want a click or a key first.
      const context = new AudioContext({ latencyHint: 'interactive' });
      this.originalGain = context.createGain();
      this.notesGain = context.createGain();
      // As late as the synthesiser.
      const delay = context.createDelay(0.1);
      delay.delayTime.value = LATENCY;
      this.originalGain.connect(delay).connect(context.destination);
      this.notesGain.connect(context.destination);
      this.context = context;
      this.synth = new Synth(context, this.notesGain);
      this.synth.sound = this.timbre;
      this.setBalance(this.mix);
    }
    return { context: this.context, synth: this.synth };
  }

  private start(from: number): void {
    const loop = this.isLooping ? this.region : null;
    const position = loop && (from < loop.start || from > loop.end - 0.02) ? loop.start : from;
    const at = (this.context as AudioContext).currentTime + LEAD;
    const stretch = firstStretch(position, at, loop, this.length);
    this.stretches = [stretch];
    this.unsettle();
    this.laidDown = position;
    this.opened?.begin(stretch);
    this.resume(stretch, position, at);
    this.look();
  }

  private restart(position: number): void {
    if (this.timer === undefined) return;
    this.silence();
    this.start(position);
  }

  private silence(): void {
    const now = (this.context as AudioContext | null)?.currentTime ?? 0;
    this.opened?.stop();
    for (const { voice } of this.sounding) voice.stop(now);
    this.sounding = [];
    this.stretches = [];
  }

  private tick(): void {
    const context = this.context as AudioContext;
    const last = this.stretches.at(-1);
    if (last && context.currentTime > endTime(last) + 0.05 && !nextStretch(last, this.isLooping ? this.region : null)) {
      this.resting = this.length;
      this.pause();
      this.resting = last.end >= this.length - 0.02 ? 0 : last.end;
      this.events.onChange();
      return;
    }
    this.follow(context.currentTime);
    this.look();
  }

  /**
   * Keep to a recording that the browser plays from its file: it starts when it can, and stalls if the disk does. Once
   * it plays it is in step, but what it says of its place is not exact, so that the middle of several looks counts.
   */
  private follow(now: number): void {
    const ahead = this.opened?.ahead(now) ?? null;
    if (ahead === null) return;
    this.looks.push(ahead);
    if (this.looks.length < LOOKS) return;
    const middle = [...this.looks].sort((a, b) => a - b)[LOOKS >> 1];
    const off = Math.abs(middle) > (this.settled ? STALLED : LATE);
    this.looks = [];
    this.settled = true;
    if (!off) return;
    this.stretches = this.stretches.map((s) => ({ ...s, at: s.at - middle }));
    this.opened?.shift(-middle);
    this.relay(true);
  }

  private unsettle(): void {
    [this.looks, this.settled] = [[], false];
  }

  /** Lay down what is heard soon. */
  private look(): void {
    const context = this.context as AudioContext;
    const horizon = context.currentTime + (document.hidden ? AHEAD_HIDDEN : AHEAD);
    for (;;) {
      const stretch = this.stretches.at(-1);
      if (!stretch) return;
      const to = Math.min(stretch.end, stretch.start + horizon - stretch.at);
      this.lay(stretch, this.laidDown, to);
      this.laidDown = Math.max(this.laidDown, to);
      if (to < stretch.end) break;
      const next = nextStretch(stretch, this.isLooping ? this.region : null);
      if (!next) break;
      this.stretches = [...this.stretches.slice(-3), next];
      this.opened?.begin(next);
      this.unsettle();
      this.laidDown = next.start;
      this.resume(next, next.start, next.at);
    }
    this.sounding = this.sounding.filter(({ voice }) => voice.end > context.currentTime);
  }

  /** Lay down the notes that begin between two places. */
  private lay(stretch: Stretch, from: number, to: number): void {
    const { notes } = this.notes;
    for (let i = this.notes.firstFrom(from); i < notes.length && notes[i].onset < to; i++) {
      this.sound(notes[i], stretch, notes[i].onset);
    }
  }

  /** Take up the notes that sound at a place already. */
  private resume(stretch: Stretch, position: number, at: number, but?: Set<string>): void {
    this.notes.forEach(position, position + 1e-6, (note) => {
      const begun = note.onset < position && note.offset - position > RESUME;
      if (begun && !but?.has(sameness(note))) this.sound(note, stretch, position, at);
    });
  }

  private sound(note: Note, stretch: Stretch, from: number, at = stretch.at + from - stretch.start): void {
    const { context, synth } = this.audio();
    // A note does not sound beyond the end of its stretch.
    const played = note.offset > stretch.end ? { ...note, offset: stretch.end } : note;
    const start = Math.max(at, context.currentTime);
    this.sounding.push({ voice: synth.play(played, start, from - note.onset), note, at: start });
  }

  /** After a change: stop what is no more, and lay down anew what has not been begun. */
  private relay(all = false): void {
    const now = (this.context as AudioContext).currentTime + 0.01;
    const first = Math.max(0, this.stretches.findLastIndex((s) => s.at <= now));
    const position = positionAt(this.stretches, now);
    const current = new Set<string>();
    this.notes.forEach(position, position + 1e-6, (note) => current.add(sameness(note)));
    const kept = new Set<string>();
    this.sounding = this.sounding.filter(({ voice, note, at }) => {
      const key = sameness(note);
      if (!all && at <= now && current.has(key)) {
        kept.add(key);
        return true;
      }
      if (voice.end > now) voice.stop(now);
      return false;
    });
    for (const [i, stretch] of this.stretches.entries()) {
      if (i < first) continue;
      const from = i === first ? position : stretch.start;
      this.resume(stretch, from, Math.max(now, stretch.at), i === first ? kept : undefined);
      if (i < this.stretches.length - 1) this.lay(stretch, from, stretch.end);
      else this.laidDown = from;
    }
    this.look();
  }
}

function sameness({ pitch, onset, offset, velocity }: Note): string {
  return `${pitch} ${onset} ${offset} ${velocity}`;
}
