import { inspect } from 'node:util';

/** Writes a thing to stdout in every way in which things get into logs. */
export function show(what: string, thing: unknown): void {
  const forms = [
    inspect(thing, { depth: 10, showHidden: true, maxArrayLength: null, maxStringLength: null }),
    asJson(thing),
    String(thing),
    ...(thing instanceof Error ? [thing.stack, inspect(thing.cause, { depth: 10, showHidden: true })] : []),
  ];
  process.stdout.write(`${what}: ${forms.join('\n')}\n`);
}

/** The same, and past what a thing has to say of itself. */
export function showBare(what: string, thing: object): void {
  show(what, thing);
  show(`${what}, bare`, inspect(thing, { depth: 4, showHidden: true, customInspect: false, maxStringLength: null }));
  show(`${what}, spread`, { ...thing });
}

/** Waits for what must fail and shows its error. */
export async function showFailure(what: string, attempt: () => unknown): Promise<void> {
  let outcome: unknown;
  try {
    outcome = await attempt();
  } catch (error) {
    show(what, error);
    return;
  }
  show(what, outcome);
  throw new Error(`${what}: this was expected to fail`);
}

function asJson(thing: unknown): string {
  const seen = new Set<unknown>();
  const once = (_key: string, value: unknown): unknown => {
    if (typeof value === 'bigint') return String(value);
    if (typeof value !== 'object' || value === null) return value;
    if (seen.has(value)) return undefined;
    seen.add(value);
    return value;
  };
  return JSON.stringify(thing, once) ?? 'undefined';
}
