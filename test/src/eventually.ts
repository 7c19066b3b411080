import { setTimeout as delay } from 'node:timers/promises';

/** Waits until a condition holds, and fails with its description when it does not within ten seconds. */
export async function eventually(description: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within 10 s: ${description}`);
    await delay(5);
  }
}

export function settled<T>(promise: Promise<T>): Promise<PromiseSettledResult<T>> {
  return Promise.allSettled([promise]).then(([result]) => result);
}
