import { PolicyReseal } from '../access/policy-reseal.js';
import type { PolicySeal } from '../access/policy-records.js';
import type { SealKeeper } from '../versions/own-entries.js';
import { sealedEntry, type VersionStore } from '../versions/version-store.js';

/** Seals policies under the master key of the store, as values are. */
export function policySeal(versions: VersionStore): PolicySeal {
  return {
    seal: (storeKey, plaintext) => versions.sealEntry(storeKey, plaintext),
    open: (storeKey, sealed) => versions.openEntry(storeKey, sealed),
  };
}

/** Has policies follow their master key when it rotates. */
export function policyKeeper(versions: VersionStore): SealKeeper {
  const policies = new PolicyReseal(versions.store, policySeal(versions));
  return {
    async under(id, keyVersions) {
      const found: string[] = [];
      for await (const entry of policies.entries()) {
        const under = versions.values.sealedUnder(sealedEntry(entry.key).context, entry);
        if (under?.id === id && keyVersions.has(under.version)) found.push(entry.key);
      }
      return found;
    },
    async reseal() {
      const wanted = await versions.keys.activeVersion();
      for await (const entry of policies.entries()) {
        const under = versions.values.sealedUnder(sealedEntry(entry.key).context, entry);
        if (under?.id !== wanted.id || under.version !== wanted.version) await policies.reseal(entry.key);
      }
    },
  };
}
