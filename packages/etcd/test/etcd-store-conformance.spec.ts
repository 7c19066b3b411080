import { afterAll, beforeAll, it } from '@jest/globals';
import { storeDriverConformance, type ConformanceStore } from '@nestjs-secrets/testing';
import { FaultyLink } from 'nestjs-secrets-test/chaos/faulty-link';
import { describeWithEtcd } from 'nestjs-secrets-test/describe-with-etcd';
import { startEtcd, type EtcdServer } from 'nestjs-secrets-test/etcd-server';
import { etcdStore } from '../src/etcd-store.js';

/** For a machine under load. */
const LIMIT_MS = 240_000;

let etcd: EtcdServer;
let stores = 0;

/** Asks so seldom that whatever the suite hears has been told. */
const patience = (willFail: boolean) => ({ answerWithinMs: willFail ? 1500 : 30_000, pollIntervalMs: 3_600_000 });

async function createStore(willFail: boolean): Promise<ConformanceStore> {
  const { host, admin } = etcd;
  const prefix = `store-${stores++}`;
  const link = await FaultyLink.to(etcd);
  return {
    connect: () => etcdStore({ endpoints: `http://${host}:${link.port}`, ...admin }, { prefix, ...patience(willFail) }),
    dispose: () => link.close(),
    cutOff: async (how) => {
      if (how === 'refused') link.refuse();
      else link.lose();
      return async () => link.mend();
    },
    crash: async () => {
      await etcd.kill();
      return () => etcd.restart();
    },
  };
}

describeWithEtcd('etcdStore', () => {
  beforeAll(async () => {
    etcd = await startEtcd();
  });

  afterAll(() => etcd.stop());

  const cases = storeDriverConformance({ shared: true, faults: ['cut-off', 'crash'], createStore });
  for (const { name, run } of cases) it(name, run, LIMIT_MS);
});
