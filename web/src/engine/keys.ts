/** Scales by name (basic_transcribe/keys.py). */

import { EngineError } from './types.ts';

const LETTERS: Record<string, number> = { C: 0, D: 2, E: 4, F: 5, G: 7, A: 9, B: 11 };
const ACCIDENTALS: Record<string, number> = { '': 0, '#': 1, '♯': 1, b: -1, '♭': -1 };

/** Semitones above the tonic, by name. */
const STEPS: Record<string, readonly number[]> = {
  major: [0, 2, 4, 5, 7, 9, 11],
  minor: [0, 2, 3, 5, 7, 8, 10],
  'harmonic minor': [0, 2, 3, 5, 7, 8, 11],
  'melodic minor': [0, 2, 3, 5, 7, 9, 11],
  dorian: [0, 2, 3, 5, 7, 9, 10],
  phrygian: [0, 1, 3, 5, 7, 8, 10],
  lydian: [0, 2, 4, 6, 7, 9, 11],
  mixolydian: [0, 2, 4, 5, 7, 9, 10],
  locrian: [0, 1, 3, 5, 6, 8, 10],
  'major pentatonic': [0, 2, 4, 7, 9],
  'minor pentatonic': [0, 3, 5, 7, 10],
  blues: [0, 3, 5, 6, 7, 10],
  'whole tone': [0, 2, 4, 6, 8, 10],
  chromatic: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
};

const SYNONYMS: Record<string, string> = {
  '': 'major',
  maj: 'major',
  ionian: 'major',
  m: 'minor',
  min: 'minor',
  aeolian: 'minor',
  'natural minor': 'minor',
  pentatonic: 'major pentatonic',
};

/** Names that may follow a tonic. */
export const SCALES: readonly string[] = Object.keys(STEPS);

/** Pitch classes of a scale by name: a tonic, then one of SCALES; `C` alone is major, `Cm` minor. */
export function parseScale(text: string): Set<number> {
  const found = /^([A-Ga-g])([#♯b♭]?)(.*)$/u.exec(text.trim());
  const kind = found && kindOf(found[3]!);
  const steps = kind !== null && Object.hasOwn(STEPS, kind) ? STEPS[kind] : undefined;
  if (!found || !steps) {
    throw new EngineError(`'${text}' is no scale; give a tonic such as C, F# or Bb, and one of ${SCALES.join(', ')}`);
  }
  const tonic = LETTERS[found[1]!.toUpperCase()]! + ACCIDENTALS[found[2]!]! + 12;
  return new Set(steps.map((step) => (tonic + step) % 12));
}

function kindOf(text: string): string {
  const words = text.replaceAll('-', ' ').split(/\s+/).filter(Boolean).join(' ');
  const kind = words === 'M' ? 'major' : words.toLowerCase();
  return Object.hasOwn(SYNONYMS, kind) ? SYNONYMS[kind]! : kind;
}
