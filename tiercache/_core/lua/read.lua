-- KEYS state, then entry and lock of each key    ARGV epoch seen lock_ms, then mode and owner of each key
-- modes: 'get' an entry or a miss; 'lead' an entry, or leave to load; 'renew' leave to load, whatever is stored
-- -> {} go and sync, or {head, {'hit', entry, ms left} | {'large', tags, bytes} | {'miss'} | {'lead'} | {'wait', ms left, owner} | {'again'}, ...}
-- The head of the answer is the token of those who are to load. (model: ReadRuns, Refuses)
local n, call, attempt = tonumber, redis.call, redis.pcall
local m = attempt('ZMSCORE', KEYS[1], '\1e', '\1s', '\1f')
if m.err or not m[1] or not m[2] or not m[3] then return {} end
local head, floor = -m[2], -m[3]
if string.format('%.0f', -m[1]) ~= ARGV[1] or head < n(ARGV[2]) then return {} end

local function valid(raw)                      -- (model: Valid) planted or torn bytes are a miss, never an error
  local epoch, token, size, at = string.match(raw, '^1|(%d+)|(%d+)|%d+|%x+|%x+|(%d+)|()')
  token, size = n(token), n(size)
  if epoch ~= ARGV[1] or not token or token < floor or token > head then return false end
  if size == 0 then return true, '' end
  if size > #raw - at + 1 or size > 66176 then return false end     -- 129 tags of 512 bytes
  local named = {}
  for tag in string.gmatch(string.sub(raw, at, at + size - 1), '[^%z]+') do
    named[#named + 1] = 't:' .. tag
    if #named > 129 then return false end
  end
  if #named == 0 then return false end
  for _, version in ipairs(call('ZMSCORE', KEYS[1], unpack(named))) do
    if version and n(version) > token then return false end
  end
  return true, string.sub(raw, at, at + size - 1)
end

local function lead(lock, me)
  local node = string.match(me, '^%x*')                            -- owner: node:load
  local owner = attempt('HGET', lock, 'owner')
  if type(owner) == 'string' and string.match(owner, '^%x*') ~= node then
    local left = call('PTTL', lock)
    if left > 0 and left <= n(ARGV[3]) then      -- one that lives longer is not one of ours
      attempt('HSET', lock, 'w' .. node, 1)    -- wake me on my own channel
      return {'wait', left, string.sub(owner, 1, 64)}
    end
  end
  if type(owner) == 'table' then attempt('DEL', lock) end           -- of another type
  local taken = attempt('HSET', lock, 'owner', me)
  if type(taken) == 'number' then call('PEXPIRE', lock, ARGV[3]) end      -- no memory: no lock, and still a load
  return {'lead'}
end

local reply, sent = {string.format('%.0f', head)}, 0
for i = 2, #KEYS, 2 do
  local mode, me, raw = ARGV[i + 2], ARGV[i + 3], false
  local size = mode ~= 'renew' and attempt('STRLEN', KEYS[i])
  local large = type(size) == 'number' and size >= 262144
  -- Not read in vain, or many large values asked for together would be read as often as there are answers.
  local is_over = sent > 0 and type(size) == 'number' and not large and sent + size > 262144
  if mode ~= 'renew' and not is_over then raw = large and attempt('GETRANGE', KEYS[i], 0, 66400) or attempt('GET', KEYS[i]) end
  local is_valid, tags
  if type(raw) == 'string' then is_valid, tags = valid(raw) end
  if is_over then
    reply[#reply + 1] = {'again'}
  elseif is_valid and large then
    reply[#reply + 1] = {'large', tags, size}                   -- to be asked for by plain commands
  elseif is_valid then
    sent = sent + #raw
    reply[#reply + 1] = {'hit', raw, call('PTTL', KEYS[i])}
  elseif mode == 'get' then
    reply[#reply + 1] = {'miss'}
  else
    reply[#reply + 1] = lead(KEYS[i + 1], me)
  end
end
return reply
