import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { killWriters } from './kill-writers.js';

// npm run kill-writers -- --kills 1000 --json FILE
const { values } = parseArgs({
  options: { kills: { type: 'string', default: '1000' }, json: { type: 'string' } },
});
const script = path.join(path.dirname(process.argv[1] ?? ''), 'audit-child.js');
const report = await killWriters(Number(values.kills), script, (kill) => {
  if (kill % 50 === 0) process.stderr.write(`${kill} kills\n`);
});
const json = `${JSON.stringify(report, undefined, 2)}\n`;
process.stdout.write(json);
if (values.json !== undefined) await writeFile(values.json, json);
process.exitCode = report.faults.length === 0 ? 0 : 1;
