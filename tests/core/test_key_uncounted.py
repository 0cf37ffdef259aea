"""What a call only uses is left out of its key."""

from __future__ import annotations

import asyncio
import logging
import threading
import types
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
import redis
import redis.asyncio

import tiercache._core.key_text as key_text
from tests.core.key_samples import (
    HERE,
    Empty,
    Repository,
    Tenant,
    call_key,
    in_package,
    key_of,
    run_python,
)
from tiercache import TierCache
from tiercache._core.keys import register_uncounted
from tiercache._errors import UnstableKey

UNCOUNTED: dict[str, Callable[[], object]] = {
    "lock": threading.Lock,
    "re-entrant lock": threading.RLock,
    "condition": threading.Condition,
    "event": threading.Event,
    "semaphore": threading.Semaphore,
    "bounded semaphore": threading.BoundedSemaphore,
    "asyncio lock": asyncio.Lock,
    "asyncio event": asyncio.Event,
    "asyncio condition": asyncio.Condition,
    "asyncio semaphore": asyncio.Semaphore,
    "asyncio bounded semaphore": asyncio.BoundedSemaphore,
    "anyio event": anyio.Event,
    "anyio lock": anyio.Lock,
    "anyio limiter": lambda: anyio.CapacityLimiter(1),
    "logger": lambda: logging.getLogger("shop"),
    "root logger": logging.getLogger,
    "logger adapter": lambda: logging.LoggerAdapter(logging.getLogger("shop")),
    "redis": redis.Redis,
    "redis pool": redis.ConnectionPool,
    "redis connection": redis.Connection,
    "redis pipeline": lambda: redis.Redis().pipeline(),
    "redis pubsub": lambda: redis.Redis().pubsub(),
    "cache": lambda: TierCache("memory://", private=True),
    "blocking view of a cache": lambda: TierCache("memory://", private=True).sync,
    "async redis": redis.asyncio.Redis,
    "async redis pool": redis.asyncio.ConnectionPool,
}


@pytest.mark.parametrize("name", UNCOUNTED)
def test_what_a_call_only_uses_does_not_count(name: str) -> None:
    assert key_of(UNCOUNTED[name]()) == f"{HERE}.one()"


@pytest.mark.parametrize("name", UNCOUNTED)
def test_an_object_that_holds_such_a_thing_counts_by_the_rest(name: str) -> None:
    assert key_of(Repository(used=UNCOUNTED[name](), tenant="a")) == key_of(Repository(tenant="a"))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("sqlalchemy.orm.session", "Session"),
        ("sqlalchemy.ext.asyncio.session", "AsyncSession"),
        ("sqlalchemy.orm.scoping", "scoped_session"),
        ("sqlalchemy.orm.session", "sessionmaker"),
        ("sqlalchemy.engine.base", "Engine"),
        ("sqlalchemy.ext.asyncio.engine", "AsyncEngine"),
        ("sqlalchemy.engine.base", "Connection"),
        ("sqlalchemy.ext.asyncio.engine", "AsyncConnection"),
        ("sqlalchemy.ext.asyncio.session", "async_sessionmaker"),
        ("starlette.requests", "HTTPConnection"),
        ("starlette.requests", "Request"),
        ("starlette.websockets", "WebSocket"),
        ("starlette.background", "BackgroundTasks"),
        ("starlette.responses", "Response"),
        ("fastapi", "Request"),
        ("fastapi", "BackgroundTasks"),
        ("flask.wrappers", "Request"),
        ("werkzeug.wrappers.request", "Request"),
        ("django.http.request", "HttpRequest"),
        ("httpx", "Client"),
        ("httpx", "AsyncClient"),
        ("requests.sessions", "Session"),
        ("aiohttp.client", "ClientSession"),
        ("structlog.stdlib", "BoundLogger"),
        ("loguru._logger", "Logger"),
    ],
)
def test_the_classes_known_by_name_are_those_of_the_installed_package(module: str, name: str) -> None:
    cls = getattr(pytest.importorskip(module), name)
    assert key_text.is_uncounted(cls.__new__(cls))


