-- Shows whether writes are taken.
-- KEYS key   ARGV keep ms
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
return 1
