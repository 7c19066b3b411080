import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb, type MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import mysql from 'mysql2/promise';

describeWithMariadb('the MariaDB that tests start', () => {
  let server: MariadbServer;
  beforeAll(async () => {
    server = await startMariadb({ generalLog: true });
  });
  afterAll(() => server.stop());

  it('lets nobody in without a password', async () => {
    const { host, port } = server;
    for (const user of ['root', 'admin', 'mysql', 'mariadb.sys', ''])
      await expect(mysql.createConnection({ host, port, user })).rejects.toMatchObject({ errno: expect.any(Number) });
    expect(await server.query('SELECT USER() AS u, DATABASE() AS d, ? AS v', ["it's"])).toEqual([
      { u: 'admin@127.0.0.1', d: 'app', v: "it's" },
    ]);
    expect(await server.query('SELECT User FROM mysql.global_priv ORDER BY 1')).toEqual([
      { User: 'admin' },
      { User: 'mariadb.sys' },
    ]);
  });

  it('keeps every statement for the tests to search, and not its own password', () => {
    expect(server.log()).toContain('FROM mysql.global_priv ORDER BY 1');
    expect(server.log()).not.toContain(server.admin.password);
  });
});
