------------------------------ MODULE Coherence ------------------------------
(* Nodes, a server that may fail, a channel that may say anything, and one writer. Each read is   *)
(* judged as it returns by what was true when it began.                                            *)
(* Time is ages and what is left of leases, capped at D: so no run has an end, and a process that  *)
(* is stopped is one that takes no step while Tick does. A request runs on the server in one step  *)
(* and is answered in another; between them anything may happen.                                   *)
EXTENDS Rules

CONSTANTS Threads,      \* of "p1", "p2" of node p; "n" reads inside a load of node p; "q1" of node q
          Around,       \* those of them that may read past L1 and flights (`l1=False`, `cache.get`)
          Own,          \* whether the writer is a thread of node p; else it is a process without reads
          Writes,       \* of "invalidate", "delete", "set", "set_token", "clear"
          MaxWrites, MaxFailovers, MaxForgets, MaxCrashes, MaxFails, MaxSets,
          Hints,        \* what hints may name, true or not: a set of sets of dependencies
          MaxForged,    \* how far the numbers of forged hints run ahead of the head
          Nested,       \* "no"; "known" as part of its load; "unknown": in a thread that the loader started
          Joins,        \* whether reads of a node share flights
          SyncsArrive,  \* whether the sync before a load gets through
          Split,        \* whether a read of L1 takes the lease in one step and the entry in another
          Ticks,        \* whether time passes
          Large,        \* whether entries are so large that the script leaves them to a Look
          Looks,        \* whether the tag of the key is among those that a Look asks for: a set; empty, none looks
          Evicts,       \* whether entries may be evicted, in Redis and in L1
          Cold,         \* whether the nodes begin without an epoch
          Filled        \* whether Redis begins with an entry under each key

NodeOf(t) == IF t = "q1" THEN "q" ELSE "p"
Nodes == {NodeOf(t) : t \in Threads} \cup (IF Own THEN {"p"} ELSE {})
Versions == 1..MaxWrites

VARIABLES db,           \* the truth: the number of the last write that was committed
          ages,         \* time since the record of each write was made, capped at D; NONE: not yet
          srv, ten,     \* the state on the primary, and the name of its tenure
          ent,          \* the entries there
          copy,         \* what the replica, or the snapshot on the disk, has of both
          issued,       \* the last number of each epoch, also of one that was lost
          node, read, sync, write,
          late,         \* a set that is still under way to the server when its sender has given up
          used,         \* mishaps so far
          ret,          \* the last write of node p that has returned
          met,          \* the newest write that an answered read of a key has reflected, per node
          told,         \* the newest write that replies have told a node of
          bad           \* the guarantees that were broken
server == <<srv, ten, ent, copy, issued>>
judge == <<ret, met, told, bad>>
vars == <<db, ages, srv, ten, ent, copy, issued, node, read, sync, write, late, used, ret, met, told, bad>>

Join0 == [st |-> Stand0, young |-> FALSE, will |-> FALSE, covered |-> FALSE]
Landing0 == [token |-> NONE, head |-> NONE, st |-> Stand0, iv |-> 0]
Read0 == [pc |-> "idle", k |-> "i", lease |-> 0, v |-> NONE, iv |-> 0, token |-> NONE, head |-> NONE, st |-> Stand0,
          store |-> NONE, age |-> 0, on |-> "", part |-> "", j |-> Join0, l |-> Landing0, around |-> FALSE,
          looked |-> FALSE, large |-> FALSE, renew |-> FALSE, versions |-> NoVersions, entry |-> NoEntry, m1 |-> 0, m2 |-> 0, m6 |-> 0, m8 |-> 0]
Sync0 == [pc |-> "idle", age |-> 0, ep |-> 0, gen |-> 0, applied |-> 0, rep |-> 0, head |-> 0, flush |-> FALSE,
          ver |-> [d \in Deps |-> 0], iv |-> [k \in Keys |-> 0], deps |-> {}]
Write0 == [pc |-> "idle", kind |-> "", v |-> 0, ep |-> 0, n |-> 0, place |-> 0, token |-> 0, st |-> Stand0]
Late0 == [v |-> 0, place |-> 0, token |-> 0]
Server0 == [NoServer EXCEPT !.ep = 1, !.ten = 1]
Used0 == [failovers |-> 0, forgets |-> 0, crashes |-> 0, fails |-> 0, sets |-> 0]
Entries0 == [k \in Keys |-> IF Filled THEN [ep |-> 1, token |-> 0, val |-> 0] ELSE NoEntry]

Init ==
  /\ db = 0 /\ ages = [v \in Versions |-> NONE]
  /\ srv = Server0 /\ ten = 1 /\ ent = Entries0 /\ copy = [srv |-> Server0, ent |-> Entries0] /\ issued = <<0>>
  /\ node = [p \in Nodes |-> [Node0 EXCEPT !.ep = IF Cold THEN 0 ELSE 1]]
  /\ read = [t \in Threads |-> Read0] /\ sync = [p \in Nodes |-> Sync0] /\ write = Write0 /\ late = Late0
  /\ used = Used0 /\ ret = 0 /\ bad = {}
  /\ met = [p \in Nodes |-> [k \in Keys |-> 0]] /\ told = [p \in Nodes |-> [k \in Keys |-> 0]]

