import {
  type AuditEvent,
  type AuditSink,
  auditStore,
  ephemeralKeys,
  type IdentityPolicy,
  type KeyProvider,
  memoryStore,
  movingKeys,
  type PolicyStatement,
  principalOf,
  type SecretsModuleOptions,
  type StoreDriver,
} from '@nestjs-secrets/core';
import { documentOf } from './policy-world.js';
import { named, startWorld, Target, TargetRotator, type World } from './world.js';

export const OWN_ID = 'application/app';
export const NOBODY = principalOf('operator', 'nobody');
export const ORIGIN = 'app/audit';
/** How long an operation waits for its event, in milliseconds of the simulated clock. */
export const LIMIT_MS = 50;

/** The sink of a log in a store of its own, which can be told to fail or to hang; knows every event it took. */
export class WatchedSink implements AuditSink {
  readonly name = 'the watched sink';
  readonly events: AuditEvent[] = [];
  mood: 'well' | 'failing' | 'hanging' = 'well';
  readonly #kept = auditStore({ store: openStore(), origin: ORIGIN });
  #last = 0;

  get reader() {
    return this.#kept.reader;
  }

  open: AuditSink['open'] = (context) => this.#kept.open(context);
  close: AuditSink['close'] = () => this.#kept.close();

  append: AuditSink['append'] = async (records) => {
    if (this.mood === 'failing') throw Object.assign(new Error('canary'), { code: 'ENOSPC' });
    if (this.mood === 'hanging') await new Promise<never>(() => undefined);
    await this.#kept.append(records);
    for (const { sequence, event } of records) if (sequence > this.#last) this.events.push(JSON.parse(event));
    this.#last = Math.max(this.#last, records.at(-1)?.sequence ?? 0);
  };
}

function openStore(): StoreDriver {
  const store = memoryStore();
  void store.open();
  return store;
}

/** What a process did to the store and the keys. */
export interface Traces {
  /** Keys that were read, and prefixes that were listed, but for those of policies. */
  readonly reads: string[];
  /** Keys that were written. */
  readonly writes: string[];
  unwrapped: number;
}

export interface DoorsWorld extends World {
  readonly sink: WatchedSink;
  readonly traces: Traces;
  readonly rotator: TargetRotator;
  /** The events since the last call, but for those of the log itself. */
  news(): AuditEvent[];
  stop(): Promise<void>;
}

export interface DoorsWorldOptions extends Pick<SecretsModuleOptions, 'rotators' | 'instance'> {
  /** In front of the policy that lets the application and its rotators do everything. */
  readonly statements?: readonly PolicyStatement[];
  readonly rotator?: TargetRotator;
  /** How often policies are looked at without a hint, so that weeks can go by quickly. */
  readonly refreshIntervalMs?: number;
}

export function everything(...statements: readonly PolicyStatement[]): IdentityPolicy {
  const all: PolicyStatement = { Effect: 'Allow', Action: '*', Resource: '*' };
  return { name: 'everything', principals: [OWN_ID, 'rotator/*'], document: documentOf(...statements, all) };
}

export const denying = (action: string, more: Partial<PolicyStatement> = {}): PolicyStatement => ({
  Effect: 'Deny',
  Action: `secrets:${action}`,
  Resource: '*',
  ...more,
});

/** An application with policies and a log, over a store and keys that tell what was asked of them, with a secret `Db` that a rotator looks after. */
export async function startDoors({
  statements = [],
  rotator,
  refreshIntervalMs,
  ...options
}: DoorsWorldOptions = {}): Promise<DoorsWorld> {
  const sink = new WatchedSink();
  const traces: Traces = { reads: [], writes: [], unwrapped: 0 };
  const target = new Target();
  const acting = rotator ?? new TargetRotator(target, undefined);
  const world = await startWorld({
    store: tracedStore(memoryStore(), traces),
    keys: movingKeys({ from: tracedKeys(ephemeralKeys(), traces), to: tracedKeys(ephemeralKeys(), traces) }),
    policies: {
      builtIn: [everything(...statements)],
      ...(refreshIntervalMs === undefined ? {} : { refreshIntervalMs, maxStalenessMs: 3 * refreshIntervalMs }),
    },
    audit: { origin: ORIGIN, sinks: [{ sink, mode: 'required' }], timeLimitMs: LIMIT_MS },
    ...options,
    rotators: [named(acting), ...(options.rotators ?? [])],
  });
  acting.target.accounts.set('app', 'first-password');
  let seen = 0;
  return {
    ...world,
    sink,
    traces,
    rotator: acting,
    news: () => {
      const news = sink.events.slice(seen);
      seen = sink.events.length;
      return news.filter(({ userIdentity }) => userIdentity.type !== 'system');
    },
    stop: async () => {
      sink.mood = 'well';
      await world.runtime.stopRotating();
      await world.runtime.close();
    },
  };
}

/** The secret that most operations are tried on. */
export async function makeDb({ manager }: World): Promise<void> {
  await manager.createSecret(
    'Db',
    { username: 'app', password: 'first-password' },
    { rotation: { rotator: 'target' }, tags: { env: 'dev' } },
  );
}

function tracedStore(store: StoreDriver, traces: Traces): StoreDriver {
  const read = (key: string): void => {
    if (!key.startsWith('policy/')) traces.reads.push(key);
  };
  return {
    name: store.name,
    open: () => store.open(),
    close: () => store.close(),
    get: (key) => {
      read(key);
      return store.get(key);
    },
    list: (options) => {
      read(options.prefix);
      return store.list(options);
    },
    commit: (commit) => {
      traces.writes.push(...commit.writes.map(({ key }) => key));
      return store.commit(commit);
    },
    revision: () => store.revision(),
    watch: (onHint, prefixes) => store.watch(onHint, prefixes),
  };
}

function tracedKeys(keys: KeyProvider, traces: Traces): KeyProvider {
  return {
    ...keys,
    unwrap: (...parameters) => {
      traces.unwrapped += 1;
      return keys.unwrap(...parameters);
    },
  };
}
