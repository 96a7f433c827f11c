/** The smaller parts of the page: view, time line, session, names, colours, files. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import type { Note, Result, TrackerSettings } from '../src/engine/types.ts';
import { extremes } from '../src/ui/draw.ts';
import { PLAIN } from '../src/ui/editor.ts';
import { partAt } from '../src/ui/gestures.ts';
import { clock, count, fileStem, megabytes, pitchName, spokenPitch } from '../src/ui/names.ts';
import { contrast, levelOf, parseHex, ramp } from '../src/ui/palette.ts';
import { spaced } from '../src/ui/original.ts';
import { Session } from '../src/ui/session.ts';
import type { SessionEvents } from '../src/ui/session.ts';
import { same, tappedTempo } from '../src/ui/settings.ts';
import { claims, keyName } from '../src/ui/shortcuts.ts';
import { bendCurve } from '../src/ui/synth.ts';
import { endTime, firstStretch, nextStretch, positionAt } from '../src/ui/timeline.ts';
import { beatsOf, FileAxis, parseDivision, quantize } from '../src/engine/timing.ts';
import { endOf, fitted, gridLines, held, pitchAt, revealing, snapped, tickStep } from '../src/ui/view.ts';
import { timeAt, xOf, yOf, zoomedTime } from '../src/ui/view.ts';
import type { Grid, View } from '../src/ui/view.ts';
import { toPcm, wavHeader } from '../src/ui/wav.ts';
import { DEFAULTS, FakeEngine, random } from './fake-engine.ts';

declare const WEB: string;
const SEEDS = Array.from({ length: 50 }, (_, i) => i + 1);
const read = (path: string): string => readFileSync(WEB + path, 'utf8');

// ---------------------------------------------------------------- view

function anyView(next: () => number): View {
  const [width, height] = [200 + 1200 * next(), 100 + 700 * next()];
  return { width, height, start: 100 * next() - 20, scale: 10 ** (4 * next() - 1), top: 150 * next(), row: 60 * next() };
}

test('a view is held within recording and keyboard, and holding it twice changes nothing', () => {
  for (const seed of SEEDS) {
    const next = random(seed);
    const duration = 10 ** (4 * next() - 1);
    const view = held(anyView(next), duration);
    assert.ok(view.start >= 0 && endOf(view) <= Math.max(duration + 0.5, 0.25) + 1e-6);
    assert.ok(view.row >= 3 && view.top <= 108.5 + 1e-9);
    const again = held(view, duration);
    for (const key of ['start', 'scale', 'top', 'row'] as const) assert.ok(Math.abs(again[key] - view[key]) < 1e-6, key);
  }
});

test('places and pixels lead back to each other; what is zoomed about stays where it is', () => {
  for (const seed of SEEDS) {
    const next = random(seed);
    const view = held(anyView(next), 600);
    const time = 600 * next();
    assert.ok(Math.abs(timeAt(view, xOf(view, time)) - time) < 1e-6);
    for (let pitch = 21; pitch <= 108; pitch++) assert.equal(pitchAt(view, yOf(view, pitch) + view.row / 2), pitch);
    const x = view.width * next();
    assert.ok(Math.abs(timeAt(zoomedTime(view, 3 * next() + 0.1, x, 600), x) - timeAt(view, x)) < 1e-6);
    const shown = revealing(view, time, 60);
    assert.ok(xOf(shown, time) >= 0 && xOf(shown, time) <= view.width);
  }
  const all = fitted({ width: 800, height: 500, start: 9, scale: 9, top: 50, row: 5 }, 0, 30, [{ pitch: 40 }, { pitch: 80 }]);
  assert.ok(pitchAt(all, 0) > 80 && pitchAt(all, all.height) < 40);
});

test('lines of the grid: bars fall on the first beat, triplets divide a beat in three, swing makes it late', () => {
  const view: View = { width: 1000, height: 300, start: 0, scale: 250, top: 80, row: 10 };
  const grid: Grid = { origin: 0.3, tempo: 120, timeSignature: [3, 4], step: 0.5 / 3, swing: 0 };
  const lines = gridLines(view, grid, 5);
  const bars = lines.filter(({ rank }) => rank === 0);
  assert.deepEqual(bars.map(({ time, bar }) => [time.toFixed(1), bar]), [['0.3', 1], ['1.8', 2], ['3.3', 3]]);
  const beats = lines.filter(({ rank }) => rank <= 1).map(({ time }) => time);
  assert.equal(lines.filter(({ rank }) => rank === 2).length / beats.length > 1.8, true);
  for (const { time } of lines) assert.ok(Math.abs(snapped(time, grid) - time) < 1e-9);
  const swung: Grid = { ...grid, step: 0.25, swing: 1 };
  assert.ok(Math.abs(snapped(0.68, swung) - (0.3 + 0.375)) < 1e-9);
  assert.ok(snapped(0, grid) >= 0);
  const compound = gridLines(view, { ...grid, tempo: 80, timeSignature: [6, 8], step: 0.25 }, 5).filter(({ rank }) => rank === 1);
  assert.ok(Math.abs(compound[0].time - 1.05) < 1e-9); // a beat of 6/8 is three eighths
  assert.ok(tickStep(view.scale, 70) * view.scale >= 70);
});

test('lines of the grid lie where the MIDI file has them, also before the first beat', () => {
  const view: View = { width: 1000, height: 300, start: 0, scale: 250, top: 80, row: 10 };
  const times = (origin: number, step: number): string[] => {
    const grid: Grid = { origin, tempo: 120, timeSignature: [4, 4], step, swing: 0 };
    return gridLines(view, grid, 5).map(({ time }) => time).sort((a, b) => a - b).slice(0, 3).map((time) => time.toFixed(3));
  };
  assert.deepEqual(times(0.23, 0.25), ['0.000', '0.230', '0.480']); // .46 of a beat before it are half of one
  assert.deepEqual(times(0.04, 0.5), ['0.000', '0.540', '1.040']); // so little begins with the recording
  assert.deepEqual(times(0.25, 0.25), ['0.000', '0.250', '0.500']);
});

test('a note on each beat stays on its beat, wherever the first one lies', () => {
  for (let first = 0.01; first < 0.5; first += 0.01) {
    const beats = beatsOf(120, [4, 4], first);
    const notes = [0, 1, 2, 3].map((k) => ({ onset: first + k / 2, offset: first + k / 2 + 0.4, pitch: 60 + k }));
    const played = notes.map((note) => ({ ...note, velocity: 80, confidence: 1, bend: null }));
    const axis = new FileAxis(beats);
    for (const division of ['1/8', '1/16', '1/32']) {
      const moved = quantize(played, beats, parseDivision(division), 1, 0);
      moved.forEach(({ onset }, k) => assert.ok(Math.abs(axis.place(onset) - k) < 1e-9, `${first} ${division} ${k}`));
    }
  }
});

test('a note is stretched at its ends, and a narrow one only moved, also where a finger is beside it', () => {
  for (const kind of ['mouse', 'touch'] as const) {
    const parts = (width: number): number[] => {
      const places = Array.from({ length: 10 * (width + 20) }, (_, i) => i / 10 - 10);
      return (['start', 'body', 'end'] as const).map((part) => places.filter((x) => partAt(x, width, kind) === part).length / 10);
    };
    for (const width of [1, 8, ...(kind === 'touch' ? [12, 20, 35] : [])]) assert.deepEqual(parts(width), [0, width + 20, 0]);
    for (const width of [36, 40, 50, 300]) {
      const [start, body, end] = parts(width);
      assert.ok(body >= width / 3 - 0.2 && start > 10 && Math.abs(start - end) < 0.3, `${kind} ${width}: ${start} ${body} ${end}`);
    }
  }
});

// ---------------------------------------------------------------- time line

test('stretches follow each other without a gap, round and round a loop, and the place never leaves it', () => {
  for (const seed of SEEDS) {
    const next = random(seed);
    const loop = { start: 2 + next(), end: 4 + next() };
    const stretches = [firstStretch(loop.start * next(), 10, loop, 60)];
    for (let i = 0; i < 5; i++) {
      const following = nextStretch(stretches[stretches.length - 1], loop);
      assert.ok(following);
      assert.ok(Math.abs(endTime(stretches[stretches.length - 1]) - following.at) < 1e-9);
      stretches.push(following);
    }
    for (let time = 10; time < endTime(stretches[5]); time += 0.1) {
      const place = positionAt(stretches, time);
      assert.ok(place <= loop.end + 1e-9 && (time < stretches[1].at || place >= loop.start - 1e-9));
    }
  }
  const whole = firstStretch(5, 0, { start: 1, end: 3 }, 60);
  assert.deepEqual([whole.end, nextStretch(whole, { start: 1, end: 3 }), positionAt([whole], 99)], [60, null, 60]);
});

test('what is played has silence where the file has nothing, unless the browser put it there', () => {
  const makeBuffer = (channels: number, length: number, sampleRate: number): AudioBuffer => {
    const data = Array.from({ length: channels }, () => new Float32Array(length));
    const duration = length / sampleRate;
    const buffer = { numberOfChannels: channels, length, sampleRate, duration, getChannelData: (c: number) => data[c] };
    return buffer as unknown as AudioBuffer;
  };
  const context = { createBuffer: makeBuffer } as unknown as AudioContext;
  const buffer = makeBuffer(2, 6, 2);
  for (const c of [0, 1]) buffer.getChannelData(c).set([1, 2, 3, 4, 5, 6]);
  const silences = [{ start: 0, end: 1 }, { start: 2, end: 3.5 }];
  const spread = spaced(context, buffer, silences, 5.5);
  assert.deepEqual([...spread.getChannelData(1)], [0, 0, 1, 2, 0, 0, 0, 3, 4, 5, 6]);
  assert.equal(spaced(context, buffer, silences, 3), buffer);
  assert.equal(spaced(context, buffer, [], 3), buffer);
});

test('a bend is taken up where its note is', () => {
  const semitones = Float32Array.from({ length: 101 }, (_, i) => i / 100);
  const note: Note = { onset: 1, offset: 2, pitch: 60, velocity: 80, confidence: 1, bend: { start: 1, step: 0.01, semitones } };
  const curve = bendCurve(note, 0.5);
  assert.ok(curve && Math.abs(curve.cents[0] - 50) < 0.01 && Math.abs(curve.cents[curve.cents.length - 1] - 100) < 0.01);
  assert.equal(curve.duration, 0.5);
  assert.equal(bendCurve({ ...note, bend: null }, 0), null);
  assert.equal(bendCurve(note, 1), null);
});

// ---------------------------------------------------------------- session

interface Listening {
  session: Session;
  events: string[];
  tracked: (readonly Note[])[];
}

function listening(engine: FakeEngine, start = () => Promise.resolve(engine)): Listening {
  const events: string[] = [];
  const tracked: (readonly Note[])[] = [];
  const told: SessionEvents = {
    onProgress: ({ notesSoFar }) => events.push(`progress ${notesSoFar}`),
    onNotes: (notes) => events.push(`notes ${notes.length}`),
    onResult: ({ notes }: Result) => events.push(`result ${notes.length}`),
    onPicture: () => events.push('picture'),
    onCandidates: () => events.push('candidates'),
    onTracked: (notes) => tracked.push(notes),
    onError: (error) => events.push(`error ${String(error)}`),
  };
  return { session: new Session(start, told), events, tracked };
}

test('notes come while it works, then all there is', async () => {
  const { session, events } = listening(new FakeEngine());
  assert.equal(await session.open(new Blob()), true);
  const counts = events.filter((event) => event.startsWith('notes')).map((event) => Number(event.slice(6)));
  assert.ok(counts.length > 3 && counts.every((n, i) => i === 0 || n >= counts[i - 1]));
  assert.equal(events.findIndex((event) => event.startsWith('result')), events.length - 3);
  assert.deepEqual(events.slice(-2), ['picture', 'candidates']);
});

test('after cancelling nothing more is heard of a recording', async () => {
  const engine = new FakeEngine();
  const { session, events } = listening(engine);
  let steps = 0;
  engine.pause = async () => {
    if (++steps === 3) session.cancel();
  };
  assert.equal(await session.open(new Blob()), false);
  assert.ok(!events.some((event) => /result|error|picture/.test(event)));
  assert.equal(await session.open(new Blob()), true);
});

test('while notes are found again only the last settings asked for are remembered', async () => {
  const engine = new FakeEngine();
  const { session, tracked } = listening(engine);
  await session.open(new Blob());
  const asked = [0.5, 0.4, 0.3, 0.2].map((onsetThreshold): TrackerSettings => ({ ...DEFAULTS, onsetThreshold }));
  let answer = (): void => undefined;
  engine.pause = () => new Promise((resolve) => (answer = resolve));
  const first = session.track(asked[0]);
  await new Promise(setImmediate);
  for (const settings of asked.slice(1)) void session.track(settings);
  engine.pause = () => Promise.resolve();
  answer();
  await first;
  assert.deepEqual(engine.tracked, [asked[0], asked[3]]);
  assert.equal(tracked.length, 2);
});

test('an engine that did not start is started again', async () => {
  const engine = new FakeEngine();
  let starts = 0;
  const { session, events } = listening(engine, () => {
    return starts++ ? Promise.resolve(engine) : Promise.reject(new Error('no connection'));
  });
  await assert.rejects(session.ready(), /no connection/);
  assert.equal(await session.open(new Blob()), true);
  assert.equal(await session.open(new Blob()), true);
  assert.equal(starts, 2);
  assert.ok(!events.some((event) => event.startsWith('error')));
});

test('what goes wrong is told', async () => {
  const engine = new FakeEngine();
  const { session, events } = listening(engine);
  engine.pause = () => Promise.reject(new Error('no sound in it'));
  assert.equal(await session.open(new Blob()), false);
  assert.deepEqual(events, ['error Error: no sound in it']);
});

// ---------------------------------------------------------------- small things

test('names, times and files', () => {
  assert.deepEqual([pitchName(60), pitchName(21), pitchName(106), spokenPitch(61)], ['C4', 'A0', 'A♯7', 'C sharp 4']);
  assert.deepEqual([clock(59.99), clock(65.37, 1), clock(3723), clock(-1)], ['0:59', '1:05.3', '1:02:03', '0:00']);
  assert.deepEqual([count(1, 'note'), count(1200, 'note')], ['1 note', '1,200 notes']);
  assert.deepEqual([0, 44_100, 9.96e6, 34.6e6, 2.1e9].map(megabytes), ['0.1 MB', '0.1 MB', '10.0 MB', '35 MB', '2,100 MB']);
  const names = ['song.wav', 'C:\\music\\a.b.flac', '.hidden', 'a<b>:"?.mp3', '   ', '名前.wav'];
  assert.deepEqual(names.map(fileStem), ['song', 'a.b', 'recording', 'a_b____', 'recording', '名前']);
});

test('keys are named as the table has them', () => {
  const key = (k: string, held: Partial<KeyboardEvent> = {}): string =>
    keyName({ key: k, ctrlKey: false, metaKey: false, altKey: false, shiftKey: false, ...held });
  assert.equal(key(' '), 'space');
  assert.equal(key('Z', { metaKey: true, shiftKey: true }), 'ctrl+shift+z');
  assert.equal(key('?', { shiftKey: true }), '?');
  assert.equal(key('ArrowLeft', { altKey: true, shiftKey: true }), 'alt+shift+arrowleft');
});

test('keys belong to the field or menu that has the focus', () => {
  for (const seen of [false, true]) {
    for (const name of ['5', 'a', 'delete', 'enter', 'arrowup', 'alt+arrowdown', 'ctrl+z', 'ctrl+a', 'escape']) {
      assert.ok(claims('number', seen, name), name);
    }
    for (const name of ['a', 'd', 'space', 'arrowdown', 'delete', 'enter', 'escape']) assert.ok(claims('menu', seen, name), name);
    for (const focus of ['number', 'menu', 'slider', 'button', null] as const) assert.ok(!claims(focus, seen, 'ctrl+s'));
    for (const name of ['arrowleft', 'shift+arrowleft', 'space', 'home']) assert.equal(claims('slider', seen, name), seen);
    for (const name of ['enter', 'space']) assert.equal(claims('button', seen, name), seen);
    for (const focus of ['slider', 'button', null] as const) assert.ok(!claims(focus, seen, 'd'));
  }
  assert.ok(!claims('menu', true, 'ctrl+z'));
});

test('settings are compared by what they say', () => {
  assert.ok(same(PLAIN, { ...PLAIN, timeSignature: [4, 4], strength: 1 + 1e-9 }));
  assert.ok(same(DEFAULTS, { ...DEFAULTS }));
  for (const change of [{ scale: 'C major' }, { tempo: 121 }, { timeSignature: [3, 4] as [number, number] }]) {
    assert.ok(!same({ ...PLAIN, ...change }, PLAIN));
  }
  for (const monophonic of [true, false]) assert.ok(!same({ ...DEFAULTS, monophonic }, DEFAULTS));
});

test('four taps make a tempo', () => {
  assert.equal(tappedTempo([0, 500, 1000]), null);
  assert.equal(tappedTempo([0, 495, 1005, 1500]), 120);
  assert.equal(tappedTempo([0, 10, 20, 30]), null);
});

test('what was recorded is a WAV file', () => {
  const header = new DataView(wavHeader(1000, 48000));
  assert.deepEqual([header.getUint32(4, true), header.getUint32(24, true), header.getUint32(40, true)], [2036, 48000, 2000]);
  assert.deepEqual([...toPcm(Float32Array.of(0, 0.5, -2, 2))], [0, 16384, -32767, 32767]);
});

test('the waveform shows every peak', () => {
  const peaks = Float32Array.of(-0.1, 0.1, -0.2, 0.9, -0.8, 0.3);
  assert.deepEqual(extremes(peaks, 0, 2).map((v) => Number(v.toFixed(1))), [-0.8, 0.9]);
  assert.deepEqual(extremes(peaks, 7, 9), [0, 0]);
});

// ---------------------------------------------------------------- colours and the page itself

function colours(selector: string): Map<string, string> {
  const sheet = read('styles/colours.css');
  const block = sheet.slice(sheet.indexOf(selector));
  const entries = block.slice(0, block.indexOf('}')).matchAll(/--([\w-]+): (#[0-9a-f]{6});/g);
  return new Map([...entries].map(([, name, value]) => [name, value]));
}

test('text and controls have the contrast of WCAG AA, in both themes', () => {
  for (const selector of [':root {', ':root[data-theme="dark"] {']) {
    const sheet = colours(selector);
    const colour = (name: string) => parseHex(sheet.get(name) ?? assert.fail(`no colour ${name}`));
    const check = (front: string, back: string, least: number): void => {
      const found = contrast(colour(front), colour(back));
      assert.ok(found >= least, `${selector} ${front} on ${back}: ${found.toFixed(2)}`);
    };
    for (const back of ['page', 'card']) {
      for (const front of ['text', 'muted', 'accent']) check(front, back, 4.5);
      check('edge', back, 3);
    }
    check('muted', 'sunken', 4.5);
    check('text', 'sunken', 4.5);
    check('accent', 'accent-soft', 4.5);
    check('text', 'accent-soft', 4.5);
    check('accent-text', 'accent', 4.5);
    check('text', 'warn', 4.5);
    check('key-text', 'key-white', 4.5);
    for (const front of ['candidate', 'bend', 'off-scale', 'accent']) check(front, 'roll', 3);
    for (const front of ['middling', 'loud']) check(front, 'roll', 3);
    check('soft', 'roll', 2.5);
  }
  assert.deepEqual([levelOf(1), levelOf(127)], [0, 15]);
  assert.deepEqual(ramp([[0, 0, 0], [10, 20, 30], [20, 40, 60]], 5)[3], [15, 30, 45]);
});

test('the page: every control has a name, every reference a target, nothing is inline or from elsewhere', () => {
  const page = read('index.html');
  const ids = [...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
  assert.equal(new Set(ids).size, ids.length);
  for (const [, names] of page.matchAll(/ (?:for|aria-labelledby|aria-describedby)="([^"]+)"/g)) {
    for (const name of names.split(' ')) assert.ok(ids.includes(name), name);
  }
  for (const [, name] of page.matchAll(/<use (?:id="\S+" )?href="#([^"]+)"/g)) assert.ok(ids.includes(name), name);
  const labelled = new Set([...page.matchAll(/ for="([^"]+)"/g)].map(([, id]) => id));
  for (const [tag, id] of page.matchAll(/<(?:input|select)(?=[^>]* id="([^"]+)")[^>]*>/g)) {
    const before = page.slice(0, page.indexOf(tag));
    const inLabel = before.lastIndexOf('<label') > before.lastIndexOf('</label');
    assert.ok(labelled.has(id) || inLabel || /aria-label=|aria-hidden=/.test(tag), id);
  }
  for (const [tag] of page.matchAll(/<button[^>]*class="[^"]*icon-only[^>]*>/g)) {
    assert.ok(/aria-label=| id="theme"/.test(tag), tag);
  }
  assert.doesNotMatch(page, / style=| on[a-z]+="|<style|(?:src|href)="(?:https?:)?\/\//);
  assert.match(page, /Content-Security-Policy" content="default-src 'none'; /);
  for (const [, id] of sources().matchAll(/(?:byId|onClick)\('([^']+)'/g)) assert.ok(ids.includes(id), id);
});

function sources(): string {
  const names = ['app', 'files', 'inspector', 'messages', 'recorder', 'settings', 'shortcuts', 'take', 'theme'];
  return names.map((name) => read(`src/ui/${name}.ts`)).join('\n');
}
