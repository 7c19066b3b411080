import { type Observable, Subject } from 'rxjs';
import type { Clock } from '../foundation/clock.js';
import { isSecretsError, SecretInUseError, SecretNotFoundError, VersionInUseError } from '../foundation/errors.js';
import type { Randomness } from '../foundation/randomness.js';
import type { EndDoor } from '../keys/end-door.js';
import type { KeyManager } from '../keys/key-manager.js';
import type { RotationJournal } from '../rotation/rotation-journal.js';
import { isUnfinished } from '../rotation/rotation-state.js';
import { versionRemoval } from '../versions/sealed-values.js';
import { removeVersion, requireVersion, type SecretRecord } from '../versions/secret-record.js';
import { destroyVersionAt, isVersionInUse, settleDue, type VersionNotice } from '../versions/version-lifecycle.js';
import type { VersionStore } from '../versions/version-store.js';
import { DueWatch } from './due-watch.js';
import type { LifecycleEvent } from './lifecycle-events.js';
import {
  type DeleteSecretOptions,
  type DestroyVersionOptions,
  destructionDelayMs,
  recoveryWindowMs,
} from './lifecycle-requests.js';

export interface LifecycleParts {
  readonly versions: VersionStore;
  readonly journal: RotationJournal;
  readonly keys: KeyManager;
  /** What stands before everything that ends by itself. */
  readonly ends: EndDoor;
  readonly clock: Clock;
  readonly randomness: Randomness;
}

const KEY = 'cmk:';

/**
 * What becomes of secrets, versions and master keys in time: versions expire and are destroyed, deleted secrets are removed, keys are destroyed. Whichever
 * instance comes first acts; what is due stands in the store, so a restart loses nothing and an outage only delays it.
 */
export class Lifecycle {
  /** What happens in this process, as it happens; nothing is replayed. Completes on shutdown. */
  readonly events$: Observable<LifecycleEvent>;
  readonly #events = new Subject<LifecycleEvent>();
  readonly #watch: DueWatch;
  /** Why the removal of a secret waits, as it was told last. */
  readonly #held = new Map<string, string>();

  constructor(private readonly parts: LifecycleParts) {
    this.events$ = this.#events.asObservable();
    const { versions, clock, randomness } = parts;
    this.#watch = new DueWatch({ store: versions.store, clock, randomness, handle: (what) => this.#handle(what) });
  }

  /** Begins to carry out what is due, what came due while no instance was there first. */
  async start(): Promise<void> {
    await this.#watch.start();
  }

  async stop(): Promise<void> {
    await this.#watch.stop();
    this.#events.complete();
  }

