import { MOVE_PREFIX } from '../store/move-records.js';

/**
 * How an entry of the store is protected. `listed`: MACed, and named by the manifest, so that neither an older one nor its absence goes unnoticed.
 * `sealed`: MACed only. `plain`: as it is. `own`: of this layer, hidden from those above.
 */
export type EntryKind = 'listed' | 'sealed' | 'plain' | 'own';

/** Everything of this layer stands under this prefix. */
export const OWN_PREFIX = 'integrity/';
/** No key of this layer sorts after this one. */
export const LAST_OWN = `${OWN_PREFIX}~`;

/**
 * Written at every heartbeat, hold and refusal of every instance, and hold no secret: listing them would make each a change of the manifest, for which
 * all processes of a fleet compete. Nobody can forge one; taking one away or putting an older one back is not noticed (docs/integrity.md says what that does).
 */
const SEALED_ONLY = ['instance/', 'ack/', 'borrow/', 'report/', 'cmkack/'];

/**
 * What names the keys of this store must be readable before there is a key to check it with; it carries a sealed check value of its own. And an audit log that is kept here
 * is written all the time, and has a chain of MACs and signed checkpoints of its own; its key is listed.
 */
const FIRST_ENTRY = 'store';
const AUDIT_PREFIX = 'audit/';
const AUDIT_KEY = 'audit/key';
/** What a move between stores writes stands below the seal, and must be readable before the store is opened. */
const PLAIN = [AUDIT_PREFIX, MOVE_PREFIX];

/** Entries of one secret stand together, so that a change of several of them touches one path of the manifest. */
const OF_A_SECRET = ['secret/', 'value/', 'rotation/', 'unfinished/', 'scheduled/', 'lease/', 'gone/'];

/** What many secrets depend on at once stands in two places, so that one damaged entry does not keep all of them shut. */
const IN_TWO_PLACES = ['cmk/', 'policy/', AUDIT_KEY];

/** Where the copy of an entry stands that has one. */
export function copyKeyOf(key: string): string | undefined {
  return IN_TWO_PLACES.some((prefix) => key.startsWith(prefix)) ? `${OWN_PREFIX}copy/${key}` : undefined;
}

export function kindOf(key: string): EntryKind {
  if (key.startsWith(OWN_PREFIX)) return 'own';
  if (key === FIRST_ENTRY || (PLAIN.some((prefix) => key.startsWith(prefix)) && key !== AUDIT_KEY)) return 'plain';
  return SEALED_ONLY.some((prefix) => key.startsWith(prefix)) ? 'sealed' : 'listed';
}

/** What an entry stands under in the manifest: the name of its secret, or its own key where there is none. */
export function groupOf(key: string): string {
  const name = secretNameOf(key);
  return name === undefined || name === '' ? key : name;
}

/** The secret an entry belongs to, if it belongs to one. */
export function secretNameOf(key: string): string | undefined {
  const prefix = OF_A_SECRET.find((candidate) => key.startsWith(candidate));
  if (prefix === undefined) return undefined;
  // The name of a secret has no colon; what follows one is a version id.
  const colon = key.indexOf(':', prefix.length);
  return colon === -1 ? key.slice(prefix.length) : key.slice(prefix.length, colon);
}

/** The keys of a secret that are known by its name; its values are all that begin with the second. */
export function keysOfSecret(secretName: string): { readonly keys: readonly string[]; readonly values: string } {
  const keys = OF_A_SECRET.filter((prefix) => prefix !== 'value/').map((prefix) => prefix + secretName);
  return { keys, values: `value/${secretName}:` };
}
