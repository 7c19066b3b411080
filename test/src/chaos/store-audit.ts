import type { PostgresServer } from '../postgres-server.js';
import { STORE_TABLE } from './fleet-order.js';

/** What follows a stored record: its sequence, suite, format and tag. */
const SEAL_BYTES = 26;

/** One change of one entry of the store, as the database itself saw it. */
export interface AuditRow {
  /** In the order of the changes: whoever writes locks the store first. */
  readonly id: number;
  /** By the server's clock, before the commit could be seen; milliseconds since the epoch. */
  readonly at: number;
  /** The transaction: all its changes became visible at once. */
  readonly transaction: string;
  readonly key: string;
  /** Null when the entry was removed. */
  readonly value: string | null;
}

/** Has the database write down every change of who lives, who acknowledged what, and the journals. */
export async function installAudit(inStore: PostgresServer['query']): Promise<void> {
  await inStore(
    `CREATE TABLE store_audit (id bigserial PRIMARY KEY, at float8 NOT NULL, transaction text NOT NULL, key text NOT NULL, value text);
     CREATE FUNCTION audit_store() RETURNS trigger LANGUAGE plpgsql AS $$
     DECLARE
       changed text := CASE WHEN TG_OP = 'DELETE' THEN OLD.key ELSE NEW.key END;
     BEGIN
       IF changed ~ '^(rotation|instance|ack)/' THEN
         INSERT INTO store_audit (at, transaction, key, value) VALUES (
           extract(epoch FROM clock_timestamp()) * 1000, txid_current()::text, changed,
           CASE WHEN TG_OP = 'DELETE' THEN NULL ELSE convert_from(substring(NEW.value FROM 1 FOR length(NEW.value) - ${SEAL_BYTES}), 'UTF8') END);
       END IF;
       RETURN NULL;
     END $$;
     CREATE TRIGGER audit_store AFTER INSERT OR UPDATE OR DELETE ON ${STORE_TABLE} FOR EACH ROW EXECUTE FUNCTION audit_store()`,
  );
}

export async function readAudit(inStore: PostgresServer['query']): Promise<AuditRow[]> {
  const rows = await inStore<{ id: string; at: number; transaction: string; key: string; value: string | null }>(
    'SELECT id, at, transaction, key, value FROM store_audit ORDER BY id',
  );
  return rows.map((row) => ({ ...row, id: Number(row.id) }));
}
