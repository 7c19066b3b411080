import type { KeyProvider } from '@nestjs-secrets/core';
import { keyMaking, lifeCycle, sharedMaking } from './key-provider/life.js';
import type { ConformanceKeys, FreshKeys, OneProvider } from './key-provider/steps.js';
import { binding, wrapping } from './key-provider/wrapping.js';
import type { ConformanceCase } from './store-driver-conformance.js';

/** How the suite gets providers of the kind under test. */
export interface KeyProviderHarness {
  /** False when the keys go with the provider, as those of `ephemeralKeys` do: the cases on several providers with the same keys are left out. */
  readonly outlive: boolean;
  /** Makes keys that nobody else uses. */
  createKeys(): Promise<ConformanceKeys>;
}

/**
 * Everything the `KeyProvider` port promises, as cases for any test runner. A provider is done when all of them pass. Each case wraps and unwraps for
 * real, some hundred times: run them against keys made for tests.
 *
 * ```ts
 * for (const { name, run } of keyProviderConformance({ outlive: true, createKeys })) it(name, run);
 * ```
 */
export function keyProviderConformance(harness: KeyProviderHarness): ConformanceCase[] {
  const cases: ConformanceCase[] = [];

  const fresh: FreshKeys = (name, body) => {
    const run = async (): Promise<void> => {
      const keys = await harness.createKeys();
      const opened: KeyProvider[] = [];
      try {
        await body(keys, opened);
      } finally {
        for (const provider of opened) await provider.close();
        await keys.dispose();
      }
    };
    cases.push({ name, run });
  };
  const outliving: FreshKeys = (name, body) => {
    if (harness.outlive) fresh(name, body);
  };
  const one: OneProvider = (name, body) =>
    fresh(name, async (keys, opened) => {
      const provider = keys.connect();
      opened.push(provider);
      await provider.open();
      await body(provider, await provider.active());
    });

  wrapping(one);
  binding(one);
  keyMaking(one);
  lifeCycle(fresh, outliving);
  sharedMaking(outliving);
  return cases;
}
