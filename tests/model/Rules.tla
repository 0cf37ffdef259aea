-------------------------------- MODULE Rules --------------------------------
(* The rules of the protocol, one operator each: what a node does with what it hears, and what a    *)
(* script does with the state in Redis. Nothing here is a step: Coherence.tla puts them in motion.  *)
(* A rule named in Off is off. Theory of operation: docs/explanation/coherence.md.                  *)
EXTENDS Naturals, Sequences, FiniteSets

CONSTANTS Off,          \* the rules that are switched off
          Keys,         \* keys; each has the one tag "t", and is a dependency by its own name
          D             \* max_staleness, in ticks

NONE == 99
EVERYTHING == "*"
Deps == {"t"} \cup Keys
DepsOf(k) == {"t", k}
On(rule) == rule \notin Off
Max(a, b) == IF a > b THEN a ELSE b

(***************************** a node: coherence.py *****************************)

\* `iv` is for the judge alone: the newest write whose record the server held when it vouched.
Unknown == [val |-> NONE, vouched |-> 0, iv |-> 0]
NoRecent == [d \in Deps \cup {EVERYTHING} |-> 0]
EmptyL1 == [k \in Keys |-> Unknown]
Node0 == [ep |-> 0, gen |-> 0, proved |-> 0, applied |-> 0, seen |-> 0, lease |-> 0, own |-> 0,
          recent |-> NoRecent, floor |-> 0, pending |-> {}, l1 |-> EmptyL1]

\* Where a node stands when it sends a request.
StandOf(q) == [ep |-> q.ep, gen |-> q.gen, seen |-> q.seen, own |-> q.own, live |-> q.lease > 0]
Stand0 == [ep |-> 0, gen |-> 0, seen |-> 0, own |-> 0, live |-> FALSE]

\* A reply counts only where the node still stands where it was when it asked (R43).
Stands(q, st) == q.ep = st.ep /\ (q.gen = st.gen \/ ~On("generation"))
Current(q, st) == Stands(q, st) \/ ~On("reply_stand")

Names(deps, k) == EVERYTHING \in deps \/ DepsOf(k) \cap deps # {}

\* L1.drop_dependents
Drop(q, deps, before) ==
  [q EXCEPT !.l1 = [k \in Keys |-> IF Names(deps, k) /\ @[k].vouched < before THEN Unknown ELSE @[k]]]

\* Coherence._apply: record n on deps
Apply(q, deps, n) ==
  Drop([q EXCEPT !.recent = [d \in DOMAIN @ |-> IF d \in deps THEN Max(@[d], n) ELSE @[d]]], deps, n)

\* Coherence._unheard: no record applied on what k depends on came after n
Unheard(q, k, n) ==
  \/ ~On("recent")
  \/ /\ n >= q.floor
     /\ q.recent[EVERYTHING] <= n
     /\ \A d \in DepsOf(k) : q.recent[d] <= n

\* Coherence.withheld: an invalidation of it is still to be sent
Withheld(q, k) == Names(q.pending, k) /\ On("withheld")

\* Coherence.hear: the next number, whatever the hint says it names; all others are ignored, or ask for a sync
Hear(q, deps) ==
  LET n == q.applied + 1
  IN  [Apply(q, deps, n) EXCEPT !.applied = n, !.seen = IF On("hint_is_no_proof") THEN @ ELSE Max(@, n)]

\* Coherence.prove: y is the reply to a sync, with where the node stood when it was sent
Prove(q, y) ==
  LET lease == Max(q.lease, IF On("lease_from_sending") THEN D - y.age ELSE D)
      replayed == IF y.flush
                  THEN [q EXCEPT !.l1 = EmptyL1,
                                 !.recent[EVERYTHING] = IF On("flush_is_remembered") THEN Max(@, y.head) ELSE @]
                  ELSE LET heard == [d \in DOMAIN q.recent |-> IF d \in Deps THEN Max(q.recent[d], y.ver[d])
                                                                             ELSE q.recent[d]]
                       IN  [q EXCEPT !.recent = heard,
                              !.l1 = [k \in Keys |-> IF \E d \in DepsOf(k) : q.l1[k].vouched < y.ver[d]
                                                     THEN Unknown ELSE q.l1[k]]]
      proved == Max(q.proved, y.head)
      seen == IF On("seen_only_grows") \/ ~y.flush THEN Max(q.seen, y.head) ELSE y.head
      lied == y.applied > y.head      \* a hint had: the server had not come that far
  IN  IF ~Stands(q, y) /\ On("sync_stand") THEN q
      ELSE IF y.rep # q.ep
      THEN [q EXCEPT !.ep = y.rep, !.applied = y.head, !.proved = y.head, !.seen = y.head, !.floor = y.head,
                     !.recent = NoRecent, !.lease = lease, !.l1 = IF On("new_epoch_empties") THEN EmptyL1 ELSE @]
      ELSE [replayed EXCEPT !.proved = proved, !.seen = seen, !.lease = lease,
                            !.applied = IF lied THEN proved ELSE Max(@, proved),
                            !.recent = IF lied THEN NoRecent ELSE @,
                            !.floor = IF lied /\ On("floor_after_lie") THEN seen ELSE @]

