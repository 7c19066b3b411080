import { NestFactory } from '@nestjs/core';
import { type DatabaseCredentials, getSecretToken, type Secret, type SecretsRuntime } from '@nestjs-secrets/core';
import { LivePool } from '@nestjs-secrets/pg';
import { LEASED, type LeaseMessage, type LeasePlace, type LeaseQuestion } from './lease-order.js';
import { LeasingApp } from './leasing-app.js';

const RUNTIME = Symbol.for('@nestjs-secrets/runtime');

async function run(place: LeasePlace): Promise<void> {
  const app = await NestFactory.createApplicationContext(LeasingApp.at(place), { logger: false, abortOnError: false });
  const secret = app.get<Secret<DatabaseCredentials>>(getSecretToken(LEASED), { strict: false });
  const pool = new LivePool(secret, { ...place.server, database: place.targetDatabase, max: 2 });
  // Idle connections end with the role they were opened under; the pool replaces them.
  pool.on('error', () => undefined);
  const answer = async (question: LeaseQuestion): Promise<void> => {
    if (question === 'close') {
      await pool.end();
      await app.close();
      process.disconnect();
      return;
    }
    try {
      const { rows } = await pool.query<{ session: string; current: string }>(
        'SELECT session_user AS session, current_user AS current',
      );
      tell({ type: 'who', sessionUser: rows[0]?.session ?? '', currentUser: rows[0]?.current ?? '' });
    } catch (error) {
      tell({ type: 'refused', code: error instanceof Error && 'code' in error ? String(error.code) : 'unknown' });
    }
  };
  process.on('message', (question: LeaseQuestion) => void answer(question));
  tell({ type: 'ready', instanceId: app.get<SecretsRuntime>(RUNTIME, { strict: false }).own?.instance.id ?? '' });
}

function tell(message: LeaseMessage): void {
  process.send?.(message, undefined, undefined, () => undefined);
}

// Without its parent nobody would end it.
process.once('disconnect', () => process.exit(0));
run(JSON.parse(process.argv[2] ?? '')).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
});
