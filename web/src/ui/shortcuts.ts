/** Keys, and what they do; the same table fills the help. */

import { byId } from './dom.ts';

export interface Shortcut {
  /** As in `KeyboardEvent.key`, lower case; with `ctrl+`, `alt+`, `shift+` before it, in this order. Command is ctrl. */
  readonly keys: readonly string[];
  /** How it is written in the help; null: it is not, being the variant of another. */
  readonly shown: string | null;
  readonly text: string;
  readonly do: () => void;
  /** Not while the focus is among the settings, which scroll by the same keys. */
  readonly onRoll?: boolean;
}

/** The name of what was pressed. Shift counts only where it does not make another character. */
export function keyName(event: Pick<KeyboardEvent, 'key' | 'ctrlKey' | 'metaKey' | 'altKey' | 'shiftKey'>): string {
  const key = event.key === ' ' ? 'space' : event.key.toLowerCase();
  const shift = event.shiftKey && (key.length > 1 || /[a-z]/.test(key));
  return `${event.ctrlKey || event.metaKey ? 'ctrl+' : ''}${event.altKey ? 'alt+' : ''}${shift ? 'shift+' : ''}${key}`;
}

/** What has the focus, as far as keys are concerned. */
type Focus = 'number' | 'menu' | 'slider' | 'button' | null;

/**
 * Whether a key belongs to what has the focus: text is typed there, or it is moved or pressed by keys. `seen` says
 * whether the focus is: after a click with the mouse it stays on a button without being seen, and keys are for the page.
 */
export function claims(focus: Focus, seen: boolean, name: string): boolean {
  if (focus === 'number') return name !== 'ctrl+s'; // also undo, and all of the text
  if (focus === 'menu') return !name.startsWith('ctrl+'); // it may be open
  if (!seen) return false;
  if (focus === 'slider') return /(^|\+)(arrow.*|home|end|space)$/.test(name);
  return focus === 'button' && /(^|\+)(space|enter)$/.test(name);
}

function focusOf(target: HTMLElement): Focus {
  if (target instanceof HTMLInputElement) return target.type === 'number' ? 'number' : 'slider';
  if (target instanceof HTMLSelectElement) return 'menu';
  return target instanceof HTMLButtonElement || target instanceof HTMLAnchorElement ? 'button' : null;
}

export function startShortcuts(shortcuts: readonly Shortcut[]): void {
  const table = new Map(shortcuts.flatMap((shortcut) => shortcut.keys.map((key) => [key, shortcut] as const)));
  let pointed = false; // with the mouse or a finger, since the last key
  document.addEventListener('keydown', (event) => {
    pointed = false;
    if (document.querySelector('dialog[open]') || event.isComposing) return;
    const target = event.target instanceof HTMLElement ? event.target : document.body;
    const focus = focusOf(target);
    if (claims(focus, target.matches(':focus-visible'), keyName(event))) return;
    const shortcut = table.get(keyName(event));
    if (!shortcut) return;
    if (shortcut.onRoll && document.activeElement?.closest('.panel:focus-within :focus-visible')) return;
    event.preventDefault();
    if (focus === 'number') {
      // What is typed counts from when the field is left.
      target.blur();
      target.focus();
    }
    shortcut.do();
  });
  document.addEventListener('pointerdown', () => (pointed = true), { capture: true, passive: true });
  document.addEventListener('change', ({ target }) => {
    // Chosen from with the mouse: the next keys are for the page.
    if (pointed && target instanceof HTMLSelectElement) target.blur();
  });
  byId('help-keys').replaceChildren(...shortcuts.filter(({ shown }) => shown !== null).map(entry));
}

function entry({ shown, text }: Shortcut): HTMLElement {
  const row = document.createElement('div');
  const keys = document.createElement('dt');
  for (const word of (shown ?? '').split(' ')) {
    const isKey = !['or', 'to'].includes(word);
    const element = document.createElement(isKey ? 'kbd' : 'span');
    element.textContent = word;
    keys.append(element, ' ');
  }
  const what = document.createElement('dd');
  what.textContent = text;
  row.append(keys, what);
  return row;
}
