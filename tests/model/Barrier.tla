------------------------------- MODULE Barrier -------------------------------
(* Barriers: a write that waits returns only when no node can answer with what was valid before it   *)
(* (G4). The register of the nodes in the state, marks, acknowledgements, removal, a node that       *)
(* leaves, a full register, epochs that end with leases still running, two waiters at a time.        *)
(* The code: barriers.py, coherence.py; lua/{sync,barrier,ack,forget,clear}.lua. A rule named in Off *)
(* is off. Time is kept as ages capped at D; a node that was killed is one that takes no more steps. *)
(* Left out, as in the text of G4: reads of a process that is cut off and join a load from before.   *)
EXTENDS Naturals, FiniteSets

CONSTANTS Off,          \* the rules that are switched off
          Nodes,
          Waiters,      \* writes that may wait at the same time
          Home,         \* the node that all waiters are on, or "none"
          D,            \* max_staleness of all nodes, in ticks
          MaxWrites, MaxFlushes, MaxFailovers,
          MaxLate,      \* first looks whose answer is lost, and that run at any time
          Room,         \* nodes that the register has room for
          Acts          \* what else may happen: "ack", "leave", "lose" (the answer to a sync)

NONE == 99
ABSENT == 999
On(rule) == rule \notin Off
Max(a, b) == IF a > b THEN a ELSE b
Min(a, b) == IF a < b THEN a ELSE b
Older(age) == Min(age + 1, D)
Less(left) == IF left = 0 THEN 0 ELSE left - 1

VARIABLES db,           \* number of the newest write; the truth
          srv, tenure, copy, epochs,
          node, syn,    \* each node, and its sync under way
          ack,          \* acknowledgements under way
          wait,         \* the waiters
          parting,      \* `Forget`s under way
          reached,      \* the newest write whose wait has returned
          flushes, failovers, lates
vars == <<db, srv, tenure, copy, epochs, node, syn, ack, wait, parting, reached, flushes, failovers, lates>>

(***************************** the state in Redis *****************************)
\* register: a whole number is the record up to which a node had applied all when it sent its last sync, or said so
\* since; from 100 on it is a mark, which stands for the fraction of one barrier.
\* outlived: \1o; left_out: \1x
NoServer == [ep |-> 0, ten |-> 0, head |-> 0, register |-> [p \in Nodes |-> ABSENT], outlived |-> FALSE,
             left_out |-> 0]
IsMark(score) == score >= 100 /\ score # ABSENT
IsBehind(score, n) == IsMark(score) \/ (score # ABSENT /\ score < n)
MustOpen(s) == s.ep = 0 \/ s.ten # tenure
Open(s) == IF MustOpen(s) THEN [NoServer EXCEPT !.ep = epochs + 1, !.ten = tenure] ELSE s
Epochs(s) == IF MustOpen(s) THEN epochs + 1 ELSE epochs

\* the fraction of the barrier of write v; `late`: of a first look that was not answered
Mark(v, late) == IF ~On("own_mark") THEN 100 ELSE IF late /\ On("fresh_mark") THEN 200 + v ELSE 100 + v

(***************************** nodes *****************************)
Idle == [pc |-> "idle", age |-> 0, ep |-> 0, proved |-> 0, outlived |-> FALSE, rep |-> 0, head |-> 0]
Waiting0 == [pc |-> "idle", v |-> 0, ep |-> 0, n |-> 0, age |-> 0, asked |-> {}, asked_age |-> 0, left_out |-> 0]
NoAck == [ep |-> 0, proved |-> 0]

\* All start in epoch 1 with the first value in L1; the lease may be over by then.
Init ==
  /\ db = 0 /\ tenure = 1 /\ epochs = 1 /\ reached = 0
  /\ srv = [NoServer EXCEPT !.ep = 1, !.ten = 1, !.outlived = TRUE, !.register = [p \in Nodes |-> 0]]
  /\ copy = srv
  /\ node = [p \in Nodes |-> [ep |-> 1, proved |-> 0, seen |-> 0, lease |-> D, adopted |-> D, l1 |-> 0, vouched |-> 0]]
  /\ syn = [p \in Nodes |-> Idle] /\ ack = [p \in Nodes |-> NoAck]
  /\ wait = [w \in Waiters |-> Waiting0] /\ parting = {}
  /\ flushes = 0 /\ failovers = 0 /\ lates = 0

Tick ==
  /\ node' = [p \in Nodes |-> [node[p] EXCEPT !.lease = Less(@), !.adopted = Older(@)]]
  /\ syn' = [p \in Nodes |-> [syn[p] EXCEPT !.age = IF syn[p].pc = "idle" THEN 0 ELSE Older(@)]]
  /\ wait' = [w \in Waiters |-> [wait[w] EXCEPT !.age = IF wait[w].pc = "idle" THEN 0 ELSE Older(@),
                                                !.asked_age = IF wait[w].pc = "asked" THEN Older(@) ELSE 0]]
  /\ UNCHANGED <<db, srv, tenure, copy, epochs, ack, parting, reached, flushes, failovers, lates>>

