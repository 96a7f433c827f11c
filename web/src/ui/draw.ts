/** What is drawn on the canvases of the roll. All lengths are CSS pixels. */

import type { Bend, Note, Spectrogram } from '../engine/types.ts';
import type { RollNote } from './document.ts';
import type { NoteIndex } from './index.ts';
import { clock, isBlackKey, pitchName } from './names.ts';
import { LEVELS, levelOf } from './palette.ts';
import type { Palette, Rgb } from './palette.ts';
import type { Region } from './timeline.ts';
import { HIGHEST, LOWEST, endOf, gridLines, tickStep, xOf, yOf } from './view.ts';
import type { Grid, View } from './view.ts';

type Context = CanvasRenderingContext2D;

const MANY = 1500; // notes in view, from which on they are plain
const READABLE = 11; // pixels of a row that has room for a name
const BENT = 0.2; // semitones beside the recording's tuning: a note that strays less is drawn without its bend
const TILE = 2048; // columns of the picture that are coloured at a time

export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Where a note is drawn. */
export function boxOf(view: View, note: Pick<Note, 'onset' | 'offset' | 'pitch'>): Box {
  const x = xOf(view, note.onset);
  const gap = view.row > 6 ? 1 : 0;
  return {
    x,
    y: yOf(view, note.pitch) + gap / 2,
    width: Math.max(2, (note.offset - note.onset) * view.scale - (view.scale > 20 ? 1 : 0)),
    height: Math.max(1.5, view.row - gap),
  };
}

// ---------------------------------------------------------------- behind the notes

export function drawRows(ctx: Context, view: View, palette: Palette): void {
  ctx.fillStyle = palette.roll;
  ctx.fillRect(0, 0, view.width, view.height);
  ctx.fillStyle = palette.black;
  for (let pitch = LOWEST; pitch <= HIGHEST; pitch++) {
    if (isBlackKey(pitch)) ctx.fillRect(0, yOf(view, pitch), view.width, view.row);
  }
}

export function drawOctaves(ctx: Context, view: View, palette: Palette): void {
  ctx.fillStyle = palette.octave;
  for (let pitch = 24; pitch <= HIGHEST; pitch += 12) {
    ctx.fillRect(0, Math.round(yOf(view, pitch) + view.row) - 0.5, view.width, 1);
  }
}

/** Lines of seconds, or of bars and beats. */
export function drawLines(ctx: Context, view: View, grid: Grid | null, palette: Palette): void {
  const line = (time: number, colour: string): void => {
    ctx.fillStyle = colour;
    ctx.fillRect(Math.round(xOf(view, time)) - 0.5, 0, 1, view.height);
  };
  if (grid) {
    const colours = [palette.bar, palette.beat, palette.step];
    for (const { time, rank } of gridLines(view, grid, 9).sort((a, b) => b.rank - a.rank)) line(time, colours[rank]);
    return;
  }
  const step = tickStep(view.scale, 72);
  for (let i = Math.ceil(view.start / step); i * step <= endOf(view); i++) line(i * step, palette.beat);
}

/** The picture in pieces that are coloured when they are first seen. */
export class Picture {
  private readonly source: Spectrogram;
  private tiles = new Map<number, HTMLCanvasElement>();
  private colour: Rgb | null = null;

  constructor(source: Spectrogram) {
    this.source = source;
  }

  draw(ctx: Context, view: View, colour: Rgb): void {
    const { width, height, secondsPerColumn, lowestPitch, binsPerSemitone } = this.source;
    if (this.colour !== colour) this.tiles.clear();
    this.colour = colour;
    const top = (view.top - (lowestPitch - 0.5 + height / binsPerSemitone)) * view.row;
    const tall = (height / binsPerSemitone) * view.row;
    const columns = [view.start, endOf(view)].map((time) => Math.floor(time / secondsPerColumn / TILE));
    for (let tile = Math.max(0, columns[0]); tile <= columns[1] && tile * TILE < width; tile++) {
      const canvas = this.tiles.get(tile) ?? this.paint(tile, colour);
      const x = xOf(view, tile * TILE * secondsPerColumn);
      ctx.drawImage(canvas, x, top, canvas.width * secondsPerColumn * view.scale, tall);
    }
  }

