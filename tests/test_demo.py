"""The demo as a whole: a run to its end, runs that are ended early, and runs that something spoils."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.servers import eventually, is_alive
from tiercache import TierCache
from tiercache.cli.demo import run as demo
from tiercache.cli.demo.messages import Assignment
from tiercache.cli.demo.shop import Shop
from tiercache.cli.demo.worker import reporting, visit

TIMEOUT = 30.0
SOON = 20.0


@contextmanager
def demonstration(*options: str, tmp: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tiercache", "demo", *options],
        env={**os.environ, "TMPDIR": str(tmp)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()
            assert eventually(lambda: nothing_is_left(tmp))


def read_until(process: subprocess.Popen[str], what: str) -> None:
    assert process.stdout is not None
    assert any(what in f"\n{line}" for line in process.stdout), f"the demo never said {what!r}"


def still_running(tmp: Path) -> list[int]:
    """Every process whose environment names *tmp*, as that of the demo's does, or that works below it.

    A redis-server writes its title over its environment.
    """
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (
                str(tmp).encode() in (entry / "environ").read_bytes()
                or Path(os.readlink(entry / "cwd")).is_relative_to(tmp)
            ):
                found.append(int(entry.name))
        except OSError:  # it has ended, or is somebody else's
            continue
    return [pid for pid in found if is_alive(pid)]


def nothing_is_left(tmp: Path) -> bool:
    """Whether nothing was running any more; else it is killed.

    One look is not enough: a supervisor that is found and killed may just have started its server, whom then
    nobody ends.
    """
    found = still_running(tmp)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not found


class Finished(NamedTuple):
    status: int
    output: str
    errors: str
    has_ended: bool  # every process of it
    files: list[Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One short run from beginning to end, and what it left."""
    tmp = tmp_path_factory.mktemp("demo")
    with demonstration("--seconds", "4", "--workers", "2", tmp=tmp) as process:
        output, errors = process.communicate(timeout=TIMEOUT)
        has_ended = eventually(lambda: not still_running(tmp))
    return Finished(process.returncode, output, errors, has_ended, list(tmp.iterdir()))


def test_a_run_ends_by_itself_and_finds_no_read_that_broke_the_promise(finished: Finished) -> None:
    assert finished.errors == ""
    assert finished.status == 0
    assert finished.output.endswith(": no read broke the promise\n")


def test_the_summary_tells_what_was_read_saved_and_written_and_how_stale_it_was(finished: Finished) -> None:
    summary = finished.output.rpartition("\nworker ")[2]
    (reads, queries, saved) = numbers(
        r"^reads +([\d,]+), each checked; ([\d,]+) queries.*, ([\d,]+) saved", summary
    )
    (commits,) = numbers(r"^commits +([\d,]+), each invalidated by tag", summary)
    p50, p99, worst_delay = numbers(
        r"^arrival +p50 ([\d.]+) ms, p99 ([\d.]+) ms; ([\d.]+) ms at most", summary
    )
    worst, bound = numbers(r"^worst staleness +([\d.]+) s; the bound is ([\d.]+) s", summary)

    assert reads == queries + saved
    assert reads > 1_000
    assert saved > queries > 0
    assert commits > 50
    assert 0 < p50 <= p99
    assert worst_delay > 500, "a worker was stopped for 0.8 s"
    assert worst <= bound == 2.004


def test_each_worker_has_its_line_in_the_summary_with_what_was_done_to_it(finished: Finished) -> None:
    row = r"^{} +{} +([\d,]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)   {}$"
    done = [("w1", "threads", "stopped for 0.8 s"), ("w2", "tasks", "subscription killed for 0.4 s")]
    for name, kind, remark in done:
        reads, l1, l2, waited, loaded, _ = numbers(row.format(name, kind, remark), finished.output)

        assert reads > 100
        assert l1 + l2 + waited + loaded == pytest.approx(100, abs=0.3)


def test_each_second_has_a_line_and_each_fault_is_told_when_it_begins_and_ends(finished: Finished) -> None:
    begun = r"^ +([\d.]+) --- {}"
    seconds = re.findall(r"^ +(\d+) +[\d,]+ +[\d,]+ ", finished.output, re.M)

    assert seconds == ["1", "2", "3", "4"]
    assert numbers(begun.format("w2: its subscription is killed"), finished.output) == [
        pytest.approx(1.3, abs=0.3)
    ]
    (kills,) = numbers(
        r"--- w2: may hear the others again; its subscription was killed (\d+) times", finished.output
    )
    assert kills >= 1
    (stopped,) = numbers(begun.format(r"w1: the process is stopped \(SIGSTOP\)"), finished.output)
    assert numbers(begun.format("w1: goes on"), finished.output) == [pytest.approx(stopped + 0.8, abs=0.3)]


def test_what_the_cache_says_in_its_log_stands_among_the_lines(finished: Finished) -> None:
    assert re.search(r"--- w2 logs: \"tiercache ", finished.output)


