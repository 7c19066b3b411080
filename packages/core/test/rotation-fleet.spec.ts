import { describe, expect, it } from '@jest/globals';
import type { StoreCommit } from '@nestjs-secrets/core';
import { type Fleet, LEASE_MS, type Member, startFleet, stopAt } from './support/fleet.js';
import { holdOn, type Login } from './support/world.js';

const RING = ['app_1', 'app_2', 'app_3'];

const promotions = (fleet: Fleet) => fleet.events().filter(({ type }) => type === 'promoted').length;
const versionIds = async ({ manager }: Member) => (await manager.listVersions('Db')).map(({ versionId }) => versionId);

/** What must be true of every fleet that has come to rest: the current version opens the target, and nothing else does. */
async function expectAtRest(fleet: Fleet, reader: Member, versionId: string): Promise<void> {
  const current = await reader.manager.getSecretValue<Login>('Db');
  expect(current.versionId).toBe(versionId);
  expect([...fleet.target.accounts]).toEqual([[current.value.username, current.value.password]]);
}

describe('two instances over one store', () => {
  it.each(['create', 'apply', 'verify'])(
    'share a rotation: who is asked while the other is at %s gets its answer',
    async (step) => {
      const fleet = await startFleet();
      const [one, other] = [fleet.at(0), fleet.at(1)];
      const stopped = stopAt(one, step);
      const first = one.manager.rotateSecret('Db');
      await stopped.reached;
      const second = other.manager.rotateSecret('Db', { until: 'retired' });
      await fleet.clock.advance(LEASE_MS);
      // A program whose last work is to wait for another's rotation does not end in the midst of it.
      expect(other.host.holds).toBe(1);
      stopped.goOn();
      const result = await first;
      expect(result).toMatchObject({ versionId: 'v2', previousVersionId: 'v1' });
      // Who had asked for the lease may be the one that retires.
      await fleet.settled();
      expect(await second).toMatchObject({ ...result, retired: { versionId: 'v1', report: { refused: true } } });
      expect(other.host.holds).toBe(0);
      expect(await versionIds(one)).toEqual(['v1', 'v2']);
      const applied = fleet.members.map(({ rotator }) => rotator.deeds.filter((deed) => deed.step === 'apply').length);
      expect(applied).toEqual([1, 0]);
      await expectAtRest(fleet, other, 'v2');
    },
  );

  it('I2: act one at a time when both are asked in the same moment', async () => {
    const fleet = await startFleet();
    await Promise.all(fleet.members.map(({ manager }) => manager.rotateSecret('Db')));
    await fleet.settled();
    const { value, versionId } = await fleet.at(0).manager.getSecretValue<Login>('Db');
    expect([...fleet.target.accounts]).toEqual([[value.username, value.password]]);
    // The one that came second may have come too late to share: then it has rotated after the first.
    expect(promotions(fleet)).toBe(Number(versionId.slice(1)) - 1);
    const retired = fleet.members.flatMap(({ rotator }) => rotator.deeds).filter(({ step }) => step === 'retire');
    expect(retired).toHaveLength(promotions(fleet));
  });

  it('rotate one after the other when each is asked after the other has promoted', async () => {
    const fleet = await startFleet();
    for (let rotation = 0; rotation < 6; rotation += 1)
      await fleet.at(rotation % 2).manager.rotateSecret('Db', { until: 'retired' });
    expect(fleet.members.map(({ rotator }) => rotator.deeds.map(({ step }) => step))).toEqual([
      ['apply', 'retire', 'apply', 'retire', 'apply', 'retire'],
      ['apply', 'retire', 'apply', 'retire', 'apply', 'retire'],
    ]);
    await expectAtRest(fleet, fleet.at(0), 'v7');
  });

  it.each(['apply', 'verify', 'retire'])(
    'rotate again in the very process whose %s never came back after the store had failed it',
    async (step) => {
      const fleet = await startFleet({ size: 1 });
      const one = fleet.at(0);
      const hung = stopAt(one, step);
      const first = one.manager.rotateSecret('Db');
      first.catch(() => undefined);
      await hung.reached;
      one.host.isCutOff = true;
      await fleet.clock.advance(2 * LEASE_MS);
      one.host.isCutOff = false;
      await fleet.settled();
      expect(promotions(fleet)).toBe(1);
      const before = promotions(fleet);
      await one.manager.rotateSecret('Db', { until: 'retired' });
      expect(promotions(fleet)).toBe(before + 1);
      await expectAtRest(fleet, one, `v${promotions(fleet) + 1}`);
    },
  );

  it('give a lease back whose commit had no answer, though nothing was begun under it', async () => {
    const fleet = await startFleet({ integrity: false });
    const index = (value: Uint8Array | null) =>
      fleet.shared.commit({ conditions: [], writes: [{ key: 'unfinished/Db', value }] });
    // Whoever looks first believes that something is unfinished, and somebody else is through with it meanwhile.
    await index(new Uint8Array(0));
    let taker: Member | undefined;
    for (const member of fleet.members) {
      member.host.beforeCommit = async ({ writes }) => {
        if (taker !== undefined || !writes.some(({ key }) => key === 'rotation/Db')) return;
        taker = member;
        member.host.answersToLose = 1;
        await index(null);
      };
    }
    for (let looks = 0; looks < 100 && taker === undefined; looks += 1) await fleet.clock.advance(LEASE_MS / 10);
    expect([taker?.host.answersToLose, (await fleet.journal()).fence]).toEqual([0, 1]);
    const other = fleet.members.find((member) => member !== taker) ?? fleet.at(1);
    let retired: string | undefined;
    const second = other.manager.rotateSecret('Db', { until: 'retired' });
    void second.then((result) => (retired = result.versionId));
    for (let looks = 0; looks < 100 && retired === undefined; looks += 1) await fleet.clock.advance(LEASE_MS / 10);
    expect(retired).toBe('v2');
    await expectAtRest(fleet, other, 'v2');
  });

  it('tell both of a failure, with the message of the one that acted', async () => {
    const fleet = await startFleet();
    const [one, other] = [fleet.at(0), fleet.at(1)];
    one.rotator.failing.set('verify', new Error('no such luck'));
    const stopped = stopAt(one, 'apply');
    const failed = { code: 'ROTATION_FAILED', step: 'verify', undone: true };
    const first = expect(one.manager.rotateSecret('Db')).rejects.toMatchObject(failed);
    await stopped.reached;
    const message = expect.stringContaining('no such luck');
    const second = expect(other.manager.rotateSecret('Db')).rejects.toMatchObject({ ...failed, message });
    await fleet.clock.advance(LEASE_MS);
    stopped.goOn();
    await Promise.all([first, second]);
    expect(await fleet.journal()).toMatchObject({ failures: 1, obligations: [] });
    await expectAtRest(fleet, one, 'v1');
  });

  it('hand over between two pieces of work: who only waits lets in who wants to rotate', async () => {
    const fleet = await startFleet({ ring: RING });
    const [one, other] = [fleet.at(0), fleet.at(1)];
    const hold = holdOn(await one.secret('Db'), 'v1');
    await one.manager.rotateSecret('Db');
    expect((await fleet.journal()).lease).toMatchObject({ holder: one.id });
    const rotating = other.manager.rotateSecret('Db');
    await fleet.clock.advance(LEASE_MS / 2);
    expect(await rotating).toMatchObject({ versionId: 'v3', previousVersionId: 'v2' });
    const { lease, obligations } = await fleet.journal();
    expect(lease).toMatchObject({ holder: other.id });
    expect(obligations.map(({ versionId }) => versionId)).toContain('v1');
    hold.release();
    await fleet.settled();
    expect(one.rotator.deeds).toEqual([{ step: 'apply', versionId: 'v2' }]);
    expect(other.rotator.deeds.map(({ step }) => step)).toEqual(['apply', 'retire', 'retire']);
    await expectAtRest(fleet, one, 'v3');
  });

  it('do not hand over in the middle of a step', async () => {
    const fleet = await startFleet();
    const [one, other] = [fleet.at(0), fleet.at(1)];
    const retiring = stopAt(one, 'retire');
    const first = one.manager.rotateSecret('Db', { until: 'retired' });
    await retiring.reached;
    const second = other.manager.rotateSecret('Db');
    await fleet.clock.advance(10 * LEASE_MS);
    expect(other.rotator.deeds).toEqual([]);
    expect((await fleet.journal()).lease).toMatchObject({ holder: one.id, wantedBy: other.id });
    retiring.goOn();
    await first;
    expect(await second).toMatchObject({ versionId: 'v3' });
  });

  it('I2: let the schedule run once, whichever of them is first', async () => {
    const fleet = await startFleet({ size: 3, policy: { schedule: { every: '1m' }, probation: 0 } });
    let inside = 0;
    for (const { rotator } of fleet.members)
      rotator.hook = (_step, side) => {
        inside += side === 'before' ? 1 : -1;
        expect(inside).toBeLessThanOrEqual(1);
      };
    await fleet.clock.advance(10 * 60_000 + LEASE_MS);
    expect(promotions(fleet)).toBe(10);
    expect(fleet.events().filter(({ type }) => type === 'started')).toHaveLength(10);
    await fleet.settled();
    await expectAtRest(fleet, fleet.at(2), 'v11');
  });

  it('go on with the schedule when the one that had it dies', async () => {
    const fleet = await startFleet({ policy: { schedule: { every: '1m' }, probation: 0 } });
    await fleet.clock.advance(61_000);
    expect(promotions(fleet)).toBe(1);
    fleet.at(0).host.kill();
    await fleet.clock.advance(3 * 60_000);
    expect(promotions(fleet)).toBe(4);
    await fleet.settled();
    await expectAtRest(fleet, fleet.at(1), 'v5');
  });
});

