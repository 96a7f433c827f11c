/** One line about what is chosen, its velocity and its end. */

import { byId, onClick, setSlider, setText } from './dom.ts';
import { clampVelocity, editedId, members } from './document.ts';
import type { RollNote } from './document.ts';
import type { Editor } from './editor.ts';
import { clock, count, pitchName, spokenPitch } from './names.ts';

export class Inspector {
  private readonly editor: Editor;
  /** What it says when nothing is chosen. */
  idle = '';
  /** While the slider is held: the velocities from before, so that those at their limit come back as they were. */
  private held: { middle: number; velocities: ReadonlyMap<string, number> } | null = null;

  constructor(editor: Editor) {
    this.editor = editor;
    const slider = byId('velocity', 'input');
    slider.addEventListener('input', () => {
      const notes = editor.chosenNotes;
      this.held ??= { middle: middle(notes), velocities: velocitiesOf(notes) };
      const { middle: from, velocities } = this.held;
      const before = (note: RollNote): number => velocities.get(editedId(note)) ?? note.velocity;
      const by = slider.valueAsNumber - from;
      editor.setVelocity(notes.map((note) => [note, clampVelocity(before(note) + by)] as const));
    });
    slider.addEventListener('change', () => {
      this.held = null;
      setSlider(slider, middle(editor.chosenNotes));
    });
    onClick('delete', () => editor.remove());
  }

  show(editable: boolean): void {
    const notes = this.editor.chosenNotes;
    byId('velocity-field').hidden = byId('delete').hidden = !notes.length || !editable;
    setText(byId('inspector-text'), notes.length ? describe(notes) : this.idle);
    if (!notes.length) {
      this.held = null;
      return;
    }
    const slider = byId('velocity', 'input');
    setSlider(slider, this.held ? slider.valueAsNumber : middle(notes));
    setText(byId('velocity-value'), String(middle(notes)));
  }
}

/** By the identities that the notes have once they are changed. */
function velocitiesOf(notes: readonly RollNote[]): Map<string, number> {
  return new Map(notes.flatMap((note) => members(note).map((one) => [editedId(one), note.velocity] as const)));
}

function middle(notes: readonly RollNote[]): number {
  return Math.round(notes.reduce((sum, note) => sum + note.velocity, 0) / Math.max(1, notes.length));
}

function describe(notes: readonly RollNote[]): string {
  if (notes.length === 1) {
    const [note] = notes;
    const certain = note.edited ? 'by hand' : `certainty ${Math.round(note.confidence * 100)} %`;
    return `${pitchName(note.pitch)} at ${clock(note.onset, 2)}, ${seconds(note)} long, ${certain}`;
  }
  const [first, last] = [notes[0].onset, Math.max(...notes.map((note) => note.offset))];
  return `${count(notes.length, 'note')}, ${clock(first, 1)} to ${clock(last, 1)}`;
}

/** A note in words, for those who listen. */
export function spoken(note: RollNote): string {
  const at = `at ${clock(note.onset, 1)}`;
  return `${spokenPitch(note.pitch)}, ${at}, ${seconds(note)} long, velocity ${note.velocity}`;
}

function seconds(note: RollNote): string {
  return `${(note.offset - note.onset).toFixed(2)} s`;
}