(***************************** time *****************************)

Flying == {"sent", "both", "got", "lead", "nest", "fill", "filled", "away"}
IsFlying(g) == g.pc \in Flying \/ (g.large /\ g.pc \in {"looks", "half", "whole", "looked"})
Older1(a) == IF a = NONE THEN NONE ELSE IF a >= D THEN D ELSE a + 1
Less(a) == IF a = 0 THEN 0 ELSE a - 1
Tick ==
  /\ Ticks
  /\ node' = [p \in Nodes |-> [node[p] EXCEPT !.lease = Less(@)]]
  /\ read' = [t \in Threads |-> [read[t] EXCEPT !.lease = Less(@), !.age = IF Joins /\ IsFlying(read[t]) THEN Older1(@) ELSE 0]]
  /\ sync' = [p \in Nodes |-> [sync[p] EXCEPT !.age = IF sync[p].pc = "sent" THEN Older1(@) ELSE 0]]
  /\ ages' = [v \in Versions |-> Older1(ages[v])]
  /\ UNCHANGED <<late, db, server, write, used, judge>>

(***************************** how a read ends *****************************)

Newest(which) == IF which = {} THEN 0 ELSE CHOOSE v \in which : \A w \in which : w <= v
Broken(g, v) == (IF v < g.m1 THEN {"G1"} ELSE {}) \cup (IF v < g.m2 THEN {"G2"} ELSE {})
                \cup (IF v < g.m6 THEN {"G6"} ELSE {}) \cup (IF v < g.m8 THEN {"G8"} ELSE {})

\* t has value v: whoever joined its flight gets landing l, and a load that asked for a part gets it
Ended(t, v, l) ==
  [h \in Threads |->
     IF h = t THEN Read0
     ELSE IF read[h].pc = "join" /\ read[h].on = t THEN [read[h] EXCEPT !.pc = "landed", !.v = v, !.l = l]
     ELSE IF t = "n" /\ read["n"].part = h THEN [read[h] EXCEPT !.pc = "fill", !.v = v]
     ELSE read[h]]
Finish(t, g, v, l) == read' = Ended(t, v, l) /\ bad' = bad \cup Broken(g, v)
Meets(t, g, iv) == met' = [met EXCEPT ![NodeOf(t)][g.k] = Max(@, iv)]
Keep(q, g) == IF g.around THEN q ELSE Insert(q, g.k, g.v, g.head, g.iv, g.st)
NotMet == UNCHANGED <<met, told, ret>>

\* loads.load_away: from the source, for those who wait now. Who joins must be able to tell how old it is.
Away(t, g) ==
  IF Joins /\ ~g.around
  THEN /\ read' = [h \in Threads |->
            IF h = t THEN [g EXCEPT !.pc = "away", !.v = db, !.age = 0, !.token = NONE, !.head = NONE,
                                    !.st = StandOf(node[NodeOf(t)]), !.j = Join0]
            ELSE IF read[h].pc = "join" /\ read[h].on = t THEN [read[h] EXCEPT !.j.young = TRUE] ELSE read[h]]
       /\ UNCHANGED bad
  ELSE Finish(t, g, db, Landing0)

(***************************** reads: reads.py, loads.py *****************************)

\* The load that a nested read is known to be part of
Ahead(t) == IF t = "n" /\ Nested = "known" /\ read[read["n"].part].st.ep = node["p"].ep
            THEN read[read["n"].part].token ELSE 0

Flights(t, k) == {h \in Threads : h # t /\ NodeOf(h) = NodeOf(t) /\ read[h].k = k /\ ~read[h].around
                    /\ IsFlying(read[h])}

LookAt(t, g) ==
  LET p == NodeOf(t) q == node[p] k == g.k
      live == (IF On("lease_first") THEN g.lease ELSE q.lease) > 0 \/ ~On("lease")
      there == IF On("lease_first") THEN q.l1[k] ELSE [val |-> g.v, vouched |-> g.head, iv |-> g.iv]
      st == StandOf(q)
      j == IF g.j.st.live THEN g.j ELSE [Join0 EXCEPT !.st = st, !.will = sync[p].pc = "sent" /\ sync[p].age < D]
      asking == [g EXCEPT !.lease = 0, !.age = 0, !.st = st, !.j = Join0, !.v = NONE, !.head = NONE, !.iv = 0]
  IN  IF Answers(q, there, Ahead(t)) /\ live /\ ~g.around
      THEN Finish(t, g, there.val, [Landing0 EXCEPT !.head = there.vouched, !.token = there.vouched, !.st = st, !.iv = there.iv])
           /\ Meets(t, g, there.iv) /\ UNCHANGED <<told, ret>>
      ELSE IF Joins /\ ~g.around /\ Flights(t, k) # {}
      THEN \E f \in Flights(t, k) :
             /\ read' = [read EXCEPT ![t] = [g EXCEPT !.pc = "join", !.lease = 0, !.on = f,
                           !.j = [j EXCEPT !.young = read[f].age < D]]]
             /\ UNCHANGED bad /\ NotMet
      ELSE /\ NotMet
           /\ \/ /\ q.lease > 0 \/ ~On("l2_lease")
                 /\ q.pending = {} \/ ~On("pending_first")
                 /\ read' = [read EXCEPT ![t] = [asking EXCEPT !.pc = "sent"]] /\ UNCHANGED bad
              \/ /\ Looks # {} /\ ~g.looked /\ q.lease > 0 /\ q.pending = {}
                 /\ read' = [read EXCEPT ![t] = [asking EXCEPT !.pc = "looks"]] /\ UNCHANGED bad
              \/ /\ Joins \/ q.lease = 0
                 /\ Away(t, asking)

