/**
 * The note and contour posteriors of a whole recording, in little memory: 16 bits a value, and nothing at all where
 * nothing sounds.
 */

const BLOCK = 32; // frames
const PAGE = 1 << 18; // values
const SCALE = 65536;

/** Columns of values between 0 and 1 that are mostly 0, appended row by row, read at any place. */
export class Columns {
  /** Rows that have been appended. */
  rows = 0;
  readonly width: number;
  readonly #groups: number;
  readonly #per: number;
  readonly #least: number;
  #pages: Uint16Array[] = [];
  #used = 0; // values
  #places = new Int32Array(1024); // of each block and group: where its values begin, or -1
  #recent: Uint16Array; // the last rows, that make no whole block yet

  /** `groups` of `per` columns are kept together, or left out for as long as they do not reach `least`. */
  constructor(groups: number, per: number, least: number) {
    this.width = groups * per;
    this.#groups = groups;
    this.#per = per;
    this.#least = least * SCALE;
    this.#recent = new Uint16Array(BLOCK * groups * per);
  }

  /** Bytes in use. */
  get bytes(): number {
    return this.#pages.length * PAGE * 2 + this.#places.byteLength + this.#recent.byteLength;
  }

  append(rows: number, values: Float32Array): void {
    const width = this.#groups * this.#per;
    for (let row = 0; row < rows; row++) {
      const to = (this.rows % BLOCK) * width;
      const from = row * width;
      for (let i = 0; i < width; i++) this.#recent[to + i] = Math.min(SCALE - 1, values[from + i]! * SCALE + 0.5);
      this.rows++;
      if (this.rows % BLOCK === 0) this.#pack();
    }
  }

  #pack(): void {
    const block = this.rows / BLOCK - 1;
    const [groups, per] = [this.#groups, this.#per];
    if ((block + 1) * groups > this.#places.length) {
      const places = new Int32Array(Math.max(2 * this.#places.length, (block + 1) * groups));
      places.set(this.#places);
      this.#places = places;
    }
    for (let group = 0; group < groups; group++) {
      let most = 0;
      for (let row = 0; row < BLOCK; row++) {
        const at = (row * groups + group) * per;
        for (let k = 0; k < per; k++) most = Math.max(most, this.#recent[at + k]!);
      }
      this.#places[block * groups + group] = most < this.#least ? -1 : this.#keep(group);
    }
  }

  #keep(group: number): number {
    const [groups, per] = [this.#groups, this.#per];
    const size = BLOCK * per;
    if ((this.#used % PAGE) + size > PAGE || this.#used === this.#pages.length * PAGE) {
      this.#used = this.#pages.length * PAGE;
      this.#pages.push(new Uint16Array(PAGE));
    }
    const place = this.#used;
    const page = this.#pages[Math.floor(place / PAGE)]!;
    for (let row = 0; row < BLOCK; row++) {
      const at = (row * groups + group) * per;
      for (let k = 0; k < per; k++) page[(place % PAGE) + row * per + k] = this.#recent[at + k]!;
    }
    this.#used += size;
    return place;
  }

  /** Value of a column in a row; 0 beyond the last row. */
  at(row: number, column: number): number {
    if (row >= this.rows) return 0;
    const group = Math.floor(column / this.#per);
    const values = this.#valuesOf(row, group);
    return values === null ? 0 : values[this.#indexOf(row, group) + (column % this.#per)]! / SCALE;
  }

  /** Values of a column from row `first` to `last`, put into `out` at `start`, then each `stride` further. */
  read(column: number, first: number, last: number, out: Float32Array, start: number, stride: number): void {
    const group = Math.floor(column / this.#per);
    for (let row = first; row < last; ) {
      const end = Math.min(last, row - (row % BLOCK) + BLOCK);
      const values = this.#valuesOf(row, group);
      if (values !== null) {
        let from = this.#indexOf(row, group) + (column % this.#per);
        const step = values === this.#recent ? this.#groups * this.#per : this.#per;
        for (let i = row; i < end; i++, from += step) out[start + (i - first) * stride] = values[from]! / SCALE;
      }
      row = end;
    }
  }

  /** The array that holds a row of a group; null where it was left out. */
  #valuesOf(row: number, group: number): Uint16Array | null {
    if (row >= this.rows - (this.rows % BLOCK)) return this.#recent;
    const place = this.#places[Math.floor(row / BLOCK) * this.#groups + group]!;
    return place < 0 ? null : this.#pages[Math.floor(place / PAGE)]!;
  }

  /** Where in that array the row of the group begins. */
  #indexOf(row: number, group: number): number {
    if (row >= this.rows - (this.rows % BLOCK)) return ((row % BLOCK) * this.#groups + group) * this.#per;
    const place = this.#places[Math.floor(row / BLOCK) * this.#groups + group]!;
    return (place % PAGE) + (row % BLOCK) * this.#per;
  }
}
