------------------------------- MODULE Floors -------------------------------
(* What happens to the rules where something was forgotten: the versions of tags and of keys, in     *)
(* tables of their own with a cap and a floor each; the table of the keys, that may be evicted by    *)
(* itself; a node that is too far behind for a replay; the memory of recent records, with a cap.     *)
(* The code: coherence.py; lua/{prelude,rule,read,sync,invalidate}.lua. A rule named in Off is off.  *)
(* One epoch: state that is lost as a whole is in Coherence.tla. Ages are capped at D.               *)
EXTENDS Naturals, FiniteSets

CONSTANTS Off,          \* the rules that are switched off
          D,            \* max_staleness, in ticks
          Cap,          \* members that each table has room for
          Remember,     \* records that the node remembers
          MaxWrites,    \* of the truth, each with a record on the tag "t" or on the key "k"
          MaxOthers,    \* records on another tag, "u", or another key, "j"
          MaxEvictions  \* of the table of the keys

NONE == 99
TagDeps == {"t", "u"}
KeyDeps == {"k", "j"}
Deps == TagDeps \cup KeyDeps
Mine == {"t", "k"}                  \* what the one entry depends on
EVERYTHING == "*"
On(rule) == rule \notin Off
Max(a, b) == IF a > b THEN a ELSE b
Older(age) == IF age = NONE THEN NONE ELSE IF age >= D THEN D ELSE age + 1
Less(left) == IF left = 0 THEN 0 ELSE left - 1
Values == 1..MaxWrites
Newest(age) == LET s == {v \in Values : age[v] = D} IN IF s = {} THEN 0 ELSE CHOOSE v \in s : \A x \in s : x <= v

VARIABLES db, srv, entry, node, syn, read, told, others, evictions
vars == <<db, srv, entry, node, syn, read, told, others, evictions>>

\* ver: of a dependency that is in its table, else 0. `reflects`, for the judge alone: what a valid value must show.
Init ==
  /\ db = 0 /\ others = 0 /\ evictions = 0 /\ told = [v \in Values |-> NONE]
  /\ srv = [head |-> 0, ver |-> [d \in Deps |-> 0], floor |-> 0, key_floor |-> 0, keys |-> TRUE, reflects |-> 0]
  /\ entry \in {[token |-> 0, val |-> 0], [token |-> 0, val |-> NONE]}
  /\ node = [proved |-> 0, seen |-> 0, lease |-> D, recent |-> [d \in Deps \cup {EVERYTHING} |-> 0], floor |-> 0, l1 |-> 0,
             vouched |-> 0, reflects |-> 0]
  /\ syn = [pc |-> "idle", age |-> 0, proved |-> 0, head |-> 0, flush |-> FALSE, ver |-> [d \in Deps |-> 0], reflects |-> 0]
  /\ read = [pc |-> "idle", token |-> 0, head |-> 0, val |-> 0]

Tick ==
  /\ node' = [node EXCEPT !.lease = Less(@)] /\ syn' = [syn EXCEPT !.age = IF syn.pc = "idle" THEN 0 ELSE Older(@)]
  /\ told' = [v \in Values |-> Older(told[v])]
  /\ UNCHANGED <<db, srv, entry, read, others, evictions>>

(***************************** the server *****************************)
\* prelude.lua: open. A table of keys that is missing is made anew, and knows nothing up to now.
Opened(s) ==
  IF s.keys THEN s ELSE [s EXCEPT !.keys = TRUE, !.key_floor = IF On("new_table_floor") THEN s.head ELSE 0]

\* prelude.lua: trim, of the table that holds `deps`
Oldest(s, deps) == CHOOSE n \in {s.ver[d] : d \in deps} \ {0} : \A d \in deps : s.ver[d] = 0 \/ n <= s.ver[d]
IsOver(s, deps) == Cardinality({d \in deps : s.ver[d] > 0}) > Cap
Without(s, deps, n) == [s EXCEPT !.ver = [d \in Deps |-> IF d \in deps /\ @[d] <= n THEN 0 ELSE @[d]]]
Floor(n) == IF On("trim_floor") THEN n ELSE n - 1
Trim(s) ==
  LET tags == IF ~IsOver(s, TagDeps) THEN s
              ELSE [Without(s, TagDeps, Oldest(s, TagDeps)) EXCEPT !.floor = Floor(Oldest(s, TagDeps))]
  IN  IF ~IsOver(tags, KeyDeps) THEN tags
      ELSE [Without(tags, KeyDeps, Oldest(tags, KeyDeps)) EXCEPT !.key_floor = Floor(Oldest(tags, KeyDeps))]
