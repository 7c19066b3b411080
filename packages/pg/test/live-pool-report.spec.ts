import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import pg from 'pg';
import { LivePool } from '../src/pool/index.js';
import { createRoles, eventually, firstCredentials, HandMadeSecret, settled } from './live-pool-fixture.js';

/** As pg-cursor does it: a portal of its own, and neither a promise nor a callback. */
class HandMadeCursor implements pg.Submittable {
  readonly failed: Promise<Error>;
  #fail: (error: Error) => void = () => undefined;

  constructor(private readonly text: string) {
    this.failed = new Promise((resolve) => (this.#fail = resolve));
  }

  submit(connection: object): void {
    const protocol = connection as Record<'parse' | 'bind' | 'execute', (message: object) => void> & {
      sync(): void;
    };
    protocol.parse({ text: this.text, name: '', types: [] });
    protocol.bind({ portal: 'c1', statement: '', binary: false, values: [] });
    protocol.execute({ portal: 'c1', rows: 1 });
    protocol.sync();
  }

  handleError(error: Error): void {
    this.#fail(error);
  }

  handleReadyForQuery(): void {}
}

describe('what a LivePool tells of refusals', () => {
  let server: PostgresServer;
  let target: { host: string; port: number; database: string };
  let secret: HandMadeSecret;
  let pool: LivePool;

  beforeAll(async () => {
    server = await startPostgres();
    target = { host: server.host, port: server.port, database: server.database };
    await createRoles(server, 'told_a', 'told_b');
    await server.query('CREATE TABLE ledger (id int)');
  });
  afterAll(() => server.stop());
  beforeEach(() => {
    secret = new HandMadeSecret('v1', firstCredentials('told_a'));
    pool = new LivePool(secret, target);
  });

  const denied = (versionId: string) => ({
    versionId,
    kind: 'permission',
    code: '42501',
    consumer: `pg pool postgres@127.0.0.1:${server.port}`,
  });
  const FORBIDDEN = 'SELECT * FROM ledger';

  it.each<[string, (client: pg.PoolClient) => Promise<unknown>]>([
    ['pool.query', () => pool.query(FORBIDDEN).catch((error: Error) => error)],
    [
      'pool.query with a callback',
      () => new Promise((resolve) => pool.query(FORBIDDEN, (error: Error | undefined) => resolve(error))),
    ],
    ['client.query', (client) => client.query(FORBIDDEN).catch((error: Error) => error)],
    [
      'client.query with parameters',
      (client) => client.query(`${FORBIDDEN} WHERE id = $1`, [1]).catch((e: Error) => e),
    ],
    ['a named statement', (client) => client.query({ name: 'n', text: FORBIDDEN }).catch((error: Error) => error)],
    [
      'client.query with a callback',
      (client) => new Promise((resolve) => client.query(FORBIDDEN, (error: Error | undefined) => resolve(error))),
    ],
    [
      'a query object with events',
      (client) => new Promise((resolve) => client.query(new pg.Query(FORBIDDEN)).once('error', resolve)),
    ],
    ['a cursor', (client) => client.query(new HandMadeCursor(FORBIDDEN)).failed],
    [
      'a statement within a function',
      (client) => client.query(`DO $$ BEGIN PERFORM * FROM ledger; END $$`).catch((e: Error) => e),
    ],
  ])('tells of a statement refused for lack of privilege: %s', async (_how, run) => {
    const client = await pool.connect();
    await client.query('SELECT 1');
    expect(secret.reported).toEqual([]);
    expect(await run(client)).toMatchObject({ code: '42501' });
    expect(secret.reported).toEqual([denied('v1')]);
    client.release();
    await pool.end();
  });

  it('names the version of the connection it happened on, also after the secret changed', async () => {
    const old = await pool.connect();
    secret.publish('v2', firstCredentials('told_b'));
    const fresh = await pool.connect();
    await settled(fresh.query(FORBIDDEN));
    await settled(old.query(FORBIDDEN));
    expect(secret.reported).toEqual([denied('v2'), denied('v1')]);
    old.release();
    fresh.release();
    await pool.end();
  });

  it('tells of no other error', async () => {
    for (const mistake of ['SELECT 1/0', 'SELECT nothing FROM nowhere', 'SELEC']) await settled(pool.query(mistake));
    expect(secret.reported).toEqual([]);
    await pool.end();
  });

  it('tells of each refused log-in: a wrong password, a role that may not log in, a database it may not enter', async () => {
    await createRoles(server, 'told_c');
    await server.query('CREATE DATABASE closed');
    await server.query('REVOKE CONNECT ON DATABASE closed FROM PUBLIC');
    const refusedAs = async (secretHere: HandMadeSecret, database = target.database): Promise<unknown> => {
      const poolHere = new LivePool(secretHere, { ...target, database });
      await settled(poolHere.query('SELECT 1'));
      await poolHere.end();
      return secretHere.reported.map(({ versionId, kind, code }) => [versionId, kind, code]);
    };
    const wrong = new HandMadeSecret('v7', { username: 'told_c', password: 'wrong' });
    wrong.others = [wrong.version('v6', { username: 'told_c', password: 'wrong as well' })];
    expect(await refusedAs(wrong)).toEqual([
      ['v7', 'authentication', '28P01'],
      ['v6', 'authentication', '28P01'],
      ['v7', 'authentication', '28P01'],
      ['v6', 'authentication', '28P01'],
    ]);
    // Each comes back once more.
    expect(await refusedAs(new HandMadeSecret('v8', firstCredentials('told_c')), 'closed')).toEqual([
      ['v8', 'permission', '42501'],
    ]);
    await server.query('ALTER ROLE told_c NOLOGIN');
    expect(await refusedAs(new HandMadeSecret('v9', firstCredentials('told_c')))).toEqual([
      ['v9', 'authentication', '28000'],
      ['v9', 'authentication', '28000'],
    ]);
    await pool.end();
  });

  it('tells nothing of a server that is away', async () => {
    const away = new LivePool(secret, { ...target, port: 1 });
    expect(await settled(away.query('SELECT 1'))).toMatchObject({ status: 'rejected' });
    expect(secret.reported).toEqual([]);
    await away.end();
    await pool.end();
  });

  it('finds the wire of a client where it looks for it, in the pg that is installed', async () => {
    const client = await pool.connect();
    const wire = (client as pg.PoolClient & { connection?: NodeJS.EventEmitter }).connection;
    expect(wire?.listenerCount('errorMessage')).toBe(2);
    client.release();
    await pool.end();
    await eventually('nothing is held', () => secret.held().length === 0);
  });
});