  private paint(tile: number, [red, green, blue]: Rgb): HTMLCanvasElement {
    const { width, height, data } = this.source;
    const canvas = document.createElement('canvas');
    canvas.width = Math.min(TILE, width - tile * TILE);
    canvas.height = height;
    const ctx = canvas.getContext('2d') as Context;
    const image = ctx.createImageData(canvas.width, height);
    for (let y = 0; y < height; y++) {
      const row = (height - 1 - y) * width + tile * TILE;
      for (let x = 0; x < canvas.width; x++) {
        const i = 4 * (y * canvas.width + x);
        image.data[i] = red;
        image.data[i + 1] = green;
        image.data[i + 2] = blue;
        image.data[i + 3] = data[row + x];
      }
    }
    ctx.putImageData(image, 0, 0);
    this.tiles.set(tile, canvas);
    return canvas;
  }
}

/** Lowest and highest sample of a stretch of 10 ms pairs. */
export function extremes(peaks: Float32Array, from: number, to: number): [number, number] {
  const last = peaks.length / 2 - 1;
  let [low, high] = [Infinity, -Infinity];
  for (let i = Math.max(0, from); i <= Math.min(to, last); i++) {
    low = Math.min(low, peaks[2 * i]);
    high = Math.max(high, peaks[2 * i + 1]);
  }
  return low <= high ? [low, high] : [0, 0];
}

const loudestOf = new WeakMap<Float32Array, number>();

function loudest(peaks: Float32Array): number {
  let known = loudestOf.get(peaks);
  if (known === undefined) {
    known = peaks.reduce((most, value) => Math.max(most, Math.abs(value)), 0.05);
    loudestOf.set(peaks, known);
  }
  return known;
}

const PEAKS = 100; // pairs a second

/** The waveform between two times, its highest peak as tall as the box. */
export function drawWave(ctx: Context, peaks: Float32Array, start: number, scale: number, box: Box, colour: string): void {
  const middle = box.y + box.height / 2;
  const half = box.height / 2 / loudest(peaks);
  ctx.fillStyle = colour;
  ctx.beginPath();
  for (let x = 0; x < box.width; x++) {
    const time = start + x / scale;
    if (time < 0 || time * PEAKS * 2 > peaks.length) continue;
    const [low, high] = extremes(peaks, Math.floor(time * PEAKS), Math.floor((time + 1 / scale) * PEAKS));
    ctx.rect(box.x + x, middle - high * half, 1, Math.max(1, (high - low) * half));
  }
  ctx.fill();
}

// ---------------------------------------------------------------- notes

export interface NoteLook {
  readonly selected: ReadonlySet<string>;
  readonly focused: string | null;
  /** Pitch classes of the scale, to mark others; null: none is marked. */
  readonly scale: ReadonlySet<number> | null;
  /** Of the recording, in cents. */
  readonly tuning: number;
}

export function drawNotes(
  ctx: Context,
  view: View,
  index: NoteIndex<RollNote>,
  look: NoteLook,
  palette: Palette,
): void {
  const levels: RollNote[][] = Array.from({ length: LEVELS }, () => []);
  const visible: RollNote[] = [];
  const bottom = view.top - view.height / view.row - 0.5;
  index.forEach(view.start, endOf(view), (note) => {
    if (note.pitch < bottom || note.pitch > view.top + 0.5) return;
    visible.push(note);
    levels[levelOf(note.velocity)].push(note);
  });
  const plain = visible.length > MANY;
  for (const [level, notes] of levels.entries()) {
    if (!notes.length) continue;
    ctx.fillStyle = palette.velocities[level];
    ctx.beginPath();
    for (const note of notes) trace(ctx, boxOf(view, note), plain);
    ctx.fill();
  }
  if (look.scale) {
    const scale = look.scale;
    const off = visible.filter((note) => !scale.has(note.pitch % 12));
    outline(ctx, view, off, palette.offScale, 2, plain);
  }
  drawBends(ctx, view, visible, look.tuning, palette);
  if (view.row >= READABLE && !plain) drawNames(ctx, view, visible, look.tuning, palette);
  if (look.selected.size) {
    const chosen = visible.filter((note) => look.selected.has(note.id));
    outline(ctx, view, chosen, palette.roll, 4, plain);
    outline(ctx, view, chosen, palette.text, 2, plain);
  }
  const focus = look.focused === null ? undefined : visible.find((note) => note.id === look.focused);
  if (focus) {
    const { x, y, width, height } = boxOf(view, focus);
    ctx.strokeStyle = palette.accent;
    ctx.lineWidth = 2;
    ctx.beginPath();
    ctx.roundRect(x - 4, y - 4, width + 8, height + 8, 5);
    ctx.stroke();
  }
}

function trace(ctx: Context, { x, y, width, height }: Box, plain: boolean): void {
  if (plain || height < 4) ctx.rect(x, y, width, height);
  else ctx.roundRect(x, y, width, height, Math.min(3, width / 2, height / 2));
}

