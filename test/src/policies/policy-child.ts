import {
  type Decision,
  isSecretsError,
  localKeyFile,
  principalOf,
  secretResource,
  SecretsRuntime,
  systemClock,
} from '@nestjs-secrets/core';
import { sqlStore } from '@nestjs-secrets/typeorm';
import { DataSource } from 'typeorm';
import { type PolicyMessage, type PolicyOrder, type PolicyQuestion, SECRETS, turnPolicy } from './policy-order.js';

const READER = principalOf('remote', 'reader');
const OPERATOR = principalOf('operator', 'admin');
const FACTS = { tags: {} };

/** Reads under policies that change, and decides about both secrets in one breath, until it is told to stop. */
async function run(order: PolicyOrder): Promise<void> {
  const { server, admin, keys, audit, workers } = order;
  const runtime = await SecretsRuntime.start(
    {
      // On a machine that is busy with other things a connection may take long; that is not what is tested.
      store: sqlStore(new DataSource({ type: 'postgres', ...server, ...admin }), { answerWithinMs: 30_000 }),
      keys: localKeyFile({ path: keys }),
      principal: 'turns',
      audit: { folder: audit },
      policies: {
        // Only a hint can bring a change in time.
        refreshIntervalMs: 3_600_000,
        maxStalenessMs: 7_200_000,
        builtIn: [
          {
            name: 'own',
            principals: ['application/turns', OPERATOR.id],
            document: { Version: '1', Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }] },
          },
        ],
      },
    },
    { set: (_name, delayMs, task) => systemClock.after(delayMs, task) },
  );
  const { own } = runtime;
  if (own === undefined) throw new Error('no manager');
  for (const name of SECRETS) await own.manager.ensureSecret({ name, initial: async () => name });
  const reader = own.manager.as(READER);
  const faults: string[] = [];
  let [allowed, denied, pairs, seen] = [0, 0, 0, -1];
  let isRunning = true;

  const generationOf = ({ statements }: Decision): number => Number(statements[0]?.sid?.split('-')[1] ?? Number.NaN);

  /** One breath: nothing can come between the two. */
  const decideBoth = (): void => {
    const [even, odd] = SECRETS.map((name) =>
      own.policies.decide(READER, 'secrets:GetSecretValue', secretResource(name, FACTS), { time: Date.now() }),
    );
    if (even === undefined || odd === undefined) return;
    pairs += 1;
    const [one, other] = [generationOf(even), generationOf(odd)];
    const isWhole = one === other && even.allowed === (one % 2 === 0) && odd.allowed !== even.allowed;
    if (!isWhole) faults.push(`half of a change: ${JSON.stringify([even, odd])}`);
    if (one < seen) faults.push(`generation ${one} after ${seen}`);
    if (one > seen) {
      seen = one;
      tell({ type: 'governed', generation: one, at: Date.now() });
    }
  };

  const work = async (worker: number): Promise<void> => {
    for (let count = worker; isRunning; count += 1) {
      const name = SECRETS[count % 2] ?? SECRETS[0];
      try {
        const { value } = await reader.getSecretValue(name);
        if (value !== name) faults.push(`${name} had another value`);
        allowed += 1;
      } catch (error) {
        if (isSecretsError(error, 'ACCESS_DENIED')) denied += 1;
        else faults.push(String(error));
      }
      decideBoth();
    }
  };

  let working: Promise<unknown> = Promise.resolve();
  const answer = async (question: PolicyQuestion): Promise<void> => {
    if (question.ask === 'change') {
      await own.manager.as(OPERATOR).policies.putPolicy(turnPolicy(question.generation));
      tell({ type: 'changed', generation: question.generation, at: Date.now() });
      return;
    }
    isRunning = false;
    await working;
    await runtime.close();
    tell({ type: 'stopped', tally: { allowed, denied, pairs, faults: faults.slice(0, 20) } });
    process.disconnect();
  };
  process.on('message', (question: PolicyQuestion) => {
    answer(question).catch((error: unknown) => faults.push(String(error)));
  });
  // Before the first generation nobody may read anything, which is no half of one.
  await new Promise<void>((resolve) => {
    const look = (): void => {
      if (own.policies.getPolicy('turns') === undefined) setTimeout(look, 5);
      else resolve();
    };
    tell({ type: 'ready' });
    look();
  });
  working = Promise.all(Array.from({ length: workers }, (_, worker) => work(worker)));
}

function tell(message: PolicyMessage): void {
  process.send?.(message, undefined, undefined, () => undefined);
}

// Without its parent nobody would end it.
process.once('disconnect', () => process.exit(0));
run(JSON.parse(process.argv[2] ?? '')).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  process.exit(1);
});
