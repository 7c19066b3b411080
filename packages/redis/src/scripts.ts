import { createHash } from 'node:crypto';

export interface Script {
  readonly text: string;
  /** The name that EVALSHA knows it by. */
  readonly sha: string;
}

// Redis runs a script as one step: nobody sees half of it, and it is one record of the append-only file. Numbers are doubles in Lua, so
// revisions are exact up to 2^53; `%.0f` writes them without an exponent.

/** KEYS: entries, revision. ARGV: a key. Gives the store's revision, and the entry. */
export const GET = script(`
  return { redis.call('GET', KEYS[2]) or '0', redis.call('HGET', KEYS[1], ARGV[1]) }
`);

/** KEYS: entries, index, revision. ARGV: the bounds of the range, its limit. Gives the store's revision, then each key and its entry. */
export const LIST = script(`
  local answer = { redis.call('GET', KEYS[3]) or '0' }
  for _, key in ipairs(redis.call('ZRANGEBYLEX', KEYS[2], ARGV[1], ARGV[2], 'LIMIT', 0, ARGV[3])) do
    answer[#answer + 1] = key
    answer[#answer + 1] = redis.call('HGET', KEYS[1], key)
  end
  return answer
`);

/**
 * KEYS: entries, index, revision. ARGV: the lowest revision the store may have, the channel, the keys to tell of, the numbers of conditions
 * and of writes; then key and revision of each condition; then key, 'put' or 'remove', and value of each write. Gives an outcome (-1: behind;
 * 0: a condition does not hold; 1: done), the revision before, and that after.
 */
export const COMMIT = script(`
  local before = tonumber(redis.call('GET', KEYS[3]) or '0')
  if before < tonumber(ARGV[1]) then return { -1, before, before } end
  local conditions, writes = tonumber(ARGV[4]), tonumber(ARGV[5])
  local at = 6
  for _ = 1, conditions do
    local entry = redis.call('HGET', KEYS[1], ARGV[at])
    if (entry and string.match(entry, '^%d+') or '0') ~= ARGV[at + 1] then return { 0, before, before } end
    at = at + 2
  end
  if writes == 0 then return { 1, before, before } end
  local revision = string.format('%.0f', before + 1)
  redis.call('SET', KEYS[3], revision)
  for _ = 1, writes do
    local key = ARGV[at]
    if ARGV[at + 1] == 'put' then
      redis.call('HSET', KEYS[1], key, revision .. ' ' .. ARGV[at + 2])
      redis.call('ZADD', KEYS[2], 0, key)
    else
      redis.call('HDEL', KEYS[1], key)
      redis.call('ZREM', KEYS[2], key)
    end
    at = at + 3
  end
  redis.call('PUBLISH', ARGV[2], revision .. ' ' .. ARGV[3])
  return { 1, before, before + 1 }
`);

function script(text: string): Script {
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}
