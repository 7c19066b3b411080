import {
  ephemeralKeys,
  type KeyProvider,
  memoryStore,
  type NamedRotator,
  recordPayload,
  type RotationEvent,
  type RotationPolicy,
  type StoreDriver,
  unknownProcesses,
} from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { parseRotationState, type RotationState } from '../../src/rotation/rotation-state.js';
import { seededRandomness } from '../seeded-randomness.js';
import { Host, type HostOptions } from './host.js';
import { type Login, startWorld, Target, TargetRotator, type World } from './world.js';

export const LEASE_MS = 9_000;

/** One process of a fleet. */
export interface Member extends World {
  readonly id: string;
  readonly host: Host;
  readonly rotator: TargetRotator;
}

export interface Fleet {
  readonly clock: SimulatedClock;
  readonly shared: StoreDriver;
  readonly target: Target;
  readonly members: readonly Member[];
  /** The member at this place. */
  at(place: number): Member;
  /** The events of all members, in the order they happened. */
  events(): RotationEvent[];
  journal(name?: string): Promise<RotationState>;
  /** Moves time on until nothing of the secret is under way; fails when that takes more than ten leases. */
  settled(name?: string): Promise<void>;
}

export interface FleetOptions {
  /** False where a test changes the store behind the back of the processes. */
  readonly integrity?: false;
  readonly size?: number;
  /** The clocks of the members, in their order. */
  readonly hosts?: readonly HostOptions[];
  readonly ring?: readonly string[];
  readonly policy?: Omit<RotationPolicy, 'rotator'>;
  readonly rotator?: (target: Target, ring: readonly string[] | undefined) => TargetRotator;
  /** What the member at a place has besides. */
  readonly others?: (place: number) => readonly NamedRotator[];
}

/** Keys that several processes of a test share, and none of them closes. */
export function sharedKeys(keys: KeyProvider = ephemeralKeys()): KeyProvider {
  return {
    name: keys.name,
    open: () => keys.open(),
    close: async () => undefined,
    active: () => keys.active(),
    wrap: (...parameters) => keys.wrap(...parameters),
    unwrap: (...parameters) => keys.unwrap(...parameters),
  };
}

/** Processes over one store and one target, with a secret `Db` that has its first version; all of them rotate. */
export async function startFleet(options: FleetOptions = {}): Promise<Fleet> {
  const { size = 2, hosts = [], ring = ['app_1', 'app_2'], policy, integrity } = options;
  const { rotator: make = (...parts) => new TargetRotator(...parts), others = () => [] } = options;
  const [clock, shared, keys, target] = [new SimulatedClock(), memoryStore(), sharedKeys(), new Target()];
  await shared.open();
  const events: RotationEvent[] = [];
  const members: Member[] = [];
  for (let place = 0; place < size; place += 1) {
    const [host, rotator] = [new Host(clock, shared, hosts[place]), make(target, ring)];
    let ids = 0;
    const world = await startWorld({
      clock,
      host,
      keys,
      rotators: [rotator, ...others(place)],
      randomness: seededRandomness(`process ${place}`),
      ids: { next: () => `p${place}-${(ids += 1)}` },
      instance: { leaseMs: LEASE_MS, processes: unknownProcesses },
      ...(integrity === undefined ? {} : { integrity }),
    });
    world.manager.rotationEvents$.subscribe((event) => events.push(event));
    members.push({ ...world, host, rotator, id: world.runtime.own?.instance.id ?? '' });
  }
  const fleet: Fleet = {
    clock,
    shared,
    target,
    members,
    at(place) {
      const member = members[place];
      if (member === undefined) throw new Error(`there is no member ${place}`);
      return member;
    },
    events: () => [...events],
    async journal(name = 'Db') {
      const entry = await shared.get(`rotation/${name}`);
      return entry === undefined
        ? { format: 1, obligations: [], failures: 0 }
        : parseRotationState(name, recordPayload(entry.value));
    },
    async settled(name = 'Db') {
      for (let looks = 0; looks < 100; looks += 1) {
        const { active, obligations } = await fleet.journal(name);
        if (active === undefined && obligations.length === 0) return;
        await clock.advance(LEASE_MS / 10);
      }
      throw new Error(`still under way: ${JSON.stringify(await fleet.journal(name))}`);
    },
  };
  const first: Login = { username: ring[0] ?? 'app', password: 'first-password' };
  target.accounts.set(first.username, first.password);
  await fleet.at(0).manager.createSecret('Db', first, { rotation: { ...policy, rotator: 'target' } });
  for (const { runtime } of members) await runtime.startRotating();
  return fleet;
}

/** Stops the member at the next such step, on one side of its effect, and tells that it got there; the function returned lets it go on. */
export function stopAt(
  { rotator }: Pick<Member, 'rotator'>,
  step: string,
  side: 'before' | 'after' = 'before',
): { readonly reached: Promise<void>; goOn(): void } {
  let reach = (): void => undefined;
  let goOn = (): void => undefined;
  const reached = new Promise<void>((resolve) => (reach = resolve));
  const released = new Promise<void>((resolve) => (goOn = resolve));
  rotator.hook = async (name, where) => {
    if (name !== step || where !== side) return;
    rotator.hook = () => undefined;
    reach();
    await released;
  };
  return { reached, goOn };
}
