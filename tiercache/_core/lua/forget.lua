-- KEYS state    ARGV left_out, then member and score of each
-- Takes nodes off the register that did not sync since they had that score; with the score '', at their own word.
-- A register that left nobody out since is complete again. (model: Forget)
for i = 2, #ARGV, 2 do
  local name = '\1n' .. ARGV[i]
  local score = redis.pcall('ZMSCORE', KEYS[1], name)[1]
  if score and (ARGV[i + 1] == '' or tonumber(score) == tonumber(ARGV[i + 1])) then
    redis.call('ZREM', KEYS[1], name)
  end
end
if ARGV[1] ~= '0' and redis.pcall('ZMSCORE', KEYS[1], '\1x')[1] == ARGV[1] then redis.call('ZREM', KEYS[1], '\1x') end
return 1
