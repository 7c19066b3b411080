import { answerWithin } from '@nestjs-secrets/core';
import type { DataSource } from 'typeorm';

/** Ends what a DataSource has opened before it failed to initialise; TypeORM itself destroys only what it has initialised. */
export async function leaveUnopened({ driver }: DataSource, withinMs: number): Promise<void> {
  // There may be nothing to end, which is an error to TypeORM.
  await answerWithin(withinMs, 'closing', driver.disconnect()).catch(() => undefined);
}
