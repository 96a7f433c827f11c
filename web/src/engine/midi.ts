/**
 * Notes to a Standard MIDI File, as basic_transcribe/midi.py: everything is rounded to ticks once; a bend is written as
 * steps; on one tick notes end, then bends change, then notes begin.
 */

import { BEGIN_PARTS, FINEST_BAR, LONGEST_QUARTER, beatsOf, isCompound, leadIn, metre, rint, type Beats } from './timing.ts';
import { EngineError, type Bend, type MidiOptions, type Note } from './types.ts';

const DEFAULT_TITLE = 'basic_transcribe';
const DRUMS = 9; // the channel, counted from 0, that General MIDI and most readers take for drums
const CHANNELS = Array.from({ length: 16 }, (_, i) => i).filter((c) => c !== DRUMS);
const BEND_RANGES = [2, 12, 24]; // semitones; the smallest that holds every bend is used
const BEND_STEP = 0.015; // semitones; smaller changes cannot be heard and are not written
const EDGE = 0.03; // seconds by which a bent note may overlap its neighbours on a shared channel
const RESOLUTION = 480; // ticks per quarter note, or a multiple of this
const LONGEST_TICK = 1.5e-3; // seconds
const MOST_TICKS = 9_900_000; // some readers refuse files of more than ten million ticks
const LATEST = 360_000; // seconds
const SHORTEST_QUARTER = 0.01;
const TEMPO_ERROR = 50e-6; // seconds by which a beat may miss its tick before the tempo is written anew
const RELEASE = 2; // quarter notes for which a note that ended keeps its bend, if its channel stays free
// MIDI Polyphonic Expression 1.0 (RP-053).
const MPE_MANAGER = 0;
const MPE_MEMBERS = Array.from({ length: 15 }, (_, i) => i + 1);
const MPE_VOICES = MPE_MEMBERS.filter((c) => c !== DRUMS);
const MPE_BEND_RANGE = 48;
const MPE_MANAGER_BEND_RANGE = 2;
const BEND_RANGE_TICKS = 2;
const [END, SELECT, BEND, BEGIN] = [0, 1, 2, 3]; // order of events on one tick

/** Tick, order, channel, and two values of the message. */
type Event = [number, number, number, number, number];
type Steps = [tick: number, value: number][];

/** A tempo: where it begins, in ticks and seconds, and its microseconds per quarter note. */
interface Tempo {
  tick: number;
  seconds: number;
  microseconds: number;
}

/** A note in ticks. */
interface Voice {
  start: number;
  end: number;
  pitch: number;
  velocity: number;
  bend: Bend | null;
  bends: Steps;
}

/** The contents of a Standard MIDI File, type 1: a track of tempo and metre, then the notes. */
export function toMidi(notes: Note[], options: MidiOptions): Uint8Array<ArrayBuffer> {
  const { tempo, bends, program = 0, timeSignature, firstBeat = 0, tuning = 0 } = options;
  notes.forEach(check);
  if (!Number.isInteger(program) || program < 0 || program > 127) {
    throw new EngineError(`program is ${program}; General MIDI programs are 0 to 127`);
  }
  const beats = beatsOf(tempo, timeSignature ?? [4, 4], firstBeat);
  const latest = notes.reduce((latest, note) => Math.max(latest, note.offset), 0);
  const clock = firstBeat > 0 ? beatClock(beats, latest) : steadyClock(tempo * beats.quarters, latest);

  const voices = voicesOf(bends === 'none' ? notes.map((note) => ({ ...note, bend: null })) : notes, clock);
  const range = bendRange(voices, bends === 'mpe' ? [MPE_BEND_RANGE] : BEND_RANGES);
  const anyBent = voices.some(({ bend }) => bend?.semitones.length);
  const rest = bends === 'mpe' || !anyBent ? 0 : rint((tuning / 100) * (8192 / range));
  for (const voice of voices) if (voice.bend) voice.bends = stepsOf(voice.bend, voice, clock, range, rest);
  let channels: Map<number, Voice[]>;
  if (bends === 'mpe') channels = allocateMembers(voices);
  else if (bends === 'channels') channels = allocate(voices);
  else {
    unbendOverlapping(voices, clock);
    channels = new Map([[0, voices]]);
  }

  const title = printable(options.title) || DEFAULT_TITLE;
  const named = (i: number): string => (channels.size === 1 ? title : `${title} (${i + 1})`);
  const release = RELEASE * clock.resolution;
  const tracks =
    bends === 'mpe'
      ? [mpeTrack(title, program, channels, release)]
      : [...channels].map(([channel, members], i) => track(named(i), program, channel, members, range, rest, release));
  const signatures = firstBeat > 0 ? beatSignatures(beats, timeSignature, clock) : timeSignature && [{ tick: 0, signature: timeSignature }];
  return file([conductor(clock, signatures ?? []), ...tracks], clock.resolution);
}

