-- KEYS state, key versions, fences, fenced, entry...    ARGV nonce channel hint cap key_cap fence dep...
-- -> epoch, number    One record for all of them; the fence of that name, '' for none, goes with it.
-- (model: WriteRuns, End)
local e, s = open(ARGV[1], ARGV[2])
if ARGV[6] ~= '' then lift(ARGV[6] .. '\0' .. ARGV[3]) end
for i = 5, #KEYS do call('UNLINK', KEYS[i]) end
return record(e, s, arguments(7), ARGV[2], ARGV[3], ARGV[4], ARGV[5])
