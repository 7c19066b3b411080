import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb } from 'nestjs-secrets-test/mariadb-server';
import { killedAtEveryEffect } from './support/killed-at-every-effect.js';

describeWithMariadb('on MariaDB', () => {
  killedAtEveryEffect('mariadb', ['alternating-users', 'single-user', 'dual-password'], async () => {
    const server = await startMariadb();
    return {
      host: server.host,
      port: server.port,
      admin: server.admin,
      query: (sql) => server.query(sql),
      stop: () => server.stop(),
      async noteThoseBefore({ roleName }) {
        const [last] = await server.query<{ id: number | null }>(
          'SELECT MAX(id) AS id FROM information_schema.processlist',
        );
        const old = 'SELECT id FROM information_schema.processlist WHERE id <= ? AND user LIKE ?';
        return async () => (await server.query(old, [last?.id, `${roleName}%`])).length;
      },
    };
  });
});