\* prelude.lua: record
Record(s, dep) == Trim([s EXCEPT !.head = @ + 1, !.ver[dep] = s.head + 1])

\* invalidate.lua, on what the entry depends on
Write(dep) ==
  /\ db < MaxWrites /\ db' = db + 1 /\ told' = [told EXCEPT ![db + 1] = 0]
  /\ srv' = [Record(Opened(srv), dep) EXCEPT !.reflects = db + 1]
  /\ entry' = IF dep = "k" /\ On("unlink") THEN [token |-> 0, val |-> NONE] ELSE entry
  /\ UNCHANGED <<node, syn, read, others, evictions>>
\* and on something else
Other(dep) ==
  /\ others < MaxOthers /\ others' = others + 1 /\ srv' = Record(Opened(srv), dep)
  /\ UNCHANGED <<db, entry, node, syn, read, told, evictions>>
EvictKeys ==
  /\ evictions < MaxEvictions /\ evictions' = evictions + 1 /\ srv.keys
  /\ srv' = [srv EXCEPT !.keys = FALSE, !.key_floor = 0, !.ver = [d \in Deps |-> IF d \in KeyDeps THEN 0 ELSE @[d]]]
  /\ UNCHANGED <<db, entry, node, syn, read, told, others>>

\* read.lua: valid. The version of the key itself is not asked: a `delete` unlinks its entry.
Valid == entry.val # NONE /\ srv.ver["t"] <= entry.token /\ (srv.floor <= entry.token \/ ~On("read_floor"))
\* rule.lua: judge
KeyFloor == IF srv.keys THEN srv.key_floor ELSE IF On("lost_table_floor") THEN srv.head ELSE 0
Judge(token) ==
  /\ srv.floor <= token \/ ~On("fill_floor")
  /\ KeyFloor <= token \/ ~On("fill_key_floor")
  /\ srv.ver["t"] <= token /\ srv.ver["k"] <= token

(***************************** the node *****************************)
\* Coherence._remember
Recall(q, dep, n) ==
  LET recent == [q.recent EXCEPT ![dep] = Max(@, n)]
      highest == CHOOSE m \in {recent[d] : d \in DOMAIN recent} : \A d \in DOMAIN recent : recent[d] <= m
  IN  IF Cardinality({d \in DOMAIN recent : recent[d] > 0}) <= Remember THEN [q EXCEPT !.recent = recent]
      ELSE [q EXCEPT !.recent = [d \in DOMAIN recent |-> 0],
                     !.floor = IF ~On("recent_floor") THEN 0 ELSE IF On("recent_floor_grows") THEN Max(@, highest) ELSE highest]
\* Coherence._apply
Apply(q, dep, n) ==
  LET told_of == Recall(q, dep, n)
  IN  IF dep \in Mine /\ q.vouched < n THEN [told_of EXCEPT !.l1 = NONE, !.vouched = 0] ELSE told_of
\* One by one as sync.lua lists them: tags, then keys, each from the lowest number.
RECURSIVE Replay(_, _)
Replay(q, ver) ==
  LET left(deps) == {d \in deps : ver[d] > 0}
      from == IF left(TagDeps) # {} THEN left(TagDeps) ELSE left(KeyDeps)
      next == CHOOSE d \in from : \A x \in from : ver[d] <= ver[x]
  IN  IF from = {} THEN q ELSE Replay(Apply(q, next, ver[next]), [ver EXCEPT ![next] = 0])

SyncSend ==
  /\ syn.pc = "idle" /\ syn' = [syn EXCEPT !.pc = "sent", !.proved = node.proved]
  /\ UNCHANGED <<db, srv, entry, node, read, told, others, evictions>>
