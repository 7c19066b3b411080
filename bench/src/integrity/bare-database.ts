import { randomBytes } from 'node:crypto';
import Database from 'better-sqlite3';

export interface BareDatabase {
  puts(times: number): void;
  close(): void;
}

/** One table and one durable commit a put, with nothing around it. */
export function bareDatabase(file: string): BareDatabase {
  const database = new Database(file);
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = FULL');
  database.exec('CREATE TABLE bare (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)');
  const upsert = database.prepare(
    'INSERT INTO bare (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
  );
  const put = database.transaction((key: string, value: Uint8Array) => void upsert.run(key, value));
  return {
    puts(times) {
      for (let count = 0; count < times; count += 1) put(`secret-${count % 64}`, randomBytes(371));
    },
    close: () => database.close(),
  };
}
