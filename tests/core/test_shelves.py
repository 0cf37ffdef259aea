"""A mapping in many small dicts is a mapping, and no part of it is large."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tiercache._core.shelves import SHELVES, Shelves

ACTS = st.lists(st.tuples(st.sampled_from(["set", "pop", "del"]), st.text(max_size=2), st.integers()))


@given(ACTS)
def test_it_holds_what_a_dict_holds(acts: list[tuple[str, str, int]]) -> None:
    shelves, plain = Shelves[int](), dict[str, int]()
    for act, key, value in acts:
        if act == "set":
            shelves[key] = plain[key] = value
        elif act == "pop":
            assert shelves.pop(key, None) == plain.pop(key, None)
        elif key in plain:
            del shelves[key], plain[key]
        assert (key in shelves) == (key in plain)
        assert shelves.get(key) == plain.get(key)

    assert shelves == plain
    assert len(shelves) == len(plain)
    assert sorted(shelves) == sorted(plain)


def test_what_is_put_into_it_spreads() -> None:
    shelves = Shelves[int]()
    for n in range(SHELVES * 100):
        shelves[f"shop.users.get_user:{n}"] = n

    assert max(map(len, shelves._shelves)) < 200
