import { afterEach, describe, expect, it } from '@jest/globals';
import { type AuditAnomaly, type AuditEvent, OPERATIONS, recordPayload, secretLink } from '@nestjs-secrets/core';
import {
  denying,
  type DoorsWorld,
  type DoorsWorldOptions,
  LIMIT_MS,
  makeDb,
  OWN_ID,
  startDoors,
} from './support/doors-world.js';
import { nextEvent, Target, TargetRotator } from './support/world.js';

const ROTATOR = 'rotator/target';
const MINUTE = 60_000;

let world: DoorsWorld;
afterEach(() => world.stop());

async function start(options: DoorsWorldOptions = {}): Promise<DoorsWorld> {
  world = await startDoors(options);
  await makeDb(world);
  await world.clock.advance(0);
  return world;
}

/** The clock goes on until the work is over. */
async function over<T>(work: Promise<T>, stepMs = LIMIT_MS / 10): Promise<T> {
  let isOver = false;
  const settle = (): void => {
    isOver = true;
  };
  work.then(settle, settle);
  for (let steps = 0; steps < 2000 && !isOver; steps += 1) await world.clock.advance(stepMs);
  return work;
}

const named = (events: readonly AuditEvent[], name: string): AuditEvent[] =>
  events.filter(({ eventName }) => eventName === name);
const source = () => {
  const { own } = world.runtime;
  if (own === undefined) throw new Error('no manager');
  return own.source;
};

describe('a live handle', () => {
  it('leaves one event for each version that is delivered to it, none for looking again, and counts of its use', async () => {
    await start();
    const secret = await world.secret('Db');
    await secret.refresh();
    await secret.refresh();
    for (let reads = 0; reads < 7; reads += 1) expect(secret.value.username).toBe('app');
    await world.manager.putSecretValue('Db', { username: 'app', password: 'second-password' });
    await world.clock.advance(0);
    expect(secret.versionId).toBe('v2');
    expect(secret.value.password).toBe('second-password');
    await world.clock.advance(6 * MINUTE);
    const events = world.news();
    expect(named(events, 'DeliverSecretVersion')).toMatchObject([
      {
        eventRW: 'Read',
        resourceName: 'Db',
        userIdentity: { principalId: OWN_ID },
        additionalEventData: { versionId: 'v1' },
      },
      {
        eventRW: 'Read',
        resourceName: 'Db',
        userIdentity: { principalId: OWN_ID },
        additionalEventData: { versionId: 'v2' },
      },
    ]);
    expect(
      named(events, 'UseSecretVersion').map(({ requestParameters, additionalEventData }) => [
        requestParameters?.['versionId'],
        additionalEventData?.['uses'],
      ]),
    ).toEqual([
      ['v1', 7],
      ['v2', 1],
    ]);
    expect(JSON.stringify(world.sink.events)).not.toContain('password');
  });

  it('says once for each version that it runs on it', async () => {
    await start();
    await world.secret('Db');
    await world.manager.putSecretValue('Db', { username: 'app', password: 'second-password' });
    await world.clock.advance(0);
    const consumer = secretLink(await world.secret('Db')).attach({ label: 'a pool', holds: () => ['v1', 'v2'] });
    consumer.update();
    await world.clock.advance(0);
    expect(
      named(world.news(), 'AcknowledgeVersion').map(({ requestParameters }) => requestParameters?.['versionId']),
    ).toEqual(['v1', 'v2']);
    // Its word is in the store, with what the consumer holds.
    const word = await world.store.get(`ack/Db:${world.runtime.own?.instance.id}`);
    expect(JSON.parse(Buffer.from(recordPayload(word?.value ?? new Uint8Array())).toString())).toMatchObject({
      promotion: 2,
      held: [{ versionIds: ['v1', 'v2'] }],
    });
  });

  it('does not start where its application may not read: nothing is read or decrypted', async () => {
    await start({ statements: [denying('GetSecretValue', { Resource: 'secret/Db' })] });
    const { reads, unwrapped } = { reads: world.traces.reads.length, unwrapped: world.traces.unwrapped };
    await expect(source().fetch('Db')).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
    expect(world.traces.reads.slice(reads)).toEqual([]);
    expect(world.traces.unwrapped).toBe(unwrapped);
    await expect(world.secret('Db')).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
    expect(named(world.news(), 'DeliverSecretVersion')).toMatchObject([
      { errorCode: 'AccessDenied' },
      { errorCode: 'AccessDenied' },
    ]);
  });

  it('keeps its last good value when it may not read any longer, and health says why', async () => {
    await start();
    const secret = await world.secret('Db');
    const { policies } = world.manager;
    await policies.putPolicy({
      name: 'closed',
      principals: [OWN_ID],
      document: { Version: '1', Statement: [denying('GetSecretValue')] },
    });
    await world.manager.putSecretValue('Db', { username: 'app', password: 'second-password' });
    await world.clock.advance(0);
    expect([secret.versionId, secret.value.password]).toEqual(['v1', 'first-password']);
    expect(world.runtime.handles.health().get('Db')).toMatchObject({ status: 'degraded', reason: 'ACCESS_DENIED' });
    await policies.deletePolicy('closed');
    await world.clock.advance(MINUTE);
    expect(secret.versionId).toBe('v2');
  });

  it('is given its candidates by stage: those that it may not have are left out, and not decrypted', async () => {
    await start({
      statements: [
        denying('GetSecretValue', {
          Condition: { StringEquals: { 'secrets:Stage': 'previous', 'secrets:Operation': 'getCandidates' } },
        }),
      ],
    });
    await world.secret('Db');
    await world.manager.putSecretValue('Db', { username: 'app', password: 'second-password' });
    await world.clock.advance(0);
    const { unwrapped } = world.traces;
    expect((await source().candidates('Db')).map(({ versionId }) => versionId)).toEqual(['v2']);
    expect(world.traces.unwrapped).toBe(unwrapped + 1);
  });

  it('leaves an event for candidates that are new to it, and none for those it has', async () => {
    await start();
    await world.manager.putSecretValue('Db', { username: 'app', password: 'second-password' });
    world.news();
    expect((await source().candidates('Db')).map(({ versionId }) => versionId)).toEqual(['v2', 'v1']);
    await source().candidates('Db');
    await world.clock.advance(0);
    expect(named(world.news(), 'DeliverSecretVersion')).toMatchObject([
      { additionalEventData: { versionIds: ['v2', 'v1'] } },
    ]);
  });

  it('gets no candidates where it may have none: nothing is read or decrypted', async () => {
    await start({ statements: [denying('GetSecretValue')] });
    const { reads, unwrapped } = { reads: world.traces.reads.length, unwrapped: world.traces.unwrapped };
    await expect(source().candidates('Db')).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
    expect([world.traces.reads.slice(reads), world.traces.unwrapped]).toEqual([[], unwrapped]);
    expect(named(world.news(), 'DeliverSecretVersion')).toMatchObject([{ errorCode: 'AccessDenied' }]);
  });

  it('I8 serves on while the log takes nothing, is given no other version, and catches up without a restart', async () => {
    await start();
    const secret = await world.secret('Db');
    for (const mood of ['failing', 'hanging'] as const) {
      world.sink.mood = 'well';
      await world.clock.advance(MINUTE);
      const before = secret.versionId;
      await world.manager.putSecretValue('Db', { username: 'app', password: `password while ${mood}` });
      world.sink.mood = mood;
      await world.clock.advance(10 * LIMIT_MS);
      expect(secret.versionId).toBe(before);
      expect(secret.value.username).toBe('app');
      expect(world.runtime.handles.health().get('Db')).toMatchObject({
        status: 'degraded',
        reason: 'AUDIT_UNAVAILABLE',
      });
      world.sink.mood = 'well';
      await world.clock.advance(2 * MINUTE);
      expect(secret.value.password).toBe(`password while ${mood}`);
      expect(world.runtime.handles.health().get('Db')).toMatchObject({ status: 'up' });
    }
  });
});

