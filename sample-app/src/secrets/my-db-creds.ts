import { defineSecret } from '@nestjs-secrets/core';
import { z } from 'zod';
import { configuration, type Configuration } from '../configuration.js';

/** What policies call the rotator, whichever strategy it follows. */
export const DATABASE_ROTATOR = 'my-app/database';

/** The log-in of MyApp. Made by the rotator at the first start, so that nobody ever types or sees it. */
export const myDbCreds = defineSecret(
  'MyDbCreds',
  z.object({ username: z.string().min(1), password: z.string().min(1) }),
  {
    description: 'The log-in with which MyApp reads and writes orders',
    type: 'database-credentials',
    initial: 'rotator',
    rotation: {
      inject: [configuration.KEY],
      useFactory: ({ rotateEvery }: Configuration) => ({
        rotator: DATABASE_ROTATOR,
        ...(rotateEvery === 'never' ? {} : { schedule: { every: rotateEvery } }),
      }),
    },
  },
);
