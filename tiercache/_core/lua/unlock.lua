-- KEYS lock    ARGV owner wake dep
-- The load failed or was given up: wakes the waiters, one of whom leads. -> 1 if the lock was still this owner's
return release(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
