import { describe, expect, it } from '@jest/globals';
import { inspect } from 'node:util';
import { FixedSecretSource, SimulatedClock } from '@nestjs-secrets/testing';
import {
  defineSecret,
  secretLink,
  type Acknowledgement,
  type SecretChange,
  type SecretSnapshot,
  type SecretSource,
} from '@nestjs-secrets/core';
import { z } from 'zod';
import { cryptoRandomness } from '../src/foundation/randomness.js';
import { SecretHandles } from '../src/client/secret-handles.js';
import { SecretDefinitions } from '../src/versions/secret-definition.js';
import { holdOn, startWorld } from './support/world.js';

/** A source that delivers what the test wants next. */
class ScriptedSource implements SecretSource {
  readonly name = 'script';
  readonly acknowledged: Acknowledgement[] = [];
  next: () => Promise<SecretSnapshot> = () => Promise.reject(new Error('nothing scripted'));
  hint: (name?: string) => void = () => undefined;
  fetches = 0;

  fetch(): Promise<SecretSnapshot> {
    this.fetches += 1;
    return this.next();
  }
  async candidates(): Promise<SecretSnapshot[]> {
    return [await this.next()];
  }
  watch(onHint: (name?: string) => void): () => void {
    this.hint = onHint;
    return () => {
      this.hint = () => undefined;
    };
  }
  acknowledge(acknowledgement: Acknowledgement): void {
    this.acknowledged.push(acknowledgement);
  }
  deliver(promotion: number, value: unknown = { n: promotion }, more: Partial<SecretSnapshot> = {}): void {
    const snapshot = {
      name: 'S',
      versionId: `v${promotion}`,
      value,
      promotion,
      rolledBack: false,
      expiresAt: undefined,
      ...more,
    };
    this.next = () => Promise.resolve(snapshot);
  }
}

function open(source: SecretSource, options: { definitions?: SecretDefinitions; refreshIntervalMs?: number } = {}) {
  const clock = new SimulatedClock();
  const { definitions = new SecretDefinitions(), refreshIntervalMs = 0 } = options;
  return {
    clock,
    handles: new SecretHandles({
      source,
      clock,
      definitions,
      randomness: cryptoRandomness,
      bootTimeoutMs: 10_000,
      refreshIntervalMs,
    }),
  };
}

