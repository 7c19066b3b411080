import assert from 'node:assert/strict';
import { isSecretsError, type StoreDriver } from '@nestjs-secrets/core';
import { AttackedStore, expectNoticed, expectOthersWork, VICTIM, type AttackedProcess } from './attacked-store.js';
import type { FreshStore } from './steps.js';

const HEAD = `secret/${VICTIM}`;
const FIRST = `value/${VICTIM}:v1`;
const SECOND = `value/${VICTIM}:v2`;

const readVictim = ({ manager }: AttackedProcess): Promise<unknown> => manager.getSecretValue(VICTIM);
const readFirst = ({ manager }: AttackedProcess): Promise<unknown> =>
  manager.getSecretValue(VICTIM, { versionId: 'v1' });

/** What somebody who can write to the database, and does not hold the keys, must not get away with. */
export function attacks(fresh: FreshStore, isShared: boolean): void {
  const attacked = (name: string, body: (store: AttackedStore) => Promise<void>): void =>
    fresh(name, async (store, drivers) => {
      const own = store.connect();
      drivers.push(own);
      await own.open();
      // Where a driver is its own store, the attacker and all processes share it.
      const world = new AttackedStore(own, isShared ? () => store.connect() : () => lasting(own));
      try {
        await body(world);
      } finally {
        await world.stop();
      }
    });
  /** Both a process that was running and one that starts afterwards must notice. */
  const bothNotice = async (
    world: AttackedStore,
    running: AttackedProcess,
    expectation: Parameters<typeof expectNoticed>[1],
  ): Promise<void> => {
    await expectNoticed(running, expectation);
    await expectNoticed(await world.start(), expectation);
  };

  attacked('attack: notices two rows that were swapped', async (world) => {
    const running = await world.populated();
    const [victim, other] = [await world.entry(SECOND), await world.entry(FIRST)];
    await world.put({ key: SECOND, value: other.value }, { key: FIRST, value: victim.value });
    await bothNotice(world, running, { kind: 'record-changed', key: SECOND, look: readVictim });
    const second = await world.start();
    await assert.rejects(readFirst(second), (error) => isSecretsError(error, 'RECORD_CORRUPT'));
  });

  attacked('attack: notices an old blob under a new id', async (world) => {
    const running = await world.populated();
    await world.put({ key: SECOND, value: (await world.entry(FIRST)).value });
    await bothNotice(world, running, { kind: 'record-changed', key: SECOND, look: readVictim });
  });

  attacked('attack: notices `current` pointed back', async (world) => {
    const running = await world.populated();
    const { value } = await world.entry(HEAD);
    const text = Buffer.from(value).toString('latin1');
    const pointed = text.replace('["current","v2"]', '["current","v1"]');
    assert.notEqual(pointed, text, 'the head names what is current');
    await world.put({ key: HEAD, value: Buffer.from(pointed, 'latin1') });
    await bothNotice(world, running, { kind: 'record-changed', key: HEAD, look: readVictim });
  });

  attacked('attack: notices one secret rolled back', async (world) => {
    const running = await world.populated();
    const before = await world.copy(VICTIM);
    await running.manager.putSecretValue(VICTIM, 'third value');
    await world.restore(before, VICTIM);
    await bothNotice(world, running, { kind: 'record-rolled-back', key: HEAD, look: readVictim });
  });

  attacked('attack: notices a secret that was hidden, and does not let it be made anew', async (world) => {
    const running = await world.populated();
    await world.put(...(await world.copy(VICTIM)).map(({ key }) => ({ key, value: null })));
    await bothNotice(world, running, { kind: 'record-hidden', key: HEAD, look: readVictim });
    const create = running.manager.createSecret(VICTIM, 'another');
    await assert.rejects(create, (error) => isSecretsError(error, 'RECORD_CORRUPT'));
  });

  attacked('attack: notices a value that was hidden', async (world) => {
    const running = await world.populated();
    await world.put({ key: SECOND, value: null });
    await bothNotice(world, running, { kind: 'record-hidden', key: SECOND, look: readVictim });
  });

  attacked('attack: notices a secret that was removed and put back', async (world) => {
    const running = await world.populated();
    const before = await world.copy(VICTIM);
    const writes = before.map(({ key }) => ({ key, value: null }));
    assert.equal(typeof (await running.sealed.commit({ conditions: [], writes })), 'number');
    await world.put(...before);
    await bothNotice(world, running, { kind: 'record-resurrected', key: HEAD, look: readVictim });
    const { items } = await running.manager.listSecrets();
    assert.ok(!items.some(({ name }) => name === VICTIM), 'what was removed is not listed');
  });

  attacked('attack: notices the head, the journal or the index of a secret rolled back by itself', async (world) => {
    const running = await world.populated();
    await running.manager.updateRotationPolicy(VICTIM, { rotator: 'any', schedule: { every: '1h' } });
    const index = await world.entry(`scheduled/${VICTIM}`);
    const head = await world.entry(HEAD);
    await running.manager.updateRotationPolicy(VICTIM, { rotator: 'any' });
    await world.put(index);
    await expectNoticed(running, {
      kind: 'record-resurrected',
      key: index.key,
      look: ({ sealed }) => sealed.get(index.key),
    });
    await world.put(head);
    await bothNotice(world, running, { kind: 'record-rolled-back', key: HEAD, look: readVictim });
  });

  attacked('attack: notices that the whole store was put back to an older one', async (world) => {
    const running = await world.populated();
    const before = await world.copy();
    await running.manager.putSecretValue(VICTIM, 'third value');
    const anchor = await running.integrity.storeHead();
    await world.restore(before);

    await assert.rejects(readVictim(running), (error) => isSecretsError(error, 'STORE_ROLLED_BACK'));
    const told = running.events.map((event) => (event.type === 'found' ? event.finding.kind : event.type));
    assert.deepEqual(told, ['store-rolled-back']);

    // Who has not seen the newer one needs to be told of it.
    const next = await world.start();
    const { findings } = await next.integrity.verifyStore({ anchors: [anchor] });
    assert.deepEqual(
      findings.map(({ kind }) => kind),
      ['store-rolled-back'],
    );

    await next.integrity.acceptRestore({ reason: 'restored on purpose', anchors: [anchor] });
    assert.equal(next.events.at(-1)?.type, 'restore-accepted');
    for (const process of [next, running]) {
      assert.equal((await process.manager.getSecretValue(VICTIM)).value, 'second value');
      await expectOthersWork(process);
    }
  });

  attacked('attack: notices each byte of a head and of a value that is turned round', async (world) => {
    const running = await world.populated();
    for (const key of [HEAD, SECOND]) {
      const { value } = await world.entry(key);
      for (let at = 0; at < value.length; at += 1) {
        const flipped = Uint8Array.from(value);
        flipped[at] = (flipped[at] ?? 0) ^ (1 << (at % 8));
        await world.put({ key, value: flipped });
        await refused(running, key, `byte ${at}`);
      }
      await expectOthersWork(running);
      await world.put({ key, value });
      assert.equal((await running.manager.getSecretValue(VICTIM)).value, 'second value');
    }
  });

  attacked('attack: notices a head and a value cut off at each byte', async (world) => {
    const running = await world.populated();
    for (const key of [HEAD, SECOND]) {
      const { value } = await world.entry(key);
      for (let length = 0; length < value.length; length += 1) {
        await world.put({ key, value: value.slice(0, length) });
        await refused(running, key, `at byte ${length}`);
      }
      await expectOthersWork(running);
      await world.put({ key, value });
    }
  });

  attacked('attack: notices a downgraded suite', async (world) => {
    const running = await world.populated();
    const { value } = await world.entry(HEAD);
    const suite = Uint8Array.from(value);
    // Suite and format stand before the tag of 16 bytes.
    suite[value.length - 18] = 0;
    await world.put({ key: HEAD, value: suite });
    await bothNotice(world, running, { kind: 'record-downgraded', key: HEAD, look: readVictim });
    const unsealed = await world.start();
    await world.put({ key: HEAD, value: value.slice(0, -26) });
    await bothNotice(world, unsealed, { kind: ['record-downgraded', 'record-changed'], key: HEAD, look: readVictim });
  });

  attacked('attack: notices a row of another store under the same master key', async (world) => {
    const running = await world.populated();
    const own = await world.copy();
    // The other store is made in the same place, after the first was carried away.
    await world.stop();
    await world.put(...own.map(({ key }) => ({ key, value: null })));
    await world.populated();
    const foreign = await world.entry(HEAD);
    const foreignStore = await world.entry('store');
    await world.stop();
    await world.restore(own);
    await world.put(foreign);
    const first = await world.start();
    await expectNoticed(first, { kind: 'record-changed', key: HEAD, look: readVictim });
    await world.put(foreignStore);
    const second = await world.start();
    await expectNoticed(second, { kind: 'record-changed', key: HEAD, look: readVictim });
    const told = second.events.flatMap((event) => (event.type === 'found' ? [event.finding.key] : []));
    assert.ok(told.includes('store'), 'the first entry of another store is noticed');
    assert.ok(running.events.length === 0, 'nobody was wrong before');
  });

  attacked('attack: makes the manifest anew, with proof, where a part of it was changed or removed', async (world) => {
    const running = await world.populated();
    for (let at = 0; at < 30; at += 1) await running.manager.createSecret(`more/${at}`, `value ${at}`);
    const nodes = await world.attacker.list({ prefix: 'integrity/node/', limit: 1000 });
    assert.ok(nodes.length > 3, 'the tree has more than one node');
    const single = await Promise.all(
      ['key', 'key-copy', 'root', 'store', 'top'].map((name) => world.entry(`integrity/${name}`)),
    );
    const names = Array.from({ length: 30 }, (_, at) => `more/${at}`);
    for (const { key, value } of [...single, ...nodes.slice(0, 2)]) {
      const flipped = Uint8Array.from(value);
      flipped[value.length - 1] = (flipped[value.length - 1] ?? 0) ^ 1;
      for (const damage of [flipped, null]) {
        // Who was first has put an entry right that the next attack is about.
        const { value: sound } = await world.entry(key);
        await world.put({ key, value: damage });
        const process = await world.start();
        const read = await Promise.all(names.map(async (name) => (await process.manager.getSecretValue(name)).value));
        assert.deepEqual(
          read,
          names.map((_, at) => `value ${at}`),
        );
        await process.manager.putSecretValue(VICTIM, 'second value');
        const wrong = process.events.filter(
          (event) => event.type === 'found' && event.finding.kind !== 'manifest-damaged',
        );
        assert.deepEqual(wrong, [], `${key} puts nothing else under suspicion`);
        await world.stop();
        if ((await world.attacker.get(key)) === undefined) await world.put({ key, value: sound });
      }
    }
    const last = await world.start();
    assert.deepEqual((await last.integrity.verifyStore()).findings, []);
  });

  attacked('attack: gives no meaning to what is only MACed and was forged', async (world) => {
    const running = await world.populated();
    const key = 'ack/Victim:forged';
    await world.put({ key, value: Buffer.from('{"format":1,"promotion":1000,"held":[]}') });
    assert.equal((await running.sealed.get(key))?.value.length, 0);
    assert.equal((await running.sealed.list({ prefix: 'ack/', limit: 10 }))[0]?.value.length, 0);
    const told = running.events.flatMap((event) => (event.type === 'found' ? [event.finding.key] : []));
    assert.ok(told.every((one) => one === key) && told.length > 0);
    await expectOthersWork(running);
  });

  attacked('attack: lets a secret be used again after its rows were restored and accepted', async (world) => {
    const running = await world.populated();
    const sound = await world.copy(VICTIM);
    await world.put({ key: HEAD, value: Buffer.from('garbage') }, { key: SECOND, value: null });
    await assert.rejects(readVictim(running));
    await world.put(...sound);
    assert.equal((await running.manager.getSecretValue(VICTIM)).value, 'second value');

    await running.manager.putSecretValue(VICTIM, 'third value');
    await world.restore(sound, VICTIM);
    await assert.rejects(readVictim(running));
    await running.integrity.acceptRestore({ secretName: VICTIM, reason: 'the backup of yesterday' });
    const next = await world.start();
    for (const process of [running, next]) {
      assert.equal((await process.manager.getSecretValue(VICTIM)).value, 'second value');
      assert.deepEqual((await process.integrity.verifyStore()).findings, []);
    }
  });
}

async function refused({ sealed }: AttackedProcess, key: string, where: string): Promise<void> {
  const outcome = await sealed.get(key).then(
    () => 'believed',
    (error: unknown) => (isSecretsError(error, 'RECORD_CORRUPT') ? 'refused' : error),
  );
  assert.equal(outcome, 'refused', `${key}, ${where}`);
}

/** A driver that goes on when a process closes it. */
function lasting(store: StoreDriver): StoreDriver {
  return {
    name: store.name,
    open: async () => undefined,
    close: async () => undefined,
    get: (key) => store.get(key),
    list: (options) => store.list(options),
    commit: (commit) => store.commit(commit),
    revision: () => store.revision(),
    watch: (onHint, prefixes) => store.watch(onHint, prefixes),
  };
}
