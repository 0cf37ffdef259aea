------------------------------- MODULE Fences -------------------------------
(* Fences: a mark from before a write of the truth until it is told, so that the death of a writer   *)
(* between its commit and its invalidation leaves misses, never an old value (G7). Two writers on    *)
(* one tag, one reading node with an L1, loads with leave and loads for L1 alone, joins, a `set`,    *)
(* eviction of the keys that hold the fences.                                                        *)
(* The code: fences.py, loads.py, writes.py, flights.py, coherence.py; lua/{prelude,fence,unfence,   *)
(* invalidate,sync,rule,fill,set}.lua. A rule named in Off is off. Ages are capped at D; when a      *)
(* fence runs out is left open, but not before the commit (A7).                                      *)
EXTENDS Naturals, FiniteSets

CONSTANTS Off,          \* the rules that are switched off
          D,            \* max_staleness, in ticks
          Writers,      \* each writes once; those in Others write something else, under the tag "u"
          Others,
          MaxEvictions, \* of the fences, or of the counts, each a key of its own
          Acts          \* what may happen: "crash" "discard" "lead" "local" "away" "join" "hit" "set"

NONE == 99
Deps == {"t", "k", "u"}                     \* the one key "k" has the tag "t"
On(rule) == rule \notin Off
Max(a, b) == IF a > b THEN a ELSE b
Older(age) == IF age = NONE THEN NONE ELSE IF age >= D THEN D ELSE age + 1
Less(left) == IF left = 0 THEN 0 ELSE left - 1
DepOf(w) == IF w \in Others THEN "u" ELSE "t"
Values == 1..Cardinality(Writers)
Newest(age) == LET s == {v \in Values : age[v] = D} IN IF s = {} THEN 0 ELSE CHOOSE v \in s : \A x \in s : x <= v

VARIABLES db,           \* number of the newest write; the truth
          srv, epochs, entry, evictions,
          writer, node, syn, flight, joined, set,
          told,         \* age of the end of the invalidation of each write
          done,         \* age of the commit of each write that was under a fence
          bad           \* guarantees that a join broke
vars == <<db, srv, epochs, entry, evictions, writer, node, syn, flight, joined, set, told, done, bad>>

(***************************** the state in Redis *****************************)
\* fences: {ns}1:p; counts: {ns}1:q; live: \1q. `reflects`, for the judge alone: the newest write that what is valid must show.
NoServer == [ep |-> 0, head |-> 0, ver |-> [d \in Deps |-> 0], fences |-> {}, counts |-> [d \in Deps |-> 0], live |-> 0,
             reflects |-> 0]
NoEntry == [ep |-> 0, token |-> 0, val |-> NONE]
NoCounts(s) == \A d \in Deps : s.counts[d] = 0          \* an empty hash is no key

\* prelude.lua: note, announce
Record(s, deps) ==
  [s EXCEPT !.head = @ + 1, !.ver = [d \in Deps |-> IF d \in deps THEN s.head + 1 ELSE @[d]],
            !.reflects = IF "t" \in deps THEN db ELSE @]
\* prelude.lua: lift
Lift(s, w) ==
  LET gone == IF On("lift_own") THEN {w} ELSE {x \in s.fences : DepOf(x) = DepOf(w)} IN
  IF w \notin s.fences THEN s
  ELSE [s EXCEPT !.fences = @ \ gone, !.live = @ - Cardinality(gone),
                 !.counts[DepOf(w)] = IF @ < Cardinality(gone) THEN 0 ELSE @ - Cardinality(gone)]

\* prelude.lua: open, with the fences that have run out by now; each becomes a record
MustOpen(s) == \/ s.ep = 0
               \/ s.live # Cardinality(s.fences) /\ On("fences_lost")
               \/ s.live > 0 /\ NoCounts(s) /\ On("counts_lost")
MayRunOut(s) == {w \in s.fences : writer[w].pc \in {"committed", "dead"}}
RECURSIVE RunOut(_, _)
RunOut(s, out) ==
  IF out = {} THEN s
  ELSE LET w == CHOOSE x \in out : TRUE  lifted == Lift(s, w)
       IN  RunOut(IF On("run_out_record") THEN Record(lifted, {DepOf(w)}) ELSE lifted, out \ {w})
