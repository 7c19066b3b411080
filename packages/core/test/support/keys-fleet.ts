import {
  ephemeralKeys,
  type KeyEvent,
  type KeyManager,
  type KeyProvider,
  memoryStore,
  type StoreDriver,
  unknownProcesses,
} from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { Host } from './host.js';
import { startWorld, type World } from './world.js';

export const LEASE_MS = 9_000;
/** Nobody sets a policy here. */
export const SELDOM = { refreshIntervalMs: 300 * 86_400_000, maxStalenessMs: 900 * 86_400_000 };

export interface Member extends World {
  readonly host: Host;
  readonly id: string;
  readonly keys: KeyManager;
}

/** Instances under one simulated clock that share a store and the provider of its master keys, and what their key managers told. */
export class KeysFleet {
  readonly clock = new SimulatedClock();
  readonly shared: StoreDriver = memoryStore();
  readonly provider: KeyProvider = ephemeralKeys();
  readonly events: KeyEvent[] = [];
  members: Member[] = [];

  constructor(private readonly leaseMs = LEASE_MS) {}

  async start(size = 1, keys: (place: number) => KeyProvider = () => this.shareKeys()): Promise<Member> {
    await this.shared.open();
    for (let place = 0; place < size; place += 1) await this.join(keys(place));
    return this.at(0);
  }

  /** The same keys for every member; `without` is what it cannot do, or sees of them. */
  shareKeys(without: Partial<KeyProvider> = {}): KeyProvider {
    return { ...this.provider, close: async () => undefined, ...without };
  }

  async join(keys: KeyProvider = this.shareKeys()): Promise<Member> {
    const host = new Host(this.clock, this.shared);
    const place = this.members.length;
    let ids = 0;
    const world = await startWorld({
      clock: this.clock,
      host,
      keys,
      ids: { next: () => `p${place}-${(ids += 1)}` },
      instance: { leaseMs: this.leaseMs, processes: unknownProcesses },
      policies: SELDOM,
    });
    const { own } = world.runtime;
    if (own === undefined) throw new Error('no manager');
    own.keys.events$.subscribe((event) => this.events.push(event));
    await world.runtime.startRotating();
    const member = { ...world, host, id: own.instance.id, keys: own.keys };
    this.members.push(member);
    return member;
  }

  at(place: number): Member {
    const member = this.members[place];
    if (member === undefined) throw new Error(`there is no member ${place}`);
    return member;
  }

  async leave(member: Member): Promise<void> {
    this.members = this.members.filter((one) => one !== member);
    if (member.host.isCutOff) return;
    await member.runtime.stopRotating();
    await member.runtime.close();
  }

  async stop(): Promise<void> {
    for (const member of this.members) await this.leave(member);
  }

  /** Moves time on until the work is done, and fails when that takes more than so many leases. */
  async eventually<T>(work: Promise<T>, leases = 20): Promise<T> {
    let isDone = false;
    const done = work.finally(() => (isDone = true));
    done.catch(() => undefined);
    for (let step = 0; step < leases * 10 && !isDone; step += 1) await this.clock.advance(this.leaseMs / 10);
    if (!isDone) throw new Error(`not done after ${leases} leases`);
    return done;
  }

  async until(holds: () => boolean | Promise<boolean>): Promise<void> {
    for (let step = 0; step < 200; step += 1) {
      if (await holds()) return;
      await this.clock.advance(this.leaseMs / 10);
    }
    throw new Error('it never came about');
  }

  async states(key = 'default'): Promise<string[]> {
    const { versions } = await this.at(0).keys.describeKey(key);
    return versions.map(({ version, state }) => `${version} ${state}`);
  }

  /** The version of the master key in the header of each stored envelope. */
  async sealedUnder(): Promise<Record<string, string>> {
    const found: Record<string, string> = {};
    for (const { key, value } of await this.shared.list({ prefix: 'value/', limit: 1000 })) {
      const bytes = Buffer.from(value);
      const end = 7 + (bytes[6] ?? 0);
      const id = bytes.toString('latin1', 7, end);
      const isDefault = id === (await this.provider.active()).id;
      found[key.slice('value/'.length)] = `${isDefault ? 'default' : id} ${bytes.readUInt32BE(end)}`;
    }
    return found;
  }
}
