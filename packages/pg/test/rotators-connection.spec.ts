import { createServer, type AddressInfo, type Server } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { systemClock } from '@nestjs-secrets/core';
import { FaultyLink } from 'nestjs-secrets-test/chaos/faulty-link';
import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { PostgresTarget, type StepContext } from '../src/rotators/postgres-target.js';

const context = (signal: AbortSignal): StepContext => ({ signal, clock: systemClock, assertHolder: () => undefined });
const reason = new Error('the lease was lost');

describe('a session with a server that says nothing', () => {
  let silent: Server;
  let arrived: Promise<void>;

  beforeAll(async () => {
    silent = createServer();
    arrived = new Promise((resolve) => silent.once('connection', (socket) => socket.once('data', () => resolve())));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  });
  afterAll(() => new Promise<void>((resolve) => silent.close(() => resolve())));

  it('ends with the step, though it is still logging in', async () => {
    const { port } = silent.address() as AddressInfo;
    const target = new PostgresTarget({ host: '127.0.0.1', port, connectionTimeoutMillis: 0 });
    const step = new AbortController();
    const credentials = { username: 'anyone', password: 'anything' };
    const asked = target.logsIn(credentials, 'looking', context(step.signal));
    await arrived;
    step.abort(reason);
    await expect(asked).rejects.toBe(reason);
  });
});

describe('a session whose network fails', () => {
  let server: PostgresServer;
  let link: FaultyLink;

  beforeAll(async () => {
    server = await startPostgres();
    link = await FaultyLink.to(server);
  });
  afterAll(async () => {
    await link?.close();
    await server?.stop();
  });

  const target = (): PostgresTarget =>
    new PostgresTarget({ host: '127.0.0.1', port: link.port, database: server.database, query_timeout: 500 });

  it('leaves without an answer to its farewell', async () => {
    const { signal } = new AbortController();
    const left = target().session(server.admin, 'looking', context(signal), async ({ run }) => {
      await run(['SELECT 1']);
      link.lose();
      return 'done';
    });
    expect(await left).toBe('done');
    link.mend();
  });

  it('leaves when a statement was not answered in time', async () => {
    const { signal } = new AbortController();
    const failed = target().session(server.admin, 'looking', context(signal), async ({ run }) => {
      await run(['SELECT 1']);
      link.lose();
      return run(['SELECT 2']);
    });
    await expect(failed).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    link.mend();
  });

  it('ends with the step in the middle of a statement, which then fails with what ended the step', async () => {
    const step = new AbortController();
    const failed = target().session(server.admin, 'looking', context(step.signal), async ({ run }) => {
      await run(['SELECT 1']);
      link.hold();
      const held = run(['SELECT 2']);
      step.abort(reason);
      return held;
    });
    await expect(failed).rejects.toBe(reason);
    link.mend();
  });
});
