// What the browser tests and measurements share: a browser that reaches nothing but this computer, and the page in it.
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { chromium } from 'playwright-core';

const QUIET =
  '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update' +
  ' --disable-sync --autoplay-policy=no-user-gesture-required' +
  ' --use-fake-device-for-media-stream --use-fake-ui-for-media-stream';

/** A headless Chromium with a fresh profile. */
export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: [...QUIET.split(' '), '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost'],
  });
}

/** The page at an address. It counts the oscillators that it makes and keeps the microphones that it opens. */
export async function open(browser, url, viewport = { width: 1200, height: 800 }, hasTouch = false) {
  const context = await browser.newContext({ viewport, hasTouch, isMobile: hasTouch, acceptDownloads: true });
  const page = await context.newPage();
  const app = new App(context, page);
  await page.addInitScript(() => {
    [window.oscillators, window.microphones] = [0, []];
    const { createOscillator } = BaseAudioContext.prototype;
    BaseAudioContext.prototype.createOscillator = function () {
      window.oscillators++;
      return createOscillator.call(this);
    };
    const devices = navigator.mediaDevices;
    const open = devices?.getUserMedia.bind(devices);
    if (open) devices.getUserMedia = async (wanted) => (window.microphones[0] = await open(wanted));
  });
  await page.goto(url);
  return app;
}

/** The page as one uses it, with what it asked for and what it complained of. */
class App {
  constructor(context, page) {
    this.context = context;
    this.page = page;
    this.requests = [];
    this.complaints = [];
    context.on('request', (request) => this.requests.push(request.url()));
    page.on('pageerror', (error) => this.complaints.push(`uncaught: ${error.message}`));
    page.on('console', (message) => {
      if (message.type() === 'error') this.complaints.push(message.text());
    });
  }

  get(id) {
    return this.page.locator(`#${id}`);
  }

  state() {
    return this.page.evaluate(() => document.body.dataset.state);
  }

  /** Wait for a state; an error that the page shows meanwhile is one here too. */
  async until(state) {
    const came = await this.page.waitForFunction(
      (state) => {
        const alert = document.querySelector('#toasts [role=alert]');
        return alert ? alert.innerText : document.body.dataset.state === state && 'yes';
      },
      state,
      { timeout: 60_000 },
    );
    const said = await came.jsonValue();
    if (said !== 'yes') throw new Error(`the page says: ${said}; ${this.complaints.join('; ')}`);
  }

  /** Drag files from outside onto the page, and let them go. */
  async drop(...paths) {
    const files = paths.map(async (path) => [basename(path), (await readFile(path)).toString('base64')]);
    await this.page.evaluate(
      (files) => {
        const dataTransfer = new DataTransfer();
        for (const [name, base64] of files) {
          const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
          dataTransfer.items.add(new File([bytes], name));
        }
        for (const type of ['dragenter', 'dragover', 'drop']) {
          document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
        }
      },
      await Promise.all(files),
    );
  }

  /** The same as a WAV file that is played faster, so that it sounds so many cents higher; one channel. */
  async sharpened(path, rate, cents) {
    const samples = await this.page.evaluate(
      async ([base64, rate]) => {
        const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
        const buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes.buffer);
        return [...buffer.getChannelData(0)];
      },
      [(await readFile(path)).toString('base64'), rate],
    );
    const faster = Math.round(rate * 2 ** (cents / 1200));
    const wav = Buffer.alloc(44 + 2 * samples.length);
    for (const [at, word] of [[0, 'RIFF'], [8, 'WAVEfmt '], [36, 'data']]) wav.write(word, at, 'latin1');
    for (const [at, size] of [[4, wav.length - 8], [16, 16], [24, faster], [28, 2 * faster], [40, wav.length - 44]]) {
      wav.writeUInt32LE(size, at);
    }
    for (const [at, value] of [[20, 1], [22, 1], [32, 2], [34, 16]]) wav.writeUInt16LE(value, at);
    samples.forEach((sample, i) => wav.writeInt16LE(Math.round(32767 * sample), 44 + 2 * i));
    return wav;
  }

  /** Choose a file in the dialog: for large ones. */
  choose(path) {
    return this.get('file').setInputFiles(path);
  }

  /** How many notes the page says it has. */
  async notes() {
    return Number(await this.page.evaluate(() => document.body.dataset.notes));
  }

  /** Move a slider as a hand would; the milliseconds until other notes are there. */
  move(id, value) {
    return this.page.evaluate(
      ([id, value]) =>
        new Promise((resolve) => {
          const slider = document.getElementById(id);
          const count = document.getElementById('take-count');
          const begun = performance.now();
          new MutationObserver((_, observer) => {
            observer.disconnect();
            resolve(performance.now() - begun);
          }).observe(count, { childList: true, characterData: true, subtree: true });
          slider.value = value;
          slider.dispatchEvent(new Event('input', { bubbles: true }));
          slider.dispatchEvent(new Event('change', { bubbles: true }));
        }),
      [id, String(value)],
    );
  }

  /** Record from the microphone, for a second or so. */
  async record() {
    await this.page.keyboard.press('r');
    await this.page.waitForFunction(() => document.getElementById('recorder-time').textContent === '0:01');
  }

  /** Whether the page asks before it is left. */
  guarded() {
    return this.page.evaluate(() => !dispatchEvent(new Event('beforeunload', { cancelable: true })));
  }

  /** Where a note is, in pixels of the window. */
  async note() {
    const box = await this.get('stage').boundingBox();
    for (let y = box.y + 20; y < box.y + box.height; y += 4) {
      for (let x = box.x + 100; x < box.x + box.width - 100; x += 6) {
        await this.page.mouse.move(x, y);
        if ((await this.get('stage').getAttribute('data-cursor')) === 'note') return [x, y];
      }
    }
    throw new Error('no note is shown');
  }

  /** Press at a place, and move by so many pixels; `then` is done before letting go. */
  async drag([x, y], [dx, dy], then = async () => undefined) {
    const { mouse } = this.page;
    await mouse.move(x, y);
    await mouse.down();
    await mouse.move(x + dx, y + dy, { steps: 5 });
    await then();
    await mouse.up();
  }

  /** What the page says of changes by hand; empty if there are none. */
  edits() {
    return this.page.evaluate(() => {
      const said = document.getElementById('edits');
      return said.hidden ? '' : said.firstElementChild.textContent;
    });
  }

  /** Take a file; where it was saved, and what the page calls it. */
  async take(id, folder, as) {
    const [download] = await Promise.all([this.page.waitForEvent('download'), this.get(id).click()]);
    const path = join(folder, as);
    await download.saveAs(path);
    return { path, name: download.suggestedFilename() };
  }
}
