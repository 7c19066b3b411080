import { type Cancel, pause } from '../foundation/clock.js';
import {
  isSecretsError,
  LeaseUnsupportedError,
  RotationInterruptedError,
  SecretDeletedError,
} from '../foundation/errors.js';
import { redactError } from '../foundation/redaction.js';
import { lastingRevision } from '../store/move-records.js';
import { leaseTtlMs, type RotationPolicy } from '../versions/rotation-policy.js';
import { addLease, leaseName, type SecretRecord, versionAt } from '../versions/secret-record.js';
import { type EngineContext, loadVersion, messageOf, retryDelay } from './engine-context.js';
import { concludeRotation } from './rotation-reports.js';
import type { RotationRequest } from './rotation-request.js';
import type { RotationResult } from './rotation-result.js';
import { isUnfinished } from './rotation-state.js';
import { Tenure } from './rotation-tenure.js';

export type Rotate = (secretName: string, request: RotationRequest) => Promise<RotationResult | undefined>;

/** What a lease is renewed this many times in. */
const RENEWALS_PER_TTL = 3;
const LEAVE_LIMIT_MS = 5_000;

/**
 * Dynamic credentials: a secret whose policy has a `lease` has a value for each instance, under a name of its own (`MyDbCreds@<instance id>`). It
 * is made when the instance opens the secret, renewed as long as it lives, and revoked when it leaves or has died.
 */
export class Leases {
  /** The name of the secret → the name of this instance's own. */
  readonly #own = new Map<string, string>();
  readonly #opening = new Map<string, Promise<void>>();
  readonly #renewing = new Map<string, Cancel>();

