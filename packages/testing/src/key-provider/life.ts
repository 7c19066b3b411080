import assert from 'node:assert/strict';
import { type CmkRef, isCmkRef, type KeyProvider } from '@nestjs-secrets/core';
import { assertMismatch, DATA_KEY, failureOf, unwrap, wrap, type FreshKeys, type OneProvider } from './steps.js';

export function lifeCycle(fresh: FreshKeys, outliving: FreshKeys): void {
  fresh('does nothing before open() and after close()', async (keys, opened) => {
    const provider = keys.connect();
    opened.push(provider);
    const cmk = { id: 'any', version: 1 };
    const check = async (when: string, ref: CmkRef): Promise<void> => {
      const attempts: [string, () => unknown][] = [
        ['active()', () => provider.active()],
        ['wrap()', () => wrap(provider, ref)],
        ['unwrap()', () => unwrap(provider, ref, DATA_KEY)],
      ];
      for (const [what, attempt] of attempts) {
        const { code } = await failureOf((async () => attempt())(), `${what} ${when}`);
        assert.equal(code, 'KEY_PROVIDER_CLOSED', `${what} ${when} fails with KEY_PROVIDER_CLOSED`);
      }
    };
    await check('before open()', cmk);
    await provider.open();
    const active = await provider.active();
    const wrapped = await wrap(provider, active);
    await unwrap(provider, active, wrapped);
    await provider.close();
    await provider.close();
    await check('after close()', active);
  });

  fresh('may be closed without having been opened', async (keys) => {
    await keys.connect().close();
  });

  outliving('has the same keys after close() and open()', async (keys, opened) => {
    const provider = keys.connect();
    opened.push(provider);
    await provider.open();
    const cmk = await provider.active();
    const wrapped = await wrap(provider, cmk);
    await provider.close();
    await provider.open();
    assert.deepEqual(await provider.active(), cmk);
    assert.deepEqual(await unwrap(provider, cmk, wrapped), DATA_KEY);
  });

  outliving('shares its keys with another provider that has them', async (keys, opened) => {
    const [here, there] = [await connect(keys.connect(), opened), await connect(keys.connect(), opened)];
    const cmk = await here.active();
    assert.deepEqual(await there.active(), cmk);
    assert.deepEqual(await unwrap(there, cmk, await wrap(here, cmk)), DATA_KEY);
    const wrapped = await wrap(there, cmk);
    await there.close();
    assert.deepEqual(await unwrap(here, cmk, wrapped), DATA_KEY, 'also when the other one has closed');
  });

  fresh('opens nothing that was wrapped under other keys', async (keys, opened) => {
    const own = await connect(keys.connect(), opened);
    const others = await connect(keys.connectToOthers(), opened);
    const [cmk, otherCmk] = [await own.active(), await others.active()];
    const wrapped = await wrap(others, otherCmk);
    await assertMismatch(unwrap(own, cmk, wrapped), 'unwrapping what was wrapped under another key');
    await assertMismatch(unwrap(others, otherCmk, await wrap(own, cmk)), 'and the other way round');
  });
}

/** What providers must do that list, make and destroy keys; the others pass. */
export function keyMaking(one: OneProvider): void {
  one('lists the keys it wraps with', async (provider, cmk) => {
    if (provider.list === undefined) {
      assert.equal(provider.make, undefined, 'what makes keys lists them');
      return;
    }
    const listed = await provider.list();
    assert.ok(
      listed.some((ref) => same(ref, cmk)),
      'the active one among them',
    );
    assert.ok(listed.every(isCmkRef));
    assert.equal(new Set(listed.map(({ id, version }) => `${id}:${version}`)).size, listed.length, 'each once');
    for (const ref of listed) assert.deepEqual(await unwrap(provider, ref, await wrap(provider, ref)), DATA_KEY);
  });

  one('makes versions and keys that wrap at once', async (provider, cmk) => {
    const { make, list } = provider;
    if (make === undefined || list === undefined) return;
    const before = await wrap(provider, cmk);
    const listed = await list.call(provider);
    const next = await make.call(provider, cmk.id);
    assert.ok(!listed.some((ref) => same(ref, next)), 'what is made was not there before');
    assert.deepEqual(next, { id: cmk.id, version: cmk.version + 1 });
    const other = await make.call(provider, 'another-key');
    assert.deepEqual(other, { id: 'another-key', version: 1 });
    const unnamed = await make.call(provider);
    assert.ok(isCmkRef(unnamed) && unnamed.version === 1 && ![cmk.id, other.id].includes(unnamed.id));
    for (const ref of [next, other, unnamed]) {
      assert.ok((await list.call(provider)).some((listed) => same(listed, ref)));
      const wrapped = await wrap(provider, ref);
      assert.deepEqual(await unwrap(provider, ref, wrapped), DATA_KEY);
      await assertMismatch(unwrap(provider, cmk, wrapped), 'unwrapping under the key before');
    }
    assert.deepEqual(await unwrap(provider, cmk, before), DATA_KEY, 'what was wrapped before still opens');
  });

  one('destroys a version for good, and never makes it again', async (provider, cmk) => {
    const { make, destroy, list } = provider;
    if (make === undefined || destroy === undefined || list === undefined) return;
    const next = await make.call(provider, cmk.id);
    const wrapped = await wrap(provider, next);
    assert.deepEqual(await unwrap(provider, next, wrapped), DATA_KEY);
    await destroy.call(provider, next);
    await destroy.call(provider, next);
    await assertMismatch(unwrap(provider, next, wrapped), 'unwrapping under a destroyed version');
    await assertMismatch(wrap(provider, next), 'wrapping under a destroyed version');
    assert.ok(!(await list.call(provider)).some((ref) => same(ref, next)));
    const { version } = await make.call(provider, cmk.id);
    assert.ok(version > next.version, 'its number is not used again');
    assert.deepEqual(await unwrap(provider, cmk, await wrap(provider, cmk)), DATA_KEY, 'the others stay');
  });
}

export function sharedMaking(outliving: FreshKeys): void {
  outliving('uses a version that another provider has just made', async (keys, opened) => {
    const [here, there] = [await connect(keys.connect(), opened), await connect(keys.connect(), opened)];
    if (here.make === undefined) return;
    const { id } = await here.active();
    const made = await here.make(id);
    assert.deepEqual(await unwrap(there, made, await wrap(here, made)), DATA_KEY);
    assert.deepEqual(await unwrap(here, made, await wrap(there, made)), DATA_KEY);
    const both = await Promise.all([here.make(id), there.make?.(id)]);
    assert.notDeepEqual(both[0], both[1], 'two that are made at once are two');
    for (const ref of both)
      if (ref !== undefined) assert.deepEqual(await unwrap(there, ref, await wrap(here, ref)), DATA_KEY);
  });
}

function same(one: CmkRef, other: CmkRef): boolean {
  return one.id === other.id && one.version === other.version;
}

async function connect(provider: KeyProvider, opened: KeyProvider[]): Promise<KeyProvider> {
  opened.push(provider);
  await provider.open();
  return provider;
}
