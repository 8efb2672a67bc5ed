-- Renews the lease of a live stream.
-- KEYS meta, log, lease, watch   ARGV producer, lease ms, keep ms
-- -> {state as in append, 1 when a stop is asked for, 1 when a replica has followers}
local m = redis.call('HMGET', KEYS[1], 'producer', 'end', 'stop')
if not m[1] then return {-1, 0, 0} end
if m[1] ~= ARGV[1] or m[2] then return {-2, 0, 0} end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return {1, m[3] and 1 or 0, redis.call('EXISTS', KEYS[4])}
