/** Where on the roll a time and a pitch are. Time runs to the right, pitch upwards; lengths are CSS pixels. */

import { FileAxis, metre } from '../engine/timing.ts';

export interface View {
  readonly width: number;
  readonly height: number;
  /** Time at the left edge, in seconds. */
  readonly start: number;
  /** Pixels a second. */
  readonly scale: number;
  /** Pitch at the upper edge; the row of a pitch lies half a semitone to either side of it. */
  readonly top: number;
  /** Pixels a semitone. */
  readonly row: number;
}

export const LOWEST = 21;
export const HIGHEST = 108;
const MARGIN = 0.5; // seconds that may be seen beyond the end
const NARROWEST = 0.25; // seconds, the least a view may show
const ROWS = [3, 40] as const; // pixels, of a semitone

export const xOf = (view: View, time: number): number => (time - view.start) * view.scale;
export const timeAt = (view: View, x: number): number => view.start + x / view.scale;
/** The upper edge of the row of a pitch. */
export const yOf = (view: View, pitch: number): number => (view.top - pitch - 0.5) * view.row;
export const pitchAt = (view: View, y: number): number =>
  Math.min(HIGHEST, Math.max(LOWEST, Math.round(view.top - y / view.row)));
export const endOf = (view: View): number => view.start + view.width / view.scale;

const clamp = (value: number, low: number, high: number): number => Math.min(Math.max(value, low), Math.max(low, high));

/** The view, held within the recording and the keyboard. */
export function held(view: View, duration: number): View {
  const longest = Math.max(duration + MARGIN, NARROWEST);
  const scale = clamp(view.scale, view.width / longest, view.width / NARROWEST);
  const fill = view.height / (HIGHEST - LOWEST + 1);
  const row = clamp(view.row, Math.max(ROWS[0], fill), ROWS[1]);
  const start = clamp(view.start, 0, longest - view.width / scale);
  const top = clamp(view.top, LOWEST - 0.5 + view.height / row, HIGHEST + 0.5);
  return { ...view, scale, row, start, top: row * (HIGHEST - LOWEST + 1) <= view.height + 0.5 ? HIGHEST + 0.5 : top };
}

export function scrolled(view: View, dx: number, dy: number): View {
  return { ...view, start: view.start + dx / view.scale, top: view.top - dy / view.row };
}

/** Zoom in time about a place that stays where it is. */
export function zoomedTime(view: View, factor: number, x: number, duration: number): View {
  const time = timeAt(view, x);
  const scale = held({ ...view, scale: view.scale * factor }, duration).scale;
  return { ...view, scale, start: time - x / scale };
}

export function zoomedPitch(view: View, factor: number, y: number, duration: number): View {
  const pitch = view.top - y / view.row;
  const row = held({ ...view, row: view.row * factor }, duration).row;
  return { ...view, row, top: pitch + y / row };
}

/** A view of a stretch of time, with the pitches of the notes in its middle. */
export function fitted(view: View, start: number, end: number, notes: Iterable<{ pitch: number }>): View {
  let [low, high] = [Infinity, -Infinity];
  for (const { pitch } of notes) {
    low = Math.min(low, pitch);
    high = Math.max(high, pitch);
  }
  if (low > high) [low, high] = [45, 76];
  [low, high] = [low - 3, high + 3];
  const row = clamp(view.height / Math.max(18, high - low + 1), ROWS[0] * 2, 22);
  const middle = (low + high) / 2;
  const scale = view.width / Math.max(NARROWEST, end - start);
  return { ...view, start, scale, row, top: middle + view.height / row / 2 };
}

/** The view moved as little as needed to show a place; as it is, if it does already. */
export function revealing(view: View, time: number, pitch: number): View {
  const [x, y] = [xOf(view, time), yOf(view, pitch)];
  const [edgeX, edgeY] = [Math.min(40, view.width / 8), Math.min(view.row * 2, view.height / 8)];
  const dx = x < edgeX ? x - edgeX : x > view.width - edgeX ? x - view.width * 0.3 : 0;
  const dy = y < edgeY ? y - edgeY : y + view.row > view.height - edgeY ? y + view.row - view.height + edgeY : 0;
  return dx || dy ? scrolled(view, dx, dy) : view;
}

// ---------------------------------------------------------------- lines

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];

/** Seconds between labelled lines that are at least `apart` pixels from each other. */
export function tickStep(scale: number, apart: number): number {
  return STEPS.find((step) => step * scale >= apart) ?? 1200;
}

export interface Grid {
  /** Seconds of the first beat. */
  readonly origin: number;
  /** Beats per minute. */
  readonly tempo: number;
  readonly timeSignature: readonly [number, number];
  /** Seconds between steps. */
  readonly step: number;
  /** How late every second step is, 0 to 1: at 1 it divides its pair two to one. */
  readonly swing: number;
}

export interface Line {
  readonly time: number;
  /** 0: a bar, 1: a beat, 2: between. */
  readonly rank: 0 | 1 | 2;
  /** Number of the bar, from 1; those before the first beat count 0, -1, ... */
  readonly bar: number;
}

/** Lines of bars, beats and steps in a view, as many as stay `apart` pixels from each other. */
export function gridLines(view: View, grid: Grid, apart: number): Line[] {
  const [beats] = metre([...grid.timeSignature]);
  const beat = 60 / grid.tempo;
  const bar = beat * beats;
  const axis = axisOf(grid);
  const lines: Line[] = [];
  const add = (step: number, rank: 0 | 1 | 2, skip: number | null, late = 0): void => {
    const first = Math.floor((axis.place(view.start) * beat) / step);
    const last = Math.floor((axis.place(endOf(view)) * beat) / step + 1e-9);
    for (let i = first; i <= last; i++) {
      if (skip !== null && isMultiple(i * step, skip)) continue;
      const time = axis.time(((i + (i % 2 ? late : 0)) * step) / beat);
      if (time >= 0) lines.push({ time, rank, bar: Math.floor((i * step) / bar + 1e-6) + 1 });
    }
  };
  let every = 1;
  while (bar * every * view.scale < apart) every *= 2;
  add(bar * every, 0, null);
  if (beat * view.scale >= apart) add(beat, 1, bar);
  if (grid.step < beat - 1e-9 && grid.step * view.scale >= apart) add(grid.step, 2, beat, lateness(grid));
  return lines;
}

function isMultiple(value: number, of: number): boolean {
  return Math.abs(value / of - Math.round(value / of)) < 1e-6;
}

/** Lines lie where the MIDI file has them, also before the first beat. */
function axisOf({ origin, tempo, timeSignature }: Grid): FileAxis {
  const [perBar, quarters] = metre([...timeSignature]);
  return new FileAxis({ first: origin, length: 60 / tempo, perBar, quarters });
}

function lateness({ swing }: Grid): number {
  return swing / (1 + swing);
}

/** The nearest step of the grid that is not before 0 s. */
export function snapped(time: number, grid: Grid): number {
  const [axis, beat] = [axisOf(grid), 60 / grid.tempo];
  const place = Math.floor((axis.place(time) * beat) / grid.step);
  let best = Infinity;
  for (let i = place - 1; i <= place + 2; i++) {
    const at = axis.time(((i + (i % 2 ? lateness(grid) : 0)) * grid.step) / beat);
    if (at >= 0 && Math.abs(at - time) < Math.abs(best - time)) best = at;
  }
  return best;
}
