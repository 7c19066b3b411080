import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { benchAccess } from './access.js';
import { benchAudit } from './audit.js';
import { benchBackup } from './backup.js';
import { benchDoors } from './doors.js';
import { benchEnvelope } from './envelope.js';
import { benchFleet } from './fleet.js';
import { benchGuarded } from './guarded.js';
import { benchIntegrity } from './integrity.js';
import { benchPool } from './pool.js';
import { benchRead } from './read.js';
import type { Row } from './row.js';
import { benchRollback } from './rollback.js';
import { benchRewrap } from './rewrap.js';
import { benchSchedule } from './schedule.js';
import { runWithSlowSync, syncFloorUs } from './slow-sync.js';
import { benchSoak } from './soak.js';
import { benchStore } from './store.js';
import { benchStores } from './stores.js';
import { benchVerify } from './verify.js';

/** Each benchmark with whether a plain `npm run bench` runs it. */
const BENCHMARKS = new Map<string, { readonly byDefault: boolean; run(options: Options): Promise<Row[]> }>([
  ['read', { byDefault: true, run: () => benchRead() }],
  ['envelope', { byDefault: true, run: () => benchEnvelope() }],
  ['access', { byDefault: true, run: () => benchAccess() }],
  ['audit', { byDefault: true, run: () => benchAudit() }],
  ['rewrap', { byDefault: true, run: () => benchRewrap() }],
  ['doors', { byDefault: true, run: () => benchDoors() }],
  ['guarded', { byDefault: true, run: (options) => benchGuarded(options) }],
  ['store', { byDefault: true, run: () => benchStore() }],
  ['integrity', { byDefault: true, run: ({ secrets }) => benchIntegrity({ secrets }) }],
  ['backup', { byDefault: true, run: ({ secrets }) => benchBackup({ secrets: Math.min(secrets, 10_000) }) }],
  ['stores', { byDefault: true, run: () => benchStores() }],
  ['pool', { byDefault: true, run: (options) => benchPool(options) }],
  ['fleet', { byDefault: true, run: ({ promotions }) => benchFleet({ promotions }) }],
  ['rollback', { byDefault: true, run: ({ rollbacks }) => benchRollback({ rollbacks }) }],
  ['schedule', { byDefault: true, run: ({ seconds }) => benchSchedule({ seconds }) }],
  ['verify', { byDefault: false, run: ({ events }) => benchVerify({ events }) }],
  ['soak', { byDefault: false, run: ({ rotations, strategy }) => benchSoak({ rotations, strategy }) }],
]);

interface Options {
  readonly rotations: number;
  readonly promotions: number;
  readonly rollbacks: number;
  readonly seconds: number;
  readonly secrets: number;
  readonly events: number;
  readonly rounds: number;
  readonly way: string | undefined;
  readonly shape: string | undefined;
  readonly strategy: 'alternating-users' | 'single-user' | undefined;
}

const { values } = parseArgs({
  options: {
    json: { type: 'string' },
    only: { type: 'string' },
    rotations: { type: 'string', default: '1000' },
    promotions: { type: 'string', default: '100' },
    rollbacks: { type: 'string', default: '20' },
    seconds: { type: 'string', default: '15' },
    secrets: { type: 'string', default: '100000' },
    events: { type: 'string', default: '1000000' },
    rounds: { type: 'string', default: '3' },
    strategy: { type: 'string' },
    way: { type: 'string' },
    shape: { type: 'string' },
    'sync-us': { type: 'string' },
  },
});

const wantedFloorUs = values['sync-us'];
if (wantedFloorUs !== undefined && syncFloorUs() === undefined) runWithSlowSync(Number(wantedFloorUs));

const chosen = [...BENCHMARKS].filter(([name, { byDefault }]) =>
  values.only === undefined ? byDefault : values.only === name,
);
if (chosen.length === 0) {
  console.error(`There is no benchmark ${values.only}. There are: ${[...BENCHMARKS.keys()].join(', ')}.`);
  process.exit(2);
}
const options: Options = {
  rotations: Number(values.rotations),
  promotions: Number(values.promotions),
  rollbacks: Number(values.rollbacks),
  seconds: Number(values.seconds),
  secrets: Number(values.secrets),
  events: Number(values.events),
  rounds: Number(values.rounds),
  way: values.way,
  shape: values.shape,
  strategy: values.strategy === 'single-user' || values.strategy === 'alternating-users' ? values.strategy : undefined,
};

console.log(
  `node ${process.version}, ${cpus().length} × ${cpus()[0]?.model ?? 'unknown'}; medians of interleaved rounds${
    syncFloorUs() === undefined ? '' : `; a sync takes ${syncFloorUs()} µs at least`
  }\n`,
);
const rows: Row[] = [];
for (const [name, benchmark] of chosen) {
  console.log(`${name} …`);
  for (const row of await benchmark.run(options)) {
    rows.push(row);
    console.log(
      `  ${row.name.padEnd(58)} ${figure(row.value)} against ${figure(row.baseline)} ${row.unit.padEnd(6)} ratio ${figure(row.ratio)}`,
    );
  }
}
if (values.json !== undefined) await writeFile(values.json, `${JSON.stringify(rows, undefined, 2)}\n`);

function figure(value: number): string {
  if (Number.isInteger(value)) return String(value);
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