Opened(s) == IF MustOpen(s) THEN [NoServer EXCEPT !.ep = epochs + 1] ELSE s
Epochs == IF MustOpen(srv) THEN epochs + 1 ELSE epochs
RunsOut(s) == SUBSET MayRunOut(s)

\* rule.lua: is_fenced, judge
IsFenced(s) ==
  LET counts == IF On("run_out_not_in_fill") THEN s.counts["t"]
                ELSE Cardinality({w \in s.fences \ MayRunOut(s) : DepOf(w) = "t"})
  IN  s.live > 0 /\ (counts > 0 \/ NoCounts(s))
Judge(s, ep, token, fences) ==
  s.ep = ep /\ s.ver["t"] <= token /\ s.ver["k"] <= token /\ ~(fences /\ IsFenced(s))
\* read.lua: valid
Valid(s) == entry.val # NONE /\ entry.ep = s.ep /\ s.ep # 0 /\ s.ver["t"] <= entry.token

(***************************** who writes *****************************)
Idle == [pc |-> "idle", age |-> 0, ep |-> 0, proved |-> 0, rep |-> 0, head |-> 0, ver |-> 0, fenced |-> FALSE, reflects |-> 0]
NoFlight == [pc |-> "idle", kind |-> "", ep |-> 0, seen |-> 0, token |-> NONE, head |-> NONE, val |-> NONE, age |-> 0]
NotJoined == [on |-> FALSE, ep |-> 0, seen |-> 0, live |-> FALSE, covered |-> FALSE, sent |-> FALSE, young |-> FALSE,
              told |-> 0, done |-> 0]

Init ==
  /\ db = 0 /\ epochs = 1 /\ evictions = 0 /\ bad = {}
  /\ srv = [NoServer EXCEPT !.ep = 1] /\ entry = [ep |-> 1, token |-> 0, val |-> 0]
  /\ writer = [w \in Writers |-> [pc |-> "idle", v |-> 0, ep |-> 0]]
  /\ node = [ep |-> 1, proved |-> 0, seen |-> 0, lease |-> D, fenced |-> FALSE, recent |-> 0, l1 |-> 0, vouched |-> 0,
             reflects |-> 0]
  /\ syn = Idle /\ flight = NoFlight /\ joined = NotJoined /\ set = [pc |-> "idle", val |-> 0, ep |-> 0, n |-> 0]
  /\ told = [v \in Values |-> NONE] /\ done = [v \in Values |-> NONE]

Tick ==
  /\ node' = [node EXCEPT !.lease = Less(@)]
  /\ syn' = [syn EXCEPT !.age = IF syn.pc = "idle" THEN 0 ELSE Older(@)]
  /\ flight' = [flight EXCEPT !.age = IF flight.pc = "idle" THEN 0 ELSE Older(@)]
  /\ told' = [v \in Values |-> Older(told[v])] /\ done' = [v \in Values |-> Older(done[v])]
  /\ UNCHANGED <<db, srv, epochs, entry, evictions, writer, joined, set, bad>>

\* fence.lua
Fence(w) ==
  /\ writer[w].pc = "idle"
  /\ \E out \in RunsOut(Opened(srv)) :
       LET s == RunOut(Opened(srv), out)
           up == [s EXCEPT !.fences = @ \cup {w}, !.live = @ + 1, !.counts[DepOf(w)] = @ + 1]
       IN  srv' = IF On("fence_record") THEN Record(up, {DepOf(w)}) ELSE up
  /\ epochs' = Epochs /\ writer' = [writer EXCEPT ![w].pc = "fenced", ![w].ep = Opened(srv).ep]
  /\ UNCHANGED <<db, entry, evictions, node, syn, flight, joined, set, told, done, bad>>
\* A fence that was lost before its commit covers nothing: a crash then would be the second fault.
Commit(w) ==
  /\ writer[w].pc = "fenced"
  /\ IF w \in Others THEN UNCHANGED <<db, done>> /\ writer' = [writer EXCEPT ![w].pc = "committed"]
     ELSE /\ db' = db + 1 /\ writer' = [writer EXCEPT ![w].pc = "committed", ![w].v = db + 1]
          /\ done' = [done EXCEPT ![db + 1] = IF writer[w].ep = srv.ep THEN 0 ELSE NONE]
  /\ UNCHANGED <<srv, epochs, entry, evictions, node, syn, flight, joined, set, told, bad>>
