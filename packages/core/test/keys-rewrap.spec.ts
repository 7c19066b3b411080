import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { KeyEvent } from '@nestjs-secrets/core';
import { KeysFleet } from './support/keys-fleet.js';

let fleet: KeysFleet;

beforeEach(() => {
  fleet = new KeysFleet();
});

afterEach(() => fleet.stop());

describe('sealing anew', () => {
  it('goes on in another instance where the one that died had got to, and repeats and leaves out nothing', async () => {
    const { keys, manager } = await fleet.start(2);
    for (let count = 0; count < 130; count += 1) await manager.createSecret(`S${count}`, count);
    await fleet.eventually(keys.rotateKey('default', { rewrap: false }));
    const { host } = fleet.at(0);
    let pages = 0;
    host.beforeCommit = ({ writes }) => {
      if (!writes.some(({ key }) => key.startsWith('cmk/open/rewrap'))) return;
      pages += 1;
      if (pages < 3) return;
      host.kill();
      host.isCutOff = true;
    };
    keys.rewrap({ key: 'default' }).catch(() => undefined);
    await fleet.until(() => pages >= 3);
    expect(Object.values(await fleet.sealedUnder()).filter((under) => under === 'default 1').length).toBeGreaterThan(0);
    const ended = new Promise<KeyEvent>((resolve) =>
      fleet.at(1).keys.events$.subscribe((event) => event.type === 'rewrapped' && resolve(event)),
    );
    expect(await fleet.eventually(ended)).toMatchObject({ seen: 130, resealed: 130, failed: 0 });
    expect(new Set(Object.values(await fleet.sealedUnder()))).toEqual(new Set(['default 2']));
    expect((await fleet.at(1).manager.getSecretValue('S77')).value).toBe(77);
  });

  it('leaves a value that does not open as it is, names it, and goes on', async () => {
    const { keys, manager } = await fleet.start();
    for (const name of ['A', 'B', 'C']) await manager.createSecret(name, `value of ${name}`);
    const entry = await fleet.shared.get('value/B:v1');
    const broken = Buffer.from(entry?.value ?? []);
    broken.writeUInt8(broken.readUInt8(broken.length - 1) ^ 1, broken.length - 1);
    await fleet.shared.commit({ conditions: [], writes: [{ key: 'value/B:v1', value: broken }] });
    await fleet.eventually(keys.rotateKey('default', { rewrap: false }));
    const report = await fleet.eventually(keys.rewrap('all'));
    expect(report).toEqual({ scope: '*', seen: 3, resealed: 2, failed: 1, failures: ['B:v1'] });
    expect(Buffer.from((await fleet.shared.get('value/B:v1'))?.value ?? []).equals(broken)).toBe(true);
    expect((await manager.getSecretValue('C')).value).toBe('value of C');
  });

  it('does not bring a value back that was removed meanwhile', async () => {
    const { keys, manager } = await fleet.start();
    for (let count = 0; count < 20; count += 1) await manager.createSecret(`S${count}`, count);
    await fleet.eventually(keys.rotateKey('default', { rewrap: false }));
    let isRemoved = false;
    fleet.at(0).host.beforeCommit = async ({ writes }) => {
      if (isRemoved || !writes.some(({ key }) => key.startsWith('value/'))) return;
      isRemoved = true;
      await fleet.shared.commit({ conditions: [], writes: [{ key: 'value/S7:v1', value: null }] });
    };
    const report = await fleet.eventually(keys.rewrap({ key: 'default' }));
    expect(await fleet.shared.get('value/S7:v1')).toBeUndefined();
    expect(report).toMatchObject({ seen: 19, resealed: 19, failed: 0 });
  });
});
