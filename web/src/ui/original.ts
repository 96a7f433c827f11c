/** The recording itself, as it is heard. */

import type { Silence } from '../engine/types.ts';
import { endTime } from './timeline.ts';
import type { Stretch } from './timeline.ts';

export interface Original {
  /** Begin a stretch; what was begun before goes on until it ends by itself. */
  begin(stretch: Stretch): void;
  /** Seconds by which what is heard runs ahead of the stretch; null if that cannot be, or is not known now. */
  ahead(now: number): number | null;
  /** The stretch that is heard now is heard so many seconds later than it said. */
  shift(seconds: number): void;
  stop(): void;
  dispose(): void;
}

const LONGEST = 480; // seconds that are decoded as a whole: about 180 MB
const FADE = 0.004; // seconds, so that a cut does not click

/**
 * Short recordings are decoded as a whole and start on the sample. Long ones would fill the memory: the browser plays
 * them from the file, and the clock follows it. Null if the browser cannot play the file at all.
 */
export async function openOriginal(
  context: AudioContext,
  file: Blob,
  duration: number,
  silences: readonly Silence[],
  output: AudioNode,
): Promise<Original | null> {
  if (duration <= LONGEST) {
    try {
      const buffer = await context.decodeAudioData(await file.arrayBuffer());
      return new Decoded(context, spaced(context, buffer, silences, duration), output);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
    }
  }
  return Streamed.open(context, file, output);
}

/** Decoded sound with silences in their places. Browsers leave them out; one that does not needs none. */
export function spaced(context: AudioContext, buffer: AudioBuffer, silences: readonly Silence[], duration: number): AudioBuffer {
  const total = silences.reduce((sum, { start, end }) => sum + end - start, 0);
  if (!total || buffer.duration > duration - total / 2) return buffer;
  const { numberOfChannels, sampleRate } = buffer;
  const frames = (seconds: number): number => Math.round(seconds * sampleRate);
  const spread = context.createBuffer(numberOfChannels, buffer.length + frames(total), sampleRate);
  for (let channel = 0; channel < numberOfChannels; channel++) {
    const [from, to] = [buffer.getChannelData(channel), spread.getChannelData(channel)];
    let [read, written] = [0, 0];
    for (const { start, end } of [...silences, { start: Infinity, end: Infinity }]) {
      const sound = from.subarray(read, read + Math.max(0, frames(start) - written));
      to.set(sound, written);
      read += sound.length;
      written = frames(end);
    }
  }
  return spread;
}

class Decoded implements Original {
  private readonly context: AudioContext;
  private readonly buffer: AudioBuffer;
  private readonly output: AudioNode;
  private readonly playing = new Map<AudioBufferSourceNode, GainNode>();

  constructor(context: AudioContext, buffer: AudioBuffer, output: AudioNode) {
    this.context = context;
    this.buffer = buffer;
    this.output = output;
  }

  begin(stretch: Stretch): void {
    const late = Math.max(0, this.context.currentTime - stretch.at);
    const length = Math.min(stretch.end, this.buffer.duration) - stretch.start - late;
    if (length <= 0) return;
    const source = this.context.createBufferSource();
    const gain = this.context.createGain();
    source.buffer = this.buffer;
    source.connect(gain).connect(this.output);
    const at = stretch.at + late;
    gain.gain.setValueAtTime(0, at);
    gain.gain.linearRampToValueAtTime(1, at + FADE);
    gain.gain.setValueAtTime(1, Math.max(at + FADE, at + length - FADE));
    gain.gain.linearRampToValueAtTime(0, Math.max(at + 2 * FADE, at + length));
    source.start(at, stretch.start + late, length);
    source.onended = () => {
      this.playing.delete(source);
      gain.disconnect();
    };
    this.playing.set(source, gain);
  }

  ahead(): null {
    return null;
  }

  shift(): void {
    throw new Error('what is decoded starts on the sample');
  }

  stop(): void {
    const now = this.context.currentTime;
    for (const [source, gain] of this.playing) {
      gain.gain.cancelScheduledValues(now);
      gain.gain.setTargetAtTime(0, now, FADE);
      source.stop(now + 6 * FADE);
    }
    this.playing.clear();
  }

  dispose(): void {
    this.stop();
  }
}

class Streamed implements Original {
  private readonly context: AudioContext;
  private readonly element: HTMLAudioElement;
  private readonly node: MediaElementAudioSourceNode;
  private readonly url: string;
  private stretch: Stretch | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;

  static async open(context: AudioContext, file: Blob, output: AudioNode): Promise<Streamed | null> {
    const url = URL.createObjectURL(file);
    const element = new Audio();
    element.preload = 'auto';
    const known = new Promise<boolean>((resolve) => {
      element.oncanplay = () => resolve(true);
      element.onerror = () => resolve(false);
    });
    element.src = url;
    if (await known) return new Streamed(context, element, url, output);
    URL.revokeObjectURL(url);
    return null;
  }

  private constructor(context: AudioContext, element: HTMLAudioElement, url: string, output: AudioNode) {
    this.context = context;
    this.element = element;
    this.url = url;
    this.node = context.createMediaElementSource(element);
    this.node.connect(output);
  }

  begin(stretch: Stretch): void {
    const wait = (stretch.at - this.context.currentTime) * 1000;
    clearTimeout(this.timer);
    // While it waits, so that the seek is done when its time comes.
    if (this.element.paused) this.element.currentTime = stretch.start;
    const start = (): void => {
      this.stretch = stretch;
      if (Math.abs(this.element.currentTime - stretch.start) > 0.02) this.element.currentTime = stretch.start;
      // Rejects when a pause comes before the first sound; then nothing is to be heard.
      this.element.play().catch(() => undefined);
    };
    if (wait > 4) this.timer = setTimeout(start, wait);
    else start();
  }

  ahead(now: number): number | null {
    const { stretch, element } = this;
    if (!stretch || element.paused || element.seeking || element.readyState < 3 || now >= endTime(stretch)) return null;
    return element.currentTime - (stretch.start + now - stretch.at);
  }

  shift(seconds: number): void {
    if (this.stretch) this.stretch = { ...this.stretch, at: this.stretch.at + seconds };
  }

  stop(): void {
    clearTimeout(this.timer);
    this.stretch = null;
    this.element.pause();
  }

  dispose(): void {
    this.stop();
    this.node.disconnect();
    this.element.removeAttribute('src');
    this.element.load();
    URL.revokeObjectURL(this.url);
  }
}
