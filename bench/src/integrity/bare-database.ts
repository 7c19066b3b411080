import { randomBytes } from 'node:crypto';
import Database from 'better-sqlite3';

export interface BareDatabase {
  /** One row a commit. */
  puts(times: number): void;
  /** As many rows a commit, and as large, as a sealed entry takes in a store of 64 secrets. */
  putsOfSealed(times: number): void;
  close(): void;
}

/** Random bytes of which each commit takes others, since SQLite writes nothing when a row stays what it was. */
const POOL = randomBytes(65_536);

/** For one writer: gives other bytes at each call, without the price of making them. */
export function freshBytes(): (length: number) => Buffer {
  let drawn = 0;
  return (length) => {
    drawn = (drawn + 997) % (POOL.length - 1024);
    return POOL.subarray(drawn, drawn + length);
  };
}

/** The entry with its seal, a node of the manifest, its top behind a copy of the root, the root, and the revision of the store. */
function sealedRows(count: number): [key: string, bytes: number][] {
  const at = count % 64;
  return [
    [`value/secret-${at}`, 397],
    [`node/${at % 32}`, 761],
    ['top', 601],
    ['root', 62],
    ['revision', 8],
  ];
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
  const fresh = freshBytes();
  const put = database.transaction((count: number) => void upsert.run(`secret-${count % 64}`, fresh(371)));
  const putSealed = database.transaction((count: number) => {
    for (const [key, bytes] of sealedRows(count)) upsert.run(key, fresh(bytes));
  });
  return {
    puts(times) {
      for (let count = 0; count < times; count += 1) put(count);
    },
    putsOfSealed(times) {
      for (let count = 0; count < times; count += 1) putSealed(count);
    },
    close: () => database.close(),
  };
}
