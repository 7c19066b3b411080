import { afterEach, describe, expect, it } from '@jest/globals';
import {
  ephemeralKeys,
  type ImportReport,
  isSecretsError,
  memoryStore,
  type SecretsManager,
  type StoreDriver,
} from '@nestjs-secrets/core';
import { contentOf, type Exported, exported } from './support/backup-world.js';
import { documentOf, readPolicy } from './support/policy-world.js';
import {
  type Login,
  named,
  startWorld,
  Target,
  TargetRotator,
  type World,
  type WorldOptions,
} from './support/world.js';

const worlds: World[] = [];
const started = async (options: WorldOptions = {}): Promise<World> => {
  const world = await startWorld(options);
  worlds.push(world);
  return world;
};
afterEach(async () => {
  for (const { runtime } of worlds.splice(0)) {
    await runtime.stopRotating();
    await runtime.close();
  }
});

const bring = (manager: SecretsManager, { bytes, summary }: Exported, more = {}): Promise<ImportReport> =>
  manager.backup.importStore(contentOf(bytes), { signedBy: summary.signedBy, ...more });

/** A store that stops for good before its n-th commit, as a process does that is killed. */
function stoppingAfter(store: StoreDriver, commits: { left: number }): StoreDriver {
  return {
    name: store.name,
    open: () => store.open(),
    close: async () => undefined,
    get: (key) => store.get(key),
    list: (options) => store.list(options),
    revision: () => store.revision(),
    watch: (onHint, prefixes) => store.watch(onHint, prefixes),
    commit: async (commit) => {
      if (commits.left <= 0) throw new Error('killed');
      if (commit.writes.some(({ key }) => key === 'import/state')) commits.left -= 1;
      return store.commit(commit);
    },
  };
}

async function makeSecrets({ manager, clock }: World): Promise<void> {
  await manager.keys.createKey({ alias: 'payroll' });
  await manager.createSecret('Text', 'plain text', { description: 'a text', tags: { team: 'billing' }, type: 'note' });
  await manager.createSecret('Bytes', Uint8Array.from([0, 10, 13, 255]), { key: 'payroll', destroyOldAfter: '2d' });
  await manager.createSecret('Ttl', { a: 1 }, { ttl: '1h', versionId: 'first' });
  await clock.advance(10);
  await manager.putSecretValue('Ttl', { a: 2 });
  await manager.putSecretValue('Ttl', { a: 3 }, { stages: ['canary'] });
  await manager.createSecret('Doomed', 'soon gone');
  await manager.deleteSecret('Doomed', { recoveryWindow: '7d' });
  await manager.createSecret(
    'Rotating',
    { username: 'app', password: 'p' },
    { rotation: { rotator: 'target', schedule: { every: '1h' } } },
  );
}

