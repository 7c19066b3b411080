/**
 * The places where a process may be killed: each side of each effect, in the order the process comes by. A run without a target lists them
 * in `passed`; a run with one of those names as its target ends there by SIGKILL, as by a power cut.
 */
export class CrashPoints {
  readonly passed: string[] = [];
  readonly #counts = new Map<string, number>();
  #armed = false;

  constructor(private target?: string) {}

  /** Points before this are not counted. */
  arm(target = this.target): void {
    this.target = target;
    this.#armed = true;
  }

  /** Runs an effect between two points. */
  async around<T>(effect: string, run: () => Promise<T> | T): Promise<T> {
    if (!this.#armed) return run();
    const count = (this.#counts.get(effect) ?? 0) + 1;
    this.#counts.set(effect, count);
    await this.#pass(`before ${effect} ${count}`);
    const result = await run();
    await this.#pass(`after ${effect} ${count}`);
    return result;
  }

  async #pass(point: string): Promise<void> {
    this.passed.push(point);
    if (point !== this.target) return;
    process.kill(process.pid, 'SIGKILL');
    await new Promise(() => undefined);
  }
}
