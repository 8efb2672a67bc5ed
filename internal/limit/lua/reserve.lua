-- Takes what one answer may cost, all of it or nothing. See Rate.use for the arithmetic.
-- KEYS requests, tokens, tokens of the day, streams, reservation
-- ARGV each request us, all requests us, each token us, all tokens us, tokens, tokens a day, streams,
--      id, stream's lease ms, reservation's life ms   (0: no such limit)
-- -> 1 or 0, us until requests, tokens and streams allow it, whether the day does, us until all requests and all
--    tokens are back, tokens of the day that are used
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local tokens = tonumber(ARGV[5])

-- has is until when a rate is used. Where the rate was another one, the units stay as many.
local function has(key, each)
  local value, was = string.match(redis.call('GET', key) or '', '^(%d+) (%S+)$')
  value, was = tonumber(value or 0), tonumber(was or 0)
  if was > 0 and was ~= each and value > now then value = now + (value - now) * each / was end
  return value
end

local function rate(key, each, full, cost)
  if each == 0 then return 0, 0, 0 end
  local has = has(key, each)
  local from = math.max(has, now)
  local over = from + math.min(cost * each, full) - (now + full)
  return math.max(over, 0), from, from + cost * each
end

local function keep(key, value, each)
  redis.call('SET', key, string.format('%.0f', value) .. ' ' .. each, 'PX', string.format('%.0f', math.ceil((value - now) / 1000) + 1))
end

local each1, each2 = tonumber(ARGV[1]), tonumber(ARGV[3])
local wait1, has1, new1 = rate(KEYS[1], each1, tonumber(ARGV[2]), 1)
local wait2, has2, new2 = rate(KEYS[2], each2, tonumber(ARGV[4]), tokens)

local budget, used, spent = tonumber(ARGV[6]), 0, 0
if budget > 0 then
  used = tonumber(redis.call('GET', KEYS[3]) or 0)
  if used + math.min(tokens, budget) > budget then spent = 1 end
end

if redis.call('EXISTS', KEYS[5]) == 1 then -- it was done and its answer came too late, or was given up
  return {1, 0, 0, 0, 0, math.max(0, has1 - now), math.max(0, has2 - now), used}
end

local most, full = tonumber(ARGV[7]), 0
if most > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', string.format('%.0f', now))
  if redis.call('ZCARD', KEYS[4]) >= most then full = 1 end
end

if wait1 > 0 or wait2 > 0 or spent == 1 or full == 1 then
  return {0, math.ceil(wait1), math.ceil(wait2), full, spent, math.max(0, has1 - now), math.max(0, has2 - now), used}
end
if each1 > 0 then keep(KEYS[1], new1, ARGV[1]) end
if each2 > 0 then keep(KEYS[2], new2, ARGV[3]) end
if budget > 0 then
  used = redis.call('INCRBY', KEYS[3], ARGV[5])
  redis.call('PEXPIRE', KEYS[3], 172800000)
end
if most > 0 then
  redis.call('ZADD', KEYS[4], string.format('%.0f', now + ARGV[9] * 1000), ARGV[8])
  redis.call('PEXPIRE', KEYS[4], ARGV[9])
end
redis.call('SET', KEYS[5], '1', 'PX', ARGV[10])
return {1, 0, 0, 0, 0, math.max(0, new1 - now), math.max(0, new2 - now), used}
