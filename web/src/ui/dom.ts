/** The few things that are done to elements again and again. */

type Elements = {
  button: HTMLButtonElement;
  input: HTMLInputElement;
  select: HTMLSelectElement;
  canvas: HTMLCanvasElement;
  dialog: HTMLDialogElement;
  element: HTMLElement;
};

/** An element of the page, which is known to be there. */
export function byId<K extends keyof Elements = 'element'>(id: string, _kind?: K): Elements[K] {
  return document.getElementById(id) as Elements[K];
}

export function onClick(id: string, call: () => void): void {
  byId(id).addEventListener('click', call);
}

/** Text is written only where it differs: each writing costs a layout. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function press(button: Element, pressed: boolean): void {
  button.setAttribute('aria-pressed', String(pressed));
}

export function options(select: HTMLSelectElement, entries: Iterable<readonly [value: string, text: string]>): void {
  select.replaceChildren(...[...entries].map(([value, text]) => new Option(text, value)));
}

/** Set a slider, and how much of its track is filled. */
export function setSlider(slider: HTMLInputElement, value: number): void {
  if (slider.valueAsNumber !== value) slider.value = String(value);
  const [low, high] = [Number(slider.min), Number(slider.max)];
  slider.style.setProperty('--fill', `${(100 * (slider.valueAsNumber - low)) / (high - low)}%`);
}

/**
 * Sliders obey a finger once it goes sideways or is lifted: browsers move them as soon as they are touched, also by one
 * that scrolls the page.
 */
export function steadySliders(): void {
  let touch: { slider: HTMLInputElement; value: string; x: number; y: number } | null = null;
  const obey = (): void => {
    const touched = touch;
    touch = null;
    if (touched && touched.slider.value !== touched.value) {
      touched.slider.dispatchEvent(new Event('input', { bubbles: true }));
    }
  };
  type Kind = 'pointerdown' | 'pointermove' | 'pointerup' | 'pointercancel';
  const listen = (kind: Kind, does: (event: PointerEvent) => void): void =>
    document.addEventListener(kind, does, { capture: true, passive: true });
  listen('pointerdown', ({ target, pointerType, clientX: x, clientY: y }) => {
    obey();
    if (pointerType !== 'touch' || !(target instanceof HTMLInputElement) || target.type !== 'range') return;
    touch = { slider: target, value: target.value, x, y };
  });
  listen('pointermove', ({ clientX, clientY }) => {
    if (touch && Math.abs(clientX - touch.x) > Math.abs(clientY - touch.y)) obey();
  });
  listen('pointerup', obey);
  listen('pointercancel', () => {
    if (touch) touch.slider.value = touch.value;
    touch = null;
  });
  const withhold = (event: Event): void => {
    if (event.target === touch?.slider) event.stopPropagation();
  };
  document.addEventListener('input', withhold, { capture: true });
}

/** Size a canvas to the pixels it covers; the context's unit is a CSS pixel. */
export function sharpen(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const ctx = canvas.getContext('2d') as CanvasRenderingContext2D;
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  return ctx;
}

export function icon(name: string): SVGSVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  svg.classList.add('icon');
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#i-${name}`);
  svg.append(use);
  return svg;
}
