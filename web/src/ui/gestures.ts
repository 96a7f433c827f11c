/** What mouse, pen and fingers do on the roll. */

import type { Note } from '../engine/types.ts';
import { SHORTEST, heldShift, movedNote, stretchedNote } from './document.ts';
import type { RollNote } from './document.ts';
import { boxOf } from './draw.ts';
import type { Box } from './draw.ts';
import type { Roll } from './roll.ts';
import type { Region } from './timeline.ts';
import { pitchAt, scrolled, snapped, timeAt, xOf, zoomedPitch, zoomedTime } from './view.ts';
import type { Grid, View } from './view.ts';

export type Tool = 'select' | 'draw';

/** What gestures lead to. */
export interface GestureTarget {
  readonly tool: Tool;
  /** Notes may be changed: none are being found. */
  readonly editable: boolean;
  readonly grid: Grid | null;
  select(ids: ReadonlySet<string>, focus: string | null): void;
  replace(pairs: readonly (readonly [RollNote, Note])[], label: string): void;
  draw(note: Note): void;
  accept(candidate: Note): void;
  seek(time: number): void;
  loop(region: Region | null): void;
  audition(note: Note): void;
  /** The view was moved by hand. */
  wander(): void;
}

/** What a press leads to. */
type Deed = Pick<Press, 'drag' | 'click' | 'drop' | 'undo' | 'scrolls'>;
type Part = 'body' | 'start' | 'end';

interface Press {
  readonly id: number;
  readonly touch: boolean;
  readonly x: number;
  readonly y: number;
  /** Begun when the pointer has moved far enough. */
  drag: ((x: number, y: number, event: PointerEvent) => void) | null;
  moved: boolean;
  /** Whether the view follows it beyond the edges. */
  readonly scrolls: boolean;
  /** What is done if it never moves. */
  click: (() => void) | null;
  /** What is done at the end of a drag. */
  drop: (() => void) | null;
  /** Takes back what the drag has done already, where it is given up. */
  undo?: () => void;
}

const SLOP = { mouse: 3, touch: 8 }; // pixels before a press is a drag
const REACH = { mouse: 2, touch: 10 }; // pixels beside a note that still hit it
const EDGE = { mouse: 7, touch: 14 }; // pixels at the ends of a note that stretch it, a third of it at most
const NARROW = { mouse: 9, touch: 36 }; // pixels of a note that is only moved: its ends could not be told apart
const DOUBLE = 350; // milliseconds
const WHEEL = 0.0022; // zoom for a pixel of the wheel
const DRAWN = 80; // velocity of a note that is drawn
const DEFAULT_LENGTH = 0.25; // seconds of a note that is clicked rather than dragged

/** A note that somebody is sure of. */
function drawnNote(onset: number, offset: number, pitch: number, velocity = DRAWN): Note {
  return { onset, offset, pitch, velocity, confidence: 1, bend: null };
}

/** What of a note lies at a place, in pixels from its beginning. */
export function partAt(place: number, width: number, kind: 'mouse' | 'touch'): Part {
  if (width < NARROW[kind]) return 'body';
  const edge = Math.min(EDGE[kind], width / 3);
  return place < edge ? 'start' : place > width - edge ? 'end' : 'body';
}

export class Gestures {
  private readonly roll: Roll;
  private readonly target: GestureTarget;
  private presses = new Map<number, Press>();
  /** Where the pointers are that are down. */
  private points = new Map<number, [number, number]>();
  private pinch: { distance: number; spread: [number, number]; view: View } | null = null;
  private scrolling = 0;
  private lastClick = { time: 0, x: 0, y: 0 };