describe('Secret.changes$', () => {
  it('replays the current version, then gives each newer one, and completes on shutdown', async () => {
    const source = new ScriptedSource();
    source.deliver(1);
    const { handles } = open(source);
    const secret = await handles.open('S');
    source.deliver(2);
    await secret.refresh();
    const seen: string[] = [];
    let completed = false;
    secret.changes$.subscribe({
      next: (change) => seen.push(`${change.previousVersionId}>${change.versionId}`),
      complete: () => (completed = true),
    });
    expect(seen).toEqual(['v1>v2']);
    source.deliver(3);
    await secret.refresh();
    handles.close();
    expect([seen, completed]).toEqual([['v1>v2', 'v2>v3'], true]);
  });

  it('I4 never repeats and never goes backwards, whatever order answers come in', async () => {
    const source = new ScriptedSource();
    source.deliver(5);
    const { handles } = open(source);
    const secret = await handles.open('S');
    const seen: string[] = [];
    secret.changes$.subscribe(({ versionId }) => seen.push(versionId));
    for (const promotion of [5, 4, 6, 6, 3, 7]) {
      source.deliver(promotion);
      await secret.refresh();
    }
    expect(seen).toEqual(['v5', 'v6', 'v7']);
  });

  it('goes to an older version when a rollback says so', async () => {
    const { manager, secret } = await startWorld();
    await manager.createSecret('S', 'one');
    await manager.putSecretValue('S', 'two');
    const handle = await secret('S');
    const seen: [string, boolean][] = [];
    handle.changes$.subscribe(({ versionId, rolledBack }) => seen.push([versionId, rolledBack]));
    await manager.updateVersionStage('S', 'current', 'v1');
    await handle.refresh();
    expect(seen).toEqual([
      ['v2', false],
      ['v1', true],
    ]);
    expect(handle.value).toBe('one');
  });

  it('never errors: an outage leaves the last good value, says degraded, and is over by itself', async () => {
    const source = new ScriptedSource();
    source.deliver(1);
    const { handles, clock } = open(source);
    const secret = await handles.open('S');
    let errors = 0;
    secret.changes$.subscribe({ error: () => (errors += 1) });
    source.next = () => Promise.reject(new Error('store gone'));
    await expect(secret.refresh()).rejects.toMatchObject({ code: 'SECRET_UNAVAILABLE' });
    source.hint();
    await clock.advance(0);
    expect(handles.health().get('S')).toMatchObject({ status: 'degraded', versionId: 'v1' });
    expect(secret.value).toEqual({ n: 1 });
    source.deliver(2);
    await clock.advance(60_000);
    expect(handles.health().get('S')).toMatchObject({ status: 'up', versionId: 'v2' });
    expect(errors).toBe(0);
    handles.close();
    expect(clock.pending).toBe(0);
  });

  it('keeps the last good value when a newer one does not fit the schema', async () => {
    const source = new ScriptedSource();
    source.deliver(1);
    const definitions = new SecretDefinitions();
    definitions.add(defineSecret('S', z.object({ n: z.number() })));
    const { handles, clock } = open(source, { definitions });
    const secret = await handles.open('S');
    source.deliver(2, { n: 'wrong' });
    source.hint('S');
    await clock.advance(0);
    expect([secret.versionId, handles.health().get('S')]).toEqual([
      'v1',
      { status: 'degraded', versionId: 'v1', reason: 'VALUE_INVALID', rolledBack: false },
    ]);
  });
});

describe('Secret', () => {
  it('is one object per name', async () => {
    const { handles } = open(new FixedSecretSource({ S: 1 }));
    expect(await handles.open('S')).toBe(await handles.open('S'));
  });

  it('freezes its value, so that one reader cannot change what another sees', async () => {
    const { manager, secret } = await startWorld();
    await manager.createSecret('S', { nested: { list: [1] } });
    const { value } = await secret('S');
    expect(() => ((value as unknown as { nested: { list: number[] } }).nested.list[0] = 2)).toThrow(TypeError);
  });

  it('refreshes in single flight, and a call during a look is answered by a later one', async () => {
    const source = new ScriptedSource();
    source.deliver(1);
    const { handles } = open(source);
    const secret = await handles.open('S');
    await secret.refresh();
    source.fetches = 0;
    let release: (snapshot: SecretSnapshot) => void = () => undefined;
    source.next = () => new Promise((resolve) => (release = resolve));
    const looks = [secret.refresh(), secret.refresh(), secret.refresh()];
    source.deliver(2);
    release({ name: 'S', versionId: 'v1', value: 1, promotion: 1, rolledBack: false, expiresAt: undefined });
    await Promise.all(looks);
    expect([source.fetches, secret.versionId]).toEqual([2, 'v2']);
  });

  it('is not handed out past its TTL', async () => {
    const { manager, secret, clock, runtime } = await startWorld();
    await manager.createSecret('S', 'short-lived', { ttl: '1h' });
    const handle = await secret('S');
    await clock.advance(3_599_999);
    expect(handle.value).toBe('short-lived');
    await clock.advance(1);
    expect(() => handle.value).toThrow(expect.objectContaining({ code: 'SECRET_EXPIRED' }));
    expect(runtime.handles.health().get('S')).toMatchObject({ status: 'expired' });
    await manager.putSecretValue('S', 'renewed');
    await handle.refresh();
    expect(handle.value).toBe('renewed');
  });

  it('waits for its first value no longer than it may, and says who did not deliver', async () => {
    const source = new ScriptedSource();
    source.next = () => new Promise(() => undefined);
    const { handles, clock } = open(source);
    const opening = handles.open('S').catch((error: unknown) => error);
    await clock.advance(10_000);
    expect(await opening).toMatchObject({
      code: 'SECRET_UNAVAILABLE',
      message: expect.stringContaining('within 10000 ms'),
    });
    expect(clock.pending).toBe(0);
  });

  it('looks at its source from time to time even when every hint is lost', async () => {
    const source = new ScriptedSource();
    source.deliver(1);
    const { handles, clock } = open(source, { refreshIntervalMs: 60_000 });
    const secret = await handles.open('S');
    source.deliver(2);
    await clock.advance(75_000);
    expect(secret.versionId).toBe('v2');
    handles.close();
  });

  it('acknowledges what it runs on only after its consumers were told', async () => {
    const source = new ScriptedSource();
    source.deliver(1);
    const { handles } = open(source);
    const secret = await handles.open('S');
    const hold = holdOn(secret, 'v1');
    let atChange = -1;
    secret.changes$.subscribe(({ versionId }) => {
      if (versionId === 'v2') atChange = source.acknowledged.at(-1)?.promotion ?? 0;
    });
    source.deliver(2);
    await secret.refresh();
    expect(atChange).toBe(1);
    expect(source.acknowledged.at(-1)).toEqual({
      secretName: 'S',
      promotion: 2,
      versionId: 'v2',
      held: [{ label: 'a test consumer', versionIds: ['v1'] }],
    });
    hold.release();
    expect(source.acknowledged.at(-1)?.held).toEqual([{ label: 'a test consumer', versionIds: [] }]);
  });

  it('I7 shows no value in what it emits or links', async () => {
    const canary = 'canary-77aa';
    const { handles } = open(new FixedSecretSource({ S: { password: canary } }));
    const secret = await handles.open('S');
    let change: SecretChange | undefined;
    secret.changes$.subscribe((seen) => (change = seen));
    const shown = [secret, change, await secretLink(secret).candidates(), { ...change }].map(
      (thing) => inspect(thing, { depth: 9 }) + JSON.stringify(thing) + String(thing),
    );
    expect(change?.value).toEqual({ password: canary });
    expect(shown.join()).not.toContain(canary);
  });
});

