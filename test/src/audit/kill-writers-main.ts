import path from 'node:path';
import { parseArgs } from 'node:util';
import { killWriters } from './kill-writers.js';

// node test/dist/audit/kill-writers-main.js --kills 1000
const { values } = parseArgs({ options: { kills: { type: 'string', default: '1000' } } });
const script = path.join(path.dirname(process.argv[1] ?? ''), 'audit-child.js');
const report = await killWriters(Number(values.kills), script, (kill) => {
  if (kill % 50 === 0) process.stderr.write(`${kill} kills\n`);
});
process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
process.exitCode = report.faults.length === 0 ? 0 : 1;
