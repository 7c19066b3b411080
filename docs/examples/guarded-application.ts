import { NestFactory } from '@nestjs/core';
import {
  isSecretsError,
  localKeyFile,
  memoryStore,
  principalOf,
  secretResource,
  SecretsManager,
  SecretsModule,
} from '@nestjs-secrets/core';

/** Policies in the store, operations in the name of others, and what the log has to say afterwards. */
export async function main(folder: string): Promise<{
  read: string;
  refused: string;
  whyNot: readonly string[];
  readers: readonly string[];
  denied: readonly string[];
  verdict: string;
}> {
  const root = SecretsModule.forRoot({
    store: memoryStore(),
    keys: localKeyFile({ path: `${folder}/keys.json`, create: 'if-missing' }),
    principal: 'MyApp',
    policies: {
      builtIn: [
        {
          name: 'my-app',
          principals: ['application/MyApp'],
          document: { Version: '1', Statement: [{ Effect: 'Allow', Action: 'secrets:*', Resource: '*' }] },
        },
      ],
    },
    audit: { folder: `${folder}/audit` },
  });
  const app = await NestFactory.createApplicationContext(root, { logger: false });
  const secrets = app.get(SecretsManager);
  await secrets.createSecret('billing/db', 'postgres://…', { tags: { env: 'prod' } });
  await secrets.policies.putPolicy({
    name: 'billing-readers',
    principals: ['remote/billing-*'],
    document: {
      Version: '1',
      Statement: [{ Effect: 'Allow', Action: 'secrets:GetSecretValue', Resource: 'secret/billing/*' }],
    },
  });

  const gateway = secrets.as(principalOf('remote', 'billing-eu'), { sourceAddress: '203.0.113.9' });
  const read = String(await gateway.getSecretValue('billing/db'));
  const refused = await gateway.putSecretValue('billing/db', 'mine').then(
    () => 'nothing',
    (error: unknown) => (isSecretsError(error) ? error.code : 'something else'),
  );

  const caller = principalOf('remote', 'billing-eu');
  const simulation = await secrets.policies.simulate(caller, 'secrets:PutSecretValue', secretResource('billing/db'));
  const readers = await secrets.audit.whoRead('billing/db', Date.now() - 86_400_000);
  const { events } = await secrets.audit.lookupEvents({ outcome: 'denied' });
  const { verdict } = await secrets.audit.verify();
  await app.close();
  return {
    read,
    refused,
    whyNot: simulation.wouldChange.map(({ change, statement }) => `${change} ${statement?.policy ?? ''}`),
    readers: readers.map(({ principalId, reads }) => `${principalId}: ${reads}`),
    denied: events.map(
      ({ event }) => `${event.userIdentity.principalId} ${event.eventName} from ${event.sourceIpAddress}`,
    ),
    verdict,
  };
}
