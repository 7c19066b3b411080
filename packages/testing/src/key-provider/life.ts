import assert from 'node:assert/strict';
import type { CmkRef, KeyProvider } from '@nestjs-secrets/core';
import { assertMismatch, DATA_KEY, failureOf, unwrap, wrap, type FreshKeys } from './steps.js';

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

async function connect(provider: KeyProvider, opened: KeyProvider[]): Promise<KeyProvider> {
  opened.push(provider);
  await provider.open();
  return provider;
}