describe('what a dead instance left', () => {
  it.each([
    ['create', 'before'],
    ['create', 'after'],
    ['apply', 'before'],
    ['apply', 'after'],
    ['verify', 'before'],
    ['verify', 'after'],
    ['retire', 'before'],
    ['retire', 'after'],
  ] as const)('is gone on with by another: killed at %s, %s its effect', async (step, side) => {
    const fleet = await startFleet();
    const [one, other] = [fleet.at(0), fleet.at(1)];
    const { reached } = stopAt(one, step, side);
    one.manager.rotateSecret('Db').catch(() => undefined);
    await reached;
    one.host.kill();
    const diedAt = fleet.clock.now();
    await fleet.settled();
    const began = other.events.find(({ type }) => type === 'step')?.at ?? 0;
    // Its last heartbeat may be a third of a lease old; only what the others saw themselves counts.
    expect(began - diedAt).toBeGreaterThanOrEqual(2 * LEASE_MS - LEASE_MS / 3);
    expect(began - diedAt).toBeLessThanOrEqual(3 * LEASE_MS);
    expect(await versionIds(other)).toEqual(['v1', 'v2']);
    await expectAtRest(fleet, other, 'v2');
    expect((await fleet.journal()).lease).toBeUndefined();
    expect(await fleet.shared.get(`instance/${one.id}`)).toBeUndefined();
  });

  it('is taken back by another when it was about to be taken back', async () => {
    const fleet = await startFleet();
    const [one, other] = [fleet.at(0), fleet.at(1)];
    one.rotator.failing.set('verify', new Error('no such luck'));
    const { reached } = stopAt(one, 'undo');
    one.manager.rotateSecret('Db').catch(() => undefined);
    await reached;
    one.host.kill();
    await fleet.settled();
    expect(other.rotator.deeds).toEqual([{ step: 'undo', versionId: 'v2' }]);
    expect(await fleet.journal()).toMatchObject({ failures: 1, lastRotation: { outcome: 'failed' } });
    await expectAtRest(fleet, other, 'v1');
  });

  it('is gone on with at once when it left in order', async () => {
    const fleet = await startFleet();
    const [one, other] = [fleet.at(0), fleet.at(1)];
    const hold = holdOn(await other.secret('Db'), 'v1');
    await one.manager.rotateSecret('Db');
    await one.runtime.stopRotating();
    await one.runtime.close();
    hold.release();
    await fleet.clock.advance(LEASE_MS / 2);
    expect(other.rotator.deeds).toEqual([{ step: 'retire', versionId: 'v1' }]);
    await expectAtRest(fleet, other, 'v2');
  });
});

