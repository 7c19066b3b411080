import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { runChaos } from './chaos-run.js';
import { FAULTS } from './faults.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    processes: { type: 'string', default: '5' },
    seed: { type: 'string' },
    faults: { type: 'string' },
    lease: { type: 'string', default: '2000' },
    json: { type: 'string' },
    history: { type: 'string' },
  },
});

async function main(): Promise<void> {
  const faults = values.faults?.split(',');
  const unknown = faults?.filter((name) => !FAULTS.has(name)) ?? [];
  if (unknown.length > 0) {
    process.stderr.write(`There is no fault ${unknown.join(', ')}. There are: ${[...FAULTS.keys()].join(', ')}.\n`);
    process.exitCode = 2;
    return;
  }
  const seed = Number(values.seed ?? Date.now() % 1_000_000);
  const report = await runChaos({
    seconds: Number(values.seconds),
    processes: Number(values.processes),
    seed,
    leaseMs: Number(values.lease),
    ...(faults === undefined ? {} : { faults }),
    ...(values.history === undefined ? {} : { keepHistory: lines(values.history) }),
    told: (what) => process.stderr.write(`${what}\n`),
  });
  const json = `${JSON.stringify(report, undefined, 2)}\n`;
  process.stdout.write(json);
  if (values.json !== undefined) await writeFile(values.json, json);
  if (report.violations.length > 0) process.exitCode = 1;
}

/** Writes one line of JSON for each entry. */
function lines(file: string): (entries: readonly object[]) => Promise<void> {
  return (entries) => writeFile(file, entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
}

void main();
