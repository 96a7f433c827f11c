/** A small synthesiser: two additive voices, plucked and sustained, that follow pitch bends. */

import type { Note } from '../engine/types.ts';

export type Sound = 'plucked' | 'sustained';

/** Seconds by which what is played comes out later: a compressor looks ahead (Web Audio API, 1.19). */
export const LATENCY = 0.006;

const RELEASE = 0.05; // seconds, time constant of a note's end
const SILENT = 6; // time constants after which nothing is heard
const LEVEL = 0.22; // of a note at full velocity
const BEND_STEP = 0.01; // seconds between values of a bend, at least
const PARTIALS = 40;

/** How one sound is made: a dark body, and a bright attack that fades sooner. */
interface Timbre {
  body: (harmonic: number) => number;
  bright: (harmonic: number) => number;
  /** Seconds. */
  attack: number;
  /** Seconds in which body and bright part fade by 8.7 dB, at a pitch; null: they do not fade. */
  fade: (pitch: number) => { body: number; bright: number } | null;
  brightness: number;
}

// A string plucked at a sixth of its length lacks every sixth partial.
const pluck = (n: number): number => Math.sin((Math.PI * n) / 6);

const TIMBRES: Record<Sound, Timbre> = {
  plucked: {
    body: (n) => pluck(n) / n ** 2,
    bright: (n) => pluck(n) / n ** 1.1,
    attack: 0.003,
    fade: (pitch) => {
      const body = Math.min(2.2, Math.max(0.25, 1.3 * 2 ** ((52 - pitch) / 20)));
      return { body, bright: body * 0.2 };
    },
    brightness: 0.8,
  },
  sustained: {
    body: (n) => (n % 2 ? 1 : 0.6) / n ** 1.9,
    bright: (n) => 1 / n ** 1.25,
    attack: 0.03,
    fade: () => null,
    brightness: 0.18,
  },
};

export function frequency(pitch: number): number {
  return 440 * 2 ** ((pitch - 69) / 12);
}

/** Cents of a bend from `seconds` into a note to its end, and how long they last; null if it does not bend there. */
export function bendCurve(note: Note, seconds: number): { cents: Float32Array<ArrayBuffer>; duration: number } | null {
  const bend = note.bend;
  const from = note.onset + seconds;
  const duration = note.offset - from;
  if (!bend || bend.semitones.length === 0 || duration <= 0 || bend.semitones.every((value) => value === 0)) return null;
  const count = Math.max(2, Math.min(4000, Math.ceil(duration / Math.max(bend.step, BEND_STEP)) + 1));
  const cents = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    const place = (from + (duration * i) / (count - 1) - bend.start) / bend.step;
    const left = Math.min(bend.semitones.length - 1, Math.max(0, Math.floor(place)));
    const right = Math.min(bend.semitones.length - 1, left + 1);
    const share = Math.min(1, Math.max(0, place - left));
    cents[i] = 100 * (bend.semitones[left] * (1 - share) + bend.semitones[right] * share);
  }
  return { cents, duration };
}

/** A note that was started; it ends by itself, or sooner when it is told to. */
export interface Voice {
  /** When it is over, on the audio clock. */
  readonly end: number;
  stop(at: number): void;
}

export class Synth {
  sound: Sound = 'plucked';
  private readonly context: BaseAudioContext;
  private readonly output: AudioNode;
  private readonly waves: Record<Sound, { body: PeriodicWave; bright: PeriodicWave }>;

  constructor(context: BaseAudioContext, output: AudioNode) {
    this.context = context;
    // Many notes at once are pressed together rather than clipped.
    const limiter = context.createDynamicsCompressor();
    limiter.threshold.value = -14;
    limiter.ratio.value = 6;
    limiter.attack.value = 0.004;
    limiter.release.value = 0.2;
    limiter.connect(output);
    this.output = limiter;
    const wave = (amplitude: (n: number) => number): PeriodicWave => {
      const sines = Float32Array.from({ length: PARTIALS + 1 }, (_, n) => (n ? amplitude(n) : 0));
      return context.createPeriodicWave(new Float32Array(PARTIALS + 1), sines);
    };
    const waves = ({ body, bright }: Timbre) => ({ body: wave(body), bright: wave(bright) });
    this.waves = { plucked: waves(TIMBRES.plucked), sustained: waves(TIMBRES.sustained) };
  }

  /** Play a note from `seconds` after its onset, at a time of the audio clock. */
  play(note: Note, at: number, seconds = 0): Voice {
    const timbre = TIMBRES[this.sound];
    const waves = this.waves[this.sound];
    const loudness = LEVEL * (note.velocity / 127) ** 1.5;
    const fade = timbre.fade(note.pitch);
    const curve = bendCurve(note, seconds);
    const off = at + Math.max(0.03, note.offset - note.onset - seconds);
    const end = off + RELEASE * SILENT;
    const gain = this.context.createGain();
    gain.gain.setValueAtTime(1, at);
    gain.gain.setTargetAtTime(0, off, RELEASE);
    gain.connect(this.output);
    const part = (wave: PeriodicWave, level: number, constant: number | undefined): OscillatorNode => {
      const oscillator = this.context.createOscillator();
      oscillator.setPeriodicWave(wave);
      oscillator.frequency.value = frequency(note.pitch);
      if (curve) oscillator.detune.setValueCurveAtTime(curve.cents, at, curve.duration);
      const envelope = this.context.createGain();
      const now = constant === undefined ? level : level * Math.exp(-seconds / constant);
      envelope.gain.setValueAtTime(0, at);
      envelope.gain.linearRampToValueAtTime(now, at + timbre.attack);
      if (constant !== undefined) envelope.gain.setTargetAtTime(0, at + timbre.attack, constant);
      oscillator.connect(envelope).connect(gain);
      oscillator.start(at);
      oscillator.stop(end);
      return oscillator;
    };
    const parts = [
      part(waves.body, loudness, fade?.body),
      // Louder notes are brighter.
      part(waves.bright, loudness * timbre.brightness * (note.velocity / 127), fade?.bright),
    ];
    parts[0].onended = () => gain.disconnect();
    return {
      end,
      stop: (time) => {
        if (time <= at) {
          for (const oscillator of parts) oscillator.stop(at); // never heard
          return;
        }
        gain.gain.cancelScheduledValues(time);
        gain.gain.setTargetAtTime(0, time, 0.012);
        for (const oscillator of parts) oscillator.stop(time + 0.08);
      },
    };
  }
}
