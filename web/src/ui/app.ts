/** The page: what each part reports is told to the others here. */

import { parseScale } from '../engine/keys.ts';
import type { Note, Progress, Result, Silence, Spectrogram, TrackerSettings } from '../engine/types.ts';
import { byId, onClick, press, setText, steadySliders } from './dom.ts';
import { SHORTEST, clampVelocity, heldShift, movedNote, stretchedNote } from './document.ts';
import type { RollNote } from './document.ts';
import { Editor } from './editor.ts';
import type { Listener, Tools } from './engine-api.ts';
import { startFiles } from './files.ts';
import { Gestures } from './gestures.ts';
import type { Tool } from './gestures.ts';
import { neighbour } from './index.ts';
import { Inspector, spoken } from './inspector.ts';
import { hush, offering, reason, say, tell } from './messages.ts';
import { clock, count, megabytes, spokenPitch } from './names.ts';
import { Overview } from './overview.ts';
import { startRecorder } from './recorder.ts';
import { EMPTY_SCENE, Roll } from './roll.ts';
import type { Backdrop } from './roll.ts';
import { Session } from './session.ts';
import { SettingsPanel } from './settings.ts';
import { startShortcuts } from './shortcuts.ts';
import type { Shortcut } from './shortcuts.ts';
import { frequency } from './synth.ts';
import { startTake } from './take.ts';
import type { Song } from './take.ts';
import { startTheme } from './theme.ts';
import { Transport } from './transport.ts';
import { TransportBar } from './transport-bar.ts';
import { endOf, fitted, revealing, zoomedPitch, zoomedTime } from './view.ts';

type Phase = 'empty' | 'working' | 'ready';

/** What is open. */
interface Recording extends Song {
  silences: readonly Silence[];
  picture: Spectrogram | null;
  /** The state of the notes when they were last saved. */
  taken: unknown;
}

/** Until the model says what its own are. */
const ANY: TrackerSettings = {
  onsetThreshold: 0.5,
  splitThreshold: 0.5,
  frameThreshold: 0.3,
  minimumNoteLength: 40,
  minimumPitch: 21,
  maximumPitch: 108,
  monophonic: null,
};
const CLOSE = 20; // seconds that are shown at first of a long recording
const SHORT = 40; // seconds of a recording that is shown whole
const USUAL = [{ pitch: 33 }, { pitch: 91 }]; // pitches that are shown while it is not known which there are
const NUDGE = 0.01; // seconds by which a key moves a note without a grid
const STEADY = 0.01; // seconds between values of a bend that has only one
const ZOOM = 1.5;
const BACKDROPS: readonly Backdrop[] = ['spectrogram', 'waveform', 'plain'];
const FINGERS = matchMedia('(pointer: coarse)');
const TOUCH_HINT = 'Tap a note, then drag it or its ends. Two fingers zoom.';
const HINTS: Record<Tool, string> = {
  select: 'Click a note to hear it; drag it, or its ends. Double-click to draw one, click a faint one to accept it.',
  draw: 'Drag to draw a note. Notes that are there can still be moved and stretched.',
};

