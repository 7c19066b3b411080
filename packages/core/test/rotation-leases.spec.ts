import { describe, expect, it } from '@jest/globals';
import {
  type CreateContext,
  type PendingContext,
  type RenewContext,
  type RetireContext,
  type RetireReport,
  secretLink,
  type SecretRotator,
  SecretsError,
} from '@nestjs-secrets/core';
import { contentOf, exported } from './support/backup-world.js';
import { type Fleet, LEASE_MS, type Member, startFleet } from './support/fleet.js';
import { holdOn, type Login } from './support/world.js';

const TTL_MS = 60_000;

/** Accounts that end by themselves. */
class LeaseTarget {
  readonly accounts = new Map<string, { readonly password: string; validUntil: number }>();
  isAway = false;

  opens({ username, password }: Login, at: number): boolean {
    const account = this.accounts.get(username);
    return account?.password === password && at < account.validUntil;
  }
}

class LeaseRotator implements SecretRotator<Login> {
  readonly name = 'lease';
  readonly strategy = 'lease';
  readonly deeds: string[] = [];
  hook: (step: string) => void | Promise<void> = () => undefined;

  constructor(readonly target: LeaseTarget) {}

  create({ lease, randomPassword }: CreateContext<Login>): Login {
    return {
      username: `${lease?.instanceId}_${randomPassword({ excludePunctuation: true })}`,
      password: randomPassword(),
    };
  }

  async apply({ pending, lease, assertHolder }: PendingContext<Login>): Promise<void> {
    await this.#act('apply', assertHolder);
    const { username, password } = pending.value;
    this.target.accounts.set(username, { password, validUntil: lease?.validUntil ?? 0 });
  }

  async verify({ pending, clock }: PendingContext<Login>): Promise<void> {
    await this.hook('verify');
    if (!this.target.opens(pending.value, clock.now())) throw new Error('the new log-in is refused');
  }

  async renew({ current, lease, assertHolder }: RenewContext<Login>): Promise<void> {
    await this.#act('renew', assertHolder);
    const account = this.target.accounts.get(current.value.username);
    if (account === undefined) throw new SecretsError('LEASE_LOST', 'The account is gone.');
    account.validUntil = Math.max(account.validUntil, lease.validUntil);
  }

  async retire({ retiring, assertHolder }: RetireContext<Login>): Promise<RetireReport> {
    await this.#act('retire', assertHolder);
    this.target.accounts.delete(retiring.value.username);
    return { refused: true, sessionsEnded: 0, sessionsLeft: 0 };
  }

  async undo({ pending, assertHolder }: PendingContext<Login>): Promise<void> {
    await this.#act('undo', assertHolder);
    this.target.accounts.delete(pending.value.username);
  }

  async #act(step: string, assertHolder: () => void): Promise<void> {
    await this.hook(step);
    assertHolder();
    if (this.target.isAway) throw new Error('the target is away');
    this.deeds.push(step);
  }
}

async function startLeasing(size = 2) {
  const target = new LeaseTarget();
  const rotators: LeaseRotator[] = [];
  const fleet = await startFleet({
    size,
    others: () => {
      const rotator = new LeaseRotator(target);
      rotators.push(rotator);
      return [rotator];
    },
  });
  for (const { manager } of fleet.members)
    await manager.ensureSecret({ name: 'Leased', initial: undefined, rotation: { rotator: 'lease', lease: TTL_MS } });
  const opens = (login: Login): boolean => target.opens(login, fleet.clock.now());
  const rotatorOf = (place: number): LeaseRotator => rotators[place] ?? new LeaseRotator(target);
  return { fleet, target, opens, rotatorOf, one: fleet.at(0), other: fleet.at(1) };
}

/** Everything that is left of the credentials of instances. */
const kept = async (fleet: Fleet): Promise<string[]> =>
  (await fleet.shared.list({ prefix: '', limit: 1000 })).map(({ key }) => key).filter((key) => key.includes('Leased@'));

/** Moves time on in steps, and looks at each. */
async function during(fleet: Fleet, ms: number, look: () => void): Promise<void> {
  for (let passed = 0; passed < ms; passed += 1_000) {
    await fleet.clock.advance(1_000);
    look();
  }
}

const failures = ({ events }: Member) => events.filter(({ type }) => type === 'failed');

