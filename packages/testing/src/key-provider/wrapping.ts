import assert from 'node:assert/strict';
import { isCmkRef } from '@nestjs-secrets/core';
import { assertHidden, assertMismatch, DATA_KEY, PLACE, unwrap, wrap, type OneProvider } from './steps.js';

export function wrapping(one: OneProvider): void {
  one('names itself and the key that wraps', async (provider, cmk) => {
    assert.ok(provider.name.length > 0);
    assert.ok(isCmkRef(cmk), 'active() is a key id and version there can be');
    assert.deepEqual(await provider.active(), cmk, 'active() does not change by itself');
    assert.equal(provider.status?.().state ?? 'available', 'available');
  });

  one('unwraps what it has wrapped', async (provider, cmk) => {
    const wrapped = await wrap(provider, cmk);
    assert.ok(wrapped.length >= 1 && wrapped.length <= 0xffff, `a wrapped key of ${wrapped.length} bytes fits`);
    assert.deepEqual(await unwrap(provider, cmk, wrapped), DATA_KEY);
    assert.deepEqual(await unwrap(provider, cmk, wrapped), DATA_KEY, 'and again');
  });

  one('takes every data key and every length of associated data', async (provider, cmk) => {
    for (const [index, length] of [1, 15, 16, 17, 200, 1_000, 4_000].entries()) {
      const place = Buffer.alloc(length, `place ${index}`);
      const dataKey = Buffer.alloc(32, [0, 255, index, index + 100][index % 4]);
      assert.deepEqual(await unwrap(provider, cmk, await wrap(provider, cmk, place, dataKey), place), dataKey);
    }
  });

  one('hides the data key in the wrapped one', async (provider, cmk) => {
    const wrapped = await wrap(provider, cmk);
    for (let at = 0; at + 8 <= DATA_KEY.length; at += 1)
      assert.ok(!wrapped.includes(DATA_KEY.subarray(at, at + 8)), 'no part of the data key stands in it');
  });

  one('gives away a buffer of its own, and leaves those of the caller alone', async (provider, cmk) => {
    const [dataKey, place] = [Buffer.from(DATA_KEY), Buffer.from(PLACE)];
    const wrapped = Buffer.from(await provider.wrap(cmk, dataKey, place));
    assert.deepEqual([dataKey, place], [DATA_KEY, PLACE], 'wrap() changes nothing');
    dataKey.fill(0);
    const [wrappedBefore, placeBefore] = [Buffer.from(wrapped), Buffer.from(place)];
    const first = await provider.unwrap(cmk, wrapped, place);
    assert.deepEqual([wrapped, place], [wrappedBefore, placeBefore], 'unwrap() changes nothing');
    assert.ok(Buffer.isBuffer(first));
    // The keyring zeroes what it gets.
    first.fill(0);
    place.fill(0);
    assert.deepEqual(await unwrap(provider, cmk, wrapped), DATA_KEY, 'zeroing one answer does not spoil the next');
  });

  one('keeps apart what is asked for at once', async (provider, cmk) => {
    const places = Array.from({ length: 40 }, (_, index) => Buffer.from(`place ${index}`));
    const keyOf = (index: number): Buffer => Buffer.alloc(32, `data key ${index}`);
    const wrapped = await Promise.all(places.map((place, index) => wrap(provider, cmk, place, keyOf(index))));
    const all = [...places.keys(), ...places.keys()];
    const unwrapped = await Promise.all(
      all.map((index) => unwrap(provider, cmk, wrapped[index] ?? PLACE, places[index])),
    );
    for (const [at, index] of all.entries()) assert.deepEqual(unwrapped[at], keyOf(index));
    for (const dataKey of unwrapped) dataKey.fill(0);
    assert.deepEqual(await unwrap(provider, cmk, wrapped[7] ?? PLACE, places[7]), keyOf(7));
  });

  one('shows no data key when it is printed', async (provider, cmk) => {
    await unwrap(provider, cmk, await wrap(provider, cmk));
    assertHidden(provider, 'the provider');
  });
}

export function binding(one: OneProvider): void {
  one('unwraps for the same associated data only', async (provider, cmk) => {
    const wrapped = await wrap(provider, cmk);
    const changed = Array.from({ length: PLACE.length }, (_, at) => {
      const place = Buffer.from(PLACE);
      place[at] = (place[at] ?? 0) ^ 1;
      return place;
    });
    await assertMismatch(unwrap(provider, cmk, wrapped, Buffer.from('elsewhere')), 'unwrapping elsewhere');
    // Known from now on to a provider that keeps data keys.
    assert.deepEqual(await unwrap(provider, cmk, wrapped), DATA_KEY);
    const others = [...changed, PLACE.subarray(1), PLACE.subarray(0, -1), Buffer.concat([PLACE, Buffer.alloc(1)])];
    for (const place of [...others, Buffer.alloc(0)])
      await assertMismatch(unwrap(provider, cmk, wrapped, place), `unwrapping for ${JSON.stringify(String(place))}`);
    assert.deepEqual(await unwrap(provider, cmk, wrapped), DATA_KEY);
  });

  one('does not unwrap a wrapped key that was put into the place of another', async (provider, cmk) => {
    const [here, there] = [Buffer.from('here'), Buffer.from('there')];
    const [ofHere, ofThere] = [await wrap(provider, cmk, here), await wrap(provider, cmk, there)];
    await unwrap(provider, cmk, ofHere, here);
    await assertMismatch(unwrap(provider, cmk, ofHere, there), 'unwrapping it there');
    await assertMismatch(unwrap(provider, cmk, ofThere, here), 'unwrapping it here');
  });

  one('notices a changed bit in every byte of a wrapped key', async (provider, cmk) => {
    const wrapped = await wrap(provider, cmk);
    for (let at = 0; at < wrapped.length; at += 1) {
      const changed = Buffer.from(wrapped);
      changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
      await assertMismatch(unwrap(provider, cmk, changed), `unwrapping with byte ${at} of ${wrapped.length} changed`);
    }
    assert.deepEqual(await unwrap(provider, cmk, wrapped), DATA_KEY, 'and goes on with the right one');
  });

  one('notices a wrapped key that is too short or too long', async (provider, cmk) => {
    const wrapped = await wrap(provider, cmk);
    const lengths = [1, 2, 11, 12, 13, 16, 27, 28, 29, 32, 48, wrapped.length - 16, wrapped.length - 1];
    for (const length of lengths.filter((length) => length > 0 && length < wrapped.length))
      await assertMismatch(unwrap(provider, cmk, wrapped.subarray(0, length)), `unwrapping its first ${length} bytes`);
    for (const more of [1, 16, 5_000]) {
      const longer = Buffer.concat([wrapped, Buffer.alloc(more)]);
      await assertMismatch(unwrap(provider, cmk, longer), `unwrapping it with ${more} bytes more`);
    }
    await assertMismatch(unwrap(provider, cmk, Buffer.alloc(wrapped.length)), 'unwrapping zeroes');
  });

  one('wraps and unwraps under the keys it has, and no others', async (provider, cmk) => {
    const wrapped = await wrap(provider, cmk);
    const unknown = [
      { id: `${cmk.id.slice(0, 100)}-other`, version: cmk.version },
      { id: cmk.id, version: cmk.version + 1_000 },
      { id: cmk.id, version: 0xffff_ffff },
    ];
    for (const other of unknown) {
      await assertMismatch(unwrap(provider, other, wrapped), `unwrapping under ${other.id} version ${other.version}`);
      await assertMismatch(wrap(provider, other), `wrapping under ${other.id} version ${other.version}`);
    }
  });
}
