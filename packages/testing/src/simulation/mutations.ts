import type { StoreCommit } from '@nestjs-secrets/core';
import { NO_FAULTS } from './fault-rates.js';
import type { Scenario } from './scenario.js';
import type { SimulatedProcess } from './simulated-process.js';

/** A mechanism broken on purpose, to prove that the simulation would notice. */
export type Mutation =
  /** The store takes journal commits of whoever sends them, and rotators do not ask whether they still hold the rotation. */
  | 'no fencing'
  /** The target learns a new value before it is stored. */
  | 'no write-ahead'
  /** Acknowledgements claim more than is true. */
  | 'retire before settle'
  /** A consumer reads user and password of two versions. */
  | 'torn pair'
  /** A refused log-in goes to the caller. */
  | 'no candidate retry'
  /** What a consumer is about to use is not made known before. */
  | 'no borrow'
  /** A process reads a secret before it has said that it will. */
  | 'no acknowledgement before the first read';

export const MUTATIONS: readonly Mutation[] = [
  'no fencing',
  'no write-ahead',
  'retire before settle',
  'torn pair',
  'no candidate retry',
  'no borrow',
  'no acknowledgement before the first read',
];

/** The scenario, changed so that what is broken matters before long: some of it takes a strategy or a coincidence that few worlds have. */
export function provoking(mutation: Mutation, drawn: Scenario): Scenario {
  const { rotator, troubleMs } = drawn;
  if (mutation === 'no write-ahead' || mutation === 'no candidate retry' || mutation === 'no borrow')
    return { ...drawn, rotator: { ...rotator, strategy: 'single-user' } };
  if (mutation !== 'no acknowledgement before the first read') return drawn;
  const joins = Array.from({ length: 11 }, (_, index) => ({ type: 'join' as const, atMs: (troubleMs * index) / 11 }));
  return {
    ...drawn,
    processes: 1,
    everyMs: 500,
    deeds: joins,
    storeFaults: NO_FAULTS,
    targetFaults: NO_FAULTS,
    storeMs: 5,
    targetMs: 40,
    // Who joins reads so slowly that a rotation passes by in between.
    distances: [1, ...joins.map(() => 20)],
    stepFails: 0,
    killedInStep: 0,
    stoppedInStep: 0,
  };
}

/** What becomes of a commit on its way to the store. */
export function tamper(mutation: Mutation): (commit: StoreCommit, process: SimulatedProcess) => StoreCommit {
  if (mutation === 'no fencing') return (commit) => without(commit, ['rotation/', 'instance/']);
  if (mutation === 'no borrow') {
    return (commit) => ({ ...without(commit, ['borrow/']), writes: commit.writes.map(holdingNothing) });
  }
  if (mutation === 'retire before settle')
    return (commit) => ({ ...commit, writes: commit.writes.map((write) => claimingAll(write)) });
  if (mutation === 'no acknowledgement before the first read') {
    return (commit) => ({
      ...commit,
      writes: commit.writes.filter(({ key, value }) => !key.startsWith('ack/') || promotionIn(value) !== 0),
    });
  }
  return (commit) => commit;
}

function without(commit: StoreCommit, prefixes: readonly string[]): StoreCommit {
  const conditions = commit.conditions.filter(({ key }) => !prefixes.some((prefix) => key.startsWith(prefix)));
  return { ...commit, conditions };
}

function claimingAll(write: StoreCommit['writes'][number]): StoreCommit['writes'][number] {
  const { key, value } = write;
  if (value === null || !key.startsWith('ack/')) return write;
  return { key, value: Buffer.from(JSON.stringify({ ...parse(value), promotion: 1_000_000, held: [] })) };
}

function holdingNothing(write: StoreCommit['writes'][number]): StoreCommit['writes'][number] {
  const { key, value } = write;
  if (value === null || !key.startsWith('ack/')) return write;
  return { key, value: Buffer.from(JSON.stringify({ ...parse(value), held: [] })) };
}

function promotionIn(value: Uint8Array | null): unknown {
  return value === null ? undefined : parse(value)['promotion'];
}

function parse(value: Uint8Array): Record<string, unknown> {
  return JSON.parse(Buffer.from(value).toString('utf8'));
}
