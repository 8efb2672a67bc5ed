-- Notes that a reader has the end of a chat's newest stream.
-- KEYS chat   ARGV id of the stream, value that says so   -> 1 when it was the newest
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
