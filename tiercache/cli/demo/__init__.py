"""`tiercache demo`: a small shop on several processes, hurt on purpose, every read checked.

    shop      the database                     messages  what the processes tell the checker
    pages     the cached functions             check     how stale each read was
    worker    a process that serves pages      delays    how long an invalidation took to arrive
    writer    a process that changes rows      tally     sums of both, and of the tiers
    crew      these processes, from outside    report    the lines
    faults    what is done to the workers      run       all of it, from the beginning to the end

`pages` and `writer` are how an application uses tiercache; they know it by its public names alone.
"""
