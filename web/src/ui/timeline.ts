/**
 * Which moment of the recording is heard at which moment of the audio clock.
 *
 * Playing is a chain of stretches, each laid down before it is heard: with a loop, every round is one. Recording and
 * notes are both started by these times, so that they cannot drift apart.
 */

export interface Region {
  /** Seconds of the recording. */
  readonly start: number;
  readonly end: number;
}

export interface Stretch extends Region {
  /** Seconds of the audio clock at which `start` is heard. */
  readonly at: number;
}

export const SHORTEST_LOOP = 0.05; // seconds

/** What is heard from a place on: to the end of the loop if that lies ahead, else to the end of the recording. */
export function firstStretch(position: number, at: number, loop: Region | null, duration: number): Stretch {
  const inLoop = loop !== null && position < loop.end - 1e-3;
  return { start: position, end: inLoop ? loop.end : Math.max(position, duration), at };
}

/** What follows a stretch without a gap: the loop again, or nothing. */
export function nextStretch(last: Stretch, loop: Region | null): Stretch | null {
  if (loop === null || Math.abs(last.end - loop.end) > 1e-3) return null;
  return { ...loop, at: endTime(last) };
}

/** When on the audio clock a stretch is over. */
export function endTime(stretch: Stretch): number {
  return stretch.at + stretch.end - stretch.start;
}

/** The place that is heard at a time of the audio clock. */
export function positionAt(stretches: readonly Stretch[], time: number): number {
  const stretch = stretches.findLast((s) => s.at <= time) ?? stretches[0];
  if (!stretch) return 0;
  return Math.min(stretch.end, stretch.start + Math.max(0, time - stretch.at));
}
