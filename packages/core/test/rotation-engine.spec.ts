import { describe, expect, it } from '@jest/globals';
import { inspect } from 'node:util';
import { ephemeralKeys, memoryStore, type NamedRotator, secretLink } from '@nestjs-secrets/core';
import { holdOn, named, nextEvent, startWorld, Target, TargetRotator, type World } from './support/world.js';

const POLICY = { rotation: { rotator: 'target' } };

async function startRotating(ring: string[] | undefined): Promise<World & { target: Target; rotator: TargetRotator }> {
  const target = new Target();
  const rotator = new TargetRotator(target, ring);
  const world = await startWorld({ rotators: [named(rotator)] });
  const first = { username: ring?.[0] ?? 'app', password: 'first-password' };
  target.accounts.set(first.username, first.password);
  await world.manager.createSecret('Db', first, POLICY);
  return { ...world, target, rotator };
}

describe.each([
  ['alternating users', ['app_1', 'app_2']],
  ['a single user', undefined],
])('the rotation engine with %s', (_label, ring) => {
  it('moves current and previous, then retires the old version once nobody holds it', async () => {
    const world = await startRotating(ring);
    const secret = await world.secret('Db');
    const [old, hold] = [secret.value, holdOn(secret, 'v1')];
    const settling = nextEvent(world, 'settling');
    const result = await world.manager.rotateSecret('Db');
    await secret.refresh();
    expect(result).toMatchObject({ versionId: 'v2', previousVersionId: 'v1' });
    expect(world.target.opens(secret.value)).toBe(true);
    expect(world.target.opens(old)).toBe(ring !== undefined);
    await settling;
    const retired = nextEvent(world, 'retired');
    hold.release();
    expect(await retired).toMatchObject({ versionId: 'v1', report: { refused: true } });
    expect(world.target.opens(old)).toBe(false);
    const steps = world.events.map((event) => (event.type === 'step' ? event.step : event.type));
    // Settling is told again when fewer hold on than before.
    expect(steps.filter((step, index) => step !== steps[index - 1])).toEqual([
      'started',
      'create',
      'apply',
      'verify',
      'promote',
      'promoted',
      'settling',
      'retire',
      'retired',
    ]);
    expect((await world.manager.describeSecret('Db')).rotation).toMatchObject({
      step: undefined,
      unretired: [],
      failures: 0,
    });
  });

  it('I1 stores the pending version before the target learns it, and writes every step ahead', async () => {
    const world = await startRotating(ring);
    const seen: unknown[] = [];
    world.rotator.hook = async (step, side) => {
      const { step: active, unretired } = (await world.manager.describeSecret('Db')).rotation ?? {};
      const pending = await world.manager.getSecretValue('Db', { stage: 'pending' }).then(
        ({ versionId }) => versionId,
        () => 'none',
      );
      if (side === 'before') seen.push([step, active, pending, unretired]);
    };
    await world.manager.rotateSecret('Db', { until: 'retired' });
    expect(seen).toEqual([
      ['create', 'create', 'none', []],
      ['apply', 'apply', 'v2', []],
      ['verify', 'verify', 'v2', []],
      ['retire', undefined, 'none', ['v1']],
    ]);
  });

  it('I5 keeps the old credential as long as a consumer holds it, and hands it out no longer once retirement began', async () => {
    const world = await startRotating(ring);
    const secret = await world.secret('Db');
    const hold = holdOn(secret, 'v1');
    const settling = nextEvent(world, 'settling');
    await world.manager.rotateSecret('Db');
    expect(await settling).toMatchObject({ versionId: 'v1', holders: expect.arrayContaining(['a test consumer']) });
    await world.clock.advance(3_600_000);
    expect((await world.manager.listVersions('Db'))[0]).toMatchObject({ versionId: 'v1', state: 'draining' });
    expect((await secretLink(secret).candidates()).map(({ versionId }) => versionId)).toEqual(['v2', 'v1']);
    await world.clock.advance(1);
    let offered: string[] = [];
    world.rotator.hook = async (step, side) => {
      if (step === 'retire' && side === 'before')
        offered = (await secretLink(secret).candidates()).map(({ versionId }) => versionId);
    };
    hold.release();
    await world.engine.retired('Db');
    expect(offered).toEqual(['v2']);
  });

  it.each(['create', 'apply', 'verify'])(
    'undoes a rotation whose %s throws, says so without the value, and rotates again',
    async (step) => {
      const world = await startRotating(ring);
      const before = await world.manager.getSecretValue<{ username: string; password: string }>('Db');
      let leaked = '';
      world.rotator.hook = async (_step, side) => {
        const pending = await world.manager
          .getSecretValue<{ password: string }>('Db', { stage: 'pending' })
          .catch(() => undefined);
        leaked = pending?.value.password ?? 'first-password';
        if (side === 'before')
          world.rotator.failing.set(step, Object.assign(new Error(`no luck with ${leaked}`), { password: leaked }));
      };
      const error = await world.manager.rotateSecret('Db').catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: 'ROTATION_FAILED', step, undone: true, secretName: 'Db' });
      expect(leaked).not.toBe('');
      expect(inspect(error, { depth: 9 }) + JSON.stringify(world.events)).not.toContain(leaked);
      const after = await world.manager.getSecretValue<{ username: string; password: string }>('Db');
      expect([after.versionId, after.value]).toEqual([before.versionId, before.value]);
      expect(world.target.opens(after.value)).toBe(true);
      expect((await world.manager.describeSecret('Db')).rotation).toMatchObject({
        step: undefined,
        failures: 1,
        lastRotation: { outcome: 'failed', failure: { step } },
      });
      world.rotator.failing.clear();
      world.rotator.hook = () => undefined;
      await world.manager.rotateSecret('Db', { until: 'retired' });
      expect(
        world.target.opens((await world.manager.getSecretValue<{ username: string; password: string }>('Db')).value),
      ).toBe(true);
    },
  );

  it('tries a failing undo again until the rotation is taken back', async () => {
    const world = await startRotating(ring);
    world.rotator.failing.set('verify', new Error('permission denied'));
    world.rotator.failing.set('undo', new Error('unreachable'));
    await expect(world.manager.rotateSecret('Db')).rejects.toMatchObject({
      code: 'ROTATION_FAILED',
      step: 'verify',
      undone: false,
    });
    expect((await world.manager.describeSecret('Db')).rotation).toMatchObject({ step: 'undo' });
    const failed = world.events.filter(({ type }) => type === 'failed');
    expect(failed).toEqual([
      expect.objectContaining({ step: 'undo', rotationId: expect.stringMatching(/./), retryAt: expect.any(Number) }),
    ]);
    world.rotator.failing.delete('undo');
    const undone = nextEvent(world, 'undone');
    await world.clock.advance(2_000);
    await undone;
    expect((await world.manager.describeSecret('Db')).rotation).toMatchObject({ step: undefined, failures: 1 });
  });

  it('tries a failing retirement again, with growing pauses', async () => {
    const world = await startRotating(ring);
    world.rotator.failing.set('retire', new Error('first-password is still accepted'));
    const failed = nextEvent(world, 'failed');
    await world.manager.rotateSecret('Db');
    expect(await failed).toMatchObject({ step: 'retire', message: '[redacted] is still accepted' });
    await world.clock.advance(10_000);
    const failures = world.events.filter(({ type }) => type === 'failed').length;
    expect(failures).toBeGreaterThan(2);
    expect(failures).toBeLessThan(8);
    world.rotator.failing.clear();
    await world.clock.advance(60_000);
    expect((await world.manager.describeSecret('Db')).rotation).toMatchObject({
      unretired: [],
      lastRetired: { versionId: 'v1' },
    });
  });

  it('lets calls for a secret that is rotating join that rotation', async () => {
    const world = await startRotating(ring);
    const [one, other] = await Promise.all([world.manager.rotateSecret('Db'), world.manager.rotateSecret('Db')]);
    expect(one).toEqual(other);
    expect((await world.manager.listVersions('Db')).length).toBe(2);
  });

  it('begins a new rotation for whoever asks at the news that one has ended', async () => {
    const world = await startRotating(ring);
    let next: Promise<unknown> | undefined;
    world.manager.rotationEvents$.subscribe(({ type }) => {
      if (type === 'promoted') next ??= world.manager.rotateSecret('Db');
    });
    await world.manager.rotateSecret('Db');
    expect(await next).toMatchObject({ versionId: 'v3', previousVersionId: 'v2' });
  });

  it('stops at shutdown and goes on with the same pending version after the next start', async () => {
    const world = await startRotating(ring);
    world.rotator.hook = (step, side) => {
      if (step !== 'verify' || side !== 'before') return;
      void world.runtime.stopRotating();
      throw new Error('aborted');
    };
    await expect(world.manager.rotateSecret('Db')).rejects.toMatchObject({ code: 'ROTATION_STOPPED' });
    const pending = await world.manager.getSecretValue('Db', { stage: 'pending' });
    world.rotator.hook = () => undefined;
    expect((await world.manager.describeSecret('Db')).rotation?.step).toBe('verify');
    expect(pending.versionId).toBe('v2');
  });
});

