"""What anybody commits to PostgreSQL is invalidated: at once, after an absence, whoever fails meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine

from tests.postgres import PostgresServer
from tests.servers import RedisServer, eventually
from tiercache import TierCache
from tiercache.sqlalchemy.postgres import Bridge, create_triggers, drop_triggers

FAR = 3600.0  # a poll that no test lives to see: what was done in time was done by a notification
TABLE = """
CREATE TABLE users (id int PRIMARY KEY, name text);
INSERT INTO users SELECT n, 'old' FROM generate_series(1, 9) AS n
"""
IN_HAND = "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE '%outbox%'"


class Users:
    """A watched table, and a function that reads it through a cache."""

    def __init__(self, server: PostgresServer, database: str, cache: TierCache) -> None:
        self.server, self.database, self.cache = server, database, cache
        self.psql(TABLE)
        self.watch()
        self.calls = 0

        @cache.cached(tags=["row:users:{user_id}"])
        def name_of(user_id: int) -> str:
            self.calls += 1
            ((name,),) = server.execute(f"SELECT name FROM users WHERE id = {user_id}", database=database)
            return str(name)

        self.name_of = name_of

    def url(self, driver: str = "psycopg") -> str:
        return self.server.url(driver, self.database)

    def psql(self, script: str) -> str:
        return self.server.psql(script, database=self.database)

    def watch(self, change: Callable[..., None] = create_triggers) -> None:
        engine = create_engine(self.url())
        with engine.begin() as connection:
            change(connection, ["users"])
        engine.dispose()

    def waiting(self) -> int:
        ((rows,),) = self.server.execute("SELECT count(*) FROM tiercache.outbox", database=self.database)
        return int(rows)


@pytest.fixture
def users(
    postgres: PostgresServer,
    postgres_database: str,
    redis_server: RedisServer,
    new_node: Callable[..., TierCache],
) -> Users:
    """Of the shared servers."""
    return Users(postgres, postgres_database, new_node(redis_server.url()))


@pytest.fixture
def listening() -> Iterator[Callable[..., Bridge]]:
    """Starts a bridge and waits until it listens; all end with the test."""
    bridges: list[Bridge] = []

    def start(*arguments: Any, poll: float = FAR, **options: Any) -> Bridge:
        bridge = Bridge(*arguments, poll=poll, **options)
        bridges.append(bridge)
        bridge.start()
        assert eventually(lambda: bridge.health.listening), bridge.health
        return bridge

    yield start
    for bridge in bridges:
        bridge.stop()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "asyncpg"])
def test_a_cached_function_sees_what_psql_changed(
    users: Users, listening: Callable[..., Bridge], driver: str
) -> None:
    listening(users.cache, users.url(driver))
    assert users.name_of(7) == "old"

    users.psql("UPDATE users SET name = 'new' WHERE id = 7")

    assert eventually(lambda: users.name_of(7) == "new")


def test_other_rows_stay_cached(users: Users, listening: Callable[..., Bridge]) -> None:
    bridge = listening(users.cache, users.url())
    users.name_of(7), users.name_of(8)

    users.psql("UPDATE users SET name = 'new' WHERE id = 7")

    assert eventually(lambda: bridge.health.taken == 1)
    assert (users.name_of(8), users.calls) == ("old", 2)


def test_every_notification_is_heard_however_fast_they_come(
    users: Users, listening: Callable[..., Bridge]
) -> None:
    bridge = listening(users.cache, users.url())
    with psycopg.connect(users.url(""), autocommit=True) as connection:
        for n in range(300):
            connection.execute("UPDATE users SET name = %s WHERE id = 7", (str(n),))

    assert eventually(lambda: bridge.health.taken == 300)


@pytest.mark.parametrize("engine_of", [create_engine, create_async_engine])
def test_an_engine_will_do(
    users: Users, listening: Callable[..., Bridge], engine_of: Callable[..., Any]
) -> None:
    engine = engine_of(users.url(), pool_size=1, max_overflow=0, isolation_level="SERIALIZABLE")
    bridge = listening(users.cache, engine)

    users.psql("DELETE FROM users")

    assert eventually(lambda: bridge.health.taken == 1)
    if engine_of is create_engine:
        engine.connect().close()  # its only connection is still to be had
        engine.dispose()


@pytest.mark.anyio
async def test_it_serves_an_async_program(users: Users) -> None:
    async with Bridge(users.cache, users.url()) as bridge:
        users.psql("DELETE FROM users")

        assert eventually(lambda: bridge.health.taken == 1)

    assert bridge.health.problem == "it has been stopped"


def test_what_was_committed_while_no_bridge_ran_is_caught_up_with(
    users: Users, listening: Callable[..., Bridge]
) -> None:
    users.name_of(7)
    users.psql("UPDATE users SET name = 'new' WHERE id = 7")
    assert users.name_of(7) == "old"

    listening(users.cache, users.url())

    assert users.name_of(7) == "new"
    assert users.waiting() == 0


def test_a_change_whose_notification_is_lost_is_found_by_the_poll(
    users: Users, listening: Callable[..., Bridge]
) -> None:
    bridge = listening(users.cache, users.url(), poll=0.2)
    users.name_of(7)

    users.psql("SET tiercache.notify = 'off'; UPDATE users SET name = 'new' WHERE id = 7")

    assert eventually(lambda: users.name_of(7) == "new")
    assert bridge.health.connects == 1


def test_every_cache_is_told(
    users: Users, listening: Callable[..., Bridge], own_redis: RedisServer, new_node: Callable[..., TierCache]
) -> None:
    other = new_node(own_redis.url())
    listening([users.cache, other], users.url())
    users.name_of(7)
    other.sync.set("name", "old", tags=["row:users:7"])

    users.psql("UPDATE users SET name = 'new' WHERE id = 7")

    assert eventually(lambda: users.name_of(7) == "new" and other.sync.get("name") is None)


def test_a_long_absence_is_caught_up_with_in_batches(users: Users, listening: Callable[..., Bridge]) -> None:
    users.psql(
        "INSERT INTO users SELECT n, 'old' FROM generate_series(10, 3000) AS n; DELETE FROM tiercache.outbox"
    )
    users.name_of(7), users.name_of(3000)
    users.psql(
        "DO $$ BEGIN FOR n IN 1 .. 3000 LOOP UPDATE users SET name = 'new' WHERE id = n; END LOOP; END $$"
    )
    assert users.waiting() == 3000

    bridge = listening(users.cache, users.url(), batch=1_400)

    assert eventually(lambda: bridge.health.taken == 3000)
    assert (users.name_of(7), users.name_of(3000)) == ("new", "new")


def test_a_row_that_names_what_can_be_no_tag_invalidates_everything(
    users: Users, listening: Callable[..., Bridge]
) -> None:
    users.name_of(7)
    users.psql("INSERT INTO tiercache.outbox (tags) VALUES (ARRAY['fine', ''])")
    users.psql("UPDATE users SET name = 'new'; DELETE FROM tiercache.outbox WHERE 'table:users' = ANY (tags)")

    listening(users.cache, users.url())

    assert users.name_of(7) == "new"


def test_two_bridges_share_the_work(users: Users, listening: Callable[..., Bridge]) -> None:
    users.psql("UPDATE users SET name = 'new' WHERE id = 1; UPDATE users SET name = 'new' WHERE id = 2")
    with psycopg.connect(users.url("")) as slow:  # as another bridge that has taken the first row, and waits
        slow.execute("SELECT FROM tiercache.outbox ORDER BY id LIMIT 1 FOR UPDATE")

        bridge = listening(users.cache, users.url(), poll=0.1)

        assert bridge.health.taken == 1

    assert eventually(lambda: bridge.health.taken == 2)


def test_two_bridges_take_each_row_once_where_nothing_fails(
    users: Users, listening: Callable[..., Bridge]
) -> None:
    one = listening(users.cache, users.url())
    two = listening(users.cache, users.url("psycopg2"))
    with psycopg.connect(users.url(""), autocommit=True) as connection:
        for n in range(200):
            connection.execute("UPDATE users SET name = %s WHERE id = 7", (str(n),))

    assert eventually(lambda: users.waiting() == 0)
    assert eventually(lambda: one.health.taken + two.health.taken == 200)


def test_rows_stay_while_redis_is_away(
    postgres: PostgresServer,
    postgres_database: str,
    own_redis: RedisServer,
    new_node: Callable[..., TierCache],
    listening: Callable[..., Bridge],
) -> None:
    users = Users(postgres, postgres_database, new_node(own_redis.url()))
    bridge = listening(users.cache, users.url())
    own_redis.kill()

    users.psql("UPDATE users SET name = 'new' WHERE id = 7")
    assert eventually(lambda: str(bridge.health.problem).startswith("Redis: "))
    assert users.waiting() == 1
    own_redis.start()

    assert eventually(lambda: bridge.health.taken == 1 and bridge.health.problem is None)
    assert users.waiting() == 0


BRIDGE = """
import sys, time
from tiercache import TierCache
from tiercache.sqlalchemy.postgres import Bridge
redis, postgres = sys.argv[1:]
cache = TierCache(redis, timeout=60)
cache.sync.get("connected")
with Bridge(cache, postgres) as bridge:
    while not bridge.health.listening:
        time.sleep(0.01)
    print("listening", flush=True)
    time.sleep(60)