\* invalidate.lua
End(w) ==
  /\ writer[w].pc = "committed" /\ writer' = [writer EXCEPT ![w].pc = "over"]
  /\ \E out \in RunsOut(Opened(srv)) :
       LET s == Lift(RunOut(Opened(srv), out), w)
       IN  srv' = IF On("end_record") THEN Record(s, {DepOf(w)}) ELSE s
  /\ epochs' = Epochs /\ told' = IF w \in Others THEN told ELSE [told EXCEPT ![writer[w].v] = 0]
  /\ UNCHANGED <<db, entry, evictions, node, syn, flight, joined, set, done, bad>>
\* unfence.lua: the write did not happen
Discard(w) ==
  /\ "discard" \in Acts /\ writer[w].pc = "fenced" /\ writer' = [writer EXCEPT ![w].pc = "over"]
  /\ srv' = Lift(srv, w)
  /\ UNCHANGED <<db, epochs, entry, evictions, node, syn, flight, joined, set, told, done, bad>>
Crash(w) ==
  /\ "crash" \in Acts /\ w \notin Others /\ writer[w].pc \in {"fenced", "committed"} /\ writer' = [writer EXCEPT ![w].pc = "dead"]
  /\ UNCHANGED <<db, srv, epochs, entry, evictions, node, syn, flight, joined, set, told, done, bad>>

\* A `set` by another node, of what was the truth when it was called; it is bound to the head met there (writes.py: put).
SetCall ==
  /\ "set" \in Acts /\ set.pc = "idle"
  /\ set' = [pc |-> "sent", val |-> db, ep |-> srv.ep, n |-> srv.head]
  /\ UNCHANGED <<db, srv, epochs, entry, evictions, writer, node, syn, flight, joined, told, done, bad>>
\* set.lua, as often as it is refused; at last an invalidation of its key. What it says must still be true when it is sent
\* again, or be under a fence: else it is a write of another that the caller did not know, and no fence covered.
SetRun ==
  /\ set.pc \in {"sent", "gone"} /\ epochs' = Epochs
  /\ \E out \in RunsOut(Opened(srv)) :
       LET s == RunOut(Opened(srv), out)
           takes == IF On("set_place") THEN Judge(s, set.ep, set.n, On("set_fence")) ELSE ~IsFenced(s)
           again == IF set.val = db \/ IsFenced(s) THEN {"sent", "gone"} ELSE {"gone"}
       IN  IF set.pc = "gone"          \* as an invalidation of its key
           THEN /\ srv' = [Record(s, {"k"}) EXCEPT !.reflects = s.reflects]
                /\ entry' = NoEntry /\ set' = [set EXCEPT !.pc = "over"]
           ELSE IF takes
           THEN /\ srv' = [Record(s, {"k"}) EXCEPT !.reflects = s.reflects]
                /\ entry' = [ep |-> s.ep, token |-> s.head + 1, val |-> set.val] /\ set' = [set EXCEPT !.pc = "over"]
           ELSE /\ srv' = s /\ UNCHANGED entry
                /\ \E next \in again : set' = [set EXCEPT !.pc = next, !.ep = s.ep, !.n = s.head]
  /\ UNCHANGED <<db, evictions, writer, node, syn, flight, joined, told, done, bad>>

EvictFences ==
  /\ evictions < MaxEvictions /\ evictions' = evictions + 1 /\ srv' = [srv EXCEPT !.fences = {}]
  /\ srv.fences # {}
  /\ UNCHANGED <<db, epochs, entry, writer, node, syn, flight, joined, set, told, done, bad>>
EvictCounts ==
  /\ evictions < MaxEvictions /\ evictions' = evictions + 1 /\ srv' = [srv EXCEPT !.counts = [d \in Deps |-> 0]]
  /\ ~NoCounts(srv)
  /\ UNCHANGED <<db, epochs, entry, writer, node, syn, flight, joined, set, told, done, bad>>

(***************************** who reads *****************************)
Drop(q, n) == IF q.vouched < n THEN [q EXCEPT !.l1 = NONE, !.vouched = 0] ELSE q
\* Coherence.insert
Insert(q, ep, val, head) ==
  IF ep = q.ep /\ q.recent <= head /\ (head >= q.seen \/ q.proved >= q.seen)
  THEN [q EXCEPT !.l1 = val, !.vouched = head] ELSE q

