/** How recordings come in: chosen, dropped or pasted. */

import { byId } from './dom.ts';

/** Binds them; `open` is told how many others came with a file. The function it returns opens the file dialog. */
export function startFiles(open: (file: File, others?: number) => void, unusable: () => void): () => void {
  const input = byId('file', 'input');
  const veil = byId('drop-veil');
  input.addEventListener('change', () => {
    const [file] = input.files ?? [];
    input.value = ''; // so that the same file can be chosen again
    if (file) open(file);
  });
  const carries = (event: DragEvent): boolean => event.dataTransfer?.types.includes('Files') ?? false;
  let depth = 0;
  const show = (by: number): void => {
    depth = Math.max(0, depth + by);
    veil.hidden = depth === 0;
  };
  document.addEventListener('dragenter', (event) => {
    if (carries(event)) show(1);
  });
  document.addEventListener('dragleave', (event) => {
    if (carries(event)) show(-1);
  });
  document.addEventListener('dragover', (event) => {
    if (carries(event)) event.preventDefault();
  });
  document.addEventListener('drop', (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    show(-depth);
    const files = [...(event.dataTransfer?.files ?? [])];
    const file = files.find(({ type }) => /^(audio|video)\//.test(type)) ?? files[0];
    if (file) open(file, files.length - 1);
    else unusable();
  });
  document.addEventListener('paste', (event) => {
    const [file, ...others] = event.clipboardData?.files ?? [];
    if (file) open(file, others.length);
  });
  return () => input.click();
}
