import { it } from '@jest/globals';
import pg from 'pg';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import { rolesQuery } from '../src/rotators/role-profile.js';
it('explains', async () => {
  const server = await startPostgres();
  const { host, port, database } = server;
  await server.query("CREATE ROLE su LOGIN PASSWORD 'su-password'");
  const c = new pg.Client({ host, port, database, user: server.admin.username, password: server.admin.password });
  await c.connect();
  for (let i = 0; i < 2; i++) {
  const r = await c.query('EXPLAIN (ANALYZE, BUFFERS) ' + rolesQuery(['su', 'postgres']));
  process.stdout.write(r.rows.map((x: any) => x['QUERY PLAN']).join('\n') + '\n');
  }
  await c.end();
  await server.stop();
});
