"""Entries by the one tag that is theirs alone: found while they are there, and in short lists."""

from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from tiercache._core.l1 import Entry
from tiercache._core.singles import FULL, Singles


def entry_of(dep: str) -> Entry:
    made = Entry("k", None, None, deadline=inf)
    made.own = dep
    return made


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 200)), max_size=400))
def test_an_entry_is_found_by_its_tag_until_it_is_taken_out(acts: list[tuple[bool, int]]) -> None:
    singles, plain = Singles(), dict[str, Entry]()
    for comes, number in acts:
        dep = f"t:{number}"
        if comes and dep not in plain:
            plain[dep] = entry_of(dep)
            singles.add(plain[dep], dep)
        elif not comes:
            singles.discard(plain.pop(dep, entry_of(dep)), dep)

    assert all(singles.get(f"t:{n}") is plain.get(f"t:{n}") for n in range(201))


def test_lists_stay_short_as_it_grows() -> None:
    singles = Singles()
    for n in range(5_000):
        singles.add(entry_of(f"t:user:{n}"), f"t:user:{n}")

    assert max(map(len, singles._lists)) < 5 * FULL
    assert all(singles.get(f"t:user:{n}") for n in range(5_000))
