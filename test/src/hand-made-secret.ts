import type {
  CredentialFailure,
  DatabaseCredentials,
  Secret,
  SecretChange,
  SecretConsumer,
  SecretLink,
  SecretVersion,
} from '@nestjs-secrets/core';
import { SECRET_LINK } from '@nestjs-secrets/core';
import { BehaviorSubject } from 'rxjs';

/** A handle on a secret that a test moves by hand. */
export class HandMadeSecret implements Secret<DatabaseCredentials> {
  readonly name = 'MyDbCreds';
  readonly changes$: BehaviorSubject<SecretChange<DatabaseCredentials>>;
  /** What the source knows beyond the current version, best first. */
  others: SecretVersion<DatabaseCredentials>[] = [];
  /** How often the candidates were asked for. */
  asked = 0;
  /** Called, and waited for, each time the candidates are asked for. */
  onAsked: () => unknown = () => undefined;
  /** When set, the source cannot answer. */
  outage: Error | undefined;
  readonly consumers = new Set<SecretConsumer>();
  /** What consumers told of refusals, oldest first. */
  readonly reported: CredentialFailure[] = [];
  /** While set, this process counts as one that was paused and has not re-read the secret yet. */
  pause: Promise<void> | undefined;
  updates = 0;
  /** Called when a consumer says that it holds something else now. */
  onUpdate: () => void = () => undefined;
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
        await this.onAsked();
        if (this.outage !== undefined) throw this.outage;
        return [{ name: this.name, versionId: this.versionId, value: this.value }, ...this.others];
      },
      attach: (consumer) => {
        this.consumers.add(consumer);
        const update = (): void => {
          this.updates += 1;
          this.onUpdate();
        };
        return { update, detach: () => this.consumers.delete(consumer) };
      },
      report: (failure) => void this.reported.push(failure),
      afterPause: () => this.pause,
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

  /** What the handle does after its process stood still: nobody is let through until the secret was read anew. */
  pauseProcess(): { readAnew(publish?: () => void): void } {
    let done = (): void => undefined;
    this.pause = new Promise((resolve) => (done = resolve));
    return {
      readAnew: (publish = () => undefined) => {
        publish();
        this.pause = undefined;
        done();
      },
    };
  }

  /** The version ids its consumers hold. */
  held(): string[] {
    return [...new Set([...this.consumers].flatMap((consumer) => [...consumer.holds()]))].toSorted();
  }
}
