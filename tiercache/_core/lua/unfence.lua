-- KEYS state, key versions, fences, fenced    ARGV name hint
-- The write did not happen: the fence goes without a record. -> 1, or 0 where it had run out (model: Discard)
return lift(ARGV[1] .. '\0' .. ARGV[2]) and 1 or 0