function check(note: Note): void {
  const { onset, offset, pitch, velocity, bend } = note;
  const times = Number.isFinite(onset) && Number.isFinite(offset) && Math.max(onset, offset) <= LATEST;
  const bent = !bend || (Number.isFinite(bend.start) && bend.step > 0 && bend.semitones.every(Number.isFinite));
  const whole = Number.isInteger(pitch) && pitch >= 0 && pitch <= 127;
  if (!times || !bent || !whole || !Number.isFinite(velocity)) {
    throw new EngineError(`a note cannot be written: pitch ${pitch} at ${onset} s; delete it`);
  }
}

function printable(text: string): string {
  return text.replace(/[\p{C}\p{Z}]/gu, (c) => (c === ' ' ? c : '?'));
}

// ------------------------------------------------------------------------------------------------------------ tempo

/** Seconds to ticks and back, by the tempi as the file holds them. The last one holds for ever. */
class Clock {
  readonly resolution: number;
  readonly tempi: Tempo[];

  constructor(resolution: number, tempi: Tempo[]) {
    this.resolution = resolution;
    this.tempi = tempi;
  }

  /** The nearest tick; negative times count as 0. */
  tick(seconds: number): number {
    const at = Math.max(seconds, 0);
    const tempo = this.tempi.findLast((t) => t.seconds <= at)!;
    return rint(tempo.tick + ((at - tempo.seconds) * (1e6 * this.resolution)) / tempo.microseconds);
  }

  seconds(tick: number): number {
    const tempo = this.tempi.findLast((t) => t.tick <= tick)!;
    return tempo.seconds + ((tick - tempo.tick) * tempo.microseconds) / (1e6 * this.resolution);
  }
}

function resolutionFor(longestQuarter: number, quarters: number): number {
  const fine = RESOLUTION * Math.ceil(longestQuarter / (RESOLUTION * LONGEST_TICK));
  const coarse = quarters > 0 ? Math.floor(MOST_TICKS / quarters) : fine;
  return Math.max(1, Math.min(fine, coarse));
}

function steadyClock(tempo: number, latest: number): Clock {
  const resolution = resolutionFor(60 / tempo, (latest * tempo) / 60);
  return new Clock(resolution, [{ tick: 0, seconds: 0, microseconds: rint(6e7 / tempo) }]);
}

/** The clock by which each beat falls on its tick, `leadIn` beats after the beginning. */
function beatClock(beats: Beats, latest: number): Clock {
  const lead = leadIn(beats);
  const count = Math.max(2, Math.ceil((latest - beats.first) / beats.length) + 1);
  const times = Array.from({ length: count }, (_, k) => beats.first + beats.length * k);
  const seconds = [0, ...(lead ? times : times.slice(1))];
  const quarters = seconds.map((_, i) => (i ? (lead || 1) + i - 1 : 0) * beats.quarters);
  const lengths = seconds.slice(1).map((s, i) => (s - seconds[i]!) / (quarters[i + 1]! - quarters[i]!));
  const longest = Math.max(lengths[0]!, lengths.at(-1)!); // all but the first are alike
  if (Math.min(lengths[0]!, lengths.at(-1)!) < SHORTEST_QUARTER || longest > LONGEST_QUARTER) {
    throw new EngineError('the first beat and the tempo do not fit together; choose an earlier first beat');
  }
  const last = quarters.at(-1)! + Math.max(0, latest - seconds.at(-1)!) / lengths.at(-1)!;
  const resolution = resolutionFor(longest, last);
  const ticks = quarters.map((q) => rint(q * resolution));
  const unit = 1e6 * resolution; // microseconds times resolution: the file's sums stay whole
  const goals = seconds.map((s) => s * unit);
  if (ticks[1]! >= BEGIN_PARTS) { // begin with the usual tempo: for some readers the first is the only one
    const begun = Math.floor(ticks[1]! / BEGIN_PARTS);
    ticks.splice(1, 0, begun);
    goals.splice(1, 0, (begun * 6e7) / ((60 / beats.length) * beats.quarters));
  }
  return new Clock(resolution, tempiFor(ticks, goals, TEMPO_ERROR * unit, unit));
}

