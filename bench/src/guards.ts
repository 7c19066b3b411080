import { randomBytes, randomUUID } from 'node:crypto';
import path from 'node:path';
import { type PolicyStatement, type SecretsModuleOptions, sharedAuditLog } from '@nestjs-secrets/core';

/** Options that turn policies and the audit log on, for applications of one process whose secrets begin with `prefix`; they share a log in a new folder below `folder`. */
export function guards(folder: string, prefix: string): Pick<SecretsModuleOptions, 'principal' | 'policies' | 'audit'> {
  const id = randomUUID();
  const statement = (Action: string | string[], Resource: string): PolicyStatement => ({
    Effect: 'Allow',
    Action,
    Resource,
  });
  return {
    principal: 'bench',
    policies: {
      builtIn: [
        {
          name: 'bench',
          principals: ['application/bench'],
          document: { Version: '1', Statement: [statement('*', `secret/${prefix}*`), statement('*', 'store')] },
        },
        {
          name: 'rotators',
          principals: ['rotator/*'],
          document: { Version: '1', Statement: [statement('secrets:*', `secret/${prefix}*`)] },
        },
      ],
    },
    audit: sharedAuditLog({ origin: `bench/${id}`, key: randomBytes(32), folder: path.join(folder, `audit-${id}`) }),
  };
}
