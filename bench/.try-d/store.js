import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { sqliteStore } from '@nestjs-secrets/typeorm';
import Database from 'better-sqlite3';
import { compare } from './row.js';
const ROUNDS = 15;
const PUTS = 416;
const CALLERS = 32;
const KEYS = Array.from({ length: 100 }, (_, index) => `versions/MyDbCreds/${String(index).padStart(4, '0')}`);
/** About what a sealed pair of credentials takes. */
const VALUE = randomBytes(600);
/** Durable puts through the store port on SQLite, against bare commits of better-sqlite3 that are as durable. */
export async function benchStore() {
    const folder = await mkdtemp(path.join(tmpdir(), 'nestjs-secrets-bench-'));
    const database = bareDatabase(path.join(folder, 'bare.sqlite'));
    const store = sqliteStore({ path: path.join(folder, 'store.sqlite') });
    await store.open();
    try {
        const bare = () => rate(database.puts);
        const ported = async () => rateOf(() => puts(store, PUTS));
        const concurrent = async () => rateOf(() => Promise.all(Array.from({ length: CALLERS }, () => puts(store, PUTS / CALLERS))));
        await ported();
        bare();
        return [
            await compare('store: durable put, one caller', 'put/s', ROUNDS, ported, bare),
            await compare(`store: durable put, ${CALLERS} callers`, 'put/s', ROUNDS, concurrent, bare),
        ];
    }
    finally {
        await store.close();
        database.close();
        await rm(folder, { recursive: true });
    }
}
async function puts(store, times) {
    for (let count = 0; count < times; count++) {
        await store.commit({ conditions: [], writes: [{ key: keyOf(count), value: VALUE }] });
    }
}
function bareDatabase(file) {
    const database = new Database(file);
    database.pragma('journal_mode = WAL');
    database.pragma('synchronous = FULL');
    database.exec('CREATE TABLE bare (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)');
    const upsert = database.prepare('INSERT INTO bare (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value');
    const put = database.transaction((key) => void upsert.run(key, VALUE));
    return {
        puts: () => {
            for (let count = 0; count < PUTS; count++)
                put(keyOf(count));
        },
        close: () => database.close(),
    };
}
function keyOf(count) {
    return KEYS[count % KEYS.length] ?? '';
}
function rate(work) {
    const start = performance.now();
    work();
    return perSecond(start);
}
async function rateOf(work) {
    const start = performance.now();
    await work();
    return perSecond(start);
}
function perSecond(start) {
    return (PUTS * 1000) / (performance.now() - start);
}
