"""The demo's own judgement, by script: the verdict, the log, the delays, the shop."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from math import inf

import pytest

from tiercache.cli.demo import shop as shops
from tiercache.cli.demo.check import Checker, Verdict
from tiercache.cli.demo.delays import Delays, percentile
from tiercache.cli.demo.messages import Batch, ReadLog, Run, Tiers, Write
from tiercache.cli.demo.shop import PRODUCTS, Shop

TAG = "user:7"


def write(version: int, called: float, returned: float, tag: str = TAG) -> Write:
    return Write({tag: version}, called, returned)


def read(version: int, invoked: float, returned: float | None = None, tag: str = TAG) -> Run:
    return Run(tag, version, 1, invoked + 0.001 if returned is None else returned, invoked)


def batch(*runs: Run, taken: float | None = None) -> Batch:
    end = max(run.first_returned for run in runs) if taken is None else taken
    return Batch(list(runs), end, Tiers(0, 0, 0, 0), 0, [])


def verdicts(writes: list[Write], *batches: Batch) -> list[Verdict]:
    checker = Checker()
    for each in writes:
        checker.wrote(each)
    for each in batches:
        checker.read("w1", each)
    checker.no_more_writes()
    return [verdict for _, _, judged in checker.verdicts() for verdict in judged]


def test_staleness_counts_from_the_return_of_the_invalidation_to_the_invocation_of_the_read() -> None:
    (verdict,) = verdicts([write(2, called=10.0, returned=10.1)], batch(read(1, invoked=12.6)))

    assert verdict.staleness == pytest.approx(2.5)
    assert str(verdict) == "w1 was given version 1 of user:7 2.500 s after it had been invalidated"


def test_a_read_of_the_current_version_is_not_stale() -> None:
    (verdict,) = verdicts([write(2, 10.0, 10.1)], batch(read(2, invoked=99.0)))

    assert verdict.staleness == 0


def test_a_read_begun_before_the_invalidation_returned_is_not_stale_however_late_it_returns() -> None:
    (verdict,) = verdicts([write(2, 10.0, 10.1)], batch(read(1, invoked=10.05, returned=99.0)))

    assert verdict.staleness == 0


def test_a_read_several_versions_behind_is_stale_since_the_first_of_them() -> None:
    (verdict,) = verdicts([write(2, 10.0, 10.0), write(3, 20.0, 20.0)], batch(read(1, invoked=21.0)))

    assert verdict.staleness == pytest.approx(11.0)


def test_each_tag_has_its_own_versions() -> None:
    other = read(1, invoked=20.0, tag="orders:7")
    (verdict,) = verdicts([write(2, 10.0, 10.0)], batch(other))

    assert verdict.staleness == 0


def test_no_read_is_judged_before_all_writes_that_precede_it_are_known() -> None:
    checker = Checker()
    checker.wrote(write(2, 10.0, 10.0))
    checker.read("w1", batch(read(2, invoked=11.5), taken=12.0))
    assert not list(checker.verdicts())

    checker.wrote(write(3, 11.0, 11.1))
    assert not list(checker.verdicts())
    checker.wrote(write(4, 12.5, 12.6))
    ((worker, _, (verdict,)),) = checker.verdicts()

    assert (worker, verdict.staleness) == ("w1", pytest.approx(0.4))
    assert not list(checker.verdicts())


def test_a_run_keeps_what_the_verdict_needs_of_all_its_reads() -> None:
    log = ReadLog()
    log.note(TAG, 1, 10.0, 10.9)
    log.note(TAG, 1, 10.2, 10.3)
    log.note(TAG, 1, 10.1, 10.4)
    log.note(TAG, 2, 10.5, 10.6)

    runs, _ = log.take()
    assert runs == [Run(TAG, 1, 3, 10.3, 10.2), Run(TAG, 2, 1, 10.6, 10.5)]
    assert log.take()[0] == []


def test_no_read_is_lost_between_threads_and_takes(busy_interpreter: None) -> None:
    log, taken, over = ReadLog(), list[Run](), threading.Event()

    def note() -> None:
        for number in range(2_000):
            log.note(TAG, number % 3, number, number)

    def take() -> None:
        while not over.is_set():
            taken.extend(log.take()[0])

    readers, taker = [threading.Thread(target=note) for _ in range(4)], threading.Thread(target=take)
    for thread in (taker, *readers):
        thread.start()
    for thread in readers:
        thread.join()
    over.set()
    taker.join()

    assert sum(run.reads for run in (*taken, *log.take()[0])) == 8_000


@pytest.fixture
def busy_interpreter() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_a_delay_is_from_the_call_of_the_invalidation_to_the_return_of_the_first_new_read() -> None:
    delays = Delays(TAG)
    delays.wrote(write(2, called=10.0, returned=10.1))
    delays.read("w1", batch(read(1, 9.0)))

    found, _ = delays.read("w1", batch(read(2, 10.2, returned=10.3), read(1, 10.15, returned=10.16)))
    assert found == [pytest.approx(0.3)]
    assert delays.read("w1", batch(read(2, 10.4))) == ([], [])


def test_a_version_that_a_worker_never_saw_counts_by_the_first_later_one() -> None:
    delays = Delays(TAG)
    for version in (2, 3):
        delays.wrote(write(version, called=10.0 * version, returned=10.0 * version))
    delays.read("w1", batch(read(1, 9.0)))

    assert delays.read("w1", batch(read(3, 30.5, returned=31.0)))[0] == [pytest.approx(11), pytest.approx(1)]


def test_what_a_worker_sees_first_is_no_delay() -> None:
    delays = Delays(TAG)
    delays.wrote(write(2, 10.0, 10.0))

    assert delays.read("w1", batch(read(2, 50.0))) == ([], [])


@pytest.mark.parametrize(
    ("begun", "ended", "is_apart"), [(9, 9.5, False), (10.5, inf, True), (9, 10.1, True)]
)
def test_a_delay_during_a_fault_is_told_apart(begun: float, ended: float, is_apart: bool) -> None:
    delays = Delays(TAG)
    delays.hurt(begun)
    delays.hurt(begun, ended)
    delays.wrote(write(2, called=10.0, returned=10.0))
    delays.read("w1", batch(read(1, 9.0)))

    sound, under_fault = delays.read("w1", batch(read(2, 10.9, returned=11.0)))
    assert (len(sound), len(under_fault)) == ((0, 1) if is_apart else (1, 0))


def test_a_percentile_is_one_of_the_values() -> None:
    assert [percentile([3.0, 1.0, 2.0, 4.0], percent) for percent in (0, 50, 51, 99, 100)] == [1, 2, 3, 4, 4]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    path = tmp_path_factory.mktemp("shop") / "shop.db"
    shops.build(path)
    with closing(Shop(path)) as opened:
        yield opened


def shown(shop: Shop, tag: str) -> int:
    kind, number = tag.split(":")
    pages = {"user": shop.profile, "orders": shop.orders, "product": shop.product}
    return pages[kind](int(number)).version


CHANGES: dict[str, tuple[Callable[[Shop], shops.Changed], set[str]]] = {
    "move": (lambda shop: shop.move(7, "Oslo"), {"user:7"}),
    "price": (lambda shop: shop.price(3, 999), {"product:3"}),
    "order": (lambda shop: shop.order(7, {3: 1, 4: 2}), {"orders:7", "product:3", "product:4"}),
    "sale": (lambda shop: shop.sale(90), {f"product:{i + 1}" for i in range(PRODUCTS)}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_tells_each_page_that_it_changes_and_the_version_that_it_shows_from_now_on(
    shop: Shop, name: str
) -> None:
    change, tags = CHANGES[name]
    before = {tag: shown(shop, tag) for tag in tags}
    changed = change(shop)

    assert changed == {tag: version + 1 for tag, version in before.items()}
    assert changed == {tag: shown(shop, tag) for tag in tags}


def test_a_page_that_a_change_does_not_name_is_as_it_was(shop: Shop) -> None:
    others = [partial(shop.profile, 8), partial(shop.orders, 8), partial(shop.product, 5)]
    before = [page() for page in others]
    shop.move(7, "Rome")
    shop.order(7, {3: 1})
    shop.price(4, 100)

    assert [page() for page in others] == before
