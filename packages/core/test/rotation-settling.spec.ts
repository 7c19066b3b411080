import { describe, expect, it } from '@jest/globals';
import { type RotationEvent, secretLink } from '@nestjs-secrets/core';
import { type Fleet, LEASE_MS, startFleet, stopAt } from './support/fleet.js';
import { holdOn, type Login } from './support/world.js';

type Settling = Extract<RotationEvent, { type: 'settling' }>;

/** Two instances with a handle each, the second of which others have to wait for. */
async function startPair(options: Parameters<typeof startFleet>[0] = {}) {
  const fleet = await startFleet(options);
  const [one, other] = [fleet.at(0), fleet.at(1)];
  const secrets = [await one.secret('Db'), await other.secret('Db')] as const;
  await fleet.clock.advance(0);
  return { fleet, one, other, secrets };
}

const isRetired = (fleet: Fleet): boolean => fleet.events().some(({ type }) => type === 'retired');
const holders = (fleet: Fleet): readonly string[] =>
  fleet
    .events()
    .filter((event): event is Settling => event.type === 'settling')
    .at(-1)?.holders ?? [];

describe('I5: a replaced version', () => {
  it('is retired once every instance has moved on, and the result says which had', async () => {
    const { fleet, one, other, secrets } = await startPair();
    const rotating = one.manager.rotateSecret('Db', { until: 'retired' });
    await fleet.settled();
    const { retired } = await rotating;
    expect(retired).toMatchObject({ versionId: 'v1', report: { refused: true }, settled: { cutOff: [] } });
    expect([...(retired?.settled?.acknowledged ?? [])].sort()).toEqual([one.id, other.id].sort());
    expect(secrets.map(({ versionId }) => versionId)).toEqual(['v2', 'v2']);
  });

  it('waits for a consumer in another instance for as long as it takes, and names it', async () => {
    const { fleet, one, other, secrets } = await startPair();
    const hold = holdOn(secrets[1], 'v1');
    await one.manager.rotateSecret('Db');
    await fleet.clock.advance(100 * LEASE_MS);
    expect(secrets[1].versionId).toBe('v2');
    expect(isRetired(fleet)).toBe(false);
    expect(holders(fleet)).toEqual([`a test consumer of instance ${other.id}`]);
    expect((await one.manager.describeSecret('Db')).rotation).toMatchObject({ unretired: ['v1'], instanceId: one.id });
    hold.release();
    await fleet.settled();
    expect(isRetired(fleet)).toBe(true);
  });

  it('waits for an instance that hangs but lives: one that sends heartbeats and does not move on', async () => {
    const { fleet, one, other, secrets } = await startPair();
    // It hears of nothing and can say nothing, but its heartbeats get through.
    other.host.beforeCommit = ({ writes }) => {
      if (writes.some(({ key }) => key.startsWith('ack/'))) return new Promise(() => undefined);
      return undefined;
    };
    await one.manager.rotateSecret('Db');
    await fleet.clock.advance(100 * LEASE_MS);
    expect(secrets[1].versionId).toBe('v2');
    expect(holders(fleet)).toEqual([`the handle of instance ${other.id}`]);
    expect(isRetired(fleet)).toBe(false);
  });

  it('waits for acknowledgements that come late, rotation after rotation', async () => {
    const { fleet, one, other, secrets } = await startPair();
    for (let rotation = 0; rotation < 5; rotation += 1) {
      const lateBy = LEASE_MS * rotation;
      other.host.beforeCommit = async ({ writes }) => {
        if (writes.some(({ key }) => key.startsWith('ack/')))
          await new Promise<void>((resolve) => void fleet.clock.after(lateBy, resolve));
      };
      const promotedAt = fleet.clock.now();
      await one.manager.rotateSecret('Db');
      // Its word is on its way: it runs on the new version, and nobody may know yet.
      await fleet.clock.advance(Math.max(0, lateBy - 1));
      expect([secrets[1].versionId, secrets[1].value]).toEqual([`v${rotation + 2}`, secrets[0].value]);
      if (lateBy > 0) expect((await fleet.journal()).obligations).toMatchObject([{ step: 'settle' }]);
      await fleet.settled();
      const { lastRetired } = await fleet.journal();
      expect(lastRetired?.versionId).toBe(`v${rotation + 1}`);
      expect(lastRetired?.at).toBeGreaterThanOrEqual(promotedAt + lateBy);
    }
  });

  it('waits for a frozen instance as long as that may be alive, and then no longer', async () => {
    const { fleet, one, other, secrets } = await startPair();
    other.host.freeze();
    await one.manager.rotateSecret('Db');
    await fleet.clock.advance(LEASE_MS);
    expect([isRetired(fleet), holders(fleet)]).toEqual([false, [`the handle of instance ${other.id}`]]);
    await fleet.settled();
    const { lastRetired } = await fleet.journal();
    expect(lastRetired?.settled).toMatchObject({ acknowledged: [one.id], cutOff: [] });
    // When it wakes up it knows, before anything of the old version is used again.
    other.host.thaw();
    const link = secretLink(secrets[1]);
    expect(secrets[1].versionId).toBe('v1');
    await link.afterPause();
    expect(secrets[1].versionId).toBe('v2');
    expect(link.afterPause()).toBeUndefined();
    expect(fleet.target.opens(secrets[1].value)).toBe(true);
  });

  it('waits for an instance again that comes back in time', async () => {
    const { fleet, one, other, secrets } = await startPair();
    const hold = holdOn(secrets[1], 'v1');
    await fleet.clock.advance(0);
    other.host.freeze();
    await one.manager.rotateSecret('Db');
    await fleet.clock.advance(1.9 * LEASE_MS);
    other.host.thaw();
    await fleet.clock.advance(20 * LEASE_MS);
    expect([isRetired(fleet), secrets[1].versionId]).toEqual([false, 'v2']);
    hold.release();
    await fleet.settled();
  });

  it('is not retired when somebody takes it up between the look and the commit', async () => {
    const { fleet, one, other, secrets } = await startPair({ policy: { probation: LEASE_MS } });
    const held = new Set<string>();
    let refused = 0;
    one.host.beforeCommit = async ({ conditions, writes }) => {
      if (!conditions.some(({ key }) => key === 'borrow/Db') || !writes.some(({ key }) => key === 'rotation/Db'))
        return;
      refused += 1;
      if (refused > 1) return;
      const candidates = await secretLink(secrets[1]).candidates();
      expect(candidates.map(({ versionId }) => versionId)).toEqual(['v2', 'v1']);
      held.add('v1');
      secretLink(secrets[1]).attach({ label: 'a late consumer', holds: () => held });
    };
    await one.manager.rotateSecret('Db');
    await fleet.clock.advance(20 * LEASE_MS);
    expect(refused).toBe(1);
    expect(isRetired(fleet)).toBe(false);
    expect(holders(fleet)).toContain(`a late consumer of instance ${other.id}`);
    expect((await fleet.journal()).obligations).toMatchObject([{ versionId: 'v1', step: 'settle' }]);
    expect((await one.manager.listVersions('Db'))[0]).toMatchObject({ versionId: 'v1', state: 'draining' });
    held.clear();
    secretLink(secrets[1]).attach({ label: 'another', holds: () => [] });
    await fleet.settled();
    expect(isRetired(fleet)).toBe(true);
  });

  it('is looked at again when an instance begins to follow the secret between the look and the commit', async () => {
    const fleet = await startFleet({ policy: { probation: LEASE_MS } });
    const [one, other] = [fleet.at(0), fleet.at(1)];
    let tries = 0;
    one.host.beforeCommit = async ({ conditions, writes }) => {
      if (!conditions.some(({ key }) => key === 'borrow/Db') || !writes.some(({ key }) => key === 'rotation/Db'))
        return;
      tries += 1;
      if (tries === 1) await other.secret('Db');
    };
    await one.manager.rotateSecret('Db');
    await fleet.settled();
    expect(tries).toBe(2);
    expect((await fleet.journal()).lastRetired?.settled?.acknowledged).toEqual([other.id]);
  });

  it('is not waited for by an instance without a handle on the secret', async () => {
    const fleet = await startFleet({ size: 3 });
    const rotating = fleet.at(0).manager.rotateSecret('Db', { until: 'retired' });
    await fleet.settled();
    expect((await rotating).retired?.settled?.acknowledged).toEqual([]);
  });

  it('stays valid during its probation, though nobody holds it', async () => {
    const { fleet, one } = await startPair({ policy: { probation: '1m' } });
    const first = (await one.manager.getSecretValue<Login>('Db')).value;
    await one.manager.rotateSecret('Db');
    await fleet.clock.advance(59_999);
    expect([isRetired(fleet), fleet.target.opens(first)]).toEqual([false, true]);
    await fleet.clock.advance(1);
    await fleet.settled();
    expect([isRetired(fleet), fleet.target.opens(first)]).toEqual([true, false]);
  });
});

