import type { StoreCommit } from '@nestjs-secrets/core';
import type { RotatorStatement } from './model-rotators.js';
import type { PoolFailure } from './pool-model.js';
import type { SimulatedProcess } from './simulated-process.js';
import type { Credentials, SimulatedTarget } from './simulated-target.js';
import { type MirroredJournal, type MirroredRecord, StoreMirror } from './store-mirror.js';

/** DESIGN.md's numbers; `no failed query` is the promise at its head, `liveness` that everything comes to rest once nothing fails any more. */
export type Invariant = 'I1' | 'I2' | 'I3' | 'I4' | 'I5' | 'I6' | 'I9' | 'no failed query' | 'liveness';

export interface Violation {
  readonly invariant: Invariant;
  readonly what: string;
  /** The number of the event after which it showed. */
  readonly event: number;
}

/** What a process is at this moment, as only the world can know. */
export interface ConsumerView {
  readonly process: SimulatedProcess;
  /** Undefined before it has its handle. */
  readonly versionId: string | undefined;
  holds(versionId: string): boolean;
}

export interface InvariantsOptions {
  readonly secretName: string;
  readonly target: () => SimulatedTarget;
  readonly events: () => number;
  readonly consumers: () => Iterable<ConsumerView>;
  /** False beyond the fleet's assumptions: then only what the store decides alone is checked. */
  readonly isStrict: boolean;
}

/** What must hold after each event of a world. */
export class Invariants {
  readonly violations: Violation[] = [];
  readonly mirror = new StoreMirror();
  readonly #credentials = new Map<string, Credentials>();
  /** Password → user, of every value a rotator made. */
  readonly #made = new Map<string, string>();
  readonly #versionOf = new Map<string, string>();
  /** Who was there when the retirement of a version was entered, and has been since. */
  readonly #present = new Map<string, Set<string>>();
  readonly #promoted = new Set<string>();
  readonly #retired = new Set<string>();
  readonly #emergency = new Set<string>();
  readonly #spoiled = new Set<string>();
  readonly #lost = new Set<string>();
  readonly #tenures = new Map<SimulatedProcess, number>();
  #latestTenure = 0;
  #fence = 0;
  #isDirty = true;

  constructor(private readonly options: InvariantsOptions) {}

  // What is there to be known.

  made({ username, password }: Credentials): void {
    this.#made.set(password, username);
  }

