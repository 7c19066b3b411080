import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, type INestApplication, type LoggerService, Module, Param } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  Authorize,
  AUTHORIZE_OPTIONS,
  type AuthorizeOptions,
  ephemeralKeys,
  memoryStore,
  principalOf,
  SecretsHealthIndicator,
  SecretsManager,
  SecretsModule,
  type SecretsModuleOptions,
} from '@nestjs-secrets/core';
import { SimulatedClock } from '@nestjs-secrets/testing';
import { sharedKeys } from './support/fleet.js';
import { Host } from './support/host.js';
import { documentOf } from './support/policy-world.js';

@Controller('secrets')
class VaultController {
  @Get(':name')
  @Authorize('secrets:GetSecretValue', { secretParam: 'name' })
  read(@Param('name') name: string): string {
    return `read ${name}`;
  }
}

const options: AuthorizeOptions = {
  principal: (context) => {
    const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string | undefined> }>();
    const name = headers['x-user'];
    return name === undefined ? undefined : principalOf('remote', name);
  },
};

@Module({ controllers: [VaultController], providers: [{ provide: AUTHORIZE_OPTIONS, useValue: options }] })
class VaultModule {}

/** Keeps what is said at `log` and above. */
class Listener implements LoggerService {
  readonly said: string[] = [];
  log = (message: string): void => void this.said.push(message);
  warn = this.log;
  error = this.log;
}

let folder: string;
let app: INestApplication | undefined;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nestjs-secrets-doors-'));
});
afterEach(async () => {
  await app?.close();
  app = undefined;
  await rm(folder, { recursive: true });
});

async function start(
  more: Partial<SecretsModuleOptions>,
  listener: LoggerService | false = false,
): Promise<INestApplication> {
  const root = SecretsModule.forRoot({ store: memoryStore(), keys: ephemeralKeys(), ...more });
  const builder = Test.createTestingModule({ imports: [root, VaultModule] });
  if (listener !== false) builder.setLogger(listener);
  const module = await builder.compile();
  app = module.createNestApplication({ logger: listener });
  await app.init();
  return app;
}

