import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  type DatabaseCredentials,
  getSecretToken,
  isSecretsError,
  type Secret,
  SecretsHealthIndicator,
  SecretsManager,
  type SecretsRuntime,
} from '@nestjs-secrets/core';
import { LivePool } from '@nestjs-secrets/pg';
import { CrashPoints } from '../crash/crash-points.js';
import { FleetApp } from './fleet-app.js';
import { CREDENTIALS, type FleetMessage, type FleetOrder, type FleetRequest } from './fleet-order.js';
import { LoadWorkers } from './load-workers.js';
import { ProcessLog } from './process-log.js';
import { SeededDice } from './seeded-dice.js';

const POOL_SIZE = 8;
const RUNTIME = Symbol.for('@nestjs-secrets/runtime');

class FleetChild {
  readonly #log: ProcessLog;
  readonly #points = new CrashPoints();
  #adminWorks = true;

  constructor(private readonly order: FleetOrder) {
    this.#log = new ProcessLog(order.log);
  }

  async run(): Promise<void> {
    const { order } = this;
    const parts = { log: this.#log, points: this.#points, admin: () => this.#admin() };
    const app = await NestFactory.createApplicationContext(FleetApp.with(order, parts), {
      logger: false,
      abortOnError: false,
    });
    app.get(SecretsManager).rotationEvents$.subscribe((event) => {
      this.#log.event(event);
      tell({ type: 'event', event });
    });
    const secret = app.get<Secret<DatabaseCredentials>>(getSecretToken(CREDENTIALS), { strict: false });
    const pool = new LivePool(secret, { ...order.target, max: POOL_SIZE });
    // Idle connections may be cut; the pool replaces them.
    pool.on('error', () => undefined);
    const load = new LoadWorkers(pool, order.name, this.#log, new SeededDice(process.pid));
    load.start(order.load);
    const instanceId = app.get<SecretsRuntime>(RUNTIME, { strict: false }).own?.instance.id ?? '';
    this.#log.instance(instanceId);
    process.on('message', (request: FleetRequest) => void this.#answer(request, app, pool, load));
    tell({ type: 'ready', instanceId });
  }

  #admin(): DatabaseCredentials {
    const { admin } = this.order;
    return this.#adminWorks ? admin : { ...admin, password: 'not the password' };
  }

  async #answer(request: FleetRequest, app: INestApplicationContext, pool: LivePool, load: LoadWorkers): Promise<void> {
    const { id } = request;
    try {
      tell({ type: 'answer', id, answer: await this.#carryOut(request, app, pool, load) });
    } catch (error) {
      const code = isSecretsError(error) ? error.code : '';
      tell({ type: 'answer', id, failure: { code, message: error instanceof Error ? error.message : String(error) } });
    }
    if (request.ask === 'close') process.disconnect();
  }

  async #carryOut(
    request: FleetRequest,
    app: INestApplicationContext,
    pool: LivePool,
    load: LoadWorkers,
  ): Promise<unknown> {
    switch (request.ask) {
      case 'rotate':
        if (request.crashAt !== undefined) this.#points.arm(request.crashAt);
        return app.get(SecretsManager).rotateSecret(CREDENTIALS, request.options);
      case 'health':
        return app.get(SecretsHealthIndicator).check('secrets').secrets;
      case 'rewrap':
        return app.get(SecretsManager).keys.rewrap({ key: 'default' });
      case 'admin':
        this.#adminWorks = request.works;
        return undefined;
      case 'stop-load':
        return load.stop(request.limitMs);
      case 'close':
        await pool.end();
        await app.close();
        return undefined;
      default:
        return undefined;
    }
  }
}

function tell(message: FleetMessage): void {
  process.send?.(message, undefined, undefined, () => undefined);
}

// Without its parent nobody would end it.
process.once('disconnect', () => process.exit(0));
const order: FleetOrder = JSON.parse(process.argv[2] ?? '');
new FleetChild(order).run().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
});
