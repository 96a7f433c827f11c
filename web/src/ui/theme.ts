/** Dark and light: as the system has it, until the switch is used. */

import { byId, onClick } from './dom.ts';

type Theme = 'light' | 'dark';
const KEY = 'basic_transcribe.theme';

export function startTheme(changed: () => void): void {
  const system = matchMedia('(prefers-color-scheme: dark)');
  const root = document.documentElement;
  let chosen = recall();
  const apply = (): void => {
    const theme = chosen ?? (system.matches ? 'dark' : 'light');
    if (root.dataset['theme'] !== theme) {
      root.dataset['theme'] = theme;
      changed();
    }
    const other = theme === 'dark' ? 'light' : 'dark';
    byId('theme').setAttribute('aria-label', `Switch to ${other} colours`);
    byId('theme').title = `Switch to ${other} colours`;
  };
  onClick('theme', () => {
    chosen = root.dataset['theme'] === 'dark' ? 'light' : 'dark';
    remember(chosen === (system.matches ? 'dark' : 'light') ? null : chosen);
    apply();
  });
  system.addEventListener('change', apply);
  apply();
}

// Storage may be forbidden; then the choice holds until the page is closed.

function recall(): Theme | null {
  try {
    const stored = localStorage.getItem(KEY);
    return stored === 'light' || stored === 'dark' ? stored : null;
  } catch {
    return null;
  }
}

function remember(theme: Theme | null): void {
  try {
    if (theme) localStorage.setItem(KEY, theme);
    else localStorage.removeItem(KEY);
  } catch {
    return;
  }
}
