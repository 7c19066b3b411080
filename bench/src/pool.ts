import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import { loadSchema, moderate, runLoad, saturated, type LoadResult, type LoadShape } from './pool/pool-load.js';
import { startRotatingApp, type Adoption, type Strategy } from './pool/rotating-app.js';
import { watchServerConnections } from './pool/server-connections.js';
import { median, type Row } from './row.js';

const POOL_SIZE = 10;

export interface PoolBenchOptions {
  /** Seconds of load a run. */
  readonly seconds: number;
  readonly rounds: number;
}

interface Way {
  readonly name: string;
  readonly adoption: Adoption;
  readonly strategy: Strategy;
  readonly rotateEveryMs: number | undefined;
}

type Run = LoadResult & { readonly rotations: number; readonly mostConnections: number };

const NONE: Way = { name: 'no rotation', adoption: 'live', strategy: 'alternating-users', rotateEveryMs: undefined };
const WAYS: readonly Way[] = [
  { name: 'alternating users, each 500 ms', adoption: 'live', strategy: 'alternating-users', rotateEveryMs: 500 },
  { name: 'single user, each 500 ms', adoption: 'live', strategy: 'single-user', rotateEveryMs: 500 },
  { name: 'alternating users, each 5 s', adoption: 'live', strategy: 'alternating-users', rotateEveryMs: 5000 },
  {
    name: 'destroy()+initialize(), each 500 ms',
    adoption: 'reinitialize',
    strategy: 'alternating-users',
    rotateEveryMs: 500,
  },
];

/** The loads of a rotating application against the same application without rotation, and against what people do today. */
export async function benchPool({ seconds, rounds }: PoolBenchOptions): Promise<Row[]> {
  const server = await startPostgres({ settings: { max_connections: '200' } });
  try {
    for (const statement of loadSchema) await server.query(statement);
    // Unmeasured: the first load meets cold caches, in the server and here.
    await measure(server, NONE, moderate, 3);
    return [
      ...(await benchShape(server, 'moderate', moderate, seconds, rounds)),
      ...(await benchShape(server, 'saturated', saturated, seconds, 1)),
    ];
  } finally {
    await server.stop();
  }
}

async function benchShape(
  server: PostgresServer,
  label: string,
  shape: LoadShape,
  seconds: number,
  rounds: number,
): Promise<Row[]> {
  const runs = new Map<Way, Run[]>([NONE, ...WAYS].map((way) => [way, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const [way, results] of runs) results.push(await measure(server, way, shape, seconds));
  }
  const none = runs.get(NONE) ?? [];
  const rows: Row[] = [];
  for (const way of WAYS) {
    const these = runs.get(way) ?? [];
    const row = (what: string, unit: string, figure: (run: Run) => number): void => {
      const [value, baseline] = [median(these.map(figure)), median(none.map(figure))];
      rows.push({ name: `pool, ${label}, ${way.name}: ${what}`, value, baseline, ratio: value / baseline, unit });
    };
    const worst = (what: string, figure: (run: Run) => number): void => {
      const [value, baseline] = [Math.max(...these.map(figure)), Math.max(...none.map(figure))];
      rows.push({ name: `pool, ${label}, ${way.name}: ${what}`, value, baseline, ratio: value / baseline, unit: '' });
    };
    row('operations', '1/s', (run) => run.operations / seconds);
    row('short queries p99', 'ms', (run) => run.shortQueryP99Ms);
    worst('failed', (run) => run.failed);
    worst('hung', (run) => run.hung);
    worst('acknowledged writes lost', (run) => run.lostWrites);
    worst('server connections', (run) => run.mostConnections);
    worst('2 s transactions unfinished', (run) => run.longTransactionsStarted - run.longTransactionsFinished);
    worst('rotations', (run) => run.rotations);
  }
  return rows;
}

async function measure(server: PostgresServer, way: Way, shape: LoadShape, seconds: number): Promise<Run> {
  const applicationName = `bench ${way.strategy} ${way.adoption}`;
  const app = await startRotatingApp({ server, ...way, applicationName, poolSize: POOL_SIZE });
  const connections = await watchServerConnections(server, applicationName);
  try {
    const result = await runLoad(app.target, shape, { seconds });
    return { ...result, rotations: app.rotations, mostConnections: connections.most };
  } finally {
    await app.stopRotating();
    await connections.stop();
    await app.close();
  }
}
