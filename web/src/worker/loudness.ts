/** How loud a recording is: loud enough for the model, or by how much it must be raised (basic_transcribe/loudness.py). */

const LOUD = 0.05; // of full scale, -26 dB: from there on it does not matter to the model how loud a recording is
const MOST_GAIN = 40; // dB; what is softer still may be nothing but noise

/** Of the loudest tenth of a second, the median of the peaks of its ten parts, which clicks do not raise. */
export class Loudness {
  readonly #part: number;
  #peaks: number[] = [0];
  #filled = 0; // samples of the last part
  #level = 0;

  constructor(sampleRate: number) {
    this.#part = Math.floor(sampleRate / 100);
  }

  push(block: Float32Array): void {
    for (let i = 0; i < block.length && this.#level < LOUD; i++) {
      const last = this.#peaks.length - 1;
      this.#peaks[last] = Math.max(this.#peaks[last]!, Math.abs(block[i]!));
      if (++this.#filled < this.#part) continue;
      if (last === 9) this.#end();
      else this.#peaks.push(0);
      this.#filled = 0;
    }
  }

  /** That, or the loudest sample of the last part of a tenth. */
  get level(): number {
    return Math.max(this.#level, ...this.#peaks);
  }

  /** Decibels by which a recording that is so soft should be louder; 0 if it is loud, at most 40. */
  get gain(): number {
    return Math.min(Math.max(0, -20 * Math.log10(Math.max(this.level, 1e-30) / LOUD)), MOST_GAIN);
  }

  #end(): void {
    const sorted = this.#peaks.sort((a, b) => a - b);
    this.#level = Math.max(this.#level, (sorted[4]! + sorted[5]!) / 2);
    this.#peaks = [0];
  }
}
