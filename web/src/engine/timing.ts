/** Notes moved onto a grid of fixed tempo (basic_transcribe/timing.py). */

import { type Bend, EngineError, type Note } from './types.ts';

export const LONGEST_QUARTER = 16; // seconds
export const FINEST_BAR = 16; // denominator; some programs take no time signatures of thirty-seconds
export const BEGIN_PARTS = 32; // the first of so many parts of what comes before the first beat has the usual tempo
const LEAD_IN_ERROR = 0.1; // logarithm of the ratio of tempi, from which on it is counted in finer parts of a beat
const CHORD = 0.035; // seconds within which onsets are one event

/** Beats at equal distances. The first begins a bar. */
export interface Beats {
  /** Seconds. */
  first: number;
  /** Seconds between beats. */
  length: number;
  perBar: number;
  /** Length of a beat in quarter notes. */
  quarters: number;
}

export function beatsOf(tempo: number, timeSignature: [number, number], first = 0): Beats {
  if (!(first >= 0 && first < Infinity)) throw new EngineError(`the first beat is at ${first} s; it must not be negative`);
  const [perBar, quarters] = metre(timeSignature);
  if (!(tempo * quarters >= 4 && tempo * quarters <= 1000)) {
    const limits = `${4 / quarters} and ${1000 / quarters}`;
    throw new EngineError(`tempo is ${tempo}; it must lie between ${limits} beats per minute`);
  }
  return { first, length: 60 / tempo, perBar, quarters };
}

/** Beats in a bar, and quarter notes in a beat. The beat of 6/8, 9/8 and 12/8 is three eighths. */
export function metre([numerator, denominator]: [number, number]): [number, number] {
  const whole = Number.isInteger(numerator) && numerator >= 1 && numerator <= 64;
  if (!whole || ![1, 2, 4, 8, 16, 32].includes(denominator)) {
    throw new EngineError(`time signature is ${numerator}/${denominator}; give one such as 4/4 or 6/8`);
  }
  const compound = denominator >= 8 && numerator > 3 && numerator % 3 === 0;
  return compound ? [numerator / 3, 12 / denominator] : [numerator, 4 / denominator];
}

/** `1/16` or, for triplets, `1/8T` as a share of a whole note. */
export function parseDivision(text: string): number {
  const found = /^1\/(1|2|4|8|16|32|64)([tT]?)$/.exec(text.trim());
  if (!found) throw new EngineError(`'${text}' is no note value; give one such as 1/8, 1/16, or 1/8T for triplets`);
  return found[2] ? 2 / (3 * Number(found[1])) : 1 / Number(found[1]);
}

/**
 * Beats that a MIDI file counts before the first one, so that it can begin with the recording: in the largest fraction
 * of a beat that keeps their tempo near that of the others.
 */
export function leadIn({ first, length, quarters }: Beats): number {
  const passed = first / length;
  const finer = isCompound(quarters) ? [3, 6, 12] : [2, 4, 8];
  const fractions = [1, ...finer.filter((parts) => Number.isInteger((quarters / 4 / parts) * FINEST_BAR))];
  // A first beat that begins with the recording lasts longer by what has passed before it.
  if (passed * (1 + passed) < 1 / fractions.at(-1)! && first + length <= LONGEST_QUARTER * quarters) return 0;
  const error = (lead: number): number => Math.abs(Math.log(lead / passed));
  const leads = fractions.map((parts) => Math.max(1, rint(passed * parts)) / parts);
  const near = leads.find((lead) => error(lead) <= LEAD_IN_ERROR);
  return near ?? leads.reduce((best, lead) => (error(lead) < error(best) ? lead : best));
}

/** Whether a beat is three of the denominator. */
export function isCompound(quarters: number): boolean {
  return !Number.isInteger(Math.log2(quarters));
}