/** The fewest whole tempi that reach each goal at its tick within `error`. */
function tempiFor(ticks: number[], goals: number[], error: number, unit: number): Tempo[] {
  const changes: Tempo[] = [];
  let [begin, elapsed, low, high] = [ticks[0]!, 0, 0, Infinity];
  const change = (): void => {
    changes.push({ tick: begin, seconds: elapsed / unit, microseconds: rint((low + high) / 2) });
  };
  for (let i = 1; i < ticks.length; i++) {
    const tick = ticks[i]!;
    const bounds = (): [number, number] => [
      (goals[i]! - error - elapsed) / (tick - begin),
      (goals[i]! + error - elapsed) / (tick - begin),
    ];
    let [fastest, slowest] = bounds();
    [fastest, slowest] = [Math.max(low, fastest), Math.min(high, slowest)];
    if (Math.ceil(fastest) > Math.floor(slowest)) {
      change();
      const previous = ticks[i - 1]!;
      elapsed += (previous - begin) * changes.at(-1)!.microseconds;
      begin = previous;
      [fastest, slowest] = bounds();
    }
    [low, high] = [fastest, slowest];
  }
  change();
  return changes;
}

interface Signature {
  tick: number;
  signature: [number, number];
}

/** With a first beat: short bars of what comes before the first whole one. */
function beatSignatures(beats: Beats, wanted: [number, number] | undefined, clock: Clock): Signature[] {
  const usual = wanted ?? signatureOf(beats);
  const lead = leadIn(beats);
  const [part, whole] = [lead % 1, Math.floor(lead) % beats.perBar]; // of a beat, and beats, before the first bar
  const at = (count: number): number => rint(count * beats.quarters * clock.resolution);
  const changes: Signature[] = [];
  if (part) {
    let [count, finest] = [rint((part * beats.quarters * FINEST_BAR) / 4), FINEST_BAR];
    for (; count % 2 === 0; count /= 2) finest /= 2;
    changes.push({ tick: 0, signature: [count, finest] });
  }
  if (whole) changes.push({ tick: at(part), signature: signatureOf({ ...beats, perBar: whole }) });
  return [...changes, { tick: at(part + whole), signature: usual }];
}

function signatureOf({ perBar, quarters }: Beats): [number, number] {
  const parts = isCompound(quarters) ? 3 : 1;
  return [parts * perBar, rint((4 * parts) / quarters)];
}

// ----------------------------------------------------------------------------------------------------------- voices

/** Notes in ticks, sorted, one pitch never overlapping itself. */
function voicesOf(notes: Note[], clock: Clock): Voice[] {
  const voices = notes
    .filter((note) => note.offset > Math.max(note.onset, 0))
    .map((note): Voice => {
      const start = clock.tick(note.onset);
      const end = Math.max(clock.tick(note.offset), start + 1);
      const velocity = Math.min(127, Math.max(1, rint(note.velocity)));
      return { start, end, pitch: note.pitch, velocity, bend: note.bend, bends: [] };
    })
    .sort((a, b) => a.start - b.start || a.pitch - b.pitch || a.end - b.end || a.velocity - b.velocity);
  const previous = new Map<number, Voice>();
  for (const voice of voices) {
    const earlier = previous.get(voice.pitch);
    if (earlier) earlier.end = Math.min(earlier.end, voice.start);
    previous.set(voice.pitch, voice);
  }
  return voices.filter((voice) => voice.end > voice.start);
}

