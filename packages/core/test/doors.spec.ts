import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';
import {
  auditFiles,
  AuditLog,
  OPERATIONS,
  type OperationName,
  pause,
  type PolicyDocument,
  principalOf,
  secretResource,
  SecretsManager,
} from '@nestjs-secrets/core';
import { eventNameOf } from '../src/doors/operation-events.js';
import { contentOf, type Exported, exported } from './support/backup-world.js';
import { type DoorsWorld, LIMIT_MS, makeDb, NOBODY, ORIGIN, OWN_ID, startDoors } from './support/doors-world.js';
import { documentOf, readPolicy } from './support/policy-world.js';
import { Target, TargetRotator } from './support/world.js';

/** One way to call a public method, with the row of the table that it is. */
interface Call {
  readonly row: OperationName;
  /** Looks first whether anything of a secret is missing, or which key an alias stands for; of that nothing is told. */
  readonly looks?: boolean;
  /** Done by the application itself before each try. */
  readonly prepare?: (manager: SecretsManager) => Promise<unknown>;
  run(manager: SecretsManager, world: DoorsWorld): Promise<unknown>;
}

/** Rows of operations that do not exist yet. An entry that has a door makes the tests below fail. */
const NO_DOOR_YET: readonly OperationName[] = [];

/** Rows that stand in doors-ports.spec.ts: values and deeds that no method of the manager has to do with. */
const PORTS: readonly OperationName[] = [
  'deliverVersion',
  'getCandidates',
  'acknowledgeVersion',
  'renewInstance',
  'createPendingVersion',
  'applyPendingVersion',
  'verifyPendingVersion',
  'promoteVersion',
  'settleVersion',
  'retireVersion',
  'undoRotation',
  'renewLease',
  'rollBackRotation',
  // These three in doors-lifecycle.spec.ts.
  'purgeSecret',
  'purgeVersion',
  'purgeKeyVersion',
  // In doors-backup.spec.ts.
  'exportValue',
];

/** What needs no leave: it makes a manager for somebody else, who needs it; and it tells nothing of secrets or events. */
const OPEN = ['as', 'audit.health'];

const LOGIN = { username: 'app', password: 'another-password' };
const OWN_POLICY: PolicyDocument = documentOf({
  Effect: 'Allow',
  Action: 'secrets:GetSecretValue',
  Principal: 'remote/a',
});
let count = 0;
const fresh = (): string => `made-${(count += 1)}`;
/** What the application itself exported. */
let backup: Exported | undefined;
/** The alias of a key that is to be destroyed. */
let doomed = '';

