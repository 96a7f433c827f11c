/** Events where one tracker takes over from another: neither hears anything of the other's part. */

import { AFTER, BEFORE, EventFinder, Events } from './evidence.ts';
import { joined, rowsOf, silence, type Grid, type Posteriors } from './posteriors.ts';

/** Frames from one place where a tracker may begin or end to the next, from frame 0 on; about a second. */
export const CHUNK = 86;

/** Finds, around each such place, the events that are others once there is only silence before it, or after it. */
export class Edges {
  /** The first BEFORE frames of a tracker that begins there. */
  readonly opening = new Events();
  /** The last BEFORE frames of one that ends there, and the silence after them. */
  readonly closing = new Events();
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
    const keep = Math.min(this.#rows.frames, Math.max(0, this.#next - 2 * BEFORE - this.#frame));
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
    const before = new EventFinder(this.#grid, null, this.#next - 2 * BEFORE);
    before.push(rowsOf(this.#rows, this.#grid, at - 2 * BEFORE, at));
    before.flush();
    this.closing.take(before.events, before.events.from(this.#next - BEFORE));
  }
}
