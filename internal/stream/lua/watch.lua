-- Says that this stream has followers on another replica than its producer's, and looks after the producer. What is
-- written is the proof that the producer could have written, too.
-- KEYS meta, lease, watch   ARGV watch ms
-- -> {1 when it could be written, 1 when there is a lease, last or -1, end or -1}
local wrote = redis.pcall('SET', KEYS[3], '1', 'PX', ARGV[1])
local ok = type(wrote) == 'table' and wrote.ok ~= nil
if not ok then redis.pcall('PEXPIRE', KEYS[3], ARGV[1]) end -- which a full Redis takes
local m = redis.call('HMGET', KEYS[1], 'last', 'end')
return {ok and 1 or 0, redis.call('EXISTS', KEYS[2]), tonumber(m[1] or '-1'), tonumber(m[2] or '-1')}
