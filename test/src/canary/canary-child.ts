import { cpSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { SecretsManager } from '@nestjs-secrets/core';
import { boot, type Failing } from './canary-app.js';
import type { CanaryOrder, Chapter } from './canary-order.js';
import { logCarelessly, reportOnProcess, showEverything } from './chapters-of-logs.js';
import { askForReports, comeToEnds, turnKeys, watchEvents } from './chapters-of-operations.js';
import {
  callListener,
  failToCreate,
  failToRenew,
  rollBack,
  rotateWithFailures,
  useManager,
} from './chapters-of-secrets.js';
import { audit, failQueries, failToStore, startWithWrongKey, storeOnServer } from './chapters-of-stores.js';
import { show } from './talkative.js';

/** The whole life of an application that logs as much as it can, and of whatever goes wrong in it. */
async function live(order: CanaryOrder): Promise<void> {
  const failing: Failing = { steps: new Set(), keys: new Set(), gossip: {} };
  const app = await boot(order, failing);
  const failures: Error[] = [];
  watchEvents(app);
  app.get(SecretsManager).rotationEvents$.subscribe((event) => {
    if (event.type === 'failed') failures.push(new Error(event.message));
  });
  await showEverything(app);
  const chapters: Readonly<Record<Chapter, () => Promise<void>>> = {
    listener: () => callListener(app, order),
    creation: () => failToCreate(app, failing),
    manager: () => useManager(app, order),
    rotation: () => rotateWithFailures(app, failing),
    queries: () => failQueries(app, order),
    rollback: () => rollBack(app, failing),
    lease: () => failToRenew(app, failing),
    store: async () => {
      await storeOnServer(order);
      await failToStore(order);
    },
    audit: () => audit(order),
    loggers: () => logCarelessly(app, order, failing),
    keys: () => turnKeys(app, order),
    ends: () => comeToEnds(app, order),
    reports: () => askForReports(app, order),
    'process-report': () => reportOnProcess(order, failures.at(-1)),
  };
  for (const chapter of order.chapters) await chapters[chapter]();
  await showEverything(app);
  mkdirSync(order.copyFolder);
  cpSync(order.place.folder, order.copyFolder, {
    recursive: true,
    filter: (file) => !/^(keys|lock-.*)$/.test(path.basename(file)),
  });
  await app.close();
  if (order.chapters.includes('manager')) await startWithWrongKey(order);
  if (process.platform !== 'linux') return;
  show('command line', readFileSync('/proc/self/cmdline', 'latin1'));
  show('environment at start', readFileSync('/proc/self/environ', 'latin1'));
}

const file = process.argv[2] ?? '';
const order: CanaryOrder = JSON.parse(readFileSync(file, 'utf8'));
rmSync(file);
// What an application is kept alive by is its server; this one has none.
const alive = setInterval(() => undefined, 60_000);
await live(order);
clearInterval(alive);
process.stdout.write('lived to the end\n');
