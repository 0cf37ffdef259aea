-- Ends a load: the lock goes and its waiters hear of it, each on its own channel. Part of fill and unlock.
local function release(lock, owner, wake, dep)
  if redis.pcall('HGET', lock, 'owner') ~= owner then return 0 end
  for _, field in ipairs(redis.call('HKEYS', lock)) do
    if string.sub(field, 1, 1) == 'w' then redis.pcall('PUBLISH', wake .. string.sub(field, 2), dep) end
  end
  return redis.call('DEL', lock)
end
