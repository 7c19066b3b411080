import type pg from 'pg';
import type { LoadTarget } from './pool-load.js';

/** A `pg.Pool` as a target for the load. */
export function poolTarget(pool: pg.Pool): LoadTarget {
  return {
    query: (text, values) => pool.query(text, values && [...values]),
    async transaction(work) {
      const client = await pool.connect();
      try {
        await client.query('BEGIN');
        await work((text, values) => client.query(text, values && [...values]));
        await client.query('COMMIT');
      } catch (error) {
        await client.query('ROLLBACK').catch(() => undefined);
        throw error;
      } finally {
        client.release();
      }
    },
  };
}
