/** The contour posterior as a picture to draw notes on. */

import type { Spectrogram } from '../engine/types.ts';
import type { Recording } from './recording.ts';

const MOST_COLUMNS = 16_384;

/** The highest value of each pitch bin in each column of frames, square-rooted, so that faint lines show. */
export function pictureOf(recording: Recording): Spectrogram {
  const { contour, frames, grid } = recording;
  const framesPerColumn = Math.max(1, Math.ceil(frames / MOST_COLUMNS));
  const width = Math.ceil(frames / framesPerColumn);
  const height = grid.pitches * grid.binsPerSemitone;
  const data = new Uint8Array(width * height);
  const values = new Float32Array(frames);
  for (let bin = 0; bin < height; bin++) {
    values.fill(0);
    contour.read(bin, 0, frames, values, 0, 1);
    for (let frame = 0; frame < frames; frame++) {
      const value = values[frame]!;
      if (value === 0) continue;
      const at = bin * width + Math.floor(frame / framesPerColumn);
      const shade = 255 * Math.sqrt(value) + 0.5;
      if (shade > data[at]!) data[at] = shade;
    }
  }
  return {
    width,
    height,
    data,
    secondsPerColumn: framesPerColumn / grid.frameRate,
    lowestPitch: grid.lowestPitch,
    binsPerSemitone: grid.binsPerSemitone,
  };
}
