-- Appends records first..last as one entry. A retry of what is there already, or of more, is told
-- from where to go on, so an answer that was lost on the way costs nothing.
-- KEYS meta, log, lease   ARGV producer, first, last, records, format, keep ms or '' unless the stream ends with last
-- -> {state, position of the newest record, 1 when a stop is asked for}
--    state 1: as asked   0: not the next ones   -1: Redis has no such stream   -2: it has ended
local m = redis.call('HMGET', KEYS[1], 'producer', 'last', 'end', 'stop')
if not m[1] then return {-1, 0, 0} end
if m[1] ~= ARGV[1] or m[3] then return {-2, 0, 0} end
local stop = m[4] and 1 or 0
if tonumber(ARGV[2]) ~= tonumber(m[2]) + 1 then return {0, tonumber(m[2]), stop} end
if not redis.call('XADD', KEYS[2], 'NOMKSTREAM', ARGV[3] .. '-0', ARGV[5], ARGV[4]) then
  redis.call('DEL', KEYS[1], KEYS[3]) -- the log was evicted: a stream without it is none
  return {-1, 0, 0}
end
redis.call('HSET', KEYS[1], 'last', ARGV[3])
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[1], 'end', ARGV[3])
  redis.call('DEL', KEYS[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[6])
  redis.call('PEXPIRE', KEYS[2], ARGV[6])
end
return {1, tonumber(ARGV[3]), stop}
