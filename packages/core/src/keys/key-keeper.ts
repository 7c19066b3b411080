import { type Cancel, pause } from '../foundation/clock.js';
import { isSecretsError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import type { CmkRef } from '../encryption/key-provider.js';
import type { KeyDestruction } from './key-destruction.js';
import type { KeyContext } from './key-parts.js';
import type { KeyPublication } from './key-publication.js';
import type { Rewrap } from './rewrap.js';
import { type KeyTask, taskKey } from './key-tasks.js';

const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 30_000;

/** What comes up by itself. */
export interface KeyChores {
  /** A version has wrapped as much as it should. */
  replaceAtLimit(cmk: CmkRef): Promise<void>;
  /** Somebody may have added versions where the provider has its keys. */
  takeUpNewVersions(): Promise<void>;
}

/**
 * What goes on with keys in the background of every instance: says which key versions it has, carries out what was begun here, and goes on with what others left
 * when they stopped or died.
 */
export class KeyKeeper {
  readonly #running = new Map<string, Promise<void>>();
  readonly #limits = new Set<string>();
  #looking: Promise<void> | undefined;
  /** Whether to look once more, and whether to carry out what is found then. */
  #again: { carriesOut: boolean } | undefined;
  #timer: Cancel | undefined;
  readonly #ends: Cancel[] = [];

  constructor(
    private readonly context: KeyContext,
    private readonly randomness: Randomness,
    private readonly publication: KeyPublication,
    private readonly rewrap: Rewrap,
    private readonly destruction: KeyDestruction,
    private readonly chores: KeyChores,
  ) {}

  /** Begins: from now on this instance takes part. `carriesOut` false: it says which versions it has, and no more. */
  async start(carriesOut: boolean): Promise<void> {
    const { tasks, versions } = this.context;
    this.#ends.push(tasks.watch(() => void this.look(carriesOut)));
    if (carriesOut) {
      this.#ends.push(versions.keys.onWrapLimit((cmk) => this.#replaceAtLimit(cmk)));
      await this.#quietly('taking up new key versions', () => this.chores.takeUpNewVersions());
    }
    this.#ends.push(versions.keys.onChange(() => void this.#tidy()));
    await this.#tidy();
    await this.look(carriesOut);
  }

  /** Stops; what is under way goes on elsewhere, or after the next start. */
  async stop(): Promise<void> {
    for (const end of this.#ends.splice(0)) end();
    this.#timer?.();
    await this.#looking;
    await Promise.allSettled(this.#running.values());
  }

  /** Looks at what is under way, once at a time, and again when that was asked for meanwhile. */
  look(carriesOut: boolean): Promise<void> {
    if (this.context.signal.aborted) return Promise.resolve();
    if (this.#looking !== undefined) {
      this.#again = { carriesOut: carriesOut || this.#again?.carriesOut === true };
      return this.#looking;
    }
    this.#looking = this.#lookOnce(carriesOut).finally(() => {
      this.#looking = undefined;
      const again = this.#again;
      if (again === undefined) return;
      this.#again = undefined;
      void this.look(again.carriesOut);
    });
    return this.#looking;
  }

  async #lookOnce(carriesOut: boolean): Promise<void> {
    const { tasks, clock, instance, instances, signal } = this.context;
    let isWaiting = false;
    await this.#quietly('looking after keys', async () => {
      const open = await tasks.list();
      await this.publication.acknowledge(open);
      for (const one of carriesOut ? open : []) {
        if (await tasks.take(one)) this.#carryOut(one.task);
        else isWaiting = true;
      }
    });
    this.#timer?.();
    if (signal.aborted) return;
    // Whoever has fallen silent is found to be gone only by looking often; with nothing open, hints come in time.
    const usual = isWaiting ? instances.lookEveryMs : instance.leaseMs;
    this.#timer = clock.after(usual - this.randomness.below(Math.ceil(usual / 4)), () => void this.look(carriesOut));
  }

  /** Each instance destroys what is destroyed where its own provider has its keys. */
  async #tidy(): Promise<void> {
    await this.#quietly('destroying keys', () => this.destruction.tidyProvider());
  }

  #carryOut(task: KeyTask): void {
    const key = taskKey(task);
    if (this.#running.has(key)) return;
    const running = this.#untilDone(task).finally(() => this.#running.delete(key));
    this.#running.set(key, running);
  }

  async #untilDone(task: KeyTask): Promise<void> {
    const { clock, signal, tasks } = this.context;
    for (let attempt = 0; !signal.aborted; attempt += 1) {
      const isDone = await this.#quietly(`the ${task.kind} of a key`, async () => {
        if (task.kind === 'publish') await this.publication.run(task);
        else await this.rewrap.run(task);
      });
      if (isDone) break;
      const longest = Math.min(LONGEST_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(attempt, 10));
      await pause(clock, 1 + this.randomness.below(longest), signal);
    }
    // Others need not wait until this instance is found to be gone.
    if (signal.aborted) await tasks.leave(task).catch(() => undefined);
  }

  #replaceAtLimit(cmk: CmkRef): void {
    const name = `${cmk.id}:${cmk.version}`;
    if (this.#limits.has(name) || this.context.signal.aborted) return;
    this.#limits.add(name);
    const rotating = this.#quietly('rotating a key at its limit', () => this.chores.replaceAtLimit(cmk)).then(() => {
      this.#limits.delete(name);
    });
    this.#running.set(name, rotating);
    void rotating.finally(() => this.#running.delete(name));
  }

  /** Whether the work went through; tells of it when it did not. */
  async #quietly(what: string, work: () => Promise<void>): Promise<boolean> {
    const { clock, events, signal } = this.context;
    try {
      await work();
      return true;
    } catch (error) {
      const message = isSecretsError(error) ? `${error.code}: ${error.message}` : 'an error of another kind';
      if (!signal.aborted) events.next({ type: 'failed', at: clock.now(), what, message });
      return false;
    }
  }
}