/** The smallest of the ranges, in semitones, that will do. */
function bendRange(voices: Voice[], ranges: number[]): number {
  let widest = 0;
  for (const { bend } of voices) for (const value of bend?.semitones ?? []) widest = Math.max(widest, Math.abs(value));
  return ranges.find((range) => widest <= range) ?? ranges.at(-1)!;
}

/**
 * A bend as steps within a note, from the channel's value at rest, without changes too small to hear; each value holds
 * around its time.
 */
function stepsOf(bend: Bend, { start, end }: Voice, clock: Clock, range: number, rest: number): Steps {
  const ticks = Array.from(bend.semitones, (_, i) => clock.tick(bend.start + bend.step * i - bend.step / 2));
  const after = ticks.findIndex((tick) => tick > start);
  const first = Math.max((after < 0 ? ticks.length : after) - 1, 0);
  const beyond = ticks.findIndex((tick) => tick >= end);
  const last = Math.max(beyond < 0 ? ticks.length : beyond, first + 1);
  const least = (BEND_STEP * 8192) / range;
  const steps: Steps = [];
  let current = rest;
  for (let i = first; i < Math.min(last, ticks.length); i++) {
    const value = Math.min(8191, Math.max(-8192, rint(bend.semitones[i]! * (8192 / range))));
    if (Math.abs(value - current) >= least) {
      steps.push([i === first ? start : Math.max(ticks[i]!, start), value]);
      current = value;
    }
  }
  return steps;
}

// --------------------------------------------------------------------------------------------------------- channels

/** Take the bends from notes that others sound through, but for EDGE seconds at their ends. */
function unbendOverlapping(voices: Voice[], clock: Clock): void {
  let latest = 0;
  voices.forEach((voice, i) => {
    const [start, end] = [clock.seconds(voice.start), clock.seconds(voice.end)];
    const following = i + 1 < voices.length ? clock.seconds(voices[i + 1]!.start) : Infinity;
    const forgiven = Math.min(EDGE, (end - start) / 2);
    if (latest > start + forgiven || following < end - forgiven) voice.bends = [];
    latest = Math.max(latest, end);
  });
}

/** The channel with the least value, the first of equals. */
function least(channels: number[], value: (channel: number) => number): number {
  return channels.reduce((best, c) => (value(c) < value(best) ? c : best));
}

/**
 * Every bending voice gets a channel of its own; unbent ones may share. When all channels bend, the newcomer plays
 * unbent, and the voice that would end first gives up the rest of its bend to it.
 */
function allocate(voices: Voice[]): Map<number, Voice[]> {
  const channels = new Map(CHANNELS.map((c): [number, Voice[]] => [c, []]));
  const sounding = new Map(CHANNELS.map((c) => [c, 0])); // until which tick
  const bending = new Map(CHANNELS.map((c) => [c, 0]));
  for (const voice of voices) {
    const free = CHANNELS.find((c) => sounding.get(c)! <= voice.start);
    if (free === undefined) voice.bends = [];
    const mayShare = (c: number): boolean => bending.get(c)! <= voice.start && voice.start < sounding.get(c)!;
    const shared = voice.bends.length ? undefined : CHANNELS.find(mayShare);
    const channel = shared ?? free ?? least(CHANNELS, (c) => bending.get(c)!);
    channels.get(channel)!.push(voice);
    sounding.set(channel, Math.max(sounding.get(channel)!, voice.end));
    bending.set(channel, voice.bends.length ? voice.end : voice.start);
  }
  const used = new Map([...channels].filter(([, members]) => members.length));
  return used.size ? used : new Map([[CHANNELS[0]!, []]]);
}

/**
 * Every voice gets the member channel that was released longest ago. When all sound, the newcomer plays unbent on the
 * channel that bends least from then on, and that bend ends there.
 */
