import type { INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { type DatabaseCredentials, isSecretsError, SecretsManager, SecretsModule } from '@nestjs-secrets/core';
import {
  type AppPlace,
  CREDENTIALS,
  kindOf,
  LEDGER,
  partsAt,
  RotatingApp,
} from 'nestjs-secrets-test/crash/rotating-app';
import { DataSource } from 'typeorm';
import { eventually } from './eventually.js';
import { logIn, logInToMysql } from './log-in.js';

/** What the server knows of the sessions of an application. */
export interface SessionsOfTarget {
  /** A function that counts those sessions of the application, begun before this call, that are still there. */
  noteThoseBefore(place: AppPlace): Promise<() => Promise<number>>;
}

const QUIET = { logger: false, abortOnError: false } as const;

/** I1: looks into what a killed process left, before anything repairs it, for a version that opens the server. */
export async function stateLeftBehind(place: AppPlace): Promise<string[]> {
  const { store, keys } = partsAt(place);
  const app = await NestFactory.createApplicationContext(SecretsModule.forRoot({ store, keys, rotate: false }), QUIET);
  try {
    const manager = app.get(SecretsManager);
    const staged = await Promise.all(['current', 'pending', 'previous'].map((stage) => versionAt(manager, stage)));
    // Before the first version is current, nobody has been let in yet.
    if (staged[0] === undefined) return [];
    for (const credentials of staged) {
      if (credentials !== undefined && (await loggedIn(place, credentials)) !== undefined) return [];
    }
    return ['I1: no stored version opens the server'];
  } finally {
    await app.close();
  }
}

/** Starts the application again at the place of a killed one, and tells what does not hold. */
export async function violationsAfterRestart(
  place: AppPlace,
  acknowledged: number,
  sessions: SessionsOfTarget,
): Promise<string[]> {
  const old = await sessions.noteThoseBefore(place);
  const app = await NestFactory.createApplicationContext(RotatingApp.with(place, partsAt(place)), QUIET);
  try {
    await app.get(DataSource).query('SELECT 1');
    await rotationsToEnd(app);
    return [
      ...(await tornOrRefused(app, place)),
      ...(await aliveAfterRetirement(app, place)),
      ...(await sessionsFromBefore(old)),
      ...(await lostValues(app, acknowledged)),
      ...(await failsToRotateAgain(app, place)),
    ];
  } finally {
    await app.close();
  }
}

async function rotationsToEnd(app: INestApplicationContext): Promise<void> {
  const manager = app.get(SecretsManager);
  await eventually('the rotation is through or undone, and nothing is left to retire', async () => {
    const { rotation } = await manager.describeSecret(CREDENTIALS);
    return rotation !== undefined && rotation.step === undefined && rotation.unretired.length === 0;
  });
}

async function tornOrRefused(app: INestApplicationContext, place: AppPlace): Promise<string[]> {
  const { value } = await app.get(SecretsManager).getSecretValue<DatabaseCredentials>(CREDENTIALS);
  const loggedInAs = await loggedIn(place, value);
  const [row] = await app.get(DataSource).query(kindOf(place).whoAmI);
  return [
    ...(loggedInAs === value.username ? [] : [`I3: the current credential logs in as ${loggedInAs ?? 'nobody'}`]),
    ...(row.name === value.username ? [] : [`I3: the pool is ${row.name} and not ${value.username}`]),
  ];
}

async function aliveAfterRetirement(app: INestApplicationContext, place: AppPlace): Promise<string[]> {
  const manager = app.get(SecretsManager);
  const versions = await manager.listVersions(CREDENTIALS);
  const violations: string[] = [];
  for (const { versionId, stages, state } of versions) {
    const { value } = await manager.getSecretValue<DatabaseCredentials>(CREDENTIALS, { versionId });
    const isCurrent = stages.includes('current');
    if (isCurrent !== (state === 'live'))
      violations.push(`${versionId} is ${state} with the stages ${stages.join(', ')}`);
    if (!isCurrent && (await loggedIn(place, value)) !== undefined) violations.push(`I6: ${versionId} still logs in`);
  }
  return violations;
}

/** The killed process held sessions; a server notices that a client is gone only when it next reads or writes, which retirement brings about. */
async function sessionsFromBefore(left: () => Promise<number>): Promise<string[]> {
  try {
    await eventually('sessions of the killed process are gone', async () => (await left()) === 0, 5_000);
    return [];
  } catch {
    return ['I6: a session of the killed process lives on'];
  }
}

function loggedIn(place: AppPlace, credentials: DatabaseCredentials): Promise<string | undefined> {
  return place.kind === 'mariadb' ? logInToMysql(place.server, credentials) : logIn(place.server, credentials);
}

async function lostValues(app: INestApplicationContext, acknowledged: number): Promise<string[]> {
  const { value } = await app.get(SecretsManager).getSecretValue<number>(LEDGER);
  return value >= acknowledged ? [] : [`I9: the ledger is at ${value}, and ${acknowledged} was acknowledged`];
}

async function failsToRotateAgain(app: INestApplicationContext, place: AppPlace): Promise<string[]> {
  const manager = app.get(SecretsManager);
  const { value: old } = await manager.getSecretValue<DatabaseCredentials>(CREDENTIALS);
  await manager.rotateSecret(CREDENTIALS, { until: 'retired' });
  await app.get(DataSource).query('SELECT 1');
  return [
    ...(await tornOrRefused(app, place)),
    ...((await loggedIn(place, old)) === undefined ? [] : ['I6: the credential before still logs in']),
  ];
}

async function versionAt(manager: SecretsManager, stage: string): Promise<DatabaseCredentials | undefined> {
  try {
    return (await manager.getSecretValue<DatabaseCredentials>(CREDENTIALS, { stage })).value;
  } catch (error) {
    if (isSecretsError(error, 'VERSION_NOT_FOUND') || isSecretsError(error, 'SECRET_NOT_FOUND')) return undefined;
    throw error;
  }
}