  /**
   * Has a secret removed after its recovery window. Until then it gives no value, takes none, does not rotate, and can be restored; what instances hold of it
   * stays with them. By force it is gone at once. A rotation under way comes to its end first.
   * @throws DeletionRequestError
   * @throws SecretInUseError by force, when a rotation is under way or instances have leases of it
   */
  async deleteSecret(name: string, options: DeleteSecretOptions = {}): Promise<SecretRecord | undefined> {
    const { versions, clock } = this.parts;
    const windowMs = recoveryWindowMs(options);
    const record = await versions.get(name);
    if (windowMs === 0) {
      const why = await this.#purge(record, (work) => work());
      if (why !== undefined) throw new SecretInUseError(name, why);
      return undefined;
    }
    const deleted = await this.#change(name, (before) => {
      // Whoever deletes it again does not put it off.
      if (before.deletion !== undefined) return undefined;
      const now = clock.now();
      return { ...before, updatedAt: now, deletion: { requestedAt: now, purgeAt: now + windowMs } };
    });
    const { deletion } = deleted.record;
    if (deleted.isChanged && deletion !== undefined) this.#tell(name, { type: 'deleted', purgeAt: deletion.purgeAt });
    return deleted.record;
  }

  /** Takes a deletion back; restoring what is not deleted changes nothing. */
  async restoreSecret(name: string): Promise<SecretRecord> {
    const { record, isChanged } = await this.#change(name, (before) => {
      if (before.deletion === undefined) return undefined;
      const { deletion: _taken, ...rest } = before;
      return { ...rest, updatedAt: this.parts.clock.now() };
    });
    if (isChanged) this.#tell(name, { type: 'restored' });
    return record;
  }

  /**
   * Destroys the value of a version, with its data key, at once or later. It must have no stage and be retired where it belongs to a target.
   * @throws VersionNotFoundError, VersionInUseError, DeletionRequestError
   */
  async destroyVersion(name: string, versionId: string, options: DestroyVersionOptions = {}): Promise<SecretRecord> {
    const { versions, clock } = this.parts;
    const delayMs = destructionDelayMs(options);
    const record = await versions.change(name, (before) => {
      if (before === undefined) throw new SecretNotFoundError(name);
      requireVersion(before, versionId);
      if (isVersionInUse(before, versionId)) throw new VersionInUseError(name, versionId);
      const now = clock.now();
      if (delayMs > 0) return { record: { ...destroyVersionAt(before, versionId, now + delayMs), updatedAt: now } };
      return {
        record: { ...removeVersion(before, versionId), updatedAt: now },
        writes: [versionRemoval(name, versionId)],
      };
    });
    if (delayMs === 0) this.#tell(name, { type: 'version-destroyed', versionId });
    return record ?? versions.get(name);
  }

  /** Does what is due of a secret or of a master key. */
  async #handle(what: string): Promise<void> {
    try {
      if (what.startsWith(KEY)) await this.parts.keys.settleDestruction(what.slice(KEY.length));
      else await this.#settle(what);
    } catch (error) {
      const message = isSecretsError(error) ? `${error.code}: ${error.message}` : 'an error of another kind';
      this.#tell(what, { type: 'failed', message });
    }
  }

  async #settle(name: string): Promise<void> {
    const { versions, clock } = this.parts;
    const found = await versions.find(name);
    if (found === undefined) return;
    const { deletion } = found.record;
    if (deletion !== undefined && deletion.purgeAt <= clock.now()) {
      const why = await this.#purge(found.record, (work) => this.parts.ends.purgeSecret(name, work));
      if (why !== undefined && this.#held.get(name) !== why) {
        this.#held.set(name, why);
        this.#tell(name, { type: 'purge-held', why });
      }
      return;
    }
    const due = destroyedIn(settleDue(found.record, clock.now(), versions.expiryWarnings).notices);
    if (due.length === 0) await this.#settleVersions(name);
    else await this.parts.ends.purgeVersions(name, due, () => this.#settleVersions(name));
  }

  async #settleVersions(name: string): Promise<void> {
    const { versions, clock } = this.parts;
    let notices: readonly VersionNotice[] = [];
    await versions.change(name, (before) => {
      notices = [];
      if (before === undefined) return undefined;
      const settled = settleDue(before, clock.now(), versions.expiryWarnings);
      notices = settled.notices;
      if (notices.length === 0) return undefined;
      return { record: settled.record, writes: destroyedIn(notices).map((id) => versionRemoval(name, id)) };
    });
    for (const notice of notices) {
      if (notice.kind === 'destroyed') this.#tell(name, { type: 'version-destroyed', versionId: notice.versionId });
      else this.#tell(name, { type: notice.kind, versionId: notice.versionId, expiresAt: notice.expiresAt });
    }
  }

  /** Removes a secret for good; what keeps it from that, otherwise. */
  async #purge(
    { name, lease }: SecretRecord,
    through: (work: () => Promise<boolean>) => Promise<boolean>,
  ): Promise<string | undefined> {
    const { versions, journal } = this.parts;
    if (lease !== undefined) return `it is the credential of instance ${lease.instanceId}, which takes it back itself`;
    const leases = (await versions.leases()).filter(({ of }) => of === name);
    if (leases.length > 0)
      return `instances have credentials of their own of it: ${leases.map(({ instanceId }) => instanceId).join(', ')}`;
    const isBusy = isUnfinished(await journal.read(name));
    if (isBusy || !(await through(() => journal.purge(name))))
      return 'a rotation, or the retirement of a version, is under way';
    this.#held.delete(name);
    await this.parts.ends.forgetSecret(name);
    this.#tell(name, { type: 'purged' });
    return undefined;
  }

  async #change(
    name: string,
    edit: (record: SecretRecord) => SecretRecord | undefined,
  ): Promise<{ record: SecretRecord; isChanged: boolean }> {
    let isChanged = false;
    const record = await this.parts.versions.change(name, (before) => {
      if (before === undefined) throw new SecretNotFoundError(name);
      const after = edit(before);
      isChanged = after !== undefined;
      return after && { record: after };
    });
    if (record === undefined) throw new SecretNotFoundError(name);
    return { record, isChanged };
  }

  #tell(secretName: string, event: EventBody): void {
    this.#events.next({ ...event, secretName, at: this.parts.clock.now() });
  }
}

function destroyedIn(notices: readonly VersionNotice[]): string[] {
  return notices.flatMap(({ kind, versionId }) => (kind === 'destroyed' ? [versionId] : []));
}

/** An event without what all of them have. */
type EventBody = LifecycleEvent extends infer E
  ? E extends LifecycleEvent
    ? Omit<E, 'secretName' | 'at'>
    : never
  : never;
