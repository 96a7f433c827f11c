/** The panel of sliders and menus. */

import { SCALES } from '../engine/keys.ts';
import type { ShapeSettings, TrackerSettings } from '../engine/types.ts';
import { byId, onClick, options, setSlider, setText } from './dom.ts';
import { PLAIN } from './editor.ts';
import type { Doc, Editor } from './editor.ts';
import { tell } from './messages.ts';
import { pitchName, spokenPitch } from './names.ts';

const ROOTS = ['C', 'C♯', 'D', 'E♭', 'E', 'F', 'F♯', 'G', 'A♭', 'A', 'B♭', 'B'];
const percent = (value: number): string => `${Math.round(value * 100)} %`;

type Threshold = 'onsetThreshold' | 'splitThreshold' | 'frameThreshold';

/** To the right is more: more notes, more splits, longer notes. Thresholds go the other way. */
const THRESHOLDS: readonly (readonly [id: string, name: Threshold])[] = [
  ['sensitivity', 'onsetThreshold'],
  ['split', 'splitThreshold'],
  ['length', 'frameThreshold'],
];
/** What the menu of lines says, and what it means. */
const LINES: Record<string, boolean | null> = { automatic: null, all: false, line: true };
const round = (value: number): number => Math.round(value * 1000) / 1000;

export class SettingsPanel {
  private readonly editor: Editor;
  private defaults: TrackerSettings;
  private taps: number[] = [];
  /** The settings that a recording has from the last one. */
  private inherited: Doc | null = null;

  constructor(editor: Editor, defaults: TrackerSettings, position: () => number) {
    this.editor = editor;
    this.defaults = defaults;
    options(byId('scale-root', 'select'), [['', 'Any'], ...ROOTS.map((root) => [root, root] as const)]);
    options(byId('scale-kind', 'select'), SCALES.map((name) => [name, name] as const));
    this.bindFind();
    this.bindTidy(position);
    this.show();
  }

  setDefaults(defaults: TrackerSettings): void {
    this.defaults = defaults;
    this.show();
  }

  /** A recording is open, for which the settings stay as they were for the last. */
  inherit(): void {
    this.inherited = this.editor.doc;
    this.show();
  }

  private bindFind(): void {
    for (const [id, name] of THRESHOLDS) {
      const slider = byId(id, 'input');
      slider.addEventListener('input', () => this.editor.setTracker({ [name]: round(1 - slider.valueAsNumber) }));
      // Twice on its name: as the model has it.
      slider.parentElement?.querySelector('label')?.addEventListener('dblclick', () => {
        this.editor.setTracker({ [name]: this.defaults[name] });
      });
    }
    const shortest = byId('shortest', 'input');
    shortest.addEventListener('input', () => this.editor.setTracker({ minimumNoteLength: shortest.valueAsNumber }));
    const lines = byId('lines', 'select');
    lines.addEventListener('change', () => this.editor.setTracker({ monophonic: LINES[lines.value] }));
    const [low, high] = [byId('range-low', 'input'), byId('range-high', 'input')];
    low.addEventListener('input', () => {
      const { maximumPitch } = this.editor.doc.tracker;
      this.editor.setTracker({ minimumPitch: Math.min(low.valueAsNumber, maximumPitch) });
      this.show(); // the thumb may not pass the other
    });
    high.addEventListener('input', () => {
      const { minimumPitch } = this.editor.doc.tracker;
      this.editor.setTracker({ maximumPitch: Math.max(high.valueAsNumber, minimumPitch) });
      this.show();
    });
    onClick('reset', () => this.editor.setTracker(this.defaults));
    onClick('reset-all', () => this.editor.resetSettings(this.defaults));
    onClick('discard', () => this.editor.discardEdits());
  }

  private bindTidy(position: () => number): void {
    const select = (id: string, change: (value: string) => Partial<ShapeSettings>): void => {
      const menu = byId(id, 'select');
      menu.addEventListener('change', () => this.editor.setShape(change(menu.value)));
    };
    const scale = (): Partial<ShapeSettings> => {
      const [root, kind] = [byId('scale-root', 'select').value, byId('scale-kind', 'select').value];
      return { scale: root ? `${root} ${kind}` : null };
    };
    select('scale-root', scale);
    select('scale-kind', scale);
    select('scale-mode', (value) => ({ scaleMode: value as ShapeSettings['scaleMode'] }));
    select('quantize', (value) => ({ quantize: value || null }));
    select('metre', (value) => ({ timeSignature: value.split('/').map(Number) as [number, number] }));
    for (const id of ['strength', 'swing'] as const) {
      const slider = byId(id, 'input');
      slider.addEventListener('input', () => this.editor.setShape({ [id]: slider.valueAsNumber }));
    }
    const number = (id: string, use: (value: number) => void): void => {
      const field = byId(id, 'input');
      field.addEventListener('change', () => {
        const valid = field.checkValidity() && !Number.isNaN(field.valueAsNumber);
        if (valid) return use(field.valueAsNumber);
        this.show();
        const range = field.max ? `from ${field.min} to ${field.max}` : `of ${field.min} or more`;
        tell(`${field.labels?.[0].textContent}: type a number ${range}; it stays ${field.value}`);
      });
    };
    number('tempo', (tempo) => this.editor.setShape({ tempo }));
    number('first-beat', (firstBeat) => this.editor.setShape({ firstBeat }));
    onClick('first-beat-here', () => this.editor.setShape({ firstBeat: round(position()) }));
    onClick('tap', () => this.tap(performance.now()));
  }

