import type { Cancel } from '../foundation/clock.js';
import { ACKNOWLEDGEMENT_PREFIX } from '../fleet/acknowledgements.js';
import type { VersionUse } from '../fleet/consumers.js';
import { REPORT_PREFIX } from '../fleet/failure-reports.js';
import { INSTANCE_PREFIX } from '../fleet/instance-record.js';
import type { StoreCondition } from '../store/store-driver.js';
import { type EngineContext, loadVersion } from './engine-context.js';
import type { RetireObligation, SettleReport } from './rotation-state.js';
import type { Tenure } from './rotation-tenure.js';
import { type Trigger, waitUntil } from './wait-until.js';

/** What a settling version has to do with the rest of the engine. */
export interface SettlingSurroundings {
  onChange(listener: (secretName: string) => void): Cancel;
  putBack(): Promise<boolean>;
}

/** A version that may be retired, and what must still be true when that is committed. */
export interface Settled {
  readonly report: SettleReport;
  /** Undefined when the deadline of an emergency has passed: it goes whoever holds it. */
  readonly condition: StoreCondition | undefined;
}

/** Hints may be lost, and an instance that falls silent sends none: so there is a look this often at least, in milliseconds. */
const LONGEST_LOOK_MS = 1_000;

/** One replaced version between promotion and retirement: waits until no instance uses it any more. */
export class Settling {
  #told = '';
  #settled: Settled | undefined;
  #isPutBack = false;

  constructor(
    private readonly context: EngineContext,
    private readonly tenure: Tenure,
    private readonly begun: RetireObligation,
    private readonly surroundings: SettlingSurroundings,
  ) {}

  /** Resolves when the version may be retired; with undefined when it need not be any more. Throws nothing but what the store throws. */
  async wait(): Promise<Settled | undefined> {
    const { store } = this.context.versions;
    const { secretName, signal } = this.tenure;
    const hints: Trigger = (wake) =>
      store.watch(
        ({ keys }) => {
          if (keys === undefined || keys.some((key) => this.#concerns(key))) wake();
        },
        [`${ACKNOWLEDGEMENT_PREFIX}${secretName}:`, `${REPORT_PREFIX}${secretName}:`, INSTANCE_PREFIX],
      );
    const looks: Trigger = (wake) => this.context.clock.after(this.#nextLookMs(), wake);
    await waitUntil(
      () => this.#look(),
      [hints, looks, (wake) => this.surroundings.onChange((name) => name === secretName && wake())],
      signal,
    );
    return this.#isPutBack ? undefined : this.#settled;
  }

  #concerns(key: string): boolean {
    const { secretName } = this.tenure;
    return (
      key.startsWith(`${ACKNOWLEDGEMENT_PREFIX}${secretName}:`) || key.startsWith(`${REPORT_PREFIX}${secretName}:`)
    );
  }

  #deadline = Number.POSITIVE_INFINITY;
  #notBefore = 0;

  #nextLookMs(): number {
    const now = this.context.clock.now();
    const times = [this.#deadline, this.#notBefore].filter((time) => time > now).map((time) => time - now);
    return Math.min(LONGEST_LOOK_MS, this.context.instances.lookEveryMs, ...times);
  }

  async #look(): Promise<boolean> {
    const { journal, clock } = this.context;
    const { secretName } = this.tenure;
    const { versionId, promotion } = this.begun;
    const state = await journal.read(secretName);
    const obligation = state.obligations.find((other) => other.versionId === versionId);
    if (obligation === undefined) {
      this.#isPutBack = true;
      return true;
    }
    this.#deadline = obligation.deadline ?? Number.POSITIVE_INFINITY;
    this.#notBefore = obligation.deadline === undefined ? (obligation.notBefore ?? 0) : 0;
    if (await this.surroundings.putBack()) {
      this.#isPutBack = true;
      return true;
    }
    const use = await this.context.consumers.using(secretName, versionId, promotion);
    const holders = [...use.holders, ...(await this.#olderOfTheSameIdentity(obligation))];
    const now = clock.now();
    if (now >= this.#deadline) return this.#cutOff(obligation, use);
    this.#tell(obligation, holders);
    if (holders.length > 0 || now < this.#notBefore) return false;
    const report = { at: now, acknowledged: use.acknowledged, cutOff: [] };
    this.#settled = { report, condition: use.condition };
    return true;
  }

  #cutOff({ rotationId, versionId }: RetireObligation, { holders, acknowledged }: VersionUse): true {
    const { clock, events } = this.context;
    const { secretName } = this.tenure;
    const at = clock.now();
    if (holders.length > 0) events.next({ type: 'cut-off', secretName, rotationId, at, versionId, holders });
    this.#settled = { report: { at, acknowledged, cutOff: holders }, condition: undefined };
    return true;
  }

  #tell({ rotationId, versionId }: RetireObligation, holders: readonly string[]): void {
    if (holders.length === 0 || holders.join() === this.#told) return;
    const { clock, events } = this.context;
    this.#told = holders.join();
    const { secretName } = this.tenure;
    events.next({ type: 'settling', secretName, rotationId, at: clock.now(), versionId, holders });
  }

  /** What ends the sessions of a newer version of an identity could not tell theirs apart from those of an older one, so the older goes first. */
  async #olderOfTheSameIdentity({ versionId, rotator }: RetireObligation): Promise<string[]> {
    const { secretName } = this.tenure;
    const rotatorOf = this.context.rotators.get(rotator, secretName);
    if (rotatorOf.identityOf === undefined) return [];
    const { obligations } = await this.context.journal.read(secretName);
    const older = obligations.slice(
      0,
      obligations.findIndex((other) => other.versionId === versionId),
    );
    if (older.length === 0) return [];
    const identity = async (id: string): Promise<string> =>
      rotatorOf.identityOf?.((await loadVersion(this.context, secretName, id)).value) ?? id;
    const own = await identity(versionId);
    const holders: string[] = [];
    for (const other of older)
      if ((await identity(other.versionId)) === own) holders.push(`the older version ${other.versionId}`);
    return holders;
  }
}
