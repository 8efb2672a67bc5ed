-- Ends an answer, once: gives its stream back and uses further tokens, or gives some back, whether there are enough or
-- not. See Rate.settle for the arithmetic.
-- KEYS requests, tokens, tokens of the day, streams, reservation
-- ARGV each request us, each token us, tokens, whether the day is counted, whether the request is given back, id,
--      whether the reservation may still be on its way
-- -> 1, or 0 when there is nothing to settle: it was done before, or the reservation never came here, or is lost
local reserved = redis.call('GET', KEYS[5]) == '1'
if ARGV[7] == '1' then
  redis.call('SET', KEYS[5], '0', 'PX', 600000) -- it is in the way of the reservation, should that come after all
else
  redis.call('DEL', KEYS[5])
end
if not reserved then return 0 end
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]

local function settle(key, units, each)
  if units * each == 0 then return end
  local value, was = string.match(redis.call('GET', key) or '', '^(%d+) (%S+)$')
  value, was = math.max(tonumber(value or 0), now), tonumber(was or 0)
  if was > 0 and was ~= tonumber(each) then value = now + (value - now) * each / was end
  value = value + units * each
  if value <= now then
    redis.call('DEL', key)
  else
    redis.call('SET', key, string.format('%.0f', value) .. ' ' .. each, 'PX', string.format('%.0f', math.ceil((value - now) / 1000) + 1))
  end
end

redis.call('ZREM', KEYS[4], ARGV[6])
settle(KEYS[2], ARGV[3], ARGV[2])
if ARGV[4] == '1' and ARGV[3] ~= '0' then
  redis.call('INCRBY', KEYS[3], ARGV[3])
  redis.call('PEXPIRE', KEYS[3], 172800000)
end
if ARGV[5] == '1' then settle(KEYS[1], -1, ARGV[1]) end
return 1