describe('a ring of identities', () => {
  it('lets the next rotation begin while older versions drain, as long as one is free', async () => {
    const world = await startRotating(['app_1', 'app_2', 'app_3']);
    const secret = await world.secret('Db');
    const hold = holdOn(secret, 'v1', 'v2');
    await world.manager.rotateSecret('Db');
    await world.manager.rotateSecret('Db');
    await secret.refresh();
    expect([...world.target.accounts.keys()].sort()).toEqual(['app_1', 'app_2', 'app_3']);
    const waiting = nextEvent(world, 'waiting');
    const third = world.manager.rotateSecret('Db');
    expect(await waiting).toMatchObject({ holders: ['a test consumer'] });
    hold.release();
    expect(await third).toMatchObject({ versionId: 'v4' });
    await world.engine.retired('Db');
    expect([...world.target.accounts.keys()]).toEqual([secret.value.username]);
  });

  it('does not let an older version that never drains keep a newer one from being retired', async () => {
    const world = await startRotating(['app_1', 'app_2', 'app_3']);
    holdOn(await world.secret('Db'), 'v1');
    await world.manager.rotateSecret('Db');
    const retired = nextEvent(world, 'retired');
    await world.manager.rotateSecret('Db');
    expect(await retired).toMatchObject({ versionId: 'v2' });
    expect((await world.manager.describeSecret('Db')).rotation?.unretired).toEqual(['v1']);
  });

  it('keeps a version that was made current again by hand', async () => {
    const world = await startRotating(['app_1', 'app_2']);
    const secret = await world.secret('Db');
    const hold = holdOn(secret, 'v1');
    await world.manager.rotateSecret('Db');
    await world.manager.updateVersionStage('Db', 'current', 'v1');
    hold.release();
    await world.engine.retired('Db');
    await secret.refresh();
    expect(secret.versionId).toBe('v1');
    expect(world.target.opens(secret.value)).toBe(true);
    expect((await world.manager.listVersions('Db'))[0]).toMatchObject({
      versionId: 'v1',
      state: 'live',
      stages: ['current'],
    });
  });
});