\* What the judge holds against the read that begins now
Begun(p, k) ==
  [Read0 EXCEPT !.pc = "look", !.k = k, !.lease = node[p].lease, !.m1 = Newest({v \in Versions : ages[v] = D}),
     !.m2 = IF Own /\ p = "p" THEN ret ELSE 0, !.m6 = met[p][k], !.m8 = told[p][k]]

\* Coherence.serve, first half: the lease is read before the entry (R32)
Invoke(t, k) ==
  LET e == node[NodeOf(t)].l1[k] IN
  /\ read[t].pc = "idle" /\ t # "n"
  /\ k = "o" => Nested # "no" \/ Joins
  /\ \E around \in (IF t \in Around THEN BOOLEAN ELSE {FALSE}) :
       LET g == [Begun(NodeOf(t), k) EXCEPT !.around = around] IN
       IF ~Split THEN LookAt(t, g)
       ELSE /\ read' = [read EXCEPT ![t] = IF On("lease_first") THEN g
                          ELSE [g EXCEPT !.v = e.val, !.head = IF e.val = NONE THEN NONE ELSE e.vouched, !.iv = e.iv]]
            /\ UNCHANGED judge
  /\ UNCHANGED <<late, db, ages, server, node, sync, write, used>>

\* The loader of h asks for its part
InvokeNested(h) ==
  /\ "n" \in Threads /\ read["n"].pc = "idle" /\ read[h].pc = "nest"
  /\ read' = [read EXCEPT !["n"] = [Begun("p", "i") EXCEPT !.part = h]]
  /\ UNCHANGED <<late, db, ages, server, node, sync, write, used, judge>>

\* Coherence.serve, second half; and what follows where L1 has nothing: join, ask L2 (the read leaves), or load
Look(t) ==
  /\ read[t].pc = "look"
  /\ LookAt(t, read[t])
  /\ UNCHANGED <<late, db, ages, server, node, sync, write, used>>

\* asks.ask_l2 under a lapsed lease: a sync and a read in one round trip
SyncAndRead(t) ==
  LET p == NodeOf(t) q == node[p] s == Open(srv, ten, Len(issued) + 1) st == StandOf(q) g == read[t] since == Since(s, q)
      asking == [g EXCEPT !.lease = 0, !.age = 0, !.st = st, !.j = Join0]
  IN  /\ g.pc = "look" /\ q.lease = 0 /\ q.ep # 0 /\ q.pending = {} /\ sync[p].pc = "idle"
      /\ ~(Joins /\ ~g.around /\ Flights(t, g.k) # {})
      /\ srv' = s /\ issued' = IF MustOpen(srv, ten) THEN Append(issued, 0) ELSE issued
      /\ sync' = [sync EXCEPT ![p] = [Sync0 EXCEPT !.pc = "sent", !.ep = q.ep, !.gen = q.gen, !.applied = q.applied, !.rep = s.ep,
                    !.head = s.head, !.flush = since.flush, !.ver = since.ver, !.iv = s.iv]]
      /\ read' = [h \in Threads |->
           IF h = t THEN (IF Refuses(s, st) THEN [asking EXCEPT !.pc = "look"]
                          ELSE IF Valid(s, ent[g.k]) /\ Large THEN [asking EXCEPT !.pc = "both", !.large = TRUE, !.head = s.head]
                          ELSE IF Valid(s, ent[g.k])
                          THEN [asking EXCEPT !.pc = "both", !.v = ent[g.k].val, !.head = s.head, !.iv = s.iv[g.k]]
                          ELSE [asking EXCEPT !.pc = "both", !.token = s.head])
           ELSE IF NodeOf(h) = p /\ read[h].pc = "join" THEN [read[h] EXCEPT !.j.will = TRUE] ELSE read[h]]
      /\ UNCHANGED <<late, db, ages, ten, ent, copy, node, write, used, judge>>

\* read.lua: an entry, or leave to load under the head as its token, or "go and sync"
ReadRuns(t) ==
  LET g == read[t]
      st == [g.st EXCEPT !.seen = IF On("seen_not_applied") THEN @ ELSE node[NodeOf(t)].applied]
  IN  /\ g.pc = "sent"
      /\ IF Refuses(srv, st) THEN Away(t, g)
         ELSE /\ read' = [read EXCEPT ![t] =
                   IF Valid(srv, ent[g.k]) /\ Large /\ ~g.renew THEN [g EXCEPT !.pc = "got", !.large = TRUE, !.head = srv.head]
                   ELSE IF Valid(srv, ent[g.k]) /\ ~Large THEN [g EXCEPT !.pc = "got", !.v = ent[g.k].val, !.head = srv.head, !.iv = srv.iv[g.k]]
                   ELSE [g EXCEPT !.pc = "got", !.token = srv.head]]
              /\ UNCHANGED bad
      /\ NotMet /\ UNCHANGED <<late, db, ages, server, node, sync, write, used>>