describe('an export and its import', () => {
  it('bring every secret, with everything about it, into another store under other keys', async () => {
    const from = await started({ rotators: [named(new TargetRotator(new Target(), undefined))] });
    await makeSecrets(from);
    const backup = await exported(from.manager);
    expect(backup.summary).toMatchObject({ secrets: 5, versions: 7, policies: 0, leftOut: [] });
    const to = await started({
      clock: from.clock,
      rotators: [named(new TargetRotator(new Target(), undefined))],
      keys: ephemeralKeys(),
    });
    const report = await bring(to.manager, backup);
    expect(report).toEqual({
      backup: backup.summary,
      imported: 5,
      skipped: 0,
      missingKeys: ['payroll'],
      resumed: false,
    });
    const described = async ({ manager }: World) => {
      const { items } = await manager.listSecrets();
      return items.map(({ key: _other, ...rest }) => rest);
    };
    expect(await described(to)).toEqual(await described(from));
    expect((await to.manager.getSecretValue('Text')).value).toBe('plain text');
    expect((await to.manager.getSecretValue('Bytes')).value).toEqual(Uint8Array.from([0, 10, 13, 255]));
    for (const [stage, a] of [
      ['previous', 1],
      ['current', 2],
      ['canary', 3],
    ] as const)
      expect((await to.manager.getSecretValue('Ttl', { stage })).value).toEqual({ a });
    await expect(to.manager.getSecretValue('Doomed')).rejects.toMatchObject({ code: 'SECRET_DELETED' });
    expect((await to.manager.restoreSecret('Doomed')).purgeAt).toBeUndefined();
    expect((await to.manager.describeSecret('Rotating')).rotation?.nextRotationAt).toBeGreaterThan(to.clock.now());
    expect((await to.manager.integrity.verifyStore()).findings).toEqual([]);
    // It counts on from where it was.
    expect((await to.manager.putSecretValue('Ttl', { a: 4 })).versionId).toBe('v4');
  });

  it('put secrets under the master key that is called as theirs was', async () => {
    const from = await started();
    await makeSecrets(from);
    const to = await started();
    const { id } = await to.manager.keys.createKey({ alias: 'payroll' });
    expect((await bring(to.manager, await exported(from.manager))).missingKeys).toEqual([]);
    expect((await to.manager.describeSecret('Bytes')).key).toBe(id);
  });

  it('hold policies: of secrets with the secret, of identities, and that they govern at all', async () => {
    const from = await started();
    await from.manager.createSecret('Guarded', 1);
    const everything = { Effect: 'Allow', Action: '*', Resource: '*' } as const;
    await from.manager.policies.putPolicy({
      name: 'all',
      principals: ['application/*'],
      document: documentOf(everything),
    });
    await from.manager.policies.putPolicy(readPolicy('readers', 'remote/a'));
    const own = documentOf({ Effect: 'Deny', Action: 'secrets:DeleteSecret', Principal: '*' });
    await from.manager.setSecretPolicy('Guarded', own);
    const backup = await exported(from.manager);
    const to = await started();
    await bring(to.manager, backup);
    expect((await to.manager.policies.listPolicies()).names).toEqual(['all', 'readers']);
    expect((await to.manager.getSecretPolicy('Guarded'))?.document).toEqual(
      (await from.manager.getSecretPolicy('Guarded'))?.document,
    );
    await expect(to.manager.deleteSecret('Guarded')).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
  });

  it('keep policies in force of which none is left', async () => {
    const from = await started({ policies: { enforce: 'off' } });
    await from.manager.createSecret('Text', 1);
    await from.manager.policies.putPolicy(readPolicy('readers', 'remote/a'), { force: true });
    await from.manager.policies.deletePolicy('readers', { force: true });
    const backup = await exported(from.manager);
    const to = await started();
    await bring(to.manager, backup);
    await expect(to.manager.getSecretValue('Text')).rejects.toMatchObject({ code: 'ACCESS_DENIED' });
  });

  it('leave out what cannot be read, say so, and hold everything else', async () => {
    const from = await started();
    await makeSecrets(from);
    const { versions } = from.runtime.own ?? {};
    await versions?.store.commit({
      conditions: [],
      writes: [
        { key: 'value/Ttl:first', value: Buffer.from('damaged') },
        { key: 'secret/Text', value: Buffer.from('damaged') },
        { key: 'rotation/Bytes', value: Buffer.from('damaged') },
      ],
    });
    const backup = await exported(from.manager);
    expect(backup.summary.leftOut).toEqual(
      expect.arrayContaining([
        { secretName: 'Ttl', versionId: 'first', code: 'RECORD_CORRUPT' },
        { secretName: 'Text', code: 'RECORD_CORRUPT' },
        { secretName: 'Bytes', part: 'rotation', code: 'RECORD_CORRUPT' },
      ]),
    );
    const to = await started();
    expect(await bring(to.manager, backup)).toMatchObject({ imported: 4 });
    expect((await to.manager.listVersions('Ttl')).map(({ versionId }) => versionId)).toEqual(['v2', 'v3']);
    expect((await to.manager.getSecretValue('Ttl')).value).toEqual({ a: 2 });
  });
});