const CALLS: Readonly<Record<string, readonly Call[]>> = {
  createSecret: [{ row: 'createSecret', run: (manager) => manager.createSecret(fresh(), 1) }],
  getSecretValue: [{ row: 'getSecretValue', run: (manager) => manager.getSecretValue('Db') }],
  putSecretValue: [
    { row: 'putSecretValue', run: (manager) => manager.putSecretValue('Db', LOGIN, { stages: ['mine'] }) },
  ],
  describeSecret: [{ row: 'describeSecret', run: (manager) => manager.describeSecret('Db') }],
  listSecrets: [{ row: 'listSecrets', run: (manager) => manager.listSecrets() }],
  listVersions: [{ row: 'listVersions', run: (manager) => manager.listVersions('Db') }],
  updateVersionStage: [{ row: 'updateVersionStage', run: (manager) => manager.updateVersionStage('Db', 'mine', 'v1') }],
  updateSecret: [{ row: 'updateSecret', run: (manager) => manager.updateSecret('Db', { description: 'said' }) }],
  tag: [{ row: 'tagSecret', run: (manager) => manager.tag('Db', { team: 'billing' }) }],
  untag: [{ row: 'untagSecret', run: (manager) => manager.untag('Db', ['team']) }],
  updateRotationPolicy: [
    { row: 'updateRotationPolicy', run: (manager) => manager.updateRotationPolicy('Db', { rotator: 'target' }) },
  ],
  pauseRotation: [{ row: 'pauseRotation', run: (manager) => manager.pauseRotation('Db') }],
  resumeRotation: [{ row: 'resumeRotation', run: (manager) => manager.resumeRotation('Db') }],
  rotateSecret: [
    { row: 'rotateSecret', run: (manager) => manager.rotateSecret('Db', { until: 'retired' }) },
    { row: 'emergencyRotateSecret', run: (manager) => manager.rotateSecret('Db', { emergency: true }) },
    { row: 'rehearseRotation', run: (manager) => manager.rotateSecret('Db', { dryRun: true }) },
  ],
  rotationEvents$: [
    {
      row: 'observeRotations',
      run: (manager, { engine }) => {
        const first = firstValueFrom(manager.rotationEvents$);
        engine.tellSuspended('Db', 1);
        return first;
      },
    },
  ],
  getRandomPassword: [{ row: 'getRandomPassword', run: async (manager) => manager.getRandomPassword() }],
  setSecretPolicy: [
    { row: 'setSecretPolicy', run: (manager) => manager.setSecretPolicy('Db', OWN_POLICY, { force: true }) },
    {
      row: 'deleteSecretPolicy',
      prepare: (manager) => manager.setSecretPolicy('Db', OWN_POLICY),
      run: (manager) => manager.setSecretPolicy('Db', null),
    },
  ],
  getSecretPolicy: [{ row: 'getSecretPolicy', run: (manager) => manager.getSecretPolicy('Db') }],
  ensureSecret: [
    {
      row: 'createSecret',
      looks: true,
      run: (manager) => manager.ensureSecret({ name: fresh(), initial: async () => 1 }),
    },
    {
      row: 'createSecret',
      looks: true,
      run: (manager) => manager.ensureSecret({ name: fresh(), initial: 'rotator', rotation: { rotator: 'target' } }),
    },
    {
      row: 'updateRotationPolicy',
      looks: true,
      run: (manager) =>
        manager.ensureSecret({ name: 'Db', initial: undefined, rotation: { rotator: 'target', jitter: (count += 1) } }),
    },
  ],
  deleteSecret: [{ row: 'deleteSecret', run: (manager) => manager.deleteSecret('Db', { recoveryWindow: '7d' }) }],
  restoreSecret: [{ row: 'restoreSecret', run: (manager) => manager.restoreSecret('Db') }],
  destroyVersion: [
    {
      row: 'destroyVersion',
      prepare: (manager) => manager.putSecretValue('Db', LOGIN, { versionId: 'old', stages: [] }),
      run: (manager) => manager.destroyVersion('Db', 'old'),
    },
  ],
  lifecycleEvents$: [
    {
      row: 'observeLifecycle',
      run: async (manager, { runtime, clock }) => {
        let isRefused = false;
        const first = firstValueFrom(manager.lifecycleEvents$);
        first.catch(() => (isRefused = true));
        await pause(clock, 2 * LIMIT_MS);
        if (!isRefused) await runtime.own?.lifecycle.deleteSecret('Db');
        return first;
      },
    },
  ],
  'keys.createKey': [{ row: 'createKey', run: ({ keys }) => keys.createKey({ alias: fresh() }) }],
  'keys.listKeys': [{ row: 'listKeys', run: ({ keys }) => keys.listKeys() }],
  'keys.describeKey': [{ row: 'describeKey', looks: true, run: ({ keys }) => keys.describeKey('default') }],
  'keys.rotateKey': [{ row: 'createKeyVersion', looks: true, run: ({ keys }) => keys.rotateKey('default') }],
  'keys.enable': [{ row: 'enableKey', looks: true, run: ({ keys }) => keys.enable('default', 1) }],
  'keys.disable': [{ row: 'disableKey', looks: true, run: ({ keys }) => keys.disable('default', 1) }],
  'keys.scheduleDestruction': [
    {
      row: 'destroyKey',
      looks: true,
      prepare: ({ keys }) => keys.createKey({ alias: (doomed = fresh()) }),
      run: ({ keys }) => keys.scheduleDestruction(doomed),
    },
  ],
  'keys.cancelDestruction': [
    {
      row: 'cancelKeyDestruction',
      looks: true,
      prepare: async ({ keys }) => {
        await keys.createKey({ alias: (doomed = fresh()) });
        await keys.scheduleDestruction(doomed);
      },
      run: ({ keys }) => keys.cancelDestruction(doomed),
    },
  ],
  'keys.setAlias': [{ row: 'setKeyAlias', looks: true, run: ({ keys }) => keys.setAlias(fresh(), 'default') }],
  'keys.rewrap': [
    { row: 'rewrap', run: ({ keys }) => keys.rewrap({ secret: 'Db' }) },
    { row: 'rewrapKey', looks: true, run: ({ keys }) => keys.rewrap({ key: 'default' }) },
    { row: 'rewrapKey', run: ({ keys }) => keys.rewrap('all') },
  ],
  'keys.move': [{ row: 'moveKeys', run: ({ keys }) => keys.move() }],
  'keys.events$': [
    {
      row: 'observeKeys',
      run: async (manager, { runtime, clock }) => {
        let isRefused = false;
        const first = firstValueFrom(manager.keys.events$);
        first.catch(() => (isRefused = true));
        await pause(clock, 2 * LIMIT_MS);
        if (!isRefused) await runtime.own?.keys.disable('default', 1);
        return first;
      },
    },
  ],
  'policies.putPolicy': [
    { row: 'putPolicy', run: ({ policies }) => policies.putPolicy(readPolicy('readers', 'remote/a')) },
  ],
  'policies.getPolicy': [{ row: 'getPolicy', run: ({ policies }) => policies.getPolicy('readers') }],
  'policies.listPolicies': [{ row: 'listPolicies', run: ({ policies }) => policies.listPolicies() }],
  'policies.deletePolicy': [
    {
      row: 'deletePolicy',
      prepare: ({ policies }) => policies.putPolicy(readPolicy('readers', 'remote/a')),
      run: ({ policies }) => policies.deletePolicy('readers'),
    },
  ],
  'policies.simulate': [
    {
      row: 'simulate',
      run: ({ policies }) => policies.simulate(NOBODY, 'secrets:GetSecretValue', secretResource('Db')),
    },
  ],
  'audit.lookupEvents': [{ row: 'lookupEvents', run: ({ audit }) => audit.lookupEvents({ secret: 'Db' }) }],
  'audit.whoRead': [{ row: 'lookupEvents', run: ({ audit }) => audit.whoRead('Db', 0) }],
  'audit.anomalies$': [
    {
      row: 'lookupEvents',
      run: async (manager) => {
        // Five denials in a row make one.
        const first = firstValueFrom(manager.audit.anomalies$);
        first.catch(() => undefined);
        const others = manager.as(principalOf('remote', 'stranger'));
        for (let tries = 0; tries < 5; tries += 1) await others.getSecretValue('Db').catch(() => undefined);
        return first;
      },
    },
  ],
  'audit.verify': [{ row: 'verifyAudit', run: ({ audit }) => audit.verify() }],
  'backup.exportStore': [{ row: 'exportStore', run: exported }],
  'backup.importStore': [
    {
      row: 'importStore',
      prepare: async (manager) => {
        backup = await exported(manager);
      },
      run: (manager) =>
        manager.backup.importStore(contentOf(backup?.bytes ?? Buffer.alloc(0)), {
          signedBy: backup?.summary.signedBy ?? '',
          onConflict: 'skip',
        }),
    },
  ],
  'integrity.verifyStore': [{ row: 'verifyStore', run: ({ integrity }) => integrity.verifyStore() }],
  'integrity.storeHead': [{ row: 'verifyStore', run: ({ integrity }) => integrity.storeHead() }],
  'integrity.acceptRestore': [
    { row: 'acceptRestore', run: ({ integrity }) => integrity.acceptRestore({ reason: 'ticket 4711' }) },
  ],
  'audit.repair': [{ row: 'repairAudit', run: ({ audit }) => audit.repair({ folder: leftFolder }) }],
};

