// Runs simulated worlds in worker processes: `npm run simulate -- --schedules N [--seed S] [--json FILE] [--workers W] [--beyond]`, or one
// of them in words: `npm run simulate -- --seed S --schedules 1 --verbose [--mutation 'no fencing']`. docs/testing.md says what a world is.
import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MUTATIONS, runWorld, simulate } from '@nestjs-secrets/testing';

/** So many worlds a worker is given at a time: some seconds of work. */
const BATCH = 1_000;
const SHOWN_SEEDS = 20;

const { values: options } = parseArgs({
  options: {
    schedules: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '1' },
    json: { type: 'string' },
    workers: { type: 'string', default: String(availableParallelism()) },
    beyond: { type: 'boolean', default: false },
    mutation: { type: 'string' },
    verbose: { type: 'boolean', default: false },
    worker: { type: 'boolean', default: false },
  },
});

const wholeNumber = (name, least) => {
  const number = Number(options[name]);
  if (Number.isSafeInteger(number) && number >= least) return number;
  console.error(`--${name} takes a whole number from ${least}, not ${JSON.stringify(options[name])}.`);
  return process.exit(2);
};

const world = { assumptions: options.beyond ? 'beyond' : 'within', mutation: options.mutation };
if (world.mutation !== undefined && !MUTATIONS.includes(world.mutation)) {
  console.error(`--mutation takes one of: ${MUTATIONS.join(', ')}.`);
  process.exit(2);
}

const replay = (seed) => {
  const more = `${options.beyond ? ' --beyond' : ''}${world.mutation ? ` --mutation '${world.mutation}'` : ''}`;
  return `npm run simulate -- --seed ${seed} --schedules 1 --verbose${more}`;
};

/** Runs the batches the parent sends. */
const work = () => {
  process.on('message', ({ seed, schedules }) => {
    simulate({ ...world, seed, schedules }).then(
      ({ events, seeds, violations, failures }) =>
        process.send({ events, seeds, violations, first: failures.map(({ violations: [first] }) => first) }),
      (error) => {
        console.error(`A world of the seeds ${seed} to ${seed + schedules - 1} broke the simulation itself:`, error);
        process.exit(1);
      },
    );
  });
};

const report = { schedules: 0, violations: 0, seeds: [], events: 0 };

const tellOf = (seed, { invariant, what }) => {
  if (report.seeds.length > SHOWN_SEEDS) return;
  console.log(`seed ${seed}: ${invariant}: ${what}\n  ${replay(seed)}`);
};

const runAll = async (schedules, firstSeed, workers) => {
  const startedAt = Date.now();
  let next = 0;
  const line = () => {
    const seconds = (Date.now() - startedAt) / 1000;
    const rate = Math.round(report.schedules / Math.max(seconds, 0.001));
    return `${report.schedules} of ${schedules} schedules, ${report.events} events, ${report.seeds.length} with a violation, ${rate} a second`;
  };
  const progress = setInterval(() => console.log(line()), 10_000);
  const runOne = () =>
    new Promise((resolve, reject) => {
      const child = fork(fileURLToPath(import.meta.url), [...process.argv.slice(2), '--worker']);
      let given = 0;
      const give = () => {
        if (next >= schedules) return child.disconnect();
        given = Math.min(BATCH, schedules - next);
        child.send({ seed: firstSeed + next, schedules: given });
        next += given;
      };
      child.on('message', ({ events, seeds, violations, first }) => {
        report.schedules += given;
        report.events += events;
        report.violations += violations;
        seeds.forEach((seed, index) => {
          report.seeds.push(seed);
          tellOf(seed, first[index]);
        });
        give();
      });
      child.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`a worker ended with code ${code}`))));
      child.on('error', reject);
      give();
    });
  try {
    await Promise.all(Array.from({ length: Math.min(workers, Math.ceil(schedules / BATCH)) }, runOne));
  } finally {
    clearInterval(progress);
  }
  report.seeds.sort((one, other) => one - other);
  console.log(line());
};

const runVerbosely = async (seed) => {
  const { violations, events } = await runWorld(seed, { ...world, onTrace: (line) => console.log(line) });
  for (const { invariant, what, event } of violations)
    console.log(`violated after event ${event}: ${invariant}: ${what}`);
  Object.assign(report, {
    schedules: 1,
    violations: violations.length,
    seeds: violations.length > 0 ? [seed] : [],
    events,
  });
};

if (options.worker) work();
else {
  const [schedules, seed, workers] = [wholeNumber('schedules', 1), wholeNumber('seed', 0), wholeNumber('workers', 1)];
  if (options.verbose && schedules === 1) await runVerbosely(seed);
  else await runAll(schedules, seed, workers);
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(report, undefined, 2)}\n`);
  process.exitCode = report.violations > 0 ? 1 : 0;
}
