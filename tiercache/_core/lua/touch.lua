-- KEYS entry    ARGV epoch ttl_ms
-- Moves the end of whatever entry of this epoch is there now, and nothing else of it. -> 1, or 0 without one
local size = redis.pcall('STRLEN', KEYS[1])
local large = type(size) == 'number' and size >= 262144
local raw = large and redis.pcall('GETRANGE', KEYS[1], 0, 60) or redis.pcall('GET', KEYS[1])
if type(raw) ~= 'string' then return 0 end
local epoch, token, at, old = string.match(raw, '^1|(%d+)|(%d+)|()(%d+)|')
if epoch ~= ARGV[1] then return 0 end
local t = redis.call('TIME')
local expiry = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[2])
if large then                                                      -- its end has a width of its own: large.py
  if #expiry ~= #old then return 0 end
  redis.call('SETRANGE', KEYS[1], at - 1, expiry)
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
local rest = string.sub(raw, at + #old)
redis.call('SET', KEYS[1], table.concat({'1', epoch, token, expiry}, '|') .. rest, 'PX', ARGV[2])
return 1
