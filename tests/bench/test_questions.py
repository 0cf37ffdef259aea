"""Each question of the benchmark suite still runs: one round of a few calls, whose figures mean nothing."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import redis.asyncio

from bench.__main__ import QUESTIONS, ask, hit_path, main
from bench.contenders.facade import Contender
from bench.contenders.tiercache import TiercacheAsync
from bench.elsewhere import Here, elsewhere
from bench.results import Result, against, percentile
from bench.runs import Run
from bench.traces import scan_and_zipf, shifting, zipf
from tests.servers import RedisServer, eventually
from tests.test_demo import still_running
from tiercache._accelerator import compiled

pytest.importorskip("matplotlib")
from bench import charts, fence, hit, report, start, tags
from bench.charts import is_ours


@pytest.mark.filterwarnings("ignore")  # those of the rivals, where they are installed
@pytest.mark.parametrize("name", QUESTIONS)
def test_the_question_is_answered_by_tables_that_can_be_drawn(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "only", only_what_the_suite_needs)
    results: list[Result] = importlib.import_module(f"bench.{name}").measure(Run(quick=True, tiny=True))
    assert results
    for result in results:
        assert all(len(row) == len(result.columns) for row in result.rows), result.title
        assert "".join(report.card(result))


def only_what_the_suite_needs(run: Run, contenders: list[type[Contender]]) -> list[type[Contender]]:
    """Rivals may be installed or not; here they are not."""
    ours = {"tiercache", "redis", "orjson"}
    run.absent |= {some.name: "a rival" for some in contenders if not ours.issuperset(some.packages)}
    return [some for some in contenders if ours.issuperset(some.packages)]


def test_a_run_keeps_the_samples_and_becomes_a_page() -> None:
    found = ask(["hit_rate"], Run(quick=True, tiny=True))
    page = report.page(found)
    assert "Belady" in page
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_question_that_fails_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(run: Run) -> list[Result]:
        raise RuntimeError("no such luck")

    monkeypatch.setattr("bench.hit.measure", fail)
    found = ask(["hit", "hit_rate"], Run(quick=True, tiny=True))
    assert found["questions"]["hit"]["error"] == "RuntimeError: no such luck"
    assert found["questions"]["hit_rate"]["results"]
    assert "no such luck" in report.page(found)


def test_what_was_answered_before_a_ctrl_c_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(run: Run) -> list[Result]:
        raise KeyboardInterrupt

    file = tmp_path / "kept.json"
    monkeypatch.setattr("bench.fence.measure", interrupted)
    monkeypatch.setattr("bench.hit_rate.measure", lambda run: [])
    monkeypatch.setattr("sys.argv", ["bench", "hit_rate", "fence", "l2", "--save", str(file)])
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    assert list(json.loads(file.read_text())["questions"]) == ["hit_rate"]


def test_where_nothing_can_be_saved_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "hit_rate", "--save", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert "cannot write" in capsys.readouterr().err


def is_at_work(tmp: Path) -> bool:
    """Whether a process that Python's multiprocessing began for a run has come to its second thread."""
    for pid in still_running(tmp):
        with suppress(OSError):  # it has ended
            threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
            if threads > 1 and b"multiprocessing" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
    return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("name", ["hit", "tags"])
def test_ctrl_c_ends_a_run_without_noise_and_leaves_no_process(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", name, "--save", str(tmp_path / "kept.json")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            assert eventually(lambda: is_at_work(tmp_path))
            os.killpg(process.pid, signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == 130
    assert errors == "interrupted\n"
    assert eventually(lambda: not still_running(tmp_path))


def test_a_run_says_which_half_of_the_hits_it_measured() -> None:
    found = ask([], Run(quick=True, tiny=True))["machine"]
    assert found["hit path"] in ("compiled", "pure")
    assert found["hit path"] in "".join(report.head(found, {}))


@pytest.mark.skipif(compiled is None, reason="nothing is compiled here")
def test_hits_in_python_stand_beside_the_compiled_ones_and_are_made_in_python() -> None:
    with elsewhere(TIERCACHE_PURE="1") as process:
        assert process.ask(path_there) == "pure"
    assert "TIERCACHE_PURE" not in os.environ
    hits = [each for each in hit.measure(Run(quick=True, tiny=True))[:-2] if "by key" not in each.title]
    assert len(hits) == 8
    assert all(any(row[0] == "tiercache, in Python" for row in result.rows) for result in hits)


def path_there(here: Here) -> str:
    return hit_path()


def test_nothing_connects_before_the_first_call() -> None:
    [result] = start.measure(Run(quick=True, tiny=True))
    ours = [row for row in result.rows if is_ours(str(row[0]))]
    assert len(ours) == 3
    assert [row[-1] for row in ours] == [0, 0, 0]


def test_an_import_that_connects_is_counted() -> None:
    program = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))"
    with TemporaryDirectory() as bytecode:
        assert start.said(start.WATCHED, program, bytecode) == 1


class Blocks(TiercacheAsync):
    """Its invalidation has the server answer nobody for a while."""

    name = "blocks"

    async def drop_tag(self, tag: str) -> None:
        async with redis.asyncio.Redis.from_url(self.place.url or "") as client:
            await client.eval("for i = 1, 5e7 do end", 0)  # a fifth of a second, or so


