/** Taking the notes home: MIDI and CSV, by click or dragged out of the page. */

import type { MidiOptions } from '../engine/types.ts';
import { byId } from './dom.ts';
import type { Editor } from './editor.ts';
import type { Tools } from './engine-api.ts';
import { fileStem } from './names.ts';

const KEPT = 60_000; // milliseconds a file stays fetchable after it was handed over
const MIDI = 'audio/midi';

export function midiOptions(editor: Editor, title: string, bends: string, program: number): MidiOptions {
  const { tempo, timeSignature, firstBeat, quantize } = editor.doc.shape;
  return {
    title,
    tempo,
    timeSignature,
    // Without a grid nobody has said where the bars begin.
    firstBeat: quantize === null ? 0 : firstBeat,
    bends: bends as MidiOptions['bends'],
    program,
  };
}

export interface Song {
  readonly name: string;
  readonly file: Blob;
}

/** Binds the buttons; `taken` is called with the name of what was saved. */
export function startTake(
  editor: Editor,
  tools: Tools,
  song: () => Song | null,
  taken: (name: string) => void,
): { midi: () => void } {
  const midi = (): File | null => {
    const open = song();
    if (!open) return null;
    const title = fileStem(open.name);
    const program = Number(byId('program', 'select').value);
    const options = midiOptions(editor, title, byId('bends', 'select').value, program);
    const bytes = tools.toMidi([...editor.notes.notes], options);
    return new File([bytes as Uint8Array<ArrayBuffer>], `${title}.mid`, { type: MIDI });
  };
  const csv = (): File | null => {
    const open = song();
    if (!open) return null;
    return new File([tools.toCsv([...editor.notes.notes])], `${fileStem(open.name)}.csv`, { type: 'text/csv' });
  };
  const sound = (): File | null => {
    const open = song();
    return open && new File([open.file], `${fileStem(open.name)}.wav`, { type: 'audio/wav' });
  };
  const save = (file: File | null): void => {
    if (!file) return;
    const link = document.createElement('a');
    link.href = lend(file);
    link.download = file.name;
    link.click();
    taken(file.name);
  };
  for (const [id, make] of [['take-midi', midi], ['take-csv', csv], ['take-sound', sound]] as const) {
    const button = byId(id);
    button.addEventListener('click', () => save(make()));
    button.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== ' ') return;
      event.preventDefault();
      event.stopPropagation();
      save(make());
    });
  }
  byId('take-midi').addEventListener('dragstart', (event) => {
    const file = midi();
    if (!file || !event.dataTransfer) return event.preventDefault();
    const url = lend(file);
    event.dataTransfer.effectAllowed = 'copy';
    // Chrome and Edge write the file where it is dropped; others hand over the address at least.
    event.dataTransfer.setData('DownloadURL', `${MIDI}:${file.name}:${url}`);
    event.dataTransfer.setData('text/uri-list', url);
  });
  return { midi: () => save(midi()) };
}

function lend(file: File): string {
  const url = URL.createObjectURL(file);
  setTimeout(() => URL.revokeObjectURL(url), KEPT);
  return url;
}
