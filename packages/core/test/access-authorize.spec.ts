import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Controller, Delete, Get, Module, Param, type ExecutionContext, type INestApplication } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import {
  ACCESS_CONTROL,
  Authorize,
  AUTHORIZE_OPTIONS,
  principalOf,
  secretResource,
  type AccessContext,
  type AuthorizeOptions,
  type PrincipalKind,
} from '@nestjs-secrets/core';
import { ADMIN, documentOf, PolicyWorld } from './support/policy-world.js';

const tenantSecret = (context: ExecutionContext): ReturnType<typeof secretResource> => {
  const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string> }>();
  return secretResource(`tenants/${headers['x-tenant'] ?? 'none'}`);
};

@Controller()
class VaultController {
  calls: string[] = [];

  @Get('secrets/:name')
  @Authorize('secrets:GetSecretValue', { secretParam: 'name' })
  read(@Param('name') name: string): string {
    this.calls.push(name);
    return `read ${name}`;
  }

  @Delete('secrets/:name')
  @Authorize('secrets:GetSecretValue', { secretParam: 'name' })
  @Authorize('secrets:DeleteSecret', { secretParam: 'name' })
  remove(): string {
    return 'removed';
  }

  @Get('audit')
  @Authorize('secrets:LookupEvents')
  audit(): string {
    return 'audit';
  }

  @Get('fixed')
  @Authorize('secrets:GetSecretValue', { secret: 'fixed' })
  fixed(): string {
    return 'fixed';
  }

  @Get('tenant')
  @Authorize('secrets:GetSecretValue', tenantSecret)
  tenant(): string {
    return 'tenant';
  }

  @Get('open')
  open(): string {
    return 'open';
  }
}

const FACTS = new Map([
  ['a', { tags: { env: 'dev' } }],
  ['p', { tags: { env: 'prod' } }],
]);

