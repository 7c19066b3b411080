import type { StoreWrite } from './store-driver.js';

/**
 * One empty entry for each thing that will be due, ordered by its time: what comes next costs one look, however much is stored. The entry is written in the
 * same commit as the record that it belongs to, and the record decides: an entry that came too early, or twice, does nothing.
 */
export const DUE_PREFIX = 'due/';

/** As many digits as the milliseconds of the year 5138 have, so that texts sort as the numbers do. */
const DIGITS = 14;
const LATEST = 10 ** DIGITS - 1;

/** What is due when; `what` is a secret's name, or `cmk:` and the id of a master key. */
export interface DueEntry {
  readonly at: number;
  readonly what: string;
}

export function dueKey({ at, what }: DueEntry): string {
  const time = Math.min(LATEST, Math.max(0, Math.floor(at)));
  return `${DUE_PREFIX}${String(time).padStart(DIGITS, '0')}:${what}`;
}

/** Undefined for a key that is no such entry. */
export function parseDueKey(key: string): DueEntry | undefined {
  const match = new RegExp(`^${DUE_PREFIX}(\\d{${DIGITS}}):(.+)$`).exec(key);
  const [, time, what] = match ?? [];
  return time === undefined || what === undefined ? undefined : { at: Number(time), what };
}

/** Moves the entry of something from one time to another; undefined where there is none. */
export function dueWrites(what: string, before: number | undefined, after: number | undefined): StoreWrite[] {
  const from = before === undefined ? undefined : dueKey({ at: before, what });
  const to = after === undefined ? undefined : dueKey({ at: after, what });
  if (from === to) return [];
  return [
    ...(from === undefined ? [] : [{ key: from, value: null }]),
    ...(to === undefined ? [] : [{ key: to, value: Buffer.alloc(0) }]),
  ];
}