describe('an instance', () => {
  it('joins with an event, and not where it may not: nothing of it stays open', async () => {
    await start();
    expect(named(world.news(), 'RenewInstance')).toMatchObject([
      { eventRW: 'Write', userIdentity: { principalId: OWN_ID } },
    ]);
    await expect(startDoors({ statements: [denying('RenewInstance')] })).rejects.toMatchObject({
      code: 'ACCESS_DENIED',
    });
  });

  it('whose word is not taken keeps old versions alive, until it may say it', async () => {
    await start();
    const { policies } = world.manager;
    await policies.putPolicy({
      name: 'closed',
      principals: [OWN_ID],
      document: { Version: '1', Statement: [denying('AcknowledgeVersion')] },
    });
    await world.secret('Db');
    await world.manager.rotateSecret('Db');
    await world.clock.advance(MINUTE / 2);
    const { rotation } = await world.manager.describeSecret('Db');
    expect(rotation?.unretired).toEqual(['v1']);
    expect(named(world.news(), 'AcknowledgeVersion')).toMatchObject([
      { errorCode: 'AccessDenied' },
      { errorCode: 'AccessDenied' },
    ]);
    await policies.deletePolicy('closed');
    await world.clock.advance(2 * MINUTE);
    expect((await world.manager.describeSecret('Db')).rotation?.unretired).toEqual([]);
  });
});

/** A rotation, with the steps it goes through as the log has them. */
const STEPS = [
  'CreatePendingVersion',
  'ApplyPendingVersion',
  'VerifyPendingVersion',
  'PromoteVersion',
  'SettleVersion',
  'RetireVersion',
] as const;