def test_who_waits_for_an_invalidation_is_seen_beside_who_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "TAGGED", (Blocks,))
    taken: list[dict[int, tags.Taken]] = []
    monkeypatch.setattr(tags, "growth", lambda found: taken.append(found["blocks"]))
    tags.measure(Run(quick=True, tiny=True))

    for one in taken[0].values():
        assert one.during.command > 20
        assert max(one.during.longest) > 20
        assert one.noted["command"] > 20


def test_what_a_multiple_is_of_is_never_ours() -> None:
    multiples = [result for result in hit.measure(Run(quick=True, tiny=True)) if "x" in result.columns]
    assert multiples
    for result in multiples:
        column = result.columns.index("x")
        [base] = [row[0] for row in result.rows if row[column] == "1.00 x"][:1]
        assert not is_ours(str(base)), result.title


def test_multiples_are_the_median_of_those_within_a_round() -> None:
    result = against("t", {"a": [1.0, 2.0, 4.0], "b": [3.0, 4.0, 40.0]}, calls=1, unit="s")
    assert [row[-1] for row in result.rows] == ["1.00 x", "3.00 x"]


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile(range(1, 101), 99) == 99


def test_every_contender_takes_each_place_in_turn() -> None:
    orders = list(Run().turns("abc", 3))
    assert [order[0] for order in orders] == ["a", "b", "c"]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)


def test_a_trace_is_decided_by_its_seed() -> None:
    assert zipf(100, 1.0, 50, 1) == zipf(100, 1.0, 50, 1) != zipf(100, 1.0, 50, 2)
    assert shifting(100, 1.0, 500, 1, hold=50) == shifting(100, 1.0, 500, 1, hold=50)
    assert len(scan_and_zipf(100, 1.0, 55, 1, scan=10)) == 55


def test_on_a_server_of_the_users_own_a_run_deletes_what_it_wrote_and_nothing_else(
    redis_server: RedisServer,
) -> None:
    redis_server.cli("SET", "mine", "1")
    fence.measure(Run(quick=True, tiny=True, redis=redis_server.url()))
    assert redis_server.cli("KEYS", "*") == [b"mine"]


def machine(date: str, **other: object) -> dict[str, Any]:
    same = {"machine": "Linux", "python": "CPython", "server": "redis", "load before": "0", "load after": "0"}
    return {**same, "date": date, "packages": {}, **other}


def entry(text: str) -> dict[str, Any]:
    return {"question": text, "seconds": 1, "results": [], "error": None}


def test_runs_of_some_questions_each_are_drawn_as_one() -> None:
    first = {"machine": machine("2026-01-01"), "questions": {"l2": entry("kept"), "hit": entry("old")}}
    second = {"machine": machine("2026-02-02"), "questions": {"hit": entry("new")}}
    found = report.together([first, second])
    assert {name: one["question"] for name, one in found["questions"].items()} == {"hit": "new", "l2": "kept"}
    assert found["machine"] == second["machine"]


def test_a_question_of_another_run_says_where_that_differs() -> None:
    here = machine("2026-02-02 10:00", packages={"redis": "8.1.0", "orjson": "3.13.0"})
    there = machine(
        "2026-01-01 10:00", server="valkey", packages={"redis": "8.0.0", "orjson": "3.13.0"}, quick=True
    )
    found = report.together(
        [
            {"machine": there, "questions": {"l2": entry("l2")}},
            {"machine": here, "questions": {"hit": entry("hit")}},
        ]
    )
    page = report.page(found)
    differing = "measured 2026-01-01 10:00, server valkey, redis 8.0.0, a quick run, whose figures are rough"
    assert page.count(f"Of another run: {differing}.") == 1
    assert page.count("Of another run") == 1
    assert "Of several runs, each of which says so: l2." in page
    assert "Of another run" not in report.page(report.together([{"machine": here, "questions": {}}]))


def test_where_none_is_named_the_newest_whole_run_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def keep(name: str, questions: Iterable[str], *, quick: bool = False) -> Path:
        run = {"machine": {"quick": quick}, "questions": dict.fromkeys(questions)}
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(run))
        return file

    with pytest.raises(SystemExit, match="nothing to draw"):
        report.newest(tmp_path)
    some = keep("1", ["hit"])
    assert report.newest(tmp_path) == some
    assert "none is of all questions" in capsys.readouterr().out
    keep("2", QUESTIONS)
    whole = keep("3", QUESTIONS)
    assert report.newest(tmp_path) == whole
    assert capsys.readouterr().out == ""
    quick, part = keep("4", QUESTIONS, quick=True), keep("5", ["hit"])
    assert report.newest(tmp_path) == whole
    assert f"of some questions only: {part}, {quick}" in capsys.readouterr().out


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_what_is_written_beside_a_figure_ends_inside_the_picture(scale: float) -> None:
    times = {"tiercache": [1.0], "a rival": [1.2 * scale]}
    result = against("t", times, calls=1, unit="ms")
    told = [(*row, "one inner object at least") for row in result.rows]
    figure = charts.drawn(replace(result, columns=(*result.columns, "told"), rows=told))
    assert figure is not None
    figure.draw_without_rendering()
    assert all(text.get_window_extent().x1 < figure.bbox.width for text in figure.axes[0].texts)
