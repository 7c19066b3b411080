import { parseArgs } from 'node:util';
import { parseDuration, SHORTEST_INTERVAL_MS, type Duration } from '@nestjs-secrets/core';

export type Strategy = 'alternating-users' | 'single-user';

export interface DemoOptions {
  /** How long each of the three runs is measured. */
  readonly seconds: number;
  readonly rotateEvery: Duration;
  readonly clients: number;
  readonly strategy: Strategy;
  readonly jsonFile: string | undefined;
}

export const usage = `npm run demo -- [options]

  --seconds N         length of each of the three runs (20)
  --rotate-every D    interval between rotations, 500ms or more (500ms)
  --clients N         concurrent clients (16)
  --strategy S        alternating-users or single-user (alternating-users)
  --json FILE         write the report as JSON too`;

/** @throws Error that says which option does not fit */
export function parseDemoOptions(args: readonly string[]): DemoOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seconds: { type: 'string', default: '20' },
      'rotate-every': { type: 'string', default: '500ms' },
      clients: { type: 'string', default: '16' },
      strategy: { type: 'string', default: 'alternating-users' },
      json: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return 'help';
  const { strategy, json: jsonFile } = values;
  const rotateEvery = values['rotate-every'];
  if ((parseDuration(rotateEvery) ?? 0) < SHORTEST_INTERVAL_MS) {
    throw new Error(`--rotate-every ${rotateEvery}: give ${SHORTEST_INTERVAL_MS}ms or more, such as 500ms, 2s, 1m.`);
  }
  if (strategy !== 'alternating-users' && strategy !== 'single-user') {
    throw new Error(`--strategy ${strategy}: give alternating-users or single-user.`);
  }
  return {
    seconds: numberIn('--seconds', values.seconds, 1, 3600),
    rotateEvery: rotateEvery as Duration,
    clients: Math.trunc(numberIn('--clients', values.clients, 1, 500)),
    strategy,
    jsonFile,
  };
}

function numberIn(option: string, text: string, least: number, most: number): number {
  const number = Number(text);
  if (text.trim() === '' || !(number >= least && number <= most)) {
    throw new Error(`${option} ${text}: give a number from ${least} to ${most}.`);
  }
  return number;
}
