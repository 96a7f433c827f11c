/** A value that remembers what it was, for undo and redo. Values are immutable, so that remembering costs nothing. */

interface Step<T> {
  value: T;
  /** What led away from this value, for people: `delete 3 notes`. */
  label: string;
}

const LONGEST = 500; // steps remembered
const MERGE = 1000; // milliseconds within which changes of one kind are one step, as when a slider is dragged

export class History<T> {
  private current: T;
  private readonly now: () => number;
  private past: Step<T>[] = [];
  private future: Step<T>[] = [];
  private mergeKey: string | null = null;
  private mergeTime = 0;

  constructor(value: T, now: () => number = () => performance.now()) {
    this.current = value;
    this.now = now;
  }

  get value(): T {
    return this.current;
  }

  /** What `undo` would take back; null if there is nothing. */
  get undoLabel(): string | null {
    return this.past.at(-1)?.label ?? null;
  }

  get redoLabel(): string | null {
    return this.future.at(-1)?.label ?? null;
  }

  /** Change the value. Changes of the same `merge` key that follow each other closely are undone together. */
  commit(value: T, label: string, merge: string | null = null): void {
    const time = this.now();
    const merged = merge !== null && merge === this.mergeKey && time - this.mergeTime < MERGE && this.past.length > 0;
    if (!merged) this.past.push({ value: this.current, label });
    if (this.past.length > LONGEST) this.past.shift();
    this.current = value;
    this.future = [];
    this.mergeKey = merge;
    this.mergeTime = time;
  }

  /** What follows is a step of its own, whatever its key. */
  settle(): void {
    this.mergeKey = null;
  }

  undo(): string | null {
    return this.travel(this.past, this.future);
  }

  redo(): string | null {
    return this.travel(this.future, this.past);
  }

  private travel(from: Step<T>[], to: Step<T>[]): string | null {
    const step = from.pop();
    if (!step) return null;
    to.push({ value: this.current, label: step.label });
    this.current = step.value;
    this.mergeKey = null;
    return step.label;
  }
}
