/** The colours of the roll, taken from the style sheet, so that they are written in one place. */

export interface Palette {
  readonly roll: string;
  readonly black: string;
  readonly octave: string;
  readonly bar: string;
  readonly beat: string;
  readonly step: string;
  readonly text: string;
  readonly muted: string;
  readonly accent: string;
  readonly wash: string;
  readonly picture: Rgb;
  readonly wave: string;
  readonly candidate: string;
  readonly bend: string;
  readonly halo: string;
  readonly offScale: string;
  readonly whiteKey: string;
  readonly blackKey: string;
  readonly keyText: string;
  /** From the softest to the loudest. */
  readonly velocities: readonly string[];
  /** What can be read on each of them. */
  readonly labels: readonly string[];
  readonly font: string;
}

export type Rgb = readonly [number, number, number];

export const LEVELS = 16;

export function levelOf(velocity: number): number {
  return Math.min(LEVELS - 1, Math.max(0, Math.floor(((velocity - 1) / 127) * LEVELS)));
}

export function parseHex(colour: string): Rgb {
  const value = Number.parseInt(colour.trim().slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

const toHex = (rgb: Rgb): string => `#${rgb.map((v) => Math.round(v).toString(16).padStart(2, '0')).join('')}`;

/** Contrast of two colours, 1 to 21 (WCAG 2.2). */
export function contrast(a: Rgb, b: Rgb): number {
  const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (high + 0.05) / (low + 0.05);
}

function luminance(rgb: Rgb): number {
  const [r, g, b] = rgb.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Colours between those given, evenly spread. */
export function ramp(stops: readonly Rgb[], length: number): Rgb[] {
  return Array.from({ length }, (_, i) => {
    const place = (i / (length - 1)) * (stops.length - 1);
    const left = Math.min(stops.length - 2, Math.floor(place));
    const mix = (c: 0 | 1 | 2): number => stops[left][c] + (stops[left + 1][c] - stops[left][c]) * (place - left);
    return [mix(0), mix(1), mix(2)];
  });
}

/** One of the two has a contrast of 4.5 on any colour. */
const INKS: readonly Rgb[] = [
  [0, 0, 0],
  [255, 255, 255],
];

export function readPalette(element: Element): Palette {
  const style = getComputedStyle(element);
  const read = (name: string): string => style.getPropertyValue(`--${name}`).trim();
  const velocities = ramp([parseHex(read('soft')), parseHex(read('middling')), parseHex(read('loud'))], LEVELS);
  const label = (colour: Rgb): Rgb => (contrast(colour, INKS[0]) > contrast(colour, INKS[1]) ? INKS[0] : INKS[1]);
  return {
    roll: read('roll'),
    black: read('roll-black'),
    octave: read('roll-octave'),
    bar: read('roll-bar'),
    beat: read('roll-beat'),
    step: read('roll-step'),
    text: read('text'),
    muted: read('muted'),
    accent: read('accent'),
    wash: read('wash'),
    picture: parseHex(read('picture')),
    wave: read('wave'),
    candidate: read('candidate'),
    bend: read('bend'),
    halo: read('halo'),
    offScale: read('off-scale'),
    whiteKey: read('key-white'),
    blackKey: read('key-black'),
    keyText: read('key-text'),
    velocities: velocities.map(toHex),
    labels: velocities.map((colour) => toHex(label(colour))),
    font: style.fontFamily,
  };
}
