-- KEYS state, key versions, fences, fences    ARGV nonce channel hint
-- -> epoch, number    Both floors rise to a new head; the tables are emptied but for what names the domain.
local e, s, _, _, t = open(ARGV[1])
local q = scores(KEYS[1], '\1q')[1] or 0
local r = scores(KEYS[1], '\1r')[1] or whole(-t)
s = s + 1
call('UNLINK', KEYS[1], KEYS[2])
call('ZADD', KEYS[1], whole(-e), '\1e', whole(-s), '\1s', whole(-s), '\1f', r, '\1r', q, '\1q')
call('ZADD', KEYS[2], whole(-e), '\1e', whole(-s), '\1f')
announce(e, s, ARGV[2], ARGV[3])
return {whole(e), whole(s)}
