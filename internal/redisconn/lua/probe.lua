-- Shows whether writes are taken, and whether the node has lost its data since it was last probed.
-- KEYS key, emptied   ARGV keep ms, whether the key was there, keep ms of emptied
local had = redis.call('EXISTS', KEYS[1]) == 1
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
if not had and ARGV[2] == '1' then
  redis.call('SET', KEYS[2], '1', 'PX', ARGV[3])
end
return 1
