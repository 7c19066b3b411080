import type { KeyRange } from '@nestjs-secrets/core';
import type { RowWrite } from './commit-batch.js';
import { STORE_ROW } from './sql-backend.js';

/** At most so many bytes of values in one statement (twice that in its text), below the smallest max_allowed_packet in use. */
const STATEMENT_BYTES = 1_048_576;

/**
 * The SQL of one table. Keys and values stand in it as hexadecimal literals, which mean the same in every sql_mode. Prepared statements
 * would do as well, but the server counts them over all its clients (max_prepared_stmt_count), and a fleet would use them up.
 */
export class MysqlStatements {
  /** The table's name, quoted. */
  readonly table: string;
  readonly storeRow = STORE_ROW;
  /** The key of the row that keeps the revision of the last removal. Sorts before all entries, whose keys have no space. */
  readonly removalsRow = ' removed';
  readonly revision: string;
  readonly describe: string;
  readonly create: string;
  readonly firstRow: string;

  constructor(parts: readonly string[]) {
    this.table = parts.map((part) => `\`${part}\``).join('.');
    const [name, database] = parts.toReversed();
    this.revision = `SELECT revision FROM ${this.table} WHERE \`key\` = ''`;
    this.describe = `SELECT engine AS engine, collation_name AS collation FROM information_schema.tables AS t
      LEFT JOIN information_schema.columns AS c
        ON c.table_schema = t.table_schema AND c.table_name = t.table_name AND c.column_name = 'key'
      WHERE t.table_schema = ${database === undefined ? 'DATABASE()' : `'${database}'`} AND t.table_name = '${name}'`;
    this.create = `CREATE TABLE IF NOT EXISTS ${this.table} (
        \`key\` varchar(512) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
        value mediumblob NOT NULL,
        revision bigint unsigned NOT NULL,
        KEY revision (revision)
      ) ENGINE = InnoDB`;
    this.firstRow = `INSERT IGNORE INTO ${this.table} (\`key\`, value, revision) VALUES ('', '', 0)`;
  }

  read(keys: readonly string[]): string {
    return `SELECT \`key\`, value, revision FROM ${this.table} WHERE \`key\` IN (${keys.map(text).join(', ')})`;
  }

  list({ from, after, until, limit }: KeyRange): string {
    return `SELECT \`key\`, value, revision FROM ${this.table}
      WHERE \`key\` >= ${text(from === '' ? '!' : from)} AND \`key\` > ${text(after)} AND \`key\` < ${text(until)}
      ORDER BY \`key\` LIMIT ${limit}`;
  }

  changed(since: number, limit: number): string {
    return `SELECT \`key\` FROM ${this.table} WHERE revision > ${since} AND \`key\` <> '' ORDER BY revision LIMIT ${limit}`;
  }

  revisionsOf(keys: readonly string[]): string {
    return `SELECT \`key\`, revision FROM ${this.table} WHERE \`key\` IN (${keys.map(text).join(', ')})`;
  }

  remove(keys: readonly string[]): string {
    return `DELETE FROM ${this.table} WHERE \`key\` IN (${keys.map(text).join(', ')})`;
  }

  /** Statements of a size that every server takes. */
  put(rows: readonly RowWrite[]): string[] {
    const statements: string[][] = [[]];
    let bytes = 0;
    for (const { key, value, revision } of rows) {
      bytes += value?.byteLength ?? 0;
      if (bytes > STATEMENT_BYTES && statements.at(-1)?.length !== 0) {
        statements.push([]);
        bytes = value?.byteLength ?? 0;
      }
      statements.at(-1)?.push(`(${text(key)}, ${hex(value ?? new Uint8Array(0))}, ${revision})`);
    }
    return statements.map(
      (values) => `INSERT INTO ${this.table} (\`key\`, value, revision) VALUES ${values.join(', ')}
        ON DUPLICATE KEY UPDATE value = VALUES(value), revision = VALUES(revision)`,
    );
  }
}

function hex(bytes: Uint8Array): string {
  return `X'${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')}'`;
}

function text(key: string): string {
  return `_ascii ${hex(Buffer.from(key, 'latin1'))}`;
}
