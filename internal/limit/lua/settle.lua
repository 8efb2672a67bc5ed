-- Ends an answer, once: gives its stream back and uses further tokens, or gives some back, whether there are enough or
-- not. See Rate.settle for the arithmetic, and reserve.lua for what is kept.
-- KEYS used, streams, reservation
-- ARGV each request us, each token us, tokens, whether the day is counted, whether the request is given back,
--      whether the reservation may still be on its way (packed), id
-- -> 1, or 0 when there is nothing to settle: it was done before, or the reservation never came here, or is lost
local each1, each2, tokens, budget, cancelled, unsure = struct.unpack('<dddddd', ARGV[1])
local reserved -- the day on which it was
if unsure == 1 then
  reserved = redis.call('GET', KEYS[3])
  redis.call('SET', KEYS[3], 'given up', 'PX', 600000) -- in the way of the reservation, should that come after all
else
  reserved = redis.call('GETDEL', KEYS[3])
end
reserved = tonumber(reserved or nil)
if not reserved then return 0 end
redis.call('ZREM', KEYS[2], ARGV[2])

local dayUs = 86400000000
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local until1, was1, until2, was2, day, spent = 0, 0, 0, 0, reserved, 0
local used = redis.call('GET', KEYS[1])
if used then
  until1, was1, until2, was2, day, spent = struct.unpack('<dddddd', used)
  local back = #used > 48 and math.max(0, struct.unpack('<d', used, 49) - now) or 0
  until1, until2 = until1 - back, until2 - back
end

local function settle(till, was, each, units)
  till = math.max(till, now)
  if each == 0 or units == 0 then return till, was end
  if was > 0 and was ~= each then till = now + (till - now) * each / was end
  return math.max(now, till + units * each), each
end
until1, was1 = settle(until1, was1, each1, cancelled == 1 and -1 or 0)
until2, was2 = settle(until2, was2, each2, tokens)
if budget == 1 and day <= reserved then -- before it where the clock was set back over midnight
  spent = math.max(0, spent + tokens)
end

local till = math.max(until1, until2)
if spent > 0 then till = math.max(till, (day + 1) * dayUs) end
if till > now then
  redis.call('SET', KEYS[1], struct.pack('<ddddddd', until1, was1, until2, was2, day, spent, now), 'PX',
    math.ceil((till - now) / 1000) + 1)
elseif used then
  redis.call('DEL', KEYS[1])
end
return 1