/** As numpy's rint and Python's round: halves to the even neighbour. */
export function rint(x: number): number {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** How a MIDI file counts beats, from its beginning on: evenly between a few moments, and beyond the last. */
export class FileAxis {
  readonly #beats: Beats;
  readonly #times = [0]; // seconds
  readonly #places: number[]; // beats since the first one

  constructor(beats: Beats) {
    this.#beats = beats;
    const lead = leadIn(beats);
    const next = lead ? 0 : 1; // the beat that the file reaches at its time
    const reached = beats.first + next * beats.length;
    this.#places = [-lead];
    if (beats.first) { // where the file goes on from its first tempo
      const part = (next + lead) / BEGIN_PARTS;
      this.#times.push(part * beats.length);
      this.#places.push(part - lead);
    }
    this.#times.push(reached, reached + beats.length);
    this.#places.push(next, next + 1);
  }

  /** Beats that the file counts from the first one to a time. */
  place(time: number): number {
    return along(time, this.#times, this.#places);
  }

  /** Beats played from the first one to a time; before the first beat, those that the file counts. */
  played(time: number): number {
    const { first, length } = this.#beats;
    if (this.#places[0]! < 0 || time >= first + length) return this.place(time);
    return Math.max((time - first) / length, 0); // the file begins with the first beat, though it was played later
  }

  time(place: number): number {
    const time = along(place, this.#places, this.#times);
    return Math.abs(time) < 1e-9 ? 0 : time; // rounding must not put the first point before the file
  }
}

/** The value at a place between known ones, linear between those and beyond the ends. */
function along(x: number, known: number[], values: number[]): number {
  let i = 0;
  while (i + 2 < known.length && x >= known[i + 1]!) i++;
  return values[i]! + ((x - known[i]!) * (values[i + 1]! - values[i]!)) / (known[i + 1]! - known[i]!);
}

/** Points that divide a recording evenly in its MIDI file, every second one late; point 0 is the first beat. */
class Grid {
  readonly axis: FileAxis;
  readonly #step: number; // in beats
  readonly #late: number; // in steps

  constructor(beats: Beats, division: number, swing: number) {
    this.axis = new FileAxis(beats);
    this.#step = (4 * division) / beats.quarters;
    this.#late = swing / (1 + swing);
  }

  /** Half of the least distance of two points, in beats. */
  get apart(): number {
    return (this.#step * (1 - this.#late)) / 2;
  }

  /** Number of the point nearest to where a time was played; none lies before 0 s. */
  nearest(time: number): number {
    const steps = this.axis.played(time) / this.#step;
    const point = Math.floor(steps);
    let [best, least] = [point - 1, Infinity];
    // The nearest is one of four: of the even steps, and of the odd ones that come late.
    for (let candidate = point - 1; candidate <= point + 2; candidate++) {
      const distance = this.time(candidate) < 0 ? Infinity : Math.abs(candidate + this.#lateness(candidate) - steps);
      if (distance < least) [best, least] = [candidate, distance];
    }
    return best;
  }

  time(point: number): number {
    return this.axis.time((point + this.#lateness(point)) * this.#step);
  }

  #lateness(point: number): number {
    return point % 2 ? this.#late : 0;
  }
}

/**
 * Move notes towards the nearest points of a grid, those of a chord towards one. Notes of one pitch that arrive at the
 * same point become one; no note of a pitch overlaps the next; ends move too, at least one point after the onset, but
 * for shorter notes.
 */
export function quantize<T extends Note>(notes: T[], beats: Beats, division: number, strength: number, swing: number): T[] {
  for (const [name, value] of [['strength', strength], ['swing', swing]] as const) {
    if (!(value >= 0 && value <= 1)) throw new EngineError(`${name} is ${value}; it must lie between 0 and 1`);
  }
  const sorted = inOrder(notes);
  if (!strength) return sorted;
  const grid = new Grid(beats, division, swing);
  const towards = (start: number, goal: number): number => (strength === 1 ? goal : start + strength * (goal - start));
  const struck = together(sorted, grid);
  const moved = sorted.map((note, i): T => {
    const point = grid.nearest(struck[i]!);
    const onset = towards(note.onset, grid.time(point));
    const duration = note.offset - note.onset;
    let offset = onset === note.onset ? note.offset : onset + duration;
    if (duration >= grid.time(point + 1) - grid.time(point) - 1e-9) {
      offset = towards(note.offset, grid.time(Math.max(grid.nearest(note.offset), point + 1)));
    }
    const bend = note.bend && { ...note.bend, start: note.bend.start + (onset - note.onset) };
    return { ...note, onset, offset, bend };
  });
  return inOrder(inLines(moved).map((note) => ({ ...note, bend: note.bend && bendUntil(note.bend, note.offset) })));
}

/** For each note, in order, the mean onset of those it is struck with. */
function together(notes: Note[], grid: Grid): number[] {
  const chords: Note[][] = [];
  for (const note of notes) {
    const [chord, first] = [chords.at(-1), chords.at(-1)?.[0]];
    const near = first && note.onset < first.onset + CHORD;
    const close = near && grid.axis.played(note.onset) < grid.axis.played(first.onset) + grid.apart;
    if (chord && close && !chord.some(({ pitch }) => pitch === note.pitch)) chord.push(note);
    else chords.push([note]);
  }
  return chords.flatMap((chord) => chord.map(() => chord.reduce((sum, { onset }) => sum + onset, 0) / chord.length));
}

/** The values of a bend before a time in seconds, at least the first. */
export function bendUntil(bend: Bend, time: number): Bend {
  const before = bend.semitones.findIndex((_, i) => bend.start + bend.step * i >= time);
  return { ...bend, semitones: before < 0 ? bend.semitones : bend.semitones.slice(0, Math.max(1, before)) };
}

/** Notes in order of onset; those of a pitch that begin together joined, and cut where the next begins. */
function inLines<T extends Note>(notes: T[]): T[] {
  const lines = new Map<number, T[]>();
  for (let note of notes) {
    const line = lines.get(note.pitch) ?? [];
    lines.set(note.pitch, line);
    const last = line.at(-1);
    if (last && note.onset <= last.onset) {
      line.pop();
      const velocity = Math.max(last.velocity, note.velocity);
      const confidence = Math.max(last.confidence, note.confidence);
      note = { ...last, offset: Math.max(last.offset, note.offset), velocity, confidence };
    } else if (last && last.offset > note.onset) {
      line[line.length - 1] = { ...last, offset: note.onset };
    }
    line.push(note);
  }
  return [...lines.values()].flat();
}

export function inOrder<T extends Note>(notes: T[]): T[] {
  return [...notes].sort((a, b) => a.onset - b.onset || a.pitch - b.pitch);
}
