// The page as a musician meets it, in a real browser. tests/test_page.py starts the servers, runs this, and compares what
// was taken with the notes that Python finds. Variables: PAGE, SITE (addresses), RECORDING, LONG (files), OUT (folder).
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
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
  const other = await open(browser, PAGE);
  await other.drop(RECORDING);
  await other.until('ready');
  await other.get('play').click(); // before anything is changed
  await other.page.waitForFunction(() => window.oscillators > 0);
  await other.context.close();
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

test('tempo and first beat are taken as they are typed, or it is said why not', async () => {
  const type = async (id, text) => {
    await app.get(id).fill(text);
    await app.get(id).blur();
    return app.get(id).inputValue();
  };
  assert.equal(await type('tempo', '92.75'), '92.75');
  assert.equal(await type('tempo', '15'), '92.75');
  assert.match(await app.get('toasts').innerText(), /^Tempo: type a number from 20 to 400; it stays 92.75/);
  await app.get('quantize').selectOption('1/16');
  assert.equal(await type('first-beat', '0.123'), '0.123');
  await app.get('quantize').selectOption('');
  // What is typed counts when the file is saved from within the field.
  const saved = async (tempo) => {
    await app.get('tempo').fill(tempo);
    const [download] = await Promise.all([app.page.waitForEvent('download'), app.page.keyboard.press('Control+s')]);
    const midi = await readFile(await download.path());
    return 60e6 / midi.readUIntBE(midi.indexOf(Buffer.from([0xff, 0x51, 3])) + 3, 3);
  };
  assert.ok(Math.abs((await saved('75')) - 75) < 0.001);
  await app.page.keyboard.press('Backspace');
  assert.equal(await app.get('tempo').inputValue(), '7');
  assert.ok(Math.abs((await saved('120')) - 120) < 0.001);
});

test('keys are for the menu that has the focus, and for the page again when it was chosen from with the mouse', async () => {
  const menu = app.get('sound');
  const draws = () => app.page.locator('input[value=draw]').isChecked();
  await app.get('stage').focus();
  await app.page.keyboard.press('ArrowRight');
  await menu.click();
  for (const key of ['d', 'Delete']) await app.page.keyboard.press(key);
  assert.equal(await draws(), false);
  assert.equal(await app.notes(), found);
  await app.page.keyboard.press('Escape');
  await app.get('stage').focus();
  await menu.click();
  await menu.selectOption('sustained');
  await app.page.keyboard.press('d');
  assert.equal(await draws(), true);
  await app.page.keyboard.press('v');
  await menu.selectOption('plucked');
});

test('dynamics come back when the velocity slider does', async () => {
  const slide = (type, value) =>
    app.get('velocity').evaluate(
      (slider, [type, value]) => {
        slider.value = value ?? slider.value;
        slider.dispatchEvent(new Event(type, { bubbles: true }));
      },
      [type, value],
    );
  await app.get('stage').focus();
  await app.page.keyboard.press('Control+a');
  const before = await app.get('velocity').inputValue();
  for (let i = 0; i < 3; i++) await slide('input', '127');
  assert.equal(await app.get('velocity').inputValue(), '127');
  await app.take('take-csv', OUT, 'loud.csv');
  assert.notEqual(await csv('loud.csv'), await csv('page.csv'));
  await slide('input', before);
  await slide('change');
  await app.take('take-csv', OUT, 'again.csv');
  assert.equal(await csv('again.csv'), await csv('page.csv'));
  await app.get('discard').click();
});