Disowned(q) == [q EXCEPT !.ep = 0, !.proved = 0, !.seen = 0, !.lease = 0, !.adopted = 0, !.l1 = NONE, !.vouched = 0]
Void(y) == IF y.pc = "idle" THEN y ELSE [Idle EXCEPT !.pc = IF y.pc = "sent" THEN "void" ELSE "idle",
                                                      !.ep = y.ep, !.proved = y.proved, !.outlived = y.outlived]
Drop(q, n) == IF q.vouched < n THEN [q EXCEPT !.l1 = NONE, !.vouched = 0] ELSE q

\* Coherence.sync
SyncSend(p) ==
  /\ syn[p].pc = "idle"
  /\ syn' = [syn EXCEPT ![p] = [Idle EXCEPT !.pc = "sent", !.ep = node[p].ep, !.proved = node[p].proved,
                                  !.outlived = node[p].ep # 0 /\ node[p].adopted >= D]]
  /\ UNCHANGED <<db, srv, tenure, copy, epochs, node, ack, wait, parting, reached, flushes, failovers, lates>>

\* sync.lua
Registered(s, p, y) ==
  LET same == s.ep = y.ep
      score == IF ~On("register") THEN s.register[p]
               ELSE IF ~On("register_request") THEN s.head
               ELSE IF same \/ ~On("register_epoch") THEN y.proved ELSE 0
      on == [s.register EXCEPT ![p] = score]
      others == {o \in Nodes \ {p} : on[o] # ABSENT}
      rank(o) == IF IsMark(on[o]) THEN 0 ELSE on[o]
      full == Cardinality(others) >= Room
      gone == CHOOSE o \in others : \A x \in others : rank(o) <= rank(x)
  IN  [s EXCEPT !.register = IF full THEN [on EXCEPT ![gone] = ABSENT] ELSE on,
                !.left_out = IF full /\ On("left_out") THEN @ + 1 ELSE @,
                !.outlived = @ \/ (y.outlived /\ (same \/ ~On("outlived_epoch")))]
SyncRun(p) ==
  LET y == syn[p]  s == Open(srv) IN
  /\ y.pc \in {"sent", "void"}
  /\ srv' = Registered(s, p, y) /\ epochs' = Epochs(srv)
  /\ syn' = [syn EXCEPT ![p] = IF y.pc = "void" THEN Idle ELSE [@ EXCEPT !.pc = "back", !.rep = s.ep, !.head = s.head]]
  /\ UNCHANGED <<db, tenure, copy, node, ack, wait, parting, reached, flushes, failovers, lates>>

\* Coherence.prove
SyncBack(p) ==
  LET y == syn[p]  q == node[p]  lease == Max(q.lease, D - y.age) IN
  /\ y.pc = "back"
  /\ node' = [node EXCEPT ![p] =
       IF y.ep # q.ep THEN q
       ELSE IF y.rep # q.ep
       THEN [q EXCEPT !.ep = y.rep, !.proved = y.head, !.seen = y.head, !.lease = lease, !.l1 = NONE, !.vouched = 0,
                      !.adopted = IF On("adopted_at_reply") THEN 0 ELSE y.age]
       ELSE [(IF y.head > y.proved THEN Drop(q, y.head) ELSE q)
              EXCEPT !.proved = Max(@, y.head), !.seen = Max(@, y.head), !.lease = lease]]
  /\ syn' = [syn EXCEPT ![p] = Idle]
  /\ UNCHANGED <<db, srv, tenure, copy, epochs, ack, wait, parting, reached, flushes, failovers, lates>>
SyncLost(p) ==
  /\ "lose" \in Acts /\ syn[p].pc # "idle" /\ syn' = [syn EXCEPT ![p] = Idle]
  /\ UNCHANGED <<db, srv, tenure, copy, epochs, node, ack, wait, parting, reached, flushes, failovers, lates>>

