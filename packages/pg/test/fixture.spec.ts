import { expect, it } from '@jest/globals';
import { startPostgres } from 'nestjs-secrets-test/postgres-server';
it('starts', async () => { const s = await startPostgres({settings: {log_statement: 'all'}}); console.log(s.pid, await s.query('select version()')); console.log(s.log()); await s.stop(); expect(1).toBe(1); });
