import { setMaxListeners } from 'node:events';
import type { Instance } from '../fleet/instance.js';
import type { InstanceWatch } from '../fleet/instance-watch.js';
import { isSecretsError, RotationInterruptedError } from '../foundation/errors.js';
import type { SecretRecord } from '../versions/secret-record.js';
import type { JointEdit, RotationJournal } from './rotation-journal.js';
import { isUnfinished, type RotationState } from './rotation-state.js';

/**
 * The time in which this process is the one that rotates a secret. Everything the engine writes about a rotation goes through here, under the
 * token of the lease; it ends when the rotation has come to its end, when another instance was let in, or when the lease was lost.
 */
export class Tenure {
  readonly #over = new AbortController();
  #isReleased = false;

  constructor(
    readonly secretName: string,
    readonly token: number,
    private readonly journal: RotationJournal,
    private readonly instance: Instance,
    private readonly forget: (tenure: Tenure) => void,
  ) {
    // One for each obligation that waits.
    setMaxListeners(0, this.#over.signal);
  }

  /** Whether this process let go of the lease by itself, since nothing was left to be done under it: it can have it again. */
  get isReleased(): boolean {
    return this.#isReleased;
  }

  /** Aborted when the tenure ends before the work is done. */
  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /** @throws RotationInterruptedError when somebody else may be rotating this secret by now */
  assertHolder(): void {
    // Over for good: what is unfinished is taken up again under another token, here or elsewhere, once the lease holds.
    if (!this.instance.isLive()) this.end();
    if (this.#over.signal.aborted) throw new RotationInterruptedError(this.secretName);
  }

  /**
   * The state of the journal.
   * @throws RotationInterruptedError when it says that the lease is another's by now
   */
  async read(): Promise<RotationState> {
    const state = await this.journal.read(this.secretName);
    if (state.lease?.token === this.token) return state;
    this.end();
    throw new RotationInterruptedError(this.secretName);
  }

  /** See `RotationJournal.change`. */
  async change(edit: (state: RotationState) => RotationState | undefined): Promise<RotationState> {
    return this.#kept(this.journal.change(this.secretName, this.token, edit), (state) => state);
  }

  /** See `RotationJournal.changeBoth`. */
  async changeBoth(
    edit: (
      state: RotationState,
      record: SecretRecord | undefined,
    ) => Promise<JointEdit | undefined> | JointEdit | undefined,
  ): Promise<{ state: RotationState; record: SecretRecord }> {
    return this.#kept(this.journal.changeBoth(this.secretName, this.token, edit), ({ state }) => state);
  }

  /** Lets go of the lease where nothing is under way, or where nothing but waiting is and another instance wants it. */
  async release(): Promise<void> {
    await this.change((state) => state);
  }

  /** Removes the secret, with all its values and its journal. */
  async remove(): Promise<void> {
    await this.journal.remove(this.secretName, this.token);
    this.#release();
  }

  /** Lets others in at once where this instance works no more, whatever is under way. Never throws: without it they come in when the instance has left. */
  async abandon(): Promise<void> {
    const withoutLease = ({ lease, ...state }: RotationState): RotationState | undefined =>
      lease?.token === this.token ? state : undefined;
    await this.journal.annotate(this.secretName, withoutLease).catch(() => undefined);
  }

  /** Stops whatever works under it. */
  end(): void {
    this.forget(this);
    this.#over.abort();
  }

  #release(): void {
    this.#isReleased = true;
    this.forget(this);
  }

  async #kept<R>(change: Promise<R>, stateOf: (result: R) => RotationState): Promise<R> {
    try {
      const result = await change;
      const state = stateOf(result);
      if (state.lease?.token !== this.token) {
        // Work that others go on with must stop here; what is through may still say so.
        if (isUnfinished(state)) this.end();
        else this.#release();
      }
      return result;
    } catch (error) {
      // Without an answer nobody knows what the journal says by now, the lease included: whoever goes on takes a new one.
      if (isSecretsError(error, 'ROTATION_INTERRUPTED') || isSecretsError(error, 'STORE_UNAVAILABLE')) this.end();
      throw error;
    }
  }
}

/** The tenures of this process, at most one a secret. */
export class Tenures {
  readonly #held = new Map<string, Tenure>();
  readonly #entering = new Map<string, Promise<Tenure | RotationState>>();

  constructor(
    private readonly journal: RotationJournal,
    private readonly instance: Instance,
    private readonly instances: InstanceWatch,
  ) {
    instance.listen({ lapsed: () => void this.endAll() });
  }

  holds(secretName: string): boolean {
    return this.#held.has(secretName);
  }

  /** Whether this process is just taking the lease up. */
  isEntering(secretName: string): boolean {
    return this.#entering.has(secretName);
  }

  get(secretName: string): Tenure | undefined {
    return this.#held.get(secretName);
  }

  /**
   * The tenure of a secret, taken up when it is free or its holder is gone; the state of the journal when another instance has it.
   * @throws RotationInterruptedError when this process has lost touch with the others
   */
  enter(secretName: string): Promise<Tenure | RotationState> {
    const held = this.#held.get(secretName);
    if (held !== undefined) return Promise.resolve(held);
    let entering = this.#entering.get(secretName);
    if (entering === undefined) {
      entering = this.#enter(secretName).finally(() => this.#entering.delete(secretName));
      this.#entering.set(secretName, entering);
    }
    return entering;
  }

  endAll(): Tenure[] {
    const tenures = [...this.#held.values()];
    for (const tenure of tenures) tenure.end();
    return tenures;
  }

  async #enter(secretName: string): Promise<Tenure | RotationState> {
    if (!this.instance.isLive()) throw new RotationInterruptedError(secretName);
    const state = await this.journal.take(secretName, this.instance.id, (holder) => this.instances.isGone(holder));
    if (state.lease === undefined || state.lease.holder !== this.instance.id) return state;
    const forget = (tenure: Tenure): void => {
      if (this.#held.get(secretName) === tenure) this.#held.delete(secretName);
    };
    const tenure = new Tenure(secretName, state.lease.token, this.journal, this.instance, forget);
    this.#held.set(secretName, tenure);
    return tenure;
  }
}
