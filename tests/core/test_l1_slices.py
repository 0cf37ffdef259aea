"""What many entries depend on goes in slices, and none of it is served meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from tiercache import TierCache
from tiercache._core import groups
from tiercache._core.coherence import Coherence
from tiercache._core.commands import Recorded, Synced
from tiercache._core.l1 import ENTRY_OVERHEAD, L1, SLICE, Entry
from tiercache._core.records import Hint

MANY = 5 * SLICE
EPOCH = 7


class Counting(dict[str, Entry]):
    """Counts what is taken out: the work of an act."""

    went = 0

    def pop(self, key: str, *default: Any) -> Any:
        before = len(self)
        found = super().pop(key, *default)
        self.went += before - len(self)
        return found


def entry(n: int, *tags: str, vouched: int = 1) -> Entry:
    deps = ("t:all", f"t:{n}", *("t:" + tag for tag in tags))
    return Entry(f"k{n}", n, None, deadline=inf, deps=deps, vouched=vouched)


def core_of(count: int, *tags: str, maxbytes: int | None = None, maxsize: int = 10 * MANY) -> Coherence:
    """A core under a lease without end, with *count* entries vouched for at 1."""
    core = Coherence(L1(maxsize, maxbytes), max_staleness=inf, node="a", trust_tenure=True)
    core.l1.entries = Counting()
    core.prove(core.stand(0.0), Synced(EPOCH, 1, 0, 0, True, 1, None), 0.0)
    for n in range(count):
        assert core.insert(entry(n, *tags), core.stand(1.0), float(n))
    assert work_of(core) == 0
    return core


def work_of(core: Coherence) -> int:
    entries = core.l1.entries
    assert isinstance(entries, Counting)
    went, entries.went = entries.went, 0
    return went


def served(core: Coherence, n: int) -> bool:
    entry, until = core.serve(f"k{n}")
    return entry is not None and until > 1.0


ACTS: dict[str, Callable[[Coherence], object]] = {
    "a hint of a tag that all carry": lambda core: core.hear(Hint(EPOCH, 2, ("t:all",))),
    "a hint of everything": lambda core: core.hear(Hint(EPOCH, 2, ("*",))),
    "a record of its own": lambda core: core.own_record(Recorded(EPOCH, 2), ("t:all",), 1.0),
    "an invalidation begun": lambda core: core.begin_invalidation(("t:all",)),
    "an invalidation that waits for Redis": lambda core: core.pend(("t:all",), 1),
    "a write of the truth": lambda core: core.hold(("t:all",)),
    "a flush, by sync": lambda core: core.prove(core.stand(1.0), Synced(8, 9, 0, 0, True, 1, None), 1.0),
    "a sync from too far behind": lambda core: core.prove(
        core.stand(1.0), Synced(EPOCH, 9, 0, 0, True, 1, None), 1.0
    ),
    "a sync with a record for each": lambda core: core.prove(
        core.stand(1.0),
        Synced(EPOCH, 9, 0, 0, True, 1, tuple((f"t:hundred {n}", 2) for n in range(MANY // 50))),
        1.0,
    ),
    "an epoch that is disowned": lambda core: core.disown(),
    "clearing": lambda core: core.l1.clear(),
}


def filled() -> Coherence:
    core = core_of(0)
    for n in range(MANY):
        core.insert(entry(n, f"hundred {n // 50}"), core.stand(1.0), float(n))
    work_of(core)
    return core


@pytest.mark.parametrize("act", ACTS)
def test_no_act_drops_more_than_a_slice_and_nothing_of_it_is_served(act: str) -> None:
    core = filled()

    ACTS[act](core)

    assert work_of(core) <= 2 * SLICE
    assert core.open_until == -inf or act == "clearing"
    for n in range(0, MANY, 7):
        assert not served(core, n)
        assert work_of(core) <= SLICE
    assert core.l1.entries == {}
    assert core.l1.used_bytes == 0


@pytest.mark.parametrize("act", [act for act in ACTS if "disowned" not in act])
def test_hits_are_open_again_once_all_is_swept(act: str) -> None:
    core = filled()
    ACTS[act](core)

    for _ in range(MANY // SLICE + 1):
        served(core, 0)

    assert core.open_until == inf


def test_what_comes_after_the_act_is_served_at_once() -> None:
    core = core_of(MANY)
    core.own_record(Recorded(EPOCH, 2), ("t:all",), 1.0)
    core.insert(entry(3, vouched=2), core.stand(1.0), 2.0)
    assert core.l1.condemned

    assert served(core, 3)
    while core.l1.condemned:
        served(core, 4)
    assert list(core.l1.entries) == ["k3"]


def test_what_a_record_does_not_concern_is_served_while_the_rest_is_swept() -> None:
    core = core_of(MANY)
    other = Entry("other", "v", None, deadline=inf, deps=("t:other",), vouched=1)
    core.insert(other, core.stand(1.0), 2.0)
    core.hear(Hint(EPOCH, 2, ("t:all",)))
    assert core.l1.condemned

    assert core.serve("other") == (other, inf)


def test_an_entry_that_outlives_one_sweep_does_not_escape_the_next() -> None:
    core = core_of(MANY)
    for n in range(MANY):  # the same keys and tags, vouched for at 7 and at 9
        core.insert(entry(n, vouched=7 if n % 2 else 9), core.stand(1.0), 2.0)
    work_of(core)

    core.l1.condemn(["t:all"], before=5)
    core.l1.condemn(["t:all", "*"], before=9)
    assert not served(core, 1)
    while core.l1.condemned:
        core.l1.sweep()
        assert work_of(core) <= SLICE

    assert {one.vouched for one in core.l1.entries.values()} == {9}
    assert len(core.l1.entries) == MANY // 2
    assert core.l1.drop_dependents(["t:all"], before=9) == 0
    core.l1.condemn(["t:all"], before=10)
    while core.l1.condemned:
        core.l1.sweep()
    assert core.l1.entries == {}


def test_an_act_in_the_middle_of_a_sweep_reaches_what_that_has_left() -> None:
    core = core_of(MANY)
    core.hear(Hint(EPOCH, 2, ("t:all",)))
    for n in range(MANY):
        core.insert(entry(n, vouched=2), core.stand(1.0), 2.0)
    core.hear(Hint(EPOCH, 3, ("t:all",)))

    assert not any(served(core, n) for n in range(MANY))


def test_room_is_made_in_slices_and_what_asks_for_more_is_not_kept() -> None:
    core = core_of(MANY, maxbytes=MANY * ENTRY_OVERHEAD)
    large = Entry("large", "v", None, deadline=inf, vouched=1, size=2 * SLICE * ENTRY_OVERHEAD)

    core.insert(large, core.stand(1.0), 1e6)

    assert work_of(core) <= SLICE + 2
    assert "large" not in core.l1.entries
    assert core.l1.used_bytes <= MANY * ENTRY_OVERHEAD
    assert large.deadline == -inf


def test_room_is_what_was_condemned_before_it_is_anything_else() -> None:
    core = core_of(MANY, maxsize=MANY)
    core.hear(Hint(EPOCH, 2, ("t:all",)))
    for n in range(MANY):
        core.insert(entry(n, vouched=2), core.stand(1.0), 1e6 + n)

    assert core.l1.evictions == 0
    assert sum(one.vouched == 2 for one in core.l1.entries.values()) == MANY


def test_an_eviction_touches_few_entries_after_all_were_hit() -> None:
    core = core_of(MANY, maxsize=MANY)
    for one in core.l1.entries.values():
        one.stamp += 1e7
    core.insert(entry(MANY), core.stand(1.0), 1e8)

    assert sum(one.stamp < 0 for one in core.l1.entries.values()) <= groups.MAX_LOOKS + 1
    assert work_of(core) == 1


def test_a_clear_lets_aliases_go_and_new_ones_stay() -> None:
    core, table = core_of(9), dict[Any, Entry]()
    core.l1.slice_size = 1
    for n, one in enumerate(list(core.l1.entries.values())):
        core.l1.alias(one, table, n)
    core.hear(Hint(EPOCH, 2, ("*",)))
    new = entry(3, vouched=2)
    core.insert(new, core.stand(1.0), 2.0)
    core.l1.alias(new, table, 3)
    while core.l1.condemned:
        core.l1.sweep()

    assert table == {3: new}


def test_entries_of_many_tags_go_in_smaller_slices() -> None:
    core = core_of(MANY, *(f"tag{n}" for n in range(40)))

    core.hear(Hint(EPOCH, 2, ("t:all",)))

    assert 0 < work_of(core) <= SLICE // 5


def test_an_entry_that_a_sweep_leaves_is_in_no_table_when_it_is_dropped_later() -> None:
    """Two functions with the same tags: what is left joins the group in use, which may be the other one's."""
    l1 = L1(100)
    tables: tuple[dict[Any, Entry], ...] = {}, {}
    for n, vouched in enumerate((5, 5, 7, 7)):
        kept = Entry(f"k{n}", n, None, deadline=inf, deps=("t:all",), vouched=vouched)
        l1.put(kept, 0.0)
        l1.alias(kept, tables[n % 2], n)

    l1.condemn(("t:all",), before=7)
    l1.sweep()
    assert [list(table) for table in tables] == [[2], [3]]

    l1.clear()
    assert tables == ({}, {})


def test_closing_forgets_all_of_it() -> None:
    cache = TierCache("memory://", private=True)
    cache.sync.set("k", "v")
    core = cache._node.tiers.core
    for n in range(MANY):
        core.insert(entry(n, vouched=core.seen), core.stand(0.0), 1.0)
    assert len(core.l1.entries) > MANY
    cache.sync.close()

    assert len(core.l1.entries) == 0
