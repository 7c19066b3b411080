import type { Cancel } from '../foundation/clock.js';
import { ACKNOWLEDGEMENT_PREFIX } from '../fleet/acknowledgements.js';
import type { VersionUse } from '../fleet/consumers.js';
import { REPORT_PREFIX } from '../fleet/failure-reports.js';
import { INSTANCE_PREFIX } from '../fleet/instance-record.js';
import type { StoreCondition } from '../store/store-driver.js';
import { findVersion } from '../versions/secret-record.js';
import { type EngineContext, loadVersion } from './engine-context.js';
import type { RetireObligation, SettleReport } from './rotation-state.js';
import type { Tenure } from './rotation-tenure.js';
import type { SecretRotator } from './secret-rotator.js';
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
  #deadline = Number.POSITIVE_INFINITY;
  /** When probation ends, by this process's own monotonic clock. */
  #probationEnds: number | undefined;
  /** Never changes: what was tried while the version was current. */
  #undone: readonly string[] | undefined;

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

  #nextLookMs(): number {
    const { clock, instances } = this.context;
    const times = [this.#deadline - clock.now(), (this.#probationEnds ?? 0) - clock.monotonic()];
    return Math.min(LONGEST_LOOK_MS, instances.lookEveryMs, ...times.filter((time) => time > 0));
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
    this.#probationEnds ??= clock.monotonic() + this.#probationLeft(obligation);
    const isOnProbation = obligation.deadline === undefined && clock.monotonic() < this.#probationEnds;
    if (await this.surroundings.putBack()) {
      this.#isPutBack = true;
      return true;
    }
    this.#undone ??= await this.#undoneOfTheSameIdentity(obligation);
    const use = await this.context.consumers.using(secretName, [versionId, ...this.#undone], promotion);
    const holders = [...use.holders, ...(await this.#olderOfTheSameIdentity(obligation))];
    const now = clock.now();
    if (now >= this.#deadline) return this.#cutOff(obligation, use);
    this.#tell(obligation, holders);
    if (holders.length > 0 || isOnProbation) return false;
    const report = { at: now, acknowledged: use.acknowledged, cutOff: [] };
    this.#settled = { report, condition: use.condition };
    return true;
  }

  /** The clock of the instance that promoted may be ahead of this one, but no probation is longer than it was meant to be. */
  #probationLeft({ notBefore = 0, since }: RetireObligation): number {
    return Math.max(0, Math.min(notBefore - this.context.clock.now(), notBefore - since));
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
    const holders: string[] = [];
    for (const other of older)
      if (await this.#isSameIdentity(rotatorOf, versionId, other.versionId))
        holders.push(`the older version ${other.versionId}`);
    return holders;
  }

  /**
   * Versions that were tried while this one was current, and taken back. A consumer may have logged in with one of them meanwhile; where it is of the
   * same identity, what ends this version's sessions would end that one too.
   */
  async #undoneOfTheSameIdentity({ versionId, replacedBy, rotator }: RetireObligation): Promise<string[]> {
    const { secretName } = this.tenure;
    const rotatorOf = this.context.rotators.get(rotator, secretName);
    if (rotatorOf.identityOf === undefined) return [];
    const record = await this.context.versions.get(secretName);
    const sequenceOf = (id: string): number => findVersion(record, id)?.sequence ?? 0;
    const [from, to] = [sequenceOf(versionId), sequenceOf(replacedBy)];
    const undone: string[] = [];
    for (const { id, sequence, state } of record.versions) {
      const wasTried = sequence > from && sequence < to && state === 'retired';
      if (wasTried && (await this.#isSameIdentity(rotatorOf, versionId, id))) undone.push(id);
    }
    return undone;
  }

  async #isSameIdentity(rotator: SecretRotator, one: string, other: string): Promise<boolean> {
    const { secretName } = this.tenure;
    const [first, second] = [
      await loadVersion(this.context, secretName, one),
      await loadVersion(this.context, secretName, other),
    ];
    return rotator.identityOf?.(first.value) === rotator.identityOf?.(second.value);
  }
}
