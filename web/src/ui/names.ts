/** How pitches and times are written and said. */

const NAMES = ['C', 'C♯', 'D', 'D♯', 'E', 'F', 'F♯', 'G', 'G♯', 'A', 'A♯', 'B'];

/** MIDI 60 is C4, as in the Python tool. */
export function pitchName(pitch: number): string {
  return NAMES[pitch % 12] + String(Math.floor(pitch / 12) - 1);
}

/** For screen readers, which pass over the sharp sign. */
export function spokenPitch(pitch: number): string {
  return pitchName(pitch).replace('♯', ' sharp ');
}

export function isBlackKey(pitch: number): boolean {
  return NAMES[pitch % 12].length > 1;
}

/** `1:05`, `1:02:03`; with tenths `1:05.3`. Never rounds up to a time that has not come. */
export function clock(seconds: number, decimals = 0): string {
  const unit = 10 ** decimals;
  const units = Math.floor(Math.max(0, seconds) * unit + 1e-6);
  const whole = Math.floor(units / unit);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (value: number): string => String(value).padStart(2, '0');
  const fraction = decimals ? `.${String(units % unit).padStart(decimals, '0')}` : '';
  return (hours ? `${hours}:${two(minutes)}` : String(minutes)) + `:${two(rest)}${fraction}`;
}

/** `35 MB`, `0.4 MB`. */
export function megabytes(bytes: number): string {
  const size = bytes / 1e6;
  return `${size < 10 ? Math.max(0.1, size).toFixed(1) : Math.round(size).toLocaleString('en')} MB`;
}

export function count(n: number, thing: string): string {
  return `${n.toLocaleString('en')} ${thing}${n === 1 ? '' : 's'}`;
}

/** What a recording's MIDI file is called: its name without folder and extension, and nothing a file system minds. */
export function fileStem(name: string): string {
  const stem = name.replace(/^.*[/\\]/, '').replace(/\.[^.]*$/, '');
  const safe = stem.replace(/[\u0000-\u001f<>:"/\\|?*]/g, '_').replace(/^[. ]+|[. ]+$/g, '').slice(0, 120);
  return safe || 'recording';
}
