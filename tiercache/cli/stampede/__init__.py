"""`tiercache bench stampede`: what happens when everybody wants at once what nobody has.

A run plays scenarios. In each, callers in several processes ask at a common instant, or over
and over while something happens to what they ask for. The parts:

    command    options                     stage     the server: an own one, or the user's
    run        the run from end to end     crew      the processes
    scenarios  what may happen             worker    the life of one process
    conductor  makes it happen             part      its callers and its loader in one round
    judge      what to think of the answers          subjects  the cache under test
    report     the table, the samples      orders    what the processes tell each other

The truth is a function of time: the value of a key has a version, which grows at instants known
beforehand to all, and each answer says what key and version it is of, and when its load began.
So any answer can be judged by itself, and no process has to be asked what was true.
"""
