import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { systemClock } from '@nestjs-secrets/core';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { PostgresTarget, type StepContext } from '../src/rotators/postgres-target.js';
import { postgresAlternatingUsers, postgresSingleUser, type PostgresRotator } from '../src/rotators/index.js';
import { eventually } from './live-pool-fixture.js';
import { connectAs, HandRotation, queryAs, version, type Version } from './rotators-fixture.js';

let server: PostgresServer;
let serial = 0;

beforeAll(async () => {
  server = await startPostgres({ settings: { log_statement: 'all', log_line_prefix: '@@%a@@ ' } });
});
afterAll(() => server.stop());

const connection = () => ({ host: server.host, port: server.port, database: server.database });

/** The messages with which rotators have changed something so far, oldest first. */
function changes(): string[] {
  return server
    .log()
    .split('@@nestjs-secrets@@ LOG:  statement: ')
    .slice(1)
    .map((message) => message.split('\n@@')[0] ?? '')
    .filter((message) =>
      /^\t*(CREATE|ALTER|GRANT|REVOKE|DROP|REASSIGN|COMMENT|COMMIT)\b|pg_terminate_backend/m.test(message),
    );
}

/** The changes once the server has logged all there are so far. */
async function changesSoFar(): Promise<string[]> {
  serial += 1;
  const mark = `all logged up to ${serial}`;
  await server.query(`SELECT '${mark}'`);
  await eventually('the log is complete', () => server.log().includes(`'${mark}'`));
  return changes();
}

interface Case {
  readonly rotator: PostgresRotator;
  readonly current: Version | undefined;
}

type Step = 'apply' | 'verify' | 'retire' | 'undo';

async function alternating(kind: 'first' | 'ring' | 'outsider'): Promise<Case> {
  serial += 1;
  const base = `held${serial}`;
  const rotator = postgresAlternatingUsers({
    connection: connection(),
    admin: server.admin,
    baseName: base,
    prepare: async (client, owner) =>
      void (await client.query(`CREATE SCHEMA IF NOT EXISTS ${base} AUTHORIZATION ${owner}`)),
  });
  if (kind === 'first') return { rotator, current: undefined };
  if (kind === 'ring') return { rotator, current: await new HandRotation(rotator, undefined).upToPromotion() };
  const outsider = version({ username: `outsider${serial}`, password: 'first' });
  await server.query(`CREATE ROLE ${outsider.value.username} LOGIN PASSWORD 'first'`);
  await server.query(`GRANT CREATE ON SCHEMA public TO ${outsider.value.username}`);
  await queryAs(server, outsider.value, `CREATE TABLE of_outsider${serial} (id int)`);
  return { rotator, current: outsider };
}

async function single(kind: 'first' | 'admin' | 'self'): Promise<Case> {
  serial += 1;
  const username = `holds${serial}`;
  const admin = kind === 'self' ? {} : { admin: server.admin };
  const rotator = postgresSingleUser({ connection: connection(), username, ...admin });
  if (kind === 'first') return { rotator, current: undefined };
  await server.query(`CREATE ROLE ${username} LOGIN PASSWORD 'first'`);
  return { rotator, current: version({ username, password: 'first' }) };
}

const cases: [string, () => Promise<Case>, Step[]][] = [
  ['alternating users, the first version', () => alternating('first'), ['apply', 'verify', 'undo']],
  ['alternating users', () => alternating('ring'), ['apply', 'verify', 'retire']],
  ['alternating users, undone', () => alternating('ring'), ['apply', 'verify', 'undo']],
  ['alternating users, a role taken over', () => alternating('outsider'), ['apply', 'verify', 'retire']],
  ['a single user, the first version', () => single('first'), ['apply', 'verify', 'undo']],
  ['a single user, by an administrator', () => single('admin'), ['apply', 'verify', 'retire']],
  ['a single user, by itself', () => single('self'), ['apply', 'verify', 'retire']],
  ['a single user, undone', () => single('self'), ['apply', 'verify', 'undo']],
];