\* A read that finds nothing in L1 and in L2, loads, and is stored; all else about it is in Coherence.tla.
FirstIsValid == srv.ep = 1 /\ srv.head = 0    \* L2 has the first value, with token 0 in epoch 1
Asks(p) == node[p].lease > 0 /\ node[p].ep = srv.ep /\ node[p].ep # 0 /\ srv.head >= node[p].seen
Load(p) ==
  /\ Asks(p) /\ node[p].l1 = NONE
  /\ node' = [node EXCEPT ![p].l1 = IF FirstIsValid THEN 0 ELSE db,
                           ![p].vouched = srv.head, ![p].seen = srv.head]
  /\ UNCHANGED <<db, srv, tenure, copy, epochs, syn, ack, wait, parting, reached, flushes, failovers, lates>>

\* coherence.py: disown, lapse; then Leave (forget.lua, at its own word)
Leave(p) ==
  /\ "leave" \in Acts
  /\ srv' = [srv EXCEPT !.register[p] = ABSENT]
  /\ IF On("leave_without_lease") THEN node' = [node EXCEPT ![p] = Disowned(@)] /\ syn' = [syn EXCEPT ![p] = Void(@)]
                                  ELSE UNCHANGED <<node, syn>>
  /\ UNCHANGED <<db, tenure, copy, epochs, ack, wait, parting, reached, flushes, failovers, lates>>

\* barriers.acknowledge: asked or not, with what a sync proved. It may arrive at any time.
AckSend(p) ==
  /\ "ack" \in Acts /\ ack[p] = NoAck /\ node[p].ep # 0 /\ \E w \in Waiters : wait[w].pc = "asked"
  /\ \E n \in IF On("ack_proved") THEN {node[p].proved} ELSE {wait[w].n : w \in Waiters} :
       n > 0 /\ ack' = [ack EXCEPT ![p] = [ep |-> node[p].ep, proved |-> n]]
  /\ UNCHANGED <<db, srv, tenure, copy, epochs, node, syn, wait, parting, reached, flushes, failovers, lates>>
\* ack.lua
AckRun(p) ==
  LET a == ack[p]  score == srv.register[p] IN
  /\ a # NoAck /\ ack' = [ack EXCEPT ![p] = NoAck]
  /\ srv' = IF (srv.ep = a.ep \/ ~On("ack_epoch")) /\ IsBehind(score, a.proved)
            THEN [srv EXCEPT !.register[p] = a.proved] ELSE srv
  /\ UNCHANGED <<db, tenure, copy, epochs, node, syn, wait, parting, reached, flushes, failovers, lates>>

(***************************** who waits *****************************)

\* A commit, its invalidation (or a clear), and the answer. The worst case is that all this takes no time.
Write(w) ==
  LET s == Open(srv)  n == s.head + 1 IN
  /\ wait[w].pc = "idle" /\ db < MaxWrites
  /\ db' = db + 1 /\ epochs' = Epochs(srv)
  /\ \/ srv' = [s EXCEPT !.head = n]
     \/ ~On("clear_keeps_register") /\ srv' = [s EXCEPT !.head = n, !.register = NoServer.register]
  /\ wait' = [wait EXCEPT ![w] = [Waiting0 EXCEPT !.pc = "wait", !.v = db + 1, !.ep = s.ep, !.n = n]]
  /\ IF Home \notin Nodes THEN UNCHANGED <<node, syn>>                      \* Coherence.own_record
     ELSE IF node[Home].ep = s.ep
     THEN node' = [node EXCEPT ![Home] = [Drop(@, n) EXCEPT !.seen = n]] /\ UNCHANGED syn
     ELSE node' = [node EXCEPT ![Home] = Disowned(@)] /\ syn' = [syn EXCEPT ![Home] = Void(@)]
  /\ UNCHANGED <<tenure, copy, ack, parting, reached, flushes, failovers, lates>>

\* barrier.lua
Known(x) == (srv.ep = x.ep \/ ~On("barrier_epoch")) /\ (srv.head >= x.n \/ ~On("barrier_head"))
BehindNow(x) == {p \in Nodes \ {Home} : IsBehind(srv.register[p], x.n)}
Marked(x, late) ==
  [p \in Nodes |-> IF p \in BehindNow(x) /\ ~IsMark(srv.register[p]) /\ On("mark")
                   THEN Mark(x.v, late) ELSE srv.register[p]]

\* barriers.barrier: the first look that is answered
Look(w) ==
  LET x == wait[w]  marked == Marked(x, FALSE) IN
  /\ x.pc = "wait" /\ Known(x)
  /\ srv' = [srv EXCEPT !.register = marked]
  /\ wait' = [wait EXCEPT ![w].pc = "asked", ![w].asked = {<<p, marked[p]>> : p \in BehindNow(x)},
                          ![w].left_out = srv.left_out]
  /\ UNCHANGED <<db, tenure, copy, epochs, node, syn, ack, parting, reached, flushes, failovers, lates>>