describe('an export', () => {
  it('opens no more than a few secrets ahead of whoever writes them down', async () => {
    let opened = 0;
    const keys = ephemeralKeys();
    const counting = {
      ...keys,
      unwrap: (...parameters: Parameters<typeof keys.unwrap>) => {
        opened += 1;
        return keys.unwrap(...parameters);
      },
    };
    const { manager } = await started({ keys: counting });
    for (let index = 0; index < 120; index += 1) await manager.createSecret(`Secret-${index}`, { index });
    let ahead = 0;
    let secrets = 0;
    const before = opened;
    await manager.backup.exportStore(async (content) => {
      for await (const chunk of content) {
        if (Buffer.from(chunk).includes('"kind":"secret"')) secrets += 1;
        ahead = Math.max(ahead, opened - before - secrets);
      }
    });
    expect(secrets).toBe(120);
    expect(ahead).toBeGreaterThan(0);
    expect(ahead).toBeLessThan(16);
  });

  it('leaves nothing of a value behind in the chunks that it gave out', async () => {
    const { manager } = await started();
    await manager.createSecret('Text', 'canary of the export');
    const chunks: Uint8Array[] = [];
    await manager.backup.exportStore(async (content) => {
      for await (const chunk of content) chunks.push(chunk);
    });
    expect(chunks.some((chunk) => Buffer.from(chunk).includes('canary'))).toBe(false);
  });

  it('that is not read to its end is none', async () => {
    const { manager } = await started();
    await expect(manager.backup.exportStore(async () => undefined)).rejects.toMatchObject({
      code: 'BACKUP_INCOMPLETE',
    });
  });
});

describe('an import into a store that holds something', () => {
  it('is refused, and changes nothing', async () => {
    const from = await started();
    await makeSecrets(from);
    const backup = await exported(from.manager);
    const to = await started();
    await to.manager.createSecret('Other', 1);
    await expect(bring(to.manager, backup)).rejects.toMatchObject({
      code: 'IMPORT_CONFLICT',
      message: expect.stringContaining('the secret Other'),
    });
    expect((await to.manager.listSecrets()).items.map(({ name }) => name)).toEqual(['Other']);
  });

  it('brings what is missing, and lets live handles see it', async () => {
    const from = await started();
    await from.manager.createSecret('Live', { username: 'a', password: '1' });
    await from.manager.createSecret('Kept', 'old');
    const backup = await exported(from.manager);
    await from.manager.putSecretValue('Kept', 'new');
    const handle = await from.secret('Live');
    await from.manager.putSecretValue('Live', { username: 'a', password: '2' });
    await from.clock.advance(0);
    await from.manager.deleteSecret('Live', { force: true });
    const changed = new Promise<Login>((resolve) => {
      handle.changes$.subscribe(({ value }) => value.password === '1' && resolve(value));
    });
    const report = await bring(from.manager, backup, { onConflict: 'skip' });
    expect(report).toMatchObject({ imported: 1, skipped: 1 });
    await from.clock.advance(60_000);
    expect(await changed).toEqual({ username: 'a', password: '1' });
    expect((await from.manager.getSecretValue('Kept')).value).toBe('new');
  });
});

