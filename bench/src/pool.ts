import { startPostgres, type PostgresServer } from 'nestjs-secrets-test/postgres-server';
import {
  light,
  loadSchema,
  moderate,
  runLoad,
  saturated,
  storedPayments,
  type LoadResult,
  type LoadShape,
} from './pool/pool-load.js';
import { startRotatingApp, type Adoption, type Strategy } from './pool/rotating-app.js';
import { watchServerConnections } from './pool/server-connections.js';
import { median, type Row } from './row.js';

const POOL_SIZE = 10;

export interface PoolBenchOptions {
  /** Seconds of load a run. */
  readonly seconds: number;
  readonly rounds: number;
  /** Only the ways whose name contains this. */
  readonly way: string | undefined;
  /** Only this load: moderate, saturated or light. Without it, the first two. */
  readonly shape: string | undefined;
}

interface Way {
  readonly name: string;
  readonly adoption: Adoption;
  readonly strategy: Strategy;
}

interface RotatingWay extends Way {
  readonly rotateEveryMs: number;
}

type Run = LoadResult & { readonly rotations: number; readonly mostConnections: number };

const NONE: Way = { name: 'no rotation', adoption: 'live', strategy: 'alternating-users' };
const WAYS: readonly RotatingWay[] = [
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

const SHAPES: ReadonlyMap<string, LoadShape> = new Map([
  ['moderate', moderate],
  ['light', light],
  ['saturated', saturated],
]);

/** The loads of a rotating application against the same application without rotation, and against what people do today. */
export async function benchPool({ seconds, rounds, way, shape }: PoolBenchOptions): Promise<Row[]> {
  const ways = WAYS.filter(({ name }) => name.includes(way ?? ''));
  const shapes = [...SHAPES].filter(([name]) => (shape === undefined ? name !== 'light' : name === shape));
  const server = await startPostgres({ settings: { max_connections: '200' } });
  try {
    for (const statement of loadSchema) await server.query(statement);
    // Unmeasured: the first load meets cold caches, in the server and here.
    await measure(server, NONE, moderate, 3);
    const rows: Row[] = [];
    for (const [name, load] of shapes) rows.push(...(await benchShape(server, name, load, seconds, rounds, ways)));
    return rows;
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
  ways: readonly RotatingWay[],
): Promise<Row[]> {
  const runs = new Map<Way | RotatingWay, Run[]>([NONE, ...ways].map((way) => [way, []]));
  for (let round = 0; round < rounds; round += 1) {
    for (const [way, results] of runs) results.push(await measure(server, way, shape, seconds));
  }
  const none = runs.get(NONE) ?? [];
  const rows: Row[] = [];
  for (const way of ways) {
    const these = runs.get(way) ?? [];
    const push = (what: string, unit: string, value: number, baseline: number): void => {
      rows.push({ name: `pool, ${label}, ${way.name}: ${what}`, value, baseline, ratio: value / baseline, unit });
    };
    const against = (what: string, unit: string, figure: (run: Run) => number): void =>
      push(what, unit, median(these.map(figure)), median(none.map(figure)));
    const sum = (figure: (run: Run) => number): number => these.reduce((total, run) => total + figure(run), 0);
    const operations = sum((run) => run.operations);
    against('operations against no rotation', '1/s', (run) => run.operations / seconds);
    against('p99 of short queries against no rotation', 'ms', (run) => run.shortQueryP99Ms);
    push(
      'failed, of operations',
      '',
      sum((run) => run.failed),
      operations,
    );
    push(
      'hung, of operations',
      '',
      sum((run) => run.hung),
      operations,
    );
    push(
      'acknowledged writes lost, of operations',
      '',
      sum((run) => run.lostWrites),
      operations,
    );
    push(
      '2 s transactions finished, of those begun',
      '',
      sum((run) => run.longTransactionsFinished),
      sum((run) => run.longTransactionsStarted),
    );
    push(
      'most server connections, of the pool size',
      '',
      Math.max(...these.map((run) => run.mostConnections)),
      POOL_SIZE,
    );
    push(
      'rotations, of those due',
      '',
      sum((run) => run.rotations),
      (rounds * seconds * 1000) / way.rotateEveryMs,
    );
  }
  return rows;
}

async function measure(server: PostgresServer, way: Way, shape: LoadShape, seconds: number): Promise<Run> {
  const applicationName = `bench ${way.strategy} ${way.adoption}`;
  const app = await startRotatingApp({
    server,
    rotateEveryMs: undefined,
    ...way,
    applicationName,
    poolSize: POOL_SIZE,
  });
  const connections = await watchServerConnections(server, applicationName);
  try {
    const result = await runLoad(app.target, shape, { seconds, storedPayments: storedPayments(server) });
    console.log(
      `  ${way.name}: ${JSON.stringify({ ...result, rotations: app.rotations, mostConnections: connections.most })}`,
    );
    return { ...result, rotations: app.rotations, mostConnections: connections.most };
  } finally {
    await app.stopRotating();
    await connections.stop();
    await app.close();
  }
}