\* one that was not answered in time, and runs whenever it gets there
LateLook(w) ==
  LET x == wait[w] IN
  /\ lates < MaxLate /\ lates' = lates + 1
  /\ x.pc # "idle" /\ Known(x) /\ srv' = [srv EXCEPT !.register = Marked(x, TRUE)]
  /\ UNCHANGED <<db, tenure, copy, epochs, node, syn, ack, wait, parting, reached, flushes, failovers>>

Returns(w) ==
  LET x == wait[w]
      silent == {a \in x.asked : IsMark(a[2]) \/ ~On("mark")}
      over == IF On("forget_after_reply") THEN x.asked_age >= D ELSE x.age >= D IN
  /\ reached' = Max(reached, x.v)
  /\ wait' = [wait EXCEPT ![w] = Waiting0]
  /\ parting' = IF x.pc = "asked" /\ (silent # {} \/ x.left_out # 0) /\ (over \/ ~On("forget_late"))
                THEN parting \cup {[members |-> silent, left_out |-> x.left_out]} ELSE parting

\* a look later on: have_all, settled
Outlived(x) == srv.outlived \/ (Home \in Nodes /\ node[Home].ep = x.ep /\ node[Home].adopted >= D)
Poll(w) ==
  LET x == wait[w]  names == {a[1] : a \in x.asked} IN
  /\ x.pc = "asked" /\ Known(x)
  /\ IF /\ names \cap BehindNow(x) = {}
        /\ (srv.left_out = 0 \/ ~On("left_out_waits"))
        /\ (Outlived(x) \/ ~On("outlived"))
     THEN Returns(w) /\ UNCHANGED srv
     ELSE ~On("polls_only_look") /\ srv' = [srv EXCEPT !.register = Marked(x, FALSE)] /\ UNCHANGED <<reached, wait, parting>>
  /\ UNCHANGED <<db, tenure, copy, epochs, node, syn, ack, flushes, failovers, lates>>
\* or a lease after the answer to the write
GiveUp(w) ==
  /\ wait[w].pc # "idle" /\ wait[w].age >= (IF On("whole_lease") THEN D ELSE D - 1)
  /\ Returns(w)
  /\ UNCHANGED <<db, srv, tenure, copy, epochs, node, syn, ack, flushes, failovers, lates>>

\* forget.lua, whenever it gets there
Forget(f) ==
  LET silent == {a \in f.members : srv.register[a[1]] = a[2] \/ ~On("forget_compares")} IN
  /\ parting' = parting \ {f}
  /\ srv' = [srv EXCEPT !.register = [p \in Nodes |-> IF p \in {a[1] : a \in silent} THEN ABSENT ELSE @[p]],
                        !.left_out = IF @ = f.left_out THEN 0 ELSE @]
  /\ UNCHANGED <<db, tenure, copy, epochs, node, syn, ack, wait, reached, flushes, failovers, lates>>

(***************************** faults *****************************)
Flush ==
  /\ flushes < MaxFlushes /\ flushes' = flushes + 1 /\ srv' = NoServer
  /\ UNCHANGED <<db, tenure, copy, epochs, node, syn, ack, wait, parting, reached, failovers, lates>>
Replicate ==
  /\ failovers < MaxFailovers /\ copy # srv /\ copy' = srv
  /\ UNCHANGED <<db, srv, tenure, epochs, node, syn, ack, wait, parting, reached, flushes, failovers, lates>>
Failover ==
  /\ failovers < MaxFailovers /\ failovers' = failovers + 1 /\ tenure' = tenure + 1 /\ srv' = copy
  /\ UNCHANGED <<db, copy, epochs, node, syn, ack, wait, parting, reached, flushes, lates>>

Next ==
  \/ Tick \/ Flush \/ Replicate \/ Failover
  \/ \E p \in Nodes : SyncSend(p) \/ SyncRun(p) \/ SyncBack(p) \/ SyncLost(p) \/ Load(p) \/ Leave(p) \/ AckSend(p) \/ AckRun(p)
  \/ \E w \in Waiters : Write(w) \/ Look(w) \/ LateLook(w) \/ Poll(w) \/ GiveUp(w)
  \/ \E f \in parting : Forget(f)
Spec == Init /\ [][Next]_vars

\* What a read would give that is invoked now: from L1, or from L2.
G4 == \A p \in Nodes :
        /\ node[p].lease > 0 /\ node[p].l1 # NONE => node[p].l1 >= reached
        /\ Asks(p) /\ FirstIsValid => reached = 0
=============================================================================
