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
}
