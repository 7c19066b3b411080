import { afterAll, beforeAll, beforeEach, expect, it } from '@jest/globals';
import type { CredentialFailure } from '@nestjs-secrets/core';
import type { PoolConnection, QueryError } from 'mysql2';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import type { MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { startMariadb } from 'nestjs-secrets-test/mariadb-server';
import type { LiveMysqlPool } from '../src/pool/index.js';
import type { HandMadeSecret } from './live-pool-fixture.js';
import {
  borrow,
  createPool,
  createUsers,
  eventually,
  firstCredentials,
  lock,
  rowsOf,
  setPassword,
  settled,
} from './live-pool-fixture.js';

type Fails = (error: QueryError | null) => void;

/** The error a command gives to its callback. */
const errorOf = (run: (callback: Fails) => unknown): Promise<unknown> => new Promise((resolve) => run(resolve));

const rejectionOf = (promise: Promise<unknown>): Promise<unknown> => promise.catch((error: unknown) => error);

describeWithMariadb('what a LiveMysqlPool tells of refusals', () => {
  let server: MariadbServer;
  let secret: HandMadeSecret;
  let pool: LiveMysqlPool;
  let hidden: string;

  beforeAll(async () => {
    server = await startMariadb();
    await createUsers(server, 'told_a', 'told_b');
    hidden = 'hidden.ledger';
    await server.query('CREATE DATABASE hidden');
    await server.query(`CREATE TABLE ${hidden} (id int, amount int)`);
    await server.query('CREATE PROCEDURE hidden.settle() SELECT 1');
    await server.query(`CREATE TABLE hidden.partly (id int, amount int)`);
    for (const user of ['told_a', 'told_b']) await server.query(`GRANT SELECT (id) ON hidden.partly TO '${user}'@'%'`);
  });
  afterAll(() => server.stop());
  beforeEach(() => {
    ({ pool, secret } = createPool(server, firstCredentials('told_a')));
  });

  const denied = (versionId: string, code = '1142'): CredentialFailure => ({
    versionId,
    kind: 'permission',
    code,
    consumer: `mysql2 pool ${server.database}@127.0.0.1:${server.port}`,
  });
  const forbidden = (): string => `SELECT * FROM ${hidden}`;

  it.each<[string, (connection: PoolConnection) => Promise<unknown>]>([
    ['pool.query', () => errorOf((callback) => pool.query(forbidden(), callback))],
    ['pool.execute', () => errorOf((callback) => pool.execute(forbidden(), callback))],
    ['a promise of the pool', () => rejectionOf(pool.promise().query(forbidden()))],
    ['query', (connection) => errorOf((callback) => connection.query(forbidden(), callback))],
    [
      'query with values and options, as TypeORM runs it',
      (connection) =>
        errorOf((done) => connection.query({ sql: `${forbidden()} WHERE id = ?`, timeout: 5000 }, [1], done)),
    ],
    [
      'execute with values',
      (connection) => errorOf((callback) => connection.execute(`${forbidden()} WHERE id = ?`, [1], callback)),
    ],
    ['prepare', (connection) => errorOf((callback) => connection.prepare(forbidden(), callback))],
    [
      'a query with events',
      (connection) => new Promise((resolve) => connection.query(forbidden()).on('error', resolve)),
    ],
    [
      'a stream',
      (connection) => new Promise((resolve) => connection.query(forbidden()).stream().on('error', resolve).resume()),
    ],
    ['a promise of the connection', (connection) => rejectionOf(connection.promise().execute(forbidden()))],
  ])('tells of a statement refused for lack of privilege: %s', async (_how, run) => {
    const connection = await borrow(pool);
    await rowsOf(connection, 'SELECT 1');
    expect(secret.reported).toEqual([]);
    expect(await run(connection)).toMatchObject({ errno: 1142 });
    expect(secret.reported).toEqual([denied('v1')]);
    connection.release();
    await pool.end();
  });

  it('tells of a prepared statement that is no longer allowed when it runs', async () => {
    await server.query(`GRANT SELECT ON ${hidden} TO 'told_a'@'%'`);
    const connection = await borrow(pool);
    const statement = await connection.promise().prepare(forbidden());
    await statement.execute([]);
    await server.query(`REVOKE SELECT ON ${hidden} FROM 'told_a'@'%'`);
    expect(await rejectionOf(statement.execute([]))).toMatchObject({ errno: 1142 });
    expect(secret.reported).toEqual([denied('v1')]);
    connection.release();
    await pool.end();
  });

  it.each([
    ['a column', () => 'SELECT amount FROM hidden.partly', 1143],
    ['a database', () => 'USE mysql', 1044],
    ['a procedure', () => 'CALL hidden.settle()', 1370],
    ['an administrative command', () => 'SET GLOBAL max_connections = 10', 1227],
  ])('tells of %s the user may not touch', async (_what, statement, errno) => {
    const sent = statement();
    expect(await rejectionOf(pool.promise().query(sent))).toMatchObject({ errno });
    expect(secret.reported).toEqual([denied('v1', String(errno))]);
    await pool.end();
  });

  it('names the version of the connection it happened on, also after the secret changed', async () => {
    const old = await borrow(pool);
    secret.publish('v2', firstCredentials('told_b'));
    const fresh = await borrow(pool);
    await settled(rowsOf(fresh, forbidden()));
    await settled(rowsOf(old, forbidden()));
    expect(secret.reported).toEqual([denied('v2'), denied('v1')]);
    old.release();
    fresh.release();
    await pool.end();
  });

  it('tells of no other error', async () => {
    for (const mistake of ['SELECT nothing FROM nowhere', 'SELEC', 'SELECT * FROM app.nowhere']) {
      expect(await settled(rowsOf(pool, mistake))).toMatchObject({ status: 'rejected' });
    }
    expect(secret.reported).toEqual([]);
    await pool.end();
  });

  it('leaves an error that nobody listens for as loud as it is', async () => {
    const connection = await borrow(pool);
    const query = connection.query('SELECT 1');
    expect(() => query.emit('error', new Error('unheard'))).toThrow('unheard');
    connection.release();
    await pool.end();
  });

  it('tells of each refused log-in: a wrong password, a locked account, no password where one is wanted', async () => {
    await createUsers(server, 'told_c');
    const refusedWith = async (password: string, others: string[] = []): Promise<unknown> => {
      const refused = createPool(server, { username: 'told_c', password });
      refused.secret.others = others.map((other, index) =>
        refused.secret.version(`other ${index}`, { username: 'told_c', password: other }),
      );
      await settled(borrow(refused.pool));
      await refused.pool.end();
      return refused.secret.reported.map(({ versionId, kind, code }) => [versionId, kind, code]);
    };
    expect(await refusedWith('wrong', ['wrong as well'])).toEqual([
      ['v1', 'authentication', '1045'],
      ['other 0', 'authentication', '1045'],
      ['v1', 'authentication', '1045'],
      ['other 0', 'authentication', '1045'],
    ]);
    // Each comes back once more.
    expect(await refusedWith('')).toEqual([
      ['v1', 'authentication', '1045'],
      ['v1', 'authentication', '1045'],
    ]);
    await setPassword(server, 'told_c', 'right');
    await lock(server, 'told_c');
    expect(await refusedWith('right')).toEqual([
      ['v1', 'authentication', '4151'],
      ['v1', 'authentication', '4151'],
    ]);
    await pool.end();
  });

  it('tells nothing of a server that is away', async () => {
    const away = createPool(server, firstCredentials('told_a'), { port: 1 });
    expect(await settled(borrow(away.pool))).toMatchObject({ status: 'rejected', reason: { code: 'ECONNREFUSED' } });
    expect(away.secret.reported).toEqual([]);
    await eventually('its socket has closed', () => away.secret.held().length === 0);
    await away.pool.end();
    await pool.end();
  });
});
