import { beforeEach, describe, expect, it } from '@jest/globals';
import { type CredentialFailure, memoryStore, type StoreDriver } from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { FailureReports } from '../src/fleet/failure-reports.js';
import { Host } from './support/host.js';

let clock: SimulatedClock;
let shared: StoreDriver;
let host: Host;
let reports: FailureReports;

beforeEach(async () => {
  clock = new SimulatedClock();
  shared = memoryStore();
  await shared.open();
  host = new Host(clock, shared);
  reports = new FailureReports(host.store, 'one');
});

const refused = (versionId: string, code = '28P01', consumer = 'a pool'): CredentialFailure => ({
  versionId,
  kind: 'authentication',
  code,
  consumer,
});

/** Lets what was reported arrive, and reads it as another instance would. */
async function written(secretName = 'Db'): Promise<CredentialFailure[]> {
  await clock.advance(0);
  return new FailureReports(shared, 'reader').read(secretName);
}

describe('the failure reports of an instance', () => {
  it('carry what consumers were refused, by secret', async () => {
    reports.report('Db', refused('v2'));
    reports.report('Other', refused('v9', '42501'));
    expect(await written()).toEqual([refused('v2')]);
    expect(await written('Other')).toEqual([refused('v9', '42501')]);
    expect(await written('D')).toEqual([]);
  });

  it('write down the first three of a version', async () => {
    for (let failure = 1; failure <= 100; failure += 1) reports.report('Db', refused('v2', String(failure)));
    expect((await written()).map(({ code }) => code)).toEqual(['1', '2', '3']);
    const revision = await shared.revision();
    reports.report('Db', refused('v2', 'again'));
    await clock.advance(0);
    expect(await shared.revision()).toBe(revision);
  });

  it('keep what the version before was refused, and nothing older', async () => {
    reports.report('Db', refused('v1'));
    reports.report('Db', refused('v2', 'a'));
    reports.report('Db', refused('v2', 'b'));
    expect((await written()).map(({ versionId }) => versionId)).toEqual(['v1', 'v2', 'v2']);
    reports.report('Db', refused('v3'));
    expect((await written()).map(({ versionId }) => versionId)).toEqual(['v2', 'v2', 'v3']);
    // An older version that is refused late says nothing of the version before the newest.
    reports.report('Db', refused('v3', 'b'));
    expect((await written()).map(({ versionId }) => versionId)).toEqual(['v2', 'v2', 'v3', 'v3']);
  });

  it('of all instances are read together; what cannot be read counts for nothing', async () => {
    reports.report('Db', refused('v2'));
    new FailureReports(shared, 'two').report('Db', refused('v2', '42501'));
    await shared.commit({ conditions: [], writes: [{ key: 'report/Db:three', value: Buffer.from('{"format":2}') }] });
    await shared.commit({ conditions: [], writes: [{ key: 'report/Db:four', value: Buffer.from('[') }] });
    expect(await written()).toEqual([refused('v2'), refused('v2', '42501')]);
  });

  it('fail nobody when the store is away, and are written with the next failure', async () => {
    host.isCutOff = true;
    for (let failure = 0; failure < 5; failure += 1) {
      reports.report('Db', refused('v2'));
      await clock.advance(0);
    }
    expect(await written()).toEqual([]);
    await expect(reports.read('Db')).rejects.toMatchObject({ code: 'STORE_UNAVAILABLE' });
    host.isCutOff = false;
    reports.report('Db', refused('v2'));
    expect(await written()).toEqual([refused('v2')]);
  });

  it('lose nothing when the store takes its time with the first of them', async () => {
    let arrive = (): void => undefined;
    host.beforeCommit = () => {
      host.beforeCommit = () => undefined;
      return new Promise((resolve) => (arrive = resolve));
    };
    for (const code of ['1', '2', '3']) {
      reports.report('Db', refused('v2', code));
      await clock.advance(0);
    }
    arrive();
    expect((await written()).map(({ code }) => code)).toEqual(['1', '2', '3']);
  });

  it('are tidied up when their instance is gone; its own an instance keeps', async () => {
    reports.report('Db', refused('v2'));
    for (const id of ['gone', 'here'])
      await shared.commit({ conditions: [], writes: [{ key: `report/Db:${id}`, value: Buffer.from('{}') }] });
    await clock.advance(0);
    const asked: string[] = [];
    await reports.tidy('Db', async (id) => {
      asked.push(id);
      return id !== 'here';
    });
    expect(asked).toEqual(['gone', 'here']);
    const left = await shared.list({ prefix: 'report/', limit: 10 });
    expect(left.map(({ key }) => key)).toEqual(['report/Db:here', 'report/Db:one']);
  });
});
