-- KEYS state    ARGV epoch number me mark channel question
-- -> {} where the record is not known, or {settled, left out, member, score, ...}: the nodes that have not applied
-- it, as far as they said. A mark, a fraction below zero, asks them on the channel, and stands on the register until
-- they sync: that puts a whole number in its place. `left out` counts those whom a full register had no room for,
-- `settled` says whether the epoch has outlived the leases of the one before. (model: Look, Poll)
local n, call = tonumber, redis.call
if ARGV[4] ~= '' then redis.pcall('ZREM', KEYS[1], '') end           -- or OOM would refuse the marks (prelude.lua)
local m = redis.pcall('ZMSCORE', KEYS[1], '\1e', '\1s', '\1x', '\1o')
if m.err or not m[1] or not m[2] or string.format('%.0f', -m[1]) ~= ARGV[1] or -m[2] < n(ARGV[2]) then return {} end
local reply = {m[4] and '1' or '0', m[3] or '0'}
local behind = call('ZRANGEBYSCORE', KEYS[1], '(-' .. ARGV[2], 0, 'WITHSCORES')
for i = 1, #behind, 2 do
  local name, score = behind[i], behind[i + 1]
  if #name <= 64 and string.find(name, '^\1n%w+:%d+$') and not string.find(name, ARGV[3], 3, true) then
    if ARGV[4] ~= '' and n(score) % 1 == 0 then
      call('ZADD', KEYS[1], ARGV[4], name)
      score = call('ZMSCORE', KEYS[1], name)[1]
    end
    reply[#reply + 1] = string.sub(name, 3)
    reply[#reply + 1] = score
  end
end
if ARGV[4] ~= '' and #reply > 2 then redis.pcall('PUBLISH', ARGV[5], ARGV[6]) end
return reply
