/** Sound as a WAV file, 16 bit mono, built up piece by piece. */

const HEADER = 44;

export function wavHeader(samples: number, sampleRate: number): ArrayBuffer {
  const view = new DataView(new ArrayBuffer(HEADER));
  const text = (offset: number, value: string): void => {
    for (let i = 0; i < value.length; i++) view.setUint8(offset + i, value.charCodeAt(i));
  };
  text(0, 'RIFF');
  view.setUint32(4, HEADER - 8 + 2 * samples, true);
  text(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true); // PCM
  view.setUint16(22, 1, true); // channels
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, 2 * sampleRate, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, 'data');
  view.setUint32(40, 2 * samples, true);
  return view.buffer;
}

/** Full scale 1; what is beyond it is clipped. Little-endian, as every machine that runs browsers is. */
export function toPcm(samples: Float32Array): Int16Array<ArrayBuffer> {
  const pcm = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; i++) pcm[i] = Math.round(Math.min(1, Math.max(-1, samples[i])) * 32767);
  return pcm;
}
