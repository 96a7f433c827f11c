/** What the page says: to screen readers, and in passing at the foot of the screen. */

import { byId, icon, setText } from './dom.ts';

const SHOWN = 7000; // milliseconds
const MOST = 4;

/** Say something to those who listen rather than look. */
export function say(text: string): void {
  setText(byId('status'), text);
}

export type Kind = 'note' | 'warning' | 'error';

/**
 * Say something to everyone. Warnings stand above the notes; they and errors stay until they are closed, and what offers
 * something to do stays also when another recording is opened.
 */
export function tell(text: string, kind: Kind = 'note', action?: { label: string; do: () => void }): void {
  const place = byId(kind === 'warning' ? 'warnings' : 'toasts');
  const toast = document.createElement('div');
  toast.className = `toast ${kind}`;
  toast.setAttribute('role', kind === 'error' ? 'alert' : 'status');
  const words = document.createElement('span');
  words.textContent = text;
  if (kind !== 'note') toast.append(icon('warn'));
  toast.append(words);
  const close = (): void => toast.remove();
  if (action) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'button small';
    button.textContent = action.label;
    toast.classList.add('offer');
    button.addEventListener('click', () => {
      close();
      action.do();
    });
    toast.append(button);
  }
  const dismiss = document.createElement('button');
  dismiss.type = 'button';
  dismiss.className = 'button icon-only small';
  dismiss.setAttribute('aria-label', 'Close');
  dismiss.append(icon('close'));
  dismiss.addEventListener('click', close);
  toast.append(dismiss);
  place.append(toast);
  if (place.children.length > MOST) place.querySelector('.toast:not(.offer)')?.remove();
  if (kind === 'note' && !action) setTimeout(close, SHOWN);
}

/** Take away what was said about the last recording. The function it returns puts back the warnings. */
export function hush(): () => void {
  const warnings = byId('warnings');
  const before = [...warnings.children];
  for (const toast of document.querySelectorAll('.toast:not(.offer)')) toast.remove();
  return () => warnings.replaceChildren(...before);
}

/** Whether something is offered still. */
export function offering(): boolean {
  return document.querySelector('.offer') !== null;
}

/** An error in one line, for people. */
export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
