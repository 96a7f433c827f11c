/** The piano roll: canvases that are drawn again only where something changed, once a frame. */

import type { Note, Spectrogram } from '../engine/types.ts';
import type { RollNote } from './document.ts';
import {
  Picture,
  drawCandidates,
  drawKeys,
  drawLines,
  drawNotes,
  drawOctaves,
  drawOver,
  drawRows,
  drawRuler,
  drawWave,
} from './draw.ts';
import type { Box } from './draw.ts';
import { NoteIndex } from './index.ts';
import { levelOf, readPalette } from './palette.ts';
import type { Palette } from './palette.ts';
import type { Region } from './timeline.ts';
import { endOf, held, xOf } from './view.ts';
import type { Grid, View } from './view.ts';

export type Backdrop = 'spectrogram' | 'waveform' | 'plain';

/** All that the roll shows. */
export interface Scene {
  readonly duration: number;
  /** Cents by which the recording's A lies above 440 Hz. */
  readonly tuning: number;
  readonly notes: NoteIndex<RollNote>;
  readonly candidates: NoteIndex<Note>;
  readonly showCandidates: boolean;
  readonly selected: ReadonlySet<string>;
  readonly focused: string | null;
  /** Notes as they are dragged now, in place of those of the same identity. */
  readonly ghosts: readonly RollNote[];
  readonly hovered: Note | null;
  readonly marquee: Box | null;
  readonly scale: ReadonlySet<number> | null;
  readonly range: readonly [number, number];
  readonly grid: Grid | null;
  readonly backdrop: Backdrop;
  readonly peaks: Float32Array;
  readonly loop: Region | null;
  readonly isLooping: boolean;
  readonly playhead: number;
  readonly playing: boolean;
  readonly follow: boolean;
}

export const EMPTY_SCENE: Scene = {
  duration: 0,
  tuning: 0,
  notes: new NoteIndex<RollNote>([]),
  candidates: new NoteIndex<Note>([]),
  showCandidates: true,
  selected: new Set(),
  focused: null,
  ghosts: [],
  hovered: null,
  marquee: null,
  scale: null,
  range: [21, 108],
  grid: null,
  backdrop: 'spectrogram',
  peaks: new Float32Array(0),
  loop: null,
  isLooping: false,
  playhead: 0,
  playing: false,
  follow: true,
};

type Layer = 'back' | 'notes' | 'over' | 'ruler' | 'keys';
const LAYERS: readonly Layer[] = ['back', 'notes', 'over', 'ruler', 'keys'];

/** Which layers show what. */
const SHOWN: Partial<Record<keyof Scene, readonly Layer[]>> = {
  tuning: ['notes'],
  notes: ['notes'],
  candidates: ['notes'],
  showCandidates: ['notes'],
  selected: ['notes'],
  focused: ['notes'],
  ghosts: ['notes'],
  scale: ['notes'],
  hovered: ['over'],
  marquee: ['over'],
  playhead: ['over'],
  playing: ['over', 'keys'],
  range: ['keys'],
  grid: ['back', 'ruler'],
  backdrop: ['back'],
  peaks: ['back'],
  loop: ['over', 'ruler'],
  isLooping: ['over', 'ruler'],
  duration: ['back', 'notes', 'over', 'ruler'],
};

const TURN = 0.9; // of the width: the page is turned when the playhead gets here
const LEFT = 0.1; // of the width: where the playhead then is
const GLIDE = 0.22; // of the way, each frame

export class Roll {
  scene: Scene = EMPTY_SCENE;
  view: View = { width: 1, height: 1, start: 0, scale: 100, top: 80, row: 12 };
  /** Asked for the place that is heard, before each frame while it plays. */
  position: () => number = () => 0;
  /** Called once a frame while it plays. */
  onFrame: () => void = () => undefined;
  /** Called when the view has changed. */
  onView: () => void = () => undefined;

  private readonly canvases: Record<Layer, HTMLCanvasElement>;
  private readonly contexts: Record<Layer, CanvasRenderingContext2D>;
  private palette: Palette;
  private picture: Picture | null = null;
  private dirty = new Set<Layer>(LAYERS);
  private frame = 0;
  private glideTo: number | null = null;
  private lit = '';
  private readonly still = matchMedia('(prefers-reduced-motion: reduce)');

  constructor(canvases: Record<Layer, HTMLCanvasElement>) {
    this.canvases = canvases;
    const contexts: Partial<Record<Layer, CanvasRenderingContext2D>> = {};
    for (const layer of LAYERS) {
      contexts[layer] = canvases[layer].getContext('2d', { alpha: layer !== 'back' }) as CanvasRenderingContext2D;
    }
    this.contexts = contexts as Record<Layer, CanvasRenderingContext2D>;
    this.palette = readPalette(canvases.back);
    const observer = new ResizeObserver(() => this.resize());
    for (const layer of ['back', 'keys', 'ruler'] as const) observer.observe(canvases[layer]);
    this.resize();
  }

  /** Show something else; only layers that show it are drawn again. */
  set(change: Partial<Scene>): void {
    for (const key of Object.keys(change) as (keyof Scene)[]) {
      if (this.scene[key] !== change[key]) this.invalidate(...(SHOWN[key] ?? []));
    }
    this.scene = { ...this.scene, ...change };
  }

  setView(view: View): void {
    this.glideTo = null;
    this.show(view);
  }

