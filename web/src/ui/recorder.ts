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

/** Binds the dialog; the function it returns opens it. */
export function startRecorder(done: (recording: File) => void): () => void {
  const dialog = byId('recorder', 'dialog');
  const stop = byId('recorder-stop', 'button');
  let take: Take | null = null;
  let opening = 0;

  const end = (): Take | null => {
    const ended = take;
    ended?.stop();
    take = null;
    opening++;
    if (dialog.open) dialog.close();
    return ended;
  };
  const finish = (): void => {
    const ended = end();
    if (!ended?.samples) return;
    const parts = [wavHeader(ended.samples, ended.sampleRate), ...ended.pieces];
    done(new File(parts, `${stamp(new Date())}.wav`, { type: 'audio/wav' }));
  };
  const hear = (piece: Float32Array): void => {
    if (!take) return;
    take.pieces.push(new Blob([toPcm(piece)]));
    take.samples += piece.length;
    take.levels.push(piece.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0));
    setText(byId('recorder-time'), clock(take.samples / take.sampleRate));
    drawLevels(take.levels);
    if (take.samples > LONGEST * take.sampleRate) finish();
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
      const begun = await begin(hear, broken);
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
  stop.addEventListener('click', finish);
  onClick('recorder-discard', () => void end());
  dialog.addEventListener('cancel', () => void end());
  return () => void open();
}

async function begin(hear: (piece: Float32Array) => void, broken: () => void): Promise<Take> {
  if (!navigator.mediaDevices) throw new DOMException('', 'NotSupportedError');
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  const context = new AudioContext();
  const stop = (): void => {
    for (const track of stream.getTracks()) track.stop();
    if (context.state !== 'closed') void context.close();
  };
  stream.getAudioTracks()[0].addEventListener('ended', broken); // unplugged or forbidden; not by `stop`
  try {
    await context.audioWorklet.addModule(new URL('capture.js', document.baseURI).href);
    const capture = new AudioWorkletNode(context, 'capture', { numberOfOutputs: 0 });
    capture.port.onmessage = (event: MessageEvent<Float32Array>) => hear(event.data);
    context.createMediaStreamSource(stream).connect(capture);
    await context.resume();
  } catch (error) {
    stop();
    throw error;
  }
  return { stop, pieces: [], samples: 0, sampleRate: context.sampleRate, levels: [] };
}

function refusal(error: unknown): string {
  const name = error instanceof DOMException ? error.name : '';
  if (name === 'NotAllowedError') return 'The microphone may not be used. Allow it in the address bar, and try again.';
  if (name === 'NotFoundError') return 'No microphone was found. Connect one, and try again.';
  if (name === 'NotSupportedError') return 'This browser gives the microphone only to pages on this computer or over https.';
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
