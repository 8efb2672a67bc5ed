-- Asks for the end of a stream.
-- KEYS meta   ARGV owner   -> {0 when there is none of this owner's, else 1; the producer to tell, or ''}
local m = redis.call('HMGET', KEYS[1], 'owner', 'producer', 'end')
if m[1] ~= ARGV[1] then return {0, ''} end
if m[3] then return {1, ''} end
redis.pcall('HSET', KEYS[1], 'stop', '1') -- a full Redis takes no mark: the notice has to do
return {1, m[2]}