function outline(ctx: Context, view: View, notes: readonly Note[], colour: string, width: number, plain: boolean): void {
  if (!notes.length) return;
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.beginPath();
  for (const note of notes) trace(ctx, boxOf(view, note), plain);
  ctx.stroke();
}

/** From the recording's tuning, as notes and picture are. */
function drawBends(ctx: Context, view: View, notes: readonly Note[], tuning: number, palette: Palette): void {
  if (view.row < 5) return;
  ctx.beginPath();
  for (const note of notes) {
    const { bend } = note;
    if (!bend || (note.offset - note.onset) * view.scale < 6 || !isBent(bend, tuning)) continue;
    const stride = Math.max(1, Math.floor(1.5 / (bend.step * view.scale)));
    const middle = yOf(view, note.pitch - tuning / 100) + view.row / 2;
    const first = Math.max(0, Math.floor((view.start - bend.start) / bend.step));
    const last = Math.min(bend.semitones.length - 1, Math.ceil((endOf(view) - bend.start) / bend.step));
    for (let i = first; i <= last; i += stride) {
      const x = xOf(view, bend.start + i * bend.step);
      const y = middle - bend.semitones[i] * view.row;
      if (i === first) ctx.moveTo(x, y);
      else ctx.lineTo(x, y);
    }
  }
  ctx.lineJoin = 'round';
  ctx.strokeStyle = palette.halo;
  ctx.lineWidth = 3.5;
  ctx.stroke();
  ctx.strokeStyle = palette.bend;
  ctx.lineWidth = 1.5;
  ctx.stroke();
}

const bent = new WeakMap<Bend, boolean>();

/** Of a recording whose tuning stays the same. */
function isBent(bend: Bend, tuning: number): boolean {
  let known = bent.get(bend);
  if (known === undefined) bent.set(bend, (known = bend.semitones.some((value) => Math.abs(value - tuning / 100) >= BENT)));
  return known;
}

function drawNames(ctx: Context, view: View, notes: readonly Note[], tuning: number, palette: Palette): void {
  const size = Math.min(11, view.row - 2);
  ctx.font = `500 ${size}px ${palette.font}`;
  ctx.textBaseline = 'middle';
  ctx.lineWidth = 4;
  for (const note of notes) {
    const { x, y, width, height } = boxOf(view, note);
    const name = pitchName(note.pitch);
    const left = Math.max(x, 0) + 4; // stays in view while its note does
    if (x + width - left < size * 0.62 * name.length + 3) continue;
    const level = levelOf(note.velocity);
    if (note.bend && isBent(note.bend, tuning)) {
      // In front of the line of the bend.
      ctx.strokeStyle = palette.velocities[level];
      ctx.strokeText(name, left, y + height / 2 + 0.5);
    }
    ctx.fillStyle = palette.labels[level];
    ctx.fillText(name, left, y + height / 2 + 0.5);
  }
}

/** Notes that might be: faint, to be accepted. */
export function drawCandidates(ctx: Context, view: View, candidates: NoteIndex<Note>, palette: Palette): void {
  ctx.beginPath();
  candidates.forEach(view.start, endOf(view), (note) => {
    const { x, y, width, height } = boxOf(view, note);
    ctx.roundRect(x + 0.5, y + 0.5, Math.max(2, width - 1), Math.max(1.5, height - 1), Math.min(3, height / 2));
  });
  ctx.globalAlpha = 0.16;
  ctx.fillStyle = palette.candidate;
  ctx.fill();
  ctx.globalAlpha = 1;
  ctx.strokeStyle = palette.candidate;
  ctx.lineWidth = 1;
  ctx.setLineDash([3, 2]);
  ctx.stroke();
  ctx.setLineDash([]);
}

// ---------------------------------------------------------------- above the notes

export interface Over {
  readonly playhead: number;
  /** Notes that sound now. */
  readonly sounding: readonly Note[];
  readonly marquee: Box | null;
  readonly hovered: Note | null;
  readonly loop: Region | null;
  readonly showPlayhead: boolean;
}

