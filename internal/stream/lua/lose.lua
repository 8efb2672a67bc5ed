-- Ends a stream whose producer is dead, once, whoever finds it first. Clients that were attached to
-- the producer may have seen records that never came here. So the end stands a long way behind the
-- last record, where it is new to them too, and where Redis refuses whatever the producer may still
-- send.
-- KEYS meta, log, lease   ARGV gap, record, format, keep ms   -> {1 when this call ended it, its idempotency key or ''}
if redis.call('EXISTS', KEYS[3]) == 1 then return {0, ''} end
local m = redis.call('HMGET', KEYS[1], 'last', 'end', 'key')
if not m[1] or m[2] then return {0, ''} end
local last = string.format('%.0f', tonumber(m[1]) + tonumber(ARGV[1]))
if not redis.call('XADD', KEYS[2], 'NOMKSTREAM', last .. '-0', ARGV[3], ARGV[2]) then
  redis.call('DEL', KEYS[1]) -- the log was evicted: a stream without it is none
  return {0, ''}
end
redis.call('HSET', KEYS[1], 'last', last, 'end', last)
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return {1, m[3] or ''}
