-- KEYS state    ARGV epoch proved member number waiter wake
-- A node has applied the records up to `proved`. -> 1 where nobody is behind `number` any more, and wakes the waiter
-- (model: AckRun)
local n, call = tonumber, redis.call
redis.pcall('ZREM', KEYS[1], '')                                    -- or OOM would refuse what comes (prelude.lua)
local m = redis.pcall('ZMSCORE', KEYS[1], '\1e', '\1n' .. ARGV[3])
if m.err or not m[1] or not m[2] or string.format('%.0f', -m[1]) ~= ARGV[1] then return 0 end
if -m[2] < n(ARGV[2]) then call('ZADD', KEYS[1], '-' .. ARGV[2], '\1n' .. ARGV[3]) end
for _, name in ipairs(call('ZRANGEBYSCORE', KEYS[1], '(-' .. ARGV[4], 0)) do
  if #name <= 64 and string.find(name, '^\1n%w+:%d+$') and not string.find(name, ARGV[5], 3, true) then return 0 end
end
redis.pcall('PUBLISH', ARGV[6] .. ARGV[5], 'barrier')
return 1
