-- KEYS state, key versions, fences, fenced, entry [, staged]
-- ARGV nonce channel key_cap dep epoch token ttl_ms check print payload tag...
-- -> status, epoch, number    status: ok | full | as fill refuses a token, with nothing done
-- A record on the key, the value with that record as its token, and the hint, in one step. (model: Set)
-- OOM can refuse the first write of a script only, and a record must pass: this one adds nothing, and asks.
local room = attempt('ZADD', KEYS[1], 'XX', 0, '')
local e, s, f, kf, _, q = open(ARGV[1], ARGV[2])
local status = 'epoch'
if whole(e) == ARGV[5] then
  local version = call('ZMSCORE', KEYS[2], ARGV[4])[1]
  status = weigh(n(ARGV[6]), math.max(f, kf), version, q ~= 0, KEYS[1], KEYS[4], ARGV[4], 11)
end
if status ~= 'ok' then
  if KEYS[6] then call('DEL', KEYS[6]) end
  return {status, whole(e), whole(s)}
end
s = s + 1
note(KEYS[2], s, 'k:', {ARGV[4]}, n(ARGV[3]))
announce(e, s, ARGV[2], ARGV[4])
local stored = 'full'
if not is_full(room) then
  stored = store(KEYS[5], whole(e), whole(s), ARGV[7], ARGV[8], ARGV[9], ARGV[10], 11, KEYS[6])
end
if stored ~= 'ok' then call('DEL', unpack(KEYS, 5)) end
if type(stored) == 'table' then return stored end
return {stored, whole(e), whole(s)}
