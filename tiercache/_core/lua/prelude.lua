-- Stands in front of every script that may move the head. Their first four keys are the state of one domain:
--   KEYS[1]  state         \1e -epoch  \1s -head  \1f -floor  \1r -tenure  \1q -live fences   (scores <= 0)
--                          \1n<member>  -the record that a node has applied, or a fraction (barrier.lua)
--                          \1o, \1x  the epoch outlived all older leases; nodes that a full register left out
--                          t:<tag>  number of the last record that named it                   (scores >  0)
--   KEYS[2]  key versions  \1e -epoch  \1f -floor of its own;  k:<key>  number
--   KEYS[3]  fences        <name>, NUL, dependencies with NUL between -> when it runs out, in ms of this server
--   KEYS[4]  fenced        dependency -> live fences on it; both go with the epoch they belong to
-- One member a dependency makes KEYS[1] three things at once: version table, compacted log, identity.
-- Runs on Redis 6.2 and later, Valkey, and fakeredis: no struct, cmsgpack or cjson.
local n, call, attempt = tonumber, redis.call, redis.pcall

local function whole(x) return string.format('%.0f', x) end        -- tostring() loses digits above 10^14

local function failed(reply) return type(reply) == 'table' and reply.err ~= nil end

local function scores(key, ...)                                    -- a key of another type holds none of them
  local reply = attempt('ZMSCORE', key, ...)
  if not failed(reply) then return reply end
  local said = tostring(reply.err)                                 -- fakeredis has it in a form of its own
  if string.find(said, 'WRONGTYPE', 1, true) then return {} end
  error(said)
end

-- From 2^53 on adding one changes nothing: a head that somebody planted there would stand still.
local function sound(x) return x >= 1 and x < 2^53 and x % 1 == 0 end

local function now_ms()
  local t = call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- The name of this server's time as primary: new at each promotion and restart. 0: this user may not know.
local function tenure()
  local info = attempt('INFO', 'replication')
  local id = type(info) == 'string' and string.match(info, 'master_replid:(%x+)')
  return id and n(string.sub(id, 1, 12), 16) or 0
end

-- Above the cap the oldest members go and the floor rises to the last of them, a little at each record. (model: Trim)
local function trim(key, cap, named)
  local over = call('ZCOUNT', key, 1, '+inf') - cap
  if over <= 0 then return end
  local count = math.min(over, 64 + 2 * named)
  local last = call('ZRANGEBYSCORE', key, 1, '+inf', 'WITHSCORES', 'LIMIT', count - 1, 1)[2]
  if not last then return end
  call('ZREMRANGEBYSCORE', key, 1, last)
  call('ZADD', key, whole(-last), '\1f')
end

-- Record s on those of the dependencies that begin with `kind`, kept in `key`; without a cap nothing is trimmed.
-- (model: Note)
local function note(key, s, kind, deps, cap)
  local z = {}
  for _, dep in ipairs(deps) do
    if string.sub(dep, 1, 2) == kind then z[#z + 1] = whole(s); z[#z + 1] = dep end
  end
  if #z == 0 then return end
  call('ZADD', key, unpack(z))
  if cap then trim(key, cap, #z / 2) end
end

-- Moves the head and tells it on the channel: a hint, nothing more, so a user may lack the right to give it.
local function announce(e, s, channel, named)
  call('ZADD', KEYS[1], whole(-s), '\1s')
  attempt('PUBLISH', channel, '1|' .. whole(e) .. '|' .. whole(s) .. '|' .. named)
end

-- Takes a fence away. -> its dependencies; nil where there is none of that name (model: Lift)
local function lift(fence)
  if call('ZREM', KEYS[3], fence) == 0 then return nil end
  call('ZINCRBY', KEYS[1], 1, '\1q')
  local deps = {}
  for dep in string.gmatch(fence, '%z([^%z]+)') do deps[#deps + 1] = dep end
  if #deps > 2000 then deps = {} end                               -- none of ours
  for _, dep in ipairs(deps) do
    local left = attempt('HINCRBY', KEYS[4], dep, -1)
    if failed(left) then call('DEL', KEYS[3]) break end            -- planted: the next script finds fences lost
    if left <= 0 then call('HDEL', KEYS[4], dep) end
  end
  return deps
end

-- A fence that ran out becomes a record, and only then may its dependencies be filled again: a load that began
-- under it has a newer token than the fence itself. (model: RunOut)
local function run_out(e, s, channel)
  local now = whole(now_ms())
  for _, fence in ipairs(call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 128)) do
    local deps = lift(fence)
    s = s + 1
    note(KEYS[1], s, 't:', deps)
    note(KEYS[2], s, 'k:', deps)
    announce(e, s, channel, table.concat(deps, '\0'))
  end
  return s
end

-- The state as it stands, or a new epoch where there is none or another tenure left it: epoch, head, floor,
-- floor of the key versions, tenure, live fences. A user who may not read the tenure takes any and opens no epoch
-- for it; one who may read it does not trust a state that was opened without. Fences that are lost take the epoch
-- along.
-- (model: Open)
local function open(nonce, channel)
  attempt('ZREM', KEYS[1], '')      -- the first write of a script is the only one that OOM or NOREPLICAS can refuse
  local m, t = scores(KEYS[1], '\1e', '\1s', '\1f', '\1r', '\1q'), tenure()
  local e, s, f, q
  if m[1] and m[2] and m[3] and m[4] and m[5] and (t == 0 or -m[4] == t) then
    e, s, f, q = -m[1], -m[2], -m[3], -m[5]
    local fenced = q == 0 or attempt('HLEN', KEYS[4])
    if q ~= 0 and (attempt('ZCARD', KEYS[3]) ~= q or failed(fenced) or fenced == 0) then e = nil end
  end
  -- A register of that many was planted, too: a sync keeps it at half of it.
  if not (e and sound(e) and sound(s) and sound(f)) or f > s or call('ZCOUNT', KEYS[1], '-inf', 0) > 8192 then
    e, s, f, q = n(nonce), 1, 1, 0
    call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
    call('ZADD', KEYS[1], whole(-e), '\1e', -1, '\1s', -1, '\1f', whole(-t), '\1r', 0, '\1q')
  end
  local k = scores(KEYS[2], '\1e', '\1f')
  local kf = k[1] and k[2] and -k[1] == e and sound(-k[2]) and -k[2] <= s and -k[2]
  if not kf then
    call('DEL', KEYS[2])                                           -- what it knew is lost: its floor is the head
    call('ZADD', KEYS[2], whole(-e), '\1e', whole(-s), '\1f')
    kf = s
  end
  if q > 0 then
    s = run_out(e, s, channel)
    q = -scores(KEYS[1], '\1q')[1]
  end
  return e, s, f, kf, t, q
end

local function arguments(first)
  local deps = {}
  for i = first, #ARGV do deps[#deps + 1] = ARGV[i] end
  return deps
end

-- The next record, on dependencies of both kinds, with its hint.
local function record(e, s, deps, channel, named, cap, key_cap)
  note(KEYS[1], s + 1, 't:', deps, n(cap))
  note(KEYS[2], s + 1, 'k:', deps, n(key_cap))
  announce(e, s + 1, channel, named)
  return {whole(e), whole(s + 1)}
end