let leftFolder = '';

/** Every public member of the manager and of what it has, such as `policies.putPolicy`. */
function publicMembers(manager: SecretsManager): string[] {
  const membersOf = (holder: object): [string, PropertyDescriptor][] =>
    Object.entries(Object.getOwnPropertyDescriptors(Object.getPrototypeOf(holder))).filter(
      ([name]) => name !== 'constructor',
    );
  return membersOf(manager).flatMap(([name, { get }]) => {
    const held: unknown = get?.call(manager);
    const isStream = typeof held === 'object' && held !== null && 'subscribe' in held;
    if (typeof held !== 'object' || held === null || isStream) return [name];
    return membersOf(held).map(([member]) => `${name}.${member}`);
  });
}

class RehearsingRotator extends TargetRotator {
  rehearsal(): TargetRotator {
    return new TargetRotator(new Target(), undefined);
  }
}

const cases = Object.entries(CALLS).flatMap(([member, calls]) =>
  calls.map((call) => ({ title: `${member} (${call.row})`, ...call })),
);

describe('the doors of SecretsManager', () => {
  let world: DoorsWorld;
  let ended = true;

  beforeAll(async () => {
    leftFolder = await mkdtemp(join(tmpdir(), 'nestjs-secrets-left-'));
  });
  afterAll(() => rm(leftFolder, { recursive: true, force: true }));

  const start = async (): Promise<void> => {
    world = await startDoors({ rotator: new RehearsingRotator(new Target(), undefined) });
    ended = false;
    await makeDb(world);
    await world.secret('Db');
    await world.clock.advance(0);
  };
  afterEach(async () => {
    if (!ended) await world.stop();
    ended = true;
  });

  /** The clock of the world goes on until the work is over. */
  const over = async <T>(work: Promise<T>): Promise<T> => {
    let isOver = false;
    const settle = (): void => {
      isOver = true;
    };
    work.then(settle, settle);
    for (let steps = 0; steps < 2000 && !isOver; steps += 1) {
      await world.clock.advance(LIMIT_MS / 10);
      // What waits for files waits in real time.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return work;
  };

  it('are those of every public method, and of nothing else', async () => {
    await start();
    const members = publicMembers(world.manager);
    expect(members.length).toBeGreaterThan(25);
    expect(members.filter((member) => !OPEN.includes(member)).sort()).toEqual(Object.keys(CALLS).sort());
  });

  it('are those of every row of the table, but for rows that have none yet', () => {
    const called = cases.map(({ row }) => row);
    const rows = Object.keys(OPERATIONS) as OperationName[];
    expect(rows.filter((row) => !called.includes(row) && !PORTS.includes(row)).sort()).toEqual([...NO_DOOR_YET].sort());
    expect(NO_DOOR_YET.filter((row) => called.includes(row) || PORTS.includes(row))).toEqual([]);
    // A method that has come meanwhile is found by the test above, and so is a desk for keys.
    for (const row of NO_DOOR_YET)
      expect(OPERATIONS[row].door.startsWith('SecretsManager.') && row in SecretsManager.prototype).toBe(false);
  });

  it.each(cases)('$title: allowed, it leaves an event in the name of its caller', async ({ row, prepare, run }) => {
    await start();
    await prepare?.(world.manager);
    await world.clock.advance(0);
    world.news();
    await over(run(world.manager, world));
    await world.clock.advance(0);
    const events = world.news().filter(({ eventName }) => eventName === eventNameOf(row));
    expect(events).toMatchObject([
      {
        eventRW: OPERATIONS[row].access === 'read' ? 'Read' : 'Write',
        userIdentity: { type: 'application', principalId: OWN_ID },
      },
    ]);
    expect(events[0]).not.toHaveProperty('errorCode');
    expect(events[0]?.userIdentity.instanceId).toBe(world.runtime.own?.instance.id);
  });

  it.each(cases)(
    '$title: denied, it reads nothing, decrypts nothing and leaves one event',
    async ({ row, looks, prepare, run }) => {
      await start();
      await prepare?.(world.manager);
      await world.clock.advance(0);
      world.news();
      const before = {
        reads: world.traces.reads.length,
        writes: world.traces.writes.length,
        unwrapped: world.traces.unwrapped,
      };
      const denied = run(world.manager.as(NOBODY, { sourceAddress: '192.0.2.7', requestId: 'r-7' }), world);
      await expect(over(denied)).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
      const events = world.news().filter(({ userIdentity }) => userIdentity.principalId === NOBODY.id);
      expect(events).toMatchObject([
        { eventName: eventNameOf(row), errorCode: 'AccessDenied', sourceIpAddress: '192.0.2.7', requestId: 'r-7' },
      ]);
      const { reads, writes, unwrapped } = world.traces;
      // With a look goes what proves it.
      const isLook = (key: string): boolean => looks === true && /^(secret|cmk|integrity)\//.test(key);
      expect(reads.slice(before.reads).filter((key) => !isLook(key))).toEqual([]);
      expect(writes.slice(before.writes)).toEqual([]);
      expect(unwrapped).toBe(before.unwrapped);
    },
  );

  it.each(cases)(
    'I8 $title: does not happen while the log cannot take its event, and says so',
    async ({ row, prepare, run }) => {
      await start();
      await prepare?.(world.manager);
      await world.clock.advance(0);
      world.sink.mood = 'failing';
      // The first to notice.
      await expect(over(world.manager.listVersions('Db'))).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE' });
      const writes = world.traces.writes.length;
      const refused = over(run(world.manager, world));
      await expect(refused).rejects.toMatchObject({
        code: 'AUDIT_UNAVAILABLE',
        message: expect.stringContaining('the watched sink'),
      });
      const ofSecrets = world.traces.writes
        .slice(writes)
        .filter((key) => /^(secret|value|policy|rotation)\//.test(key));
      expect(ofSecrets).toEqual([]);
      // Recovery needs no restart.
      world.sink.mood = 'well';
      await world.clock.advance(5_000);
      await prepare?.(world.manager);
      await over(run(world.manager, world));
      await world.clock.advance(0);
      expect(world.sink.events.map(({ eventName }) => eventName)).toContain(eventNameOf(row));
    },
  );
});

describe('an instance that left its log', () => {
  it('has it repaired by another', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'nestjs-secrets-left-'));
    const world = await startDoors();
    const left = new AuditLog({
      origin: ORIGIN,
      key: Buffer.alloc(32, 1),
      sinks: [{ sink: auditFiles({ folder }), mode: 'required' }],
    });
    await left.open();
    await expect(world.manager.audit.repair({ folder })).rejects.toMatchObject({ code: 'AUDIT_FOLDER_BUSY' });
    await left.close();
    await rm(folder, { recursive: true });
    await world.stop();
  });
});
