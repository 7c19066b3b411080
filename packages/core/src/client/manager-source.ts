import type { Acknowledgements } from '../fleet/acknowledgements.js';
import type { FailureReports } from '../fleet/failure-reports.js';
import type { Instance } from '../fleet/instance.js';
import type { Clock } from '../foundation/clock.js';
import type { SecretReader } from '../manager/secret-reader.js';
import type { VersionStore } from '../versions/version-store.js';
import type { SecretSource } from './secret-source.js';

export interface ManagerSourceParts {
  readonly reader: SecretReader;
  readonly versions: VersionStore;
  readonly instance: Instance;
  readonly acknowledgements: Acknowledgements;
  readonly reports: FailureReports;
  readonly clock: Clock;
}

/** The source over this application's own manager. */
export function managerSource(parts: ManagerSourceParts): SecretSource {
  const { reader, versions, instance, acknowledgements, reports, clock } = parts;
  const registered = new Map<string, Promise<void>>();
  const register = (secretName: string): Promise<void> => {
    let registering = registered.get(secretName);
    if (registering === undefined) {
      registering = acknowledgements.register(secretName);
      registered.set(secretName, registering);
      registering.catch(() => registered.delete(secretName));
    }
    return registering;
  };
  return {
    name: `store ${versions.store.name}`,
    fetch: async (secretName) => {
      // Before anything is read: from then on nobody retires what may be found.
      await register(secretName);
      return reader.current(secretName);
    },
    candidates: async (secretName) => {
      const old = await reader.replaced(secretName);
      if (old.length === 0) return reader.candidates(secretName);
      const giveBack = await acknowledgements.borrow(secretName, old);
      try {
        // Read again: what is still a candidate now cannot be retired unnoticed any more.
        return await reader.candidates(secretName);
      } finally {
        // In a later turn, when whoever asked holds what he took.
        clock.after(0, giveBack);
      }
    },
    watch: (onHint) => {
      const unwatch = versions.watch(onHint);
      const unlisten = instance.listen({ back: () => onHint() });
      return () => {
        unwatch();
        unlisten();
      };
    },
    acknowledge: (acknowledgement) => acknowledgements.acknowledge(acknowledgement),
    report: (secretName, failure) => reports.report(secretName, failure),
    pauses: () => instance.pauses(),
    awake: () => instance.awake(),
  };
}
