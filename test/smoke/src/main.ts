// Plain Node: node main.js <golden vectors>
import { runApplication } from './application.js';
import { runBackups } from './backups.js';
import { runCompanions } from './companions.js';
import { openGoldenVectors } from './golden-vectors.js';

async function main(): Promise<void> {
  await runApplication();
  await runCompanions();
  await runBackups();
  console.log(`smoke passed, ${await openGoldenVectors(process.argv[2] ?? '')} golden vectors opened`);
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