describe('a backup that is not what was written', () => {
  const damaged: readonly (readonly [string, (backup: Exported) => Buffer])[] = [
    ['without its last line', ({ bytes }) => bytes.subarray(0, bytes.lastIndexOf('\n', -2) + 1)],
    ['without its last byte', ({ bytes }) => bytes.subarray(0, -1)],
    ['with something after its end', ({ bytes }) => Buffer.concat([bytes, Buffer.from('{"kind":"end"}\n')])],
    ['that is empty', () => Buffer.alloc(0)],
    ['twice over', ({ bytes }) => Buffer.concat([bytes, bytes])],
    ['with a line of another kind', ({ bytes }) => inserted(bytes, '{"kind":"script"}\n')],
    ['with a line that is no JSON', ({ bytes }) => inserted(bytes, 'canary {\n')],
    ['with a body of impossible length', ({ bytes }) => inserted(bytes, '{"kind":"secret","bytes":1e300}\n')],
  ];
  const inserted = (bytes: Buffer, line: string): Buffer => {
    const at = bytes.indexOf('\n') + 1;
    return Buffer.concat([bytes.subarray(0, at), Buffer.from(line), bytes.subarray(at)]);
  };
  const expectNothing = async (to: World, attempt: Promise<unknown>, code: string): Promise<void> => {
    await expect(attempt).rejects.toMatchObject({ code });
    expect((await to.manager.listSecrets()).items).toEqual([]);
    expect(await to.runtime.own?.versions.store.get('import/state')).toBeUndefined();
  };

  it('is refused, and nothing of it imported: every shape of it', async () => {
    const from = await started();
    await makeSecrets(from);
    const backup = await exported(from.manager);
    const to = await started();
    for (const [, damage] of damaged)
      await expectNothing(to, bring(to.manager, { ...backup, bytes: damage(backup) }), 'BACKUP_INVALID');
  });

  it('is refused wherever one bit of it is another, or its end is missing', async () => {
    const from = await started();
    await from.manager.createSecret('Text', 'plain text');
    const backup = await exported(from.manager);
    const to = await started();
    for (let at = 0; at < backup.bytes.length; at += 1) {
      const bytes = Buffer.from(backup.bytes);
      bytes[at] = (bytes[at] ?? 0) ^ (1 << (at % 8));
      const code = await to.manager.backup.importStore(contentOf(bytes), { signedBy: backup.summary.signedBy }).then(
        () => 'imported',
        (error: unknown) => (isSecretsError(error) ? error.code : 'another error'),
      );
      // What has become the number of a format is that of another one.
      expect(['BACKUP_INVALID', 'BACKUP_NEWER']).toContain(code);
      const cut = { ...backup, bytes: backup.bytes.subarray(0, at) };
      await expect(bring(to.manager, cut)).rejects.toMatchObject({ code: 'BACKUP_INVALID' });
    }
    expect((await to.manager.listSecrets()).items).toEqual([]);
  });

  it('is refused from another store, and in a newer format', async () => {
    const from = await started();
    await makeSecrets(from);
    const backup = await exported(from.manager);
    const to = await started();
    const signedBy = (await exported(to.manager)).summary.signedBy;
    await expectNothing(
      to,
      bring(to.manager, { ...backup, summary: { ...backup.summary, signedBy } }),
      'BACKUP_SIGNER_UNKNOWN',
    );
    const text = backup.bytes.toString('latin1').replace('"version":1', '"version":2');
    await expectNothing(to, bring(to.manager, { ...backup, bytes: Buffer.from(text, 'latin1') }), 'BACKUP_NEWER');
    const nonsense = bring(to.manager, { ...backup, summary: { ...backup.summary, signedBy: 'nonsense' } });
    await expectNothing(to, nonsense, 'BACKUP_SIGNER_UNKNOWN');
  });

  it('is not imported when it becomes another one between the first look and the second', async () => {
    const [one, other, to] = [await started(), await started(), await started()];
    await one.manager.createSecret('Text', 'genuine');
    await other.manager.createSecret('Text', 'planted');
    const [genuine, planted] = [await exported(one.manager), await exported(other.manager)];
    let looks = 0;
    const content = () => contentOf((looks += 1) === 1 ? genuine.bytes : planted.bytes)();
    const attempt = to.manager.backup.importStore(content, { signedBy: genuine.summary.signedBy });
    await expect(attempt).rejects.toMatchObject({
      code: 'BACKUP_INVALID',
      message: expect.stringContaining('changed'),
    });
    expect((await to.manager.listSecrets()).items).toEqual([]);
  });
});