describe('credentials that belong to one instance', () => {
  it('are made when it opens the secret, for itself alone, and end by themselves', async () => {
    const { fleet, target, opens, one, other } = await startLeasing();
    expect(target.accounts.size).toBe(0);
    const [first, second] = [await one.secret('Leased'), await other.secret('Leased')];
    expect([first.name, second.name]).toEqual(['Leased', 'Leased']);
    expect(first.value.username).toContain(one.id);
    expect(second.value.username).toContain(other.id);
    expect([opens(first.value), opens(second.value), target.accounts.size]).toEqual([true, true, 2]);
    for (const { validUntil } of target.accounts.values()) expect(validUntil).toBe(fleet.clock.now() + TTL_MS);
    expect(await one.secret('Leased')).toBe(first);
  });

  it('are in a backup, and revoked where it is restored, since their instances are not there', async () => {
    const { target, one, other } = await startLeasing();
    await other.secret('Leased');
    const { bytes, summary } = await exported(one.manager);
    expect(bytes.includes(`Leased@${other.id}`)).toBe(true);
    const next = await startFleet({ size: 1, others: () => [new LeaseRotator(target)] });
    await next.at(0).manager.backup.importStore(contentOf(bytes), { signedBy: summary.signedBy, onConflict: 'skip' });
    expect(await kept(next)).not.toEqual([]);
    expect(target.accounts.size).toBe(1);
    await next.clock.advance(10 * LEASE_MS);
    expect(target.accounts.size).toBe(0);
    expect((await kept(next)).filter((key) => key.startsWith('secret/'))).toEqual([]);
  });

  it('are renewed in time, for as long as the instance lives', async () => {
    const { fleet, opens, one, other, rotatorOf } = await startLeasing();
    const secrets = [await one.secret('Leased'), await other.secret('Leased')];
    const values = secrets.map(({ value }) => value);
    await during(fleet, 10 * TTL_MS, () => expect(values.map(opens)).toEqual([true, true]));
    expect(secrets.map(({ value }) => value)).toEqual(values);
    const renewals = rotatorOf(0).deeds.filter((step) => step === 'renew').length;
    expect(renewals).toBeGreaterThanOrEqual(28);
    expect(renewals).toBeLessThanOrEqual(32);
  });

  it('are renewed after all when the target was away for a while, and it is told', async () => {
    const { fleet, target, opens, one } = await startLeasing();
    const { value } = await one.secret('Leased');
    target.isAway = true;
    await fleet.clock.advance(TTL_MS / 2);
    const told = failures(one);
    expect(told.length).toBeGreaterThan(0);
    expect(told.length).toBeLessThan(10);
    expect(told[0]).toMatchObject({ message: expect.stringContaining('renewing the lease: the target is away') });
    target.isAway = false;
    await during(fleet, 3 * TTL_MS, () => expect(opens(value)).toBe(true));
  });

  it('are made anew when somebody has taken them away', async () => {
    const { fleet, target, opens, one } = await startLeasing();
    const secret = await one.secret('Leased');
    const { username } = secret.value;
    target.accounts.delete(username);
    await fleet.clock.advance(TTL_MS);
    expect(secret.value.username).not.toBe(username);
    expect(opens(secret.value)).toBe(true);
    await during(fleet, 2 * TTL_MS, () => expect(opens(secret.value)).toBe(true));
  });

  it('are revoked when the instance leaves, and nothing of them stays', async () => {
    const { fleet, target, opens, one, other } = await startLeasing();
    const [first, second] = [await one.secret('Leased'), await other.secret('Leased')];
    await one.runtime.stopRotating();
    await one.runtime.close();
    expect(target.accounts.has(first.value.username)).toBe(false);
    expect((await kept(fleet)).filter((key) => key.includes(one.id))).toEqual([]);
    await during(fleet, 2 * TTL_MS, () => expect(opens(second.value)).toBe(true));
    expect((await other.manager.describeSecret('Leased')).name).toBe('Leased');
  });

  it('are revoked by others when the instance has died, once, and not before it is known to be dead', async () => {
    const { fleet, target, opens, one, other, rotatorOf } = await startLeasing(3);
    const secrets = [await one.secret('Leased'), await other.secret('Leased'), await fleet.at(2).secret('Leased')];
    const [first = { username: '', password: '' }, ...others] = secrets.map(({ value }) => value);
    for (const { runtime } of fleet.members)
      runtime.own?.source.report?.('Leased', {
        versionId: 'v1',
        kind: 'permission',
        code: '42501',
        consumer: 'a pool',
      });
    await secretLink(secrets[1] ?? (await one.secret('Leased'))).candidates();
    await fleet.clock.advance(0);
    one.host.kill();
    await fleet.clock.advance(1.6 * LEASE_MS);
    expect(opens(first)).toBe(true);
    await fleet.clock.advance(2 * LEASE_MS);
    expect(target.accounts.has(first.username)).toBe(false);
    expect([rotatorOf(1), rotatorOf(2)].flatMap(({ deeds }) => deeds).filter((step) => step === 'retire')).toHaveLength(
      1,
    );
    expect((await kept(fleet)).filter((key) => key.includes(one.id))).toEqual([]);
    await during(fleet, TTL_MS, () => expect(others.map(opens)).toEqual([true, true]));
  });

  it.each(['apply', 'verify', 'retire'])('leave nothing when the instance dies at %s', async (step) => {
    const { fleet, target, one, other, rotatorOf } = await startLeasing();
    await other.secret('Leased');
    const reached = new Promise<void>((resolve) => {
      rotatorOf(0).hook = (at) => {
        if (at !== step) return undefined;
        resolve();
        return new Promise(() => undefined);
      };
    });
    const opening = one.secret('Leased');
    opening.catch(() => undefined);
    if (step === 'retire') {
      await opening;
      void one.runtime.stopRotating().then(() => one.runtime.close());
    }
    await reached;
    one.host.kill();
    await fleet.clock.advance(5 * LEASE_MS);
    expect([...target.accounts.keys()].filter((username) => username.includes(one.id))).toEqual([]);
    expect((await kept(fleet)).filter((key) => key.includes(one.id))).toEqual([]);
    expect(target.accounts.size).toBe(1);
  });

  it('are made anew for an instance that comes back after it was taken for dead', async () => {
    const { fleet, target, opens, one } = await startLeasing();
    const secret = await one.secret('Leased');
    const before = secret.value;
    one.host.freeze();
    await fleet.clock.advance(4 * LEASE_MS);
    expect(target.accounts.has(before.username)).toBe(false);
    one.host.thaw();
    await fleet.clock.advance(LEASE_MS);
    expect(secret.value.username).not.toBe(before.username);
    expect(opens(secret.value)).toBe(true);
    await during(fleet, 3 * TTL_MS, () => expect(opens(secret.value)).toBe(true));
    expect(one.runtime.handles.health().get('Leased')).toMatchObject({ status: 'up' });
  });

  it.each(['apply', 'verify'])(
    'are made anew for an instance that comes back even when the first attempt fails at %s, and it is told',
    async (step) => {
      const { fleet, opens, one, rotatorOf } = await startLeasing();
      const secret = await one.secret('Leased');
      one.host.freeze();
      await fleet.clock.advance(4 * LEASE_MS);
      let refusals = 0;
      rotatorOf(0).hook = (at) => {
        if (at === step && (refusals += 1) <= 2) throw new Error('the target is not itself yet');
      };
      one.host.thaw();
      await fleet.clock.advance(2 * LEASE_MS);
      expect(refusals).toBe(3);
      expect(failures(one).map((event) => 'message' in event && event.message)).toContainEqual(
        expect.stringContaining('the target is not itself yet'),
      );
      await during(fleet, 2 * TTL_MS, () => expect(opens(secret.value)).toBe(true));
    },
  );

  it('rotate, all of them, when the secret is rotated; each old one is retired when its instance lets go', async () => {
    const { fleet, target, opens, one, other } = await startLeasing();
    const secrets = [await one.secret('Leased'), await other.secret('Leased')];
    const before = secrets.map(({ value }) => value);
    const hold = holdOn(secrets[1] ?? (await one.secret('Leased')), 'v1');
    await one.manager.rotateSecret('Leased');
    await fleet.clock.advance(LEASE_MS);
    expect(secrets.map(({ versionId }) => versionId)).toEqual(['v2', 'v2']);
    expect(before.map(opens)).toEqual([false, true]);
    hold.release();
    await fleet.clock.advance(LEASE_MS);
    expect([before.map(opens), secrets.map(({ value }) => opens(value))]).toEqual([
      [false, false],
      [true, true],
    ]);
    expect(target.accounts.size).toBe(2);
  });

  it('need a rotator that can renew them', async () => {
    const fleet = await startFleet();
    const { manager, secret } = fleet.at(0);
    await manager.ensureSecret({ name: 'Leased', initial: undefined, rotation: { rotator: 'target', lease: '1m' } });
    await expect(secret('Leased')).rejects.toMatchObject({ code: 'LEASE_UNSUPPORTED' });
  });
});
