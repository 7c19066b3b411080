import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { systemClock } from '@nestjs-secrets/core';
import { FaultyLink } from 'nestjs-secrets-test/chaos/faulty-link';
import { describeWithMariadb } from 'nestjs-secrets-test/describe-with-mariadb';
import { startMariadb, type MariadbServer } from 'nestjs-secrets-test/mariadb-server';
import { MysqlTarget, type StepHold } from '../src/rotators/mysql-target.js';

const hold = (signal: AbortSignal): StepHold => ({ signal, clock: systemClock, assertHolder: () => undefined });

describeWithMariadb('a session whose network fails', () => {
  let server: MariadbServer;
  let link: FaultyLink;

  beforeAll(async () => {
    server = await startMariadb();
    link = await FaultyLink.to(server);
  });
  afterAll(async () => {
    await link?.close();
    await server?.stop();
  });

  const target = (): MysqlTarget => new MysqlTarget({ host: '127.0.0.1', port: link.port });

  it('leaves without an answer to its farewell', async () => {
    const { signal } = new AbortController();
    const left = target().session(server.admin, 'looking', hold(signal), async ({ read }) => {
      await read('SELECT 1');
      link.lose();
      return 'done';
    });
    expect(await left).toBe('done');
    link.mend();
  });

  // A statement may take 30 s.
  it('leaves when a statement was not answered in time', async () => {
    const { signal } = new AbortController();
    const failed = target().session(server.admin, 'looking', hold(signal), async ({ read }) => {
      await read('SELECT 1');
      link.lose();
      return read('SELECT 2');
    });
    await expect(failed).rejects.toMatchObject({ code: 'TARGET_UNREACHABLE' });
    link.mend();
  }, 60_000);

  it('ends with the step, whether it is logging in or in the middle of a statement', async () => {
    const reason = new Error('the lease was lost');
    const loggingIn = new AbortController();
    link.hold();
    const asked = target().logsIn(server.admin, 'looking', hold(loggingIn.signal));
    loggingIn.abort(reason);
    await expect(asked).rejects.toBe(reason);
    link.mend();
    const working = new AbortController();
    const failed = target().session(server.admin, 'looking', hold(working.signal), async ({ read }) => {
      await read('SELECT 1');
      link.hold();
      const held = read('SELECT 2');
      working.abort(reason);
      return held;
    });
    await expect(failed).rejects.toBe(reason);
    link.mend();
  });
});
