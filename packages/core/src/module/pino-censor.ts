import type { LogCensor } from '../foundation/log-censor.js';

/** The part of pino's options (9.7 and later) that `pinoCensor` gives. */
export interface PinoCensorOptions {
  readonly hooks: { readonly streamWrite: (line: string) => string };
}

/**
 * Options for pino that blot live secret values out of each finished line, whatever they came in with: message, objects, bindings of a child,
 * serialised errors: `pino({ ...pinoCensor(censor) })`. With hooks of your own: `hooks: { ...yours, ...pinoCensor(censor).hooks }`.
 */
export function pinoCensor(censor: LogCensor): PinoCensorOptions {
  return { hooks: { streamWrite: (line) => censor.text(line) } };
}
