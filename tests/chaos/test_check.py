"""The checker by hand-made histories: each guarantee broken once, and the nearest one that breaks none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.check import Since, Terms, judge
from tests.chaos.history import PAST_L1, Causal, History, Load, Run, Write, collect

TERMS = Terms(max_staleness=1.0)
EPOCH = 7


def read(
    version: int, invoked: float, returned: float | None = None, *, node: str = "p", load: str = "first"
) -> Run:
    returned = invoked + 0.001 if returned is None else returned
    return Run(node, 1, version, load, 1, invoked, returned, invoked, returned)


def write(version: int, at: float, *, node: str = "w", **what: Any) -> Write:
    """A commit at that instant, and its invalidation, done a hundredth of a second later."""
    made = Write(node, {1: version}, at, False, at, at + 0.01, at + 0.01, (EPOCH, version))
    return replace(made, **what)


def load(began: float, token: int | None = None, *, ended: float | None = None, process: str = "p") -> Load:
    leave = None if token is None else (EPOCH, token)
    return Load(process, 1, began, began, leave, began if ended is None else ended)


def history(*seen: Run | Write | Causal, **loads: Load) -> History:
    return History(
        [each for each in seen if isinstance(each, Run)],
        [each for each in seen if isinstance(each, Write)],
        {"first": load(0.0), **loads},
        [each for each in seen if isinstance(each, Causal)],
    )


def broken(*seen: Run | Write | Causal, terms: Terms = TERMS, **loads: Load) -> dict[str, int]:
    return judge(history(*seen, **loads), terms).broken()


def test_g1_is_broken_by_a_version_that_was_replaced_more_than_the_bound_before() -> None:
    assert broken(write(2, 10.0), read(1, 11.02)) == {"G1": 1}


def test_g1_holds_up_to_the_bound() -> None:
    verdict = judge(history(write(2, 10.0), read(1, 11.0)), TERMS)

    assert verdict.broken() == {}
    assert verdict.worst == pytest.approx(0.99)


def test_g1_holds_for_a_read_that_was_stopped_before_it_returned() -> None:
    assert broken(write(2, 10.0), read(1, 10.5, 99.0)) == {}


def test_g1_is_broken_by_any_earlier_version_whoever_wrote_the_later_ones() -> None:
    assert broken(write(2, 10.0, done=50.0), write(3, 10.0, node="x"), read(1, 12.0)) == {"G1": 1}


def test_g1_does_not_count_an_invalidation_that_nobody_knows_to_have_run() -> None:
    died = write(2, 10.0, called=float("inf"), returned=float("inf"), done=float("inf"), token=None)

    assert broken(died, read(1, 99.0)) == {}


def test_g1_allows_the_length_of_a_split_more() -> None:
    seen = (write(2, 10.0), read(1, 12.5))

    assert broken(*seen, terms=replace(TERMS, split=2.0)) == {}
    assert broken(*seen) == {"G1": 1}


def test_g2_is_broken_by_the_first_read_after_an_invalidation_of_its_own() -> None:
    assert broken(write(2, 10.0, node="p"), read(1, 10.02)) == {"G2": 1}


def test_g2_counts_from_the_return_even_of_a_pending_invalidation() -> None:
    assert broken(write(2, 10.0, node="p", done=99.0), read(1, 10.02)) == {"G2": 1}


def test_g2_holds_for_a_read_that_began_before_the_return() -> None:
    assert broken(write(2, 10.0, node="p"), read(1, 10.005, 10.5)) == {}


def test_g3_is_broken_by_an_old_value_that_the_server_vouches_for() -> None:
    assert broken(write(2, 10.0), read(1, 10.02, node="p" + PAST_L1)) == {"G3": 1}


def test_g3_is_as_good_as_g1_where_the_server_lost_records() -> None:
    lossy = replace(TERMS, keeps_history=False)

    assert broken(write(2, 10.0), read(1, 10.02, node="p" + PAST_L1), terms=lossy) == {}
    assert broken(write(2, 10.0), read(1, 12.0, node="p" + PAST_L1), terms=lossy) == {"G1": 1, "G3": 1}


def test_g4_is_broken_by_a_read_of_anybody_after_a_barrier() -> None:
    assert broken(write(2, 10.0, waited=True), read(1, 10.02)) == {"G4": 1}
    assert broken(write(2, 10.0), read(1, 10.02)) == {}


def test_g4_g6_and_g8_are_not_promised_across_a_split() -> None:
    split = replace(TERMS, one_side=False)

    assert broken(write(2, 10.0, waited=True), read(1, 10.02), terms=split) == {}
    assert broken(write(2, 10.0, waited=True), read(1, 12.0), terms=split) == {"G1": 1, "G4": 1}
    assert broken(read(1, 1.0), Causal("p", 1, required=3, version=2), terms=split) == {}
    went_back = (write(2, 10.0), read(2, 10.5, load="second"), read(1, 10.6))
    assert broken(*went_back, terms=split, second=load(10.2, 2)) == {}


def test_g5_is_broken_by_two_loads_at_once_with_one_token() -> None:
    assert broken(read(1, 1.0), a=load(10.0, 5, ended=10.2), b=load(10.1, 5, process="q")) == {"G5": 1}


def test_g5_holds_for_loads_one_after_the_other_or_with_a_record_in_between() -> None:
    assert broken(read(1, 1.0), a=load(10.0, 5, ended=10.1), b=load(10.2, 5)) == {}
    assert broken(read(1, 1.0), a=load(10.0, 5, ended=10.2), b=load(10.1, 6)) == {}
    assert broken(read(1, 1.0), a=load(10.0, None, ended=10.2), b=load(10.1, None)) == {}


def test_g5_holds_when_the_first_has_outlived_its_lock_or_died() -> None:
    assert broken(read(1, 1.0), a=load(10.0, 5, ended=30.0), b=load(21.0, 5, process="q")) == {}
    assert broken(read(1, 1.0), a=load(10.0, 5, ended=float("inf")), b=load(10.1, 5, process="q")) == {}


def test_g5_holds_for_a_reader_that_has_met_three_loads_elsewhere() -> None:
    met = {"a": load(10.0, 5, ended=10.1, process="q"), "b": load(10.15, 5, ended=10.25, process="q")}
    late = load(10.35, 5, process="p")
    third = load(10.3, 5, ended=10.4, process="q")
    given = [read(1, 10.05, 10.11, node="q", load="a"), read(1, 10.15, 10.26, node="q", load="b")]

    assert broken(*given, **met, c=third, d=late._replace(asked=10.05)) == {}
    assert broken(*given, **met, c=third, d=late._replace(asked=10.12)) == {"G5": 1}
    beside = load(10.3, 5, ended=10.4, process="p")._replace(asked=10.05)
    lock = load(10.28, 5, ended=10.29, process="q"), load(10.35, 5, process="q")
    assert broken(*given, **met, c=lock[0], d=beside, e=lock[1]) == {}, "whose lock others take meanwhile"


def test_g6_is_broken_by_an_older_version_after_a_newer_one() -> None:
    seen = (write(2, 10.0), read(2, 10.5, load="second"), read(1, 10.6))

    assert broken(*seen, second=load(10.2, 2)) == {"G6": 2}  # by number and by instant


def test_g6_goes_by_the_numbers_where_redis_was_away_or_lost_records() -> None:
    seen = (write(2, 10.0), read(2, 10.5, load="second"), read(1, 10.6))
    away = replace(TERMS, answers=False)

    assert broken(*seen, terms=away, second=load(10.2, 2)) == {"G6": 1}
    assert broken(*seen, terms=away, second=load(10.2, None)) == {}, "nobody vouched for it"
    assert broken(*seen, terms=away, second=load(10.2, 1)) == {}, "its leave was older than the record"


def test_g6_does_not_speak_of_two_nodes_or_of_reads_that_overlap() -> None:
    newer = read(2, 10.5, 10.7, load="second")

    assert broken(write(2, 10.0), newer, read(1, 10.8, node="q"), second=load(10.2, 2)) == {}
    assert broken(write(2, 10.0), newer, read(1, 10.6), second=load(10.2, 2)) == {}


def test_g7_is_broken_by_what_a_fenced_writer_replaced_before_it_died() -> None:
    forever = float("inf")
    died = write(2, 10.0, fenced=True, called=forever, returned=forever, done=forever, token=None)

    assert broken(died, read(1, 11.1)) == {"G7": 1}
    assert broken(died, read(1, 10.9)) == {}
    assert broken(replace(died, fenced=False), read(1, 11.1)) == {}


def test_g8_is_broken_by_a_version_before_the_one_that_the_token_stands_for() -> None:
    assert broken(read(1, 1.0), Causal("p", 1, required=3, version=2)) == {"G8": 1}
    assert broken(read(1, 1.0), Causal("p", 1, required=3, version=3)) == {}


def test_a_version_is_past_from_the_earliest_instant_of_any_later_one() -> None:
    since = Since([(2, 20.0), (3, 10.0), (5, 30.0)])

    assert [since(version) for version in (1, 2, 3, 4, 5)] == [10.0, 10.0, 30.0, 30.0, float("inf")]


def test_what_was_logged_in_parts_is_one_history() -> None:
    told = collect(
        [
            ("w-1", ["load", "w-1.0", 1, 0.4, 0.5, [EPOCH, 4]]),
            ("w-1", ["loaded", "w-1.0", 0.6]),
            ("w-1", ["commit", "w-1.0", {"1": 2}, 1.0, True]),
            ("w-1", ["reads", [["", 1, "1 w-1.0", 3, 0.5, 0.6, 0.9, 1.0]]]),
            ("w-1", ["reads", [["", 1, "1 w-1.0", 2, 1.1, 1.2, 1.3, 1.4]]]),
            ("w-1", ["invalidated", "w-1.0", 1.1, 1.2, 1.3, [EPOCH, 5], False]),
        ]
    )

    assert told.runs == [Run("w-1", 1, 1, "w-1.0", 5, 0.5, 0.6, 1.3, 1.4)]
    assert told.writes == [Write("w-1", {1: 2}, 1.0, True, 1.1, 1.2, 1.3, (EPOCH, 5), False)]
    assert told.loads == {"w-1.0": Load("w-1", 1, 0.4, 0.5, (EPOCH, 4), 0.6)}