  /** The tempo of the last taps, once there are four. */
  tap(now: number): void {
    const last = this.taps.at(-1);
    this.taps = last !== undefined && now - last < 2000 ? [...this.taps.slice(-11), now] : [now];
    const tempo = tappedTempo(this.taps);
    if (tempo !== null) this.editor.setShape({ tempo });
  }

  /** Show what the settings are. */
  show(): void {
    const { tracker, shape } = this.editor.doc;
    for (const [id, name] of THRESHOLDS) {
      const value = round(1 - tracker[name]);
      setSlider(byId(id, 'input'), value);
      setText(byId(`${id}-value`), percent(value));
      byId(id).setAttribute('aria-valuetext', percent(value));
    }
    setSlider(byId('shortest', 'input'), tracker.minimumNoteLength);
    setText(byId('shortest-value'), `${tracker.minimumNoteLength} ms`);
    byId('shortest').setAttribute('aria-valuetext', `${tracker.minimumNoteLength} milliseconds`);
    this.showRange(tracker.minimumPitch, tracker.maximumPitch);
    const lines = Object.keys(LINES).find((name) => LINES[name] === tracker.monophonic);
    byId('lines', 'select').value = lines ?? 'automatic';
    const isOwn = same(tracker, this.defaults);
    byId('reset').hidden = isOwn;
    const isInherited = tracker === this.inherited?.tracker && shape === this.inherited.shape;
    byId('inherited').hidden = !isInherited || (isOwn && same(shape, PLAIN));
    const [, root = '', kind = 'major'] = /^(\S+) (.*)$/.exec(shape.scale ?? '') ?? [];
    byId('scale-root', 'select').value = root;
    byId('scale-kind', 'select').disabled = !root;
    if (root) byId('scale-kind', 'select').value = kind;
    byId('scale-mode-field').hidden = !root;
    byId('scale-mode', 'select').value = shape.scaleMode;
    byId('quantize', 'select').value = shape.quantize ?? '';
    byId('grid-fields').hidden = shape.quantize === null;
    byId('metre', 'select').value = shape.timeSignature.join('/');
    byId('tempo', 'input').value = String(shape.tempo);
    byId('first-beat', 'input').value = String(shape.firstBeat ?? 0);
    for (const id of ['strength', 'swing'] as const) {
      setSlider(byId(id, 'input'), shape[id]);
      setText(byId(`${id}-value`), percent(shape[id]));
      byId(id).setAttribute('aria-valuetext', percent(shape[id]));
    }
    const { edits } = this.editor;
    byId('edits').hidden = edits === 0;
    setText(byId('edits-text'), `Your ${edits === 1 ? 'edit is' : `${edits} edits are`} kept.`);
  }

  private showRange(lowest: number, highest: number): void {
    const [low, high] = [byId('range-low', 'input'), byId('range-high', 'input')];
    low.value = String(lowest);
    high.value = String(highest);
    low.setAttribute('aria-valuetext', spokenPitch(lowest));
    high.setAttribute('aria-valuetext', spokenPitch(highest));
    // Where both thumbs are at the right end, the lower one must be the one to grasp.
    low.style.zIndex = lowest > 64 ? '1' : '0';
    const [from, to] = [Number(low.min), Number(low.max)];
    const double = low.parentElement as HTMLElement;
    double.style.setProperty('--low', `${(100 * (lowest - from)) / (to - from)}%`);
    double.style.setProperty('--high', `${(100 * (to - highest)) / (to - from)}%`);
    setText(byId('range-value'), `${pitchName(lowest)} to ${pitchName(highest)}`);
  }
}

/** Whether settings are the same, but for rounding. */
export function same<T extends object>(some: T, others: T): boolean {
  return (Object.keys(others) as (keyof T)[]).every((name) => {
    const [a, b] = [some[name], others[name]];
    return typeof a === 'number' && typeof b === 'number' ? Math.abs(a - b) < 1e-6 : String(a) === String(b);
  });
}

/** Beats of the metre per minute of taps, in milliseconds; null while they are too few. */
export function tappedTempo(taps: readonly number[]): number | null {
  if (taps.length < 4) return null;
  const gap = (taps[taps.length - 1] - taps[0]) / (taps.length - 1);
  const tempo = Math.round(600000 / gap) / 10;
  return tempo >= 20 && tempo <= 400 ? tempo : null;
}