\* sync.lua
SyncRun ==
  LET s == Opened(srv) IN
  /\ syn.pc = "sent" /\ srv' = s
  /\ syn' = [syn EXCEPT !.pc = "back", !.head = s.head, !.reflects = s.reflects,
               !.flush = (syn.proved < s.floor /\ On("sync_floor")) \/ (syn.proved < s.key_floor /\ On("sync_key_floor")),
               !.ver = [d \in Deps |-> IF s.ver[d] > syn.proved THEN s.ver[d] ELSE 0]]
  /\ UNCHANGED <<db, entry, node, read, told, others, evictions>>
\* Coherence.prove
SyncBack ==
  LET y == syn
      emptied == [node EXCEPT !.l1 = NONE, !.vouched = 0]
      q == IF ~y.flush THEN Replay(node, y.ver)
           ELSE IF On("flush_is_remembered") THEN Recall(emptied, EVERYTHING, y.head) ELSE emptied
  IN
  /\ y.pc = "back"
  /\ node' = [q EXCEPT !.proved = Max(@, y.head), !.seen = Max(@, y.head), !.lease = Max(@, D - y.age), !.reflects = y.reflects]
  /\ syn' = [syn EXCEPT !.pc = "idle", !.age = 0, !.proved = 0, !.head = 0, !.flush = FALSE, !.ver = [d \in Deps |-> 0],
                        !.reflects = 0]
  /\ UNCHANGED <<db, srv, entry, read, told, others, evictions>>

\* A read: asked; then an answer, or leave to load, the load, the fill and its answer.
Asks == node.lease > 0 /\ srv.head >= node.seen
Ask ==
  /\ read.pc = "idle" /\ Asks
  /\ read' = IF Valid THEN [pc |-> "answered", token |-> 0, head |-> srv.head, val |-> entry.val]
                      ELSE [pc |-> "lead", token |-> srv.head, head |-> 0, val |-> 0]
  /\ UNCHANGED <<db, srv, entry, node, syn, told, others, evictions>>
LoadIt ==
  /\ read.pc = "lead" /\ read' = [read EXCEPT !.pc = "loaded", !.val = db]
  /\ UNCHANGED <<db, srv, entry, node, syn, told, others, evictions>>
Nothing == [pc |-> "idle", token |-> 0, head |-> 0, val |-> 0]
Fill ==
  /\ read.pc = "loaded"
  /\ IF Judge(read.token) /\ ~(entry.val # NONE /\ entry.token > read.token)
     THEN /\ entry' = [token |-> read.token, val |-> read.val]
          /\ read' = [read EXCEPT !.pc = "answered", !.head = srv.head, !.token = 0]
     ELSE read' = Nothing /\ UNCHANGED entry
  /\ UNCHANGED <<db, srv, node, syn, told, others, evictions>>
\* Coherence.meet, insert
Unheard(q, n) == n >= q.floor /\ q.recent[EVERYTHING] <= n /\ \A d \in Mine : q.recent[d] <= n
Keep ==
  LET met == [node EXCEPT !.seen = Max(@, read.head), !.l1 = IF node.vouched < read.head THEN NONE ELSE @,
                          !.vouched = IF node.vouched < read.head THEN 0 ELSE @]
  IN
  /\ read.pc = "answered" /\ read' = Nothing
  /\ node' = IF Unheard(met, read.head) /\ (read.head >= met.seen \/ met.proved >= met.seen)
             THEN [met EXCEPT !.l1 = read.val, !.vouched = read.head] ELSE met
  /\ UNCHANGED <<db, srv, entry, syn, told, others, evictions>>

Next ==
  \/ Tick \/ EvictKeys \/ SyncSend \/ SyncRun \/ SyncBack \/ Ask \/ LoadIt \/ Fill \/ Keep
  \/ \E dep \in Mine : Write(dep)
  \/ \E dep \in Deps \ Mine : Other(dep)
Spec == Init /\ [][Next]_vars

\* What a read would give that is invoked now, from L1 or from L2.
G1 == /\ node.lease > 0 /\ node.l1 # NONE => node.l1 >= Newest(told)
      /\ Asks /\ Valid => entry.val >= Newest(told)
G3 == /\ Valid => entry.val >= srv.reflects
      /\ node.l1 # NONE => node.l1 >= node.reflects
=============================================================================