def test_no_line_is_wider_than_a_hundred_columns(finished: Finished) -> None:
    assert max(map(len, finished.output.splitlines())) <= 100


def test_a_run_leaves_no_process_and_no_file(finished: Finished) -> None:
    assert finished.has_ended
    assert finished.files == []


# A moment, and a run that would not end by itself within SOON of it, unless somebody is stopped then.
MOMENTS = [("The columns", "600"), ("\n  1 ", "600"), ("SIGSTOP", "3")]


@pytest.mark.parametrize(("moment", "seconds"), MOMENTS)
def test_ctrl_c_ends_everything_without_noise(moment: str, seconds: str, tmp_path: Path) -> None:
    with demonstration("--seconds", seconds, "--workers", "2", tmp=tmp_path) as process:
        read_until(process, moment)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: all of them get it
        _, errors = process.communicate(timeout=SOON)

        assert process.returncode == 130
        assert errors == "interrupted\n"
        assert eventually(lambda: not still_running(tmp_path))
        assert list(tmp_path.iterdir()) == []


def test_only_the_demo_itself_hears_ctrl_c(tmp_path: Path) -> None:
    with demonstration("--seconds", "600", "--workers", "2", tmp=tmp_path) as process:
        read_until(process, "arrival ms")
        deaf = [pid for pid in still_running(tmp_path) if not hears(pid, signal.SIGINT)]
        grouped = [pid for pid in still_running(tmp_path) if os.getpgid(pid) == process.pid]

    assert len(grouped) >= 4, "the demo, the writer, two workers"
    assert set(grouped) - set(deaf) == {process.pid}


def hears(pid: int, signum: signal.Signals) -> bool:
    """Whether the signal would interrupt the process: it is neither blocked nor ignored."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = [int(mask, 16) for mask in re.findall(r"^Sig(?:Blk|Ign):\s+(\w+)$", status, re.M)]
    return not any(mask >> (signum - 1) & 1 for mask in masks)


@pytest.mark.parametrize(("moment", "seconds"), MOMENTS)
def test_no_process_outlives_a_demo_that_is_killed(moment: str, seconds: str, tmp_path: Path) -> None:
    with demonstration("--seconds", seconds, "--workers", "2", tmp=tmp_path) as process:
        read_until(process, moment)
        process.kill()

        assert eventually(lambda: not still_running(tmp_path))


def test_a_run_whose_worker_dies_proves_nothing_and_fails(tmp_path: Path) -> None:
    with demonstration("--seconds", "600", "--workers", "2", tmp=tmp_path) as process:
        read_until(process, "arrival ms")
        os.kill(newest_child(process.pid), signal.SIGKILL)
        _, errors = process.communicate(timeout=SOON)

    assert process.returncode == 2
    assert errors == "tiercache demo: w2 ended before its time, with status -9\n"


def newest_child(pid: int) -> int:
    """The process that *pid* started last, and that has not ended."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return max(map(int, children))


def serve_from_a_dict(assignment: Assignment, checker: Connection) -> None:
    """A worker as any, but that its pages are kept in plain dicts, which no invalidation reaches."""
    with closing(Shop(assignment.database)) as opened, TierCache("memory://").sync as unused:
        pages = {"user": opened.profile, "orders": opened.orders, "product": opened.product}
        served = {kind: cache(page) for kind, page in pages.items()}
        checker.send(None)
        until: float = checker.recv()
        with reporting(unused._cache, checker) as log:
            visit(served, log, until)


def test_a_cache_that_no_invalidation_reaches_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "KINDS", {"dict": serve_from_a_dict, "dict too": serve_from_a_dict})
    output = io.StringIO()
    status = demo.run(demo.Options(seconds=3, workers=2, max_staleness=0.5), output)

    assert status == 1
    worst, bound = numbers(
        r"worst staleness +([\d.]+) s; the bound is ([\d.]+) s: the promise is BROKEN", output.getvalue()
    )
    assert bound == 0.501
    assert 1.5 < worst < 3.0
    assert re.search(r"w\d was given version 1 of product:1 ", output.getvalue())


def serve_not_at_all(assignment: Assignment, checker: Connection) -> None:
    raise LookupError("no pages today")


def test_a_worker_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "KINDS", {"fails": serve_not_at_all, "fails too": serve_not_at_all})

    with pytest.raises(demo.DemoFailed, match=r"w1 could not begin:(?s:.)*no pages today"):
        demo.run(demo.Options(seconds=3, workers=2, max_staleness=2), io.StringIO())


def numbers(pattern: str, text: str) -> list[float]:
    """The groups of *pattern*, which must be found, as numbers."""
    found = re.search(pattern, text, re.M)
    assert found is not None, f"{pattern} is not in:\n{text}"
    return [float(group.replace(",", "")) for group in found.groups()]
