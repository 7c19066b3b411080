import type { Cancel } from '@nestjs-secrets/core';

interface Event {
  readonly at: number;
  readonly order: number;
  /** What kind of thing happens, in a word or two: goes into the fingerprint. */
  readonly kind: string;
  run: (() => void) | undefined;
}

/**
 * Virtual time: events in order of their time, run one after the other, each only after everything that the one before had set off has come
 * to rest. No real timer, no real clock and no I/O play any part.
 */
export class EventQueue {
  readonly #heap: Event[] = [];
  #now = 0;
  #order = 0;
  #events = 0;
  #fingerprint = 0x811c9dc5;

  /** Milliseconds since the world began, on its own clock, which no process can see. */
  get now(): number {
    return this.#now;
  }

  /** How many events have happened. */
  get events(): number {
    return this.#events;
  }

  /** Of two runs that did the same the same, of others most probably not. */
  get fingerprint(): number {
    return this.#fingerprint >>> 0;
  }

  /** Runs `run` once, `delayMs` from now; events of the same time in the order they were asked for. */
  after(delayMs: number, kind: string, run: () => void): Cancel {
    const event: Event = { at: this.#now + Math.max(0, delayMs), order: this.#order, kind, run };
    this.#order += 1;
    this.#push(event);
    return () => {
      event.run = undefined;
    };
  }

  /** Adds to the fingerprint. */
  note(word: string): void {
    let print = this.#fingerprint;
    for (let index = 0; index < word.length; index += 1) print = Math.imul(print ^ word.charCodeAt(index), 0x01000193);
    this.#fingerprint = print;
  }

  /**
   * Runs events until `isOver`, which is asked after each of them, says so, or none is left. Rejects with what it throws.
   *
   * In between, the queue of microtasks is emptied: a callback of `process.nextTick` that was itself asked for by a microtask runs when no
   * microtask is left. So the chains of promises which an event resolved come to rest before the next event, however long they are.
   */
  run(isOver: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const step = (): void => {
        try {
          if (isOver()) return resolve();
          const event = this.#pop();
          if (event?.run === undefined) return resolve();
          this.#now = event.at;
          this.#events += 1;
          this.note(event.kind);
          this.#fingerprint = Math.imul(this.#fingerprint ^ Math.floor(event.at * 16), 0x01000193);
          event.run();
        } catch (error) {
          return reject(error);
        }
        queueMicrotask(rest);
      };
      const rest = (): void => process.nextTick(step);
      queueMicrotask(rest);
    });
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let index = heap.length;
    heap.push(event);
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = heap[above];
      if (parent === undefined || !isBefore(event, parent)) break;
      heap[index] = parent;
      index = above;
    }
    heap[index] = event;
  }

  /** The next event that was not taken back. */
  #pop(): Event | undefined {
    for (;;) {
      const first = this.#heap[0];
      const last = this.#heap.pop();
      if (first === undefined || last === undefined) return undefined;
      if (this.#heap.length > 0) this.#sink(last);
      if (first.run !== undefined) return first;
    }
  }

  #sink(event: Event): void {
    const heap = this.#heap;
    let index = 0;
    for (;;) {
      let below = 2 * index + 1;
      const [left, right] = [heap[below], heap[below + 1]];
      if (left === undefined) break;
      let child = left;
      if (right !== undefined && isBefore(right, left)) {
        child = right;
        below += 1;
      }
      if (!isBefore(child, event)) break;
      heap[index] = child;
      index = below;
    }
    heap[index] = event;
  }
}

function isBefore(one: Event, other: Event): boolean {
  return one.at < other.at || (one.at === other.at && one.order < other.order);
}
