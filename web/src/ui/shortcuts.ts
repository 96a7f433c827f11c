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

/** Whether a key belongs to the element that has the focus: text is typed there, or it is moved or pressed by keys. */
function claimed(event: KeyboardEvent): boolean {
  const target = event.target;
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement && target.type === 'number') return !event.ctrlKey && !event.metaKey;
  // After a click with the mouse the focus stays on a button, without being seen there: keys are then for the page.
  if (!target.matches(':focus-visible')) return false;
  const key = event.key;
  const moves = key.startsWith('Arrow') || key === 'Home' || key === 'End';
  if (target instanceof HTMLInputElement) return moves || key === ' ';
  if (target instanceof HTMLSelectElement) return moves || key.length === 1; // which chooses by letter
  if (target instanceof HTMLButtonElement || target instanceof HTMLAnchorElement) return key === ' ' || key === 'Enter';
  return false;
}

export function startShortcuts(shortcuts: readonly Shortcut[]): void {
  const table = new Map(shortcuts.flatMap((shortcut) => shortcut.keys.map((key) => [key, shortcut] as const)));
  document.addEventListener('keydown', (event) => {
    if (document.querySelector('dialog[open]') || event.isComposing || claimed(event)) return;
    const shortcut = table.get(keyName(event));
    if (!shortcut) return;
    if (shortcut.onRoll && document.activeElement?.closest('.panel:focus-within :focus-visible')) return;
    event.preventDefault();
    shortcut.do();
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