\* Coherence.meet: the head of a reply on key k; what L1 has under it from before is superseded
Meet(q, st, head, k) ==
  IF ~Current(q, st) THEN q
  ELSE [q EXCEPT !.seen = IF On("meet") THEN Max(@, head) ELSE @,
                 !.l1[k] = IF On("superseded") /\ @.vouched < head THEN Unknown ELSE @]

\* Coherence.disown: every reply still under way is void
Disown(q) == [Node0 EXCEPT !.gen = q.gen + 1, !.own = q.own, !.pending = q.pending]

\* Coherence.own_record
OwnRecord(q, ep, n, deps) ==
  IF ~On("own_record") THEN q
  ELSE IF ep = q.ep THEN [Apply(q, deps, n) EXCEPT !.seen = Max(@, n)]
  ELSE IF On("disown") THEN Disown(q)
  ELSE [q EXCEPT !.l1 = EmptyL1, !.lease = 0]

\* Coherence.insert: unless something overtook the value on its way (R1), or a server that lost records sent it (R42)
Insert(q, k, v, head, iv, st) ==
  LET vouched == IF On("insert_proved") THEN q.proved ELSE q.applied
  IN  IF /\ Current(q, st)
         /\ Unheard(q, k, head)
         /\ ~Withheld(q, k)
         /\ (head >= q.seen \/ vouched >= q.seen \/ ~On("insert_seen"))
      THEN [q EXCEPT !.l1[k] = [val |-> v, vouched |-> head, iv |-> iv]]
      ELSE q

\* Coherence.pend: Redis did not take it; until it does, it is served from nowhere here. It counts as begun anew.
Pend(q, deps) ==
  LET p == [q EXCEPT !.pending = @ \cup deps, !.own = IF On("pend_counts") THEN @ + 1 ELSE @] IN IF On("pend_drops") THEN Drop(p, deps, NONE) ELSE p

\* Coherence.settle
Settle(q, deps) == [q EXCEPT !.pending = @ \ deps]

\* Coherence.serve, but for the lease: inside a load, L1 answers with what the load's token promises, or not at all
Answers(q, entry, ahead) ==
  /\ entry.val # NONE
  /\ (ahead = 0 \/ entry.vouched >= ahead \/ q.proved >= ahead \/ ~On("nested"))

\* join_rule.may_take: j is how the joiner came, l what the flight landed with. `covered`: a sync sent less than D
\* before the join has been answered since.
MayTake(q, k, j, l, inLoad) ==
  LET head == IF l.head = NONE THEN 0 ELSE l.head
      token == IF l.token = NONE THEN 0 ELSE l.token
      must == IF j.st.live THEN j.st.seen ELSE Max(j.st.seen, q.proved)
  IN  IF ~On("join_rule") THEN l.head # NONE /\ q.ep = l.st.ep
      ELSE IF l.token = NONE /\ l.head = NONE      \* loaded without Redis
      THEN /\ (~inLoad \/ ~On("join_away_nested"))
           /\ (l.st.own >= j.st.own \/ ~On("join_away_own"))
           /\ l.st.ep = j.st.ep /\ l.st.gen = j.st.gen
           /\ (l.st.seen >= j.st.seen \/ ~On("join_away_seen"))
           /\ (j.young \/ ~On("join_away_young"))
      ELSE /\ ((q.ep = l.st.ep /\ q.gen = j.st.gen /\ j.st.ep \in {0, q.ep}) \/ ~On("join_stand"))
           /\ ~Withheld(q, k)
           /\ (j.st.live \/ j.covered \/ ~On("join_lease"))
           /\ (j.st.own > l.st.own /\ On("join_own") => Unheard(q, k, Max(head, token)))
           /\ \/ l.head # NONE /\ l.head >= must
              \/ /\ l.token # NONE
                 /\ l.head # NONE \/ j.young        \* nobody vouched for it: see Fences.tla
                 /\ \/ l.token >= must
                    \/ /\ q.proved >= must \/ ~On("join_proved")
                       /\ Unheard(q, k, l.token) \/ ~On("join_reflects")