\* looks.Look: first the versions, then the entry, then where the server stands now, each at its own instant
LookVersions(t) ==
  LET g == read[t] IN
  /\ g.pc = "looks"
  /\ \E tag \in (IF g.large THEN {TRUE} ELSE Looks) :
       read' = [read EXCEPT ![t] =
         IF On("look_versions_first") THEN [g EXCEPT !.pc = "half", !.versions = VersionsAt(srv, tag), !.iv = srv.iv[g.k]]
         ELSE [g EXCEPT !.pc = "half", !.versions.ver = IF tag THEN 0 ELSE NONE, !.entry = ent[g.k]]]
  /\ NotMet /\ UNCHANGED <<late, db, ages, server, node, sync, write, used, bad>>

\* Looked.good, which is the client's, and as well done here: nothing that it looks at changes on the way
LookEntry(t) ==
  LET g == read[t]
      l == IF On("look_versions_first") THEN g.versions ELSE VersionsAt(srv, g.versions.ver # NONE)
      e == IF On("look_versions_first") THEN ent[g.k] ELSE g.entry
      iv == IF On("look_versions_first") THEN g.iv ELSE srv.iv[g.k]
      unsure == [g EXCEPT !.pc = "looked", !.versions = NoVersions, !.entry = NoEntry, !.iv = 0]
  IN  /\ g.pc = "half"
      /\ read' = [read EXCEPT ![t] = IF ~LookRefuses(l, g.st) /\ LookValid(l, e)
                                     THEN [unsure EXCEPT !.pc = "whole", !.v = e.val, !.head = l.head, !.iv = iv] ELSE unsure]
      /\ NotMet /\ UNCHANGED <<late, db, ages, server, node, sync, write, used, bad>>

LookAgain(t) ==
  LET g == read[t] IN
  /\ g.pc = "whole"
  /\ read' = [read EXCEPT ![t] = IF LookStands(srv, g.st.ep, g.head) THEN [g EXCEPT !.pc = "looked"]
                                 ELSE [g EXCEPT !.pc = "looked", !.v = NONE, !.head = NONE, !.iv = 0]]
  /\ NotMet /\ UNCHANGED <<late, db, ages, server, node, sync, write, used, bad>>

\* l2_hits.look_in_l2: who is not sure goes on as if it had not looked, and asks the script; where that had left a large
\* value to the look, for leave to load
LookAnswered(t) ==
  LET g == read[t] p == NodeOf(t) q == node[p] m == Meet(q, g.st, g.head, g.k)
      good == g.v # NONE /\ Current(q, g.st)
      gone == [g EXCEPT !.v = NONE, !.head = NONE, !.iv = 0, !.large = FALSE]
  IN  /\ g.pc = "looked"
      /\ node' = [node EXCEPT ![p] = IF ~good THEN q ELSE IF Withheld(q, g.k) THEN m ELSE Keep(m, g)]
      /\ IF good /\ ~Withheld(q, g.k)
         THEN /\ Finish(t, g, g.v, [Landing0 EXCEPT !.head = g.head, !.st = g.st, !.iv = g.iv])
              /\ Meets(t, g, g.iv) /\ UNCHANGED <<told, ret>>
         ELSE /\ IF ~g.large
                 THEN read' = [read EXCEPT ![t] = [gone EXCEPT !.pc = "look", !.looked = TRUE, !.lease = q.lease, !.st = Stand0]]
                      /\ UNCHANGED bad
                 ELSE IF q.lease > 0 /\ q.pending = {}
                 THEN read' = [read EXCEPT ![t] = [gone EXCEPT !.pc = "sent", !.renew = TRUE, !.st = StandOf(q)]] /\ UNCHANGED bad
                 ELSE Away(t, gone)
              /\ NotMet
      /\ UNCHANGED <<late, db, ages, server, sync, write, used>>

\* The answer of L2 is here: l2_hits.take, or a load begins. A load reads the truth as soon as it may, which is the worst.
ReadAnswered(t) ==
  LET g == read[t] p == NodeOf(t) q == node[p] head == IF g.token = NONE THEN g.head ELSE g.token
      m == Meet(q, g.st, head, g.k)
  IN  /\ g.pc = "got"
      /\ IF ~Current(q, g.st) \/ (g.token = NONE /\ ~g.large /\ Withheld(q, g.k))
         THEN Away(t, [g EXCEPT !.large = FALSE]) /\ UNCHANGED node /\ NotMet
         ELSE IF g.large
         THEN /\ node' = [node EXCEPT ![p] = m] /\ NotMet
              /\ IF m.lease > 0 /\ m.pending = {}
                 THEN read' = [read EXCEPT ![t] = [g EXCEPT !.pc = "looks", !.head = NONE, !.st = StandOf(m)]] /\ UNCHANGED bad
                 ELSE Away(t, [g EXCEPT !.large = FALSE, !.head = NONE])
         ELSE IF g.token = NONE
         THEN /\ node' = [node EXCEPT ![p] = Keep(m, g)]
              /\ Finish(t, g, g.v, [Landing0 EXCEPT !.head = g.head, !.st = g.st, !.iv = g.iv])
              /\ Meets(t, g, g.iv) /\ UNCHANGED <<told, ret>>
         ELSE /\ node' = [node EXCEPT ![p] = m]
              /\ read' = [read EXCEPT ![t] = IF Nested # "no" /\ g.k = "o" THEN [g EXCEPT !.pc = "lead"]
                                             ELSE [g EXCEPT !.pc = "fill", !.v = db, !.store = g.token]]
              /\ UNCHANGED bad /\ NotMet
      /\ UNCHANGED <<late, db, ages, server, sync, write, used>>

