/** The whole recording at a glance, with a frame around what the roll shows. */

import { sharpen } from './dom.ts';
import { drawWave } from './draw.ts';
import type { RollNote } from './document.ts';
import { readPalette } from './palette.ts';
import type { Roll } from './roll.ts';
import { endOf } from './view.ts';

export class Overview {
  private readonly canvas: HTMLCanvasElement;
  private readonly roll: Roll;
  /** Waveform and notes, which change less often than the frame. */
  private readonly still = document.createElement('canvas');
  private stale = true;
  private frame = 0;

  constructor(canvas: HTMLCanvasElement, roll: Roll) {
    this.canvas = canvas;
    this.roll = roll;
    new ResizeObserver(() => this.redraw()).observe(canvas);
    let grip = 0;
    canvas.addEventListener('pointerdown', (event) => {
      if (event.button !== 0 || !roll.scene.duration) return;
      canvas.setPointerCapture(event.pointerId);
      const time = this.timeAt(event.offsetX);
      const { view } = roll;
      const inside = time >= view.start && time <= endOf(view);
      grip = inside ? time - view.start : (endOf(view) - view.start) / 2;
      this.drag(event, grip);
    });
    canvas.addEventListener(
      'pointermove',
      (event) => {
        if (canvas.hasPointerCapture(event.pointerId)) this.drag(event, grip);
      },
      { passive: true },
    );
  }

  /** Called when the view was moved here. */
  onDrag: () => void = () => undefined;

  /** The recording or its notes have changed. */
  redraw(): void {
    this.stale = true;
    this.update();
  }

  /** The view or the playhead has moved. */
  update(): void {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.draw();
    });
  }

  private timeAt(x: number): number {
    return (x / this.canvas.clientWidth) * this.roll.scene.duration;
  }

  private drag(event: PointerEvent, grip: number): void {
    this.onDrag();
    this.roll.setView({ ...this.roll.view, start: this.timeAt(event.offsetX) - grip });
  }

  private draw(): void {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const { scene, view } = this.roll;
    if (!width || !height) return;
    const ctx = sharpen(this.canvas);
    ctx.clearRect(0, 0, width, height);
    if (!scene.duration) return;
    if (this.stale) this.drawStill(width, height);
    ctx.drawImage(this.still, 0, 0, width, height);
    const scale = width / scene.duration;
    const style = getComputedStyle(this.canvas);
    const accent = style.getPropertyValue('--accent');
    const [left, right] = [view.start * scale, Math.min(width, endOf(view) * scale)];
    ctx.fillStyle = style.getPropertyValue('--wash');
    ctx.fillRect(left, 0, right - left, height);
    ctx.strokeStyle = accent;
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    ctx.roundRect(left + 1, 1, Math.max(6, right - left - 2), height - 2, 4);
    ctx.stroke();
    ctx.fillStyle = accent;
    ctx.fillRect(scene.playhead * scale - 0.75, 0, 1.5, height);
  }

  private drawStill(width: number, height: number): void {
    this.stale = false;
    [this.still.width, this.still.height] = [this.canvas.width, this.canvas.height];
    const ctx = this.still.getContext('2d') as CanvasRenderingContext2D;
    const ratio = this.still.width / width;
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    const { scene } = this.roll;
    const palette = readPalette(this.canvas);
    const scale = width / scene.duration;
    drawWave(ctx, scene.peaks, 0, scale, { x: 0, y: 3, width, height: height - 6 }, palette.wave);
    const [low, high] = reach(scene.notes.notes);
    ctx.fillStyle = palette.velocities[8];
    for (const note of scene.notes.notes) {
      const y = 5 + (1 - (note.pitch - low) / Math.max(1, high - low)) * (height - 12);
      ctx.fillRect(note.onset * scale, y, Math.max(1, (note.offset - note.onset) * scale), 1.5);
    }
  }
}

function reach(notes: readonly RollNote[]): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (const { pitch } of notes) [low, high] = [Math.min(low, pitch), Math.max(high, pitch)];
  return [low - 1, high + 1];
}
