/** Events where a tracker begins within a recording: it hears nothing of what lies before. */

import { AFTER, BEFORE, EventFinder, Events } from './evidence.ts';
import { joined, rowsOf, silence, type Grid, type Posteriors } from './posteriors.ts';

/** Frames from one place where a tracker may begin to the next, from frame 0 on; about a second. */
export const CHUNK = 86;

/** Finds, after each such place, the events that are others once there is only silence before it. */
export class Edges {
  /** The first BEFORE frames of a tracker that begins there. */
  readonly opening = new Events();
  readonly #grid: Grid;
  #rows: Posteriors;
  #frame = 0; // of the first row
  #next = CHUNK;

  constructor(grid: Grid) {
    this.#grid = grid;
    this.#rows = silence(0, grid);
  }

  push(block: Posteriors): void {
    this.#rows = joined(this.#rows, block, this.#grid);
    for (; this.#frame + this.#rows.frames >= this.#next + BEFORE + AFTER; this.#next += CHUNK) this.#find();
    const keep = Math.min(this.#rows.frames, Math.max(0, this.#next - this.#frame));
    this.#rows = rowsOf(this.#rows, this.#grid, keep, this.#rows.frames);
    this.#frame += keep;
  }

  /** The recording is over; silence follows. */
  flush(): void {
    this.push(silence(BEFORE + AFTER, this.#grid));
  }

  #find(): void {
    const at = this.#next - this.#frame;
    const after = new EventFinder(this.#grid, null, this.#next);
    after.push(rowsOf(this.#rows, this.#grid, at, at + BEFORE + AFTER));
    this.opening.take(after.events, 0);
  }
}