\* loads.catch_up: L1 knows all that the load must reflect, or the sync that was to tell it did not get through,
\* and then the load is stored under what is proved: a part that nobody knows of may be as old as that
StoreToken(q, token) == IF On("proved_token") /\ q.proved < token THEN q.proved ELSE token
CatchUp(t) ==
  LET g == read[t] IN
  /\ g.pc = "lead"
  /\ node[NodeOf(t)].proved >= g.token \/ ~SyncsArrive \/ ~On("catch_up")
  /\ read' = [read EXCEPT ![t].pc = "nest", ![t].store = StoreToken(node[NodeOf(t)], g.token)]
  /\ UNCHANGED <<late, db, ages, server, node, sync, write, used, judge>>

FillRuns(t) ==
  LET g == read[t] e == ent[g.k]
      token == IF On("token_at_miss") THEN g.store ELSE srv.head
      l == [Landing0 EXCEPT !.token = g.store, !.st = g.st]
  IN  /\ g.pc = "fill"
      /\ IF (IF On("token_at_miss") THEN Judge(srv, g.st.ep, token, g.k) ELSE srv.ep = g.st.ep) /\ ~Older(srv, e, token)
         THEN /\ ent' = [ent EXCEPT ![g.k] = [ep |-> srv.ep, token |-> token, val |-> g.v]]
              /\ read' = [read EXCEPT ![t] = [g EXCEPT !.pc = "filled", !.head = srv.head, !.iv = srv.iv[g.k]]]
              /\ UNCHANGED bad
         ELSE Finish(t, g, g.v, l) /\ UNCHANGED ent
      /\ NotMet /\ UNCHANGED <<late, db, ages, srv, ten, copy, issued, node, sync, write, used>>

\* loads.take_fill
FillAnswered(t) ==
  LET g == read[t] p == NodeOf(t) q == node[p] m == Meet(q, g.st, g.head, g.k)
      l == [Landing0 EXCEPT !.token = g.store, !.st = g.st, !.iv = g.iv]
  IN  /\ g.pc = "filled"
      /\ IF Current(q, g.st)
         THEN /\ node' = [node EXCEPT ![p] = Keep(m, g)]
              /\ Finish(t, g, g.v, [l EXCEPT !.head = g.head])
              /\ Meets(t, g, g.iv) /\ UNCHANGED <<told, ret>>
         ELSE Finish(t, g, g.v, l) /\ NotMet /\ UNCHANGED node
      /\ UNCHANGED <<late, db, ages, server, sync, write, used>>

\* A load without Redis is done
AwayLands(t) ==
  /\ read[t].pc = "away"
  /\ Finish(t, read[t], read[t].v, [Landing0 EXCEPT !.st = read[t].st])
  /\ NotMet /\ UNCHANGED <<late, db, ages, server, node, sync, write, used>>

\* join_rule.may_take; refused, it goes on by itself
Take(t) ==
  LET g == read[t] p == NodeOf(t) q == node[p] IN
  /\ g.pc = "landed"
  /\ IF MayTake(q, g.k, g.j, g.l, t = "n" /\ Nested = "known")
     THEN /\ Finish(t, g, g.v, g.l)
          /\ (IF g.l.head # NONE THEN Meets(t, g, g.l.iv) ELSE UNCHANGED met) /\ UNCHANGED <<told, ret>>
     ELSE /\ read' = [read EXCEPT ![t] = [g EXCEPT !.pc = "look", !.v = NONE, !.l = Landing0, !.on = ""]]
          /\ UNCHANGED bad /\ NotMet
  /\ UNCHANGED <<late, db, ages, server, node, sync, write, used>>

(***************************** hints and syncs *****************************)

\* Any hint at all: lost, doubled, late, false in what it names, or forged altogether
HintArrives(p) ==
  LET q == node[p] IN
  /\ q.ep # 0 /\ q.applied + 1 <= issued[q.ep] + MaxForged
  /\ \E deps \in Hints : node' = [node EXCEPT ![p] = Hear(q, deps)]
  /\ UNCHANGED <<late, db, ages, server, read, sync, write, used, judge>>

\* sync.lua. Sent and run in one step: what happens between the two only makes the reply fresher and the lease shorter.
SyncRuns(p) ==
  LET q == node[p] s == Open(srv, ten, Len(issued) + 1) since == Since(s, q) IN
  /\ sync[p].pc = "idle" /\ (q.pending = {} \/ ~On("pending_first"))
  /\ srv' = s /\ issued' = IF MustOpen(srv, ten) THEN Append(issued, 0) ELSE issued
  /\ sync' = [sync EXCEPT ![p] = [Sync0 EXCEPT !.pc = "sent", !.ep = q.ep, !.gen = q.gen, !.applied = q.applied, !.rep = s.ep,
                !.head = s.head, !.flush = since.flush, !.ver = since.ver, !.iv = s.iv]]
  /\ read' = [h \in Threads |-> IF NodeOf(h) = p /\ read[h].pc = "join" THEN [read[h] EXCEPT !.j.will = TRUE] ELSE read[h]]
  /\ UNCHANGED <<late, db, ages, ten, ent, copy, node, write, used, judge>>

