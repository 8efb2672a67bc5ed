-- Keeps the stream of an answer that runs from counting as a dead replica's.
-- KEYS streams, reservation   ARGV id, lease ms   -> 1, or 0 when there is no such answer
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
local t = redis.call('TIME')
redis.call('ZADD', KEYS[1], string.format('%.0f', t[1] * 1000000 + t[2] + ARGV[2] * 1000), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
