import { SecretsError } from '../foundation/errors.js';
import { parseDuration } from '../versions/rotation-policy.js';
import type { VersionStoreOptions } from '../versions/version-store.js';
import type { SecretsModuleOptions } from './secrets-options.js';

/** As many as a rotation needs, with what can be put back. */
const LEAST_VERSIONS = 15;
/** With its envelope it must fit into an entry of a store. */
const LARGEST_VALUE_BYTES = 1_000_000;

/** What of the module's options is about versions. @throws SecretsError `MODULE_OPTIONS_INVALID` */
export function versionOptions({
  wrapLimit,
  limits,
  expiryWarnings,
}: SecretsModuleOptions): Pick<VersionStoreOptions, 'wrapLimit' | 'limits' | 'expiryWarnings'> {
  const { versionsPerSecret = LEAST_VERSIONS, valueBytes = 1 } = limits ?? {};
  if (!(Number.isInteger(versionsPerSecret) && versionsPerSecret >= LEAST_VERSIONS))
    throw invalid(`limits.versionsPerSecret ${versionsPerSecret}: give ${LEAST_VERSIONS} or more`);
  if (!(Number.isInteger(valueBytes) && valueBytes >= 1 && valueBytes <= LARGEST_VALUE_BYTES))
    throw invalid(`limits.valueBytes ${valueBytes}: give 1 to ${LARGEST_VALUE_BYTES}`);
  const warnings = expiryWarnings?.map((lead) => {
    const ms = parseDuration(lead);
    if (ms === undefined || ms === 0) throw invalid("expiryWarnings with what is no length of time: give '7d' or '1h'");
    return ms;
  });
  return {
    ...(wrapLimit === undefined ? {} : { wrapLimit }),
    ...(limits === undefined ? {} : { limits }),
    ...(warnings === undefined ? {} : { expiryWarnings: warnings }),
  };
}

function invalid(what: string): SecretsError {
  return new SecretsError('MODULE_OPTIONS_INVALID', `SecretsModule.forRoot has ${what}.`);
}
