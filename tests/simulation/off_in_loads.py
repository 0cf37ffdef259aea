"""The rules of loads and of joins, each switched off."""

from __future__ import annotations

from tests.simulation.mutations import Mutation
from tiercache._core import elsewhere, flights, join_rule, loads

OF_LOADS = (
    # ---- loads
    Mutation(
        "a load ahead of the last sync does not sync first, and is stored with its token",
        loads,
        "catch_up",
        "if tiers.core.proved < token:\n            yield from sync(tiers, blocking=blocking)\n"
        "    return min(token, tiers.core.proved)",
        "if False:\n            yield\n    return token",
        theme="nested",
    ),
    Mutation(
        "a load without Redis takes its parts from the tiers",
        loads,
        "load_away",
        "flight, stand, inf)",
        "flight, stand, 0)",
        theme="cut off",
    ),
    Mutation(
        "what is loaded before its end is stored as of when it was loaded",
        loads,
        "load_anew",
        "yield from load_and_fill(tiers, want, flight, owner, stand, head, blocking=blocking)",
        "value, payload, _, want = yield from _call(tiers, want, flight, stand, head)\n"
        "        now = tiers.core.stand(tiers.clock())\n"
        "        landing = landing_of(tiers, want, value, payload, now, now.proved)\n"
        "        yield from ask(fill_of(tiers, want, landing, owner))",
        theme="lapse",
    ),
    Mutation(
        "any number of loads elsewhere that bring nothing is waited for",
        elsewhere,
        "fetch_past_l1",
        "loads > MAX_JOINS or",
        "",
        theme="fences",
    ),
    Mutation(
        "a function that is called under an open write is no load",
        loads,
        "call_past_the_tiers",
        "call.within(load)",
        "call",
        theme="orphans",
    ),
    Mutation(
        "a function that is called under an open write reads what L1 has, ahead of the last sync",
        loads,
        "call_past_the_tiers",
        "yield from catch_up(tiers, token, blocking=blocking)",
        "",
        theme="orphans",
    ),
    # ---- joins
    Mutation(
        "whoever waits takes what comes",
        join_rule,
        "may_take",
        "    deps = landing.deps\n",
        "    deps = landing.deps\n    return True\n",
    ),
    Mutation(
        "a join does not look at the epoch",
        join_rule,
        "may_take",
        "if not same or joined.epoch not in (0, core.epoch) or",
        "if",
        theme="fences",
    ),
    Mutation(
        "a join does not look at what waits to be invalidated",
        join_rule,
        "may_take",
        "or core.withheld(deps)",
        "",
    ),
    Mutation(
        "a join needs no lease",
        join_rule,
        "may_take",
        "if core.lease <= joined.at:",
        "if False:",
        theme="replaced",
    ),
    Mutation(
        "a join under a lapsed lease asks for no more than what was met",
        join_rule,
        "may_take",
        "must_reflect = max(must_reflect, core.proved)",
        "pass",
        theme="replaced",
    ),
    Mutation(
        "a join forgets an own invalidation that was pending",
        join_rule,
        "may_take",
        "if joined.own > landing.stand.own and not core.reflects(deps, vouched):",
        "if False:",
        theme="late",
    ),
    Mutation(
        "a join trusts a proof without looking at the records",
        join_rule,
        "may_take",
        "core.proved >= must_reflect and core.reflects(deps, landing.token)",
        "core.proved >= must_reflect",
        theme="cut off",
    ),
    Mutation(
        "a join looks at the records without a proof",
        join_rule,
        "may_take",
        "core.proved >= must_reflect and core.reflects(deps, landing.token)",
        "core.reflects(deps, landing.token)",
        theme="cut off",
    ),
    Mutation(
        "without Redis an own invalidation does not part joins",
        join_rule,
        "may_take",
        "and landing.stand.own >= joined.own",
        "",
    ),
    Mutation(
        "without Redis a load is joined however old it is",
        join_rule,
        "may_take",
        "and landing.began > joined.at - core.max_staleness",
        "",
        theme="cut off",
    ),
    Mutation(
        "without Redis what was met meanwhile does not part joins",
        join_rule,
        "may_take",
        "and landing.stand.seen >= joined.seen",
        "",
        theme="cut off",
    ),
    Mutation(
        "without Redis a load is joined after the lease that it began under",
        join_rule,
        "may_take",
        "and _has_no_older_part(core, joined, landing.stand)",
        "",
        theme="cut off",
    ),
    Mutation(
        "a join inside a block takes what was loaded before its commit",
        join_rule,
        "may_follow",
        "written.isdisjoint(landing.deps) and",
        "",
        theme="orphans",
    ),
    Mutation(
        "every caller leads",
        flights,
        "Board.claim",
        "if flight is None or is_own",
        "if True or is_own",
    ),
)