export function drawOver(ctx: Context, view: View, over: Over, palette: Palette): void {
  ctx.clearRect(0, 0, view.width, view.height);
  if (over.loop) {
    const [left, right] = [xOf(view, over.loop.start), xOf(view, over.loop.end)];
    ctx.fillStyle = palette.wash;
    ctx.fillRect(left, 0, right - left, view.height);
    ctx.fillStyle = palette.accent;
    ctx.fillRect(left - 0.5, 0, 1, view.height);
    ctx.fillRect(right - 0.5, 0, 1, view.height);
  }
  outline(ctx, view, over.sounding, palette.text, 1.5, false);
  if (over.hovered) outline(ctx, view, [over.hovered], palette.accent, 1.5, false);
  if (over.marquee) {
    const { x, y, width, height } = over.marquee;
    ctx.fillStyle = palette.wash;
    ctx.fillRect(x, y, width, height);
    ctx.strokeStyle = palette.accent;
    ctx.lineWidth = 1;
    ctx.strokeRect(x + 0.5, y + 0.5, width, height);
  }
  if (over.showPlayhead) {
    ctx.fillStyle = palette.accent;
    ctx.fillRect(Math.round(xOf(view, over.playhead)) - 1, 0, 2, view.height);
  }
}

// ---------------------------------------------------------------- beside the roll

export function drawRuler(
  ctx: Context,
  view: View,
  height: number,
  grid: Grid | null,
  loop: Region | null,
  isLooping: boolean,
  palette: Palette,
): void {
  ctx.clearRect(0, 0, view.width, height);
  if (loop) {
    const [left, right] = [xOf(view, loop.start), xOf(view, loop.end)];
    ctx.fillStyle = palette.accent;
    ctx.globalAlpha = isLooping ? 1 : 0.45;
    ctx.fillRect(left, height - 5, right - left, 5);
    ctx.globalAlpha = 1;
  }
  ctx.fillStyle = palette.muted;
  ctx.font = `11px ${palette.font}`;
  ctx.textBaseline = 'middle';
  const label = (time: number, text: string): void => {
    const x = xOf(view, time);
    ctx.fillRect(Math.round(x) - 0.5, height - 6, 1, 6);
    ctx.fillText(text, x + 4, height / 2 - 1);
  };
  if (grid) {
    for (const { time, rank, bar } of gridLines(view, grid, 44)) if (rank === 0) label(time, String(bar));
    return;
  }
  const step = tickStep(view.scale, 72);
  const decimals = step < 0.1 ? 2 : step < 1 ? 1 : 0;
  for (let i = Math.ceil(view.start / step - 1e-9); i * step <= endOf(view); i++) {
    label(i * step, clock(i * step, decimals));
  }
}

export function drawKeys(
  ctx: Context,
  view: View,
  width: number,
  lit: ReadonlyMap<number, string>,
  range: readonly [number, number],
  palette: Palette,
): void {
  ctx.fillStyle = palette.whiteKey;
  ctx.fillRect(0, 0, width, view.height);
  const black = width * 0.62;
  const key = (pitch: number, left: number, wide: number, colour: string): void => {
    ctx.fillStyle = lit.get(pitch) ?? colour;
    ctx.fillRect(left, yOf(view, pitch), wide, view.row);
  };
  for (let pitch = LOWEST; pitch <= HIGHEST; pitch++) {
    if (isBlackKey(pitch)) {
      key(pitch, 0, black, palette.blackKey);
      ctx.fillStyle = lit.get(pitch) ?? palette.octave;
      ctx.fillRect(black, Math.round(yOf(view, pitch) + view.row / 2) - 0.5, width - black, 1);
    } else {
      if (lit.has(pitch)) key(pitch, 0, width, palette.whiteKey);
      if (pitch % 12 === 0 || pitch % 12 === 5) {
        ctx.fillStyle = palette.octave;
        ctx.fillRect(0, Math.round(yOf(view, pitch) + view.row) - 0.5, width, 1);
      }
    }
  }
  ctx.font = `500 ${Math.min(11, Math.max(8, view.row))}px ${palette.font}`;
  ctx.textAlign = 'right';
  ctx.textBaseline = 'middle';
  ctx.fillStyle = palette.keyText;
  const named = view.row >= 15 ? (pitch: number) => !isBlackKey(pitch) : (pitch: number) => pitch % 12 === 0;
  for (let pitch = LOWEST; pitch <= HIGHEST; pitch++) {
    if (named(pitch)) ctx.fillText(pitchName(pitch), width - 5, yOf(view, pitch) + view.row / 2 + 0.5);
  }
  ctx.textAlign = 'left';
  // Keys out of the range of notes kept.
  ctx.globalAlpha = 0.55;
  ctx.fillStyle = palette.roll;
  const [low, high] = [yOf(view, range[0]) + view.row, yOf(view, range[1])];
  if (high > 0) ctx.fillRect(0, 0, width, high);
  if (low < view.height) ctx.fillRect(0, low, width, view.height - low);
  ctx.globalAlpha = 1;
}
