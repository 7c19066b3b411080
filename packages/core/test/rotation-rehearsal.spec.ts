import { describe, expect, it } from '@jest/globals';
import { type Fleet, LEASE_MS, startFleet, stopAt } from './support/fleet.js';
import { type Target, TargetRotator } from './support/world.js';

/** A rotator that can rehearse, on an account of its own that no version has. */
class RehearsingRotator extends TargetRotator {
  readonly double: TargetRotator;

  constructor(target: Target, ring: readonly string[] | undefined) {
    super(target, ring);
    this.double = new TargetRotator(target, ['rehearsal']);
  }

  rehearsal(): TargetRotator {
    return this.double;
  }
}

async function startRehearsing() {
  const rotators: RehearsingRotator[] = [];
  const fleet = await startFleet({
    rotator: (...parts) => {
      const rotator = new RehearsingRotator(...parts);
      rotators.push(rotator);
      return rotator;
    },
  });
  const doubles = rotators.map(({ double }) => double);
  await fleet.at(1).secret('Db');
  await fleet.clock.advance(0);
  return { fleet, one: fleet.at(0), other: fleet.at(1), doubles };
}

/** Everything the secret has in the store and the target, but for what the journal says of rehearsals. */
async function traces(fleet: Fleet) {
  const keys = (await fleet.shared.list({ prefix: '', limit: 1000 })).map(({ key }) => key);
  const { fence: _counts, lastRehearsal: _report, ...journal } = await fleet.journal();
  const { manager } = fleet.at(1);
  const { versionId, value } = await manager.getSecretValue('Db');
  return {
    // Instances come and go.
    keys: keys.filter((key) => !/^(rotation|instance)\//.test(key)),
    accounts: [...fleet.target.accounts],
    versions: await manager.listVersions('Db'),
    current: { versionId, value },
    journal,
  };
}

describe('a rehearsal', () => {
  it('goes through create, apply and verify with a throw-away credential, and leaves nothing behind', async () => {
    const { fleet, one, other, doubles } = await startRehearsing();
    const before = await traces(fleet);
    let during: readonly string[] = [];
    for (const double of doubles)
      double.hook = (step, side) => {
        if (step === 'verify' && side === 'before') during = [...fleet.target.accounts.keys()];
      };
    const result = await one.manager.rotateSecret('Db', { dryRun: true });
    expect(during).toEqual(['app_1', 'rehearsal']);
    expect(result).toMatchObject({ versionId: 'v1', previousVersionId: undefined });
    expect(await traces(fleet)).toEqual(before);
    expect(doubles[0]?.deeds.map(({ step }) => step)).toEqual(['apply', 'undo']);
    expect([...one.rotator.deeds, ...other.rotator.deeds]).toEqual([]);
    expect((await one.manager.describeSecret('Db')).rotation).toMatchObject({
      failures: 0,
      lastRotation: undefined,
      lastRehearsal: { outcome: 'rehearsed', reason: 'rehearsal' },
    });
    expect(one.events.map(({ type }) => type)).toContain('rehearsed');
    // A rotation afterwards is the first there is.
    expect(await other.manager.rotateSecret('Db')).toMatchObject({ previousVersionId: 'v1' });
  });

  it('is never handed out, and moves no handle', async () => {
    const { fleet, one, other, doubles } = await startRehearsing();
    const secret = await other.secret('Db');
    const changes: string[] = [];
    secret.changes$.subscribe(({ versionId }) => changes.push(versionId));
    const [double] = doubles;
    if (double === undefined) throw new Error('no rotator');
    const stopped = stopAt({ rotator: double }, 'verify', 'after');
    const rehearsing = one.manager.rotateSecret('Db', { dryRun: true });
    await stopped.reached;
    await expect(one.manager.getSecretValue('Db', { stage: 'pending' })).rejects.toMatchObject({
      code: 'VERSION_NOT_FOUND',
    });
    const { candidates } = other.runtime.own?.source ?? {};
    expect((await candidates?.('Db'))?.map(({ versionId }) => versionId)).toEqual(['v1']);
    stopped.goOn();
    await rehearsing;
    await fleet.clock.advance(LEASE_MS);
    expect(changes).toEqual(['v1']);
  });

  it.each(['create', 'apply', 'verify'])(
    'says that tonight would not work when %s fails, and leaves nothing behind either',
    async (step) => {
      const { fleet, one, doubles } = await startRehearsing();
      const before = await traces(fleet);
      for (const double of doubles) double.failing.set(step, new Error('no grant for that'));
      await expect(one.manager.rotateSecret('Db', { dryRun: true })).rejects.toMatchObject({
        code: 'ROTATION_FAILED',
        step,
        undone: true,
        message: expect.stringContaining('no grant for that'),
      });
      expect(await traces(fleet)).toEqual(before);
      // It counts for nothing against the schedule.
      expect((await one.manager.describeSecret('Db')).rotation).toMatchObject({
        failures: 0,
        lastRehearsal: { outcome: 'failed', failure: { step } },
      });
    },
  );

  it.each(['create', 'apply', 'verify', 'undo'])(
    'is cleaned up by another instance when it dies at %s',
    async (step) => {
      const { fleet, one, other, doubles } = await startRehearsing();
      const before = await traces(fleet);
      const [double] = doubles;
      if (double === undefined) throw new Error('no rotator');
      const stopped = stopAt({ rotator: double }, step, 'after');
      one.manager.rotateSecret('Db', { dryRun: true }).catch(() => undefined);
      await stopped.reached;
      one.host.kill();
      await fleet.settled();
      expect(await traces(fleet)).toEqual(before);
      expect((await fleet.journal()).lastRehearsal).toMatchObject({ outcome: 'rehearsed' });
      expect(doubles[1]?.deeds.at(-1)).toMatchObject({ step: 'undo' });
      expect(other.rotator.deeds).toEqual([]);
    },
  );

  it('is refused by a rotator that cannot rehearse, before anything is written', async () => {
    const fleet = await startFleet();
    await expect(fleet.at(0).manager.rotateSecret('Db', { dryRun: true })).rejects.toMatchObject({
      code: 'REHEARSAL_UNSUPPORTED',
    });
    expect(await fleet.journal()).toMatchObject({ obligations: [], failures: 0 });
    expect((await fleet.journal()).active).toBeUndefined();
    await fleet.at(1).manager.rotateSecret('Db');
  });

  it('does not stand in for a rotation that somebody else asks for meanwhile', async () => {
    const { fleet, one, other, doubles } = await startRehearsing();
    const [double] = doubles;
    if (double === undefined) throw new Error('no rotator');
    const stopped = stopAt({ rotator: double }, 'apply');
    const rehearsing = one.manager.rotateSecret('Db', { dryRun: true });
    await stopped.reached;
    const rotating = [one, other].map(({ manager }) => manager.rotateSecret('Db'));
    await fleet.clock.advance(LEASE_MS);
    stopped.goOn();
    expect(await rehearsing).toMatchObject({ versionId: 'v1' });
    await fleet.clock.advance(LEASE_MS);
    for (const result of await Promise.all(rotating)) expect(result.previousVersionId).toBeDefined();
  });
});