(***************************** the server: lua/ *****************************)

\* `iv`: as above; the newest write of each key whose record this history holds.
NoServer == [ep |-> 0, ten |-> 0, head |-> 0, floor |-> 0, ver |-> [d \in Deps |-> 0], iv |-> [k \in Keys |-> 0]]
NoEntry == [ep |-> 0, token |-> 0, val |-> NONE]

\* prelude.lua: open. State that is missing, or that another tenure left, is a new epoch, under a new name.
MustOpen(s, ten) == s.ep = 0 \/ (s.ten # ten /\ On("tenure"))
Open(s, ten, name) ==
  IF MustOpen(s, ten) THEN [NoServer EXCEPT !.ep = IF On("nonce") THEN name ELSE 1, !.ten = ten] ELSE s

\* read.lua: go and sync
Refuses(s, st) == s.ep # st.ep \/ (s.head < st.seen /\ On("read_seen"))

\* read.lua: valid. The version of the key itself is not asked: set and delete replace or unlink its entry.
Valid(s, e) ==
  /\ e.val # NONE /\ e.ep = s.ep
  /\ (s.ver["t"] <= e.token \/ ~On("valid_version"))
  /\ (s.floor <= e.token \/ ~On("valid_floor"))

\* looks.py: what a Look is told of the state, and the same two rules at the client. `ver`: of the entry's tag, NONE where it
\* was not asked for.
NoVersions == [ep |-> 0, head |-> 0, floor |-> 0, ver |-> 0]
VersionsAt(s, tag) == [ep |-> s.ep, head |-> s.head, floor |-> s.floor, ver |-> IF tag THEN s.ver["t"] ELSE NONE]
LookRefuses(l, st) == l.ep # st.ep \/ (l.head < st.seen /\ On("look_seen"))
LookValid(l, e) ==
  /\ e.val # NONE
  /\ (e.ep = l.ep \/ ~On("look_epoch"))
  /\ (l.ver # NONE \/ ~On("look_tags"))
  /\ (l.ver = NONE \/ l.ver <= e.token \/ ~On("look_version"))
  /\ (l.floor <= e.token \/ ~On("look_floor"))
  /\ (e.token <= l.head \/ ~On("look_token"))
\* A server that has been replaced meanwhile by an older copy has lost records, and entries are back that they took away.
LookStands(s, ep, head) == (s.ep = ep /\ s.head >= head) \/ ~On("look_stands")

\* rule.lua: judge. May a value that was loaded with this token stand?
Judge(s, ep, token, k) ==
  /\ s.ep = ep
  /\ (s.floor <= token \/ ~On("fill_floor"))
  /\ (s.ver["t"] <= token \/ ~On("fill_version"))
  /\ (s.ver[k] <= token \/ ~On("fill_key_version"))

\* fill.lua: a newer token is there already
Older(s, e, token) == e.val # NONE /\ e.ep = s.ep /\ e.token > token /\ On("older")

\* sync.lua: the records after what the node has proved, or that it is too far behind
Since(s, q) ==
  LET asked == IF On("proved") THEN q.proved ELSE q.applied
  IN  [flush |-> asked < s.floor, ver |-> [d \in Deps |-> IF s.ver[d] <= asked THEN 0 ELSE s.ver[d]]]

\* prelude.lua: note. Record head + 1 on deps.
Note(s, deps, v) ==
  [s EXCEPT !.head = @ + 1, !.ver = [d \in Deps |-> IF d \in deps THEN s.head + 1 ELSE @[d]],
            !.iv = [k \in Keys |-> IF Names(deps, k) THEN Max(@[k], v) ELSE @[k]]]

\* clear.lua: the floor rises to a new head
Cleared(s, v) ==
  LET n == IF On("clear_moves_head") THEN s.head + 1 ELSE s.head
  IN  IF ~On("clear_keeps_state") THEN [NoServer EXCEPT !.iv = [k \in Keys |-> v]]
      ELSE [s EXCEPT !.head = n, !.floor = IF On("clear_floor") THEN n ELSE s.head,
                     !.ver = [d \in Deps |-> 0], !.iv = [k \in Keys |-> v]]
=============================================================================
