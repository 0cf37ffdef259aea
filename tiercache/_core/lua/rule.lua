-- May a value loaded with this token stand? Part of fill and set.
local n, call, attempt = tonumber, redis.call, redis.pcall

-- Whether a write of the truth is under way, or whoever was at it died; also where nobody can tell any more.
-- (model: IsFenced)
local function is_fenced(fenced, dep, named)
  local live = attempt('HMGET', fenced, dep, unpack(named))
  if live.err or call('HLEN', fenced) == 0 then return true end
  for _, count in ipairs(live) do if count then return true end end
  return false
end

-- What is left to ask once state and key versions were read: -> 'ok' | 'floor' | 'stale' | 'fenced' (model: Judge)
local function weigh(token, floor, version, has_fences, state, fenced, dep, first)
  if token < floor then return 'floor' end
  if version and n(version) > token then return 'stale' end
  local named = {}
  for i = first, #ARGV do named[#named + 1] = 't:' .. ARGV[i] end
  if has_fences and is_fenced(fenced, dep, named) then return 'fenced' end
  if #named > 0 then
    for _, score in ipairs(call('ZMSCORE', state, unpack(named))) do
      if score and n(score) > token then return 'stale' end
    end
  end
  return 'ok'
end

-- -> as weigh, or 'epoch'; head
local function judge(state, keys, fenced, epoch, token, dep, first)
  local m = attempt('ZMSCORE', state, '\1e', '\1s', '\1f', '\1q')
  if m.err or not (m[1] and m[2] and m[3] and m[4]) then return 'epoch', 0 end
  local head = -m[2]
  if string.format('%.0f', -m[1]) ~= epoch then return 'epoch', head end
  local k = attempt('ZMSCORE', keys, '\1e', '\1f', dep)
  local known = not k.err and k[1] and k[2] and k[1] == m[1]
  local floor = math.max(-m[3], known and -k[2] or head)
  return weigh(n(token), floor, known and k[3], n(m[4]) ~= 0, state, fenced, dep, first), head
end

local function is_full(reply)                                      -- fakeredis has errors in a form of its own
  return type(reply) == 'table' and reply.err and string.find(tostring(reply.err), 'OOM', 1, true)
end

-- 1|epoch|token|expiry|check|print|bytes of tags|tags, NUL between|payload
-- A large one was staged: it is there under another name, whole but for token and expiry, and never comes in here.
local function store(entry, epoch, token, ttl_ms, check, print, payload, first, staged)
  local t = call('TIME')
  local expiry = t[1] * 1000 + math.floor(t[2] / 1000) + ttl_ms
  if staged then
    local there = attempt('STRLEN', staged)
    if type(there) == 'table' or there == 0 then return 'full' end       -- no memory, or gone in the meantime
    local known = attempt('SETRANGE', staged, #epoch + 3, string.format('%016.0f|%013.0f', token, expiry))
    if is_full(known) then return 'full' end
    if type(known) == 'table' then return known end
    call('RENAME', staged, entry)
    call('PEXPIRE', entry, ttl_ms)
    return 'ok'
  end
  local tags = table.concat(ARGV, '\0', first)
  local header = table.concat({'1', epoch, token, string.format('%.0f', expiry), check, print, #tags, ''}, '|')
  local stored = attempt('SET', entry, header .. tags .. payload, 'PX', ttl_ms)
  if is_full(stored) then return 'full' end
  return type(stored) == 'table' and stored.err and stored or 'ok'
end
