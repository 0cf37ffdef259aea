"""Settings, URLs and declarations that cannot be: refused at once, by an error that says what to write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from tiercache import SettingError, TierCache, cached, configure, default_cache

Case = tuple[dict[str, Any], str]

SETTINGS: list[Case] = [
    ({"max_stalenes": 1}, r"'max_stalenes' is not a setting.*did you mean 'max_staleness'\?"),
    ({"l1_max_size": 5}, r"did you mean 'l1_maxsize'\?"),
    ({"colour": "red"}, "'colour' is not a setting of tiercache"),
    ({"ttl": 0}, r"ttl must be a positive number of seconds, not 0; for no expiry pass None"),
    ({"ttl": -1}, "positive.*not -1"),
    ({"ttl": float("nan")}, "positive.*not nan"),
    ({"ttl": float("inf")}, "for no expiry pass None"),
    ({"ttl": timedelta(0)}, "positive"),
    ({"ttl": True}, r"ttl must be seconds, a timedelta, or text such as '10m', not True"),
    ({"ttl": "10 minutes"}, r"'10m' or '2h30m' \(units: ms, s, m, h, d, w\), not '10 minutes'"),
    ({"ttl": "10"}, "units"),
    ({"ttl": ""}, "units"),
    *[({"ttl": text}, "units") for text in ("5 min", "5M", "1 0m", "+5s", "-5s")],
    ({"ttl": [1]}, r"not \[1\]"),
    ({"ttl": 10**10}, "ten years.*for no expiry pass None"),
    ({"l1_ttl": 0}, "l1_ttl must be a positive number"),
    ({"max_staleness": 0.1}, r"from 0\.2 s to an hour, not 0\.1"),
    ({"max_staleness": None}, "max_staleness must be seconds"),
    ({"max_staleness": "2h"}, "to an hour, not '2h'"),
    ({"l1_maxsize": 0}, "whole number of at least 1, not 0"),
    ({"l1_maxsize": 1.5}, "whole number"),
    ({"l1_maxsize": True}, "whole number"),
    ({"l1_maxbytes": "10 MB"}, "whole number.*'10 MB'"),
    ({"pool_size": 0}, "whole number of at least 1"),
    ({"jitter": 1}, "fraction from 0 up to 1, not 1"),
    ({"jitter": "a lot"}, "fraction"),
    ({"jitter": 10**400}, "fraction"),
    ({"audit": 10**400}, "audit must be"),
    ({"ttl": 10**400}, "ten years"),
    ({"ttl": -(10**400)}, "positive"),
    ({"timeout": 0}, "timeout must be a positive number"),
    ({"timeout": 1e10}, "timeout must be at most ten years, not 10000000000.0"),
    ({"load_timeout": -1}, "load_timeout must be a positive number"),
    ({"load_timeout": "5000000000h"}, "load_timeout must be at most ten years"),
    ({"timeout": 0.0009}, "timeout must be at least 0.001 s, not 0.0009"),
    ({"load_timeout": timedelta(microseconds=1)}, "load_timeout must be at least 0.001 s"),
    ({"pool_size": 10_001}, "pool_size must be at most 10,000, not 10001"),
    ({"private": 1}, "private must be True or False, not 1"),
    ({"private": "yes"}, "private must be True or False, not 'yes'"),
    ({"clock": 5}, "clock must be a function that gives seconds, such as time.monotonic, not 5"),
    ({"clock": None}, "clock must be a function"),
    ({"on_lapse": "ignore"}, "'load'.*'raise', not 'ignore'"),
    ({"compression": "gzip"}, "'zstd', 'lz4' or None, not 'gzip'"),
    ({"compression_above": 0}, "whole number of at least 1, not 0"),
    ({"listen": "maybe"}, "True or False, not 'maybe'"),
    ({"namespace": ""}, "1 to 64 letters"),
    ({"namespace": "a b"}, "1 to 64 letters.*'a b'"),
    ({"namespace": "{a}"}, "1 to 64 letters"),
    ({"namespace": "a" * 65}, "1 to 64 letters"),
    ({"namespace": b"shop"}, "1 to 64 letters"),
]


@pytest.mark.parametrize(("settings", "message"), SETTINGS)
@pytest.mark.parametrize("url", ["memory://", "redis://127.0.0.1:1/0"])
def test_a_setting_that_cannot_be_is_refused_before_anything_is_connected(
    url: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        TierCache(url, **settings)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"TIERCACHE_MAXSTALENESS": "1"},
            "TIERCACHE_MAXSTALENESS is not.*did you mean 'TIERCACHE_MAX_STALENESS'",
        ),
        ({"TIERCACHE_UR": "redis://"}, "did you mean 'TIERCACHE_URL'"),
        ({"TIERCACHE_TTL": "soon"}, "TIERCACHE_TTL must be seconds"),
        ({"TIERCACHE_L1_MAXSIZE": "many"}, "whole number.*'many'"),
        ({"TIERCACHE_URL": "redi://localhost"}, "did you mean 'redis'"),
    ],
)
def test_a_wrong_variable_of_the_environment_is_refused_by_name(
    environment: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        TierCache.from_env(environment)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MAX_STALENESS", "0.1"),
        ("POOL_SIZE", "1e2"),
        ("TIMEOUT", "0.0001"),
        ("LISTEN", "on"),
        ("NAMESPACE", "a shop"),
        ("AUDIT", "7"),
        ("URL", "redid://cache"),
        ("URL", "memory://shop"),
    ],
)
def test_an_error_of_a_variable_names_it(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    environment = {"TIERCACHE_URL": "memory://", f"TIERCACHE_{variable}": value}
    with pytest.raises(SettingError, match=f"^TIERCACHE_{variable}\\b"):
        TierCache.from_env(environment)
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    configure("memory://").sync.close()  # in the place of one that an earlier test left
    with pytest.raises(SettingError, match=f"^TIERCACHE_{variable}\\b"):
        default_cache()


OF_A_SERVICE = {
    "SERVICE_HOST": "10.0.0.7",
    "SERVICE_PORT": "6379",
    "SERVICE_PORT_REDIS_TLS": "6379",
    "PORT": "tcp://10.0.0.7:6379",
    "PORT_6379_TCP": "tcp://10.0.0.7:6379",
    "PORT_6379_TCP_PROTO": "tcp",
    "PORT_6379_TCP_PORT": "6379",
    "PORT_6379_TCP_ADDR": "10.0.0.7",
}


@pytest.mark.parametrize("service", ["TIERCACHE", "TIERCACHE_REDIS"])
def test_the_variables_of_a_service_in_kubernetes_are_not_taken_for_settings(service: str) -> None:
    environment = {f"{service}_{name}": value for name, value in OF_A_SERVICE.items()}

    with TierCache.from_env({"TIERCACHE_URL": "memory://", **environment}).sync as cache:
        assert cache.health().problem is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "6379"),
        ("PORT_6379", "6379"),
        ("HOST", "10.0.0.7"),
        ("SERVICE_PORT", "tcp"),
        ("SERVICE", "a"),
    ],
)
def test_what_only_resembles_a_variable_of_kubernetes_is_an_error(variable: str, value: str) -> None:
    with pytest.raises(SettingError, match=f"TIERCACHE_{variable} is not a setting"):
        TierCache.from_env({"TIERCACHE_URL": "memory://", f"TIERCACHE_{variable}": value})


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "redi://localhost:6379/0",
            "scheme must be one of redis, rediss, unix, memory, .*; did you mean 'redis'",
        ),
        ("localhost:6379", "scheme must be one of"),
        ("http://localhost:6379", "scheme must be one of"),
        ("", "scheme must be one of"),
        ("redis://localhost:port/0", "cannot read the URL"),
        ("redis://localhost:99999/0", "cannot read the URL"),
        ("redis://localhost:6379/shop", "/shop': the database must be a number"),
        ("redis://localhost:6379/0?colour=red", "a URL takes no colour"),
        ("redis://me:pa/ss@localhost:6379/0", "name, a password, .* are written %2F"),
        ("memory://shop", "write 'memory://' without more.*namespace="),
        ("memory", "write 'memory://' without more"),
        (6379, "must be text such as 'redis://"),
        (b"redis://localhost", "must be text such as 'redis://"),
    ],
)
def test_a_url_with_a_typo_is_refused_and_says_what_one_looks_like(url: Any, message: str) -> None:
    for make in (TierCache, configure):
        with pytest.raises(SettingError, match=message):
            make(url)


@pytest.mark.parametrize(
    "url",
    ["redi://me:secret@localhost", "redis://me:secret@localhost:port", "redis://me:sec/ret@localhost:1"],
)
def test_no_message_shows_a_password(url: str) -> None:
    with pytest.raises(SettingError) as caught:
        TierCache(url)
    assert "secret" not in str(caught.value)
    assert "sec/ret" not in str(caught.value)


def test_a_client_and_a_url_contradict_each_other() -> None:
    with redis.Redis() as client, pytest.raises(SettingError, match="a url or client=, not both"):
        TierCache("redis://localhost", client=client)


@pytest.mark.parametrize("client", ["redis://localhost", object(), 6379])
def test_a_client_that_is_none_is_refused(client: object) -> None:
    with pytest.raises(SettingError, match=r"takes a redis\.Redis, a redis\.asyncio\.Redis or a pool"):
        TierCache(client=client)


@pytest.mark.parametrize("ttl", ["5 m", "4m 60s", "4 m 60 s", "5m", " 5m ", "5  m"])
def test_a_duration_may_have_spaces_between_numbers_and_units(ttl: str) -> None:
    with TierCache("memory://", private=True, ttl=ttl).sync as cache:
        assert cache._cache._settings.ttl == 300


def plain(a: int, b: int = 0) -> int:
    return a + b


def generator(a: int) -> Iterator[int]:
    yield a


async def async_generator(a: int) -> AsyncIterator[int]:
    yield a


class Thing:
    pass


DECLARATIONS: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (plain, {"tll": 60}, SettingError, "no option 'tll'.*did you mean 'ttl'"),
    (plain, {"ttl": 0}, SettingError, "positive"),
    (plain, {"l1": False, "l2": False}, SettingError, "take the decorator away"),
    (
        plain,
        {"tags": ["user:{user_id}"]},
        ValueError,
        "'user:{user_id}'.*'user_id' is no parameter; there are 'a', 'b'",
    ),
    (plain, {"tags": ["a:{aa}"]}, ValueError, "did you mean 'a'"),
    (plain, {"tags": ["a:{}"]}, ValueError, "names no parameter"),
    (plain, {"tags": ["a:{a"]}, ValueError, "{parameter} for a field"),
    (plain, {"tags": ["a:{a.__class__}"]}, ValueError, "private attribute"),
    (plain, {"tags": [""]}, ValueError, "must not be empty"),
    (plain, {"tags": [1]}, TypeError, "a tag must be a str, not 1"),
    (plain, {"tags": b"users"}, TypeError, "tags must be a str or several"),
    (plain, {"tags": 7}, TypeError, "tags must be a str or several"),
    (plain, {"tags": lambda user_id: []}, ValueError, "requires 'user_id'"),
    (plain, {"key": "fixed"}, ValueError, "names no argument; write key='{a}'"),
    (plain, {"key": "{c}"}, ValueError, "'c' is no parameter"),
    (plain, {"key": 7}, TypeError, "callable or a template"),
    (plain, {"ignore": ["c"]}, ValueError, "'c' is no parameter of plain"),
    (plain, {"ignore": ["a"], "key": "{b}"}, ValueError, "ignore= or key="),
    (plain, {"version": True}, ValueError, "version must be a number or a short name"),
    (plain, {"version": "a b"}, ValueError, "version must be a number or a short name"),
    (generator, {}, TypeError, "generator.*return a list instead"),
    (async_generator, {}, TypeError, "generator.*return a list instead"),
    (Thing, {}, TypeError, "is a class; decorate a function"),
    (lambda a: a, {}, TypeError, "has no name.*write a def"),
    (str.upper, {}, TypeError, "str.upper is of no module.*write a def"),
]


@pytest.mark.parametrize(("function", "options", "kind", "message"), DECLARATIONS)
def test_a_wrong_declaration_is_refused_at_decoration(
    function: Any, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with TierCache("memory://", private=True).sync as cache:
        for decorate in (cached, cache._cache.cached):
            with pytest.raises(kind, match=message):
                decorate(**options)(function)


def test_where_to_is_a_cache() -> None:
    with TierCache("memory://", private=True).sync as view:
        for wrong in (view, "redis://localhost"):
            with pytest.raises(SettingError, match="cache= takes what TierCache"):
                cached(cache=wrong)  # type: ignore[call-overload]


@pytest.mark.parametrize("make", [TierCache.embedded, TierCache.from_env])
def test_who_finds_the_server_takes_no_url(make: Any) -> None:
    with pytest.raises(SettingError, match=r"TierCache\(url\) and configure\(url\)"):
        make(url="redis://localhost")


def test_an_option_given_by_position_is_refused_and_shown_by_name() -> None:
    with pytest.raises(TypeError, match=r"options are keywords: @cached\(ttl=60\)"):
        cached(60)  # type: ignore[call-overload]