def test_a_class_is_known_by_the_name_of_its_package_and_so_is_a_subclass() -> None:
    session = in_package("sqlalchemy.orm.session", "Session")
    subclass = type("ShopSession", (session,), {})

    assert key_of(session()) == key_of(subclass()) == f"{HERE}.one()"


@pytest.mark.parametrize("package", ["sqlalchemy_utils", "my.sqlalchemy", "shop"])
def test_a_class_of_that_name_in_another_package_counts(package: str) -> None:
    assert "Session()" in key_of(in_package(package, "Session")())


def test_none_of_the_known_packages_is_imported(tmp_path: Path) -> None:
    packages = {"sqlalchemy", "starlette", "flask", "werkzeug", "django", "httpx", "requests", "aiohttp"}
    for package in packages:
        (tmp_path / f"{package}.py").touch()
    probe = (
        "import sys; from tiercache._core.keys import CallKeys\n"
        "def f(x): ...\n"
        "CallKeys(f).key({'x': f}); print(*sys.modules)"
    )
    (loaded,) = run_python("-c", probe, folder=tmp_path)
    assert "tiercache._core.keys" in loaded.split()
    assert packages.isdisjoint(loaded.split())


def test_a_registered_class_and_its_subclasses_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_text, "_registered", [])
    client = type("Client", (), {})
    subclass = type("SubClient", (client,), {})
    assert "Client" in key_of(client())

    register_uncounted(client)

    assert key_of(client()) == key_of(subclass()) == f"{HERE}.one()"


def test_a_registered_class_of_values_without_parts_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_text, "_registered", [])
    monkeypatch.setattr(key_text, "COUNTED_LEAVES", dict(key_text.COUNTED_LEAVES))
    assert key_of(Decimal(1)) != key_of(Decimal(2))

    register_uncounted(Decimal)
    try:
        assert key_of(Decimal(1)) == key_of(Decimal(2)) == f"{HERE}.one()"
    finally:
        key_text._is_uncounted_class.cache_clear()  # other tests have keys of it


def test_only_a_class_can_be_registered() -> None:
    with pytest.raises(TypeError, match="write Empty"):
        register_uncounted(Empty())  # type: ignore[arg-type]  # the mistake under test


def test_in_a_container_it_keeps_its_place() -> None:
    lock = threading.Lock()
    assert len({key_of(value) for value in ([lock, 1], [1, lock], [1], [lock], [None], ["~"])}) == 6


def test_a_repository_that_holds_a_tenant_does_not_share() -> None:
    session = in_package("sqlalchemy.orm.session", "Session")
    a, b = Repository(session=session(), tenant="a"), Repository(session=session(), tenant="b")
    assert call_key(Repository.get, a, 7) != call_key(Repository.get, b, 7)


def test_a_proxy_counts_as_what_it_stands_for() -> None:
    class LocalProxy:
        __module__ = "werkzeug.local"

        def __init__(self, target: object) -> None:
            self._get_current_object = lambda: target

    assert key_of(LocalProxy(Tenant("a"))) == key_of(Tenant("a"))
    assert key_of([LocalProxy(7)]) == key_of([7])
    assert key_of(LocalProxy(threading.Lock())) == f"{HERE}.one()"


def test_the_bookkeeping_of_a_mapped_instance_does_not_count() -> None:
    assert key_of(Repository(id=7, _sa_instance_state=object())) == key_of(Repository(id=7))


def test_a_mapped_instance_whose_attributes_are_not_loaded_is_refused() -> None:
    state = types.SimpleNamespace(expired_attributes={"id", "name"})
    with pytest.raises(UnstableKey, match="expired"):
        key_of(Repository(_sa_instance_state=state))
