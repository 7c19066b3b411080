import { registerAs, type ConfigType } from '@nestjs/config';
import { parseDuration, type Duration } from '@nestjs-secrets/core';
import { z } from 'zod';

const schema = z.object({
  PORT: z.coerce.number().int().min(0).max(65_535).default(3000),
  /** Log-in of an administrator who creates the application's roles; without it an embedded PostgreSQL is started. */
  DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }).optional(),
  POOL_SIZE: z.coerce.number().int().min(1).max(1000).default(10),
  /** Such as `500ms`, `12h`, `30d`, or `never`. */
  ROTATE_EVERY: z
    .custom<Duration | 'never'>((value) => value === 'never' || parseDuration(value) !== undefined, 'must be like 12h')
    .default('30d'),
  ROTATION_STRATEGY: z.enum(['alternating-users', 'single-user']).default('alternating-users'),
  /** How many roles take turns; ROTATE_EVERY × (ROLES − 1) must exceed the longest transaction. */
  ROLES: z.coerce.number().int().min(2).max(50).default(2),
  /** For the encrypted store and the embedded PostgreSQL. */
  DATA_DIR: z.string().min(1).default('.data'),
  /** Opens the store, and so is kept away from it and from its backups. */
  KEY_FILE: z.string().min(1).default('.keys/my-app.json'),
});

/** @throws Error that names the variables that do not fit, never what they held */
export function parseConfiguration(environment: NodeJS.ProcessEnv) {
  const result = schema.safeParse(environment);
  if (!result.success) {
    const issues = result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    throw new Error(`The configuration of MyApp is not valid: ${issues.join('; ')}. See README.md for each variable.`);
  }
  const { data } = result;
  return {
    port: data.PORT,
    databaseUrl: data.DATABASE_URL,
    poolSize: data.POOL_SIZE,
    rotateEvery: data.ROTATE_EVERY,
    rotationStrategy: data.ROTATION_STRATEGY,
    roles: data.ROLES,
    dataDir: data.DATA_DIR,
    keyFile: data.KEY_FILE,
  };
}

export const configuration = registerAs('my-app', () => parseConfiguration(process.env));

export type Configuration = ConfigType<typeof configuration>;
