/** Taking the notes home: MIDI and CSV, by click or dragged out of the page. */

import type { MidiOptions } from '../engine/types.ts';
import { byId } from './dom.ts';
import type { Editor } from './editor.ts';
import type { Tools } from './engine-api.ts';
import { say } from './messages.ts';
import { fileStem } from './names.ts';

const KEPT = 60_000; // milliseconds a file stays fetchable after it was handed over
const MIDI = 'audio/midi';

function midiOptions(editor: Editor, title: string, bends: string, program: number, tuning: number): MidiOptions {
  const { tempo, timeSignature, firstBeat, quantize } = editor.doc.shape;
  return {
    title,
    tempo,
    timeSignature,
    // Without a grid nobody has said where the bars begin.
    firstBeat: quantize === null ? 0 : firstBeat,
    bends: bends as MidiOptions['bends'],
    program,
    tuning,
  };
}

export interface Song {
  readonly name: string;
  readonly file: Blob;
  /** Cents by which its A lies above 440 Hz. */
  tuning: number;
  /** From the microphone: there is no other copy of it, */
  readonly recorded: boolean;
  /** until it is saved. */
  saved: boolean;
}

/** Binds the buttons. `song` is null while there is nothing to take; `taken` is called when the notes were saved. */
export function startTake(
  editor: Editor,
  tools: Tools,
  song: () => Song | null,
  taken: () => void,
): { midi: () => void; sound: (song: Song) => void } {
  const midi = (): File | null => {
    const open = song();
    if (!open) return null;
    const title = fileStem(open.name);
    const program = Number(byId('program', 'select').value);
    const options = midiOptions(editor, title, byId('bends', 'select').value, program, open.tuning);
    const bytes = tools.toMidi([...editor.notes.notes], options);
    return new File([bytes as Uint8Array<ArrayBuffer>], `${title}.mid`, { type: MIDI });
  };
  const csv = (): File | null => {
    const open = song();
    if (!open) return null;
    return new File([tools.toCsv([...editor.notes.notes])], `${fileStem(open.name)}.csv`, { type: 'text/csv' });
  };
  const save = (file: File): void => {
    const link = document.createElement('a');
    link.href = lend(file);
    link.download = file.name;
    link.click();
    say(`${file.name} saved`);
  };
  const saveNotes = (file: File | null): void => {
    if (!file) return;
    save(file);
    taken();
  };
  const saveSound = (open: Song | null): void => {
    if (!open) return;
    save(new File([open.file], `${fileStem(open.name)}.wav`, { type: 'audio/wav' }));
    open.saved = true;
  };
  const bind = (id: string, take: () => void): void => {
    const button = byId(id);
    button.addEventListener('click', take);
    button.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      event.stopPropagation();
      take();
    });
  };
  bind('take-midi', () => saveNotes(midi()));
  bind('take-csv', () => saveNotes(csv()));
  bind('take-sound', () => saveSound(song()));
  byId('take-midi').addEventListener('dragstart', (event) => {
    const file = midi();
    if (!file || !event.dataTransfer) return event.preventDefault();
    const url = lend(file);
    event.dataTransfer.effectAllowed = 'copy';
    // Chrome and Edge write the file where it is dropped; others hand over the address at least.
    event.dataTransfer.setData('DownloadURL', `${MIDI}:${file.name}:${url}`);
    event.dataTransfer.setData('text/uri-list', url);
  });
  return { midi: () => saveNotes(midi()), sound: saveSound };
}

function lend(file: File): string {
  const url = URL.createObjectURL(file);
  setTimeout(() => URL.revokeObjectURL(url), KEPT);
  return url;
}
