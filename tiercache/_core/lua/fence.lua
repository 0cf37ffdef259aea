-- KEYS state, key versions, fences, fenced, entry...    ARGV nonce channel hint cap key_cap name ttl_ms dep...
-- -> epoch, number    Before a write of the truth: a record, and until the fence is lifted nothing about its
-- dependencies is stored. Sent twice, it is one fence. (model: Fence)
local e, s = open(ARGV[1], ARGV[2])
local deps = arguments(8)
if scores(KEYS[1], '\1q')[1] == '0' then call('DEL', KEYS[3], KEYS[4]) end       -- whatever is there is not ours
if call('ZADD', KEYS[3], whole(now_ms() + ARGV[7]), ARGV[6] .. '\0' .. ARGV[3]) == 1 then
  call('ZINCRBY', KEYS[1], -1, '\1q')
  for _, dep in ipairs(deps) do
    if failed(attempt('HINCRBY', KEYS[4], dep, 1)) then call('DEL', KEYS[3]) break end     -- planted, as in `lift`
  end
end
for i = 5, #KEYS do call('UNLINK', KEYS[i]) end
return record(e, s, deps, ARGV[2], ARGV[3], ARGV[4], ARGV[5])