describe('an emergency', () => {
  it('ends by its deadline, names in events and in the result whom it cut off, and the old credential is dead', async () => {
    const { fleet, one, other, secrets } = await startPair({ policy: { probation: '1h' } });
    const leaked = secrets[0].value;
    holdOn(secrets[1], 'v1');
    const begunAt = fleet.clock.now();
    const rotating = one.manager.rotateSecret('Db', { emergency: true, deadline: '5s' });
    await fleet.clock.advance(4_999);
    expect(fleet.target.opens(leaked)).toBe(true);
    await fleet.clock.advance(1);
    const { retired } = await rotating;
    const cutOff = [`a test consumer of instance ${other.id}`];
    expect(retired).toMatchObject({ at: begunAt + 5_000, report: { refused: true }, settled: { cutOff } });
    expect(fleet.events()).toContainEqual(
      expect.objectContaining({ type: 'cut-off', versionId: 'v1', holders: cutOff }),
    );
    expect(fleet.target.opens(leaked)).toBe(false);
    expect(fleet.target.opens(secrets[0].value)).toBe(true);
  });

  it('cuts off a frozen instance by its handle, long before it could be declared dead', async () => {
    const { fleet, one, other } = await startPair();
    other.host.freeze();
    const rotating = one.manager.rotateSecret('Db', { emergency: true, deadline: 1_000 });
    await fleet.clock.advance(1_000);
    expect((await rotating).retired?.settled?.cutOff).toEqual([`the handle of instance ${other.id}`]);
  });

  it('is over as soon as nobody uses the old version, and cuts nobody off then', async () => {
    const { fleet, one } = await startPair({ policy: { probation: '1h' } });
    const rotating = one.manager.rotateSecret('Db', { emergency: true, deadline: '1h' });
    await fleet.clock.advance(0);
    expect((await rotating).retired?.settled).toMatchObject({ cutOff: [] });
    expect(fleet.events().some(({ type }) => type === 'cut-off')).toBe(false);
  });

  it('hurries what another instance has under way, and every older version with it', async () => {
    const { fleet, one, other, secrets } = await startPair({ ring: ['app_1', 'app_2', 'app_3'] });
    const old = secrets[0].value;
    holdOn(secrets[1], 'v1', 'v2');
    await one.manager.rotateSecret('Db');
    const stopped = stopAt(one, 'verify');
    const ordinary = one.manager.rotateSecret('Db');
    await stopped.reached;
    const hurried = other.manager.rotateSecret('Db', { emergency: true, deadline: '3s' });
    await fleet.clock.advance(1_000);
    stopped.goOn();
    expect(await ordinary).toMatchObject({ versionId: 'v3' });
    await fleet.clock.advance(2_000);
    await fleet.settled();
    expect(await hurried).toMatchObject({ versionId: 'v3', retired: { settled: { cutOff: expect.any(Array) } } });
    const cutOff = fleet.events().filter(({ type }) => type === 'cut-off');
    expect(cutOff.map((event) => ('versionId' in event ? event.versionId : '')).sort()).toEqual(['v1', 'v2']);
    expect([fleet.target.opens(old), fleet.target.accounts.size]).toEqual([false, 1]);
  });

  it('is carried out by another instance when the one that began it dies', async () => {
    const { fleet, one, other, secrets } = await startPair();
    const leaked = secrets[0].value;
    holdOn(secrets[1], 'v1');
    one.manager.rotateSecret('Db', { emergency: true, deadline: LEASE_MS }).catch(() => undefined);
    await fleet.clock.advance(0);
    expect((await fleet.journal()).obligations).toHaveLength(1);
    one.host.kill();
    await fleet.settled();
    expect(other.rotator.deeds).toEqual([{ step: 'retire', versionId: 'v1' }]);
    expect((await fleet.journal()).lastRetired?.settled?.cutOff).toContain('a test consumer');
    expect(fleet.target.opens(leaked)).toBe(false);
  });
});

describe('a probation', () => {
  it.each([
    ['ahead', 3_600_000],
    ['behind', -3_600_000],
  ])(
    'lasts no longer than it was meant to when the clock of the instance that promoted was %s',
    async (_how, aheadMs) => {
      const fleet = await startFleet({ hosts: [{ aheadMs }, {}], policy: { probation: '10m' } });
      const promoting = fleet.at(0);
      await promoting.manager.rotateSecret('Db');
      promoting.host.kill();
      await fleet.clock.advance(4 * LEASE_MS);
      expect((await fleet.journal()).fence).toBe(2);
      // A clock that was behind shortens it, by as much at most.
      expect(isRetired(fleet)).toBe(aheadMs < 0);
      await fleet.clock.advance(600_000);
      expect(isRetired(fleet)).toBe(true);
    },
  );
});
