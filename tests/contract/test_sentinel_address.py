"""A URL or a client that leads to a primary through Sentinel: what it says, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import redis.asyncio.sentinel
import redis.sentinel

from tiercache import SettingError, TierCache
from tiercache._transport.address import Address
from tiercache._transport.sentinel import SentinelAddress

SECRET = "s3cret"
WORLDS = [redis.sentinel.Sentinel, redis.asyncio.sentinel.Sentinel]
worlds = pytest.mark.parametrize("sentinel_class", WORLDS, ids=["blocking", "awaiting"])


def of_url(url: str) -> SentinelAddress:
    address = Address.of_url(url, 5.0)
    assert isinstance(address, SentinelAddress)
    return address


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+sentinel://a/shop", "redis+sentinel://a:26379/shop/0"),
        ("redis+sentinel://a:1,b,c:3/shop/2", "redis+sentinel://a:1,b:26379,c:3/shop/2"),
        ("redis+sentinel://a/shop/", "redis+sentinel://a:26379/shop/0"),
        ("redis+sentinel://a/shop?db=3", "redis+sentinel://a:26379/shop/3"),
        ("rediss+sentinel://a/shop", "rediss+sentinel://a:26379/shop/0"),
        ("redis+sentinel://user:s3cret@a/shop", "redis+sentinel://a:26379/shop/0"),
        ("redis+sentinel://:s3cret@a/shop", "redis+sentinel://a:26379/shop/0"),
        ("redis+sentinel://[::1]:1,[fe80::2]/shop", "redis+sentinel://[::1]:1,[fe80::2]:26379/shop/0"),
        ("redis+sentinel://a/my%20shop%2F1", "redis+sentinel://a:26379/my%20shop%2F1/0"),
    ],
)
def test_a_url_says_which_sentinels_which_service_and_which_database(url: str, shown: str) -> None:
    assert str(of_url(url)) == shown


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis+sentinel://", "is not the host, or host:port, of a sentinel"),
        ("redis+sentinel:a/shop", "is not the host"),
        ("redis+sentinel:///shop", "is not the host"),
        ("redis+sentinel://a,,b/shop", "'' is not the host"),
        ("redis+sentinel://a,/shop", "'' is not the host"),
        ("redis+sentinel://a, b/shop", "' b' is not the host"),
        ("redis+sentinel://a;b/shop", "'a;b' is not the host"),
        ("redis+sentinel://a:port/shop", r"'a:\*\*\*' is not the host"),
        ("redis+sentinel://a:0/shop", "'a:0' is not the host"),
        ("redis+sentinel://a:70000/shop", "'a:70000' is not the host"),
        ("redis+sentinel://::1/shop", "'::1' is not the host"),
        ("redis+sentinel://[nonsense]/shop", "nonsense"),
        ("redis+sentinel://a", "names no service"),
        ("redis+sentinel://a/", "names no service"),
        ("redis+sentinel://a//0", "names no service"),
        ("redis+sentinel://a/shop/zero", "must be a number, not 'zero'"),
        ("redis+sentinel://a/shop/-1", "must be a number"),
        ("redis+sentinel://a/shop/0/1", "no more than the service and the database"),
        ("redis+sentinel://a/shop#0", "%23"),
        ("redis+sentinel://a/shop?db=zero", "db must be the number"),
        ("redis+sentinel://a/shop?db=-1", "db must be the number"),
        ("redis+sentinel://a/shop/0?db=1", "db is said twice"),
        ("redis+sentinel://me@a/shop?username=me", "username is said twice"),
        ("redis+sentinel://a/sh%0Aop", "the name of the service has a control character"),
        ("redis+sentinel://a/shop?sentinel_password=a%00b", "sentinel_password has a control character"),
        ("redis+sentinel://a/shop?client_name=a%20b", "client_name must be"),
        ("redis+sentinel://a/shop?socket_read_size=0", "socket_read_size must be"),
        ("redis+sentinel://a/shop?ssl_check_hostname=no", "needs rediss"),
        ("rediss+sentinel://a/shop?ssl_keyfile=k.pem", "needs ssl_certfile"),
        (
            "redis+sentinel://a/shop?sentinel_password=a&sentinel_password=b",
            "sentinel_password is given twice",
        ),
        ("rediss+sentinel://a/shop?ssl_check_hostname=off", "ssl_check_hostname must be one of"),
        ("redis+sentinel://a/shop?nosuch=1", "nosuch"),
        ("redis+sentinel://a/shop?sentinel_pasword=1", "did you mean 'sentinel_password'"),
        ("redis+sentinel://a/shop?ssl_ca_certs=ca.pem", "ssl_ca_certs"),
        ("rediss+sentinel://a/shop?ssl_cert_reqs=perhaps", "perhaps"),
        ("sentinel://a/shop", "redis.sentinel"),
        ("redis+sentinal://a/shop", "did you mean 'redis.sentinel'"),
    ],
)
def test_a_typo_anywhere_in_a_url_is_an_error_now_that_names_it(url: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        of_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://user:s3cret@a",
        "redis+sentinel://user:s3cret@a:port/shop",
        "redis+sentinel://user:s3cret@a/shop/zero",
        "redis+sentinel://user:s3cret/b@a/shop",
        "redis+sentinel://user:a/s3cret@a/shop",
        "redis+sentinel://user:a#s3cret@a/shop",
        "redis+sentinel://user:s3cret?b@a/shop",
        "redis+sentinel://user:a@s3cret@a/shop/zero",
        "redis+sentinel://user:[s3cret@a/shop/zero",
        "redis+sentinel://user:s3cret\u2100@a/shop/zero",
        "redis+sentinel:user:s3cret@a/shop",
        "redis+sentinel://a/shop?password=s3cret&nosuch=1",
        "redis+sentinel://a/shop?sentinel_password=s3cret&nosuch=1",
        "redis+sentinel://a/shop?sentinel_pasword=s3cret",
        "redis+sentinel://a/shop?sentinel_pwd=s3cret",
        "redis+sentinel://:s3cret/shop/0",
        "redis+sentinel://user:s3cret/shop/0",
        "redis+sentinel://a,user:s3cret/shop/0",
        "redis+sentinel://user:a@a/shop?password=x@s3cret",
    ],
)
def test_no_error_tells_a_password(url: str) -> None:
    with pytest.raises(SettingError) as caught:
        of_url(url)

    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__


def test_nothing_that_is_shown_tells_a_password() -> None:
    url = f"redis+sentinel://user:{SECRET}@a/shop?sentinel_username=watch&sentinel_password={SECRET}"

    with TierCache(url, private=True, listen=False).sync as cache:
        assert SECRET not in f"{cache!r} {cache.stats()!r} {of_url(url)} {of_url(url)!r}"


def test_the_sentinels_and_the_servers_each_get_their_own_password() -> None:
    address = of_url(
        "redis+sentinel://us%40er:pa%2Fss@a,b/shop?sentinel_username=wat%26ch&sentinel_password=wo%2Brd"
    )

    assert (address.kwargs["username"], address.kwargs["password"]) == ("us@er", "pa/ss")
    for sentinel in address._sentinels:
        assert (sentinel.kwargs["username"], sentinel.kwargs["password"]) == ("wat&ch", "wo+rd")


def test_without_passwords_of_their_own_the_sentinels_get_none() -> None:
    address = of_url(f"redis+sentinel://user:{SECRET}@a/shop/3?client_name=shop")

    assert set(address._sentinels[0].kwargs) == {"host", "port"}


def test_tls_is_for_the_sentinels_and_the_servers_alike() -> None:
    address = of_url("rediss+sentinel://a/shop?ssl_check_hostname=false")

    for each in (address, *address._sentinels):
        for connection in (each.connection(), each.async_connection()):
            assert type(connection).__name__ == "SSLConnection"
        assert each.kwargs["ssl_check_hostname"] is False


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("redis+sentinel://b:2,a/shop/1", True),
        ("redis+sentinel://a:26379,b:2/shop?db=1", True),
        ("redis+sentinel://user@a,b:2/shop/1", False),
        ("redis+sentinel://a,b:2/shop/2", False),
        ("redis+sentinel://a,b:2/other/1", False),
        ("redis+sentinel://a,b:3/shop/1", False),
        ("redis+sentinel://a/shop/1", False),
    ],
)
def test_handles_with_the_same_sentinels_in_any_order_are_one_node(other: str, same: bool) -> None:
    first = TierCache("redis+sentinel://a,b:2/shop/1", listen=False)
    second = TierCache(other, listen=False)

    with first.sync, second.sync:
        assert (first._node is second._node) == same


def test_the_variable_for_the_url_takes_it() -> None:
    with TierCache.from_env({"TIERCACHE_URL": "redis+sentinel://a,b/shop/1"}, listen=False).sync as cache:
        assert "redis+sentinel://a:26379,b:26379/shop/1" in repr(cache)


def test_the_timeout_of_one_round_trip_holds_for_sentinels_and_servers() -> None:
    address = of_url("redis+sentinel://a/shop").with_timeout(1.0)

    for each in (address.connection(), address.async_connection()):
        assert (each.socket_timeout, each.socket_connect_timeout) == (1.0, 1.0)


# ---- clients


@worlds
def test_a_client_of_either_world_says_which_sentinels_service_database_and_user(sentinel_class: Any) -> None:
    made = sentinel_class(
        [("a", 1), ("b", 2)], sentinel_kwargs={"password": "word"}, db=2, username="user", password=SECRET
    ).master_for("shop")

    address = Address.of_client(made, 5.0)

    assert isinstance(address, SentinelAddress)
    assert address.identity == of_url("redis+sentinel://user@b:2,a:1/shop/2").identity
    assert address.kwargs["password"] == SECRET
    assert [sentinel.kwargs["password"] for sentinel in address._sentinels] == ["word", "word"]


@worlds
def test_a_client_with_tls_has_it_where_it_says(sentinel_class: Any) -> None:
    made = sentinel_class([("a", 1)], sentinel_kwargs={"ssl": False}, ssl=True).master_for("shop")

    address = Address.of_client(made, 5.0)

    assert isinstance(address, SentinelAddress)
    assert type(address.connection()).__name__ == type(address.async_connection()).__name__ == "SSLConnection"
    assert type(address._sentinels[0].connection()).__name__ == "Connection"


@worlds
@pytest.mark.parametrize(
    ("options", "of", "said"),
    [
        ({}, "slave_for", "use master_for"),
        ({"min_other_sentinels": 1}, "master_for", "pass the URL instead"),
        ({"force_master_ip": "10.0.0.1"}, "master_for", "pass the URL instead"),
    ],
)
def test_a_client_that_asks_for_what_is_not_done_is_refused(
    sentinel_class: Any, options: dict[str, Any], of: str, said: str
) -> None:
    made = getattr(sentinel_class([("a", 1)], **options), of)("shop")

    with pytest.raises(SettingError, match=said):
        Address.of_client(made, 5.0)
