import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { type CmkRef, isSecretsError, type KeyProvider, type SecretsError } from '@nestjs-secrets/core';

/** Some master keys, made for one case. */
export interface ConformanceKeys {
  /** A new provider with these keys, not opened yet. The suite opens and closes it. */
  connect(): KeyProvider;
  /** A provider of the same kind with keys that are others, under the same ids if that can be. Not opened yet; opened and closed by the suite. */
  connectToOthers(): KeyProvider;
  /** Removes the keys; every provider is closed by then. */
  dispose(): Promise<void>;
}

/** Adds a case about one open provider. */
export type OneProvider = (name: string, body: (provider: KeyProvider, cmk: CmkRef) => Promise<void>) => void;
/** Adds a case that opens and closes providers itself; those it puts in `opened` are closed for it. */
export type FreshKeys = (name: string, body: (keys: ConformanceKeys, opened: KeyProvider[]) => Promise<void>) => void;

/** Text that shows up wherever a data key leaks. */
export const DATA_KEY: Readonly<Buffer> = Buffer.from('a data key that must not be seen');
export const PLACE: Readonly<Buffer> = Buffer.from('nestjs-secrets conformance: store, secret and version');

export async function wrap(
  provider: KeyProvider,
  cmk: CmkRef,
  place: Uint8Array = PLACE,
  dataKey: Uint8Array = DATA_KEY,
): Promise<Buffer> {
  // Copies, so that a provider may do with them what it likes, or keep them and be noticed.
  return Buffer.from(await provider.wrap(cmk, Buffer.from(dataKey), Buffer.from(place)));
}

export async function unwrap(
  provider: KeyProvider,
  cmk: CmkRef,
  wrappedKey: Uint8Array,
  place: Uint8Array = PLACE,
): Promise<Buffer> {
  return provider.unwrap(cmk, Buffer.from(wrappedKey), Buffer.from(place));
}

/** What the work fails with, which must be an error of ours that shows no data key. */
export async function failureOf(work: Promise<unknown>, what: string): Promise<SecretsError> {
  let answer: unknown;
  try {
    answer = await work;
  } catch (error) {
    assert.ok(isSecretsError(error), `${what} fails with an error of this library, not with ${String(error)}`);
    assertHidden(error, `the error of ${what}`);
    return error;
  }
  throw new assert.AssertionError({ message: `${what} does not fail`, actual: typeof answer });
}

export async function assertMismatch(work: Promise<unknown>, what: string): Promise<void> {
  const { code } = await failureOf(work, what);
  assert.equal(code, 'KEY_MISMATCH', `${what} fails with KEY_MISMATCH`);
}

/** That a data key is nowhere in what somebody may print. */
export function assertHidden(holder: unknown, what: string): void {
  const shown = `${inspect(holder, { depth: 9, showHidden: true, maxStringLength: null, maxArrayLength: null })}${json(holder)}`;
  const bytes = Buffer.from(DATA_KEY);
  for (const form of [bytes.toString(), bytes.toString('base64').slice(0, -3), bytes.toString('hex')])
    assert.ok(!shown.includes(form), `${what} shows no data key`);
  // As a Buffer prints itself.
  assert.ok(!shown.includes(bytes.toString('hex').replaceAll(/(..)(?!$)/g, '$1 ')), `${what} shows no data key`);
}

function json(holder: unknown): string {
  try {
    return JSON.stringify(holder) ?? '';
  } catch {
    return '';
  }
}
