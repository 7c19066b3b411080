import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { getDataSourceToken, getEntityManagerToken, getRepositoryToken } from '@nestjs/typeorm';
import { getSecretToken, SecretsManager, type DatabaseCredentials, type Secret } from '@nestjs-secrets/core';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import pg from 'pg';
import type { DataSource, EntityManager, Repository } from 'typeorm';
import { Order } from '../src/orders/order.entity.js';
import { environmentIn, removeFolder, startMyApp, temporaryFolder, type MyApp } from './my-app.js';

const order = { customer: 'Ann', totalCents: 1250 };

describe.each(['alternating-users', 'single-user'])('MyApp on a server of its own choice, %s', (strategy) => {
  let server: PostgresServer;
  let folder: string;
  let myApp: MyApp;

  const credentials = (): Secret<DatabaseCredentials> => myApp.app.get(getSecretToken('MyDbCreds'), { strict: false });
  const rotate = async (until: 'promoted' | 'retired' = 'promoted'): Promise<void> => {
    await myApp.app.get(SecretsManager, { strict: false }).rotateSecret('MyDbCreds', { until });
    await credentials().refresh();
  };
  const created = async (): Promise<number> => ((await myApp.post('/orders', order)).body as Order).id;

  beforeAll(async () => {
    [server, folder] = await Promise.all([startPostgres(), temporaryFolder()]);
    const { host, port, database, admin } = server;
    myApp = await startMyApp(
      environmentIn(folder, {
        DATABASE_URL: `postgres://${admin.username}:${admin.password}@${host}:${port}/${database}`,
        ROTATION_STRATEGY: strategy,
        ROLES: '4',
      }),
    );
  });

  afterAll(async () => {
    await myApp?.app.close();
    await server?.stop();
    await removeFolder(folder);
  });

  it('works with a log-in of its own, never with the administrator’s', async () => {
    const [row] = await myApp.app.get<DataSource>(getDataSourceToken()).query('SELECT session_user AS name');
    expect(row.name).toMatch(/^myapp/);
    expect(row.name).toBe(credentials().value.username);
  });

  it('creates, reads, lists and pays orders', async () => {
    const [first, second] = [await created(), await created()];
    expect(await myApp.get(`/orders/${first}`)).toMatchObject({
      status: 200,
      body: { ...order, id: first, status: 'open' },
    });
    expect((await myApp.get('/orders?limit=1')).body).toMatchObject([{ id: second }]);
    expect((await myApp.get(`/orders?limit=1&before=${second}`)).body).toMatchObject([{ id: first }]);
    expect(await myApp.post(`/orders/${first}/pay`)).toMatchObject({
      status: 200,
      body: { id: first, status: 'paid' },
    });
    expect((await myApp.get(`/orders/${first}`)).body).toMatchObject({ status: 'paid' });
    expect(await server.query('SELECT amount_cents FROM payments WHERE order_id = $1', [first])).toEqual([
      { amount_cents: 1250 },
    ]);
  });

  it('lets one of many win who pay an order at the same time', async () => {
    const id = await created();
    const answers = await Promise.all(Array.from({ length: 12 }, () => myApp.post(`/orders/${id}/pay`)));
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).toEqual([200, ...Array.from({ length: 11 }, () => 409)]);
  });

  it.each([
    ['no customer', { totalCents: 1 }],
    ['an empty customer', { customer: ' ', totalCents: 1 }],
    ['half a cent', { customer: 'Ann', totalCents: 0.5 }],
    ['nothing to pay', { customer: 'Ann', totalCents: 0 }],
    ['more than fits', { customer: 'Ann', totalCents: 2 ** 31 }],
    ['a field it does not know', { ...order, status: 'paid' }],
    ['no object', [1]],
  ])('refuses an order with %s', async (_name, body) => {
    expect(await myApp.post('/orders', body)).toMatchObject({ status: 400, body: { message: [expect.any(String)] } });
  });

  it.each([
    '/orders?limit=0',
    '/orders?limit=101',
    '/orders?before=x',
    '/orders/0',
    '/orders/one',
    '/orders/2147483648',
  ])('refuses GET %s', async (url) => {
    expect((await myApp.get(url)).status).toBe(400);
  });

  it('says that an order is not there', async () => {
    expect((await myApp.get('/orders/2147483647')).status).toBe(404);
    expect((await myApp.post('/orders/2147483647/pay')).status).toBe(404);
  });

  it('rotates under requests without one that fails, and retires every old credential', async () => {
    const { app } = myApp;
    const injected = () => [
      app.get<DataSource>(getDataSourceToken()),
      app.get<EntityManager>(getEntityManagerToken()),
      app.get<Repository<Order>>(getRepositoryToken(Order), { strict: false }),
    ];
    const before = injected();
    const old: DatabaseCredentials[] = [];
    const statuses = new Map<number, number>();
    let rotating = true;
    const client = async (): Promise<void> => {
      while (rotating) {
        const { status, body } = await myApp.post('/orders', order);
        const paid = await myApp.post(`/orders/${(body as Order).id}/pay`);
        for (const seen of [status, paid.status]) statuses.set(seen, (statuses.get(seen) ?? 0) + 1);
      }
    };
    const clients = Array.from({ length: 12 }, client);
    for (let rotation = 0; rotation < 5; rotation += 1) {
      old.push(credentials().value);
      await rotate();
    }
    rotating = false;
    await Promise.all(clients);
    old.push(credentials().value);
    await rotate('retired');

    expect([...statuses.keys()].sort()).toEqual([200, 201]);
    expect(statuses.get(200)).toBe(statuses.get(201));
    for (const [index, object] of injected().entries()) expect(object).toBe(before[index]);
    expect(await app.get<Repository<Order>>(getRepositoryToken(Order), { strict: false }).count()).toBeGreaterThan(0);
    const { host, port, database } = server;
    for (const { username: user, password } of old) {
      const attempt = new pg.Client({ host, port, database, user, password }).connect();
      await expect(attempt).rejects.toMatchObject({ code: expect.stringMatching(/^28(P01|000)$/) });
    }
  });

  it('is ready, alive, and says which version it runs on', async () => {
    const { versionId } = credentials();
    expect(await myApp.get('/health/live')).toEqual({ status: 200, body: { status: 'ok' } });
    expect(await myApp.get('/health/ready')).toMatchObject({
      status: 200,
      body: {
        status: 'ok',
        database: { status: 'up' },
        secrets: { status: 'up', secrets: { MyDbCreds: { versionId } } },
      },
    });
  });

  it('is not ready when no new connection can be opened, though those it has go on working', async () => {
    const role = pg.escapeIdentifier(credentials().value.username);
    await server.query(`ALTER ROLE ${role} NOLOGIN`);
    try {
      expect(await myApp.get('/health/ready')).toMatchObject({
        status: 503,
        body: { status: 'error', database: { status: 'down' } },
      });
      expect((await myApp.get('/health/live')).status).toBe(200);
      expect((await myApp.get('/orders')).status).toBe(200);
    } finally {
      await server.query(`ALTER ROLE ${role} LOGIN`);
    }
    expect((await myApp.get('/health/ready')).status).toBe(200);
  });
});
