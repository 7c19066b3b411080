/**
 * What is asked of a server, and looked at on every connection:
 * - `always`: `appendonly yes`, `appendfsync always`. What was acknowledged survives kill -9 and loss of power.
 * - `everysec`: `appendonly yes`. kill -9 may cost what was acknowledged in the last moment, loss of power about the last second.
 * - `unchecked`: nothing; for a server that does not let its settings be read, or a store that may be lost.
 */
export type RedisPersistence = 'always' | 'everysec' | 'unchecked';

/** The settings to read for `missingDemand`, as CONFIG GET takes them. */
export const DEMANDED_SETTINGS = ['*append*', 'maxmemory*'];

/**
 * What the settings of a server lack, as the second half of a sentence that begins with "The store redis"; undefined when they are as they
 * have to be.
 */
export function missingDemand(
  persistence: Exclude<RedisPersistence, 'unchecked'>,
  settings: ReadonlyMap<string, string>,
): string | undefined {
  if (settings.get('appendonly') !== 'yes') {
    return 'would lose what it has acknowledged when its server ends: set appendonly to yes.';
  }
  if (persistence === 'always' && settings.get('appendfsync') !== 'always') {
    return `may lose what it has acknowledged when its server or machine dies: set appendfsync to always, or accept that with persistence: 'everysec'.`;
  }
  if (persistence === 'always' && settings.get('no-appendfsync-on-rewrite') === 'yes') {
    return `would not sync while its server rewrites the append-only file: set no-appendfsync-on-rewrite to no, or accept that with persistence: 'everysec'.`;
  }
  if (settings.get('maxmemory') !== '0' && settings.get('maxmemory-policy')?.startsWith('allkeys')) {
    return 'would lose entries when its server runs out of memory: set maxmemory-policy to noeviction, or give the store a server of its own.';
  }
  return undefined;
}

/** Each of these takes commands away that the store's scripts leave in the append-only file. */
const TAKEN_AWAY =
  /^-(@(all|write|read|keyspace|string|hash|sortedset|fast|slow|connection|transaction)|set|hset|hdel|zadd|zrem|multi|exec|select)$/;

/**
 * Redis and Valkey replay transactions of the append-only file with the rights of the user `default`, and drop what those do not cover without
 * a word (https://github.com/redis/redis/issues/14541, https://github.com/valkey-io/valkey/issues/3983). `user default off` alone takes all
 * its rights away. The second half of a sentence as that of `missingDemand`.
 */
export function missingRights(commands: string, keys: string): string | undefined {
  const rules = commands.split(' ');
  const mayAll = rules.includes('+@all') && !rules.some((rule) => TAKEN_AWAY.test(rule));
  if (mayAll && /(^|\s)(~|%RW~)?\*(\s|$)/.test(keys)) return undefined;
  return 'would lose what it has acknowledged when its server starts again, since Redis replays transactions with the rights of the user default: give it those, which lets nobody log in: ACL SETUSER default off resetpass ~* +@all, and in the configuration as well.';
}

/** What a reply to INFO replication says about the server's role: `master`, or `slave` for a replica. */
export function roleIn(info: string): string | undefined {
  return /^role:(\w+)/m.exec(info)?.[1];
}
