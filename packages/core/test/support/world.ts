import { SimulatedClock } from '@nestjs-secrets/testing';
import {
  ephemeralKeys,
  memoryStore,
  secretLink,
  type CreateContext,
  type KeyProvider,
  type NamedRotator,
  type PendingContext,
  type RetireContext,
  type RetireReport,
  type RotationContext,
  type RotationEvent,
  type Secret,
  type SecretConsumer,
  type SecretRotator,
  type SecretsModuleOptions,
  type SecretVersion,
  type StoreDriver,
} from '@nestjs-secrets/core';
import { SecretsRuntime } from '../../src/module/secrets-runtime.js';
import type { Host } from './host.js';

export interface Login {
  readonly username: string;
  readonly password: string;
}

/** A target in memory: accounts, each with the one password it accepts. */
export class Target {
  readonly accounts = new Map<string, string>();

  opens({ username, password }: Login): boolean {
    return this.accounts.get(username) === password;
  }
}

/** A step by which a rotator changed the target. */
export interface Deed {
  readonly step: string;
  readonly versionId: string;
}

/** Steps that fail when told to, over a target in memory. `hook` sees each step before its effect (`before`) and after it. */
export class TargetRotator implements SecretRotator<Login> {
  readonly name = 'target';
  readonly failing = new Map<string, Error>();
  /** What this one has changed in the target, in order. */
  readonly deeds: Deed[] = [];
  hook: (step: string, side: 'before' | 'after', context: { secretName: string }) => void | Promise<void> = () =>
    undefined;

  constructor(
    readonly target: Target,
    readonly ring: readonly string[] | undefined,
  ) {
    if (ring !== undefined) {
      this.identityOf = ({ username }) => username;
      this.identities = () => ring;
    }
  }

  identityOf?: (value: Login) => string;
  identities?: () => readonly string[];

  async create({ secretName, current, busyIdentities, randomPassword }: CreateContext<Login>): Promise<Login> {
    return this.#step('create', { secretName }, () => ({
      username: this.ring?.find((name) => !busyIdentities.has(name)) ?? current?.value.username ?? 'app',
      password: randomPassword(),
    }));
  }

  async apply(context: PendingContext<Login>): Promise<void> {
    await this.#step('apply', context, () => {
      this.#act('apply', context, context.pending);
      this.target.accounts.set(context.pending.value.username, context.pending.value.password);
    });
  }

  async verify(context: PendingContext<Login>): Promise<void> {
    await this.#step('verify', context, () => {
      if (!this.target.opens(context.pending.value)) throw new Error('the new log-in is refused');
    });
  }

  async undo(context: PendingContext<Login>): Promise<void> {
    await this.#step('undo', context, () => {
      const { username } = context.pending.value;
      this.#act('undo', context, context.pending);
      if (this.ring !== undefined) this.target.accounts.delete(username);
      else if (context.current !== undefined) this.target.accounts.set(username, context.current.value.password);
    });
  }

  async retire(context: RetireContext<Login>): Promise<RetireReport> {
    return this.#step('retire', context, () => {
      this.#act('retire', context, context.retiring);
      if (this.target.opens(context.retiring.value)) this.target.accounts.delete(context.retiring.value.username);
      return { refused: !this.target.opens(context.retiring.value), sessionsEnded: 0, sessionsLeft: 0 };
    });
  }

  #act(step: string, context: RotationContext, { versionId }: SecretVersion): void {
    context.assertHolder();
    this.deeds.push({ step, versionId });
  }

  async #step<R>(step: string, context: { secretName: string }, effect: () => R): Promise<R> {
    await this.hook(step, 'before', context);
    const failure = this.failing.get(step);
    if (failure !== undefined) throw failure;
    const result = effect();
    await this.hook(step, 'after', context);
    return result;
  }
}

export interface World {
  readonly runtime: SecretsRuntime;
  readonly manager: NonNullable<SecretsRuntime['own']>['manager'];
  readonly engine: NonNullable<SecretsRuntime['own']>['engine'];
  readonly scheduler: NonNullable<SecretsRuntime['own']>['scheduler'];
  readonly clock: SimulatedClock;
  readonly store: StoreDriver;
  readonly events: RotationEvent[];
  /** A handle, as injected. */
  secret(name: string): Promise<Secret<Login>>;
}

export interface WorldOptions extends SecretsModuleOptions {
  readonly clock?: SimulatedClock;
  /** Where this one of several processes runs; they share a clock, which moves them all. */
  readonly host?: Host;
}

export async function startWorld({ host, ...options }: WorldOptions = {}): Promise<World> {
  const clock = options.clock ?? new SimulatedClock();
  const store = host?.store ?? options.store ?? memoryStore();
  const ownClock = host?.clock ?? clock;
  const keys: KeyProvider = options.keys ?? ephemeralKeys();
  const timers = { set: (_name: string, delayMs: number, task: () => void) => ownClock.after(delayMs, task) };
  const runtime = await SecretsRuntime.start(
    // Heartbeats far apart, so that hours go by quickly.
    { refreshIntervalMs: 0, instance: { leaseMs: 3_600_000 }, ...options, store, keys, clock: ownClock },
    timers,
  );
  if (runtime.own === undefined) throw new Error('no manager');
  const { manager, engine, scheduler } = runtime.own;
  const events: RotationEvent[] = [];
  manager.rotationEvents$.subscribe((event) => events.push(event));
  const secret = (name: string): Promise<Secret<Login>> => runtime.open(name) as Promise<Secret<Login>>;
  return { runtime, manager, engine, scheduler, clock, store, events, secret };
}

/** A consumer that holds what the test says. */
export function holdOn(secret: Secret, ...versionIds: string[]): { release(): void } {
  const held = new Set(versionIds);
  const consumer: SecretConsumer = { label: 'a test consumer', holds: () => held };
  const attachment = secretLink(secret).attach(consumer);
  return {
    release() {
      held.clear();
      attachment.update();
    },
  };
}

export function named(rotator: TargetRotator): NamedRotator {
  return rotator;
}

/** The next event of a type. */
export function nextEvent(world: World, type: RotationEvent['type']): Promise<RotationEvent> {
  return new Promise((resolve) => {
    const subscription = world.manager.rotationEvents$.subscribe((event) => {
      if (event.type !== type) return;
      subscription.unsubscribe();
      resolve(event);
    });
  });
}

export function version(secret: Secret<Login>): SecretVersion<Login> {
  return { name: secret.name, versionId: secret.versionId, value: secret.value };
}
