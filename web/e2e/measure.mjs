// Measures the page: node e2e/measure.mjs ADDRESS RECORDING... prints, for each recording, seconds to load, to the first
// note and to the end, how many times faster than real time that is, processor seconds (which, unlike the others, do not
// depend on what else the machine is doing), how long sliders take, and the memory that the page holds.
import { statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';

import { launch, open } from './browser.mjs';

const [address, ...recordings] = process.argv.slice(2);

for (const recording of recordings) {
  const browser = await launch();
  const { memory, processor } = await processOf(browser);
  const [app, load] = await timed(() => open(browser, address));
  const empty = await memory();
  let [most, first] = [empty, null];
  const busy = await processor();
  const begun = performance.now();
  await app.choose(recording);
  await app.until('working');
  while ((await app.state()) === 'working') {
    if (first === null && /[1-9][0-9]* note/.test(await app.get('progress-text').textContent())) first = performance.now() - begun;
    most = Math.max(most, await memory());
    await app.page.waitForTimeout(50);
  }
  const all = performance.now() - begun;
  const worked = (await processor()) - busy;
  const said = await app.page.locator('#toasts').innerText();
  const facts = await app.get('song-facts').textContent();
  const seconds = facts
    .split(',')[0]
    .split(':')
    .reduce((sum, part) => 60 * sum + Number(part), 0);
  const moves = [];
  for (const value of [0.3, 0.7, 0.4, 0.6, 0.5]) {
    moves.push(Math.round(await app.move('sensitivity', value)));
    await app.page.waitForTimeout(1000);
  }
  console.log(
    JSON.stringify({
      recording: basename(recording),
      megabytes: round(statSync(recording).size / 1e6),
      facts,
      said,
      load_s: round(load / 1000),
      first_note_s: first && round(first / 1000),
      all_s: round(all / 1000),
      times_real_time: round(seconds / (all / 1000)),
      processor_s: round(worked),
      slider_ms: moves,
      memory_empty_mb: Math.round(empty),
      memory_most_mb: Math.round(most),
      memory_after_mb: Math.round(await memory()),
    }),
  );
  await browser.close();
}

async function timed(work) {
  const begun = performance.now();
  return [await work(), performance.now() - begun];
}

/** Functions that give the megabytes and the processor seconds of a page's process. */
async function processOf(browser) {
  const session = await browser.newBrowserCDPSession();
  const pages = async () => (await session.send('SystemInfo.getProcessInfo')).processInfo.filter(({ type }) => type === 'renderer');
  const resident = async ({ id }) => {
    const status = await readFile(`/proc/${id}/status`, 'utf8').catch(() => ''); // it may just have ended
    return Number(status.match(/VmRSS:\s+(\d+)/)?.[1] ?? 0) / 1024;
  };
  return {
    memory: async () => Math.max(0, ...(await Promise.all((await pages()).map(resident)))),
    processor: async () => Math.max(0, ...(await pages()).map(({ cpuTime }) => cpuTime)),
  };
}

function round(number) {
  return Math.round(number * 100) / 100;
}
