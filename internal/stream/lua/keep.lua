-- Has an idempotency key stay as long as its stream does.
-- KEYS key   ARGV id of the stream, keep ms   -> 1 when it was the stream's
local v = redis.call('GET', KEYS[1])
if not v or string.sub(v, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ' then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
