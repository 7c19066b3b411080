import { randomUUID } from 'node:crypto';
import path from 'node:path';
import type { PolicyStatement, SecretsModuleOptions } from '@nestjs-secrets/core';

/** Options that turn policies and the audit log on, for an application whose secrets begin with `prefix`; each gets a folder of its own below `folder`. */
export function guards(folder: string, prefix: string): Pick<SecretsModuleOptions, 'principal' | 'policies' | 'audit'> {
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
    audit: { folder: path.join(folder, `audit-${randomUUID()}`) },
  };
}