SyncSend ==
  /\ syn.pc = "idle" /\ syn' = [Idle EXCEPT !.pc = "sent", !.ep = node.ep, !.proved = node.proved]
  /\ joined' = [joined EXCEPT !.sent = joined.on]
  /\ UNCHANGED <<db, srv, epochs, entry, evictions, writer, node, flight, set, told, done, bad>>
\* sync.lua
SyncRun ==
  /\ syn.pc = "sent" /\ epochs' = Epochs
  /\ \E out \in RunsOut(Opened(srv)) :
       LET s == RunOut(Opened(srv), out)  said == IF On("run_out_first") THEN s ELSE Opened(srv) IN
       /\ srv' = s
       /\ syn' = [syn EXCEPT !.pc = "back", !.rep = s.ep, !.head = said.head, !.ver = Max(said.ver["t"], said.ver["k"]),
                             !.fenced = s.live > 0 /\ s.counts["t"] > 0, !.reflects = said.reflects]
  /\ UNCHANGED <<db, entry, evictions, writer, node, flight, joined, set, told, done, bad>>
\* Coherence.prove
SyncBack ==
  LET y == syn  q == node  lease == Max(q.lease, D - y.age) IN
  /\ y.pc = "back" /\ syn' = Idle
  /\ node' = IF y.rep # q.ep
             THEN [ep |-> y.rep, proved |-> y.head, seen |-> y.head, lease |-> lease, fenced |-> y.fenced, recent |-> y.head,
                   l1 |-> NONE, vouched |-> 0, reflects |-> 0]
             ELSE LET heard == IF y.ver > y.proved THEN [Drop(q, y.ver) EXCEPT !.recent = Max(@, y.ver)] ELSE q
                  IN  [heard EXCEPT !.proved = Max(@, y.head), !.seen = Max(@, y.head), !.lease = lease, !.fenced = y.fenced,
                                    !.reflects = y.reflects]
  /\ joined' = [joined EXCEPT !.covered = joined.on /\ (@ \/ joined.sent)]
  /\ UNCHANGED <<db, srv, epochs, entry, evictions, writer, flight, set, told, done, bad>>

Asks == node.lease > 0 /\ node.ep = srv.ep /\ srv.head >= node.seen
\* an answer from L2, kept
Hit ==
  /\ "hit" \in Acts /\ Asks /\ Valid(srv) /\ node.l1 = NONE
  /\ node' = Insert([node EXCEPT !.seen = srv.head], srv.ep, entry.val, srv.head)
  /\ UNCHANGED <<db, srv, epochs, entry, evictions, writer, syn, flight, joined, set, told, done, bad>>

\* leave to load from the server; a load for L1 alone; one without Redis
Lead ==
  /\ flight.pc = "idle"
  /\ \/ /\ "lead" \in Acts /\ Asks /\ ~Valid(srv)
        /\ node' = [node EXCEPT !.seen = srv.head]
        /\ flight' = [NoFlight EXCEPT !.pc = "asked", !.kind = "lead", !.ep = node.ep, !.seen = node.seen, !.token = srv.head]
     \/ /\ "local" \in Acts /\ node.lease > 0 /\ node.proved >= node.seen /\ node.l1 = NONE /\ UNCHANGED node
        /\ flight' = [NoFlight EXCEPT !.pc = "asked", !.kind = "local", !.ep = node.ep, !.seen = node.seen, !.token = node.proved]
     \/ /\ "away" \in Acts /\ node.lease = 0 /\ UNCHANGED node
        /\ flight' = [NoFlight EXCEPT !.pc = "asked", !.kind = "away", !.ep = node.ep, !.seen = node.seen]
  /\ UNCHANGED <<db, srv, epochs, entry, evictions, writer, syn, joined, set, told, done, bad>>
LoadIt ==
  /\ flight.pc = "asked" /\ flight' = [flight EXCEPT !.pc = "loaded", !.val = db]
  /\ UNCHANGED <<db, srv, epochs, entry, evictions, writer, node, syn, joined, set, told, done, bad>>