  setPicture(source: Spectrogram | null): void {
    this.picture = source && new Picture(source);
    this.invalidate('back');
  }

  /** After a change of theme. */
  repaint(): void {
    this.palette = readPalette(this.canvases.back);
    this.invalidate(...LAYERS);
  }

  private show(view: View): void {
    this.view = held(view, this.scene.duration);
    this.invalidate(...LAYERS);
    this.onView();
  }

  private invalidate(...layers: Layer[]): void {
    for (const layer of layers) this.dirty.add(layer);
    if (layers.length && !this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  private resize(): void {
    const ratio = devicePixelRatio || 1;
    for (const layer of LAYERS) {
      const canvas = this.canvases[layer];
      const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
      if (canvas.width === width && canvas.height === height) continue;
      [canvas.width, canvas.height] = [width, height];
    }
    const { clientWidth: width, clientHeight: height } = this.canvases.back;
    if (!width || !height) return;
    // What was at the left and in the middle stays there.
    const top = this.view.top + (height - this.view.height) / this.view.row / 2;
    this.show({ ...this.view, width, height, top });
    this.draw(); // at once: a canvas is blank after its size was set
  }

  private draw(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    if (this.scene.playing) {
      this.set({ playhead: this.position() });
      this.followPlayhead();
      this.onFrame();
    }
    this.glide();
    const { scene, view, palette, dirty } = this;
    this.dirty = new Set();
    const sounding: RollNote[] = [];
    if (scene.playing) {
      const now = scene.playhead;
      scene.notes.forEach(now, now + 1e-6, (note) => sounding.push(note));
      const lit = sounding.map((note) => `${note.pitch}:${note.velocity}`).join();
      if (lit !== this.lit) dirty.add('keys');
      this.lit = lit;
    }
    const ratio = devicePixelRatio || 1;
    for (const layer of LAYERS) {
      if (!dirty.has(layer)) continue;
      const ctx = this.contexts[layer];
      ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
      const canvas = this.canvases[layer];
      if (layer === 'back') this.drawBack(ctx);
      else if (layer === 'notes') this.drawNotes(ctx);
      else if (layer === 'over') {
        const { playhead, marquee, hovered } = scene;
        const loop = scene.isLooping ? scene.loop : null;
        drawOver(ctx, view, { playhead, sounding, marquee, hovered, loop, showPlayhead: scene.duration > 0 }, palette);
      } else if (layer === 'ruler') {
        drawRuler(ctx, view, canvas.height / ratio, scene.grid, scene.loop, scene.isLooping, palette);
      } else {
        const lit = new Map(sounding.map((note) => [note.pitch, palette.velocities[levelOf(note.velocity)]]));
        drawKeys(ctx, view, canvas.width / ratio, lit, scene.range, palette);
      }
    }
    if (scene.playing) this.invalidate('over');
  }

  private drawBack(ctx: CanvasRenderingContext2D): void {
    const { scene, view, palette } = this;
    drawRows(ctx, view, palette);
    if (scene.backdrop === 'spectrogram') this.picture?.draw(ctx, view, palette.picture);
    if (scene.backdrop === 'waveform') {
      const box = { x: 0, y: view.height * 0.1, width: view.width, height: view.height * 0.8 };
      drawWave(ctx, scene.peaks, view.start, view.scale, box, palette.wave);
    }
    drawOctaves(ctx, view, palette);
    drawLines(ctx, view, scene.grid, palette);
  }

  private drawNotes(ctx: CanvasRenderingContext2D): void {
    const { scene, view, palette } = this;
    ctx.clearRect(0, 0, view.width, view.height);
    if (scene.showCandidates) drawCandidates(ctx, view, scene.candidates, palette);
    const { selected, focused, scale, tuning } = scene;
    const look = { selected, focused, scale, tuning };
    if (!scene.ghosts.length) {
      drawNotes(ctx, view, scene.notes, look, palette);
      return;
    }
    const dragged = new Set(scene.ghosts.map((note) => note.id));
    const others = scene.notes.notes.filter((note) => !dragged.has(note.id));
    drawNotes(ctx, view, new NoteIndex(others), { ...look, selected: new Set() }, palette);
    const ghosts = [...scene.ghosts].sort((a, b) => a.onset - b.onset);
    drawNotes(ctx, view, new NoteIndex(ghosts), { ...look, selected: dragged, focused: null }, palette);
  }

  private followPlayhead(): void {
    const { scene, view } = this;
    if (!scene.follow || this.glideTo !== null) return;
    const x = xOf(view, scene.playhead);
    if (x >= 0 && x <= view.width * TURN) return;
    const start = scene.playhead - (LEFT * view.width) / view.scale;
    const target = held({ ...view, start }, scene.duration).start;
    if (Math.abs(target - view.start) * view.scale < 1) return;
    const far = Math.abs(target - view.start) > 1.5 * (endOf(view) - view.start);
    if (far || this.still.matches) this.show({ ...view, start: target });
    else this.glideTo = target;
  }

  private glide(): void {
    if (this.glideTo === null) return;
    const rest = this.glideTo - this.view.start;
    const done = Math.abs(rest) * this.view.scale < 1;
    const start = done ? this.glideTo : this.view.start + rest * GLIDE;
    if (done) this.glideTo = null;
    this.show({ ...this.view, start });
  }
}