describe('SecretsModule', () => {
  it('says once that policies are off and that nothing is audited, and works as ever', async () => {
    const listener = new Listener();
    const manager = (await start({}, listener)).get(SecretsManager);
    await manager.createSecret('S', 1);
    expect((await manager.getSecretValue('S')).value).toBe(1);
    expect(listener.said.filter((line) => line.startsWith('Policies are off: application/app'))).toHaveLength(1);
    expect(listener.said.filter((line) => line.startsWith('Nothing is audited'))).toHaveLength(1);
    await expect(manager.as(principalOf('operator', 'alice')).getSecretValue('S')).rejects.toMatchObject({
      code: 'ACCESS_DENIED',
    });
    await expect(manager.audit.lookupEvents()).rejects.toMatchObject({ code: 'AUDIT_OFF' });
    expect(() => manager.audit.anomalies$).toThrow(expect.objectContaining({ code: 'AUDIT_OFF' }));
    expect(manager.audit.health()).toEqual([]);
  });

  it('says neither once there are both, and the log has that policies were off', async () => {
    const listener = new Listener();
    const audit = { folder: join(folder, 'audit') };
    const manager = (await start({ principal: 'MyApp', audit }, listener)).get(SecretsManager);
    expect(listener.said.some((line) => line.startsWith('Nothing is audited'))).toBe(false);
    await manager.policies.putPolicy({
      name: 'mine',
      principals: ['application/MyApp'],
      document: documentOf({ Effect: 'Allow', Action: '*', Resource: '*' }),
    });
    await manager.createSecret('S', 1);
    const { events } = await manager.audit.lookupEvents();
    expect(events.map(({ event }) => event.eventName).toReversed()).toEqual([
      'PoliciesOff',
      'RenewInstance',
      'PutPolicy',
      'PoliciesChanged',
      'CreateSecret',
    ]);
    expect(await manager.audit.verify()).toMatchObject({ verdict: 'intact' });
  });

  it('goes on with its log under the same key after a restart', async () => {
    const shared = memoryStore();
    await shared.open();
    const { store } = new Host(new SimulatedClock(), shared);
    const sharing = { store, keys: sharedKeys(), audit: { folder: join(folder, 'audit') } };
    await (await start(sharing)).get(SecretsManager).createSecret('S', 1);
    await app?.close();
    const manager = (await start(sharing)).get(SecretsManager);
    expect((await manager.audit.lookupEvents({ secret: 'S' })).events).toHaveLength(1);
    expect(await manager.audit.verify()).toMatchObject({ verdict: 'intact' });
  });

  it('does not start with an audit log that has nowhere to go, or on a folder that is taken', async () => {
    await expect(start({ audit: {} })).rejects.toMatchObject({ code: 'AUDIT_OPTIONS_INVALID' });
    const audit = { folder: join(folder, 'audit') };
    const first = await start({ audit });
    await expect(start({ audit })).rejects.toMatchObject({ code: 'AUDIT_FOLDER_BUSY' });
    await first.close();
  });

  it('does not start with a principal or a policy that is none', async () => {
    await expect(start({ principal: '*' })).rejects.toMatchObject({ code: 'ACCESS_REQUEST_INVALID' });
    const builtIn = [{ name: 'x', principals: ['application/app'], document: { Version: '2' } as never }];
    await expect(start({ policies: { builtIn } })).rejects.toMatchObject({ code: 'POLICY_INVALID' });
  });

  it('says in its health when the log takes nothing', async () => {
    const sink = {
      name: 'broken',
      open: async () => undefined,
      close: async () => undefined,
      append: async () => undefined,
    };
    let isBroken = false;
    const breaking = {
      ...sink,
      append: async () => {
        if (isBroken) throw Object.assign(new Error('no'), { code: 'EIO' });
      },
    };
    const running = await start({ audit: { sinks: [{ sink: breaking, mode: 'required' }], timeLimitMs: 20 } });
    const health = running.get(SecretsHealthIndicator);
    expect(health.check()).toMatchObject({ secrets: { status: 'up', degraded: false, audit: [{ status: 'up' }] } });
    isBroken = true;
    await expect(running.get(SecretsManager).createSecret('S', 1)).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE' });
    expect(health.check()).toMatchObject({
      secrets: { status: 'up', degraded: true, audit: [{ name: 'broken', mode: 'required', status: 'failing' }] },
    });
    isBroken = false;
  });
});

describe('@Authorize beside SecretsModule', () => {
  it('decides by the policies of the manager, with what it looks up of the secret, and a denial is in the log', async () => {
    const running = await start({
      audit: { folder: join(folder, 'audit') },
      policies: {
        builtIn: [
          {
            name: 'app',
            principals: ['application/app'],
            document: documentOf({ Effect: 'Allow', Action: '*', Resource: '*' }),
          },
          {
            name: 'readers',
            principals: ['remote/reader'],
            document: documentOf({
              Effect: 'Allow',
              Action: 'secrets:GetSecretValue',
              Resource: '*',
              Condition: { StringEquals: { 'secrets:ResourceTag/env': 'dev', 'secrets:Stage': 'current' } },
            }),
          },
        ],
      },
    });
    const manager = running.get(SecretsManager);
    await manager.createSecret('open', 1, { tags: { env: 'dev' } });
    await manager.createSecret('closed', 1, { tags: { env: 'prod' } });
    const server = running.getHttpServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/secrets`;
    const status = async (name: string, user: string): Promise<number> =>
      (await fetch(`${url}/${name}`, { headers: { 'x-user': user, 'x-request-id': 'r-1' } })).status;
    expect(await status('open', 'reader')).toBe(200);
    expect(await status('closed', 'reader')).toBe(403);
    expect(await status('missing', 'reader')).toBe(403);
    expect(await status('open', 'stranger')).toBe(403);
    const { events } = await manager.audit.lookupEvents({ outcome: 'denied' });
    expect(
      events.map(({ event }) => [event.userIdentity.principalId, event.resourceName, event.requestId]).toReversed(),
    ).toEqual([
      ['remote/reader', 'closed', 'r-1'],
      ['remote/reader', 'missing', 'r-1'],
      ['remote/stranger', 'open', 'r-1'],
    ]);
  });
});
