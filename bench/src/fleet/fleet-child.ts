import { getSecretToken, type Secret } from '@nestjs-secrets/core';
import pg from 'pg';
import { sharedStore, startInstance, storeAt } from './fleet-instance.js';
import { guards } from '../guards.js';
import { BARE_CHANNEL, type FleetOrder, type FleetWord, SECRET, sharedMoment } from './fleet-order.js';

/** Tells the parent when the last of `size` has come to an id. */
class Arrivals {
  readonly #counts = new Map<string, number>();

  constructor(
    private readonly type: 'version' | 'bare',
    private readonly size: number,
  ) {}

  arrived(id: string): void {
    const count = (this.#counts.get(id) ?? 0) + 1;
    this.#counts.set(id, count);
    if (count < this.size) return;
    this.#counts.delete(id);
    tell({ type: this.type, id, at: sharedMoment() });
  }
}

function tell(word: FleetWord): void {
  process.send?.(word);
}

async function startBareClient({ store }: FleetOrder, arrivals: Arrivals): Promise<void> {
  const client = new pg.Client({ ...store, user: store.username });
  client.on('error', () => undefined);
  await client.connect();
  client.on('notification', ({ payload = '' }) => {
    void client.query('SELECT value FROM bare WHERE id = 1').then(() => arrivals.arrived(payload));
  });
  await client.query(`LISTEN ${BARE_CHANNEL}`);
}

async function run(order: FleetOrder): Promise<void> {
  const versions = new Arrivals('version', order.instances);
  const store = storeAt(order.store);
  await store.open();
  const guarded = order.guards === undefined ? {} : guards(order.guards, SECRET);
  for (let index = 0; index < order.instances; index += 1) {
    const { app, definition } = await startInstance(order.keys, sharedStore(store), false, guarded);
    const secret = app.get<Secret<string>>(getSecretToken(definition), { strict: false });
    secret.changes$.subscribe(({ versionId }) => versions.arrived(versionId));
  }
  const bare = new Arrivals('bare', order.bareClients);
  for (let index = 0; index < order.bareClients; index += 1) await startBareClient(order, bare);
  tell({ type: 'ready' });
}

// Without its parent nobody would end it.
process.once('disconnect', () => process.exit(0));
await run(JSON.parse(process.argv[2] ?? ''));
