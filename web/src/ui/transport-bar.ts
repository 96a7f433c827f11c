/** Play, loop, time and balance. */

import { byId, onClick, press, setSlider, setText } from './dom.ts';
import { clock } from './names.ts';
import type { Sound } from './synth.ts';
import type { Transport } from './transport.ts';

export class TransportBar {
  private readonly transport: Transport;

  constructor(transport: Transport, toggleLoop: () => void) {
    this.transport = transport;
    onClick('play', () => transport.toggle());
    onClick('rewind', () => transport.seek(0));
    onClick('loop', toggleLoop);
    onClick('hear-recording', () => this.setBalance(0));
    onClick('hear-notes', () => this.setBalance(1));
    const balance = byId('balance', 'input');
    balance.addEventListener('input', () => this.setBalance(balance.valueAsNumber));
    balance.addEventListener('dblclick', () => this.setBalance(0.5));
    const sound = byId('sound', 'select');
    sound.addEventListener('change', () => transport.setSound(sound.value as Sound));
    this.setBalance(0.5);
  }

  /** 0: the recording alone, 1: the notes alone. */
  setBalance(mix: number): void {
    this.transport.setBalance(mix);
    setSlider(byId('balance', 'input'), mix);
    const notes = Math.round(mix * 100);
    const text = mix === 0 ? 'only the recording' : mix === 1 ? 'only the notes' : `${100 - notes} to ${notes}`;
    byId('balance').setAttribute('aria-valuetext', text);
  }

  show(): void {
    const { playing, isLooping, duration } = this.transport;
    byId('play-icon').setAttribute('href', playing ? '#i-pause' : '#i-play');
    byId('play').setAttribute('aria-label', playing ? 'Pause' : 'Play');
    press(byId('loop'), isLooping);
    setText(byId('time-end'), clock(duration));
    this.showTime(this.transport.position());
  }

  showTime(position: number): void {
    setText(byId('time-now'), clock(position, 1));
  }
}