describe('a rotation', () => {
  it('leaves an event for each step before it is done, in the name of its rotator, and a sealed report at the end', async () => {
    await start();
    await world.secret('Db');
    await over(world.manager.rotateSecret('Db', { until: 'retired' }));
    const events = world.news().filter(({ userIdentity }) => userIdentity.principalId === ROTATOR);
    expect(events.map(({ eventName }) => eventName)).toEqual([...STEPS, 'RotationReport']);
    for (const event of events.slice(0, -1))
      expect(event).toMatchObject({
        eventRW: 'Write',
        resourceName: 'Db',
        additionalEventData: { recorded: 'before' },
      });
    const id = world.runtime.own?.instance.id;
    expect(events.at(-1)?.additionalEventData).toMatchObject({
      outcome: 'retired',
      currentVersionId: 'v2',
      previousVersionId: 'v1',
      acknowledged: [id],
      cutOff: [],
      oldOneRefused: true,
      sessionsEnded: 0,
      sessionsLeft: 0,
      refusals: [],
      steps: ['create', 'apply', 'verify', 'promote', 'settle', 'retire'].map((step) => ({
        step,
        at: expect.any(String),
      })),
    });
    expect(JSON.stringify(world.sink.events)).not.toContain('first-password');
  });

  it('makes a read of the old version an anomaly, once it is retired', async () => {
    await start();
    const anomalies: AuditAnomaly[] = [];
    world.manager.audit.anomalies$.subscribe((anomaly) => anomalies.push(anomaly));
    await world.manager.getSecretValue('Db', { versionId: 'v1' });
    await over(world.manager.rotateSecret('Db', { until: 'retired' }));
    await world.manager.getSecretValue('Db');
    expect(anomalies).toEqual([]);
    await world.manager.getSecretValue('Db', { versionId: 'v1' });
    await world.clock.advance(0);
    expect(anomalies).toMatchObject([{ kind: 'retired-version', principalId: OWN_ID, secretName: 'Db' }]);
  });

  it.each(STEPS.map((step) => [step] as const))(
    'may not do %s: the rotator is not given a value for it, and the log has it',
    async (step) => {
      const rotator = new TargetRotator(new Target(), undefined);
      await start({ rotator, statements: [denying(step)] });
      await world.secret('Db');
      const steps: string[] = [];
      rotator.hook = (name, side) => {
        if (side === 'before') steps.push(name);
      };
      const isBefore = step !== 'SettleVersion' && step !== 'RetireVersion';
      const rotating = over(world.manager.rotateSecret('Db'), MINUTE);
      if (isBefore) await expect(rotating).rejects.toMatchObject({ code: 'ROTATION_FAILED', undone: true });
      else await rotating;
      await world.clock.advance(5_000);
      expect(named(world.news(), step)[0]).toMatchObject({
        errorCode: 'AccessDenied',
        userIdentity: { principalId: ROTATOR },
      });
      expect(steps).not.toContain(step.replace(/PendingVersion|Version/, '').toLowerCase());
      // What was taken back leaves the version before in use; what may not be retired lives on.
      const { versions, rotation } = await world.manager.describeSecret('Db');
      expect(versions.find(({ stages }) => stages.includes('current'))?.versionId).toBe(isBefore ? 'v1' : 'v2');
      expect(rotation).toMatchObject(isBefore ? { failures: 1, unretired: [] } : { failures: 0, unretired: ['v1'] });
      expect(rotator.target.opens({ username: 'app', password: 'first-password' })).toBe(isBefore);
    },
  );

  it('that may not begin decrypts nothing', async () => {
    const rotator = new TargetRotator(new Target(), ['app', 'app_2']);
    await start({ rotator, statements: [denying('CreatePendingVersion')] });
    const { unwrapped } = world.traces;
    await expect(over(world.manager.rotateSecret('Db'))).rejects.toMatchObject({ code: 'ROTATION_FAILED' });
    expect(world.traces.unwrapped).toBe(unwrapped);
  });

  it('that failed is taken back by a step of its own, and its report says why', async () => {
    const rotator = new TargetRotator(new Target(), undefined);
    await start({ rotator });
    rotator.failing.set('verify', new Error('no luck'));
    await expect(over(world.manager.rotateSecret('Db'))).rejects.toMatchObject({ code: 'ROTATION_FAILED' });
    const events = world.news();
    expect(named(events, 'UndoRotation')).toMatchObject([{ userIdentity: { principalId: ROTATOR } }]);
    expect(named(events, 'RotationReport')).toMatchObject([
      {
        errorCode: 'RotationFailed',
        errorMessage: 'no luck',
        additionalEventData: { outcome: 'failed', failedAt: 'verify', currentVersionId: 'v1' },
      },
    ]);
    expect(named(events, 'VerifyPendingVersion')).toMatchObject([
      { additionalEventData: { recorded: 'before' } },
      { additionalEventData: { failureOf: expect.any(String) } },
    ]);
  });

  it('that may not be taken back is tried again until it may', async () => {
    const rotator = new TargetRotator(new Target(), undefined);
    await start({ rotator });
    rotator.failing.set('verify', new Error('no luck'));
    const { policies } = world.manager;
    await policies.putPolicy({
      name: 'closed',
      principals: [ROTATOR],
      document: { Version: '1', Statement: [denying('UndoRotation')] },
    });
    await expect(over(world.manager.rotateSecret('Db'))).rejects.toMatchObject({
      code: 'ROTATION_FAILED',
      undone: false,
    });
    await policies.deletePolicy('closed');
    const undone = nextEvent(world, 'undone');
    await world.clock.advance(2 * MINUTE);
    await undone;
    expect(rotator.target.opens({ username: 'app', password: 'first-password' })).toBe(true);
  });

  it('is rolled back by a step of its own, with what consumers were refused in its report', async () => {
    const rotator = new TargetRotator(new Target(), ['app', 'app_2']);
    await start({ rotator });
    await world.manager.updateRotationPolicy('Db', { rotator: 'target', probation: '10m' });
    const secret = await world.secret('Db');
    await over(world.manager.rotateSecret('Db'));
    await world.clock.advance(0);
    rotator.target.accounts.set('app_2', 'changed by hand');
    secretLink(secret).report({ versionId: 'v2', kind: 'authentication', code: '28P01', consumer: 'a pool' });
    await world.clock.advance(MINUTE);
    expect(secret.versionId).toBe('v1');
    const events = world.news();
    expect(named(events, 'RollBackRotation')).toMatchObject([
      { userIdentity: { principalId: ROTATOR }, requestParameters: { versionId: 'v1' } },
    ]);
    expect(named(events, 'RotationReport')).toMatchObject([
      {
        additionalEventData: {
          outcome: 'rolled-back',
          currentVersionId: 'v1',
          previousVersionId: 'v2',
          refusals: [{ versionId: 'v2', kind: 'authentication', code: '28P01', consumer: 'a pool' }],
        },
      },
    ]);
  });

  it('may not be rolled back: the new version stays', async () => {
    const rotator = new TargetRotator(new Target(), ['app', 'app_2']);
    await start({ rotator, statements: [denying('RollBackRotation')] });
    await world.manager.updateRotationPolicy('Db', { rotator: 'target', probation: '10m' });
    const secret = await world.secret('Db');
    await over(world.manager.rotateSecret('Db'));
    await world.clock.advance(0);
    rotator.target.accounts.set('app_2', 'changed by hand');
    secretLink(secret).report({ versionId: 'v2', kind: 'authentication', code: '28P01', consumer: 'a pool' });
    await world.clock.advance(MINUTE);
    expect(secret.versionId).toBe('v2');
    expect(named(world.news(), 'RollBackRotation')[0]).toMatchObject({ errorCode: 'AccessDenied' });
  });

  it.each(['failing', 'hanging'] as const)(
    'I8 stops before the next step while the log is %s, and goes on when it is well',
    async (mood) => {
      const rotator = new TargetRotator(new Target(), undefined);
      await start({ rotator });
      const secret = await world.secret('Db');
      rotator.hook = (step, side) => {
        if (step === 'apply' && side === 'after') world.sink.mood = mood;
      };
      const steps: string[] = [];
      const rotating = over(world.manager.rotateSecret('Db'));
      await expect(rotating).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE' });
      rotator.hook = (step, side) => {
        if (side === 'before') steps.push(step);
      };
      await world.clock.advance(MINUTE);
      expect(steps).toEqual([]);
      expect(secret.value.password).toBe('first-password');
      world.sink.mood = 'well';
      await world.clock.advance(3 * MINUTE);
      expect(steps).toEqual(['verify', 'retire']);
      expect(secret.versionId).toBe('v2');
      const { rotation } = await world.manager.describeSecret('Db');
      // Not a failure of the rotation, so the schedule does not back off.
      expect(rotation).toMatchObject({ failures: 0, unretired: [] });
      expect(named(world.sink.events, 'RotationReport')).toHaveLength(1);
    },
  );
});

describe('the rows of steps', () => {
  it('are what the log calls them', () => {
    const rows = Object.values(OPERATIONS).filter(({ door }) => door.startsWith('rotation: '));
    const told = [...STEPS, 'UndoRotation', 'RollBackRotation', 'RenewLease'].map((name) => `secrets:${name}`);
    expect(rows.map(({ action }) => action).sort()).toEqual(told.sort());
  });
});
