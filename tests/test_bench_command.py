"""`tiercache bench stampede` as a whole, on real servers with real processes, in tiny numbers."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import redis

from bench.contenders import every_contender
from bench.contenders.hand_redis import HandRedis
from bench.contenders.lru_cache import LruCache
from bench.runs import Run
from bench.stampede import field
from bench.stampede.__main__ import main as among_rivals
from tests.servers import RedisServer, eventually
from tests.test_cli import command, refusal
from tests.test_demo import still_running
from tiercache.cli import main
from tiercache.cli.stampede import run as stampede
from tiercache.cli.stampede.orders import World
from tiercache.cli.stampede.run import Options, Progress
from tiercache.cli.stampede.scenarios import SCENARIOS, Setup
from tiercache.cli.stampede.stage import Stage
from tiercache.cli.stampede.subjects import Loader, Tiercache, Verbs

TIMEOUT = 60.0
TINY = ("--processes", "2", "--callers", "6", "--keys", "5", "--load", "0.05", "--quick")
WORLDS = ["tasks", "threads", "both"]


def rows(output: str) -> list[list[str]]:
    """The lines of the table, each as its cells."""
    return [line.split() for line in output.splitlines() if re.match(r" +(tasks|threads|both)  ", line)]


def test_a_cold_key_is_loaded_once_whoever_asks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "samples.json"
    status = main(["bench", "stampede", *TINY, "--scenario", "cold", "--json", str(file)])
    output = capsys.readouterr().out

    assert status == 0
    assert output.endswith("No answer was wrong, none is missing, and no key was loaded too often.\n")
    assert [row[0] for row in rows(output)] == WORLDS
    assert [row[1] for row in rows(output)] == ["1", "1", "1"]
    assert [row[3] for row in rows(output)] == ["12", "12", "12"], "all waited"
    played = json.loads(file.read_text())["played"]
    assert [len(one["rounds"][0]["over"]) for one in played] == [12, 12, 12]


def test_on_a_server_of_the_users_nothing_is_touched_and_nothing_is_left(
    own_redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    with redis.Redis.from_url(own_redis.url()) as client:
        client.set("theirs", "precious")
        scenarios = ("restart", "tag", "failure", "give-up")
        status = main(["bench", "stampede", *TINY, "--redis", own_redis.url(), "--scenario", *scenarios])
        output = capsys.readouterr().out

        assert status == 0, output
        assert client.keys() == [b"theirs"]
        assert client.get("theirs") == b"precious"
    assert "not restarted" in output
    table = output[output.index("restart: ") : output.index("failure: ")]
    assert [row[1] for row in rows(table)] == ["5", "5", "5"], "one for each key that was forgotten"


def test_a_server_of_the_users_that_goes_away_amid_a_run_is_named_and_nothing_is_judged(
    own_redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    def kill() -> None:
        with redis.Redis.from_url(own_redis.url()) as client:
            assert eventually(lambda: client.keys("*tiercache-stampede-*"))
        own_redis.kill()

    killing = threading.Thread(target=kill)
    killing.start()
    status = main(["bench", "stampede", *TINY, "--redis", own_redis.url(), "--scenario", "cold", "tag"])
    killing.join()
    told = capsys.readouterr()

    assert status == 2
    assert "went away amid the run" in told.err
    assert "Traceback" not in told.err
    assert "wrong" not in told.out


def test_a_cache_that_does_not_answer_at_the_beginning_is_not_played(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stampede, "Tiercache", Silent)
    status = main(["bench", "stampede", *TINY, "--scenario", "cold"])

    assert status == 2
    assert "no answer within 10 s" in capsys.readouterr().err


class Silent(Tiercache):
    """A cache that never gives an answer."""

    def verbs(self, world: World) -> Verbs:
        async def load(key: str, loader: Loader) -> object:
            return await asyncio.Event().wait()

        verbs = super().verbs(world)
        verbs.load = load  # type: ignore[method-assign,assignment]
        return verbs


class Forgetful(Tiercache):
    """A cache that gives everybody the answer to another question."""

    def verbs(self, world: World) -> Verbs:
        verbs = super().verbs(world)
        load = verbs.load
        verbs.load = lambda key, loader: load("the one key", loader)  # type: ignore[method-assign]
        return verbs


class Refusing(Tiercache):
    """A cache that gives an error."""

    def verbs(self, world: World) -> Verbs:
        verbs = super().verbs(world)

        def load(key: str, loader: Loader) -> object:
            if key.startswith("p"):
                return Tiercache.verbs(self, world).load(key, loader)
            raise KeyError(key)

        verbs.load = load  # type: ignore[method-assign]
        return verbs


class Eager(Tiercache):
    """A cache that asks the loader for each caller."""

    def verbs(self, world: World) -> Verbs:
        verbs = super().verbs(world)
        verbs.load = lambda key, loader: loader()  # type: ignore[method-assign]
        return verbs


CACHES = (
    (Forgetful, r"\d+ answers were WRONG"),
    (Refusing, "are MISSING"),
    (Eager, r"0 answers were WRONG, 0 are MISSING, 3 keys were loaded TOO OFTEN"),
)


@pytest.mark.parametrize(("cache", "told"), CACHES)
def test_a_cache_that_answers_wrongly_or_not_at_all_or_loads_too_often_is_found_out(
    cache: type[Tiercache], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stampede, "Tiercache", cache)
    output = io.StringIO()
    cold = tuple(scenario for scenario in SCENARIOS if scenario.name == "cold")
    setup = Setup(processes=2, callers=4, load=0.05)
    status = stampede.run(Options(setup, scenarios=cold, is_quick=True), output, Progress(io.StringIO()))

    assert status == 1
    assert re.search(told, output.getvalue())


@pytest.mark.parametrize("cache", [Forgetful, Refusing, Eager])
def test_among_rivals_such_a_cache_is_found_out_too(
    cache: type[Tiercache], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(field, "RIVALS", ())
    monkeypatch.setattr(field, "Tiercache", cache)

    assert among_rivals([*TINY, "--scenario", "cold"]) == 1
    assert "tiercache, tasks" in capsys.readouterr().out


def test_among_rivals_a_run_that_was_right_and_one_that_could_not_be_made_end_otherwise(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(field, "RIVALS", ())

    assert among_rivals([*TINY, "--scenario", "cold"]) == 0
    assert among_rivals([*TINY, "--redis", "redis://127.0.0.1:1/0"]) == 2
    assert "does not answer" in capsys.readouterr().err


def test_every_library_of_the_suite_plays_among_rivals() -> None:
    suite = {package for contender in every_contender() for package in contender.packages}
    playing = {package for contender in field.RIVALS for package in contender.packages}
    assert suite - playing == {"tiercache"}


def test_without_protection_every_caller_loads_and_who_cannot_refresh_early_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(field, "RIVALS", (HandRedis, LruCache))

    assert among_rivals([*TINY, "--scenario", "cold", "early", "expiry"]) == 0
    cold, expiry, early = re.split("^(?:expiry|early): ", capsys.readouterr().out, flags=re.MULTILINE)
    assert re.search(r"redis-py GET \+ orjson, threads +12 ", cold)
    assert "functools.lru_cache, threads: never expires" in expiry
    assert "redis-py GET + orjson, threads: no early refresh" in early


class Refuses(HandRedis):
    """A rival that gives an error for whatever is asked in a round."""

    def load(self, key: str, loader: Callable[[], object], tags: Iterable[str] = ()) -> object:
        if key.startswith("p"):
            return super().load(key, loader)
        raise KeyError(key)


def test_a_rival_that_leaves_callers_without_an_answer_plays_no_further_round(
    monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer
) -> None:
    monkeypatch.setattr(field, "RIVALS", (Refuses,))
    run, setup = Run(redis=redis_server.url()), Setup(processes=2, callers=2, load=0.01)
    with closing(Stage(redis_server.url())) as stage:
        [seen] = field.contest(run, stage, SCENARIOS[:1], setup, ("tasks",))

    assert [len(verdicts) for verdicts in seen.verdicts.values()] == [3, 1]


def test_ctrl_c_ends_it_without_noise_and_leaves_no_process(tmp_path: Path) -> None:
    with command("bench", "stampede", *TINY, "--scenario", "killed", tmp=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert eventually(lambda: len(still_running(tmp_path)) > 3)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT)

        assert process.returncode == 130
        assert errors == "interrupted\n"
        assert eventually(lambda: not still_running(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--processes", "0"], "a whole number from 1 to 64, not '0'"),
        (["--callers", "many"], "a whole number from 1 to 1000, not 'many'"),
        (["--keys", "1.5"], "a whole number from 1 to 100000, not '1.5'"),
        (["--load", "10"], "a number from 0.01 to 5, not '10'"),
        (["--scenario", "warm"], "invalid choice: 'warm'"),
        (["--redis", "memory://"], "memory:// is no server; without --redis one of the run's own is started"),
        (["--redis", "redis://h\udcc3\udcb6/0"], "it has characters that this locale does not read"),
        (["--redis", ""], "it is empty; without --redis a server of the run's own is started"),
        (
            ["--json", "/nowhere/samples.json"],
            "cannot write '/nowhere/samples.json': No such file or directory",
        ),
    ],
    ids=str,
)
def test_a_wrong_call_is_told_what_to_write_instead(
    arguments: Sequence[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refusal(capsys, ["bench", "stampede", *arguments])


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("name", ["tiercache bench stampede", "python -m bench.stampede"])
def test_its_help_is_as_wide_as_the_terminal_and_names_every_scenario(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit) as ended:
        among_rivals(["--help"]) if name.startswith("python") else main(["bench", "stampede", "--help"])
    shown = capsys.readouterr().out

    assert ended.value.code == 0
    assert max(map(len, shown.splitlines())) <= width
    for scenario in SCENARIOS:
        assert re.search(rf"^  {scenario.name} +{scenario.what.split()[0]} ", shown, flags=re.MULTILINE)
    assert " ".join(SCENARIOS[0].what.split()) in " ".join(shown.split())


@pytest.mark.parametrize(
    ("url", "told"),
    [("redis://127.0.0.1:1/0", "does not answer"), ("localhost:6379", "redis://")],
)
def test_a_server_that_is_none_is_named(url: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "stampede", "--quick", "--redis", url]) == 2
    assert told in capsys.readouterr().err
