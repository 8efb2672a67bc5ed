-- Makes the record of a new stream, or of a live one that Redis has lost.
-- KEYS meta, log, lease   ARGV producer, owner, lease ms, keep ms, format, head record, idempotency key or ''   -> 1, or 0 when it exists
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('DEL', KEYS[2])
redis.call('XADD', KEYS[2], '0-1', ARGV[5], ARGV[6]) -- before every chunk; so the log exists from now on
redis.call('HSET', KEYS[1], 'producer', ARGV[1], 'owner', ARGV[2], 'last', '0')
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'key', ARGV[7]) end -- for whoever ends it
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 1