test('notes are dragged, with Shift in one direction, and chosen by a click', async () => {
  const { keyboard } = app.page;
  await keyboard.press('Escape');
  const place = await app.note();
  await keyboard.down('Shift');
  await app.drag(place, [60, 3]);
  await keyboard.up('Shift');
  assert.equal(await app.edits(), 'Your edit is kept.');
  await keyboard.press('Control+z');
  await keyboard.press('Escape');
  const chosen = () => app.get('velocity-field').isVisible();
  await app.page.mouse.click(...place);
  assert.equal(await chosen(), true);
  await keyboard.down('Shift');
  for (const expected of [false, true, false]) {
    await app.page.mouse.click(...place);
    assert.equal(await chosen(), expected);
  }
  await keyboard.up('Shift');
  // There and back is no edit; what is deleted on the way stays so.
  await app.drag(place, [30, 0], () => app.page.mouse.move(...place));
  assert.equal(await app.edits(), '');
  for (const end of [[30, 0], [0, 40]]) await app.drag(place, end, () => keyboard.press('Escape'));
  assert.equal(await app.edits(), '');
  assert.equal(await chosen(), true);
  await app.drag(place, [30, 0], () => keyboard.press('Delete'));
  assert.equal(await app.notes(), found - 1);
  await keyboard.press('Control+z');
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

test('a recording that is off has the notes and the tuning that Python finds', async () => {
  const other = await open(browser, PAGE);
  const path = join(OUT, 'sharp.wav');
  const wav = await other.sharpened(RECORDING, 16_000, 35);
  await writeFile(path, wav);
  await other.drop(path);
  await other.until('ready');
  const [, hertz] = /, tuned to A = (\d+\.\d) Hz$/.exec(await other.get('song-facts').textContent());
  await other.take('take-csv', OUT, 'sharp.csv');
  const rows = (await csv('sharp.csv')).trimEnd().split('\n').slice(1);
  const taken = rows.map((row) => row.split(',').map(Number)).map(([onset, offset, pitch, , , bend]) => {
    return { onset, offset, pitch, bend };
  });

  const answer = await fetch(new URL('api/transcribe', PAGE), {
    method: 'POST',
    headers: { accept: 'application/json', 'content-type': 'audio/wav' },
    body: wav,
  });
  assert.equal(answer.status, 200);
  const { tuning, notes } = await answer.json();
  assert.ok(Math.abs(tuning - Number(hertz)) < 0.1, `${hertz} Hz is not ${tuning}`);
  assert.ok(tuning > 448, `${tuning}`);
  // WebAssembly rounds 8-bit sums otherwise, which decides a note at the threshold now and then.
  const near = (a, b) => Math.abs(a - b) < 0.0117; // a frame
  const same = (a) => (b) => a.pitch === b.pitch && near(a.onset, b.onset) && near(a.offset, b.offset);
  const shared = (some, others) => some.filter((note) => others.some(same(note))).length / some.length;
  assert.ok(Math.min(shared(taken, notes), shared(notes, taken)) > 0.85, `${taken.length} notes, not ${notes.length}`);
  const cents = 1200 * Math.log2(tuning / 440);
  const bends = taken.map(({ bend }) => bend).sort((a, b) => a - b);
  assert.ok(Math.abs(bends[bends.length >> 1] - cents) < 10, `${bends}`);
  await other.take('take-midi', OUT, 'sharp.mid');
  const midi = await readFile(join(OUT, 'sharp.mid'));
  const at = midi.indexOf(0xe0, midi.lastIndexOf('MTrk') + 8); // the bend of the channel at rest
  const rest = (midi[at + 1] | (midi[at + 2] << 7)) - 8192;
  assert.ok(Math.abs((200 * rest) / 8192 - cents) < 0.5, `${rest}`);

  // It is moved by a slider and back, and a drawn note is in tune with the others.
  await other.move('sensitivity', 0.1);
  await other.get('reset').click();
  await other.page.waitForFunction((found) => Number(document.body.dataset.notes) === found, taken.length);
  await other.take('take-csv', OUT, 'again.csv');
  assert.equal(await csv('again.csv'), await csv('sharp.csv'));
  const box = await other.get('stage').boundingBox();
  await other.page.keyboard.press('d');
  await other.drag([box.x + box.width / 2, box.y + 3], [60, 0]);
  await other.take('take-csv', OUT, 'drawn.csv');
  const before = new Set((await csv('sharp.csv')).split('\n'));
  const [drawn] = (await csv('drawn.csv')).split('\n').filter((row) => !before.has(row));
  assert.ok(Math.abs(Number(drawn.split(',')[5]) - cents) < 0.5, drawn);
  assert.deepEqual(other.complaints, []);
  await other.context.close();
});

test('what is no recording is said in a line, and the next one is taken', async () => {
  const other = await open(browser, PAGE);
  await writeFile(join(OUT, 'diary.wav'), 'Dear diary');
  await other.drop(join(OUT, 'diary.wav'));
  const said = await other.page.getByRole('alert').innerText();
  assert.match(said, /^diary\.wav: [^\n]+$/);
  assert.equal(await other.state(), 'empty');
  await other.get('toasts').getByRole('button').click();
  await other.drop(RECORDING, join(OUT, 'diary.wav'));
  await other.until('ready');
  assert.equal(await other.notes(), found);
  assert.match(await other.get('toasts').innerText(), /^Only guitar\.flac was opened, not the 1 other/);

  // Over an open recording: that one comes back, with what was done to it.
  await other.get('stage').focus();
  for (const key of ['ArrowRight', 'Delete']) await other.page.keyboard.press(key);
  await other.drop(join(OUT, 'diary.wav'));
  assert.match(await other.get('confirm-text').textContent(), /^You have not saved 1 edit by hand\.$/);
  await other.page.locator('#confirm [value=yes]').click();
  assert.match(await other.page.getByRole('alert').innerText(), /^diary\.wav: /);
  assert.equal(await other.get('status').textContent(), 'diary.wav was not opened');
  assert.equal(await other.state(), 'ready');
  assert.equal(await other.page.title(), 'guitar.flac');
  assert.equal(await other.notes(), found - 1);
  await other.page.keyboard.press('Control+z');
  await other.take('take-csv', OUT, 'again.csv');
  assert.equal(await csv('again.csv'), await csv('page.csv'));
  await other.page.evaluate(() => (window.oscillators = 0));
  await other.get('play').click();
  await other.page.waitForFunction(() => window.oscillators > 0);
  await other.context.close();
});

test('settings that stay for the next recording are shown to do so, and reset', async () => {
  const other = await open(browser, PAGE);
  const inherited = () => other.get('inherited').isVisible();
  await other.drop(RECORDING);
  await other.until('ready');
  assert.equal(await inherited(), false);
  await other.drop(RECORDING);
  await other.until('ready');
  assert.equal(await inherited(), false);
  await other.get('scale-root').selectOption('D');
  assert.equal(await inherited(), false);
  await other.drop(RECORDING);
  await other.page.waitForFunction(() => document.body.dataset.state === 'ready' && !document.getElementById('inherited').hidden);
  await other.get('reset-all').click();
  assert.equal(await other.get('scale-root').inputValue(), '');
  assert.equal(await inherited(), false);
  await other.page.keyboard.press('Control+z');
  assert.equal(await inherited(), true);
  await other.context.close();
});

test('work is cancelled, and begun anew', async () => {
  const other = await open(browser, PAGE);
  await other.choose(LONG);
  await other.until('working');
  await other.page.waitForFunction(() => document.getElementById('progress-bar').value > 0);
  assert.equal(await other.get('take-midi').getAttribute('aria-disabled'), 'true');
  for (const id of ['take-midi', 'take-csv']) await other.get(id).dispatchEvent('click');
  assert.doesNotMatch(await other.get('status').textContent(), /saved/);
  await other.get('cancel').click();
  await other.until('empty');
  await other.drop(RECORDING);
  await other.until('ready');
  assert.equal(await other.notes(), found);
  await other.context.close();
});

test('a take from the microphone is not lost without a question', async () => {
  const other = await open(browser, PAGE);
  const { page } = other;
  const answer = (value) => page.locator(`#confirm [value=${value}]`).click();
  await other.record();
  await other.get('recorder-stop').click();
  await other.until('ready');
  const name = await page.title();
  assert.match(name, /^recording/);
  await other.drop(RECORDING);
  assert.equal(await other.get('confirm-text').textContent(), 'You have not saved the sound of your recording.');
  await answer('no');
  assert.equal(await page.title(), name);
  assert.equal(await other.guarded(), true);
  await other.take('take-sound', OUT, 'take.wav');
  assert.equal(await other.guarded(), false);
  await other.drop(RECORDING);
  await page.waitForFunction(() => document.title === 'guitar.flac');
  await other.until('ready');

  // Edits are asked about before there is a take to lose too.
  await other.get('stage').focus();
  for (const key of ['ArrowRight', 'Delete', 'r']) await page.keyboard.press(key);
  assert.match(await other.get('confirm-text').textContent(), /1 edit by hand/);
  assert.equal(await other.get('recorder').isVisible(), false);
  await answer('no');
  await page.keyboard.press('Control+z');
  await other.record();
  await other.drop(RECORDING);
  assert.match(await other.get('recorder-text').textContent(), /^Still recording/);
  assert.equal(await other.state(), 'ready');
  assert.equal(await other.guarded(), true);
  await page.evaluate(() => {
    const [track] = window.microphones[0].getTracks();
    track.stop(); // of which nothing is told, other than when it is unplugged
    track.dispatchEvent(new Event('ended'));
  });
  assert.match(await other.get('recorder-text').textContent(), /^The microphone is gone/);
  // As soon as it can be, it is cancelled.
  await page.evaluate(() => {
    const progress = document.getElementById('progress');
    const cancel = () => progress.hidden || document.getElementById('cancel').click();
    new MutationObserver(cancel).observe(progress, { attributes: true });
  });
  await other.get('recorder-stop').click();
  const offer = other.get('toasts').getByText('Save the sound');
  await offer.waitFor();
  assert.equal(await page.title(), 'guitar.flac');
  assert.equal(await other.notes(), found);
  assert.equal(await other.guarded(), true);
  const [download] = await Promise.all([page.waitForEvent('download'), offer.click()]);
  assert.match(download.suggestedFilename(), /^recording.*\.wav$/);
  assert.equal(await other.guarded(), false);

  // Nor is what is being recorded, by Escape; the microphone is let go.
  await other.record();
  await page.keyboard.press('Escape');
  assert.equal(await other.get('recorder').isVisible(), false);
  assert.equal(await page.evaluate(() => window.microphones[0].getTracks()[0].readyState), 'ended');
  assert.equal(await other.guarded(), true);
  const [taken] = await Promise.all([page.waitForEvent('download'), offer.click()]);
  assert.ok((await readFile(await taken.path())).length > 44 + 2 * 40_000);
  assert.equal(await page.title(), 'guitar.flac');
  assert.deepEqual(other.complaints, []);
  await other.context.close();
});

test('what is loaded works without the server; what could not be loaded is tried again', async () => {
  let isGone = () => false;
  const server = createServer(async ({ url }, response) => {
    if (isGone(url)) return response.destroy();
    const { headers, body } = await fetch(new URL(url, PAGE));
    const kept = [...headers].filter(([name]) => !/^(content-(encoding|length)|connection|transfer-encoding)$/.test(name));
    response.writeHead(200, Object.fromEntries(kept));
    Readable.fromWeb(body).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  server.unref();
  const other = await open(browser, `http://127.0.0.1:${server.address().port}/`);
  const { page } = other;
  const alert = page.getByRole('alert');
  await other.drop(RECORDING);
  await other.until('ready');
  isGone = () => true;
  await other.record();
  await other.get('recorder-stop').click();
  await page.waitForFunction(() => /^recording/.test(document.title) && document.body.dataset.state === 'ready');
  await other.take('take-sound', OUT, 'take.wav');

  isGone = (url) => url === '/worker.js';
  await page.reload();
  assert.match(await alert.innerText(), /^worker\.js could not be loaded; check the connection/);
  await other.drop(RECORDING);
  await alert.getByText(/^guitar\.flac: worker\.js .* check the connection/).waitFor();
  isGone = () => false;
  await other.drop(RECORDING);
  await page.waitForFunction(() => document.body.dataset.state === 'ready');
  assert.equal(await other.notes(), found);
  await other.context.close();
  server.close();
  server.closeAllConnections();
});

test('it fits screens of all sizes', async () => {
  const other = await open(browser, PAGE);
  const { page } = other;
  await other.drop(RECORDING);
  await other.until('ready');
  const sizes = [[320, 568], [390, 844], [768, 1024], [820, 1180], [900, 700], [844, 390], [932, 430]];
  for (const [width, height] of sizes) {
    await page.setViewportSize({ width, height });
    const size = `${width} by ${height}`;
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= width, `${wide} px wide on ${size}`);
    for (const [id, least] of [['play', 40], ['balance', 72], ['stage', 200]]) {
      const box = await other.get(id).boundingBox();
      assert.ok(box.width >= least, `${id} on ${size}: ${box.width} px`);
      assert.ok(box.x + box.width <= width && box.y + box.height <= height, `${id} is beyond ${size}`);
    }
    const [logo, song] = await Promise.all(['.brand svg', '.song'].map((part) => page.locator(part).boundingBox()));
    assert.ok(logo.x + logo.width <= song.x, `the logo is covered on ${size}`);
  }
  await other.context.close();
});

test('states are seen where the system chooses the colours', async () => {
  const other = await open(browser, PAGE);
  await other.page.emulateMedia({ forcedColors: 'active' });
  await other.drop(RECORDING);
  await other.until('ready');
  const [card, tool, follow] = await Promise.all(
    ['.work', '.segmented label:has(:checked)', '#follow'].map((selector) => {
      return other.page.locator(selector).evaluate((element) => getComputedStyle(element).backgroundColor);
    }),
  );
  assert.notEqual(tool, card);
  assert.notEqual(follow, card);
  await other.context.close();
});

test('fingers zoom, and a third one does no harm', async () => {
  const other = await open(browser, PAGE, { width: 360, height: 640 }, true);
  await other.drop(RECORDING);
  await other.until('ready');
  const box = await other.get('stage').boundingBox();
  const session = await other.context.newCDPSession(other.page);
  const touch = (type, ...places) =>
    session.send('Input.dispatchTouchEvent', {
      type,
      touchPoints: places.map(([x, y], id) => ({ x: box.x + x, y: box.y + y, id })),
    });
  await touch('touchStart', [60, 60]);
  await touch('touchStart', [60, 60], [160, 120]);
  await touch('touchMove', [50, 60], [180, 120]);
  await touch('touchStart', [50, 60], [180, 120], [120, 40]);
  for (let i = 0; i < 3; i++) await touch('touchMove', [50, 62 + i], [182 + i, 122], [122, 42 + i]);
  await touch('touchEnd');
  await other.get('stage').focus();
  for (const key of ['ArrowRight', 'Delete']) await other.page.keyboard.press(key);
  assert.ok((await other.get('discard').boundingBox()).height >= 24);
  assert.deepEqual(other.complaints, []);
  await other.context.close();
});

test('a finger that scrolls the page over a slider leaves it as it is', async () => {
  const other = await open(browser, PAGE, { width: 390, height: 700 }, true);
  await other.drop(RECORDING);
  await other.until('ready');
  const session = await other.context.newCDPSession(other.page);
  /** Until the page scrolls no more, three frames at least. */
  const still = () =>
    other.page.evaluate(async () => {
      for (let [before, same] = [NaN, 0]; same < 3; before = scrollY) {
        await new Promise(requestAnimationFrame);
        same = scrollY === before ? same + 1 : 0;
      }
    });
  /** Where a slider is after a finger went from its first quarter, by so much of its width, or down. */
  const swipe = async (id, right, down) => {
    const slider = other.get(id);
    await slider.evaluate((element) => element.scrollIntoView({ block: 'center' }));
    await still();
    const box = await slider.boundingBox();
    for (const [type, share] of [['touchStart', 0], ...[1, 2, 3, 4, 5].map((n) => ['touchMove', n / 5]), ['touchEnd']]) {
      const place = { x: box.x + box.width * (0.25 + right * share), y: box.y + box.height / 2 + down * share };
      await session.send('Input.dispatchTouchEvent', { type, touchPoints: type === 'touchEnd' ? [] : [place] });
    }
    await still();
    return slider.inputValue();
  };
  for (const id of ['length', 'balance']) {
    const before = await other.get(id).inputValue();
    for (const down of [-150, 150]) assert.equal(await swipe(id, 0, down), before, id);
  }
  assert.equal(await other.get('undo').isEnabled(), false);
  for (const id of ['length', 'balance']) assert.ok(Math.abs((await swipe(id, 0.25, 0)) - 0.5) < 0.05, id);
  assert.equal(await other.get('undo').getAttribute('title'), 'Undo: note length');
  assert.ok((await swipe('length', 0, 0)) < 0.35); // a tap
  assert.deepEqual(other.complaints, []);
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

test('opened from the disk it says what to do', async () => {
  const index = new URL('../../basic_transcribe/page/index.html', import.meta.url).href;
  const other = await open(browser, index);
  const dead = other.get('dead');
  assert.equal(await dead.isVisible(), false);
  await dead.waitFor();
  assert.match(await dead.innerText(), /^This page does not run\. .*python -m http\.server/);
  await other.context.close();
  assert.equal(await app.get('dead').count(), 0);
});

test('nothing was asked of anyone else, and nothing went wrong', () => {
  stayedAt(PAGE, app);
  assert.deepEqual(app.complaints, []);
});