describe('versions of one identity', () => {
  it('are retired in the order they were replaced, and never while the next one is being applied', async () => {
    const world = await startRotating(undefined);
    world.rotator.identityOf = ({ username }) => username;
    const secret = await world.secret('Db');
    const hold = holdOn(secret, 'v1');
    const seen: string[] = [];
    let inside = 0;
    world.rotator.hook = (step, side) => {
      if (step === 'create') return;
      if (side === 'before') seen.push(step);
      inside += side === 'before' ? 1 : -1;
      expect(inside).toBeLessThanOrEqual(1);
    };
    await world.manager.rotateSecret('Db');
    await world.manager.rotateSecret('Db');
    await secret.refresh();
    await world.clock.advance(60_000);
    expect((await world.manager.describeSecret('Db')).rotation?.unretired).toEqual(['v1', 'v2']);
    hold.release();
    await Promise.all([world.engine.retired('Db'), world.manager.rotateSecret('Db')]);
    await world.engine.retired('Db');
    const retired = world.events
      .filter((event) => event.type === 'retired')
      .map((event) => ('versionId' in event ? event.versionId : ''));
    expect(retired).toEqual(['v1', 'v2', 'v3']);
    expect(seen.filter((step) => step === 'retire')).toHaveLength(3);
  });
});

describe('a rotation under way', () => {
  it('does not let its pending or a retired version be made current by hand', async () => {
    const world = await startRotating(['app_1', 'app_2']);
    let refusal: unknown;
    world.rotator.hook = async (step, side) => {
      if (step === 'verify' && side === 'before')
        refusal = await world.manager.updateVersionStage('Db', 'current', 'v2').catch((error: unknown) => error);
    };
    await world.manager.rotateSecret('Db', { until: 'retired' });
    expect(refusal).toMatchObject({ code: 'STAGE_INVALID' });
    await expect(world.manager.updateVersionStage('Db', 'current', 'v1')).rejects.toMatchObject({
      code: 'STAGE_INVALID',
      message: expect.stringContaining('retired'),
    });
  });
});

describe('a first version made by the rotator', () => {
  it('is made at the next start when the target was away at the first', async () => {
    const rotator = new TargetRotator(new Target(), ['app_1', 'app_2']);
    const wanted = { name: 'Db', initial: 'rotator', rotation: { rotator: 'target' } } as const;
    const [store, keys] = [memoryStore(), ephemeralKeys()];
    rotator.failing.set('apply', new Error('away')).set('undo', new Error('away'));
    const first = await startWorld({ store, keys, rotators: [rotator] });
    await expect(first.manager.ensureSecret(wanted)).rejects.toMatchObject({ code: 'ROTATION_FAILED' });
    await first.runtime.stopRotating();
    rotator.failing.clear();
    const second = await startWorld({ store, keys, rotators: [rotator] });
    await second.manager.ensureSecret(wanted);
    expect(rotator.target.opens((await second.secret('Db')).value)).toBe(true);
  });
});

describe('what cannot rotate', () => {
  it('is a secret without a policy', async () => {
    const { manager } = await startWorld();
    await manager.createSecret('Plain', 'value');
    await expect(manager.rotateSecret('Plain')).rejects.toMatchObject({ code: 'ROTATION_POLICY_INVALID' });
  });

  it('is a secret whose rotator is missing', async () => {
    const { manager } = await startWorld({ rotators: [{ name: 'other' } as NamedRotator] });
    await manager.createSecret('Plain', 'value', { rotation: { rotator: 'stripe-key' } });
    await expect(manager.rotateSecret('Plain')).rejects.toMatchObject({
      code: 'ROTATOR_NOT_FOUND',
      message: expect.stringContaining('other'),
    });
  });
});