  bind(versionId: string, credentials: Credentials): void {
    if (this.#credentials.has(versionId)) return;
    this.#credentials.set(versionId, credentials);
    this.#versionOf.set(credentials.password, versionId);
    this.#isDirty = true;
  }

  spoil(versionId: string): void {
    this.#spoiled.add(versionId);
  }

  credentialsOf(versionId: string): Credentials | undefined {
    return this.#credentials.get(versionId);
  }

  tenureOf(process: SimulatedProcess): number {
    return this.#tenures.get(process) ?? 0;
  }

  targetChanged(): void {
    this.#isDirty = true;
  }

  /** Whether the store still counts this process among the living. */
  isPresent(process: SimulatedProcess): boolean {
    for (const id of this.mirror.instances) if (ownerOf(id) === process.name) return true;
    return false;
  }

  // What happens.

  committed(commit: StoreCommit, process: SimulatedProcess): void {
    const { secretName } = this.options;
    const before = this.mirror.records.get(secretName);
    const journalBefore = this.mirror.journals.get(secretName);
    const instancesBefore = this.mirror.instances.size;
    this.mirror.apply(commit);
    if (this.mirror.instances.size < instancesBefore) this.#forgetTheGone();
    const journal = this.mirror.journals.get(secretName);
    if (journal !== undefined && journal !== journalBefore) {
      const token = journal.lease?.token ?? 0;
      const fence = journal.fence ?? 0;
      if (fence < this.#fence) this.#violated('I2', `the fence of the journal fell from ${this.#fence} to ${fence}`);
      if (token !== 0 && token !== journalBefore?.lease?.token && token <= this.#fence && journalBefore !== undefined)
        this.#violated('I2', `a new tenure took the token ${token}, though ${this.#fence} had been given out`);
      this.#fence = Math.max(this.#fence, fence);
      const holder = journal.lease === undefined ? undefined : ownerOf(journal.lease.holder);
      const holds = journalBefore?.lease?.holder ?? journal.lease?.holder;
      if (stepsOf(journal) !== stepsOf(journalBefore) && (holds === undefined || ownerOf(holds) !== process.name))
        this.#violated('I2', `${process.name} moved a journal that is ${holds === undefined ? 'nobody' : holds}'s`);
      if (holder === process.name) this.#tenures.set(process, token);
      for (const { versionId, deadline } of journal.obligations)
        if (deadline !== undefined) this.#emergency.add(versionId);
    }
    const record = this.mirror.records.get(secretName);
    if (record !== undefined && record !== before) this.#recordChanged(before, record);
  }

  statement(process: SimulatedProcess, { kind, versionId, tenure }: RotatorStatement): void {
    if (this.options.isStrict && tenure < this.#latestTenure) {
      this.#violated(
        'I2',
        `${process.name} acted on the target under tenure ${tenure} after tenure ${this.#latestTenure} had`,
      );
    }
    this.#latestTenure = Math.max(this.#latestTenure, tenure);
    if (kind === 'retire' && this.options.isStrict) this.#mayRetire(versionId);
  }

  loggedIn(process: SimulatedProcess, { username, password }: Credentials): void {
    const madeFor = this.#made.get(password);
    if (madeFor !== username)
      this.#violated('I3', `${process.name} logged in as ${username} with a password of ${madeFor ?? 'nobody'}`);
  }

  /** A handle moved from one version to another. */
  moved(process: SimulatedProcess, from: string | undefined, to: string, isRollback: boolean): void {
    const sequence = (id: string | undefined): number => Number(id?.slice(1) ?? 0);
    if (sequence(to) <= sequence(from) && !isRollback)
      this.#violated('I4', `${process.name} moved from ${from ?? 'nothing'} back to ${to}`);
  }

  failed(process: SimulatedProcess, failure: PoolFailure, versionIds: readonly string[]): void {
    if (!this.options.isStrict || !process.isAlive) return;
    const isAbsent = (versionId: string): boolean => {
      const present = this.#present.get(versionId);
      return present !== undefined && !isAmong(present, process);
    };
    const isCutOff = !this.isPresent(process) || versionIds.some((id) => this.#emergency.has(id) || isAbsent(id));
    const tell = (): void =>
      this.#violated('no failed query', `${process.name} was ${failure} with ${versionIds.join()}`);
    if (failure === 'killed' && !isCutOff) tell();
    if (failure === 'refused' && this.isPresent(process)) tell();
    if (failure === 'denied' && !versionIds.some((id) => this.#spoiled.has(id))) tell();
  }

  unsettled(what: string): void {
    this.#violated('liveness', what);
  }

  lost(what: string): void {
    this.#violated('I9', what);
  }

  /** To be called when everything an event set off has come to rest. */
  check(): void {
    if (!this.#isDirty) return;
    this.#isDirty = false;
    const record = this.mirror.records.get(this.options.secretName);
    if (record === undefined || !this.options.isStrict) return;
    const target = this.options.target();
    const opens = ({ id }: { readonly id: string }): boolean => {
      const credentials = this.#credentials.get(id);
      return credentials !== undefined && target.accepts(credentials);
    };
    if (this.#promoted.size > 0 && !record.versions.some(opens))
      this.#violated(
        'I1',
        `none of the stored versions opens the target: ${record.versions.map(({ id }) => id).join()}`,
      );
    for (const id of this.#retired)
      if (opens({ id })) this.#violated('I6', `the retired version ${id} opens the target`);
    for (const { password, process } of target.sessions) {
      const id = this.#versionOf.get(password);
      if (id !== undefined && this.#retired.has(id) && this.#promoted.has(id))
        this.#violated('I6', `${process.name} has a session of the retired version ${id}`);
    }
  }

  #recordChanged(before: MirroredRecord | undefined, record: MirroredRecord): void {
    this.#isDirty = true;
    const { secretName } = this.options;
    const current = this.mirror.current(secretName);
    if (current !== undefined) this.#promoted.add(current);
    if (before !== undefined && record.promotion < before.promotion)
      this.#violated('I4', `the promotion fell from ${before.promotion} to ${record.promotion}`);
    for (const { id, state } of record.versions) {
      if (!this.mirror.values.has(`${secretName}:${id}`)) this.lost(`the value of ${id} is not stored`);
      const was = before?.versions.find((version) => version.id === id)?.state;
      if (state === 'retired') this.#retired.add(id);
      if (state === 'retiring' && was !== 'retiring') {
        this.#present.set(id, new Set(this.mirror.instances));
        if (this.options.isStrict) this.#mayRetire(id);
      }
      if ((state === 'live' || state === 'draining') && was === 'retired')
        this.#violated('I4', `${id} was retired and is ${state} again`);
    }
    for (const { id, state } of before?.versions ?? []) {
      if (record.versions.some((version) => version.id === id)) continue;
      if (state === 'draining' || state === 'retiring' || before?.stages.some(([, staged]) => staged === id))
        this.lost(`${id}, which was ${state}, is gone from the record`);
      this.#lost.add(id);
    }
  }

  /** I5: of those who were there when the retirement was entered, and are still, nobody runs on the version. */
  #mayRetire(versionId: string): void {
    if (this.#emergency.has(versionId)) return;
    const present = this.#present.get(versionId);
    if (present === undefined) {
      this.#violated('I5', `${versionId} is being retired before the journal says so`);
      return;
    }
    for (const consumer of this.options.consumers()) {
      const { process } = consumer;
      if (!process.isAlive || !isAmong(present, process)) continue;
      if (consumer.versionId === versionId || consumer.holds(versionId))
        this.#violated('I5', `${versionId} is being retired while ${process.name} runs on it`);
    }
  }

  #forgetTheGone(): void {
    for (const present of this.#present.values())
      for (const id of present) if (!this.mirror.instances.has(id)) present.delete(id);
  }

  #violated(invariant: Invariant, what: string): void {
    if (this.violations.length < 20) this.violations.push({ invariant, what, event: this.options.events() });
  }
}

/** What only the holder of the lease may change. */
function stepsOf(journal: MirroredJournal | undefined): string {
  const { active, obligations = [] } = journal ?? {};
  const steps = obligations.map(({ versionId, step }) => `${versionId} ${step}`).join();
  return active === undefined ? steps : `${active.rotationId} ${active.step} ${active.versionId ?? ''} ${steps}`;
}

function ownerOf(instanceId: string): string {
  return instanceId.split('-', 1)[0] ?? instanceId;
}

function isAmong(instanceIds: ReadonlySet<string>, process: SimulatedProcess): boolean {
  for (const id of instanceIds) if (ownerOf(id) === process.name) return true;
  return false;
}
