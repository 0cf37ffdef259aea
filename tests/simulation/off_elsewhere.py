"""The rules of fences, of barriers and of the server, each switched off."""

from __future__ import annotations

from tests.core import sim_server, sim_state
from tests.simulation.mutations import Mutation
from tiercache._core import barriers, join_rule, loads

OF_FENCES = (
    # ---- fences
    Mutation(
        "what is fenced is stored",
        sim_server,
        "SimServer._judge",
        "if state.fences and",
        "if False and",
        theme="orphans",
    ),
    Mutation(
        "a fence makes no record",
        sim_server,
        "SimServer._fence",
        "return self._record(state, keys, command.deps, command.cap, command.key_cap)",
        "return Recorded(state.epoch, state.head)",
        theme="fences",
    ),
    Mutation(
        "a fence that runs out makes no record",
        sim_server,
        "SimServer._open",
        "self._record(state, keys, deps)",
        "pass",
        theme="orphans",
    ),
    Mutation(
        "who lifts one fence lifts all on its dependencies",
        sim_server,
        "SimServer._lift",
        "if left <= 0:",
        "if True:",
        theme="orphans",
    ),
    Mutation(
        "fences that were lost are not missed",
        sim_server,
        "SimServer._open",
        "or (lost and state.fences)",
        "",
        theme="orphans",
    ),
    Mutation(
        "L1 alone keeps what is fenced",
        loads,
        "keep_local",
        "and not core.is_fenced(landing.deps)",
        "",
        theme="orphans",
    ),
    Mutation(
        "what a fence refused is joined however old it is",
        join_rule,
        "may_take",
        "or landing.began <= joined.at - core.max_staleness",
        "",
        theme="orphans",
    ),
    Mutation(
        "what a fence refused becomes a part of another load",
        join_rule,
        "may_take",
        "nested or landing.began <= joined.at - core.max_staleness",
        "landing.began <= joined.at - core.max_staleness",
        theme="orphans",
    ),
)
OF_BARRIERS = (
    Mutation(
        "a barrier does not wait for who is silent",
        barriers,
        "_have_all",
        'return behind.left_out == "0" and not asked.members.keys() & behind.members.keys()',
        "return True",
        theme="barriers",
    ),
    Mutation(
        "a barrier waits for who is silent a tenth of a lease too short",
        barriers,
        "barrier",
        "give_up = since + patience",
        "give_up = since + 0.9 * patience",
        theme="waiting",
    ),
    Mutation(
        "a barrier does not wait for leases of an older epoch",
        barriers,
        "_settled",
        "if behind.settled:",
        "if True:",
        theme="waiting",
    ),
    Mutation(
        "a node acknowledges what it only heard of",
        barriers,
        "acknowledge",
        "core.proved < question.number:\n"
        "            yield from sync(tiers, blocking=True)\n"
        "        if core.lease >= begun + core.max_staleness:  # it was sent since\n"
        "            break\n"
        "    with core.lock:\n"
        "        epoch, proved = core.epoch, core.proved\n",
        "core.applied < question.number:\n"
        "            yield from sync(tiers, blocking=True)\n"
        "        if core.lease >= begun + core.max_staleness:\n"
        "            break\n"
        "    with core.lock:\n"
        "        epoch, proved = core.epoch, core.applied\n",
        theme="waiting",
    ),
    Mutation(
        "whoever acknowledges has applied all",
        sim_server,
        "SimServer._ack",
        "-command.proved",
        "-state.head",
        theme="waiting",
    ),
    Mutation(
        "a sync counts as an acknowledgement of what it brings",
        sim_server,
        "SimServer._sync",
        "-float(min(command.proved, state.head)) if same else 0.0",
        "-float(state.head)",
        theme="waiting",
    ),
    Mutation(
        "a barrier forgets who has only just synced",
        barriers,
        "_forget",
        "if behind.members.get(m) == mark",
        "",
        also=Mutation(
            "... nor does the server ask",
            sim_server,
            "SimServer._forget",
            'and (score == "" or state.register[member] == float(score))',
            "",
        ),
        theme="waiting",
    ),
    Mutation(
        "a token that cannot be proved changes nothing",
        barriers,
        "at_least",
        "core.lapse()",
        "pass",
        theme="cut off",
    ),
    Mutation(
        "after a token that cannot be proved a load is joined all the same",
        barriers,
        "at_least",
        "core.begin_invalidation(())",
        "pass",
        also=Mutation(
            "... nor does the lapse count",
            join_rule,
            "may_take",
            "and (landing.stand.epoch, landing.stand.generation) == (joined.epoch, joined.generation)",
            "",
        ),
        theme="cut off",
    ),
    Mutation(
        "a token of this epoch is not looked at",
        barriers,
        "at_least",
        "core.epoch == token.epoch and core.proved >= token.number",
        "core.epoch == token.epoch",
        theme="causal",
    ),
)
OF_THE_SERVER = (
    Mutation(
        "a failover goes on in the same epoch",
        sim_server,
        "SimServer._open",
        "(tenure and state.tenure != tenure)",
        "False",
        theme="failover",
    ),
    Mutation(
        "the token is taken when storing",
        sim_server,
        "SimServer._fill",
        "    status, head = self._judge(command.epoch, command.token, command.key, command.tags)",
        "    command = command._replace(token=self.domain.state.head if self.domain.state else 0)\n"
        "    status, head = self._judge(command.epoch, command.token, command.key, command.tags)",
    ),
    Mutation(
        "a fill is not compared with the versions",
        sim_server,
        "SimServer._judge",
        'return "stale" if any(state.versions.get(d, 0) > token for d in deps) else "ok", state.head',
        'return "ok", state.head',
    ),
    Mutation(
        "an entry is not compared with the versions of its tags",
        sim_server,
        "SimServer._is_valid",
        "return all(state.versions.get(tag_dep(tag), 0) <= token for tag in tags)",
        "return True",
    ),
    Mutation(
        "an entry from below the floor is valid",
        sim_server,
        "SimServer._is_valid",
        "if not state.floor <= token <= state.head:",
        "if False:",
    ),
    Mutation(
        "an entry of another epoch is valid",
        sim_server,
        "SimServer._is_valid",
        'if header is None or header[1] != b"%d" % state.epoch:',
        "if header is None:",
    ),
    Mutation(
        "a fill from below the floor is taken",
        sim_server,
        "SimServer._judge",
        "if token < max(state.floor, known.floor):",
        "if False:",
    ),
    Mutation(
        "a fill from below the floor of the key versions is taken",
        sim_server,
        "SimServer._judge",
        "if token < max(state.floor, known.floor):",
        "if token < state.floor:",
        theme="trimmed",
    ),
    Mutation(
        "key versions that were lost count as none",
        sim_server,
        "SimServer._open",
        "keys = Table(state.epoch, floor=state.head)",
        "keys = Table(state.epoch, floor=0)",
        theme="trimmed",
    ),
    Mutation(
        "trimming raises no floor",
        sim_state,
        "Table.note",
        "self.floor = sorted(self.versions.values())[trimmed - 1]\n"
        "        self.versions = {dep: n for dep, n in self.versions.items() if n > self.floor}",
        "floor = sorted(self.versions.values())[trimmed - 1]\n"
        "        self.versions = {dep: n for dep, n in self.versions.items() if n > floor}",
        theme="small",
    ),
    Mutation(
        "who is behind the floor is told the records that are left",
        sim_server,
        "SimServer._sync",
        "and command.proved >= max(state.floor, keys.floor)",
        "",
    ),
    Mutation("clearing raises no floor", sim_server, "SimServer._clear", "table.floor = state.head", "pass"),
    Mutation(
        "a read does not compare heads",
        sim_server,
        "SimServer._read",
        "or state.head < command.seen",
        "",
        theme="replaced",
    ),
    Mutation(
        "a set makes no record",
        sim_server,
        "SimServer._set",
        "self._record(state, keys, (key_dep(command.key),), key_cap=command.key_cap)",
        "pass",
    ),
    Mutation(
        "a set with a token is not compared with the versions",
        sim_server,
        "SimServer._set",
        'if status != "ok":\n        return Recorded(state.epoch, state.head, status)',
        "pass",
    ),
)
