/** Recording from the microphone, uncompressed and without what browsers do to make speech clearer. */

import { byId, onClick, setText, sharpen } from './dom.ts';
import { reason, say } from './messages.ts';
import { clock } from './names.ts';
import { toPcm, wavHeader } from './wav.ts';

const LONGEST = 3600; // seconds
const BAR = 3; // pixels of the meter for a piece of sound

interface Take {
  stop: () => void;
  pieces: Blob[];
  samples: number;
  sampleRate: number;
  levels: number[];
}

/** Binds the dialog; the function it returns opens it. `cancelled` is given what was heard until Escape was pressed. */
export function startRecorder(done: (recording: File) => void, cancelled: (recording: File) => void): () => void {
  const dialog = byId('recorder', 'dialog');
  const stop = byId('recorder-stop', 'button');
  let take: Take | null = null;
  let opening = 0;

  // The last one that could be had stays: when the page has been loaded, the server may go.
  let context = newContext();
  context.then((idle) => idle.suspend()).catch(() => undefined);
  const nextContext = (): Promise<AudioContext> => {
    const before = context;
    context = newContext().then(
      (next) => {
        before.then((last) => last.close()).catch(() => undefined);
        return next;
      },
      () => before,
    );
    return context;
  };
  const end = (): Take | null => {
    const ended = take;
    ended?.stop();
    take = null;
    opening++;
    if (dialog.open) dialog.close();
    return ended;
  };
  const finish = (then: (recording: File) => void): void => {
    const ended = end();
    if (!ended?.samples) return;
    const parts = [wavHeader(ended.samples, ended.sampleRate), ...ended.pieces];
    then(new File(parts, `${stamp(new Date())}.wav`, { type: 'audio/wav' }));
  };
  const hear = (piece: Float32Array): void => {
    if (!take) return;
    take.pieces.push(new Blob([toPcm(piece)]));
    take.samples += piece.length;
    take.levels.push(piece.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0));
    setText(byId('recorder-time'), clock(take.samples / take.sampleRate));
    drawLevels(take.levels);
    if (take.samples > LONGEST * take.sampleRate) finish(done);
  };
  const broken = (): void => {
    take?.stop();
    setText(byId('recorder-text'), 'The microphone is gone. What it heard up to here is kept.');
  };
  const open = async (): Promise<void> => {
    const mine = ++opening;
    stop.disabled = true;
    setText(byId('recorder-text'), 'Waiting for the microphone. Your browser may ask you to allow it.');
    setText(byId('recorder-time'), clock(0));
    dialog.showModal();
    drawLevels([]);
    try {
      const begun = await begin(nextContext, hear, broken);
      if (mine !== opening) return begun.stop();
      take = begun;
      stop.disabled = false;
      stop.focus();
      setText(byId('recorder-text'), 'Recording. Play or sing; the sound stays on this computer.');
      say('recording');
    } catch (error) {
      if (mine === opening) setText(byId('recorder-text'), refusal(error));
    }
  };
  stop.addEventListener('click', () => finish(done));
  onClick('recorder-discard', () => void end());
  dialog.addEventListener('cancel', () => finish(cancelled));
  return () => void open();
}

/** One that has the module which captures. */
async function newContext(): Promise<AudioContext> {
  const context = new AudioContext();
  try {
    await context.audioWorklet.addModule(new URL('capture.js', document.baseURI).href);
  } catch {
    void context.close();
    throw new Error('capture.js could not be loaded; check the connection');
  }
  return context;
}

async function begin(
  nextContext: () => Promise<AudioContext>,
  hear: (piece: Float32Array) => void,
  broken: () => void,
): Promise<Take> {
  if (!navigator.mediaDevices) throw new DOMException('', 'NotSupportedError');
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  const stopTracks = (): void => {
    for (const track of stream.getTracks()) track.stop();
  };
  stream.getAudioTracks()[0].addEventListener('ended', broken); // unplugged or forbidden; not by `stop`
  try {
    const context = await nextContext();
    const source = context.createMediaStreamSource(stream);
    const capture = new AudioWorkletNode(context, 'capture', { numberOfOutputs: 0 });
    capture.port.onmessage = (event: MessageEvent<Float32Array>) => hear(event.data);
    source.connect(capture);
    await context.resume();
    const stop = (): void => {
      stopTracks();
      source.disconnect();
      context.suspend().catch(() => undefined);
    };
    return { stop, pieces: [], samples: 0, sampleRate: context.sampleRate, levels: [] };
  } catch (error) {
    stopTracks();
    throw error;
  }
}

function refusal(error: unknown): string {
  const name = error instanceof DOMException ? error.name : '';
  if (name === 'NotAllowedError') return 'The microphone may not be used. Allow it in the address bar, and try again.';
  if (name === 'NotFoundError') return 'No microphone was found. Connect one, and try again.';
  if (name === 'NotSupportedError') {
    return 'Browsers give the microphone only to pages that are opened at localhost or over https, and this one is not.';
  }
  return `The microphone could not be opened (${reason(error)}).`;
}

function drawLevels(levels: readonly number[]): void {
  const canvas = byId('recorder-wave', 'canvas');
  const ctx = sharpen(canvas);
  const { clientWidth: width, clientHeight: height } = canvas;
  ctx.clearRect(0, 0, width, height);
  const style = getComputedStyle(canvas);
  const shown = levels.slice(-Math.floor(width / BAR));
  shown.forEach((level, i) => {
    ctx.fillStyle = style.getPropertyValue(level > 0.98 ? '--danger' : '--accent');
    const tall = Math.max(2, Math.sqrt(level) * (height - 12));
    ctx.fillRect(i * BAR, (height - tall) / 2, BAR - 1, tall);
  });
}

/** `recording 2026-05-01 14.03` */
function stamp(time: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const date = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join('-');
  return `recording ${date} ${two(time.getHours())}.${two(time.getMinutes())}`;
}
