/** When notes end (basic_transcribe/ends.py, whose rules these are). */

import { rint } from '../engine/timing.ts';

const SOONEST = 3; // frames from a note's onset to where its end may be
export const LATE = 4; // and from where it is silent
const EVENT = 3.5; // sum of the offset posterior that makes an end sure
export const FAINT = 0.005; // posterior that says nothing
// Latitude, in frames: a fifth of the note's length, within limits.
const SHARE = 5;
const NEAREST = 4;
const FARTHEST = 21;
const UNHEARD = 0.05; // of the chance that no end was heard, how much counts for the frame from which the note is silent
const SCALE = 1 << 24; // whole numbers are summed, as in Python, so that ties are decided alike

/**
 * Frame, and a fraction of it, in which a note ends that began in frame `begun` and is silent, or struck again, in frame
 * `silent`; `posterior` is that of its offset from frame `first`, before which it has not ended, to LATE after that.
 */
export function endOf(posterior: Float32Array, first: number, begun: number, silent: number): number {
  const length = posterior.length;
  const weight = new Float64Array(length);
  let gone = 0;
  for (let i = 0; i < length; i++) {
    const value = posterior[i]!;
    const hazard = first + i >= begun + SOONEST && value >= FAINT ? value / EVENT : 0;
    weight[i] = hazard * Math.exp(-gone / SCALE);
    gone += rint(-SCALE * Math.log1p(-hazard));
  }
  weight[silent - first]! += UNHEARD * Math.exp(-gone / SCALE);
  const total = new Float64Array(length + 1);
  const moment = new Float64Array(length + 1);
  for (let i = 0; i < length; i++) {
    const whole = rint(SCALE * weight[i]!);
    total[i + 1] = total[i]! + whole;
    moment[i + 1] = moment[i]! + whole * i;
  }
  let most = 0;
  let middle = silent - first;
  for (let i = 0; i < length; i++) {
    const latitude = Math.min(FARTHEST, Math.max(NEAREST, Math.floor((first + i - begun) / SHARE)));
    const [low, high] = [Math.max(0, i - latitude), Math.min(length, i + latitude + 1)];
    const near = total[high]! - total[low]!;
    if (near > most) [most, middle] = [near, (moment[high]! - moment[low]!) / near];
  }
  return Math.min(first + middle, silent);
}
