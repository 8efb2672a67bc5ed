-- Gives an idempotency key to a stream, unless another has it.
-- KEYS key   ARGV value, keep ms, value of a stream that is no more, or ''   -> the value that holds
local v = redis.call('GET', KEYS[1])
if v and v ~= ARGV[3] then return v end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
