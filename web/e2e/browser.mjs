// What the browser tests and measurements share: a browser that reaches nothing but this computer, and the page in it.
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';

import { chromium } from 'playwright-core';

const QUIET =
  '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update' +
  ' --disable-sync --autoplay-policy=no-user-gesture-required';

/** A headless Chromium with a fresh profile. */
export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: [...QUIET.split(' '), '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost'],
  });
}

/** The page at an address. */
export async function open(browser, url, viewport = { width: 1200, height: 800 }) {
  const context = await browser.newContext({ viewport, acceptDownloads: true });
  const page = await context.newPage();
  const app = new App(context, page);
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

  /** Drag a file from outside onto the page, and let it go. */
  async drop(path) {
    const content = (await readFile(path)).toString('base64');
    await this.page.evaluate(
      ([name, base64]) => {
        const dataTransfer = new DataTransfer();
        const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
        dataTransfer.items.add(new File([bytes], name));
        for (const type of ['dragenter', 'dragover', 'drop']) {
          document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
        }
      },
      [basename(path), content],
    );
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

  /** Take a file; where it was saved, and what the page calls it. */
  async take(id, folder, as) {
    const [download] = await Promise.all([this.page.waitForEvent('download'), this.get(id).click()]);
    const path = join(folder, as);
    await download.saveAs(path);
    return { path, name: download.suggestedFilename() };
  }
}
