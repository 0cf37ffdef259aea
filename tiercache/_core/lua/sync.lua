-- KEYS state, key versions, fences, fenced, members    ARGV nonce channel epoch proved limit node member settled
-- -> epoch head floor key_floor tenure_known members 'new' | 'flush' | 'records' {fenced dep...} [dep number ...]
-- A write on purpose: whoever could not invalidate now gets no lease either. Whoever gets one is on the register
-- of the state from then on, with the records it has applied: those up to the one it says is proved.
-- (model: SyncRuns, Since, Registered)
local e, s, f, kf, t = open(ARGV[1], ARGV[2])
local now = now_ms()
if failed(attempt('ZADD', KEYS[5], now, ARGV[6])) then
  call('DEL', KEYS[5])
  call('ZADD', KEYS[5], now, ARGV[6])
end
call('ZREMRANGEBYSCORE', KEYS[5], '-inf', whole(now - 60000))
call('PEXPIRE', KEYS[5], 60000)
local same = whole(e) == ARGV[3]
call('ZADD', KEYS[1], whole(same and -math.min(ARGV[4], s) or 0), '\1n' .. ARGV[7])
if same and ARGV[8] == '1' then call('ZADD', KEYS[1], 0, '\1o') end
if call('ZCOUNT', KEYS[1], '-inf', 0) > 4096 then                  -- most are of nodes that died without a word
  for _, name in ipairs(call('ZREVRANGEBYSCORE', KEYS[1], 0, '-inf', 'LIMIT', 0, 9)) do
    if string.sub(name, 1, 2) == '\1n' and name ~= '\1n' .. ARGV[7] then
      call('ZREM', KEYS[1], name)
      call('ZADD', KEYS[1], '-' .. ARGV[1], '\1x')       -- and one may not be dead; no two times look alike
      break
    end
  end
end
local reply = {whole(e), whole(s), whole(f), whole(kf), t > 0 and 1 or 0, call('ZCARD', KEYS[5]), 'new', {}}
if scores(KEYS[1], '\1q')[1] ~= '0' then
  if call('HLEN', KEYS[4]) > 1000 then
    reply[8] = {'*'}
  else
    for _, dep in ipairs(call('HKEYS', KEYS[4])) do
      if #dep <= 514 then reply[8][#reply[8] + 1] = dep end        -- as below
    end
  end
end
if not same then return reply end
local proved, limit = n(ARGV[4]), n(ARGV[5])
reply[7] = 'flush'
if proved < f or proved < kf then return reply end
local records = call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[4], reply[2], 'WITHSCORES', 'LIMIT', 0, limit + 1)
for _, x in ipairs(call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[4], reply[2], 'WITHSCORES', 'LIMIT', 0, limit + 1)) do
  records[#records + 1] = x
end
if #records > 2 * limit then return reply end
reply[7] = 'records'
for i = 1, #records, 2 do                       -- a longer name is nobody's dependency: it was planted
  if #records[i] <= 514 then
    reply[#reply + 1], reply[#reply + 2] = records[i], records[i + 1]
  end
end
return reply
