import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { startStandby, type PostgresStandby } from 'nestjs-secrets-test/postgres-standby';
import {
  postgresAlternatingUsers,
  postgresSingleUser,
  type PostgresAlternatingUsersOptions,
  type PostgresProbe,
  type PostgresRotator,
} from '../src/rotators/index.js';
import { eventually } from './live-pool-fixture.js';
import { HandRotation, version } from './rotators-fixture.js';

describe('verify with a streaming standby', () => {
  let server: PostgresServer;
  let standby: PostgresStandby;
  let serial = 0;
  let base: string;

  beforeAll(async () => {
    server = await startPostgres();
    standby = await startStandby(server);
  });
  afterAll(async () => {
    await standby.stop();
    await server.stop();
  });
  beforeEach(async () => {
    serial += 1;
    base = `replayed${serial}`;
    await standby.query('SELECT pg_wal_replay_resume()');
  });

  const connection = () => ({ host: server.host, port: server.port, database: server.database });
  const replicas = () => [{ host: standby.host, port: standby.port, database: standby.database }];

  function rotatorFor(options: Partial<PostgresAlternatingUsersOptions> = {}): PostgresRotator {
    return postgresAlternatingUsers({
      connection: connection(),
      admin: server.admin,
      baseName: base,
      replicas: replicas(),
      replicaLagLimitMs: 60_000,
      ...options,
    });
  }

  async function pauseReplay(): Promise<void> {
    await standby.query('SELECT pg_wal_replay_pause()');
    await eventually(
      'the replay stands',
      async () => (await standby.query(`SELECT pg_get_wal_replay_pause_state() AS state`))[0]?.['state'] === 'paused',
    );
  }

  const knownToStandby = async (role: string): Promise<boolean> =>
    (await standby.query(`SELECT FROM pg_roles WHERE rolname = '${role}'`)).length > 0;

  it('waits until the standby has replayed the new role, then runs the probes on both', async () => {
    const probed: unknown[] = [];
    const probe: PostgresProbe = async (client, on) => {
      const sql = 'SELECT pg_is_in_recovery() AS standby, session_user::text AS role, current_user::text AS runs_as';
      probed.push({ on, ...(await client.query(sql)).rows[0] });
    };
    const rotation = new HandRotation(rotatorFor({ probes: [probe] }), undefined);
    await pauseReplay();
    const pending = await rotation.create();
    await rotation.apply();
    expect(await knownToStandby(pending.value.username)).toBe(false);
    let verified = false;
    const verifying = rotation.verify().then(() => (verified = true));
    await eventually('the primary probed', () => probed.length === 1);
    // The log-in is refused on the standby, more than once.
    expect(verified).toBe(false);
    await standby.query('SELECT pg_wal_replay_resume()');
    await verifying;
    const role = pending.value.username;
    expect(probed).toEqual([
      { on: 'primary', standby: false, role, runs_as: `${base}_owner` },
      { on: 'replica', standby: true, role, runs_as: `${base}_owner` },
    ]);
  });

  it('waits for what was written after the log-in worked as well: a password alone proves nothing', async () => {
    // Retried with the same value after a repair: the standby has the password, and not the repair.
    const rotation = new HandRotation(rotatorFor(), undefined);
    const pending = await rotation.upToPromotion();
    await pauseReplay();
    await server.query(`CREATE TABLE ${base}_late (id int)`);
    await server.query(`ALTER TABLE ${base}_late OWNER TO ${base}_owner`);
    const seen: unknown[] = [];
    const probes: PostgresProbe[] = [
      async (client) => void seen.push((await client.query(`TABLE ${base}_late`)).rowCount),
    ];
    const again = new HandRotation(rotatorFor({ probes }), undefined);
    again.pending = pending;
    const verifying = again.verify();
    await eventually('the primary probed', () => seen.length === 1);
    await eventually('logged in on the standby', async () => {
      const sessions = await standby.query(`SELECT FROM pg_stat_activity WHERE usename = '${pending.value.username}'`);
      return sessions.length > 0;
    });
    expect(seen).toEqual([0]);
    await standby.query('SELECT pg_wal_replay_resume()');
    await verifying;
    expect(seen).toEqual([0, 0]);
  });

  it.each([
    ['a role it does not know yet', 'first'],
    ['a role it knows with an older password', 'again'],
  ])('fails at the limit, and says where the standby stands and that its replay is paused: %s', async (_what, when) => {
    const rotator = rotatorFor({ replicaLagLimitMs: 300 });
    const first = await new HandRotation(rotatorFor(), undefined).upToPromotion();
    const second = new HandRotation(rotatorFor(), first);
    const current = when === 'first' ? first : await second.upToPromotion();
    if (when === 'again') await second.retire();
    await eventually('the standby is level', async () => knownToStandby(current.value.username));
    await pauseReplay();
    const rotation = new HandRotation(rotator, current);
    await rotation.create();
    await rotation.apply();
    await expect(rotation.verify()).rejects.toMatchObject({
      code: 'STANDBY_BEHIND',
      message: expect.stringMatching(
        new RegExp(
          `:${standby.port} has replayed up to [0-9A-F]+/[0-9A-F]+ and not to .* within 300 ms.*pg_wal_replay_resume`,
        ),
      ),
    });
    await standby.query('SELECT pg_wal_replay_resume()');
    await rotation.undo();
  });

  it('fails when a probe fails on the standby alone', async () => {
    const probe: PostgresProbe = async (client, on) => {
      if (on === 'replica') await client.query('CREATE TABLE nowhere (id int)');
    };
    const rotation = new HandRotation(rotatorFor({ probes: [probe] }), undefined);
    await rotation.create();
    await rotation.apply();
    // read_only_sql_transaction
    await expect(rotation.verify()).rejects.toMatchObject({ code: '25006' });
  });

  it('waits for a single user too', async () => {
    await server.query(`CREATE ROLE ${base} LOGIN PASSWORD 'first'`);
    const rotator = postgresSingleUser({
      connection: connection(),
      replicas: replicas(),
      replicaLagLimitMs: 60_000,
    });
    await eventually('the standby knows the role', () => knownToStandby(base));
    await pauseReplay();
    const rotation = new HandRotation(rotator, version({ username: base, password: 'first' }));
    await rotation.create();
    await rotation.apply();
    let verified = false;
    const verifying = rotation.verify().then(() => (verified = true));
    await eventually('the new password is tried on the standby', async () => {
      const found = await standby.query(`SELECT pg_last_wal_receive_lsn() > pg_last_wal_replay_lsn() AS behind`);
      return found[0]?.['behind'] === true;
    });
    expect(verified).toBe(false);
    await standby.query('SELECT pg_wal_replay_resume()');
    await verifying;
  });
});
