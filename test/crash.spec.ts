import { startPostgres } from 'nestjs-secrets-test/postgres-server';
import { killedAtEveryEffect } from './support/killed-at-every-effect.js';

killedAtEveryEffect('postgres', ['alternating-users', 'single-user'], async () => {
  // The server itself is never killed here, so it may be quick.
  const server = await startPostgres({ settings: { fsync: 'off' } });
  return {
    host: server.host,
    port: server.port,
    admin: server.admin,
    query: (sql) => server.query(sql),
    stop: () => server.stop(),
    async noteThoseBefore({ roleName, server: { database } }) {
      const [now] = await server.query<{ at: string }>('SELECT clock_timestamp()::text AS at');
      const old = `SELECT FROM pg_stat_activity WHERE backend_start < $1 AND datname = $2 AND usename LIKE $3`;
      return async () => (await server.query(old, [now?.at, database, `${roleName}%`])).length;
    },
  };
});
