-- KEYS entry    ARGV epoch ttl_ms
-- Moves the end of whatever entry of this epoch is there now, and nothing else of it. -> 1, or 0 without one
local raw = redis.pcall('GET', KEYS[1])
if type(raw) ~= 'string' then return 0 end
local epoch, token, rest = string.match(raw, '^1|(%d+)|(%d+)|%d+(|.*)$')
if epoch ~= ARGV[1] then return 0 end
local t = redis.call('TIME')
local expiry = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2])
redis.call('SET', KEYS[1], table.concat({'1', epoch, token, expiry}, '|') .. rest, 'PX', ARGV[2])
return 1