describe('@Authorize', () => {
  const world = new PolicyWorld();
  const contexts: AccessContext[] = [];
  let app: INestApplication;
  let url: string;

  beforeAll(async () => {
    const { policies } = await world.startGoverned();
    const author = world.author(ADMIN);
    await policies.putPolicy(author, {
      name: 'readers',
      principals: ['remote/reader'],
      document: documentOf(
        {
          Effect: 'Allow',
          Action: ['secrets:GetSecretValue', 'secrets:LookupEvents'],
          Resource: ['secret/*', 'audit'],
        },
        {
          Effect: 'Deny',
          Action: '*',
          Resource: '*',
          Condition: { StringEquals: { 'secrets:ResourceTag/env': 'prod' } },
        },
        {
          Effect: 'Deny',
          Action: '*',
          Resource: '*',
          Condition: { NotIpAddress: { 'secrets:SourceIp': '127.0.0.0/8' } },
        },
      ),
    });
    await policies.putPolicy(author, {
      name: 'cleaners',
      principals: ['remote/cleaner'],
      document: documentOf({ Effect: 'Allow', Action: 'secrets:DeleteSecret', Resource: 'secret/*' }),
    });

    const options: AuthorizeOptions = {
      principal: async (context) => {
        const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string | undefined> }>();
        const [kind, name] = headers['x-user']?.split('/') ?? [];
        return name === undefined ? undefined : principalOf(kind as PrincipalKind, name);
      },
      clock: world.clock,
    };
    @Module({
      controllers: [VaultController],
      providers: [
        { provide: AUTHORIZE_OPTIONS, useValue: options },
        {
          provide: ACCESS_CONTROL,
          useValue: {
            decide: (...[principal, action, resource, context]: Parameters<typeof policies.decide>) => {
              contexts.push(context);
              const facts = FACTS.get(resource.id.replace('secret/', '')) ?? { tags: {} };
              return policies.decide(principal, action, { ...resource, facts }, context);
            },
          },
        },
      ],
    })
    class VaultModule {}
    const module = await Test.createTestingModule({ imports: [VaultModule] }).compile();
    app = module.createNestApplication({ logger: false });
    const server = app.getHttpServer();
    await app.init();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(async () => {
    await app?.close();
    await world.stop();
  });
  beforeEach(() => {
    contexts.length = 0;
    app.get(VaultController).calls.length = 0;
  });

  const call = async (
    path: string,
    user?: string,
    init: RequestInit = {},
  ): Promise<{ status: number; body: string }> => {
    const headers = { ...(user === undefined ? {} : { 'x-user': user }), ...init.headers };
    const response = await fetch(`${url}${path}`, { ...init, headers });
    return { status: response.status, body: await response.text() };
  };

  it('lets in whom the policies allow', async () => {
    expect(await call('/secrets/a', 'remote/reader')).toEqual({ status: 200, body: 'read a' });
    expect(await call('/audit', 'remote/reader')).toMatchObject({ status: 200 });
    expect(await call('/fixed', 'remote/reader')).toMatchObject({ status: 200 });
    expect(await call('/tenant', 'remote/reader', { headers: { 'x-tenant': 't1' } })).toMatchObject({ status: 200 });
  });

  it('turns away whom they do not, before the handler, without telling which policy', async () => {
    for (const user of ['remote/other', 'operator/reader', 'remote/cleaner']) {
      const { status, body } = await call('/secrets/a', user);
      expect(status).toBe(403);
      expect(JSON.parse(body)).toEqual({
        statusCode: 403,
        error: 'Forbidden',
        code: 'ACCESS_DENIED',
        message: `${user} may not do secrets:GetSecretValue on secret/a`,
      });
    }
    expect(await call('/secrets/p', 'remote/reader')).toMatchObject({ status: 403 });
    expect(app.get(VaultController).calls).toEqual([]);
  });

  it('asks for somebody', async () => {
    expect(await call('/secrets/a')).toMatchObject({ status: 401 });
    expect(contexts).toEqual([]);
  });

  it('wants all of several', async () => {
    for (const user of ['remote/reader', 'remote/cleaner'])
      expect(await call('/secrets/a', user, { method: 'DELETE' })).toMatchObject({ status: 403 });
    expect(await call('/secrets/a', 'operator/admin', { method: 'DELETE' })).toMatchObject({ status: 200 });
  });

  it('leaves other handlers alone', async () => {
    expect(await call('/open')).toEqual({ status: 200, body: 'open' });
  });

  it('says what is wrong with a name that is none', async () => {
    const { status, body } = await call('/secrets/a%2F..%20b', 'remote/reader');
    expect(status).toBe(400);
    expect(JSON.parse(body)).toMatchObject({ code: 'SECRET_NAME_INVALID' });
  });

  it('tells policies how the request came', async () => {
    await call('/secrets/a', 'remote/reader', { headers: { 'user-agent': 'test/1', 'x-request-id': 'r-1' } });
    expect(contexts).toEqual([
      {
        time: world.clock.now(),
        sourceAddress: expect.stringMatching(/127\.0\.0\.1$/),
        userAgent: 'test/1',
        requestId: 'r-1',
        secureTransport: false,
      },
    ]);
  });

  it.each([
    ['an unknown action', () => Authorize('secrets:Nothing' as 'secrets:GetSecretValue'), /no such action/],
    [
      'a secret for an action on something else',
      () => Authorize('secrets:LookupEvents', { secret: 'a' }),
      /not about a secret/,
    ],
    ['no target where one is needed', () => Authorize('secrets:GetSecretValue'), /must say which secret/],
    ['a policy without a function that finds it', () => Authorize('secrets:PutPolicy'), /must say which policy/],
    ['an illegal name', () => Authorize('secrets:GetSecretValue', { secret: 'a b' }), /not a secret name/],
  ])('refuses %s where it is written', (_title, decorate, message) => {
    expect(decorate).toThrow(message);
  });
});