describe('an import that is broken off', () => {
  it('goes on at any commit, and has everything in the end', async () => {
    const from = await started();
    for (let index = 0; index < 50; index += 1) await from.manager.createSecret(`Secret-${index}`, { index });
    const big = 'x'.repeat(60_000);
    for (let index = 0; index < 24; index += 1) {
      if (index === 0) await from.manager.createSecret('Large', big);
      else await from.manager.putSecretValue('Large', `${big}${index}`, { stages: [`kept-${index % 18}`] });
    }
    const backup = await exported(from.manager);
    let runs = 0;
    let isOver = false;
    for (let left = 0; !isOver; left += 1) {
      const store = memoryStore();
      await store.open();
      const keys = ephemeralKeys();
      const commits = { left: Number.POSITIVE_INFINITY };
      const first = await startWorld({ store: stoppingAfter(store, commits), keys, integrity: false });
      commits.left = left;
      const report = await bring(first.manager, backup).catch(() => undefined);
      isOver = report !== undefined;
      commits.left = Number.POSITIVE_INFINITY;
      await first.runtime.close();
      const second = await startWorld({ store: stoppingAfter(store, commits), keys, integrity: false });
      if (!isOver) {
        runs += 1;
        expect(await bring(second.manager, backup)).toMatchObject({ imported: 51, skipped: 0, resumed: left > 0 });
      }
      const { items } = await second.manager.listSecrets();
      expect(items).toHaveLength(51);
      expect((await second.manager.getSecretValue('Secret-49')).value).toEqual({ index: 49 });
      expect((await second.manager.listVersions('Large')).length).toBe(
        (await from.manager.listVersions('Large')).length,
      );
      await second.runtime.close();
    }
    expect(runs).toBeGreaterThan(5);
  });

  it('lets no other backup in before it is finished, unless what came of it may stay', async () => {
    const [from, other] = [await started(), await started()];
    await from.manager.createSecret('One', 1);
    await other.manager.createSecret('Two', 2);
    const [first, second] = [await exported(from.manager), await exported(other.manager)];
    const store = memoryStore();
    await store.open();
    const commits = { left: Number.POSITIVE_INFINITY };
    const to = await started({ store: stoppingAfter(store, commits), integrity: false });
    commits.left = 1;
    await expect(bring(to.manager, first)).rejects.toThrow();
    commits.left = Number.POSITIVE_INFINITY;
    await expect(bring(to.manager, second)).rejects.toMatchObject({ code: 'IMPORT_UNFINISHED' });
    expect(await bring(to.manager, second, { onConflict: 'skip' })).toMatchObject({ imported: 1, resumed: false });
    expect((await to.manager.listSecrets()).items.map(({ name }) => name)).toEqual(['Two']);
  });

  it('lets no second process import at the same time', async () => {
    const from = await started();
    for (let index = 0; index < 40; index += 1) await from.manager.createSecret(`Secret-${index}`, { index });
    const backup = await exported(from.manager);
    const to = await started();
    const results = await Promise.allSettled([bring(to.manager, backup), bring(to.manager, backup)]);
    const failed = results.flatMap((one) => (one.status === 'rejected' ? [one.reason] : []));
    expect(failed).toHaveLength(1);
    expect(failed[0]).toMatchObject({ code: 'IMPORT_BUSY' });
    expect((await to.manager.listSecrets()).items).toHaveLength(40);
  });
});

describe('a rotation that was under way', () => {
  it.each(['create', 'apply', 'verify', 'retire'])('at %s goes on in the store that was restored', async (step) => {
    const target = new Target();
    target.accounts.set('a', 'first-password');
    const rotator = new TargetRotator(target, ['a', 'b']);
    rotator.failing.set('undo', new Error('cannot be undone either'));
    const from = await started({ rotators: [named(rotator)] });
    await from.manager.createSecret(
      'Db',
      { username: 'a', password: 'first-password' },
      { rotation: { rotator: 'target' } },
    );
    let backup: Exported | undefined;
    rotator.hook = async (at, side) => {
      if (at === step && side === 'after' && backup === undefined) backup = await exported(from.manager);
    };
    await from.manager.rotateSecret('Db').catch(() => undefined);
    for (let steps = 0; steps < 100 && backup === undefined; steps += 1) await from.clock.advance(1_000);
    if (backup === undefined) throw new Error('nothing was exported');
    rotator.hook = () => undefined;
    // The store is gone, and all of its instances with it.
    await from.runtime.stopRotating();
    await from.runtime.close();
    worlds.splice(worlds.indexOf(from), 1);
    const heir = new TargetRotator(target, ['a', 'b']);
    const to = await started({ rotators: [named(heir)], clock: from.clock });
    await bring(to.manager, backup);
    const candidates = async (): Promise<Login[]> => {
      const found: Login[] = [];
      for (const stage of ['current', 'pending', 'previous'])
        await to.manager.getSecretValue<Login>('Db', { stage }).then(
          ({ value }) => found.push(value),
          () => undefined,
        );
      return found;
    };
    // I1: some stored version opens the target, before anything went on and afterwards.
    expect((await candidates()).some((login) => target.opens(login))).toBe(true);
    await to.manager.rotateSecret('Db', { until: 'retired' }).catch(() => undefined);
    for (let steps = 0; steps < 100; steps += 1) await to.clock.advance(1_000);
    const { rotation } = await to.manager.describeSecret('Db');
    expect(rotation).toMatchObject({ step: undefined, unretired: [] });
    expect(target.opens((await to.manager.getSecretValue<Login>('Db')).value)).toBe(true);
    // I6: nothing older is left alive.
    expect(target.accounts.size).toBe(1);
    await to.manager.rotateSecret('Db');
    expect(target.opens((await to.manager.getSecretValue<Login>('Db')).value)).toBe(true);
  });
});
