-- KEYS state, key versions, fences, fenced    ARGV nonce channel hint
-- -> epoch, number    Both floors rise to a new head; the tables are emptied but for what names the domain.
-- (model: Cleared)
local e, s = open(ARGV[1], ARGV[2])
local names = call('ZRANGEBYSCORE', KEYS[1], '-inf', 0, 'WITHSCORES')
s = s + 1
call('UNLINK', KEYS[1], KEYS[2])
for i = 1, #names, 2 do call('ZADD', KEYS[1], names[i + 1], names[i]) end
call('ZADD', KEYS[1], whole(-s), '\1f')
call('ZADD', KEYS[2], whole(-e), '\1e', whole(-s), '\1f')
announce(e, s, ARGV[2], ARGV[3])
return {whole(e), whole(s)}
