-- Has what leads to a stream, an idempotency key or a chat, stay as long as the stream does.
-- KEYS key   ARGV id of the stream, keep ms   -> 1 when it leads to that stream
local v = redis.call('GET', KEYS[1])
if not v or v ~= ARGV[1] and string.sub(v, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ' then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
