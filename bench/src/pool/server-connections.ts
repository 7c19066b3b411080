import pg from 'pg';
import type { PostgresServer } from 'nestjs-secrets-test/postgres-server';

export interface ServerConnections {
  /** The most connections that carried the application name at any sample. */
  readonly most: number;
  stop(): Promise<void>;
}

/** Counts, over and over, the server's connections that carry an application name. */
export async function watchServerConnections(
  server: PostgresServer,
  applicationName: string,
  everyMs = 5,
): Promise<ServerConnections> {
  const { host, port, database, admin } = server;
  const client = new pg.Client({ host, port, database, user: admin.username, password: admin.password });
  await client.connect();
  let most = 0;
  let counting: Promise<void> = Promise.resolve();
  const count = async (): Promise<void> => {
    // Without pg_stat_activity's joins and texts: the watch should not itself be a load.
    const { rows } = await client.query<{ count: number }>({
      name: 'count',
      text: `SELECT count(*)::int AS count FROM pg_stat_get_activity(NULL) WHERE application_name = $1`,
      values: [applicationName],
    });
    most = Math.max(most, rows[0]?.count ?? 0);
  };
  const timer = setInterval(() => {
    counting = counting.then(count);
  }, everyMs);
  return {
    get most() {
      return most;
    },
    async stop() {
      clearInterval(timer);
      await counting;
      await client.end();
    },
  };
}