describe('I2: an instance that was frozen while another took over', () => {
  it.each(['apply', 'retire'])('changes nothing more in the target when it wakes up in %s', async (step) => {
    const fleet = await startFleet();
    const [one, other] = [fleet.at(0), fleet.at(1)];
    const stopped = stopAt(one, step);
    const outcome = one.manager.rotateSecret('Db', { until: 'retired' }).then(
      () => 'through',
      (error: unknown) => error,
    );
    await stopped.reached;
    one.host.freeze();
    await fleet.settled();
    const [deeds, after] = [[...one.rotator.deeds], await fleet.journal()];
    expect(other.rotator.deeds.map((deed) => deed.step)).toContain(step);
    // Awake at the worst moment: in the middle of the step, before any timer has run.
    one.host.thaw();
    stopped.goOn();
    await fleet.clock.advance(LEASE_MS);
    expect(one.rotator.deeds).toEqual(deeds);
    expect(await fleet.journal()).toEqual(after);
    expect(await Promise.race([outcome, Promise.resolve('waiting')])).toEqual(
      step === 'retire' ? 'through' : expect.objectContaining({ code: 'ROTATION_INTERRUPTED' }),
    );
    await expectAtRest(fleet, other, 'v2');
    // And it can rotate again.
    await one.manager.rotateSecret('Db', { until: 'retired' });
    await expectAtRest(fleet, one, 'v3');
  });

  it.each([
    ['that advances a step', 'verify', 'after'],
    ['that promotes', 'promote', 'before'],
    ['that closes a retirement', 'retire', 'after'],
  ])('has its commit refused %s, although it was on its way before', async (_label, step) => {
    const fleet = await startFleet();
    const [one, other] = [fleet.at(0), fleet.at(1)];
    let arrive = (): void => undefined;
    const sent = new Promise<StoreCommit>((resolve) => {
      one.manager.rotationEvents$.subscribe((event) => {
        if (event.type !== 'step' || event.step !== step) return;
        one.host.beforeCommit = (commit) => {
          if (!commit.writes.some(({ key }) => key === 'rotation/Db')) return undefined;
          one.host.beforeCommit = () => undefined;
          resolve(commit);
          return new Promise((arrived) => (arrive = arrived));
        };
      });
    });
    one.manager.rotateSecret('Db').catch(() => undefined);
    await sent;
    one.host.freeze();
    await fleet.settled();
    const after = await fleet.journal();
    expect(other.rotator.deeds.map((deed) => deed.step)).toContain('retire');
    arrive();
    await fleet.clock.advance(LEASE_MS);
    expect(await fleet.journal()).toEqual(after);
    one.host.thaw();
    await fleet.clock.advance(LEASE_MS);
    expect(await fleet.journal()).toEqual(after);
    await expectAtRest(fleet, other, 'v2');
  });
});
