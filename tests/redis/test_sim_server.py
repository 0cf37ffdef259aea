"""The simulated server of the core's tests against the real scripts: the same acts on both.

Compared is whatever a node can tell apart, each reply, hint and wake-up, and what both sides
hold in the end. Epochs are random names, so each side's are numbered as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import count
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.sim_server import HEADER, SimServer
from tests.core.sim_server import Domain as SimDomain
from tests.core.sim_state import NAMES
from tests.redis.conftest import client_of
from tests.redis.domain import Domain
from tests.servers import RedisServer
from tiercache._core.barriers import Ack, Barrier, Behind, Forget, parse_question
from tiercache._core.commands import (
    REPLAY_LIMIT,
    Answers,
    Clear,
    Command,
    Fill,
    Hit,
    Invalidate,
    KeyAsk,
    Read,
    Recorded,
    Set,
    Sync,
    Synced,
    Touch,
    Unlock,
    Wait,
    member_of,
)
from tiercache._core.fences import Fence, Unfence
from tiercache._core.large import LARGE, Large
from tiercache._core.looks import Look
from tiercache._core.records import check_of, parse_hint
from tiercache._core.writes import deps_named

HOUR_MS = 3_600_000
NODES = ("aa", "bb")
BLIND = "blind"  # a user who may not read the tenure
namespaces = count()

keys = st.sampled_from(["k1", "k2", "größe"])
few_keys = st.lists(keys, max_size=3, unique=True).map(tuple)
tags = st.lists(st.sampled_from(["t1", "t2", "t3", "größe"]), max_size=3, unique=True).map(tuple)
some = st.one_of(
    st.sampled_from([(("t1",), ()), (("t2",), ("k1",))]),  # a fence is lifted by who names just what it is on
    st.tuples(tags, few_keys).filter(any),
)
fences = st.sampled_from(["f1", "f2"])
owners = st.sampled_from(["aa:0", "aa:1", "bb:0"])
asks = st.builds(KeyAsk, keys, st.sampled_from(["get", "lead", "lead", "renew"]), owners)
caps = st.sampled_from([1, 3, 6, 9, 100_000])
back = st.sampled_from([0, 0, 0, 0, 1, 2])  # how many epochs ago
lag = st.sampled_from([0, 0, 0, 1, 2, 3, -1])  # how far behind the head; -1 is ahead of it
payloads = st.sampled_from([b"v1", b"\x00|\xff" * 3, b"x" * 150_000, b"x" * LARGE])
# Bytes of others, EPOCH the one that is valid now.
planted = st.sampled_from(
    [
        b"",
        b"1",
        b"2|EPOCH|1|1|ab|1|0|v",
        b"1|EPOCH|1|1|ab|1|0|v",
        b"1|EPOCH|99|1|ab|1|0|v",
        b"1|EPOCH|1|1|zz|1|0|v",
        b"1|EPOCH|1|1|ab|1|2|v",
        b"1|EPOCH|1|1|ab|1|1|\0v",
        b"1|EPOCH|1|1|ab|1|2|t1v",
        b"1|EPOCH|1|1|ab|1|260|" + b"t\0" * 130,
    ]
)

ACTS = st.tuples(
    st.booleans(),  # by the blind user
    st.one_of(
        st.tuples(st.just("sync"), back, lag, st.sampled_from(NODES), st.booleans()),
        st.tuples(st.just("read"), back, lag, st.lists(asks, min_size=1, max_size=3).map(tuple)),
        st.tuples(st.just("look"), few_keys.filter(bool), tags),
        st.tuples(st.just("fill"), back, lag, owners, keys, tags, payloads),
        st.tuples(st.just("set"), st.booleans(), back, lag, keys, tags, payloads, caps),
        st.tuples(st.just("invalidate"), some, caps, caps, st.sampled_from(["", "", "f1", "f2"])),
        st.tuples(st.just("clear")),
        st.tuples(st.just("fence"), some, caps, caps, fences, st.sampled_from([HOUR_MS, HOUR_MS, -1])),
        st.tuples(st.just("unfence"), some, fences),
        st.tuples(
            st.just("barrier"), back, lag, st.sampled_from(NODES), st.sampled_from(["", "-0.25", "-0.5"])
        ),
        st.tuples(st.just("ack"), back, lag, lag, st.sampled_from(NODES)),
        st.tuples(st.just("forget"), st.sampled_from(NODES), st.sampled_from(["", "-0.25", "-0.5", "-1"])),
        st.tuples(st.just("unlock"), keys, owners),
        st.tuples(st.just("touch"), back, keys),
        st.tuples(st.just("evict"), st.sampled_from(["state", "keys", "fences", "fenced", "all"])),
        st.tuples(st.just("evict entry"), keys),
        st.tuples(st.just("evict lock"), keys),
        st.tuples(st.just("other tenure")),
        st.tuples(st.just("replicate")),
        st.tuples(st.just("fail over")),
        st.tuples(st.just("plant"), keys, planted),
    ),
)


class Twins:
    """One domain on a real server, and the same one simulated."""

    def __init__(self, client: Any, blind_client: Any) -> None:
        namespace = f"twins{next(namespaces)}"
        self.sim, self.real, self.blind = (
            SimServer(),
            Domain(client, namespace),
            Domain(blind_client, namespace),
        )
        self.epochs = [(0, 0)]  # simulated, real; the oldest first
        self.copy: tuple[SimDomain, list[tuple[bytes, bytes, int]]] = (SimDomain(), [])

    def ask(self, make: Callable[[int], Command[Any]], back: int = 0, *, blind: bool = False) -> None:
        """Have both perform what *make* makes of an epoch, and agree on the reply."""
        ours, theirs = map(make, self.epochs[max(0, len(self.epochs) - 1 - back)])
        here = self.sim.perform(ours, blind=blind)
        there = (self.blind if blind else self.real).do(theirs)
        if isinstance(here, (Synced, Recorded)):
            known = [pair.index(epoch) if epoch in pair else -1 for pair, epoch in self._sides(here, there)]
            assert known[0] == known[1], f"only one of the two began an epoch at {ours}"
            if known[0] < 0:
                self.epochs.append((here.epoch, there.epoch))
        assert self.told(here, 0) == self.told(there, 1), f"in reply to {ours}"

    def look(self, keys: tuple[str, ...], tags: tuple[str, ...]) -> None:
        """Have both answer each command of a look for *keys*."""
        look = Look(0, 0, keys, tags)
        for here, there in zip(look.plain(NAMES), look.plain(self.real.names), strict=True):
            ours = self.sim.plain(here)
            theirs = list(self.real.client.execute_command(*there))
            assert self.plain(here[0], ours, 0) == self.plain(here[0], theirs, 1), f"in reply to {here}"

    def plain(self, verb: str, reply: list[Any], side: int) -> list[Any]:
        """The raw *reply* to a command that is no script, with its epochs as numbers."""
        match verb:
            case "ZMSCORE":
                epoch, *rest = (None if score is None else int(float(score)) for score in reply)
                return [epoch and self.place(-epoch, side), *rest]
            case "MGET":
                return [raw and self._found(raw, side) for raw in reply]
        return [0 <= int(part) < bound for part, bound in zip(reply, (2**40, 1_000_000), strict=True)]

    def _found(self, raw: bytes, side: int) -> tuple[bytes | int, ...] | bytes:
        if HEADER.match(raw):
            return self.stored(raw, side)
        for pair in self.epochs[1:]:
            raw = raw.replace(b"%d" % pair[side], b"EPOCH")
        return raw

    def _sides(self, here: Any, there: Any) -> list[tuple[list[int], int]]:
        return [([e[0] for e in self.epochs], here.epoch), ([e[1] for e in self.epochs], there.epoch)]

    def told(self, reply: Any, side: int) -> Any:
        """*reply* with its epochs as numbers, and without the instants that the two cannot share."""
        match reply:
            case Synced(epoch, head, tag_floor, key_floor, known, members, records, fenced):
                replayed = None if records is None else sorted(records)
                return (
                    *(self.place(epoch, side), head, tag_floor, key_floor, known, members, replayed),
                    sorted(fenced),
                )
            case Behind(settled, left_out, behind):
                return settled, left_out, {member: float(score) for member, score in behind.items()}
            case Recorded(epoch, number, status):
                return self.place(epoch, side), number, status
            case Answers(head, found):
                return head, [self.told(answer, side) for answer in found]
            case Hit(raw, left):
                return "hit", left is None, self.stored(raw, side)
            case Large(tags):
                return "large", tags  # their lengths differ by those of the numbers
            case Wait(_, owner):
                return "wait", owner
        return reply

    def place(self, epoch: int, side: int) -> int:
        return [pair[side] for pair in self.epochs].index(epoch)

    def stored(self, raw: bytes, side: int) -> tuple[bytes | int, ...]:
        header = HEADER.match(raw)
        assert header is not None
        _, _, token, _, rest = raw.split(b"|", 4)
        return self.place(int(header[1]), side), int(token), rest  # of a large one it has leading zeros

    def evict(self, what: str) -> None:
        client, names, domain = self.real.client, self.real.names, self.sim.domain
        if what in ("state", "all"):
            client.delete(names.state)
            domain.state = None
        if what in ("keys", "all"):
            client.delete(names.domain[1])
            domain.keys = None
        if what in ("fences", "all"):
            client.delete(names.domain[2])
            domain.fences = {}
        if what in ("fenced", "all"):
            client.delete(names.domain[3])
            domain.fenced = {}
        if what == "all":
            client.delete(names.members, *map(names.entry, domain.entries), *map(names.lock, domain.locks))
            self.sim.flush()

    def replicate(self) -> None:
        """A copy of all that both sides hold, for `fail_over`."""
        client = self.real.client
        there = [(key, client.dump(key), max(0, client.pttl(key))) for key in self._keys()]
        self.copy = self.sim.copy(), there

    def fail_over(self) -> None:
        """Both go on from the copy, as a primary of another tenure."""
        client, (here, there) = self.real.client, self.copy
        for key in self._keys():
            client.delete(key)
        for key, dumped, ttl_ms in there:
            client.restore(key, ttl_ms, dumped)
        self.sim.domain = deepcopy(here)
        self.change_tenure()

    def change_tenure(self) -> None:
        state = self.sim.domain.state
        if state is not None:
            self.real.client.zadd(self.real.names.state, {"\1r": -12345})
            state.tenure = 12345

    def _keys(self) -> list[bytes]:
        prefix = self.real.names.state.removesuffix("v")
        return sorted(self.real.client.scan_iter(prefix + "*", count=10_000))

    def held(self) -> tuple[Any, Any]:
        """What both sides hold, apart from epochs and instants."""
        client, names, domain = self.real.client, self.real.names, self.sim.domain
        state = domain.state
        ours: list[Any] = [
            state
            and {
                **state.versions,
                "\1f": -state.floor,
                **{f"\1n{member}": score for member, score in state.register.items()},
            }
        ]
        ours += [domain.keys and {**domain.keys.versions, "\1f": -domain.keys.floor}]
        ours += [sorted(map(names.entry, domain.entries)), sorted(map(names.lock, domain.locks))]
        theirs: list[Any] = []
        for table in names.domain[:2]:
            members = {m.decode(): s for m, s in client.zrange(table, 0, -1, withscores=True)}
            theirs.append(
                {m: s for m, s in members.items() if m[0] != "\1" or m[:2] in ("\1f", "\1n")} or None
            )
        for name in (names.entry, names.lock):
            # Keys have no character that a pattern would take for its own, but for the braces.
            theirs.append(sorted(k.decode() for k in client.scan_iter(name("*"), count=10_000)))
        return ours, theirs

    def published(self) -> list[tuple[str, Any]]:
        """What the simulated server published, as the real one must have."""
        hints = [
            (self.real.names.channel, (self.place(h.epoch, 0), h.number, h.deps)) for h in self.sim.hints
        ]
        hints += [
            (self.real.names.channel, (self.place(q.epoch, 0), q.number, q.waiter))
            for q in self.sim.questions
        ]
        return hints + [(self.real.names.wake + node, dep) for node, dep in self.sim.wakes]

    def heard(self, messages: list[tuple[str, bytes]]) -> list[tuple[str, Any]]:
        """What the real one published, hints first, as `published` puts it."""
        hints: list[tuple[str, Any]] = []
        questions: list[tuple[str, Any]] = []
        wakes: list[tuple[str, Any]] = []
        for channel, data in messages:
            if channel != self.real.names.channel:
                wakes.append((channel, data.decode()))
            elif hint := parse_hint(data):
                hints.append((channel, (self.place(hint.epoch, 1), hint.number, hint.deps)))
            else:
                question = parse_question(data)
                assert question is not None
                questions.append((channel, (self.place(question.epoch, 1), question.number, question.waiter)))
        return hints + questions + wakes


def play(twins: Twins, act: tuple[Any, ...], *, blind: bool) -> None:
    state = twins.sim.domain.state

    def behind(lag: int) -> int:
        return max(0, (state.head if state else 1) - lag)

    match act:
        case "sync", back, lag, node, settled:
            twins.ask(lambda epoch: Sync(epoch, behind(lag), node, 5_000, settled), back, blind=blind)
        case "read", back, lag, asked:
            twins.ask(lambda epoch: Read(epoch, behind(lag), asked), back)
        case "look", asked_keys, named:
            twins.look(asked_keys, named)
        case "fill", back, lag, owner, key, named, payload:
            check = check_of(key, named, payload)
            twins.ask(
                lambda epoch: Fill(epoch, behind(lag), owner, HOUR_MS, key, check, 0xAB, payload, named), back
            )
        case "set", leave, back, lag, key, named, payload, cap:
            check, token = check_of(key, named, payload), behind(lag) if leave else 2**52
            twins.ask(
                lambda epoch: Set(epoch, token, HOUR_MS, key, check, payload, named, cap),
                back,
                blind=blind,
            )
        case "invalidate", (named, named_keys), cap, key_cap, fence:
            twins.ask(lambda _: Invalidate(named, named_keys, cap, key_cap, fence), blind=blind)
        case "fence", (named, named_keys), cap, key_cap, name, ttl_ms:
            twins.ask(lambda _: Fence(named, named_keys, cap, key_cap, name, ttl_ms), blind=blind)
        case "unfence", (named, named_keys), name:
            twins.ask(lambda _: Unfence(name, deps_named(named, named_keys)))
        case "barrier", back, lag, node, mark:
            twins.ask(lambda epoch: Barrier(epoch, behind(lag), node, mark), back)
        case "ack", back, lag, ahead, node:
            proved, wanted = behind(lag), behind(ahead)
            other = NODES[1 - NODES.index(node)]
            twins.ask(lambda epoch: Ack(epoch, proved, member_of(node, 5_000), wanted, other), back)
        case "forget", node, score:
            twins.ask(lambda _: Forget(((member_of(node, 5_000), score),)))
        case ("clear",):
            twins.ask(lambda _: Clear(), blind=blind)
        case "unlock", key, owner:
            twins.ask(lambda _: Unlock(key, owner))
        case "touch", back, key:
            twins.ask(lambda epoch: Touch(epoch, key, HOUR_MS), back)
        case _:
            hurt(twins, act)


def hurt(twins: Twins, act: tuple[Any, ...]) -> None:
    client, names, domain = twins.real.client, twins.real.names, twins.sim.domain
    match act:
        case "evict", what:
            twins.evict(what)
        case "evict entry", key:
            client.delete(names.entry(key))
            domain.entries.pop(key, None)
        case "evict lock", key:
            client.delete(names.lock(key))
            domain.locks.pop(key, None)
        case ("other tenure",):
            twins.change_tenure()
        case ("replicate",):
            twins.replicate()
        case ("fail over",):
            twins.fail_over()
        case "plant", key, raw:
            ours, theirs = (raw.replace(b"EPOCH", b"%d" % epoch) for epoch in twins.epochs[-1])
            client.set(names.entry(key), theirs)
            domain.entries[key] = ours
            domain.ends.pop(key, None)


@pytest.fixture(scope="module")
def clients(request: pytest.FixtureRequest) -> Iterator[dict[int, tuple[redis.Redis, redis.Redis]]]:
    """By port: a client, and one of the user who may not read the tenure."""
    made: dict[int, tuple[redis.Redis, redis.Redis]] = {}
    yield made
    for client, blind in made.values():
        blind.close()
        client.acl_deluser(BLIND)
        client.close()


@pytest.fixture
def pair(any_redis: RedisServer, clients: Any) -> tuple[redis.Redis, redis.Redis]:
    if any_redis.port not in clients:
        any_redis.cli("ACL", "SETUSER", BLIND, "on", ">" + BLIND, "~*", "&*", "+@all", "-info")
        clients[any_redis.port] = (
            client_of(any_redis),
            client_of(any_redis, username=BLIND, password=BLIND),
        )
    found: tuple[redis.Redis, redis.Redis] = clients[any_redis.port]
    return found


@settings(
    max_examples=300,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(acts=st.lists(ACTS, max_size=40))
def test_the_simulated_server_does_what_the_scripts_do(
    pair: tuple[redis.Redis, redis.Redis], acts: list[tuple[bool, tuple[Any, ...]]]
) -> None:
    twins = Twins(*pair)
    with twins.real.heard() as messages:
        for blind, act in acts:
            play(twins, act, blind=blind)
        ours, theirs = twins.held()
        assert ours == theirs
    assert twins.heard(messages) == twins.published()


@pytest.mark.parametrize("more", [0, 1])
def test_the_simulated_server_flushes_who_is_as_far_behind_as_the_scripts_do(
    pair: tuple[redis.Redis, redis.Redis], more: int
) -> None:
    twins = Twins(*pair)
    play(twins, ("sync", 0, 0, "aa", False), blind=False)
    named = tuple(f"t{i}" for i in range(REPLAY_LIMIT - 1 + more))
    play(twins, ("invalidate", (named, ("k1",)), 100_000, 100_000, ""), blind=False)

    play(twins, ("sync", 0, 1, "aa", False), blind=False)

    synced = twins.sim.perform(Sync(twins.epochs[-1][0], 1, "aa"))
    assert (synced.records is None) == bool(more)
