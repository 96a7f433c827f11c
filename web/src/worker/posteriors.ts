/** What the model says of some frames, row after row. */
export interface Posteriors {
  frames: number;
  onset: Float32Array;
  note: Float32Array;
  offset: Float32Array;
  contour: Float32Array;
  level: Float32Array;
}

/** What the columns and rows of posteriors mean. */
export interface Grid {
  /** Frames per second; frame i is centred on i / frameRate seconds. */
  frameRate: number;
  lowestPitch: number;
  pitches: number;
  binsPerSemitone: number;
  /** Cents by which the recording's own A lies above 440 Hz. Pitches and bins are counted from there. */
  tuning: number;
}

/** Posteriors of so many frames, each array made by its number of columns. */
function withArrays(
  frames: number,
  { pitches, binsPerSemitone }: Grid,
  make: (name: Exclude<keyof Posteriors, 'frames'>, width: number) => Float32Array,
): Posteriors {
  return {
    frames,
    onset: make('onset', pitches),
    note: make('note', pitches),
    offset: make('offset', pitches),
    contour: make('contour', pitches * binsPerSemitone),
    level: make('level', pitches),
  };
}

/** So many frames of nothing. */
export function silence(frames: number, grid: Grid): Posteriors {
  return withArrays(frames, grid, (_, width) => new Float32Array(frames * width));
}

/** Frames `first` to `last`, copied. */
export function rowsOf(p: Posteriors, grid: Grid, first: number, last: number): Posteriors {
  return withArrays(last - first, grid, (name, width) => p[name].slice(first * width, last * width));
}

/** Frames, and those that follow them. */
export function joined(p: Posteriors, next: Posteriors, grid: Grid): Posteriors {
  const frames = p.frames + next.frames;
  return withArrays(frames, grid, (name, width) => {
    const both = new Float32Array(frames * width);
    both.set(p[name].subarray(0, p.frames * width));
    both.set(next[name].subarray(0, next.frames * width), p.frames * width);
    return both;
  });
}