\* fill.lua and its answer; loads.keep_local
Land ==
  LET f == flight
      accepted == Judge(srv, f.ep, f.token, On("fill_fence"))
      met == IF node.ep = f.ep THEN [node EXCEPT !.seen = Max(@, srv.head)] ELSE node
      kept == Insert(node, f.ep, f.val, f.token)
      keeps == node.ep = f.ep /\ ~(node.fenced /\ On("local_fence")) /\ kept # node
  IN
  /\ f.pc = "loaded"
  /\ \/ f.kind = "lead" /\ accepted
        /\ entry' = [ep |-> f.ep, token |-> f.token, val |-> f.val]
        /\ node' = Insert(met, f.ep, f.val, srv.head) /\ flight' = [f EXCEPT !.pc = "landed", !.head = srv.head]
     \/ f.kind = "lead" /\ ~accepted /\ flight' = [f EXCEPT !.pc = "landed"] /\ UNCHANGED <<entry, node>>
     \/ f.kind = "local" /\ keeps /\ node' = kept /\ flight' = [f EXCEPT !.pc = "landed", !.head = f.token] /\ UNCHANGED entry
     \/ f.kind = "local" /\ ~keeps /\ flight' = [f EXCEPT !.pc = "landed"] /\ UNCHANGED <<entry, node>>
     \/ f.kind = "away" /\ flight' = [f EXCEPT !.pc = "landed"] /\ UNCHANGED <<entry, node>>
  /\ UNCHANGED <<db, srv, epochs, evictions, writer, syn, joined, set, told, done, bad>>

Join ==
  /\ "join" \in Acts /\ ~joined.on /\ flight.pc \in {"asked", "loaded"}
  /\ joined' = [on |-> TRUE, ep |-> node.ep, seen |-> node.seen, live |-> node.lease > 0, covered |-> FALSE,
                sent |-> syn.pc # "idle" /\ syn.age < D, young |-> flight.age < D, told |-> Newest(told), done |-> Newest(done)]
  /\ UNCHANGED <<db, srv, epochs, entry, evictions, writer, node, syn, flight, set, told, done, bad>>
\* join_rule.may_take
MayTake(j, l) ==
  IF l.token = NONE THEN l.ep = j.ep /\ l.seen >= j.seen /\ (j.young \/ ~On("join_away_young"))
  ELSE LET must == IF j.live THEN j.seen ELSE Max(j.seen, node.proved) IN
       /\ node.ep = l.ep /\ j.ep = node.ep /\ (j.live \/ j.covered)
       /\ \/ l.head # NONE /\ l.head >= must
          \/ /\ l.head # NONE \/ j.young \/ ~On("join_young")
             /\ \/ l.token >= must
                \/ node.proved >= must /\ node.recent <= l.token
\* The flight ends. What its leader gives to its own caller was loaded after that caller asked.
Take ==
  /\ flight.pc = "landed" /\ flight' = NoFlight /\ joined' = NotJoined
  /\ bad' = IF ~joined.on \/ ~MayTake(joined, flight) THEN bad
            ELSE bad \cup (IF flight.val < joined.told THEN {"G1"} ELSE {}) \cup (IF flight.val < joined.done THEN {"G7"} ELSE {})
  /\ UNCHANGED <<db, srv, epochs, entry, evictions, writer, node, syn, set, told, done>>

Next ==
  \/ Tick \/ SetCall \/ SetRun \/ EvictFences \/ EvictCounts
  \/ \E w \in Writers : Fence(w) \/ Commit(w) \/ End(w) \/ Discard(w) \/ Crash(w)
  \/ SyncSend \/ SyncRun \/ SyncBack \/ Hit \/ Lead \/ LoadIt \/ Land \/ Join \/ Take
Spec == Init /\ [][Next]_vars

\* What a read would give that is invoked now, from L1 or from L2.
Shows(v) == /\ node.lease > 0 /\ node.l1 # NONE => node.l1 >= v
            /\ Asks /\ Valid(srv) => entry.val >= v
G1 == Shows(Newest(told)) /\ "G1" \notin bad
G7 == Shows(Newest(done)) /\ "G7" \notin bad
G3 == /\ Valid(srv) => entry.val >= srv.reflects
      /\ node.l1 # NONE => node.l1 >= node.reflects
\* Not one of the guarantees: a fence can run out as long as it is counted.
Ends == MustOpen(srv) \/ \A d \in Deps : srv.counts[d] <= Cardinality({w \in srv.fences : DepOf(w) = d})
=============================================================================
