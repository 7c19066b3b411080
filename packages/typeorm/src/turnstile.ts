import { systemClock, type Deadline } from '@nestjs-secrets/core';

/** Lets so many in at a time. Who waits longer than its deadline leaves the queue, and nothing of it stays behind. */
export class Turnstile {
  readonly #waiting = new Set<() => void>();

  constructor(private free: number) {}

  async enter(deadline: Deadline): Promise<void> {
    if (this.free > 0) {
      this.free -= 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const cancel = systemClock.after(deadline.leftMs, () => {
        this.#waiting.delete(pass);
        reject(new Error('timed out waiting for a connection'));
      });
      const pass = (): void => {
        cancel();
        resolve();
      };
      this.#waiting.add(pass);
    });
  }

  leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.free += 1;
      return;
    }
    this.#waiting.delete(next);
    next();
  }
}
