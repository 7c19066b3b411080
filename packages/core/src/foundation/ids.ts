import { randomUUID } from 'node:crypto';

/** Where ids that must be unique across stores and processes come from (stores, instances, rotations). */
export interface Ids {
  /** A new id: 1–64 of `A-Z a-z 0-9 -`, never given out twice. */
  next(): string;
}

/** Random UUIDs (RFC 9562, version 4). */
export const randomIds: Ids = { next: () => randomUUID() };