SyncAnswered(p) ==
  LET y == sync[p] q == node[p] proven == Prove(q, y) counts == Current(q, y) IN
  /\ y.pc = "sent" /\ sync' = [sync EXCEPT ![p] = Sync0]
  /\ node' = [node EXCEPT ![p] = proven]
  /\ told' = IF counts THEN [told EXCEPT ![p] = [k \in Keys |-> Max(@[k], y.iv[k])]] ELSE told
  /\ read' = [h \in Threads |->
       IF NodeOf(h) # p THEN read[h]
       ELSE IF read[h].pc = "both" THEN (IF counts /\ proven.lease > 0 THEN [read[h] EXCEPT !.pc = "got"]
                                         ELSE [read[h] EXCEPT !.pc = "look", !.large = FALSE, !.v = NONE, !.token = NONE, !.head = NONE, !.iv = 0, !.st = Stand0])
       ELSE IF read[h].pc = "join" /\ counts /\ read[h].j.will THEN [read[h] EXCEPT !.j.covered = TRUE] ELSE read[h]]
  /\ UNCHANGED <<late, db, ages, server, write, used, ret, met, bad>>

SyncLost(p) ==
  /\ sync[p].pc = "sent" /\ sync' = [sync EXCEPT ![p] = Sync0]
  /\ read' = [h \in Threads |-> IF NodeOf(h) = p /\ read[h].pc = "both"
                                THEN [read[h] EXCEPT !.pc = "look", !.large = FALSE, !.v = NONE, !.token = NONE, !.head = NONE, !.iv = 0, !.st = Stand0] ELSE read[h]]
  /\ UNCHANGED <<late, db, ages, server, node, write, used, judge>>

(***************************** writes: writes.py *****************************)

DepsWritten(kind) == IF kind = "invalidate" THEN {"t"} ELSE IF kind = "clear" THEN {EVERYTHING} ELSE {"i"}

Commit(kind) ==
  /\ write.pc = "idle" /\ db < MaxWrites /\ db' = db + 1
  /\ write' = [Write0 EXCEPT !.pc = "sent", !.kind = kind, !.v = db + 1,
                 !.place = IF Own THEN node["p"].ep ELSE srv.ep, !.token = IF Own THEN node["p"].seen ELSE srv.head,
                 !.st = IF Own THEN StandOf(node["p"]) ELSE Stand0]
  /\ node' = IF Own /\ Joins THEN [node EXCEPT !["p"].own = @ + 1] ELSE node
  /\ UNCHANGED <<late, ages, server, read, sync, used, judge>>

Issue(s) == LET i == IF MustOpen(srv, ten) THEN Append(issued, 0) ELSE issued IN [i EXCEPT ![s.ep] = Max(@, s.head)]

\* set.lua: bound to a place in the history (writes.put), a record on the key, the value under it
Set(s, ep, token, v) ==
  LET asFill == ~On("set_record")
      b == IF asFill THEN [s EXCEPT !.iv["i"] = Max(@, v)] ELSE Note(s, {"i"}, v) IN
  [ok |-> Judge(s, ep, token, "i") \/ (~asFill /\ ~On("set_place")), srv |-> b,
   ent |-> [ep |-> b.ep, token |-> IF asFill THEN token ELSE b.head, val |-> v]]

\* invalidate.lua, set.lua, clear.lua: the record, what else goes with it. A set that is refused is sent again from
\* the head that the refusal told.
WriteRuns ==
  LET w == write s == Open(srv, ten, Len(issued) + 1) set == Set(s, w.place, w.token, w.v)
      isSet == w.kind = "set"
      b == IF w.kind = "clear" THEN Cleared(s, w.v)
           ELSE IF isSet THEN (IF set.ok THEN set.srv ELSE s)
           ELSE Note(s, DepsWritten(w.kind), w.v)
  IN  /\ w.pc = "sent" /\ srv' = b
      /\ issued' = IF b.ep = 0 THEN issued ELSE Issue(b)
      /\ ent' = IF isSet /\ set.ok THEN [ent EXCEPT !["i"] = set.ent]
                ELSE IF w.kind = "delete" /\ On("unlink") THEN [ent EXCEPT !["i"] = NoEntry] ELSE ent
      /\ IF isSet /\ ~set.ok
         THEN write' = [w EXCEPT !.place = s.ep, !.token = s.head] /\ UNCHANGED ages
         ELSE /\ ages' = [ages EXCEPT ![w.v] = 0]
              /\ write' = IF Own THEN [w EXCEPT !.pc = "run", !.ep = b.ep, !.n = b.head] ELSE Write0
      /\ UNCHANGED <<db, ten, copy, node, read, sync, late, used, judge>>