  constructor(roll: Roll, stage: HTMLElement, ruler: HTMLElement, keys: HTMLElement, target: GestureTarget) {
    this.roll = roll;
    this.target = target;
    this.listen(stage, (event) => this.pressStage(event));
    this.listen(ruler, (event) => this.pressRuler(event));
    this.listen(keys, (event) => this.pressKey(event));
    stage.addEventListener('pointermove', (event) => this.hover(event, stage), { passive: true });
    stage.addEventListener('pointerleave', () => this.roll.set({ hovered: null }), { passive: true });
    for (const element of [stage, ruler, keys]) {
      // Not passive: the page itself must not zoom or scroll.
      element.addEventListener('wheel', (event) => this.wheel(event, element === keys), { passive: false });
    }
  }

  private listen(element: HTMLElement, press: (event: PointerEvent) => Deed | null): void {
    element.addEventListener('pointerdown', (event) => {
      if (event.button > 1 || this.pinch) return; // a third finger does nothing
      const touch = event.pointerType === 'touch';
      if (touch && this.presses.size === 1 && element.contains(event.target as Node)) {
        this.beginPinch(event);
        return;
      }
      const begun = press(event);
      if (!begun) return;
      element.setPointerCapture(event.pointerId);
      const { offsetX: x, offsetY: y } = event;
      this.points = new Map([[event.pointerId, [x, y]]]);
      this.presses.set(event.pointerId, { ...begun, id: event.pointerId, touch, x, y, moved: false });
    });
    element.addEventListener('pointermove', (event) => this.move(event), { passive: true });
    element.addEventListener('pointerup', (event) => this.release(event, true), { passive: true });
    element.addEventListener('pointercancel', (event) => this.release(event, false), { passive: true });
  }

  private move(event: PointerEvent): void {
    const press = this.presses.get(event.pointerId);
    if (!press) return;
    const { offsetX: x, offsetY: y } = event;
    this.points.set(event.pointerId, [x, y]);
    if (this.pinch) {
      this.movePinch();
      return;
    }
    const slop = press.touch ? SLOP.touch : SLOP.mouse;
    if (!press.moved && Math.hypot(x - press.x, y - press.y) < slop) return;
    press.moved = true;
    press.drag?.(x, y, event);
    this.beyond(press, x, y, event);
  }

  /** Scroll while something is dragged beyond the left or right edge. */
  private beyond(press: Press, x: number, y: number, event: PointerEvent): void {
    cancelAnimationFrame(this.scrolling);
    const { width } = this.roll.view;
    const over = press.scrolls ? (x < 0 ? x : x > width ? x - width : 0) : 0;
    if (!over || !this.presses.has(press.id)) return;
    this.scrolling = requestAnimationFrame(() => {
      if (!this.presses.has(press.id)) return;
      this.target.wander();
      this.roll.setView(scrolled(this.roll.view, Math.sign(over) * Math.min(16, 2 + Math.abs(over) / 6), 0));
      press.drag?.(x, y, event);
      this.beyond(press, x, y, event);
    });
  }

  private release(event: PointerEvent, completed: boolean): void {
    const press = this.presses.get(event.pointerId);
    if (!press) return;
    this.presses.delete(event.pointerId);
    if (this.pinch) {
      if (this.presses.size < 2) {
        this.pinch = null;
        this.presses.clear();
      }
      return;
    }
    if (!completed) press.undo?.();
    else if (press.moved) press.drop?.();
    else press.click?.();
    this.roll.set({ ghosts: [], marquee: null });
  }

  /** Give up what is being dragged; false if nothing is. */
  cancel(): boolean {
    const presses = [...this.presses.values()];
    this.presses.clear();
    this.pinch = null;
    for (const press of presses) press.undo?.();
    this.roll.set({ ghosts: [], marquee: null });
    return presses.length > 0;
  }

  // ---------------------------------------------------------------- two fingers

