import assert from 'node:assert/strict';
import {
  ephemeralKeys,
  type IntegrityEvent,
  type IntegrityFindingKind,
  type IntegrityOptions,
  isSecretsError,
  type KeyProvider,
  type SecretsManager,
  SecretsRuntime,
  type StoreDriver,
  type StoreEntry,
  type StoreIntegrity,
  systemClock,
} from '@nestjs-secrets/core';

/** One process of the application under attack. */
export interface AttackedProcess {
  readonly manager: SecretsManager;
  readonly integrity: StoreIntegrity;
  /** What the layers above see. */
  readonly sealed: StoreDriver;
  readonly events: readonly IntegrityEvent[];
}

/** The secrets that are there before each attack, with the value that each must have as long as it is not the one attacked. */
export const BYSTANDERS = ['Orders', 'Billing', 'Mail'];
export const VICTIM = 'Victim';

/** A store with an application on it, and somebody who can read and write every byte of it and does not hold the keys. */
export class AttackedStore {
  readonly keys: KeyProvider = ephemeralKeys();
  readonly #runtimes: SecretsRuntime[] = [];

  constructor(
    /** Another driver on the same data, for the attacker; the only one where there is but one. */
    readonly attacker: StoreDriver,
    /** A driver for a process, opened and closed by it. */
    private readonly connect: () => StoreDriver,
  ) {}

  async start(options: IntegrityOptions = {}, keys: KeyProvider = this.keys): Promise<AttackedProcess> {
    const events: IntegrityEvent[] = [];
    const runtime = await SecretsRuntime.start(
      { store: this.connect(), keys, rotate: false, integrity: { ...options, onEvent: (event) => events.push(event) } },
      { set: (_name, delayMs, task) => systemClock.after(delayMs, task) },
    );
    this.#runtimes.push(runtime);
    const { manager, integrity, versions } = runtime.own ?? {};
    assert.ok(manager !== undefined && integrity !== undefined && versions !== undefined, 'the runtime has a manager');
    return { manager, integrity, sealed: versions.store, events };
  }

  /** A process that has made the secrets, the victim with two versions. */
  async populated(): Promise<AttackedProcess> {
    const process = await this.start();
    for (const name of BYSTANDERS) await process.manager.createSecret(name, `value of ${name}`);
    await process.manager.createSecret(VICTIM, 'first value');
    await process.manager.putSecretValue(VICTIM, 'second value');
    return process;
  }

  async stop(): Promise<void> {
    for (const runtime of this.#runtimes.splice(0)) await runtime.close();
  }

  async entry(key: string): Promise<StoreEntry> {
    const entry = await this.attacker.get(key);
    assert.ok(entry !== undefined, `there is an entry ${key}`);
    return entry;
  }

  async put(...entries: readonly { readonly key: string; readonly value: Uint8Array | null }[]): Promise<void> {
    for (let at = 0; at < entries.length; at += 50) {
      const writes = entries.slice(at, at + 50).map(({ key, value }) => ({ key, value }));
      await this.attacker.commit({ conditions: [], writes });
    }
  }

  /** Every entry, or those that belong to one secret. */
  async copy(secretName?: string): Promise<StoreEntry[]> {
    const entries: StoreEntry[] = [];
    for (;;) {
      const after = entries.at(-1)?.key;
      const page = await this.attacker.list({ prefix: '', limit: 500, ...(after === undefined ? {} : { after }) });
      entries.push(...page);
      if (page.length < 500) break;
    }
    const isOf = ({ key }: StoreEntry): boolean => key.split(/[/:]/)[1] === secretName;
    return secretName === undefined ? entries : entries.filter(isOf);
  }

  /** Puts back what was copied, and removes what came since. */
  async restore(copied: readonly StoreEntry[], secretName?: string): Promise<void> {
    const keys = new Set(copied.map(({ key }) => key));
    const since = (await this.copy(secretName)).filter(({ key }) => !keys.has(key));
    await this.put(...copied, ...since.map(({ key }) => ({ key, value: null })));
  }
}

/** What an attack must come to. */
export interface Expectation {
  readonly kind: IntegrityFindingKind | readonly IntegrityFindingKind[];
  readonly key: string;
  /** How somebody who needs what was attacked comes upon it. */
  readonly look: (process: AttackedProcess) => Promise<unknown>;
}

/** The attack is refused, named, told once, and found again by whoever looks through the store; and it keeps nobody from the other secrets. */
export async function expectNoticed(process: AttackedProcess, { kind, key, look }: Expectation): Promise<void> {
  const kinds: readonly string[] = typeof kind === 'string' ? [kind] : kind;
  await assert.rejects(look(process), (error) => isSecretsError(error, 'RECORD_CORRUPT'), `${key} is refused`);
  const told = process.events.flatMap((event) =>
    event.type === 'found' && event.finding.key === key ? [event.finding] : [],
  );
  assert.equal(told.length, 1, `${key} is told of once`);
  assert.ok(told[0] !== undefined && kinds.includes(told[0].kind), `${told[0]?.kind} is one of ${kinds.join(', ')}`);
  const { findings } = await process.integrity.verifyStore();
  const found = findings.filter((finding) => finding.key === key);
  assert.equal(found.length, 1, `verifyStore() finds ${key}`);
  assert.ok(found[0] !== undefined && kinds.includes(found[0].kind), `as ${kinds.join(' or ')}`);
  const secrets = new Set(findings.map(({ secretName }) => secretName));
  for (const name of BYSTANDERS) assert.ok(!secrets.has(name), `${name} is under no suspicion`);
  await expectOthersWork(process);
}

export async function expectOthersWork({ manager }: AttackedProcess): Promise<void> {
  for (const name of BYSTANDERS) {
    const before = await manager.getSecretValue(name);
    assert.ok(String(before.value).startsWith(`value of ${name}`), `${name} has its value`);
    await manager.putSecretValue(name, `value of ${name}, again`);
    assert.equal((await manager.getSecretValue(name)).value, `value of ${name}, again`);
  }
  const { items } = await manager.listSecrets();
  for (const name of BYSTANDERS)
    assert.ok(
      items.some((item) => item.name === name),
      `${name} is listed`,
    );
}
