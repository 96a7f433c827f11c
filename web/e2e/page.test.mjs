// The page as a musician meets it, in a real browser. tests/test_page.py starts the servers, runs this, and compares what
// was taken with the notes that Python finds. Variables: PAGE, SITE (addresses), RECORDING, LONG (files), OUT (folder).
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { launch, open } from './browser.mjs';

const { PAGE, SITE, RECORDING, LONG, OUT } = process.env;
let browser, app, found;

const csv = (name) => readFile(join(OUT, name), 'utf8');
const stayedAt = (address, { requests }) => {
  assert.ok(requests.length > 5);
  for (const url of requests) assert.ok(/^(blob|data):/.test(url) || url.startsWith(address), url);
};

before(async () => {
  browser = await launch();
  app = await open(browser, PAGE);
});
after(() => browser?.close());

test('a recording becomes notes', async () => {
  assert.equal(await app.page.evaluate(() => crossOriginIsolated), true);
  await app.drop(RECORDING);
  await app.until('ready');
  found = await app.notes();
  const { name } = await app.take('take-csv', OUT, 'page.csv');
  assert.equal(name, 'guitar.csv');
  assert.equal((await csv('page.csv')).trimEnd().split('\n').length, found + 1);
});

test('a slider finds other notes, and the same ones again', async () => {
  await app.move('sensitivity', 0.1);
  assert.ok((await app.notes()) < found);
  await app.get('reset').click();
  await app.page.waitForFunction((found) => Number(document.body.dataset.notes) === found, found);
  await app.take('take-csv', OUT, 'again.csv');
  assert.equal(await csv('again.csv'), await csv('page.csv'));
});

test('a scale and a grid shape them', async () => {
  await app.get('quantize').selectOption('1/16');
  await app.take('take-csv', OUT, 'grid.csv');
  assert.notEqual(await csv('grid.csv'), await csv('page.csv'));
  await app.get('quantize').selectOption('');
  await app.take('take-csv', OUT, 'again.csv');
  assert.equal(await csv('again.csv'), await csv('page.csv'));
});

test('they play', async () => {
  await app.get('play').click();
  await app.page.waitForFunction(() => Number(document.body.dataset.position) > 0.5);
  assert.equal(await app.get('play').getAttribute('aria-label'), 'Pause');
  await app.get('play').click();
  assert.equal(await app.get('play').getAttribute('aria-label'), 'Play');
});

test('they are edited by the keyboard, and edits undone', async () => {
  const { keyboard } = app.page;
  await app.take('take-midi', OUT, 'page.mid');
  await app.get('stage').focus();
  await keyboard.press('ArrowRight');
  await keyboard.press('Delete');
  assert.equal(await app.notes(), found - 1);
  await keyboard.press('Control+z');
  assert.equal(await app.notes(), found);
  await keyboard.press('Control+Shift+Z');
  assert.equal(await app.notes(), found - 1);
  const { name } = await app.take('take-midi', OUT, 'deleted.mid');
  assert.equal(name, 'guitar.mid');
  await app.get('undo').click();
  assert.equal(await app.notes(), found);
});

test('they are drawn by the mouse', async () => {
  const box = await app.get('stage').boundingBox();
  await app.page.keyboard.press('d');
  await app.page.mouse.move(box.x + box.width / 2, box.y + 3);
  await app.page.mouse.down();
  await app.page.mouse.move(box.x + box.width / 2 + 60, box.y + 3, { steps: 5 });
  await app.page.mouse.up();
  assert.equal(await app.notes(), found + 1);
  await app.page.keyboard.press('v');
  await app.page.keyboard.press('Control+z');
  assert.equal(await app.notes(), found);
});

test('what is no recording is said in a line, and the next one is taken', async () => {
  const other = await open(browser, PAGE);
  await writeFile(join(OUT, 'diary.wav'), 'Dear diary');
  await other.drop(join(OUT, 'diary.wav'));
  const said = await other.page.getByRole('alert').innerText();
  assert.match(said, /^diary\.wav: [^\n]+$/);
  assert.equal(await other.state(), 'empty');
  await other.get('toasts').getByRole('button').click();
  await other.drop(RECORDING);
  await other.until('ready');
  assert.equal(await other.notes(), found);
  await other.context.close();
});

test('work is cancelled, and begun anew', async () => {
  const other = await open(browser, PAGE);
  await other.choose(LONG);
  await other.until('working');
  await other.page.waitForFunction(() => document.getElementById('progress-bar').value > 0);
  await other.get('cancel').click();
  await other.until('empty');
  await other.drop(RECORDING);
  await other.until('ready');
  assert.equal(await other.notes(), found);
  await other.context.close();
});

test('a static site below a folder, with one thread, finds the same notes', async () => {
  const other = await open(browser, SITE, { width: 360, height: 740 });
  assert.equal(await other.page.evaluate(() => crossOriginIsolated), false);
  await other.drop(RECORDING);
  await other.until('ready');
  const [wide, shown] = await other.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= shown, `${wide} px wide on a phone of ${shown}`);
  await other.take('take-csv', OUT, 'site.csv');
  assert.equal(await csv('site.csv'), await csv('page.csv'));
  stayedAt(SITE, other);
  assert.deepEqual(other.complaints, []);
  await other.context.close();
});

test('nothing was asked of anyone else, and nothing went wrong', () => {
  stayedAt(PAGE, app);
  assert.deepEqual(app.complaints, []);
});
