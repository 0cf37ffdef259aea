-- KEYS entry state key_versions lock fenced [staged]    ARGV epoch token owner ttl_ms dep check print payload wake tag...
-- -> status, head    status: ok | full (no memory) | older (a newer token is there) | stale | fenced | floor | epoch
-- Never moves the head: an old primary's head must stay below the records it lost. (model: FillRuns)
local status, head = judge(KEYS[2], KEYS[3], KEYS[5], ARGV[1], ARGV[2], ARGV[5], 10)
if status == 'ok' then
  local old = attempt('GETRANGE', KEYS[1], 0, 63)
  local epoch, token = string.match(type(old) == 'string' and old or '', '^1|(%d+)|(%d+)|')
  if epoch == ARGV[1] and n(token) > n(ARGV[2]) and n(token) <= head then
    status = 'older'                                              -- (model: Older) saves a load; no promise rests on it
  else
    status = store(KEYS[1], ARGV[1], ARGV[2], ARGV[4], ARGV[6], ARGV[7], ARGV[8], 10, KEYS[6])
  end
end
if KEYS[6] then call('DEL', KEYS[6]) end                         -- refused: a rename has left nothing there
release(KEYS[4], ARGV[3], ARGV[9], ARGV[5])
if type(status) == 'table' then return status end
return {status, string.format('%.0f', head)}
