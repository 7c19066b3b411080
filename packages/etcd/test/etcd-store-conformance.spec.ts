import { afterAll, beforeAll, it } from '@jest/globals';
import { storeDriverConformance } from '@nestjs-secrets/testing';
import { describeWithEtcd } from 'nestjs-secrets-test/describe-with-etcd';
import { startEtcd, type EtcdServer } from 'nestjs-secrets-test/etcd-server';
import { etcdStore } from '../src/etcd-store.js';

let etcd: EtcdServer;
let stores = 0;

/** A machine under load may take its time; and it asks so seldom that every hint the suite waits for has been told. */
const patient = (prefix: string) => ({ prefix, answerWithinMs: 30_000, pollIntervalMs: 3_600_000 });

describeWithEtcd('etcdStore', () => {
  beforeAll(async () => {
    etcd = await startEtcd();
  });

  afterAll(() => etcd.stop());

  const createStore = async () => {
    const { endpoint, admin } = etcd;
    const prefix = `store-${stores++}`;
    return {
      connect: () => etcdStore({ endpoints: endpoint, ...admin }, patient(prefix)),
      dispose: async () => undefined,
    };
  };
  for (const { name, run } of storeDriverConformance({ shared: true, createStore })) it(name, run);
});