"""


def test_a_bridge_that_is_killed_with_rows_in_hand_leaves_them_to_the_next(
    postgres: PostgresServer,
    postgres_database: str,
    own_redis: RedisServer,
    new_node: Callable[..., TierCache],
    listening: Callable[..., Bridge],
) -> None:
    users = Users(postgres, postgres_database, new_node(own_redis.url()))
    users.name_of(7)
    command = [sys.executable, "-c", BRIDGE, own_redis.url(), users.url()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n"
            own_redis.pause()
            users.psql("UPDATE users SET name = 'new' WHERE id = 7")
            assert eventually(lambda: postgres.execute(IN_HAND, database=users.database))
        finally:
            process.send_signal(signal.SIGKILL)
    own_redis.resume()
    assert eventually(lambda: not postgres.execute(IN_HAND, database=users.database))
    assert users.waiting() == 1
    assert users.name_of(7) == "old"

    listening(users.cache, users.url())

    assert users.name_of(7) == "new"


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill])
def test_it_comes_back_with_postgres(
    own_postgres: PostgresServer,
    redis_server: RedisServer,
    new_node: Callable[..., TierCache],
    listening: Callable[..., Bridge],
    end: Callable[[PostgresServer], None],
    driver: str,
) -> None:
    users = Users(own_postgres, "postgres", new_node(redis_server.url()))
    bridge = listening(users.cache, users.url(driver))
    users.name_of(7)

    end(own_postgres)
    assert eventually(lambda: str(bridge.health.problem).startswith("PostgreSQL: "))
    own_postgres.start()
    users.psql("UPDATE users SET name = 'new' WHERE id = 7")

    assert eventually(lambda: users.name_of(7) == "new")
    assert eventually(lambda: bridge.health.listening and bridge.health.problem is None)


def test_it_waits_for_a_place_in_the_pool(users: Users) -> None:
    engine = create_engine(users.url(), pool_size=1, max_overflow=0, pool_timeout=0.1)
    bridge = Bridge(users.cache, engine)
    with engine.connect() as held, bridge:
        assert eventually(lambda: "QueuePool limit" in str(bridge.health.problem))
        held.close()
        assert eventually(lambda: bridge.health.listening)
    engine.dispose()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_that_has_ended_by_an_error_can_be_stopped(users: Users) -> None:
    engine = create_engine(users.url())

    @event.listens_for(engine, "do_connect")
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    bridge = Bridge(users.cache, engine)
    bridge.start()
    assert eventually(lambda: bridge.health.problem == "it has ended")
    bridge.stop()
    assert bridge.health.problem == "it has been stopped"


def test_it_says_that_the_triggers_are_missing_and_begins_when_they_are_there(users: Users) -> None:
    users.watch(drop_triggers)
    with Bridge(users.cache, users.url()) as bridge:
        assert eventually(lambda: 'relation "tiercache.outbox" does not exist' in str(bridge.health.problem))
        assert not bridge.health.listening

        users.watch()

        assert eventually(lambda: bridge.health.listening)


def test_it_ends_although_postgres_does_not_answer(users: Users, listening: Callable[..., Bridge]) -> None:
    bridge = listening(users.cache, users.url(), poll=0.01)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%outbox%'"
    with psycopg.connect(users.url("")) as other:
        other.execute("LOCK TABLE tiercache.outbox")
        assert eventually(lambda: users.server.execute(waiting, database=users.database))

        bridge.stop()

        assert "tiercache-bridge" not in {thread.name for thread in threading.enumerate()}


def test_it_can_be_started_again_and_not_twice_at_once(
    users: Users, listening: Callable[..., Bridge]
) -> None:
    bridge = listening(users.cache, users.url())
    with pytest.raises(RuntimeError, match="stop"):
        bridge.start()
    bridge.stop()
    bridge.stop()
    users.psql("DELETE FROM users")
    bridge.start()

    assert eventually(lambda: bridge.health.taken == 1)


@pytest.mark.parametrize(
    ("database", "options", "says"),
    [
        ("sqlite://", {}, "not for sqlite"),
        ("postgresql+asyncpg://h/d?server_settings=x", {}, "server_settings"),
        ("postgresql://h/d", {"poll": 0}, "poll must be"),
        ("postgresql://h/d", {"batch": 0}, "batch must be"),
    ],
)
def test_what_it_cannot_do_is_refused(
    new_node: Callable[..., TierCache], database: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Bridge(new_node("memory://"), database, **options)


def test_a_bridge_without_a_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a cache"):
        Bridge([], "postgresql://h/d")


def test_a_fork_does_not_end_its_parent_s_bridge(users: Users, listening: Callable[..., Bridge]) -> None:
    bridge = listening(users.cache, users.url())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that other threads run
        child = os.fork()
    if child == 0:
        bridge.stop()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

    users.psql("DELETE FROM users")

    assert eventually(lambda: bridge.health.taken == 1)
    assert bridge.health.connects == 1


def test_another_driver_s_wish_for_encryption_is_kept(new_node: Callable[..., TierCache]) -> None:
    bridge = Bridge(new_node("memory://"), "postgresql+asyncpg://h/d?ssl=verify-full")

    assert "postgresql+psycopg://h/d?sslmode=verify-full" in repr(bridge)
