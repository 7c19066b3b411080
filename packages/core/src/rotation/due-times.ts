interface DueTime {
  readonly name: string;
  readonly at: number;
}

/** Names by the time they are due: a binary heap, so that setting one among many costs little. A time that was replaced is skipped when it comes up. */
export class DueTimes {
  readonly #times = new Map<string, DueTime>();
  readonly #heap: DueTime[] = [];

  get size(): number {
    return this.#times.size;
  }

  /** Sets when `name` is due; undefined takes it off. */
  set(name: string, at: number | undefined): void {
    this.#times.delete(name);
    if (at === undefined) return;
    const entry = { name, at };
    this.#times.set(name, entry);
    this.#heap.push(entry);
    this.#rise(this.#heap.length - 1);
    // Replaced times must not outgrow those that count.
    if (this.#heap.length > 2 * this.#times.size + 64) this.#rebuild();
  }

  /** The earliest time there is. */
  earliest(): number | undefined {
    this.#dropReplaced();
    return this.#heap[0]?.at;
  }

  /** Takes off and returns a name that is due at `now`; undefined when there is none. */
  take(now: number): string | undefined {
    this.#dropReplaced();
    const first = this.#heap[0];
    if (first === undefined || first.at > now) return undefined;
    this.#pop();
    this.#times.delete(first.name);
    return first.name;
  }

  clear(): void {
    this.#times.clear();
    this.#heap.length = 0;
  }

  #dropReplaced(): void {
    for (let first = this.#heap[0]; first !== undefined; first = this.#heap[0]) {
      if (this.#times.get(first.name) === first) return;
      this.#pop();
    }
  }

  #rebuild(): void {
    this.#heap.splice(0, this.#heap.length, ...this.#times.values());
    this.#heap.sort((one, other) => one.at - other.at);
  }

  #pop(): void {
    const last = this.#heap.pop();
    if (last === undefined || this.#heap.length === 0) return;
    this.#heap[0] = last;
    this.#sink(0);
  }

  #rise(start: number): void {
    for (let index = start; index > 0;) {
      const parent = (index - 1) >> 1;
      if (!this.#isEarlier(index, parent)) return;
      this.#swap(index, parent);
      index = parent;
    }
  }

  #sink(start: number): void {
    for (let index = start; ;) {
      const left = 2 * index + 1;
      const child = this.#isEarlier(left + 1, left) ? left + 1 : left;
      if (!this.#isEarlier(child, index)) return;
      this.#swap(index, child);
      index = child;
    }
  }

  #isEarlier(index: number, other: number): boolean {
    const [one, two] = [this.#heap[index], this.#heap[other]];
    return one !== undefined && two !== undefined && one.at < two.at;
  }

  #swap(index: number, other: number): void {
    const [one, two] = [this.#heap[index], this.#heap[other]];
    if (one === undefined || two === undefined) return;
    this.#heap[index] = two;
    this.#heap[other] = one;
  }
}
