-- Takes what one answer may cost, all of it or nothing. See Rate.use for the arithmetic.
-- Numbers are packed: written as text, to read and write them takes longer than all the rest.
-- KEYS used, streams, reservation
-- ARGV each request us, all requests us, each token us, all tokens us, tokens, tokens a day, streams,
--      stream's lease ms, reservation's life ms (packed; 0: no such limit; below 0: not one stream), id
-- -> 1 or 0, us until requests, tokens and streams allow it, whether the day does, us until all requests and all
--    tokens are back, tokens of the day that are used, us that the day lasts yet
-- What is used is: until when requests, what one took then, the same of tokens, the day, its tokens, when that was.
local dayUs = 86400000000
local each1, all1, each2, all2, tokens, budget, most, lease, life = struct.unpack('<ddddddddd', ARGV[1])
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local today = math.floor(now / dayUs)

local until1, was1, until2, was2, day, spent = 0, 0, 0, 0, today, 0
local used = redis.call('GET', KEYS[1])
if used then
  until1, was1, until2, was2, day, spent = struct.unpack('<dddddd', used)
  local back = #used > 48 and struct.unpack('<d', used, 49) - now or 0
  if back > 0 then -- The clock was set back, or it is another node's: nobody waits until it is where it was.
    until1, until2 = until1 - back, until2 - back
    redis.call('SET', KEYS[1], struct.pack('<ddddddd', until1, was1, until2, was2, day, spent, now), 'KEEPTTL')
  end
end
if day < today then spent = 0 end
day = today

-- count gives until when a rate is used. Where it was another rate, the units stay as many.
local function count(till, was, each)
  till = math.max(till, now)
  if each == 0 then return till, was end -- nobody asks
  if was > 0 and was ~= each then till = now + (till - now) * each / was end
  return till, each
end
until1, was1 = count(until1, was1, each1)
until2, was2 = count(until2, was2, each2)

local function stand(admitted, wait1, wait2, full, over)
  local ahead1, ahead2 = math.ceil(until1 - now), math.ceil(until2 - now)
  return {admitted, math.ceil(wait1), math.ceil(wait2), full, over, ahead1, ahead2, spent, (today + 1) * dayUs - now}
end

local wait1 = each1 > 0 and math.max(0, until1 + math.min(each1, all1) - (now + all1)) or 0
local wait2 = each2 > 0 and math.max(0, until2 + math.min(tokens * each2, all2) - (now + all2)) or 0
local over = budget > 0 and spent + math.min(tokens, budget) > budget and 1 or 0
local full = 0
if most ~= 0 and redis.call('ZCARD', KEYS[2]) >= most then
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now) -- dead replicas'
  -- those of a clock that was ahead, which are renewed soon if they run
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '(' .. string.format('%.0f', now + 2 * lease * 1000), '+inf')
  if redis.call('ZCARD', KEYS[2]) >= most then full = 1 end
end
if wait1 > 0 or wait2 > 0 or over == 1 or full == 1 then
  -- It may be that it was done and its answer came too late, and what it uses itself is in its way.
  if redis.call('EXISTS', KEYS[3]) == 0 then return stand(0, wait1, wait2, full, over) end
elseif redis.call('SET', KEYS[3], today, 'NX', 'PX', life) then -- else it was done, or was given up
  until1 = until1 + each1
  until2 = until2 + tokens * each2
  local till = math.max(until1, until2)
  if budget > 0 then spent = spent + tokens end
  if spent > 0 then till = math.max(till, (today + 1) * dayUs) end
  if till > now then
    redis.call('SET', KEYS[1], struct.pack('<ddddddd', until1, was1, until2, was2, day, spent, now), 'PX',
      math.ceil((till - now) / 1000) + 1)
  end
  if most ~= 0 then
    redis.call('ZADD', KEYS[2], now + lease * 1000, ARGV[2])
    redis.call('PEXPIRE', KEYS[2], lease)
  end
end
return stand(1, 0, 0, 0, 0)