/** Carries out the steps, and loses the rotation at the `loseAt`th assertion; gives the number of assertions that held. */
async function carryOut({ rotator, current }: Case, steps: readonly Step[], loseAt = Infinity): Promise<number> {
  const lost = new Error('no longer the holder');
  let asserted = 0;
  const rotation = new HandRotation(rotator, current);
  rotation.onAssert = () => {
    if (asserted + 1 >= loseAt) throw lost;
    asserted += 1;
  };
  await rotation.create();
  const session = current === undefined ? undefined : await connectAs(server, current.value);
  try {
    for (const step of steps) await rotation[step]();
  } catch (error) {
    if (error !== lost) throw error;
  } finally {
    await session?.end();
  }
  return asserted;
}

describe('a rotator whose process lost the rotation (I2)', () => {
  it.each(cases)('changes nothing more, whatever it was about to do: %s', async (_what, create, steps) => {
    const whole = await create();
    const before = (await changesSoFar()).length;
    const assertions = await carryOut(whole, steps);
    const made = (await changesSoFar()).length - before;
    // One assertion for each message that changes something (and one more ahead of what `prepare` does).
    expect(made).toBeGreaterThanOrEqual(2);
    expect(assertions - made).toBeLessThanOrEqual(1);
    expect(assertions).toBeGreaterThanOrEqual(made);
    for (let loseAt = 1; loseAt <= assertions; loseAt += 1) {
      const fresh = await create();
      const already = (await changesSoFar()).length;
      const held = await carryOut(fresh, steps, loseAt);
      // A session that ended at once needs no second look, so that the last assertions may not be met each time.
      if (loseAt <= 2) expect(held).toBe(loseAt - 1);
      expect((await changesSoFar()).length - already).toBeLessThanOrEqual(held);
    }
  });
});

describe('a change that was sent in time', () => {
  const context = (now: () => number): StepContext => ({
    signal: new AbortController().signal,
    clock: { ...systemClock, now },
    assertHolder: () => undefined,
  });
  const late = async (offset: number, then: (change: (sql: string[]) => Promise<unknown>) => Promise<unknown>) => {
    let setBack = 0;
    const target = new PostgresTarget(connection());
    await target.session(
      server.admin,
      'changing',
      context(() => Date.now() - setBack),
      async (session) => {
        await session.run(['SELECT 1']);
        // As if the process had stood still for this long between the assertion and the network.
        setBack = offset;
        await then((sql) => session.change(sql));
      },
    );
  };

  it('takes no effect when it arrives more than ten seconds later, not even in part', async () => {
    serial += 1;
    const attempt = late(10_500, (change) => change([`CREATE ROLE late${serial}`, `CREATE ROLE later${serial}`]));
    await expect(attempt).rejects.toMatchObject({
      code: 'TARGET_UNREACHABLE',
      message: expect.stringContaining('more than 10 s after they were sent'),
    });
    expect(await server.query(`SELECT FROM pg_roles WHERE rolname LIKE 'late%'`)).toEqual([]);
    await late(8_000, (change) => change([`CREATE ROLE late${serial}`]));
    expect(await server.query(`SELECT FROM pg_roles WHERE rolname LIKE 'late%'`)).toHaveLength(1);
  });

  it('takes no effect when it is done more than ten seconds later', async () => {
    serial += 1;
    const name = `slow${serial}`;
    const attempt = late(9_700, (change) => change([`CREATE ROLE ${name}`, 'SELECT pg_sleep(0.5)']));
    await expect(attempt).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    expect(await server.query(`SELECT FROM pg_roles WHERE rolname = '${name}'`)).toEqual([]);
  });

  it('waits for no lock for longer than that, and holds none', async () => {
    const target = new PostgresTarget(connection());
    const limits = await target.session(server.admin, 'looking', context(Date.now), (session) =>
      session.run(['SHOW statement_timeout', 'SHOW lock_timeout', 'SHOW idle_in_transaction_session_timeout']),
    );
    expect(limits.map(({ rows }) => Object.values(rows[0])[0])).toEqual(['10s', '5s', '10s']);
  });
});