\* R30: Redis goes on after a stall, and finds in a socket what nobody waits for any more
LateSetRuns ==
  LET s == Open(srv, ten, Len(issued) + 1) set == Set(s, late.place, late.token, late.v) IN
  /\ late.v # 0 /\ late' = Late0
  /\ srv' = (IF set.ok THEN set.srv ELSE s) /\ issued' = Issue(srv')
  /\ ent' = IF set.ok THEN [ent EXCEPT !["i"] = set.ent] ELSE ent
  /\ UNCHANGED <<db, ages, ten, copy, node, read, sync, write, used, judge>>

WriteAnswered ==
  LET w == write deps == DepsWritten(w.kind) o == OwnRecord(node["p"], w.ep, w.n, deps) IN
  /\ w.pc = "run" /\ write' = Write0 /\ ret' = w.v
  /\ node' = [node EXCEPT !["p"] = IF w.kind = "clear" /\ ~On("clear_keeps_state") THEN [@ EXCEPT !.l1 = EmptyL1]
                                        ELSE IF w.kind = "set" /\ o.ep = w.ep THEN Insert(o, "i", w.v, w.n, w.v, w.st) ELSE o]
  /\ told' = [told EXCEPT !["p"] = [k \in Keys |-> IF Names(deps, k) /\ node["p"].ep = w.ep THEN Max(@[k], w.v) ELSE @[k]]]
  /\ UNCHANGED <<late, db, ages, server, read, sync, used, met, bad>>

\* Coherence.pend: Redis is away, or its answer is lost; the call returns all the same
WriteFails ==
  LET w == write deps == DepsWritten(w.kind) IN
  /\ Own /\ w.pc \in {"sent", "run"} /\ used.fails < MaxFails /\ used' = [used EXCEPT !.fails = @ + 1]
  /\ write' = Write0 /\ ret' = w.v
  /\ late' = IF w.kind = "set" /\ w.pc = "sent" THEN [v |-> w.v, place |-> w.place, token |-> w.token] ELSE late
  /\ node' = [node EXCEPT !["p"] = Pend(@, deps)]
  /\ UNCHANGED <<db, ages, server, read, sync, met, told, bad>>

\* syncs.send_pending, before any sync
PendingRuns(p) ==
  LET q == node[p] s == Open(srv, ten, Len(issued) + 1)
      b == IF EVERYTHING \in q.pending THEN Cleared(s, ret) ELSE Note(s, q.pending, ret) IN
  /\ q.pending # {} /\ sync[p].pc = "idle"
  /\ srv' = b /\ issued' = Issue(b)
  /\ ages' = IF ages[ret] = NONE THEN [ages EXCEPT ![ret] = 0] ELSE ages
  /\ ent' = [k \in Keys |-> IF k \in q.pending THEN NoEntry ELSE ent[k]]
  /\ sync' = [sync EXCEPT ![p] = [Sync0 EXCEPT !.pc = "pending", !.rep = b.ep, !.head = b.head, !.deps = q.pending]]
  /\ UNCHANGED <<late, db, ten, copy, node, read, write, used, judge>>

PendingAnswered(p) ==
  LET y == sync[p] IN
  /\ y.pc = "pending" /\ sync' = [sync EXCEPT ![p] = Sync0]
  /\ node' = [node EXCEPT ![p] = Settle(OwnRecord(@, y.rep, y.head, y.deps), y.deps)]
  /\ UNCHANGED <<late, db, ages, server, read, write, used, judge>>

\* It ran, and the answer is lost: it is sent again
PendingLost(p) ==
  /\ sync[p].pc = "pending" /\ used.fails < MaxFails /\ used' = [used EXCEPT !.fails = @ + 1]
  /\ sync' = [sync EXCEPT ![p] = Sync0]
  /\ UNCHANGED <<late, db, ages, server, node, read, write, judge>>

\* set.lua with a token, of a value that was read from the source under it: refused as a fill is
SetWithTokenRuns(t) ==
  LET g == read[t] IN
  /\ "set_token" \in Writes /\ g.pc = "fill" /\ used.sets < MaxSets /\ used' = [used EXCEPT !.sets = @ + 1]
  /\ IF ~MustOpen(srv, ten) /\ (Judge(srv, g.st.ep, g.token, g.k) \/ (~On("set_token") /\ srv.ep = g.st.ep))
     THEN LET b == Note(srv, {g.k}, 0) IN
          /\ srv' = b /\ issued' = Issue(b)
          /\ ent' = [ent EXCEPT ![g.k] = [ep |-> b.ep, token |-> b.head, val |-> g.v]]
          /\ read' = [read EXCEPT ![t] = [g EXCEPT !.pc = "set", !.head = b.head, !.iv = b.iv[g.k]]]
     ELSE read' = [read EXCEPT ![t] = Read0] /\ UNCHANGED <<srv, issued, ent>>
  /\ UNCHANGED <<late, db, ages, ten, copy, node, sync, write, judge>>

