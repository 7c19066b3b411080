import type { Cancel } from '../foundation/clock.js';
import type { EngineContext } from './engine-context.js';
import { isUnfinished } from './rotation-state.js';

export interface AdoptionDuties {
  /** Whether this instance is at work on the secret already. */
  isBusy(secretName: string): boolean;
  /** Takes on what is unfinished, if the lease can be had. */
  goOn(secretName: string): Promise<void>;
  /** Revokes what belonged to instances that are gone. */
  reap(): Promise<void>;
}

/**
 * Looks after rotations that nobody works on: those of instances that died, and those that this one had to let go of. Also lets go of what another
 * instance asks for.
 */
export class Adoption {
  #next: Cancel | undefined;
  #unwatch: Cancel | undefined;
  #unlisten: Cancel | undefined;
  #looking: Promise<void> | undefined;
  #stopped = false;

  constructor(
    private readonly context: EngineContext,
    private readonly duties: AdoptionDuties,
  ) {}

  async start(): Promise<void> {
    const { journal, instance } = this.context;
    this.#unwatch = journal.watch((name) => {
      if (name !== undefined) void this.#yield(name);
    });
    this.#unlisten = instance.listen({ back: () => void this.#look() });
    await this.#look();
  }

  stop(): void {
    this.#stopped = true;
    this.#next?.();
    this.#unwatch?.();
    this.#unlisten?.();
  }

  #look(): Promise<void> {
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = undefined;
      this.#schedule();
    });
    return this.#looking;
  }

  #schedule(): void {
    const { clock, randomness, instances } = this.context;
    this.#next?.();
    if (this.#stopped) return;
    // A holder that fell silent is found out only by looks that follow each other closely.
    const delay = instances.lookEveryMs * 0.75 + randomness.below(Math.ceil(instances.lookEveryMs / 4));
    this.#next = clock.after(delay, () => void this.#look());
  }

  async #lookOnce(): Promise<void> {
    const { journal, tenures } = this.context;
    try {
      for (const name of await journal.unfinished()) {
        if (this.#stopped) return;
        if (tenures.isEntering(name)) continue;
        const held = tenures.holds(name);
        if (held) await this.#yield(name);
        // What is held may have come to a stop as well: a commit whose answer was lost has perhaps begun what nobody here knows of.
        const isOpen = held ? isUnfinished(await journal.read(name)) && tenures.holds(name) : await this.#isFree(name);
        if (isOpen && !this.duties.isBusy(name)) this.duties.goOn(name).catch(() => undefined);
      }
      await this.duties.reap();
    } catch {
      // The store or a target is away; there is another look soon.
    }
  }

  async #isFree(name: string): Promise<boolean> {
    const { journal, instances, instance, rotators } = this.context;
    try {
      const { lease, active, obligations } = await journal.read(name);
      // An instance without the rotator must not keep it from those that have it.
      const wanted = [...(active === undefined ? [] : [active]), ...obligations];
      if (!wanted.every(({ rotator }) => rotators.has(rotator))) return false;
      return lease === undefined || lease.holder === instance.id || (await instances.isGone(lease.holder));
    } catch {
      // A journal that does not parse must not keep the others from going on; it fails when its own secret is rotated.
      return false;
    }
  }

  /** Lets another instance in that waits for the lease: between two pieces of work, which the journal knows. */
  async #yield(name: string): Promise<void> {
    const { journal, tenures, instance } = this.context;
    const tenure = tenures.get(name);
    if (tenure === undefined) return;
    try {
      const { lease } = await journal.read(name);
      if (lease?.wantedBy === undefined || lease.wantedBy === instance.id || this.duties.isBusy(name)) return;
      await tenure.release();
    } catch {
      // Asked again at the next look.
    }
  }
}