function allocateMembers(voices: Voice[]): Map<number, Voice[]> {
  const channels = new Map(MPE_VOICES.map((c): [number, Voice[]] => [c, []]));
  const released = new Map(MPE_VOICES.map((c) => [c, 0]));
  for (const voice of voices) {
    let channel = least(MPE_VOICES, (c) => released.get(c)!);
    if (released.get(channel)! > voice.start) {
      const remaining = new Map(MPE_VOICES.map((c) => [c, remainingBend(channels.get(c)!.at(-1)!, voice.start)]));
      const smallest = Math.min(...remaining.values());
      const candidates = MPE_VOICES.filter((c) => remaining.get(c) === smallest);
      channel = least(candidates, (c) => released.get(c)!);
      voice.bends = [];
      const occupant = channels.get(channel)!.at(-1)!;
      occupant.bends = occupant.bends.filter(([tick]) => tick < voice.start);
    }
    channels.get(channel)!.push(voice);
    released.set(channel, Math.max(released.get(channel)!, voice.end));
  }
  return new Map([...channels].filter(([, members]) => members.length));
}

/** Furthest value of a voice's bend from a tick on. */
function remainingBend(voice: Voice, tick: number): number {
  const before = voice.bends.filter(([t]) => t <= tick).slice(-1);
  const values = [...before, ...voice.bends.filter(([t]) => t > tick)];
  return Math.max(0, ...values.map(([, value]) => Math.abs(value)));
}

// ----------------------------------------------------------------------------------------------------------- events

/** The bends of one channel, back at rest some time after each note; a note that begins takes the channel over. */
function bendTrack(voices: Voice[], rest: number, release: number): Steps {
  const track = new Map([[BEND_RANGE_TICKS, rest]]);
  voices.forEach((voice, i) => {
    const following = voices[i + 1]?.start ?? Infinity;
    const stop = Math.min(voice.end, following);
    for (const [tick, value] of voice.bends) {
      const at = Math.max(tick, BEND_RANGE_TICKS);
      if (at < stop) track.set(at, value);
    }
    if (voice.bends.length && stop >= BEND_RANGE_TICKS) track.set(Math.min(voice.end + release, following), rest);
  });
  const changes: Steps = [];
  for (const [tick, value] of track) if (value !== (changes.at(-1)?.[1] ?? 0)) changes.push([tick, value]);
  return changes;
}

/** The bends of one member channel, said anew at each note; one that has ended keeps its bend for a while. */
function memberBends(voices: Voice[], release: number): Steps {
  const track = new Map<number, number>();
  voices.forEach((voice, i) => {
    const following = voices[i + 1];
    track.set(voice.start, 0);
    for (const [tick, value] of voice.bends) track.set(tick, value);
    const soon = following !== undefined && following.start <= voice.end + release;
    if (voice.bends.length && !soon) track.set(voice.end + release, 0);
  });
  return [...track];
}

function noteEvents(channel: number, voices: Voice[]): Event[] {
  return voices.flatMap((v): Event[] => [
    [v.start, BEGIN!, channel, v.pitch, v.velocity],
    [v.end, END!, channel, v.pitch, 0],
  ]);
}

function bendEvents(channel: number, bends: Steps): Event[] {
  return bends.map(([tick, value]): Event => [tick, BEND!, channel, value, 0]);
}

/** Registered parameter 0: selected, given its value, and closed. */
function rangeEvents(channel: number, semitones: number): Event[] {
  const steps = [[0, 100, 0], [0, 101, 0], [1, 6, semitones], [2, 100, 127], [2, 101, 127]] as const;
  return steps.map(([tick, control, value]): Event => [tick, SELECT!, channel, control, value]);
}

/** A track of one channel. The bend range is selected if there are bends. */
function track(
  title: string,
  program: number,
  channel: number,
  voices: Voice[],
  range: number,
  rest: number,
  release: number,
): number[] {
  const bends = bendTrack(voices, rest, release);
  const events = [...noteEvents(channel, voices), ...bendEvents(channel, bends)];
  if (bends.length) events.push(...rangeEvents(channel, range), [1, SELECT!, channel, 38, 0]);
  return messages(title, program, [channel], [], events);
}