  private beginPinch(event: PointerEvent): void {
    const [first] = this.presses.values();
    this.roll.set({ ghosts: [], marquee: null });
    (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
    const { offsetX: x, offsetY: y } = event;
    const second: Press = { ...first, id: event.pointerId, x, y, drag: null, click: null, drop: null };
    this.presses.set(event.pointerId, second);
    this.points = new Map([
      [first.id, this.points.get(first.id) ?? [first.x, first.y]],
      [second.id, [x, y]],
    ]);
    this.pinch = { ...this.spread(), view: this.roll.view };
  }

  private spread(): { distance: number; spread: [number, number] } {
    const [[ax, ay], [bx, by]] = [...this.points.values()];
    return { distance: Math.hypot(ax - bx, ay - by), spread: [(ax + bx) / 2, (ay + by) / 2] };
  }

  private movePinch(): void {
    if (!this.pinch) return;
    const { distance, spread } = this.spread();
    const { view, distance: before, spread: from } = this.pinch;
    const zoomed = zoomedTime(view, distance / Math.max(20, before), from[0], this.roll.scene.duration);
    this.target.wander();
    this.roll.setView(scrolled(zoomed, from[0] - spread[0], from[1] - spread[1]));
  }

  // ---------------------------------------------------------------- stage

  private hit(event: PointerEvent): { note: RollNote | null; part: Part; candidate: Note | null } {
    const { view, scene } = this.roll;
    const kind = event.pointerType === 'touch' ? 'touch' : 'mouse';
    const [time, pitch] = [timeAt(view, event.offsetX), pitchAt(view, event.offsetY)];
    const reach = REACH[kind] / view.scale;
    const note = scene.notes.at(time, pitch, reach);
    if (!note) {
      const candidate = scene.showCandidates ? scene.candidates.at(time, pitch, reach) : null;
      return { note: null, part: 'body', candidate };
    }
    const { x, width } = boxOf(view, note);
    const stretchable = kind === 'mouse' || scene.selected.has(note.id);
    const part = stretchable ? partAt(event.offsetX - x, width, kind) : 'body';
    return { note, part, candidate: null };
  }

  private hover(event: PointerEvent, stage: HTMLElement): void {
    if (event.pointerType === 'touch' || this.presses.size) return;
    const { note, part, candidate } = this.hit(event);
    const cursor = note ? (part === 'body' ? 'note' : 'edge') : candidate ? 'candidate' : this.target.tool;
    if (stage.dataset['cursor'] !== cursor) stage.dataset['cursor'] = cursor;
    this.roll.set({ hovered: note ?? candidate });
  }

  private pressStage(event: PointerEvent): Deed | null {
    const touch = event.pointerType === 'touch';
    const { note, part, candidate } = this.hit(event);
    if (event.button === 1) return this.pan(event);
    if (note) {
      if (touch && !this.roll.scene.selected.has(note.id)) {
        return { ...this.pan(event), click: () => this.choose(note, false) };
      }
      return this.pressNote(event, note, part);
    }
    if (candidate) {
      const accept = (): void => this.target.accept(candidate);
      return { ...(touch ? this.pan(event) : this.rubber(event)), click: accept };
    }
    if (this.target.tool === 'draw' && this.target.editable) return this.pencil(event);
    const click = (): void => this.clickEmpty(event);
    return { ...(touch ? this.pan(event) : this.rubber(event)), click };
  }

  private choose(note: RollNote, toggle: boolean): void {
    const ids = new Set(toggle ? this.roll.scene.selected : []);
    if (toggle && ids.has(note.id)) ids.delete(note.id);
    else ids.add(note.id);
    this.target.select(ids, note.id);
    if (!this.roll.scene.playing) this.target.audition(note);
  }

  private pressNote(event: PointerEvent, note: RollNote, part: Part): Deed {
    const { scene } = this.roll;
    const toggle = event.shiftKey || event.ctrlKey || event.metaKey;
    const was = scene.selected.has(note.id);
    if (!was && !toggle) this.choose(note, false);
    const click = (): void => {
      if (was || toggle) this.choose(note, toggle);
    };
    if (!this.target.editable) return { drag: null, click, drop: null, scrolls: false };
    const chosen = scene.notes.notes.filter((n) => (was ? scene.selected.has(n.id) : n === note));
    const [x0, y0] = [event.offsetX, event.offsetY];
    const [from, fromPitch] = [timeAt(this.roll.view, x0), pitchAt(this.roll.view, y0)];
    const rooms = new Map(part === 'body' ? [] : chosen.map((n) => [n, scene.notes.room(n)]));
    let pairs: (readonly [RollNote, RollNote])[] = [];
    let heard = note.pitch;
    let alone = !was && toggle; // chosen only once it is dragged: a click would add it to the others
    const drag = (x: number, y: number, { altKey, shiftKey }: PointerEvent): void => {
      if (alone) this.choose(note, false);
      alone = false;
      const { view } = this.roll;
      const grid = altKey ? null : this.target.grid;
      let seconds = timeAt(view, x) - from;
      let semitones = part === 'body' ? pitchAt(view, y) - fromPitch : 0;
      if (shiftKey && Math.abs(x - x0) < Math.abs(y - y0)) seconds = 0;
      else if (shiftKey) semitones = 0;
      const edge = part === 'end' ? note.offset : note.onset;
      if (grid && seconds !== 0) seconds = snapped(edge + seconds, grid) - edge;
      const [by, up] = heldShift(chosen, seconds, semitones);
      pairs = chosen.map((n) => {
        if (part === 'start') return [n, stretchedNote(n, n.onset + seconds, n.offset, rooms.get(n))];
        const end = Math.max(n.onset + SHORTEST, n.offset + seconds);
        if (part === 'end') return [n, stretchedNote(n, n.onset, end, rooms.get(n))];
        return [n, movedNote(n, by, up)];
      });
      this.roll.set({ ghosts: pairs.map(([, ghost]) => ghost), hovered: null });
      const pitch = pairs.find(([n]) => n === note)?.[1].pitch ?? heard;
      if (pitch !== heard && !this.roll.scene.playing) this.target.audition({ ...note, pitch });
      heard = pitch;
    };
    return { drag, click, drop: () => this.target.replace(pairs, part === 'body' ? 'move' : 'stretch'), scrolls: true };
  }

  private clickEmpty(event: PointerEvent): void {
    const { offsetX: x, offsetY: y } = event;
    const { view } = this.roll;
    const last = this.lastClick;
    this.lastClick = { time: event.timeStamp, x, y };
    if (event.timeStamp - last.time < DOUBLE && Math.hypot(x - last.x, y - last.y) < 12 && this.target.editable) {
      const onset = this.snap(timeAt(view, x), event);
      this.target.draw(drawnNote(onset, onset + this.length(), pitchAt(view, y)));
      return;
    }
    this.target.select(new Set(), null);
    this.target.seek(timeAt(view, x));
  }

  private snap(time: number, event: MouseEvent): number {
    return Math.max(0, event.altKey || !this.target.grid ? time : snapped(time, this.target.grid));
  }

  private length(): number {
    return this.target.grid?.step ?? DEFAULT_LENGTH;
  }

  private pencil(event: PointerEvent): Deed {
    const { view } = this.roll;
    const onset = this.snap(timeAt(view, event.offsetX), event);
    const pitch = pitchAt(view, event.offsetY);
    let note = drawnNote(onset, onset + this.length(), pitch);
    if (!this.roll.scene.playing) this.target.audition(note);
    const show = (): void => this.roll.set({ ghosts: [{ ...note, id: 'drawn', edited: true, raw: note, joined: [] }] });
    show();
    const done = (): void => this.target.draw(note);
    const drag = (x: number, _: number, move: PointerEvent): void => {
      const offset = this.snap(timeAt(this.roll.view, x), move);
      note = drawnNote(onset, Math.max(onset + SHORTEST, offset), pitch);
      show();
    };
    return { drag, click: done, drop: done, scrolls: true };
  }

  private rubber(event: PointerEvent): Deed {
    const from = timeAt(this.roll.view, event.offsetX);
    const y0 = event.offsetY;
    const { selected, focused } = this.roll.scene;
    const before = event.shiftKey || event.ctrlKey || event.metaKey ? selected : new Set<string>();
    const drag = (x: number, y: number): void => {
      const x0 = xOf(this.roll.view, from);
      const box = { x: Math.min(x, x0), y: Math.min(y, y0), width: Math.abs(x - x0), height: Math.abs(y - y0) };
      this.roll.set({ marquee: box, hovered: null });
      this.target.select(new Set([...before, ...this.inside(box)]), null);
    };
    return { drag, click: null, drop: null, scrolls: true, undo: () => this.target.select(selected, focused) };
  }

  private inside(box: Box): string[] {
    const { view, scene } = this.roll;
    const ids: string[] = [];
    const [high, low] = [pitchAt(view, box.y), pitchAt(view, box.y + box.height)];
    scene.notes.forEach(timeAt(view, box.x), timeAt(view, box.x + box.width), (note) => {
      if (note.pitch >= low && note.pitch <= high) ids.push(note.id);
    });
    return ids;
  }

  private pan(event: PointerEvent): Deed {
    const [x0, y0, view] = [event.offsetX, event.offsetY, this.roll.view];
    const drag = (x: number, y: number): void => {
      this.target.wander();
      this.roll.setView(scrolled(view, x0 - x, y0 - y));
    };
    return { drag, click: null, drop: null, scrolls: false };
  }

  // ---------------------------------------------------------------- ruler and keys

  private pressRuler(event: PointerEvent): Deed | null {
    const { view, scene } = this.roll;
    if (!scene.duration) return null;
    const place = (x: number, at: MouseEvent): number =>
      Math.min(scene.duration, this.snap(timeAt(this.roll.view, x), at));
    const near = (time: number): boolean => Math.abs(xOf(view, time) - event.offsetX) < 8;
    const { loop } = scene;
    // An end of the region that is there can be dragged; elsewhere a new one begins.
    let anchor = place(event.offsetX, event);
    if (loop && near(loop.start)) anchor = loop.end;
    else if (loop && near(loop.end)) anchor = loop.start;
    let region: Region | null = null;
    const drag = (x: number, _: number, move: PointerEvent): void => {
      const other = place(x, move);
      region = { start: Math.min(anchor, other), end: Math.max(anchor, other) };
      this.roll.set({ loop: region, isLooping: true });
    };
    return {
      drag,
      drop: () => this.target.loop(region),
      click: () => this.target.seek(timeAt(view, event.offsetX)),
      undo: () => this.roll.set({ loop, isLooping: scene.isLooping }),
      scrolls: true,
    };
  }

  private pressKey(event: PointerEvent): Deed {
    let heard = -1;
    const play = (y: number): void => {
      const pitch = pitchAt(this.roll.view, y);
      if (pitch !== heard) this.target.audition(drawnNote(0, 0.5, pitch));
      heard = pitch;
    };
    play(event.offsetY);
    return { drag: (_, y) => play(y), click: null, drop: null, scrolls: false };
  }

  private wheel(event: WheelEvent, onKeys: boolean): void {
    event.preventDefault();
    const { view, scene } = this.roll;
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? view.height : 1;
    const [dx, dy] = [event.deltaX * unit, event.deltaY * unit];
    this.target.wander();
    if (event.ctrlKey || event.metaKey) {
      // A pinch on a touchpad comes as small steps with ctrl; a wheel as large ones.
      const factor = Math.exp(-dy * (Math.abs(dy) < 20 ? WHEEL * 4 : WHEEL));
      if (onKeys || event.altKey) this.roll.setView(zoomedPitch(view, factor, event.offsetY, scene.duration));
      else this.roll.setView(zoomedTime(view, factor, event.offsetX, scene.duration));
    } else if (event.altKey) {
      this.roll.setView(zoomedPitch(view, Math.exp(-dy * WHEEL), event.offsetY, scene.duration));
    } else if (event.shiftKey && dx === 0) {
      this.roll.setView(scrolled(view, dy, 0));
    } else {
      this.roll.setView(scrolled(view, dx, dy));
    }
  }
}
