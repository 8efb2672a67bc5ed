-- Brings Redis up to date with a stream: appends records first..last as one entry, if there are any, and renews the
-- lease, if asked to. Records that are not the next ones are not taken, so a retry of what is there already costs
-- nothing and does no harm.
-- KEYS meta, log, lease, watch   ARGV producer, first, last, records or '', format, lease ms or '',
--   keep ms of a live stream or '', keep ms or '' unless the stream ends with last, '1' to pack its log then
-- -> {state, position of the newest record, 1 when a stop is asked for, 1 when another replica has followers}
--    state 1: done   0: not the next ones   -1: Redis has no such stream   -2: it has ended
local m = redis.call('HMGET', KEYS[1], 'producer', 'last', 'end', 'stop')
if not m[1] then return {-1, 0, 0, 0} end
if m[3] then return {-2, tonumber(m[3]), 0, 0} end
if m[1] ~= ARGV[1] then return {-2, 0, 0, 0} end
local state, last = 1, tonumber(m[2])
if ARGV[4] ~= '' and tonumber(ARGV[2]) ~= last + 1 then
  state = 0
elseif ARGV[4] ~= '' then
  if not redis.call('XADD', KEYS[2], 'NOMKSTREAM', ARGV[3] .. '-0', ARGV[5], ARGV[4]) then
    redis.call('DEL', KEYS[1], KEYS[3]) -- the log was evicted: a stream without it is none
    return {-1, 0, 0, 0}
  end
  redis.call('HSET', KEYS[1], 'last', ARGV[3])
  last = tonumber(ARGV[3])
end
if state == 1 and ARGV[8] ~= '' then
  redis.call('HSET', KEYS[1], 'end', ARGV[3])
  redis.call('DEL', KEYS[3])
  if ARGV[9] ~= '' then
    -- Redis has a list of 4 KB at least around a few entries. One entry in their place takes hardly more than it is.
    local all, records, ours = redis.call('XRANGE', KEYS[2], '-', '+'), {}, true
    for i = 2, #all do
      ours = ours and all[i][2][1] == ARGV[5]
      records[i - 1] = all[i][2][2]
    end
    if #all > 2 and all[1][1] == '0-1' and ours then
      redis.call('DEL', KEYS[2])
      redis.call('XADD', KEYS[2], '0-1', unpack(all[1][2]))
      redis.call('XADD', KEYS[2], ARGV[3] .. '-0', ARGV[5], table.concat(records))
    end
  end
  redis.call('PEXPIRE', KEYS[1], ARGV[8])
  redis.call('PEXPIRE', KEYS[2], ARGV[8])
elseif ARGV[6] ~= '' then
  -- A full Redis takes no SET, but lets what is there live on.
  if redis.call('PEXPIRE', KEYS[3], ARGV[6]) == 0 then redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[6]) end
  if ARGV[7] ~= '' then
    redis.call('PEXPIRE', KEYS[1], ARGV[7])
    redis.call('PEXPIRE', KEYS[2], ARGV[7])
  end
end
return {state, last, m[4] and 1 or 0, redis.call('EXISTS', KEYS[4])}
