import type { AcknowledgementDoor } from '../doors/acknowledgement-door.js';
import type { Deliveries, Delivery } from '../doors/deliveries.js';
import type { Acknowledgements } from '../fleet/acknowledgements.js';
import type { FailureReports } from '../fleet/failure-reports.js';
import type { Instance } from '../fleet/instance.js';
import type { Cancel, Clock } from '../foundation/clock.js';
import type { SecretReader, SecretSnapshot } from '../manager/secret-reader.js';
import type { Leases } from '../rotation/leases.js';
import type { VersionStore } from '../versions/version-store.js';
import type { SecretSource } from './secret-source.js';

export interface ManagerSourceParts {
  readonly reader: SecretReader;
  readonly versions: VersionStore;
  readonly instance: Instance;
  readonly acknowledgements: Acknowledgements;
  readonly reports: FailureReports;
  readonly leases: Leases;
  readonly deliveries: Deliveries;
  readonly acknowledging: AcknowledgementDoor;
  readonly clock: Clock;
}

/** The source over this application's own manager: every value that it hands out comes through a door. */
export function managerSource(parts: ManagerSourceParts): SecretSource {
  const { reader, versions, instance, acknowledgements, acknowledging, deliveries, reports, leases, clock } = parts;
  /** Whoever injected the secret need not know that this instance has a credential of its own. */
  const named = (snapshot: SecretSnapshot, name: string): SecretSnapshot => ({ ...snapshot, name });
  const deliveryOf = (secretName: string): Delivery => ({ secretName, leaseName: leases.nameOf(secretName) });
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
  const candidatesOf = async (
    name: string,
    isAllowed: (stage: string) => boolean,
    borrowed: Map<string, Cancel>,
  ): Promise<readonly SecretSnapshot[]> => {
    for (;;) {
      const { snapshots, replaced } = await reader.candidates(name, isAllowed);
      const fresh = replaced.filter((id) => !borrowed.has(id));
      // What is still a candidate after it was borrowed cannot be retired unnoticed any more.
      if (fresh.length === 0) return snapshots;
      const giveBack = await acknowledgements.borrow(name, fresh);
      for (const id of fresh) borrowed.set(id, giveBack);
    }
  };
  return {
    name: `store ${versions.store.name}`,
    fetch: async (secretName) => {
      const delivery = deliveryOf(secretName);
      const snapshot = await deliveries.current(delivery, async () => {
        // Before anything is read: from then on nobody retires what may be found.
        await register(delivery.leaseName);
        return reader.current(delivery.leaseName);
      });
      return named(snapshot, secretName);
    },
    candidates: async (secretName) => {
      const delivery = deliveryOf(secretName);
      const borrowed = new Map<string, Cancel>();
      try {
        const snapshots = await deliveries.candidates(delivery, (isAllowed) =>
          candidatesOf(delivery.leaseName, isAllowed, borrowed),
        );
        return snapshots.map((snapshot) => named(snapshot, secretName));
      } finally {
        // In a later turn, when whoever asked holds what he took.
        clock.after(0, () => {
          for (const giveBack of borrowed.values()) giveBack();
        });
      }
    },
    watch: (onHint) => {
      const unwatch = versions.watch((name) => onHint(name === undefined ? undefined : leases.secretOf(name)));
      const unlisten = instance.listen({ back: () => onHint() });
      return () => {
        unwatch();
        unlisten();
      };
    },
    acknowledge: ({ secretName, ...word }) =>
      acknowledging.acknowledge(secretName, { ...word, secretName: leases.nameOf(secretName) }),
    report: (secretName, failure) => reports.report(leases.nameOf(secretName), failure),
    pauses: () => instance.pauses(),
    awake: () => instance.awake(),
  };
}
