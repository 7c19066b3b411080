import { createWriteStream } from 'node:fs';
import path from 'node:path';
import type { INestApplicationContext } from '@nestjs/common';
import {
  censoredLogger,
  LogCensor,
  pinoCensor,
  SecretsHealthIndicator,
  SecretsManager,
  secretLink,
} from '@nestjs-secrets/core';
import { pino } from 'pino';
import { filter, firstValueFrom } from 'rxjs';
import { DataSource } from 'typeorm';
import { CREDENTIALS } from '../crash/rotating-app.js';
import { Consumer, type Failing, plainLogger } from './canary-app.js';
import type { CanaryOrder } from './canary-order.js';
import { carelessError } from './careless-error.js';
import { show, showBare, showFailure } from './talkative.js';

export async function showEverything(app: INestApplicationContext): Promise<void> {
  const dataSource = app.get(DataSource);
  const { apiKey, credentials } = app.get(Consumer);
  show('handles', [apiKey, credentials, { apiKey }]);
  showBare('handle', credentials);
  show('manager', app.get(SecretsManager));
  show('censor', app.get(LogCensor));
  show('health', app.get(SecretsHealthIndicator).check());
  show('data source options', dataSource.options);
  show('data source', dataSource);
  const { master, pool = master } = dataSource.driver as unknown as {
    readonly master?: unknown;
    readonly pool?: unknown;
  };
  show('pool', pool);
  const runner = dataSource.createQueryRunner();
  show('connection', await runner.connect());
  await runner.release();
  show('environment', process.env);
}

/** Code that logs values, through loggers that know better. */
export async function logCarelessly(
  app: INestApplicationContext,
  { place }: CanaryOrder,
  { steps: failing, gossip }: Failing,
): Promise<void> {
  const censor = app.get(LogCensor);
  const { apiKey, credentials } = app.get(Consumer);
  const file = createWriteStream(path.join(place.folder, 'pino.log'));
  const log = pino({ level: 'trace', ...pinoCensor(censor) }, file);
  const logger = censoredLogger(plainLogger(), censor);
  const say = (values: readonly unknown[]): void => {
    const error = carelessError('all', values);
    log.child({ login: values }).error(error, 'failed with %j', values);
    log.info({ deep: [{ values }] }, `they are ${values.map((value) => JSON.stringify(value)).join()}`);
    logger.log({ deep: [{ values }] }, 'Careless');
    logger.error(error);
    logger.warn(error.message, error.stack, error.message);
  };
  say([apiKey.value, credentials.value]);
  // Both values stay live for a while: connections that were opened with the old one are still there.
  const old = credentials.value;
  await app.get(SecretsManager).rotateSecret(CREDENTIALS);
  await credentials.refresh();
  say([old, credentials.value]);

  // While a step is at work its values are live, before any handle has heard of them.
  gossip.say = say;
  failing.add('verify').add('undo');
  await showFailure('undo fails', () => app.get(SecretsManager).rotateSecret(CREDENTIALS));
  delete gossip.say;
  // Until it can be taken back, a pool would try the pending value.
  const tried = await secretLink(credentials).candidates();
  show('candidates', tried.length);
  say(tried.map(({ value }) => value));
  const undone = firstValueFrom(app.get(SecretsManager).rotationEvents$.pipe(filter(({ type }) => type === 'undone')));
  failing.clear();
  await undone;
  await new Promise<void>((resolve) => file.end(resolve));
}

/** What an operator makes of a process that is in trouble. */
export async function reportOnProcess({ place }: CanaryOrder, failure: unknown): Promise<void> {
  process.report.directory = place.folder;
  show(
    'process report',
    process.report.writeReport('report.json', failure instanceof Error ? failure : new Error('none')),
  );
}
