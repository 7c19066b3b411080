// Changes the stored bytes of a secrets store at random: `npm run fuzz:store -- --mutations N [--seed S] [--json FILE]`. docs/integrity.md says what must come of it.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { fuzzStore } from '@nestjs-secrets/testing';

const { values: options } = parseArgs({
  options: {
    mutations: { type: 'string', default: '20000' },
    seed: { type: 'string', default: '1' },
    json: { type: 'string' },
  },
});

const wholeNumber = (name, least) => {
  const number = Number(options[name]);
  if (Number.isSafeInteger(number) && number >= least) return number;
  console.error(`--${name} takes a whole number from ${least}, not ${JSON.stringify(options[name])}.`);
  return process.exit(2);
};

const [mutations, seed] = [wholeNumber('mutations', 1), wholeNumber('seed', 0)];
const startedAt = Date.now();
let toldAt = startedAt;
const report = await fuzzStore({
  mutations,
  seed,
  onProgress: (done) => {
    if (Date.now() - toldAt < 10_000) return;
    toldAt = Date.now();
    console.log(`${done} of ${mutations} mutations`);
  },
});
for (const { mutation, what, came } of report.failures) console.log(`mutation ${mutation}, ${what}: ${came}`);
const { wrongValues, crashes, wedged, noticed } = report;
console.log(
  `${mutations} mutations in ${Math.round((Date.now() - startedAt) / 1000)} s: ${wrongValues} wrong values, ${crashes} crashes, ${wedged} wedged; ${noticed} were noticed by who looked`,
);
if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(report, undefined, 2)}\n`);
process.exitCode = wrongValues + crashes + wedged > 0 ? 1 : 0;
