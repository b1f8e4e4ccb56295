"""What runs inside Redis: Lua scripts, each atomic and within one hash slot.

Written for 6.2: no functions, no expiry of fields. Numbers beyond 2**31 are written by format, as
Lua would write them with an exponent. A client that finds Redis without a script loads it again.
"""

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

# KEYS: a session. ARGV: our schema's version, mk, now (ms), ttl (ms).
# -> {epoch, fields of the state, if there is one of this mk}, or {0} where a newer version wrote.
# The clock lets a claim after an eviction outrank whoever owned the session before.
CLAIM = """
local old = redis.call('HMGET', KEYS[1], 'ver', 'epoch', 'mk')
if (tonumber(old[1] or '') or 0) > tonumber(ARGV[1]) then return {'0'} end
local epoch = math.max((tonumber(old[2] or '') or 0) + 1, tonumber(ARGV[3]))
local state = {}
if old[3] == ARGV[2] then state = redis.call('HGETALL', KEYS[1]) end
epoch = string.format('%.0f', epoch)
redis.call('HSET', KEYS[1], 'epoch', epoch, 'seq', '0')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {epoch, state}
"""

# KEYS: a session. ARGV: our schema's version, epoch, seq, ttl (ms), field, value, ...
# -> 'done', 'duplicate', or 'stale': another owner, or a newer version, has it.
FLUSH = """
local old = redis.call('HMGET', KEYS[1], 'ver', 'epoch', 'seq')
local epoch, seq = tonumber(old[2] or '') or 0, tonumber(old[3] or '') or 0
if (tonumber(old[1] or '') or 0) > tonumber(ARGV[1]) then return 'stale' end
if epoch > tonumber(ARGV[2]) then return 'stale' end
if epoch == tonumber(ARGV[2]) and seq >= tonumber(ARGV[3]) then return 'duplicate' end
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'seq', ARGV[3], unpack(ARGV, 5))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 'done'
"""

# KEYS: the flush's mark, a tenant's counts, those of its task (or the same again), those of all.
# ARGV: ttl of the mark (ms), ttl of the counts (ms), sessions that a tenant needs on a day before
# it adds to the counts of all (below 0: it never does), field, increment, ...
# -> 'done' or 'duplicate'. The mark comes behind the first increments: where those are not allowed
# the flush is not done, and is tried again.
ADD_PRIOR = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 'duplicate' end
local added = {}
local function add(key)
  for i = 4, #ARGV, 2 do redis.call('HINCRBY', key, ARGV[i], ARGV[i + 1]) end
  added[#added + 1] = key
end
add(KEYS[2])
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
if KEYS[3] ~= KEYS[2] then add(KEYS[3]) end
local least = tonumber(ARGV[3])
local sessions = tonumber(redis.call('HGET', KEYS[2], 'sessions') or '') or 0
if least >= 0 and sessions >= least then add(KEYS[4]) end
for _, key in ipairs(added) do redis.call('PEXPIRE', key, ARGV[2]) end
return 'done'
"""

# KEYS: counts of some days. ARGV: a weight for each. -> one JSON object of weighted sums.
# Summed here, as the reader would have to take ten times the numbers apart beside its decoding.
READ_PRIOR = """
local sums = {}
for day, key in ipairs(KEYS) do
  local counts, weight = redis.call('HGETALL', key), tonumber(ARGV[day])
  for i = 1, #counts, 2 do
    local name, count = counts[i], tonumber(counts[i + 1])
    if count and count >= 0 and count < 1e15 then
      sums[name] = (sums[name] or 0) + count * weight
    end
  end
end
return next(sums) and cjson.encode(sums) or '{}'
"""

# KEYS: costs. ARGV: most samples that a cell counts, ttl (ms), field, mean, variance, samples,
# now (ms), ... The merged mean weighs by samples; the variance is that of both together.
MERGE_COST = """
local most = tonumber(ARGV[1])
for i = 3, #ARGV, 5 do
  local mean, var, cnt = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local stored = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  local m, v, c = string.match(stored, '^([^,]+),([^,]+),([^,]+),')
  m, v, c = tonumber(m or ''), tonumber(v or ''), tonumber(c or '')
  if m and v and c and c > 0 then
    local total = c + cnt
    local merged = (c * m + cnt * mean) / total
    var = (c * (v + (m - merged) ^ 2) + cnt * (var + (mean - merged) ^ 2)) / total
    mean, cnt = merged, math.min(total, most)
  end
  redis.call('HSET', KEYS[1], ARGV[i],
             string.format('%.9g,%.9g,%.0f,%s', mean, var, cnt, ARGV[i + 4]))
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'done'
"""


# KEYS: a task stream. ARGV: our schema's version, ttl (ms), candidates tried, record.
# -> 'done', or 'stale': one that tried more, or a newer version, has been there.
KEEP_STREAM = """
local old = redis.call('HMGET', KEYS[1], 'ver', 'num')
if (tonumber(old[1] or '') or 0) > tonumber(ARGV[1]) then return 'stale' end
if (tonumber(old[2] or '') or 0) > tonumber(ARGV[3]) then return 'stale' end
redis.call('HSET', KEYS[1], 'ver', ARGV[1], 'num', ARGV[3], 'record', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 'done'
"""


class Scripts:
    """The scripts as one client calls them."""

    def __init__(self, redis: Redis) -> None:
        """Name them; nothing is sent before the first call."""
        self.claim: AsyncScript = redis.register_script(CLAIM)
        self.flush: AsyncScript = redis.register_script(FLUSH)
        self.add_prior: AsyncScript = redis.register_script(ADD_PRIOR)
        self.read_prior: AsyncScript = redis.register_script(READ_PRIOR)
        self.merge_cost: AsyncScript = redis.register_script(MERGE_COST)
        self.keep_stream: AsyncScript = redis.register_script(KEEP_STREAM)
