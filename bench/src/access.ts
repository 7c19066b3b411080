import { createMongoAbility, subject } from '@casl/ability';
import {
  memoryStore,
  PolicyStore,
  principalOf,
  secretResource,
  systemClock,
  type IdentityPolicy,
  type PolicyStatement,
} from '@nestjs-secrets/core';
import { newEnforcer, newModelFromString, StringAdapter } from 'casbin';
import { compare, type Row } from './row.js';

const ROUNDS = 9;
const SIZES = [10, 1000];
const ASKER = principalOf('application', 'orders');
const REQUESTS = 512;

/** Patterns of secrets, by number; all policies are attached to the one who asks, so that none can be left out for that. */
interface Shape {
  readonly title: string;
  pattern(index: number): string;
  name(index: number): string;
}

const SHAPES: readonly Shape[] = [
  { title: 'one folder each', pattern: (index) => `team-${index}/*`, name: (index) => `team-${index}/db` },
  { title: 'wildcard first', pattern: (index) => `*/db-${index}`, name: (index) => `team/db-${index}` },
  // Nothing before the first or after the last wildcard tells one policy from another.
  { title: 'wildcards around', pattern: (index) => `*/db-${index}-*`, name: (index) => `team/db-${index}-a` },
];

/** One side: decides the requests of a round and says how many were allowed. */
type Decide = (request: number) => boolean;

/** A decision over as many policies, each with an allow, the last with a deny, against CASL and casbin with the same rules. */
export async function benchAccess(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const size of SIZES) for (const shape of SHAPES) rows.push(...(await benchSize(size, shape)));
  return rows;
}

async function benchSize(size: number, shape: Shape): Promise<Row[]> {
  // Three of four are allowed, one meets no statement.
  const names = Array.from({ length: REQUESTS }, (_, request) =>
    request % 4 === 3 ? `elsewhere-${request}` : shape.name((request * 7919) % (size - 1)),
  );
  const ours = microseconds(await withPolicies(size, shape, names), 40_000);
  const casl = microseconds(withCasl(size, shape, names), size > 100 ? 2_000 : 40_000);
  const casbin = microseconds(await withCasbin(size, shape, names), size > 100 ? 8 : 1_000);
  // Unmeasured rounds, for the compiler.
  for (let round = 0; round < 2; round += 1) for (const warmUp of [ours, casl, casbin]) warmUp();
  const title = `access: ${size} policies, ${shape.title}, against`;
  return [
    await compare(`${title} CASL`, 'µs', ROUNDS, ours, casl),
    await compare(`${title} casbin`, 'µs', ROUNDS, ours, casbin),
  ];
}

async function withPolicies(size: number, shape: Shape, names: readonly string[]): Promise<Decide> {
  const builtIn = Array.from({ length: size }, (_, index): IdentityPolicy => {
    const Resource = `secret/${shape.pattern(index)}`;
    const deny: PolicyStatement = { Effect: 'Deny', Action: 'secrets:*', Resource };
    const allow: PolicyStatement = {
      Effect: 'Allow',
      Action: ['secrets:GetSecretValue', 'secrets:Describe*'],
      Resource,
    };
    const document = { Version: '1', Statement: [index === size - 1 ? deny : allow] } as const;
    return { name: `policy-${index}`, principals: ['application/orders'], document };
  });
  const store = memoryStore();
  await store.open();
  const seal = {
    seal: async (_key: string, bytes: Uint8Array) => bytes,
    open: async (_key: string, bytes: Uint8Array) => bytes,
  };
  const policies = new PolicyStore({ store, seal, clock: systemClock, own: () => false, builtIn });
  await policies.open();
  policies.close();
  const facts = { tags: {} };
  return (request) => {
    const resource = secretResource(names[request % REQUESTS] ?? '', facts);
    const context = { time: systemClock.now(), operation: 'getSecretValue', stage: 'current' };
    return policies.decide(ASKER, 'secrets:GetSecretValue', resource, context).allowed;
  };
}

function withCasl(size: number, shape: Shape, names: readonly string[]): Decide {
  const ability = createMongoAbility(
    Array.from({ length: size }, (_, index) => ({
      action: ['GetSecretValue', 'DescribeSecret'],
      subject: 'Secret',
      inverted: index === size - 1,
      conditions: { name: { $regex: `^${shape.pattern(index).replaceAll('*', '.*')}$` } },
    })),
  );
  return (request) => ability.can('GetSecretValue', subject('Secret', { name: names[request % REQUESTS] ?? '' }));
}

const CASBIN_MODEL = `
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = r.sub == p.sub && r.act == p.act && globMatch(r.obj, p.obj)
`;

async function withCasbin(size: number, shape: Shape, names: readonly string[]): Promise<Decide> {
  const rules = Array.from({ length: size }, (_, index) => {
    const effect = index === size - 1 ? 'deny' : 'allow';
    // Its globMatch takes a leading `*/` for a leading slash.
    return `p, ${ASKER.id}, ${shape.pattern(index).replace(/^\*\//, '**/')}, GetSecretValue, ${effect}`;
  });
  const enforcer = await newEnforcer(newModelFromString(CASBIN_MODEL), new StringAdapter(rules.join('\n')));
  return (request) => enforcer.enforceSync(ASKER.id, names[request % REQUESTS] ?? '', 'GetSecretValue');
}

function microseconds(decide: Decide, times: number): () => number {
  return () => {
    let allowed = 0;
    const start = process.hrtime.bigint();
    for (let request = 0; request < times; request += 1) if (decide(request)) allowed += 1;
    const elapsed = Number(process.hrtime.bigint() - start) / 1000 / times;
    // All sides must have decided alike, or they were not given the same work.
    if (allowed !== expected(times)) throw new Error(`${allowed} of ${times} were allowed, not ${expected(times)}`);
    return elapsed;
  };
}

function expected(times: number): number {
  let allowed = 0;
  for (let request = 0; request < times; request += 1) if ((request % REQUESTS) % 4 !== 3) allowed += 1;
  return allowed;
}
