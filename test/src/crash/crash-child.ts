import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { RotationFailedError, SecretsManager } from '@nestjs-secrets/core';
import { DataSource } from 'typeorm';
import { ACKNOWLEDGED_FILE, type CrashOrder, type CrashScenario } from './crash-order.js';
import { CrashPoints } from './crash-points.js';
import { crashingRotator, crashingStore } from './crashing-parts.js';
import { CREDENTIALS, kindOf, LEDGER, partsAt, POOL_SIZE, RotatingApp, type AppPlace } from './rotating-app.js';

interface Load {
  /** Resolves once the pool has all its connections, so that those opened later are replacements, and a first put was acknowledged. */
  readonly warm: Promise<unknown>;
  stop(): Promise<void>;
}

/** Works until `stop`; whatever fails ends the process, so that no failure goes unseen. */
function keepBusy(app: INestApplicationContext, place: AppPlace): Load {
  const { folder } = place;
  const kind = kindOf(place);
  const [dataSource, manager] = [app.get(DataSource), app.get(SecretsManager)];
  let isBusy = true;
  const query = async (): Promise<void> => {
    while (isBusy) await dataSource.query(kind.sleep(0.002));
  };
  const put = async (entry: number): Promise<void> => {
    await manager.putSecretValue(LEDGER, entry);
    writeFileSync(path.join(folder, ACKNOWLEDGED_FILE), JSON.stringify(entry));
  };
  const keepPutting = async (): Promise<void> => {
    for (let entry = 2; isBusy; entry += 1) await put(entry);
  };
  const connections = Array.from({ length: POOL_SIZE }, () => dataSource.query(kind.sleep(0.05)));
  const warm = Promise.all([put(1), ...connections]);
  const work = warm.then(() => Promise.all([keepPutting(), ...Array.from({ length: POOL_SIZE }, query)]));
  return {
    warm,
    async stop() {
      isBusy = false;
      await work;
    },
  };
}

async function rotate(app: INestApplicationContext, scenario: CrashScenario): Promise<void> {
  try {
    await app.get(SecretsManager).rotateSecret(CREDENTIALS, { until: 'retired' });
  } catch (error) {
    if (scenario !== 'undo' || !(error instanceof RotationFailedError)) throw error;
  }
}

/** Without `crashAt`, the names of all crash points that were passed. */
async function run({ place, scenario, crashAt }: CrashOrder): Promise<readonly string[]> {
  const points = new CrashPoints(crashAt);
  const kind = kindOf(place);
  kind.crashAroundStatements(points);
  kind.crashAroundConnections(points);
  const { store, keys, rotator } = partsAt(place);
  let verifyFails = false;
  const parts = {
    keys,
    store: crashingStore(store, points),
    rotator: crashingRotator(rotator, points, () => verifyFails),
  };
  if (scenario === 'bootstrap') points.arm();
  const app = await NestFactory.createApplicationContext(RotatingApp.with(place, parts), {
    logger: false,
    abortOnError: false,
  });
  if (scenario !== 'bootstrap') {
    const load = keepBusy(app, place);
    await load.warm;
    verifyFails = scenario === 'undo';
    if (scenario === 'rotation') points.arm();
    await rotate(app, scenario);
    await load.stop();
  }
  const passed = [...points.passed];
  await app.close();
  return passed;
}

const order: CrashOrder = JSON.parse(process.argv[2] ?? '');
void run(order).then((passed) => process.stdout.write(JSON.stringify(passed)));
