/** What a musician does to notes that have been found (basic_transcribe/shaping.py). */

import { parseScale } from './keys.ts';
import { beatsOf, bendUntil, inOrder, parseDivision, quantize } from './timing.ts';
import type { Note, ShapeSettings } from './types.ts';

const LOWEST = 21; // pitches that a note may be moved to
const HIGHEST = 108;
const ASIDE = 0.2; // semitones by which a note must sound off its pitch to be taken to that side; less is no intention
const USEFUL = 0.05; // seconds a note must have sounded to be cut rather than left out

/**
 * Notes in their new shape: first the pitches, which decide what belongs together, then the times. Bends are centred on
 * the tuning, in cents.
 */
export function shape<T extends Note>(notes: T[], settings: ShapeSettings, tuning = 0): T[] {
  let shaped = notes;
  if (settings.scale !== null) {
    const scale = parseScale(settings.scale);
    if (settings.scaleMode === 'snap') shaped = snap(shaped, scale, tuning / 100);
    if (settings.scaleMode === 'drop') shaped = shaped.filter((note) => scale.has(note.pitch % 12));
  }
  if (settings.quantize !== null) {
    const beats = beatsOf(settings.tempo, settings.timeSignature, settings.firstBeat);
    shaped = quantize(shaped, beats, parseDivision(settings.quantize), settings.strength, settings.swing);
  }
  return shaped;
}

/**
 * Notes moved to the nearest pitches of a scale, without overlaps. Of two that now begin together on one pitch the
 * stronger stays. One that was moved into another is left out; any other that begins within another cuts it short.
 */
function snap<T extends Note>(notes: T[], scale: Set<number>, tuning: number): T[] {
  const allowed = Array.from({ length: HIGHEST - LOWEST + 1 }, (_, i) => LOWEST + i).filter((p) => scale.has(p % 12));
  const last = new Map<number, T>();
  const kept: T[] = [];
  const found = new Set(notes);
  for (const note of inOrder(notes.map((n) => (scale.has(n.pitch % 12) ? n : moved(n, allowed, tuning))))) {
    const earlier = last.get(note.pitch);
    if (earlier && note.onset < earlier.offset) {
      if (note.onset - earlier.onset < USEFUL) {
        if (strength(note) <= strength(earlier)) continue;
      } else if (!found.has(note) && note.offset <= earlier.offset) continue;
      else kept.push(cut(earlier, note.onset));
    } else if (earlier) kept.push(earlier);
    last.set(note.pitch, note);
  }
  return inOrder([...kept, ...last.values()]);
}

/** The note on the nearest pitch allowed, of two the one it sounds towards, else the lower, its bend centred. */
function moved<T extends Note>(note: T, allowed: number[], tuning: number): T {
  const centre = note.bend ? median(note.bend.semitones) - tuning : 0;
  const aside = Math.abs(centre) >= ASIDE ? centre : 0;
  let [pitch, near, nearer] = [note.pitch, Infinity, Infinity];
  for (const candidate of allowed) {
    const distance = Math.abs(candidate - note.pitch);
    const sounding = Math.abs(candidate - note.pitch - aside);
    if (distance < near || (distance === near && sounding < nearer)) [pitch, near, nearer] = [candidate, distance, sounding];
  }
  const bend = note.bend && { ...note.bend, semitones: note.bend.semitones.map((value) => value - centre) };
  return { ...note, pitch, bend };
}

function median(values: Float32Array): number {
  const sorted = values.slice().sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half]! : Math.fround(Math.fround(sorted[half - 1]! + sorted[half]!) / 2);
}

/** The note, ending at `offset` at the latest, and its bend with it. */
function cut<T extends Note>(note: T, offset: number): T {
  if (note.offset <= offset) return note;
  return { ...note, offset, bend: note.bend && bendUntil(note.bend, offset) };
}

function strength(note: Note): number {
  return note.velocity * note.confidence;
}
