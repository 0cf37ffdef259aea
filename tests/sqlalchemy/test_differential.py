"""Random programs, with the cache and without: whoever reads sees the same.

Two processes with two sessions each do what a program says, one act at a time: reads of all kinds, through
statements, lazy relationships and a decorated function; writes by the unit of work, in bulk, by Core and by
text; savepoints, rollbacks, commits. Each act is done twice, on a database whose sessions are cached and on
one whose are not, and what can be seen is compared. A process is told the token of the last commit before
its act: without it, it may be `max_staleness` behind, and with it not at all (G8).

    TIERCACHE_PROGRAMS=5000 pytest tests/sqlalchemy/test_differential.py        by hand, for longer
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, delete, insert

from tests.postgres import PostgresServer
from tests.servers import RedisServer
from tests.sqlalchemy.blog import IDS, READS, WRITES, Base, Label, Person
from tests.sqlalchemy.two_sessions import SESSIONS, serve
from tiercache import TierCache, Token

PROGRAMS = int(os.environ.get("TIERCACHE_PROGRAMS", "60"))
PROCESSES = 2
CONTEXT = multiprocessing.get_context("spawn")

places = st.tuples(st.integers(0, PROCESSES - 1), st.integers(0, SESSIONS - 1))
numbers = st.sampled_from(list(IDS))
acts = st.one_of(
    st.tuples(st.just("read"), st.sampled_from(sorted(READS)), numbers),
    st.tuples(st.just("read"), st.sampled_from(sorted(READS)), numbers),
    st.tuples(st.just("write"), st.sampled_from(sorted(WRITES)), numbers),
    st.tuples(st.just("function"), numbers),
    st.sampled_from([("commit",), ("commit",), ("rollback",), ("savepoint",), ("release",), ("undo",)]),
)
programs = st.lists(st.tuples(places, acts), min_size=12, max_size=50)


@dataclass
class Stage:
    """The processes, and the two databases."""

    cache: TierCache
    engines: tuple[Engine, Engine]
    pipes: list[Connection]
    hits: int = 0
    programs: int = 0
    acts: int = 0
    told: list[str] = field(default_factory=list)

    def play(self, program: list[tuple[tuple[int, int], tuple[Any, ...]]]) -> None:
        token = self._begin()
        new = 100
        self.told = []
        writer = None
        for (process, session), act in program:
            new += 1
            if self.engines[0].name == "sqlite":
                # One transaction at a time. A second one would be locked out or not, and see what was before
                # or not, by the reads that it made: and of those the cache spares it some.
                begins = act[0] in ("write", "savepoint")
                if begins and writer not in (None, (process, session)):
                    continue
                writer = (process, session) if begins else writer
            act = (*act, new) if act[0] == "write" else act
            seen, expected, made, _ = self._do(process, session, act, token)
            token = made or token
            self.told.append(f"process {process} session {session} {act}: {seen!r}, and plainly {expected!r}")
            assert seen == expected, "\n".join(self.told)
            ended = act[0] in ("commit", "rollback") or str(seen).endswith("Error")
            writer = None if ended and writer == (process, session) else writer
        self.programs += 1
        self.acts += len(program)

    def _begin(self) -> Token | None:
        """Both databases as at the first act, and no session or entry from before."""
        hits = [self._do(process, 0, ("begin",), None)[3] for process in range(PROCESSES)]
        self.hits = sum(hits)
        for engine in self.engines:
            with engine.begin() as connection:
                for table in reversed(Base.metadata.sorted_tables):
                    connection.execute(delete(table))
                people = [{"id": n, "kind": "person", "name": f"n{n}", "team": "red"} for n in IDS[:2]]
                connection.execute(insert(Person.__table__), people)
                connection.execute(insert(Label), [{"id": n, "word": f"w{n}"} for n in range(2)])
        return self.cache.sync.clear().token

    def _do(self, process: int, session: int, act: tuple[Any, ...], token: Token | None) -> Any:
        self.pipes[process].send((act, session, token))
        assert self.pipes[process].poll(60), f"process {process} hangs in {act}"
        return self.pipes[process].recv()


@pytest.fixture(params=["sqlite", "postgresql"])
def urls(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/cached.db", f"sqlite:///{tmp_path}/plain.db"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    names = [server.create_database() for _ in range(2)]
    yield server.url("psycopg2", names[0]), server.url("psycopg2", names[1])
    for name in names:
        server.drop_database(name)


@pytest.fixture
def stage(urls: tuple[str, str], redis_server: RedisServer) -> Iterator[Stage]:
    engines = create_engine(urls[0]), create_engine(urls[1])
    for engine in engines:
        Base.metadata.create_all(engine)
    crew, pipes = [], []
    for _ in range(PROCESSES):
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=serve, args=(theirs, redis_server.url(), *urls))
        process.start()
        theirs.close()
        crew.append(process)
        pipes.append(ours)
    # Without its thread: hypothesis would take the thread's use of `random` for a strategy's.
    cache = TierCache(redis_server.url(), namespace="blog", listen=False)
    with closing(cache.sync):
        yield Stage(cache, engines, pipes)
        for pipe in pipes:
            pipe.send(None)
        for process in crew:
            process.join(30)
            assert process.exitcode == 0
    for engine in engines:
        engine.dispose()


@pytest.mark.timeout(60 + 2 * PROGRAMS)
def test_who_reads_through_the_cache_sees_what_the_database_says(stage: Stage) -> None:
    @settings(
        max_examples=PROGRAMS,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(programs)
    def play(program: list[tuple[tuple[int, int], tuple[Any, ...]]]) -> None:
        stage.play(program)

    play()
    stage.play([])  # and count

    print(f"{stage.programs} programs, {stage.acts} acts, {stage.hits} answers from a tier: no difference")
    assert stage.hits > PROGRAMS  # else nothing was compared
