"""The in-process tier by itself: what is found, what goes when, and what is left behind."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from math import inf
from typing import Any

import pytest

from tiercache._core.groups import MAX_LOOKS, STEPS
from tiercache._core.l1 import ENTRY_OVERHEAD, L1, Entry


def entry(key: str, *tags: str, value: Any = None, vouched: int = 1, size: int = 0) -> Entry:
    return Entry(
        key, value, None, deadline=inf, deps=tuple("t:" + tag for tag in tags), vouched=vouched, size=size
    )


def filled(keys: Iterable[str], maxsize: int) -> L1:
    """A tier with *keys*, put at the instants 0, 1, 2..."""
    l1 = L1(maxsize)
    for now, key in enumerate(keys):
        l1.put(entry(key), now)
    return l1


def names(numbers: Iterable[int]) -> list[str]:
    return [f"k{n}" for n in numbers]


class Weighty:
    """Something a weak reference can watch."""


def test_what_was_put_is_found() -> None:
    l1 = L1(2)
    one = entry("a")
    l1.put(one, 0)

    assert l1.entries["a"] is one


def test_a_second_value_takes_the_place_of_the_first() -> None:
    l1 = L1(1)
    first, second = entry("a", "users"), entry("a", "posts")
    l1.put(first, 0)
    l1.put(second, 1)

    assert l1.entries == {"a": second}
    assert first.deadline == -inf
    assert l1.drop_dependents(["t:users"]) == 0
    assert l1.evictions == 0


def test_dropping_tells_whether_there_was_one() -> None:
    l1 = filled(["a"], 2)

    assert [l1.drop("a"), l1.drop("a")] == [True, False]


def test_a_dropped_entry_cannot_be_served_by_whoever_still_holds_it() -> None:
    l1 = L1(2)
    held = entry("a")
    l1.put(held, 0)
    l1.drop("a")

    assert held.deadline == -inf


def test_a_tag_drops_what_is_under_it_and_nothing_else() -> None:
    l1 = L1(9)
    for one in (entry("a", "users"), entry("b", "posts"), entry("c", "posts", "users")):
        l1.put(one, 0)

    assert l1.drop_dependents(["t:users"]) == 2
    assert set(l1.entries) == {"b"}


def test_a_key_is_dropped_by_its_name() -> None:
    l1 = filled(["a", "k:a"], 9)

    assert l1.drop_dependents(["k:k:a"]) == 1
    assert set(l1.entries) == {"a"}


def test_the_star_drops_everything() -> None:
    l1 = filled(["a", "b"], 9)

    assert l1.drop_dependents(["*"]) == 2
    assert l1.entries == {}


def test_a_record_drops_only_what_was_vouched_for_before_it() -> None:
    l1 = L1(9)
    l1.put(entry("old", "users", vouched=41), 0)
    l1.put(entry("new", "users", vouched=42), 0)

    assert l1.drop_dependents(["t:users"], before=42) == 1
    assert set(l1.entries) == {"new"}


def test_the_tier_is_emptied_in_place() -> None:
    """Hit paths hold the dict itself: one that was swapped would go on serving."""
    l1 = filled(["a", "b"], 9)
    table = l1.entries
    l1.clear()
    assert table == {}

    l1.put(entry("c"), 0)
    assert set(table) == {"c"}


def test_the_least_recently_put_goes_first() -> None:
    l1 = filled(names(range(4)), maxsize=3)

    assert set(l1.entries) == set(names([1, 2, 3]))
    assert l1.evictions == 1


def test_an_entry_that_was_hit_outlives_one_that_was_not() -> None:
    l1 = filled(names(range(3)), maxsize=3)
    l1.entries["k0"].stamp = 3
    l1.put(entry("k4"), 4)

    assert set(l1.entries) == set(names([0, 2, 4]))


def test_what_is_hit_stays_however_soon_after_it_others_come() -> None:
    """Instants are shared, and so rounded: never to one that is later than a hit after them."""
    l1 = L1(10)
    for n in range(3_000):
        now = 1_000 + n / 1_000
        l1.put(entry(f"k{n}"), now)
        l1.entries["k0"].stamp = now + 1e-5

    assert set(l1.entries) == {"k0", *names(range(2_991, 3_000))}
    assert l1.evictions == 2_990


def hit_in_reverse(count: int) -> L1:
    """A full tier of *count* entries, all hit since they were put, the last one put longest ago."""
    l1 = filled(names(range(count)), maxsize=count)
    for now, key in enumerate(reversed(names(range(count))), start=count):
        l1.entries[key].stamp = now
    return l1


@pytest.mark.parametrize("maxsize", [1, 2, 10])
def test_what_was_just_put_is_there_whatever_was_hit_in_the_same_tick(maxsize: int) -> None:
    l1 = filled(names(range(maxsize)), maxsize)
    now = 100.01  # a put is stamped with the tick, and a hit with the instant
    for number in range(maxsize, maxsize + 5):
        for held in l1.entries.values():
            held.stamp = now
        l1.put(entry(f"k{number}"), now)

        assert f"k{number}" in l1.entries
        assert len(l1.entries) == maxsize


def test_order_is_exact_in_a_small_tier() -> None:
    l1 = hit_in_reverse(STEPS)
    for now in range(STEPS):
        l1.put(entry(f"new{now}"), 10_000 + now)

        assert f"k{STEPS - 1 - now}" not in l1.entries
    assert l1.evictions == STEPS


def test_an_eviction_looks_at_no_more_entries_than_its_bound() -> None:
    l1 = hit_in_reverse(MAX_LOOKS + 2)
    l1.put(entry("new"), 10_000)

    # The last one was hit longest ago, but stands in the ring behind those that were looked at.
    assert set(names(range(MAX_LOOKS + 2))) - set(l1.entries) == {f"k{MAX_LOOKS}"}
    assert sum(one.stamp < 0 for one in l1.entries.values()) == MAX_LOOKS + 1


def test_what_one_eviction_learned_serves_the_next() -> None:
    l1 = hit_in_reverse(MAX_LOOKS + 2)
    l1.put(entry("new"), 10_000)
    l1.put(entry("newer"), 10_001)

    assert f"k{MAX_LOOKS + 1}" not in l1.entries


def test_groups_take_turns_and_the_older_entry_goes() -> None:
    l1 = L1(3)
    for now, (key, print) in enumerate([("a", 1), ("b", 2), ("c", 1)]):
        l1.put(Entry(key, None, None, deadline=inf, print=print), now)
    l1.entries["a"].stamp = 3
    l1.put(Entry("d", None, None, deadline=inf, print=3), 4)
    l1.put(Entry("e", None, None, deadline=inf, print=3), 5)

    assert set(l1.entries) == {"a", "d", "e"}


def test_bytes_are_bounded_with_the_overhead_of_each_entry() -> None:
    l1 = L1(100, maxbytes=3 * (ENTRY_OVERHEAD + 10))
    for now, key in enumerate(names(range(4))):
        l1.put(entry(key, size=10), now)

    assert set(l1.entries) == set(names([1, 2, 3]))
    assert l1.used_bytes == 3 * (ENTRY_OVERHEAD + 10)


def test_a_value_larger_than_the_whole_tier_takes_nobody_s_place() -> None:
    l1 = L1(100, maxbytes=1_000)
    l1.put(entry("a", size=10), 0)
    l1.put(entry("b", size=2_000), 1)

    assert set(l1.entries) == {"a"}
    assert l1.used_bytes == 10 + ENTRY_OVERHEAD


def test_an_alias_finds_the_entry_by_the_arguments_of_its_call() -> None:
    l1, table = L1(9), dict[Any, Entry]()
    one = entry("a")
    l1.put(one, 0)
    l1.alias(one, table, (1, "x"))

    assert table == {(1, "x"): one}


@pytest.mark.parametrize("leave", ["drop", "evict", "replace", "clear", "tag"])
def test_an_alias_goes_with_its_entry(leave: str) -> None:
    l1, table = L1(1), dict[Any, Entry]()
    one = entry("a", "users")
    l1.put(one, 0)
    l1.alias(one, table, (1,))
    match leave:
        case "drop":
            l1.drop("a")
        case "evict":
            l1.put(entry("b"), 1)
        case "replace":
            l1.put(entry("a"), 1)
        case "clear":
            l1.clear()
        case "tag":
            l1.drop_dependents(["t:users"])

    assert table == {}


def test_an_entry_has_one_alias_the_last() -> None:
    l1, table = L1(9), dict[Any, Entry]()
    one = entry("a")
    l1.put(one, 0)
    l1.alias(one, table, ("session 1",))
    l1.alias(one, table, ("session 2",))

    assert table == {("session 2",): one}


def test_an_entry_that_was_dropped_is_not_filed_again() -> None:
    l1, table = L1(9), dict[Any, Entry]()
    one = entry("a")
    l1.put(one, 0)
    l1.drop("a")
    l1.alias(one, table, (1,))

    assert table == {}


def test_an_alias_that_passed_to_another_entry_stays_with_it() -> None:
    """1 and True are one key to a dict, and two calls with two entries."""
    l1, table = L1(9), dict[Any, Entry]()
    of_int, of_bool = entry("f(1)"), entry("f(True)")
    for one, argument in ((of_int, 1), (of_bool, True)):
        l1.put(one, 0)
        l1.alias(one, table, (argument,))
    l1.drop("f(1)")

    assert table == {(1,): of_bool}


def test_an_alias_tells_calls_apart_that_a_dict_does_not() -> None:
    l1, table = L1(9), dict[Any, Entry]()
    of_int, of_bool = entry("f(1)"), entry("f(True)")
    for one, argument in ((of_int, 1), (of_bool, True)):
        l1.put(one, 0)
        l1.alias(one, table, (argument,))

    assert of_int.kind != of_bool.kind


def test_values_that_were_dropped_are_not_kept_alive_without_bound() -> None:
    l1 = L1(1_000)
    watched = []
    for n in range(1_000):
        value = Weighty()
        watched.append(weakref.ref(value))
        l1.put(entry(f"k{n}", value=value), n)
    del value
    l1.clear()
    while l1.condemned:
        l1.sweep()

    assert sum(ref() is not None for ref in watched) == 0


def test_an_entry_put_again_and_again_leaves_nothing_behind() -> None:
    l1 = L1(10)
    watched = []
    for now in range(1_000):
        value = Weighty()
        watched.append(weakref.ref(value))
        l1.put(entry("a", value=value), now)

    assert sum(ref() is not None for ref in watched) == 1
