// `npm run demo`: MyApp under load three times, without rotation, with rotation, and with rotation as people do it today.
import { writeFile } from 'node:fs/promises';
import { parseDemoOptions, usage, type DemoOptions } from './demo-options.js';
import { brokenPromises, demoReport, printedReport } from './demo-report.js';
import { demoRun } from './demo-run.js';
import { Progress } from './progress.js';

async function main(options: DemoOptions, signal: AbortSignal): Promise<number> {
  const progress = new Progress(process.stdout);
  console.log(
    'MyApp, three times: without rotation, with this module, and with destroy() + initialize() at each rotation.\n',
  );
  const baseline = await demoRun('baseline', options, progress, signal);
  const live = await demoRun('live', options, progress, signal);
  const naive = await demoRun('naive', options, progress, signal);
  const runs = { baseline, live, naive };
  console.log(`\n${printedReport(runs, options)}`);
  if (options.jsonFile !== undefined)
    await writeFile(options.jsonFile, `${JSON.stringify(demoReport(runs), null, 2)}\n`);
  const broken = brokenPromises(live);
  for (const sentence of broken) console.error(`\n${sentence}`);
  if (broken.length > 0)
    console.error([...live.failures].map(([message, count]) => `${count}× ${message}`).join('\n'), live.appOutput);
  return broken.length > 0 ? 1 : 0;
}

const interrupt = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupt.abort());
try {
  const options = parseDemoOptions(process.argv.slice(2));
  if (options === 'help') console.log(usage);
  else process.exitCode = await main(options, interrupt.signal);
} catch (error) {
  process.exitCode = interrupt.signal.aborted ? 130 : 1;
  if (!interrupt.signal.aborted) console.error(error instanceof Error ? error.message : error);
}
