import type { PostgresServer } from '../postgres-server.js';

/** A way to make a role useless behind the back of the rotator that made it. */
export interface BadCredential {
  spoil(target: PostgresServer, role: string): Promise<void>;
  /** Takes back what the next rotation does not set right by itself. */
  mend(target: PostgresServer, role: string): Promise<void>;
  /** How queries may fail until the version before is back. */
  readonly symptom: RegExp;
}

async function endSessions(target: PostgresServer, role: string): Promise<void> {
  await target.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '${role}'`);
}

export const BAD_CREDENTIALS: ReadonlyMap<string, BadCredential> = new Map<string, BadCredential>([
  [
    'it may write to a table no more',
    {
      async spoil(target, role) {
        // Sessions act as the owner role, so a REVOKE would strike old and new alike; a policy can tell whose session it is.
        await target.query(`CREATE POLICY readable ON payments FOR SELECT USING (true)`);
        await target.query(`CREATE POLICY writable ON payments FOR INSERT WITH CHECK (session_user <> '${role}')`);
        await target.query('ALTER TABLE payments ENABLE ROW LEVEL SECURITY');
      },
      mend: async (target) => void (await target.query('ALTER TABLE payments DISABLE ROW LEVEL SECURITY')),
      symptom: /42501/,
    },
  ],
  [
    'it lost its membership in the owner role',
    {
      async spoil(target, role) {
        await target.query(`REVOKE fleet_owner FROM ${role}`);
        await endSessions(target, role);
      },
      mend: async () => undefined,
      symptom: /42501|57P01|not queryable|terminated/,
    },
  ],
  [
    'it may not log in any more',
    {
      async spoil(target, role) {
        await target.query(`ALTER ROLE ${role} NOLOGIN`);
        await endSessions(target, role);
      },
      mend: async () => undefined,
      // Log-ins fall back to the version before by themselves; only what was in flight is lost.
      symptom: /57P01|not queryable|terminated/,
    },
  ],
]);
