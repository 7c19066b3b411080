import type { SecretReader } from '../manager/secret-reader.js';
import type { Acknowledgements } from '../rotation/acknowledgements.js';
import type { VersionStore } from '../versions/version-store.js';
import type { SecretSource } from './secret-source.js';

/** The source over this application's own manager. */
export function managerSource(
  reader: SecretReader,
  versions: VersionStore,
  acknowledgements: Acknowledgements,
): SecretSource {
  return {
    name: `store ${versions.store.name}`,
    fetch: (secretName) => reader.current(secretName),
    candidates: (secretName) => reader.candidates(secretName),
    watch: (onHint) => versions.watch(onHint),
    acknowledge: (acknowledgement) => acknowledgements.acknowledge(acknowledgement),
  };
}
