-- KEYS state, key versions, fences, fences, members    ARGV nonce epoch proved limit node
-- -> epoch head floor key_floor tenure_known members 'new' | 'flush' | 'records' [dep number ...]
-- A write on purpose: whoever could not invalidate now gets no lease either.
local e, s, f, kf, t = open(ARGV[1])
local now = now_ms()
if failed(attempt('ZADD', KEYS[5], now, ARGV[5])) then
  call('DEL', KEYS[5])
  call('ZADD', KEYS[5], now, ARGV[5])
end
call('ZREMRANGEBYSCORE', KEYS[5], '-inf', whole(now - 60000))
call('PEXPIRE', KEYS[5], 60000)
local reply = {whole(e), whole(s), whole(f), whole(kf), t > 0 and 1 or 0, call('ZCARD', KEYS[5]), 'new'}
if whole(e) ~= ARGV[2] then return reply end
local proved, limit = n(ARGV[3]), n(ARGV[4])
reply[7] = 'flush'
if proved < f or proved < kf then return reply end
local records = call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[3], reply[2], 'WITHSCORES', 'LIMIT', 0, limit + 1)
for _, x in ipairs(call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[3], reply[2], 'WITHSCORES', 'LIMIT', 0, limit + 1)) do
  records[#records + 1] = x
end
if #records > 2 * limit then return reply end
reply[7] = 'records'
for _, x in ipairs(records) do reply[#reply + 1] = x end
return reply
