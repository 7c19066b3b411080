import { setTimeout as delay } from 'node:timers/promises';

/** Looks again and again until `condition` holds. Throws when it does not within the limit. */
export async function eventually(
  what: string,
  condition: () => Promise<boolean> | boolean,
  limitMs = 20_000,
): Promise<void> {
  const deadline = Date.now() + limitMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`It did not come about within ${limitMs} ms: ${what}`);
    await delay(20);
  }
}
