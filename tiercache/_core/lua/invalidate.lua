-- KEYS state, key versions, fences, fences, entry...
-- ARGV nonce channel hint cap key_cap count_of_tags dep...    tags first, then keys
-- -> epoch, number    One record for all of them.
local e, s = open(ARGV[1])
local last_tag = 6 + ARGV[6]
s = s + 1
note(KEYS[1], s, 7, last_tag, n(ARGV[4]))
note(KEYS[2], s, last_tag + 1, #ARGV, n(ARGV[5]))
announce(e, s, ARGV[2], ARGV[3])
for i = 5, #KEYS do call('UNLINK', KEYS[i]) end
return {whole(e), whole(s)}