/** A track of a whole zone: importers make an instrument of each track, and one must get all channels. */
function mpeTrack(title: string, program: number, channels: Map<number, Voice[]>, release: number): number[] {
  const zone: [number, number][] = [[100, 6], [101, 0], [6, MPE_MEMBERS.length]];
  zone.push([100, 0], [101, 0], [6, MPE_MANAGER_BEND_RANGE], [100, 127], [101, 127]);
  const events = MPE_MEMBERS.flatMap((channel) => rangeEvents(channel, MPE_BEND_RANGE));
  for (const [channel, voices] of channels) {
    for (const event of noteEvents(channel, voices)) events.push(event);
    for (const event of bendEvents(channel, memberBends(voices, release))) events.push(event);
  }
  return messages(title, program, [MPE_MANAGER, ...channels.keys()], zone, events);
}

// ------------------------------------------------------------------------------------------------------------ bytes

/** A track: its name, programs, controls of the first channel, then events in their order. */
function messages(
  title: string,
  program: number,
  channels: number[],
  controls: [number, number][],
  events: Event[],
): number[] {
  const track = new Track();
  track.meta(0, 0x03, [...new TextEncoder().encode(title)]);
  for (const channel of channels) track.message(0, [0xc0 | channel, program]);
  for (const [control, value] of controls) track.message(0, [0xb0 | channels[0]!, control, value]);
  let now = 0;
  events.sort((a, b) => a[0] - b[0] || a[1] - b[1] || a[2] - b[2] || a[3] - b[3] || a[4] - b[4]);
  for (const [tick, order, channel, first, second] of events) {
    const bent = first + 8192;
    if (order === BEND) track.message(tick - now, [0xe0 | channel, bent & 0x7f, bent >> 7]);
    else track.message(tick - now, [(order === SELECT ? 0xb0 : 0x90) | channel, first, second]);
    now = tick;
  }
  return track.end();
}

/** The first track: tempo and metre. */
function conductor(clock: Clock, signatures: Signature[]): number[] {
  const events: [tick: number, kind: number, data: number[]][] = clock.tempi.map(({ tick, microseconds: us }) => [
    tick,
    0x51,
    [us >> 16, (us >> 8) & 0xff, us & 0xff],
  ]);
  for (const { tick, signature } of signatures) {
    const clocks = rint(24 * metre(signature)[1]); // 24 are a quarter note
    events.push([tick, 0x58, [signature[0], Math.log2(signature[1]), clocks, 8]]);
  }
  const track = new Track();
  let now = 0;
  for (const [tick, kind, data] of events.sort((a, b) => a[0] - b[0])) {
    track.meta(tick - now, kind, data);
    now = tick;
  }
  return track.end();
}

/** Bytes of a track; a status that is that of the message before is left out. */
class Track {
  readonly #bytes: number[] = [];
  #status = -1;

  meta(delta: number, kind: number, data: number[]): void {
    this.#variable(delta);
    this.#bytes.push(0xff, kind);
    this.#variable(data.length);
    this.#bytes.push(...data);
    this.#status = -1;
  }

  message(delta: number, bytes: number[]): void {
    this.#variable(delta);
    this.#bytes.push(...(bytes[0] === this.#status ? bytes.slice(1) : bytes));
    this.#status = bytes[0]!;
  }

  end(): number[] {
    this.meta(0, 0x2f, []);
    return this.#bytes;
  }

  /** Seven bits a byte, the highest first. */
  #variable(value: number): void {
    const bytes = [value & 0x7f];
    for (let rest = value >> 7; rest; rest >>= 7) bytes.unshift((rest & 0x7f) | 0x80);
    this.#bytes.push(...bytes);
  }
}

function file(tracks: number[][], resolution: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(14 + tracks.reduce((sum, track) => sum + 8 + track.length, 0));
  const view = new DataView(bytes.buffer);
  bytes.set([0x4d, 0x54, 0x68, 0x64, 0, 0, 0, 6, 0, 1]); // MThd, type 1
  view.setUint16(10, tracks.length);
  view.setUint16(12, resolution);
  let at = 14;
  for (const track of tracks) {
    bytes.set([0x4d, 0x54, 0x72, 0x6b], at); // MTrk
    view.setUint32(at + 4, track.length);
    bytes.set(track, at + 8);
    at += 8 + track.length;
  }
  return bytes;
}