  constructor(
    private readonly context: EngineContext,
    private readonly rotate: Rotate,
  ) {
    // Taken for dead, it may have lost them.
    context.instance.listen({
      back: () => {
        for (const name of this.#renewing.keys()) this.#renewLater(name, 0, 0);
      },
    });
  }

  /** What this instance knows a secret by: the name of its lease where there is one. */
  nameOf(secretName: string): string {
    return this.#own.get(secretName) ?? secretName;
  }

  /** The secret whose lease of this instance has this name; the name itself for any other. */
  secretOf(name: string): string {
    for (const [secretName, lease] of this.#own) if (lease === name) return secretName;
    return name;
  }

  /**
   * Makes this instance's credential, where the secret is one of leases.
   * @throws RotationFailedError, LeaseUnsupportedError
   */
  open(secretName: string): Promise<void> {
    let opening = this.#opening.get(secretName);
    if (opening === undefined) {
      opening = this.#open(secretName);
      this.#opening.set(secretName, opening);
      opening.catch(() => this.#opening.delete(secretName));
    }
    return opening;
  }

  /** The names of all leases of a secret, whoever has them. */
  async of(secretName: string): Promise<string[]> {
    const leases = await this.context.versions.leases();
    return leases.filter(({ of }) => of === secretName).map(({ name }) => name);
  }

  /** Revokes what belonged to instances that are gone. */
  async reap(): Promise<void> {
    const { versions, instance, instances, rotators } = this.context;
    for (const { name, instanceId } of await versions.leases()) {
      if (instanceId === instance.id || !(await instances.isGone(instanceId))) continue;
      const rotator = (await versions.find(name))?.record.rotation?.rotator;
      // Whoever has the rotator does it.
      if (rotator !== undefined && rotators.has(rotator)) await this.#revoke(name, () => instances.isGone(instanceId));
    }
  }

  /** Revokes the leases of this instance; what does not succeed in time is left to the others. */
  async leave(): Promise<void> {
    for (const cancel of this.#renewing.values()) cancel();
    this.#renewing.clear();
    if (this.#own.size === 0) return;
    const inTime = new AbortController();
    const revoking = Promise.allSettled([...this.#own.values()].map((name) => this.#revoke(name, async () => true)));
    await Promise.race([revoking, pause(this.context.clock, LEAVE_LIMIT_MS, inTime.signal)]);
    inTime.abort();
  }

  async #open(secretName: string): Promise<void> {
    const { versions, instance, rotators } = this.context;
    const record = (await versions.find(secretName))?.record;
    const policy = record?.rotation;
    if (policy?.lease === undefined) return;
    if (record?.deletion !== undefined) throw new SecretDeletedError(secretName, record.deletion.purgeAt);
    const rotator = rotators.get(policy.rotator, secretName);
    if (rotator.strategy !== 'lease' || rotator.renew === undefined)
      throw new LeaseUnsupportedError(secretName, policy.rotator);
    const name = leaseName(secretName, instance.id);
    await this.#make(secretName, policy, 0, record?.key);
    this.#own.set(secretName, name);
    this.#renewLater(name, leaseTtlMs(policy) / RENEWALS_PER_TTL, 0);
  }

  async #make(secretName: string, policy: RotationPolicy, counted: number, key: string | undefined): Promise<void> {
    const { versions, instance, clock } = this.context;
    const name = leaseName(secretName, instance.id);
    await versions.change(name, (before) => ({
      record: before ?? addLease(secretName, instance.id, policy, clock.now(), counted, key),
    }));
    await this.rotate(name, { reason: 'first-version' });
  }

  #renewLater(name: string, delayMs: number, attempts: number): void {
    const { clock, signal } = this.context;
    if (signal.aborted) return;
    this.#renewing.get(name)?.();
    this.#renewing.set(
      name,
      clock.after(delayMs, () => void this.#renewAndGoOn(name, attempts)),
    );
  }

  async #renewAndGoOn(name: string, attempts: number): Promise<void> {
    const { clock, events, randomness, versions } = this.context;
    try {
      await this.#renewOrReplace(name);
      const policy = (await versions.find(name))?.record.rotation;
      this.#renewLater(name, (policy === undefined ? LEAVE_LIMIT_MS : leaseTtlMs(policy)) / RENEWALS_PER_TTL, 0);
    } catch (error) {
      // Another instance is retiring an older version of it, say.
      const isPassing = isSecretsError(error, 'ROTATION_INTERRUPTED');
      const delay = retryDelay(isPassing ? 1 : attempts + 1, randomness);
      if (!isPassing) {
        const at = clock.now();
        const failed = { secretName: name, rotationId: '', at, step: undefined, retryAt: at + delay };
        events.next({ type: 'failed', ...failed, message: `renewing the lease: ${messageOf(error)}` });
      }
      this.#renewLater(name, delay, isPassing ? attempts : attempts + 1);
    }
  }

  /** What was taken away is made anew: the account alone, or all of it, as when this instance was taken for dead. */
  async #renewOrReplace(name: string): Promise<void> {
    const { versions } = this.context;
    try {
      if (await this.#renew(name)) return;
    } catch (error) {
      if (!isSecretsError(error, 'LEASE_LOST')) throw error;
      await this.rotate(name, { reason: 'requested' });
      return;
    }
    const secretName = this.secretOf(name);
    const found = (await versions.find(secretName))?.record;
    const policy = found?.rotation;
    // Grows with every commit, and so faster than anything that is counted in a record.
    if (policy?.lease !== undefined)
      await this.#make(secretName, policy, await lastingRevision(versions.store), found?.key);
  }

  /** Whether there is a credential to be renewed: none is left when others revoked it, or while a new one could not be made. */
  async #renew(name: string): Promise<boolean> {
    const { clock, turns, door } = this.context;
    let isThere = false;
    await this.#under(name, async (tenure, record) => {
      const policy = record.rotation;
      const version = versionAt(record, 'current');
      if (policy === undefined || version === undefined || record.lease === undefined) return;
      isThere = true;
      const rotator = this.context.rotators.get(policy.rotator, name);
      const { instanceId } = record.lease;
      const asked = { secretName: name, rotator: policy.rotator, rotationId: 'renew', versionId: version.id };
      await door.step({ ...asked, operation: 'renewLease' }, async () => {
        const current = await loadVersion(this.context, name, version.id);
        const lease = { instanceId, validUntil: clock.now() + leaseTtlMs(policy) };
        try {
          await turns.take(name, tenure.signal, async () =>
            rotator.renew?.({ ...this.#step(tenure, 'renew'), current, lease }),
          );
        } catch (error) {
          if (isSecretsError(error, 'ROTATION_INTERRUPTED') || isSecretsError(error, 'LEASE_LOST')) throw error;
          throw redactError(error, [current.value]);
        }
      });
    });
    return isThere;
  }

  async #revoke(name: string, isToGo: () => Promise<boolean>): Promise<void> {
    const { journal, consumers, reports, instances } = this.context;
    await this.#under(name, async (tenure, record) => {
      // First the rotation under way must come to its end, here or elsewhere.
      if (isUnfinished(await journal.read(name))) return;
      // Who has come back meanwhile renews under this tenure, too.
      if (!(await isToGo())) return;
      await this.#retire(tenure, record);
      // Tokens are counted anew after this, so an old one must not get here.
      tenure.assertHolder();
      await tenure.remove();
      await consumers.tidy(name);
      await reports.tidy(name, (id) => instances.isGone(id));
    });
  }

  async #retire(tenure: Tenure, record: SecretRecord): Promise<void> {
    const { clock, events, turns, rotators, door } = this.context;
    const { rotation: policy, lease, name } = record;
    const version = versionAt(record, 'current');
    if (version === undefined || policy === undefined || lease === undefined) return;
    const rotator = rotators.get(policy.rotator, name);
    const versionId = version.id;
    const about = { rotator: policy.rotator, rotationId: 'revoke' };
    const report = await door.step({ ...about, operation: 'retireVersion', secretName: name, versionId }, async () => {
      const retiring = await loadVersion(this.context, name, versionId);
      const terms = { instanceId: lease.instanceId, validUntil: clock.now() };
      try {
        const context = { ...this.#step(tenure, 'revoke'), current: retiring, retiring, lease: terms };
        return (await turns.take(name, tenure.signal, async () => rotator.retire(context))) ?? undefined;
      } catch (error) {
        if (isSecretsError(error, 'ROTATION_INTERRUPTED')) throw error;
        throw redactError(error, [retiring.value]);
      }
    });
    await concludeRotation(this.context, name, about, {
      outcome: 'revoked',
      previousVersionId: versionId,
      retired: report,
    });
    events.next({ type: 'retired', secretName: name, rotationId: 'revoke', at: clock.now(), versionId, report });
  }

  async #under(name: string, work: (tenure: Tenure, record: SecretRecord) => Promise<void>): Promise<void> {
    const { tenures, versions } = this.context;
    // Entering would leave a journal of nothing.
    if ((await versions.find(name)) === undefined) return;
    const tenure = await tenures.enter(name);
    if (!(tenure instanceof Tenure)) throw new RotationInterruptedError(name);
    try {
      const record = (await versions.find(name))?.record;
      if (record !== undefined) await work(tenure, record);
    } finally {
      await tenure.release().catch(() => undefined);
    }
  }

  #step(tenure: Tenure, rotationId: string) {
    const { clock } = this.context;
    const { secretName, signal } = tenure;
    return { secretName, rotationId, signal, clock, notes: {}, assertHolder: () => tenure.assertHolder() };
  }
}
