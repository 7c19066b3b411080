import type { RetireObligation, RotationState } from '@nestjs-secrets/core';
import type { AuditRow } from './store-audit.js';

/** What an instance was about to do to the target, and when; milliseconds since the epoch. */
export interface Act {
  readonly instanceId: string;
  readonly at: number;
}

/** A rotation that made a version current; milliseconds since the epoch. */
export interface Promotion {
  readonly versionId: string;
  readonly startedAt: number;
  readonly at: number;
}

/** What the audited changes of the store prove about the rotations of one secret. Violations are told in words. */
export interface JournalProof {
  readonly promotions: readonly Promotion[];
  readonly retirements: readonly { readonly versionId: string; readonly at: number }[];
  readonly outcomes: Readonly<Record<string, number>>;
  /** Leases that passed from an instance that was declared dead to another. */
  readonly takeovers: number;
  readonly tokens: number;
  /** I2: two holders at once, tokens that do not grow, or an act of one that held nothing. */
  readonly concurrentRotators: readonly string[];
  /** I5: a version whose retirement began while a living instance had not let go of it. */
  readonly earlyRetirements: readonly string[];
}

interface Word {
  readonly promotion: number;
  readonly held: readonly { readonly label: string; readonly versionIds: readonly string[] }[];
}

/** The store as it was at one moment, as far as it was audited. */
interface Picture {
  readonly instances: ReadonlySet<string>;
  /** By instance. */
  readonly words: ReadonlyMap<string, Word>;
}

const EMPTY: RotationState = { format: 1, obligations: [], failures: 0 };

/**
 * Replays the changes of the store, and holds them against what rotations promise. Written from the promises alone: it shares no code with the
 * engine.
 */
export function proveJournal(secretName: string, rows: readonly AuditRow[], acts: readonly Act[]): JournalProof {
  const replay = new Replay(secretName);
  for (const transaction of transactionsOf(rows)) replay.take(transaction);
  return { ...replay.proof(), concurrentRotators: [...replay.concurrent, ...replay.judge(acts)] };
}

function transactionsOf(rows: readonly AuditRow[]): AuditRow[][] {
  const transactions: AuditRow[][] = [];
  for (const row of rows) {
    const latest = transactions.at(-1);
    if (latest?.[0]?.transaction === row.transaction) latest.push(row);
    else transactions.push([row]);
  }
  return transactions;
}

class Replay {
  readonly concurrent: string[] = [];
  readonly #early: string[] = [];
  readonly #promotions: Promotion[] = [];
  readonly #retirements: { versionId: string; at: number }[] = [];
  readonly #outcomes = new Map<string, number>();
  readonly #holders: { readonly at: number; readonly holder: string | undefined }[] = [];
  #instances: ReadonlySet<string> = new Set();
  #words: ReadonlyMap<string, Word> = new Map();
  #state = EMPTY;
  #takeovers = 0;

  constructor(private readonly secretName: string) {}

  proof(): Omit<JournalProof, 'concurrentRotators'> {
    return {
      promotions: this.#promotions,
      retirements: this.#retirements,
      outcomes: Object.fromEntries(this.#outcomes),
      takeovers: this.#takeovers,
      tokens: this.#state.fence ?? 0,
      earlyRetirements: this.#early,
    };
  }

  take(rows: readonly AuditRow[]): void {
    const before: Picture = { instances: this.#instances, words: this.#words };
    const [instances, words] = [new Set(this.#instances), new Map(this.#words)];
    const ackPrefix = `ack/${this.secretName}:`;
    for (const { key, value } of rows) {
      if (key.startsWith('instance/')) {
        if (value === null) instances.delete(key.slice('instance/'.length));
        else instances.add(key.slice('instance/'.length));
      } else if (key.startsWith(ackPrefix)) {
        if (value === null) words.delete(key.slice(ackPrefix.length));
        else words.set(key.slice(ackPrefix.length), JSON.parse(value));
      }
    }
    [this.#instances, this.#words] = [instances, words];
    const journal = rows.find(({ key }) => key === `rotation/${this.secretName}`);
    if (journal === undefined) return;
    const next: RotationState = journal.value === null ? EMPTY : JSON.parse(journal.value);
    this.#checkLease(next, journal.at);
    this.#checkRetirements(next, journal.at, before, { instances, words });
    this.#count(next, journal.at);
    this.#holders.push({ at: journal.at, holder: next.lease?.holder });
    this.#state = next;
  }

  /** Acts of instances that did not hold the lease. */
  judge(acts: readonly Act[]): string[] {
    const violations: string[] = [];
    let index = 0;
    for (const act of acts.toSorted((one, other) => one.at - other.at)) {
      while ((this.#holders[index + 1]?.at ?? Number.POSITIVE_INFINITY) <= act.at) index += 1;
      const holder = this.#holders[index]?.holder;
      if (holder !== act.instanceId)
        violations.push(`${act.instanceId} changed the target at ${act.at}, while ${holder ?? 'nobody'} had the lease`);
    }
    return violations;
  }

  #checkLease(next: RotationState, at: number): void {
    const { lease: had, fence = 0 } = this.#state;
    const { lease: has } = next;
    if ((next.fence ?? 0) < fence) this.concurrent.push(`the token fell from ${fence} to ${next.fence} at ${at}`);
    if (has === undefined) return;
    if (has.token !== next.fence)
      this.concurrent.push(`the lease has token ${has.token}, the fence ${next.fence} at ${at}`);
    if (had?.token === has.token) {
      if (had.holder !== has.holder) this.concurrent.push(`token ${has.token} passed to ${has.holder} at ${at}`);
      return;
    }
    if (has.token <= fence) this.concurrent.push(`token ${has.token} came after ${fence} at ${at}`);
    if (had === undefined || had.holder === has.holder) return;
    this.#takeovers += 1;
    if (this.#instances.has(had.holder))
      this.concurrent.push(`${has.holder} took the lease of ${had.holder}, which lived, at ${at}`);
  }

  #checkRetirements(next: RotationState, at: number, ...pictures: readonly Picture[]): void {
    for (const obligation of next.obligations) {
      const known = this.#state.obligations.find(({ versionId }) => versionId === obligation.versionId);
      if (obligation.step !== 'retire' || known?.step === 'retire') continue;
      if (obligation.deadline !== undefined && at >= obligation.deadline) continue;
      // One transaction may carry several commits, in an order that the changes do not show.
      const holders = pictures.map((picture) => holdersIn(picture, obligation));
      if (holders.every((found) => found.length > 0))
        this.#early.push(`${obligation.versionId} was retired at ${at} while ${holders[0]?.join(', ')} held it`);
    }
  }

  #count(next: RotationState, at: number): void {
    const { lastRotation, lastRetired } = next;
    if (lastRotation !== undefined && lastRotation.rotationId !== this.#state.lastRotation?.rotationId) {
      const { outcome, versionId = '', startedAt } = lastRotation;
      this.#outcomes.set(outcome, (this.#outcomes.get(outcome) ?? 0) + 1);
      if (outcome === 'promoted') this.#promotions.push({ versionId, startedAt, at });
    }
    if (lastRetired !== undefined && lastRetired.versionId !== this.#state.lastRetired?.versionId)
      this.#retirements.push({ versionId: lastRetired.versionId, at });
  }
}

function holdersIn({ instances, words }: Picture, { versionId, promotion }: RetireObligation): string[] {
  return [...words]
    .filter(
      ([instanceId, word]) =>
        instances.has(instanceId) &&
        (word.promotion < promotion || word.held.some(({ versionIds }) => versionIds.includes(versionId))),
    )
    .map(([instanceId]) => instanceId);
}
