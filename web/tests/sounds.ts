/** A WAV file. */
export function wav(channels: Float32Array[], sampleRate: number, kind: 'int16' | 'int24' | 'float32' = 'int16'): Blob {
  const size = { int16: 2, int24: 3, float32: 4 }[kind];
  const count = channels[0]!.length;
  const bytes = count * channels.length * size;
  const view = new DataView(new ArrayBuffer(44 + bytes));
  const text = (at: number, word: string): void => [...word].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  text(0, 'RIFF');
  view.setUint32(4, 36 + bytes, true);
  text(8, 'WAVEfmt ');
  view.setUint32(16, 16, true);
  view.setUint16(20, kind === 'float32' ? 3 : 1, true);
  view.setUint16(22, channels.length, true);
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, sampleRate * channels.length * size, true);
  view.setUint16(32, channels.length * size, true);
  view.setUint16(34, 8 * size, true);
  text(36, 'data');
  view.setUint32(40, bytes, true);
  let at = 44;
  for (let i = 0; i < count; i++) {
    for (const channel of channels) {
      if (kind === 'float32') view.setFloat32(at, channel[i]!, true);
      else if (kind === 'int16') view.setInt16(at, Math.round(channel[i]! * 32767), true);
      else {
        const value = Math.round(channel[i]! * 8388607);
        view.setUint16(at, value & 0xffff, true);
        view.setInt8(at + 2, value >> 16);
      }
      at += size;
    }
  }
  return new Blob([view.buffer as ArrayBuffer]);
}