describe('the candidates of a handle', () => {
  it('bring a handle up to date whose hint was lost', async () => {
    const source = new ScriptedSource();
    source.deliver(1);
    const { handles } = open(source);
    const secret = await handles.open('S');
    source.deliver(2);
    expect((await secretLink(secret).candidates()).map(({ versionId }) => versionId)).toEqual(['v2']);
    expect(secret.versionId).toBe('v2');
    handles.close();
  });

  it('are given as they are when the handle cannot be brought up to date', async () => {
    const source = new ScriptedSource();
    source.deliver(1);
    const { handles } = open(source);
    const secret = await handles.open('S');
    source.deliver(2);
    source.fetch = () => Promise.reject(new Error('the store is away'));
    expect((await secretLink(secret).candidates()).map(({ versionId }) => versionId)).toEqual(['v2']);
    expect(secret.versionId).toBe('v1');
    handles.close();
  });

  it('I5 are asked for again when the handle has moved on meanwhile: what was current then may be on its way out', async () => {
    const source = new ScriptedSource();
    source.deliver(1);
    const { handles } = open(source);
    const secret = await handles.open('S');
    const old = await source.next();
    let answers = 0;
    source.candidates = async () => {
      answers += 1;
      if (answers > 1) return [await source.next()];
      source.deliver(2);
      await secret.refresh();
      return [old];
    };
    expect((await secretLink(secret).candidates()).map(({ versionId }) => versionId)).toEqual(['v2']);
    expect(answers).toBe(2);
  });

  it('are the current version alone when the source stays behind what it has said before', async () => {
    const source = new ScriptedSource();
    source.deliver(2);
    const { handles } = open(source);
    const secret = await handles.open('S');
    source.deliver(1);
    expect((await secretLink(secret).candidates()).map(({ versionId }) => versionId)).toEqual(['v2']);
  });
});