SetWithTokenAnswered(t) ==
  LET g == read[t] p == NodeOf(t) o == OwnRecord(node[p], g.st.ep, g.head, {g.k}) IN
  /\ g.pc = "set" /\ read' = [read EXCEPT ![t] = Read0]
  /\ node' = [node EXCEPT ![p] = IF o.ep = g.st.ep THEN Insert(o, g.k, g.v, g.head, g.iv, g.st) ELSE o]
  /\ UNCHANGED <<late, db, ages, server, sync, write, used, judge>>

(***************************** mishaps *****************************)

Replicate ==
  /\ used.failovers < MaxFailovers /\ copy # [srv |-> srv, ent |-> ent]
  /\ copy' = [srv |-> srv, ent |-> ent]
  /\ UNCHANGED <<late, db, ages, srv, ten, ent, issued, node, read, sync, write, used, judge>>

\* A replica is promoted, or the server restarts from its snapshot: what came after the copy is lost
Failover ==
  /\ used.failovers < MaxFailovers /\ used' = [used EXCEPT !.failovers = @ + 1]
  /\ ten' = ten + 1 /\ srv' = copy.srv /\ ent' = copy.ent
  /\ UNCHANGED <<late, db, ages, copy, issued, node, read, sync, write, judge>>

\* The state is evicted; with the entries evicted as well, a FLUSHALL
Forget ==
  /\ used.forgets < MaxForgets /\ used' = [used EXCEPT !.forgets = @ + 1] /\ srv' = NoServer
  /\ UNCHANGED <<late, db, ages, ten, ent, copy, issued, node, read, sync, write, judge>>

Evict ==
  /\ Evicts /\ \E k \in Keys :
       \/ ent[k].val # NONE /\ ent' = [ent EXCEPT ![k] = NoEntry] /\ UNCHANGED node
       \/ \E p \in Nodes : node[p].l1[k].val # NONE /\ node' = [node EXCEPT ![p].l1[k] = Unknown] /\ UNCHANGED ent
  /\ UNCHANGED <<late, db, ages, srv, ten, copy, issued, read, sync, write, used, judge>>

\* A process dies and another one takes its place, or it forks: the child has forgotten all
Crash(p) ==
  /\ used.crashes < MaxCrashes /\ used' = [used EXCEPT !.crashes = @ + 1]
  /\ node' = [node EXCEPT ![p] = Node0] /\ sync' = [sync EXCEPT ![p] = Sync0]
  /\ read' = [t \in Threads |-> IF NodeOf(t) = p THEN Read0 ELSE read[t]]
  /\ met' = [met EXCEPT ![p] = [k \in Keys |-> 0]] /\ told' = [told EXCEPT ![p] = [k \in Keys |-> 0]]
  /\ (IF Own /\ p = "p" THEN write' = Write0 /\ ret' = 0 ELSE UNCHANGED <<write, ret>>)
  /\ UNCHANGED <<late, db, ages, server, bad>>

Step(t) == \/ Look(t) \/ SyncAndRead(t) \/ ReadRuns(t) \/ ReadAnswered(t) \/ CatchUp(t) \/ FillRuns(t) \/ FillAnswered(t)
           \/ AwayLands(t) \/ Take(t) \/ SetWithTokenRuns(t) \/ SetWithTokenAnswered(t)
           \/ LookVersions(t) \/ LookEntry(t) \/ LookAgain(t) \/ LookAnswered(t)
Next ==
  \/ Tick
  \/ \E t \in Threads : Step(t) \/ InvokeNested(t) \/ \E k \in Keys : Invoke(t, k)
  \/ \E p \in Nodes : HintArrives(p) \/ SyncRuns(p) \/ SyncAnswered(p) \/ SyncLost(p) \/ PendingRuns(p) \/ PendingAnswered(p) \/ PendingLost(p)
                       \/ Crash(p)
  \/ \E kind \in Writes \ {"set_token"} : Commit(kind)
  \/ WriteRuns \/ WriteAnswered \/ WriteFails \/ LateSetRuns
  \/ Replicate \/ Failover \/ Forget \/ Evict
Spec == Init /\ [][Next]_vars

(***************************** what must hold *****************************)

G1 == "G1" \notin bad
G2 == "G2" \notin bad
G6 == "G6" \notin bad
\* G8: what a reply has told the node of, its later reads reflect; a token that it has proved needs no sync
G8 == "G8" \notin bad
\* G3, the server's half: no entry that a read would be given fails to reflect a record the server holds
G3 == \A k \in Keys : Valid(srv, ent[k]) => ent[k].val >= srv.iv[k]
\* G3, the node's half: none in L1 fails to reflect a record that a reply has told the node of
G3inL1 == \A p \in Nodes, k \in Keys : node[p].l1[k].val # NONE => node[p].l1[k].val >= told[p][k]
\* Else every read would be sent to sync, for ever
SeenIsReal == \A p \in Nodes : node[p].ep # 0 => node[p].seen <= issued[node[p].ep]
=============================================================================