export function startApp(tools: Tools): void {
  let phase: Phase = 'empty';
  let song: Recording | null = null;
  let putBack: (() => void) | null = null; // what was open before, until the recording that is worked on is done
  let tool: Tool = 'select';
  let defaults = ANY;
  let faint: Note | null = null; // the faint note that was gone to by key
  let began = 0;
  let spokenShare = 0;
  let speed = '';
  let asked = 0; // when a slider was last moved

  const editor = new Editor((notes, settings) => tools.shape(notes, settings, roll.scene.tuning), ANY);
  const roll = new Roll({
    back: byId('layer-back', 'canvas'),
    notes: byId('layer-notes', 'canvas'),
    over: byId('layer-over', 'canvas'),
    ruler: byId('ruler', 'canvas'),
    keys: byId('keys', 'canvas'),
  });
  const overview = new Overview(byId('overview', 'canvas'), roll);
  const inspector = new Inspector(editor);
  const transport = new Transport({
    onChange: () => showTransport(),
    onUnplayable: () => tell('This browser cannot play the recording itself; the notes can be heard.', 'warning'),
  });
  const bar = new TransportBar(transport, () => toggleLoop());
  const settings = new SettingsPanel(editor, ANY, () => transport.position());
  const start = async (): Promise<Listener> => {
    const engine = await tools.createEngine();
    defaults = engine.defaults;
    settings.setDefaults(defaults);
    editor.begin(defaults);
    return engine;
  };
  const session = new Session(start, {
    onProgress: (progress) => showProgress(progress),
    onNotes: (notes) => editor.setFound(notes),
    onResult: (result) => finish(result),
    onPicture: (picture) => {
      if (song) song.picture = picture;
      roll.setPicture(picture);
    },
    onCandidates: (candidates) => editor.setCandidates(candidates),
    onTracked: (notes) => {
      editor.setFound(notes);
      say(count(editor.notes.notes.length, 'note'));
      requestAnimationFrame(() => note('retrackMs', Math.round(performance.now() - asked)));
    },
    onError: (error) => fail(error),
  });
  const available = (): Song | null => (phase === 'ready' ? song : null);
  const take = startTake(editor, tools, available, () => {
    if (song) song.taken = editor.doc;
  });

  // ---------------------------------------------------------------- a recording

  const setPhase = (next: Phase): void => {
    phase = next;
    document.body.dataset['state'] = next;
    byId('progress').hidden = next !== 'working';
    (byId('settings') as HTMLFieldSetElement).disabled = next !== 'ready';
    // Links, which a fieldset does not disable.
    for (const id of ['take-midi', 'take-csv', 'take-sound']) {
      byId(id).setAttribute('aria-disabled', String(next !== 'ready'));
    }
    show();
  };

  /** Nothing is open any more. The function it returns puts back what was. */
  const clear = (): (() => void) => {
    const { scene, view } = roll;
    const [last, position] = [song, transport.position()];
    transport.unload();
    roll.setPicture(null);
    const { backdrop, follow, showCandidates } = scene;
    roll.set({ ...EMPTY_SCENE, backdrop, follow, showCandidates });
    song = faint = null;
    speed = '';
    const [reopen, warnAgain] = [editor.begin(editor.doc.tracker), hush()];
    return () => {
      clear();
      song = last;
      document.title = last?.name ?? 'basic_transcribe';
      if (last) {
        setText(byId('song-name'), last.name);
        roll.setPicture(last.picture);
        roll.set({ duration: scene.duration, tuning: scene.tuning, peaks: scene.peaks });
        transport.load(last.file, scene.duration, last.silences);
        reopen();
        transport.setLoop(scene.loop, scene.isLooping);
        transport.seek(position);
        roll.setView(view);
        overview.redraw();
        warnAgain();
      }
      setPhase(last ? 'ready' : 'empty');
      byId(last ? 'stage' : 'choose').focus();
    };
  };

  /** What would be lost for good, in words; null if nothing would. */
  const unsaved = (): string | null => {
    const lost = [
      ...(editor.edits > 0 && song?.taken !== editor.doc ? [`${count(editor.edits, 'edit')} by hand`] : []),
      ...(song?.recorded && !song.saved ? ['the sound of your recording'] : []),
    ];
    return lost.length ? `You have not saved ${lost.join(' and ')}.` : null;
  };

  /** Whether another recording may take the place of the one that is open. */
  const mayGo = async (): Promise<boolean> => {
    const question = unsaved();
    return question === null || agreed(question);
  };

  const open = async (file: File, others = 0): Promise<void> => {
    if (byId('recorder', 'dialog').open) {
      setText(byId('recorder-text'), 'Still recording. Stop or discard it, then drop the file again.');
      return;
    }
    if (byId('confirm', 'dialog').open) return;
    byId('help-dialog', 'dialog').close();
    if (!(await mayGo())) return;
    transcribe(file, false);
    if (others) tell(`Only ${file.name} was opened, not the ${count(others, 'other')}: open them one by one.`);
  };

  const transcribe = (file: File, recorded: boolean): void => {
    const back = clear();
    putBack ??= back;
    song = { name: file.name, file, recorded, saved: false, tuning: 0, silences: [], picture: null, taken: null };
    [began, spokenShare] = [performance.now(), 0];
    setText(byId('song-name'), file.name);
    document.title = file.name;
    setText(byId('progress-text'), `Opening ${file.name}, ${megabytes(file.size)}…`);
    byId('progress-bar').removeAttribute('value');
    setPhase('working');
    say(`Transcribing ${file.name}`);
    byId('cancel').focus();
    void session.open(file);
  };

  /** The recording that is worked on does not open: what was open before comes back. */
  const giveUp = (said: string, kind: 'note' | 'error'): void => {
    const lost = song?.recorded && !song.saved ? song : null;
    session.cancel();
    putBack?.();
    putBack = null;
    if (lost) offer(lost, said, kind);
    else if (kind === 'error') tell(said, kind);
  };

  /** Of a recording that is not open, the sound at least can be had. */
  const offer = (lost: Song, said: string, kind: 'note' | 'error'): void =>
    tell(said, kind, { label: 'Save the sound', do: () => take.sound(lost) });

  const cancel = (): void => {
    giveUp(`${song?.name ?? 'The recording'} was not transcribed.`, 'note');
    say('Cancelled');
  };

  const showProgress = ({ seconds, total, notesSoFar, tuning }: Progress): void => {
    roll.set({ tuning });
    const rate = seconds / Math.max(0.05, (performance.now() - began) / 1000);
    const of = total === null ? '' : ` of ${clock(total)}`;
    speed = rate >= 2 ? `, ${Math.round(rate)}× real time` : '';
    setText(byId('progress-text'), `${clock(seconds)}${of}, ${count(notesSoFar, 'note')}${speed}`);
    const progress = byId('progress-bar') as unknown as HTMLProgressElement;
    if (total) {
      progress.max = total;
      progress.value = Math.min(seconds, total);
      const share = Math.floor((4 * seconds) / total);
      if (share > spokenShare) say(`${25 * share} percent, ${count(notesSoFar, 'note')}`);
      spokenShare = Math.max(spokenShare, share);
    }
    const length = total ?? seconds;
    if (Math.abs(length - roll.scene.duration) > 0.01) {
      roll.set({ duration: length });
      roll.setView(fitted(roll.view, 0, length, USUAL));
      overview.redraw();
    }
  };

  const finish = (result: Result): void => {
    if (!song) return;
    putBack = null;
    const { duration, tuning, peaks, silences } = result;
    roll.set({ duration, tuning, peaks });
    [song.tuning, song.silences] = [tuning, silences];
    transport.load(song.file, duration, silences);
    editor.setFound(result.notes);
    setPhase('ready');
    settings.inherit();
    const end = duration <= SHORT ? duration : CLOSE;
    roll.setView(fitted(roll.view, 0, end, result.notes));
    overview.redraw();
    for (const warning of result.warnings) tell(warning, 'warning');
    say(`Done: ${count(result.notes.length, 'note')}${heard()}`);
    byId('stage').focus();
    if (editor.doc.tracker !== defaults) void session.track(editor.doc.tracker);
  };

  const fail = (error: unknown): void => {
    if (phase !== 'working') return tell(reason(error), 'error');
    const name = song?.name ?? 'the recording';
    giveUp(`${name}: ${reason(error)}`, 'error');
    say(`${name} was not opened`);
  };

  // ---------------------------------------------------------------- what is shown

  /** What else was found out about the recording. */
  const heard = (): string => {
    const { tuning } = roll.scene;
    return tuning ? `, tuned to A = ${frequency(69 + tuning / 100).toFixed(1)} Hz` : '';
  };

  const show = (): void => {
    const { doc } = editor;
    const marked = doc.shape.scale !== null && doc.shape.scaleMode === 'mark';
    roll.set({
      notes: editor.notes,
      candidates: editor.candidates,
      selected: editor.selected,
      focused: document.activeElement?.id === 'stage' ? (editor.focused?.id ?? null) : null,
      scale: marked ? parseScale(doc.shape.scale ?? 'C') : null,
      range: [doc.tracker.minimumPitch, doc.tracker.maximumPitch],
      grid: editor.grid,
      hovered: faint,
    });
    const notes = editor.notes.notes.length;
    const { duration } = roll.scene;
    setText(byId('song-facts'), duration ? `${clock(duration)}, ${count(notes, 'note')}${heard()}` : '');
    setText(byId('take-count'), count(notes, 'note'));
    note('notes', notes);
    byId('no-notes').hidden = phase !== 'ready' || notes > 0;
    setText(byId('no-notes'), 'No notes were found. Move Note sensitivity to the right, or draw notes yourself.');
    byId('take-sound').hidden = !song?.recorded;
    const candidates = editor.candidates.notes.length;
    setText(byId('candidates').querySelector('span') as Element, candidates ? `${candidates} faint` : 'Faint notes');
    for (const [id, label] of [['undo', editor.undoLabel], ['redo', editor.redoLabel]] as const) {
      const button = byId(id, 'button');
      const name = id === 'undo' ? 'Undo' : 'Redo';
      button.disabled = label === null || phase !== 'ready';
      button.title = label === null ? name : `${name}: ${label}`;
      button.setAttribute('aria-label', button.title);
    }
    const hint = FINGERS.matches && tool === 'select' ? TOUCH_HINT : HINTS[tool];
    inspector.idle = phase === 'ready' ? hint : '';
    inspector.show(phase === 'ready');
  };

  editor.onChange = ({ notes, tracker }) => {
    if (notes) {
      faint = null;
      settings.show();
      transport.setNotes(editor.notes.notes);
      overview.redraw();
    }
    if (tracker && phase === 'ready') {
      asked = performance.now();
      void session.track(editor.doc.tracker);
    }
    show();
  };

  const showTransport = (): void => {
    const { playing, loop, isLooping } = transport;
    roll.set({ playing, loop, isLooping, playhead: transport.position() });
    bar.show();
    note('position', roll.scene.playhead);
    overview.update();
  };

  roll.position = () => transport.position();
  roll.onFrame = () => {
    bar.showTime(roll.scene.playhead);
    note('position', roll.scene.playhead);
    overview.update();
  };
  roll.onView = () => overview.update();
  overview.onDrag = () => setFollow(false);

  // ---------------------------------------------------------------- what is done

  const setFollow = (on: boolean): void => {
    roll.set({ follow: on });
    press(byId('follow'), on);
  };
  const setCandidates = (on: boolean): void => {
    roll.set({ showCandidates: on });
    press(byId('candidates'), on);
  };
  const setBackdrop = (backdrop: Backdrop): void => {
    roll.set({ backdrop });
    byId('backdrop', 'select').value = backdrop;
  };
  const toolInputs = document.querySelectorAll<HTMLInputElement>('input[name=tool]');
  const setTool = (next: Tool): void => {
    tool = next;
    for (const input of toolInputs) input.checked = input.value === next;
    byId('stage').dataset['cursor'] = next;
    show();
  };
  const zoom = (factor: number): void => {
    const { view, scene } = roll;
    const x = (scene.playhead - view.start) * view.scale;
    roll.setView(zoomedTime(view, factor, x > 0 && x < view.width ? x : view.width / 2, scene.duration));
  };
  const fit = (): void => roll.setView(fitted(roll.view, 0, roll.scene.duration, editor.notes.notes));
  const toggleLoop = (): void => {
    const chosen = editor.chosenNotes;
    if (transport.loop) return transport.setLooping(!transport.isLooping);
    if (!transport.duration) return;
    const [start, end] = chosen.length
      ? [chosen[0].onset, Math.max(...chosen.map((note) => note.offset))]
      : [roll.view.start, Math.min(transport.duration, endOf(roll.view))];
    transport.setLoop({ start, end });
  };
  const loopEdge = (edge: 'start' | 'end'): void => {
    const position = transport.position();
    const { start, end } = transport.loop ?? { start: 0, end: transport.duration };
    if (edge === 'start') transport.setLoop({ start: position, end: end > position ? end : transport.duration });
    else transport.setLoop({ start: start < position ? start : 0, end: position });
  };
  const travel = (way: 'undo' | 'redo'): void => {
    if (phase !== 'ready') return;
    const label = way === 'undo' ? editor.undo() : editor.redo();
    if (label !== null) say(`${way === 'undo' ? 'Undone' : 'Done again'}: ${label}`);
  };
  /** A note drawn by hand has no bend yet: it sounds in tune with the recording. */
  const tuned = (note: Note): Note => {
    const { tuning } = roll.scene;
    if (note.bend || !tuning) return note;
    return { ...note, bend: { start: note.onset, step: STEADY, semitones: Float32Array.of(tuning / 100) } };
  };
  const hear = (note: Note): void => {
    if (!transport.playing) transport.audition(tuned(note));
  };
  const accept = (note: Note): void => {
    if (phase !== 'ready') return;
    editor.add(note, false);
    hear(note);
    say(`accepted ${spokenPitch(note.pitch)}`);
  };

  const goTo = (note: RollNote | null, extend = false): void => {
    if (!note) return;
    editor.select(new Set([...(extend ? editor.selected : []), note.id]), note.id);
    setFollow(roll.scene.follow && !transport.playing);
    roll.setView(revealing(roll.view, note.onset, note.pitch));
    hear(note);
    say(spoken(note));
  };
  const step = (direction: 'left' | 'right' | 'up' | 'down', extend: boolean): void => {
    const { focused, notes } = editor;
    const first = notes.notes[notes.firstFrom(roll.view.start)] ?? notes.notes[0] ?? null;
    goTo(focused ? neighbour(notes.notes, focused, direction) : first, extend);
  };
  const tellCovered = (covered: number): void => {
    if (covered) tell(`${count(covered, 'note')} of the same pitch lay there and gave way; undo brings back what was.`);
  };
  const change = (label: string, edit: (note: RollNote) => Note): void => {
    const chosen = editor.chosenNotes;
    if (phase !== 'ready' || !chosen.length) return;
    tellCovered(editor.replace(chosen.map((note) => [note, edit(note)] as const), label, label));
    const note = editor.focused ?? editor.chosenNotes[0];
    if (note) {
      roll.setView(revealing(roll.view, note.onset, note.pitch));
      say(spoken(note));
    }
  };
  const unit = (): number => editor.grid?.step ?? NUDGE;
  const nudge = (seconds: number, semitones: number): void => {
    const [by, up] = heldShift(editor.chosenNotes, seconds, semitones);
    change('move', (note) => movedNote(note, by, up));
    const note = editor.focused ?? editor.chosenNotes[0];
    if (note && semitones) hear(note);
  };
  const stretch = (seconds: number): void =>
    change('stretch', (note) => {
      const end = Math.max(note.onset + SHORTEST, note.offset + seconds);
      return stretchedNote(note, note.onset, end, editor.notes.room(note));
    });
  const louder = (by: number): void => {
    const chosen = editor.chosenNotes;
    if (phase !== 'ready' || !chosen.length) return;
    editor.setVelocity(chosen.map((note) => [note, clampVelocity(note.velocity + by)] as const));
    const note = editor.focused ?? editor.chosenNotes[0];
    if (note) {
      hear(note);
      say(`velocity ${note.velocity}`);
    }
  };
  const nextFaint = (): void => {
    const after = faint?.onset ?? editor.focused?.onset ?? roll.view.start;
    const { notes } = editor.candidates;
    const at = faint ? notes.indexOf(faint) + 1 : editor.candidates.firstFrom(after);
    faint = notes[at] ?? notes[0] ?? null;
    if (!faint) return say('no faint notes');
    setCandidates(true);
    roll.setView(revealing(roll.view, faint.onset, faint.pitch));
    roll.set({ hovered: faint });
    hear(faint);
    say(`faint note ${spokenPitch(faint.pitch)} at ${clock(faint.onset, 1)}, A accepts it`);
  };
  const remove = (): void => {
    if (phase !== 'ready') return;
    const removed = editor.remove();
    if (removed) say(`${count(removed, 'note')} deleted`);
  };

  // ---------------------------------------------------------------- bindings

  const gestures = new Gestures(roll, byId('stage'), byId('ruler'), byId('keys'), {
    get tool() {
      return tool;
    },
    get editable() {
      return phase === 'ready';
    },
    get grid() {
      return editor.grid;
    },
    select: (ids, focus) => {
      editor.select(ids, focus);
      const note = editor.focused;
      if (note) say(spoken(note));
    },
    replace: (pairs, label) => tellCovered(editor.replace(pairs, label)),
    draw: (note) => tellCovered(editor.add(tuned(note), true)),
    accept,
    seek: (time) => {
      if (phase === 'ready') transport.seek(time);
    },
    loop: (region) => {
      if (phase === 'ready') transport.setLoop(region);
    },
    audition: hear,
    wander: () => {
      if (transport.playing) setFollow(false);
    },
  });

  const choose = startFiles(
    (file, others) => void open(file, others),
    () => tell('That was no file. Drop a recording.', 'error'),
  );
  const startRecording = startRecorder(
    (file) => transcribe(file, true),
    (file) => {
      const lost = { name: file.name, file, tuning: 0, recorded: true, saved: false };
      offer(lost, `${file.name} was not transcribed.`, 'note');
    },
  );
  // Asked before, not after: then there would be a take to lose as well.
  const record = async (): Promise<void> => {
    if (await mayGo()) startRecording();
  };
  for (const id of ['choose', 'open']) onClick(id, choose);
  for (const id of ['record', 'record-again']) onClick(id, () => void record());
  onClick('cancel', cancel);
  onClick('undo', () => travel('undo'));
  onClick('redo', () => travel('redo'));
  onClick('follow', () => setFollow(!roll.scene.follow));
  onClick('candidates', () => setCandidates(!roll.scene.showCandidates));
  onClick('zoom-in', () => zoom(ZOOM));
  onClick('zoom-out', () => zoom(1 / ZOOM));
  onClick('zoom-fit', fit);
  onClick('help', () => byId('help-dialog', 'dialog').showModal());
  const backdrop = byId('backdrop', 'select');
  backdrop.addEventListener('change', () => setBackdrop(backdrop.value as Backdrop));
  for (const input of toolInputs) {
    input.addEventListener('change', () => setTool(input.value as Tool));
  }
  for (const event of ['focus', 'blur']) byId('stage').addEventListener(event, show);
  byId('help-dialog').addEventListener('click', (event) => {
    if (event.target === event.currentTarget) byId('help-dialog', 'dialog').close();
  });
  addEventListener('beforeunload', (event) => {
    if (unsaved() !== null || offering() || byId('recorder', 'dialog').open) event.preventDefault();
  });

  const pitchZoom = (factor: number): void =>
    roll.setView(zoomedPitch(roll.view, factor, roll.view.height / 2, roll.scene.duration));
  const escape = (): void => {
    if (gestures.cancel()) return;
    if (phase === 'working') cancel();
    else editor.select(new Set(), null);
  };
  const nextBackdrop = (): void => setBackdrop(BACKDROPS[(BACKDROPS.indexOf(roll.scene.backdrop) + 1) % 3]);
  const shortcuts: Shortcut[] = [
    { keys: ['space'], shown: 'Space', text: 'play or pause', do: () => transport.toggle() },
    { keys: ['home'], shown: 'Home', text: 'back to the start', do: () => transport.seek(0) },
    { keys: ['end'], shown: null, text: '', do: () => transport.seek(transport.duration) },
    { keys: ['l'], shown: 'L', text: 'loop on or off', do: toggleLoop },
    { keys: ['['], shown: '[ or ]', text: 'loop from here, up to here', do: () => loopEdge('start') },
    { keys: [']'], shown: null, text: '', do: () => loopEdge('end') },
    { keys: ['1'], shown: '1 2 3', text: 'hear recording, both, notes', do: () => bar.setBalance(0) },
    { keys: ['2'], shown: null, text: '', do: () => bar.setBalance(0.5) },
    { keys: ['3'], shown: null, text: '', do: () => bar.setBalance(1) },
    { keys: ['arrowleft'], shown: '← → ↑ ↓', text: 'go to the next note', do: () => step('left', false), onRoll: true },
    { keys: ['arrowright'], shown: null, text: '', do: () => step('right', false), onRoll: true },
    { keys: ['arrowup'], shown: null, text: '', do: () => step('up', false), onRoll: true },
    { keys: ['arrowdown'], shown: null, text: '', do: () => step('down', false), onRoll: true },
    { keys: ['shift+arrowleft'], shown: 'Shift ← →', text: 'and select it too', do: () => step('left', true), onRoll: true },
    { keys: ['shift+arrowright'], shown: null, text: '', do: () => step('right', true), onRoll: true },
    { keys: ['shift+arrowup'], shown: null, text: '', do: () => step('up', true), onRoll: true },
    { keys: ['shift+arrowdown'], shown: null, text: '', do: () => step('down', true), onRoll: true },
    { keys: ['enter'], shown: 'Enter', text: 'hear the note', do: () => editor.focused && hear(editor.focused), onRoll: true },
    { keys: ['alt+arrowleft'], shown: 'Alt ← → ↑ ↓', text: 'move the selected notes', do: () => nudge(-unit(), 0) },
    { keys: ['alt+arrowright'], shown: null, text: '', do: () => nudge(unit(), 0) },
    { keys: ['alt+arrowup'], shown: null, text: '', do: () => nudge(0, 1) },
    { keys: ['alt+arrowdown'], shown: null, text: '', do: () => nudge(0, -1) },
    { keys: ['alt+shift+arrowleft'], shown: 'Alt Shift ← →', text: 'shorten or lengthen them', do: () => stretch(-unit()) },
    { keys: ['alt+shift+arrowright'], shown: null, text: '', do: () => stretch(unit()) },
    { keys: ['alt+shift+arrowup'], shown: null, text: '', do: () => nudge(0, 12) },
    { keys: ['alt+shift+arrowdown'], shown: null, text: '', do: () => nudge(0, -12) },
    { keys: [','], shown: ', or .', text: 'softer, louder', do: () => louder(-5) },
    { keys: ['.'], shown: null, text: '', do: () => louder(5) },
    { keys: ['delete', 'backspace'], shown: 'Del', text: 'delete the selected notes', do: remove },
    { keys: ['n'], shown: 'N', text: 'go to the next faint note', do: nextFaint },
    { keys: ['a'], shown: 'A', text: 'accept it', do: () => faint && accept(faint) },
    { keys: ['v'], shown: 'V or D', text: 'select, draw', do: () => setTool('select') },
    { keys: ['d'], shown: null, text: '', do: () => setTool('draw') },
    { keys: ['ctrl+z'], shown: 'Ctrl Z', text: 'undo', do: () => travel('undo') },
    { keys: ['ctrl+shift+z', 'ctrl+y'], shown: 'Ctrl Shift Z', text: 'redo', do: () => travel('redo') },
    { keys: ['ctrl+a'], shown: 'Ctrl A', text: 'select all notes', do: () => editor.selectAll() },
    { keys: ['escape'], shown: 'Esc', text: 'select none; cancel, also what is being dragged', do: escape },
    { keys: ['+', '='], shown: '+ or −', text: 'zoom', do: () => zoom(ZOOM) },
    { keys: ['-'], shown: null, text: '', do: () => zoom(1 / ZOOM) },
    { keys: ['alt++', 'alt+='], shown: 'Alt + or −', text: 'zoom the pitches', do: () => pitchZoom(1.25) },
    { keys: ['alt+-'], shown: null, text: '', do: () => pitchZoom(0.8) },
    { keys: ['0'], shown: '0', text: 'show all', do: fit },
    { keys: ['f'], shown: 'F', text: 'follow what is heard', do: () => setFollow(!roll.scene.follow) },
    { keys: ['c'], shown: 'C', text: 'faint notes on or off', do: () => setCandidates(!roll.scene.showCandidates) },
    { keys: ['b'], shown: 'B', text: 'change what is behind the notes', do: nextBackdrop },
    { keys: ['t'], shown: 'T', text: 'tap the tempo', do: () => phase === 'ready' && settings.tap(performance.now()) },
    { keys: ['o'], shown: 'O or R', text: 'open, record', do: choose },
    { keys: ['r'], shown: null, text: '', do: () => void record() },
    { keys: ['ctrl+s'], shown: 'Ctrl S', text: 'save the MIDI file', do: () => phase === 'ready' && take.midi() },
    { keys: ['?'], shown: '?', text: 'this help', do: () => byId('help-dialog', 'dialog').showModal() },
  ];
  startShortcuts(shortcuts);
  steadySliders();
  startTheme(() => {
    roll.repaint();
    overview.redraw();
  });
  byId('insecure').hidden = isSecureContext;
  setPhase('empty');
  byId('dead').remove();
  session.ready().catch((error: unknown) => tell(reason(error), 'error'));
}

/** Leave a figure on the page, for tests and the curious. */
function note(name: string, value: number): void {
  document.body.dataset[name] = String(value);
}

/** Ask before something is lost. */
function agreed(question: string): Promise<boolean> {
  const dialog = byId('confirm', 'dialog');
  setText(byId('confirm-text'), question);
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}
