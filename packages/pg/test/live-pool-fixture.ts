import { setTimeout as delay } from 'node:timers/promises';
import type {
  DatabaseCredentials,
  Secret,
  SecretChange,
  SecretConsumer,
  SecretLink,
  SecretVersion,
} from '@nestjs-secrets/core';
import { SECRET_LINK } from '@nestjs-secrets/core';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { BehaviorSubject } from 'rxjs';

/** A handle on a secret that a test moves by hand. */
export class HandMadeSecret implements Secret<DatabaseCredentials> {
  readonly name = 'MyDbCreds';
  readonly changes$: BehaviorSubject<SecretChange<DatabaseCredentials>>;
  /** What the source knows beyond the current version, best first. */
  others: SecretVersion<DatabaseCredentials>[] = [];
  /** How often the candidates were asked for. */
  asked = 0;
  /** When set, the source cannot answer. */
  outage: Error | undefined;
  readonly consumers = new Set<SecretConsumer>();
  updates = 0;
  readonly [SECRET_LINK]: SecretLink<DatabaseCredentials>;

  constructor(versionId: string, value: DatabaseCredentials) {
    this.changes$ = new BehaviorSubject<SecretChange<DatabaseCredentials>>({
      name: this.name,
      versionId,
      value,
      previousVersionId: undefined,
      rolledBack: false,
    });
    this[SECRET_LINK] = {
      candidates: async () => {
        this.asked += 1;
        if (this.outage !== undefined) throw this.outage;
        return [{ name: this.name, versionId: this.versionId, value: this.value }, ...this.others];
      },
      attach: (consumer) => {
        this.consumers.add(consumer);
        return { update: () => (this.updates += 1), detach: () => this.consumers.delete(consumer) };
      },
    };
  }

  get value(): DatabaseCredentials {
    return this.changes$.value.value;
  }

  get versionId(): string {
    return this.changes$.value.versionId;
  }

  refresh(): Promise<void> {
    return Promise.resolve();
  }

  version(versionId: string, value: DatabaseCredentials): SecretVersion<DatabaseCredentials> {
    return { name: this.name, versionId, value };
  }

  publish(versionId: string, value: DatabaseCredentials, rolledBack = false): void {
    const previousVersionId = this.versionId;
    this.changes$.next({ name: this.name, versionId, value, previousVersionId, rolledBack });
  }

  /** The version ids its consumers hold. */
  held(): string[] {
    return [...new Set([...this.consumers].flatMap((consumer) => [...consumer.holds()]))].toSorted();
  }
}

/** Waits until a condition holds, and fails with its description when it does not within ten seconds. */
export async function eventually(description: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within 10 s: ${description}`);
    await delay(5);
  }
}

/** Log-in roles of their own for a test. */
export async function createRoles(server: PostgresServer, ...names: string[]): Promise<void> {
  for (const name of names) {
    await server.query(`CREATE ROLE "${name}" LOGIN PASSWORD 'first-password-of-${name}'`);
  }
}

export function firstCredentials(role: string): DatabaseCredentials {
  return { username: role, password: `first-password-of-${role}` };
}

export function settled<T>(promise: Promise<T>): Promise<PromiseSettledResult<T>> {
  return Promise.allSettled([promise]).then(([result]) => result);
}
