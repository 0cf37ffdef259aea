"""Where Redis is: what a URL or a client of the user's says, in both worlds, and what is refused."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fakeredis
import pytest
import redis
import redis.asyncio as redis_async
import redis.sentinel
import trustme

from tests.contract.commands import sync
from tests.contract.worlds import NAMES
from tests.servers import RedisServer, eventually, newest, oldest_supported
from tiercache import L2Unavailable, SettingError, TierCache
from tiercache._core.plan import Ask
from tiercache._core.scripts import Names
from tiercache._transport.address import Address
from tiercache._transport.awaiting import Awaiting
from tiercache._transport.blocking import Blocking
from tiercache._transport.breaker import Breaker
from tiercache.testing import Clock

SECRET = "s3cret"


def of_url(url: str) -> Address:
    return Address.of_url(url, 5.0)


def of_client(client: Any) -> Address:
    return Address.of_client(client, 5.0)


def answers(address: Address, names: Names = NAMES) -> bool:
    """Whether the server there answers both worlds."""
    blocking = Blocking(address, names, Breaker(), Clock(), pool_size=1)
    with closing(blocking):
        (first,) = blocking.perform(Ask((sync(),)))

    async def awaited() -> Any:
        awaiting = Awaiting(address, names, Breaker(), Clock(), pool_size=1)
        (second,) = await awaiting.perform(Ask((sync(),)))
        await awaiting.close()
        return second

    return bool(first.epoch == asyncio.run(awaited()).epoch)


# ---- URLs


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://", "redis://localhost:6379/0"),
        ("redis://cache", "redis://cache:6379/0"),
        ("redis://cache/", "redis://cache:6379/0"),
        ("redis://cache:1/2", "redis://cache:1/2"),
        ("redis://cache?db=3", "redis://cache:6379/3"),
        ("redis://user:s3cret@cache:1/2", "redis://cache:1/2"),
        ("rediss://cache", "rediss://cache:6379/0"),
        ("redis://[::1]:1/2", "redis://[::1]:1/2"),
        ("rediss://[2001:db8::1]", "rediss://[2001:db8::1]:6379/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
    ],
)
def test_a_url_says_where_the_server_is(url: str, shown: str) -> None:
    assert str(of_url(url)) == shown
    assert str(of_url(shown)) == shown


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redid://cache", "did you mean 'redis'"),
        ("http://cache", "scheme must be one of redis, rediss, unix, memory"),
        ("cache:6379", "scheme must be one of"),
        ("", "scheme must be one of"),
        ("redis:cache", "redis://"),
        ("redis://cache:port", "its port must be a number"),
        ("redis://cache:70000", "its port must be a number from 1 to 65535"),
        ("redis://cache:0", "its port must be a number from 1 to 65535"),
        ("redis://[::1", "IPv6"),
        ("unix://run/redis.sock", "third slash; write it as in unix:///run/redis.sock"),
        ("unix://user:word@run/redis.sock", "third slash"),
        ("redis://cache?db=-1", "db must be the number"),
        ("redis://cache?db=", "db must be the number"),
        ("unix:///run/redis.sock?db=-1", "db must be the number"),
        ("redis://cache/٣", "must be a number"),
        ("redis://cache?password=a&password=b", "password is given twice"),
        ("redis://cache?nosuch", "a URL takes no nosuch"),
        ("redis://cache?socket_keepalive=maybe", "socket_keepalive must be one of 1, t, true, y, yes, 0, f"),
        ("rediss://cache?ssl_check_hostname=off", "ssl_check_hostname must be one of"),
        ("redis://cache/zero", "must be a number, as in redis://host:6379/0"),
        ("redis://cache/-1", "must be a number"),
        ("redis://cache/0/1", "must be a number"),
        ("redis://cache?db=zero", "db must be the number"),
        ("redis://cache?nosuch=1", "nosuch"),
        ("redis://cache?ssl_ca_certs=ca.pem", "ssl_ca_certs"),
        ("rediss://cache?ssl_cert_reqs=perhaps", "perhaps"),
        ("unix:///run/redis.sock?nosuch=1", "nosuch"),
        ("redis://cache?credential_provider=x", "a URL takes no credential_provider"),
        ("redis://cache?connection_class=x", "a URL takes no connection_class"),
        ("redis:///0?port=x", "a URL takes no port"),
        ("redis://cache?socket_read_size=-1", "socket_read_size must be from 1024 to 67108864 bytes"),
        ("redis://cache?socket_read_size=1023", "from 1024"),
        ("redis://cache?socket_read_size=67108865", "from 1024"),
        ("redis://cache?socket_read_size=99999999999999999999", "from 1024"),
        ("redis://cache?socket_read_size=x", "from 1024"),
        ("redis://cache?client_name=a%20b", "client_name must be of printable ASCII, without spaces"),
        ("redis://cache?client_name=caf%C3%A9", "client_name must be of printable ASCII"),
        ("redis://cache?client_name=a%0Ab", "client_name has a control character"),
        ("redis://cache?password=a%00b", "password has a control character"),
        ("rediss://cache?ssl_certfile=a%00b", "ssl_certfile has a control character"),
        ("rediss://cache?ssl_ca_data=a%00b", "ssl_ca_data has a control character"),
        ("redis://cache/0?db=1", "db is said twice"),
        ("redis://shop@cache?username=shop", "username is said twice"),
        ("redis://:a@cache?password=b", "password is said twice"),
        ("unix://:a@/run/redis.sock?password=b", "password is said twice"),
        ("unix:///run/redis.sock?path=/run/other.sock", "a URL takes no path"),
        ("unix:///run/a%00b.sock", "the path of a socket must have no NUL"),
        (f"unix:///{'a' * 107}", "must have at most 10[37] bytes here, not 108"),
        ("redis://cache?ssl_check_hostname=false", "ssl_check_hostname needs rediss://"),
        ("unix:///run/redis.sock?ssl_cert_reqs=none", "ssl_cert_reqs needs rediss://"),
        ("rediss://cache?ssl_keyfile=key.pem", "it needs ssl_certfile, too"),
        ("rediss://cache?ssl_keyfile=key.pem&ssl_certfile=", "it needs ssl_certfile, too"),
        *(
            (f"rediss://cache?ssl_min_version={version}", r"must be 771 \(TLS 1.2\) or 772 \(TLS 1.3\), not")
            for version in ("5", "-2", "769", "TLSv1.3")
        ),
        ("rediss://cache?ssl_ciphers=none-such", "(?i)cipher"),
        ("rediss://cache?ssl_ca_data=x", "(?i)certificate|pem"),
    ],
)
def test_a_typo_anywhere_in_a_url_is_an_error_now_that_names_it(url: str, said: str) -> None:
    with pytest.raises(SettingError, match=said):
        of_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://cache?socket_read_size=1024&client_name=shop-1",
        "redis://cache?socket_read_size=67108864&client_name=",
        "redis://:word@cache?username=shop&db=1",
        "unix:///run/redis.sock?username=shop&password=word",
        "rediss://cache?ssl_min_version=771&ssl_certfile=c.pem&ssl_keyfile=k.pem",
        "rediss://cache?ssl_min_version=772",
    ],
)
def test_options_that_can_be_meant_are_taken(url: str) -> None:
    assert of_url(url)


def test_a_certificate_in_a_url_may_have_lines() -> None:
    pem = trustme.CA().cert_pem.bytes().decode()

    assert of_url(f"rediss://cache?ssl_ca_data={quote(pem, safe='')}")


@pytest.mark.parametrize(
    "url",
    [
        "redid://user:s3cret@cache",
        "redid://:s3cret@cache",
        "redis://user:s3cret@cache:port",
        "redis://user:s3cret@cache/zero",
        "redis://user:s3cret@cache?nosuch=1",
        "redis://user:s3cret@[::1",
        "redis://user:a@s3cret@cache/zero",
        "redis://user:s3cret/b@cache",
        "redis://user:a/s3cret@cache",
        "redis://user:a#s3cret@cache",
        "redis://user:a?s3cret@cache",
        "redis://user:s3cret?b@cache",
        "redis:user:s3cret@cache",
        "redis://us/er:s3cret@cache",
        "redis://us[er:s3cret@]cache",
        "redis://user:[s3cret]@cache",
        "redis://user:a@b/s3cret@cache",
        "redis://user:a?s3cret=1@cache",
        "redis://user:a?x=s3cret@cache",
        "unix://user:s3cret@",
        "unix:///run/redis.sock?password=s3cret&nosuch=1",
        "redis://cache?nosuch=1&password=s3cret",
        *(
            f"redis://cache?{name}=s3cret"
            for name in ("Password", "PASSWORD", "pass", "pwd", "auth", "token", "pass%77ord=a&nosuch")
        ),
        "redis://cache?password=s3cret@x",
        "redis://cache?password=x@s3cret",
        "rediss://cache?ssl_passphrase=s3cret",
        "redis://user:s3cret/0",
        "redis://:s3cret",
        "redis://cache/0;password=s3cret",
        "redis://cache/0#s3cret",
        "redis://:2024#s3cret@cache:6379/0",
        "redis://:2024?s3cret@cache:6379/0",
        "redis://user:2024?s3cret@cache:6379/0",
        "cache:6379,password=s3cret,ssl=True",
        "cache:6379:s3cret",
    ],
)
def test_no_error_tells_a_password(url: str) -> None:
    with pytest.raises(SettingError) as caught:
        of_url(url)

    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__


class Url:
    """As pydantic's RedisDsn: it shows its password to whoever asks."""

    def __repr__(self) -> str:
        return f"Url('redis://:{SECRET}@cache')"


@pytest.mark.parametrize(
    "url",
    [
        f"redis://:{SECRET}@cache".encode(),
        Url(),
        redis.Redis("cache", password=SECRET),
        redis.ConnectionPool(host="cache", password=SECRET),
        f"memory://:{SECRET}@cache",
    ],
    ids=lambda url: type(url).__name__,
)
def test_what_is_no_url_is_not_shown(url: Any) -> None:
    with pytest.raises(SettingError) as caught:
        TierCache(url)

    assert SECRET not in str(caught.value)
    assert isinstance(url, str) or f"not {type(url).__name__}" in str(caught.value)


@pytest.mark.parametrize("url", ["redis://user:s3cret@cache", "unix:///run/redis.sock?password=s3cret"])
def test_nothing_that_is_shown_tells_a_password(url: str) -> None:
    with TierCache(url, private=True, listen=False).sync as cache:
        assert SECRET not in f"{cache!r} {cache.stats()!r} {of_url(url)}"


def test_an_unavailable_server_s_error_tells_no_password(free_tcp_port: int) -> None:
    with (
        TierCache(f"redis://user:s3cret@127.0.0.1:{free_tcp_port}", private=True, listen=False).sync as cache,
        pytest.raises(L2Unavailable) as caught,
    ):
        cache.token()

    assert SECRET not in str(caught.value)


def test_a_refused_password_is_said_to_be_and_not_told(redis_server: RedisServer) -> None:
    with pytest.raises(L2Unavailable, match="invalid username-password") as caught:
        answers(of_url(f"redis://user:{SECRET}@127.0.0.1:{redis_server.port}/0"))

    assert SECRET not in str(caught.value)


def sole_reply(entrance: socket.socket, reply: bytes, heard: list[bytes]) -> None:
    """Give each connection one reply, and the end."""
    while True:
        try:
            client, _ = entrance.accept()
        except OSError:
            return
        with client:
            heard.append(client.recv(1 << 16))
            client.sendall(reply)


@pytest.mark.parametrize("binary", [newest(), oldest_supported()], ids=["newest", "oldest"])
def test_a_server_that_knows_no_auth_quotes_the_password_and_nobody_hears_it(
    binary: str, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(RedisServer(binary, extra=("--rename-command", "AUTH", ""))) as server:
        with TierCache(f"redis://shop:{SECRET}@127.0.0.1:{server.port}", private=True).sync as cache:
            with pytest.raises(L2Unavailable) as caught:
                cache.token()
            assert eventually(lambda: "AUTH" in caplog.text)
            told = f"{cache.health()} {caplog.text}"
        with pytest.raises(L2Unavailable):
            answers(of_url(f"redis://shop:{SECRET}@127.0.0.1:{server.port}"))

    assert SECRET not in told + "".join(traceback.format_exception(caught.value))
    assert "unknown command" in told


@pytest.mark.parametrize("awaited", [False, True], ids=["blocking", "awaiting"])
def test_the_password_is_struck_out_of_whatever_a_proxy_says(awaited: bool) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as entrance:
        said = f"-ERR no user '{SECRET}' of shop's here\r\n".encode()
        proxy = threading.Thread(target=sole_reply, args=(entrance, said, heard))
        proxy.start()
        address = of_url(f"redis://shop:{SECRET}@127.0.0.1:{entrance.getsockname()[1]}")
        with pytest.raises(redis.RedisError) as caught:
            asyncio.run(address.open_async()) if awaited else address.open()
        entrance.shutdown(socket.SHUT_RDWR)
        proxy.join()

    assert "no user '***' of shop's here" in str(caught.value)
    assert SECRET.encode() in heard[0]


@pytest.mark.parametrize("password", ["s/3?c#r@e:t%", "é 鍵"])
def test_a_password_of_any_characters_is_sent_as_it_is(redis_server: RedisServer, password: str) -> None:
    redis_server.cli("ACL", "SETUSER", "odd", "on", f">{password}", "~*", "&*", "+@all")
    try:
        assert answers(of_url(f"redis://odd:{quote(password, safe='')}@127.0.0.1:{redis_server.port}/0"))
    finally:
        redis_server.cli("ACL", "DELUSER", "odd")


def test_a_database_is_its_own_domain(redis_server: RedisServer) -> None:
    assert answers(of_url(redis_server.url(3)), Names("shop", 3))

    assert [redis_server.cli("EXISTS", NAMES.state), of_url(redis_server.url(3)).database] == [0, 3]


def test_a_unix_socket_is_spoken_to_in_both_worlds(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with closing(RedisServer(newest(), extra=("--unixsocket", str(path)))):
        assert answers(of_url(f"unix://{path}"))
        with redis.Redis(unix_socket_path=str(path)) as client:
            assert answers(of_client(client))


UNUSABLE: list[tuple[dict[str, Any], str]] = [
    ({"ssl_ca_certs": "/no/such.pem"}, "there is no '/no/such.pem', which ssl_ca_certs names"),
    ({"ssl_certfile": "/no/such.pem"}, "there is no '/no/such.pem', which ssl_certfile names"),
    ({"ssl_keyfile": __file__}, "TypeError"),
    ({"ssl_ca_data": 5}, "TypeError"),
    ({"ssl_certfile": "a\0b"}, "which ssl_certfile names"),
]


# After a TypeError, redis-py leaves its socket to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("awaited", [False, True], ids=["blocking", "awaiting"])
@pytest.mark.parametrize(("options", "said"), UNUSABLE)
def test_options_that_no_connection_can_be_made_with_are_redis_away(
    redis_server: RedisServer, options: dict[str, Any], said: str, awaited: bool
) -> None:
    client = redis.Redis(host="127.0.0.1", port=redis_server.port, ssl=True, **options)
    cache = TierCache(client=client, private=True, listen=False)

    async def read() -> Any:
        async with cache:
            return await cache.get_or_load("k", lambda: 1), await cache.health()

    def read_blocking() -> Any:
        with cache.sync as blocking:
            return blocking.get_or_load("k", lambda: 1), blocking.health()

    value, health = asyncio.run(read()) if awaited else read_blocking()

    gc.collect()
    assert value == 1
    assert health.problem is not None
    assert said in health.problem


# ---- clients


def clients(port: int) -> dict[str, Callable[[], Any]]:
    where: dict[str, Any] = {"host": "127.0.0.1", "port": port}
    return {
        "redis.Redis": lambda: redis.Redis(**where),
        "redis.Redis.from_url": lambda: redis.Redis.from_url(f"redis://127.0.0.1:{port}/0"),
        "decode_responses": lambda: redis.Redis(**where, decode_responses=True),
        "RESP3": lambda: redis.Redis(**where, protocol=3),
        "latin-1": lambda: redis.Redis(**where, encoding="latin-1"),
        "ConnectionPool": lambda: redis.ConnectionPool(**where),
        "BlockingConnectionPool": lambda: redis.BlockingConnectionPool(**where),
        "redis.asyncio.Redis": lambda: redis_async.Redis(**where),
        "redis.asyncio decode_responses": lambda: redis_async.Redis(**where, decode_responses=True),
        "redis.asyncio.ConnectionPool": lambda: redis_async.ConnectionPool(**where),
        "with every timeout": lambda: redis.Redis(
            **where, socket_timeout=1, socket_connect_timeout=1, health_check_interval=1
        ),
        "with a name": lambda: redis.Redis(**where, client_name="shop"),
    }


@pytest.mark.parametrize("kind", clients(0))
def test_a_client_of_either_world_serves_both(redis_server: RedisServer, kind: str) -> None:
    address = of_client(clients(redis_server.port)[kind]())

    assert str(address) == f"redis://127.0.0.1:{redis_server.port}/0"
    assert answers(address, Names("clé 鍵", 0))
    assert redis_server.cli("EXISTS", Names("clé 鍵", 0).state)


def test_a_client_says_which_server_database_and_user(redis_server: RedisServer) -> None:
    made = redis.Redis("cache", 1, db=2, username="user", password=SECRET)

    assert of_client(made).identity == of_url(f"redis://user:{SECRET}@cache:1/2").identity


def test_timeouts_and_retries_are_this_cache_s_own() -> None:
    made = redis.Redis("cache", socket_timeout=99, socket_connect_timeout=99)
    address = of_client(made)

    for connection in (address.connection(), address.async_connection()):
        assert (connection.socket_timeout, connection.socket_connect_timeout) == (5.0, 5.0)
        assert connection.retry.get_retries() == 0
    assert address.with_timeout(1.0).connection().socket_timeout == 1.0


@pytest.mark.parametrize("package", [redis, redis_async], ids=["blocking", "awaiting"])
def test_a_client_with_tls_serves_both_worlds(package: Any) -> None:
    address = of_client(package.Redis(host="cache", ssl=True, ssl_check_hostname=False, ssl_cert_reqs="none"))

    for connection in (address.connection(), address.async_connection()):
        assert type(connection).__name__ == "SSLConnection"


def test_an_option_that_one_world_lacks_is_refused_and_named() -> None:
    """Left out in silence, the other world would go without the check it asks for."""
    with pytest.raises(SettingError, match="ssl_validate_ocsp"):
        of_client(redis.Redis("cache", ssl=True, ssl_validate_ocsp=True))


class Pinned(redis.Connection):
    """As one that goes through a tunnel, or looks at the certificate once more."""


class PinnedAwaiting(redis_async.SSLConnection):
    pass


@pytest.mark.parametrize(
    "pool",
    [redis.ConnectionPool(Pinned), redis_async.ConnectionPool(PinnedAwaiting)],
    ids=["blocking", "awaiting"],
)
def test_a_connection_of_the_caller_s_own_is_refused_instead_of_left_out(pool: Any) -> None:
    with pytest.raises(SettingError, match=r"Pinned.*, which is not redis-py's own.* or a URL"):
        of_client(pool)


def test_a_sentinel_s_connection_of_the_caller_s_own_is_refused_instead_of_left_out() -> None:
    class Watched(redis.sentinel.SentinelManagedConnection):
        pass

    made = redis.sentinel.Sentinel([("a", 1)]).master_for("shop", connection_class=Watched)

    with pytest.raises(SettingError, match="Watched, which is not redis-py's own"):
        of_client(made)


@pytest.mark.parametrize("package", [redis, redis_async], ids=["blocking", "awaiting"])
def test_a_function_for_connections_of_one_world_is_refused(package: Any) -> None:
    """The connections of the other world would go without its AUTH and SELECT, to database 0."""
    made = package.Redis(db=5, redis_connect_func=lambda connection: connection.on_connect())

    with pytest.raises(SettingError, match=r"client= has redis_connect_func=.* credential_provider="):
        of_client(made)


def test_a_sentinel_s_client_with_a_function_for_connections_is_refused() -> None:
    made = redis.sentinel.Sentinel([("a", 1)], redis_connect_func=print).master_for("shop")

    with pytest.raises(SettingError, match="redis_connect_func"):
        of_client(made)


def test_a_credential_provider_is_asked_in_both_worlds(redis_server: RedisServer) -> None:
    redis_server.cli("ACL", "SETUSER", "odd", "on", f">{SECRET}", "~*", "&*", "+@all")
    try:
        provider = redis.UsernamePasswordCredentialProvider("odd", SECRET)
        assert answers(of_client(redis.Redis(port=redis_server.port, credential_provider=provider)))
    finally:
        redis_server.cli("ACL", "DELUSER", "odd")


@pytest.mark.parametrize(
    "made", [fakeredis.FakeRedis, fakeredis.FakeAsyncRedis], ids=["blocking", "awaiting"]
)
def test_a_fake_client_is_refused_instead_of_taken_for_localhost(made: Callable[[], Any]) -> None:
    with pytest.raises(SettingError, match="client="):
        of_client(made())


@pytest.mark.parametrize("what", [object(), "redis://cache", 6379, None])
def test_what_is_no_client_is_refused(what: object) -> None:
    with pytest.raises(SettingError, match=f"not {type(what).__name__}"):
        of_client(what)


# ---- handles of one node


@pytest.mark.parametrize(
    ("one", "other", "named"),
    [
        ("redis://cache", "rediss://cache", "scheme, ssl_"),
        ("rediss://cache?ssl_cert_reqs=none", "rediss://cache", "ssl_cert_reqs"),
        ("rediss://cache", "rediss://cache?ssl_check_hostname=false", "ssl_check_hostname"),
        ("rediss://cache", "rediss://cache?ssl_ca_certs=s3cret.pem", "ssl_ca_certs"),
        ("redis://shop:s3cret@cache", "redis://shop:s3cret2@cache", "password"),
        ("redis://cache", "redis://:s3cret@cache", "password"),
        ("unix:///run/s?password=s3cret", "unix:///run/s", "password"),
        ("redis+sentinel://a/shop", "rediss+sentinel://a/shop", "scheme"),
        ("redis+sentinel://:s3cret@a/shop", "redis+sentinel://a/shop", "password"),
        ("redis+sentinel://a/shop?sentinel_password=s3cret", "redis+sentinel://a/shop", "sentinels ask for"),
    ],
)
def test_a_handle_that_would_get_another_s_connections_is_refused(one: str, other: str, named: str) -> None:
    """Whoever asked for a check, or for a user's rights, would go without them, and not hear of it."""
    with TierCache(one, listen=False).sync, pytest.raises(SettingError, match=named) as caught:
        TierCache(other, listen=False)

    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("package", [redis, redis_async], ids=["blocking", "awaiting"])
def test_a_url_and_a_client_that_ask_for_the_same_are_one_node(package: Any) -> None:
    first = TierCache("rediss://shop:s3cret@cache?ssl_ca_certs=ca.pem", listen=False)
    made = package.Redis(
        host="cache", username="shop", password=SECRET, ssl=True, ssl_ca_certs="ca.pem", ssl_cert_reqs=2
    )

    with first.sync, TierCache(client=made, listen=False).sync as second:
        assert second._cache._node is first._node


def test_a_new_password_is_taken_when_the_last_handle_with_the_old_one_is_closed() -> None:
    old = TierCache("redis://shop:old@cache", listen=False)
    with pytest.raises(SettingError, match="or close the others first"):
        TierCache("redis://shop:new@cache", listen=False)
    old.sync.close()

    with TierCache("redis://shop:new@cache", listen=False).sync as new:
        assert new._cache._node.address is not None
        assert new._cache._node.address.kwargs["password"] == "new"


# ---- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, its key, and who signed it, in one file."""
    authority, made = trustme.CA(), tmp_path_factory.mktemp("tls") / "certificate.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(made)
    authority.cert_pem.write_to_path(made, append=True)
    return made


@pytest.fixture
def tls_port(certificate: Path, redis_server: RedisServer) -> Iterator[int]:
    """Of an end of TLS in front of the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as entrance:

        def accept() -> None:
            while True:
                try:
                    plain, _ = entrance.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=_serve, args=(context, plain, redis_server.port)))
                threads[-1].start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        yield entrance.getsockname()[1]
        entrance.shutdown(socket.SHUT_RDWR)
        acceptor.join()
        for thread in threads:
            thread.join()


def _serve(context: ssl.SSLContext, plain: socket.socket, port: int) -> None:
    """One request, one reply, in turn: enough for a client that does not pipeline beyond its replies."""
    with plain, socket.create_connection(("127.0.0.1", port)) as server:
        try:
            with context.wrap_socket(plain, server_side=True) as client:
                while data := client.recv(1 << 20):
                    server.sendall(data)
                    client.sendall(server.recv(1 << 20))
        except (ssl.SSLError, OSError):
            return  # a client that does not trust us


def test_a_server_behind_tls_is_spoken_to_in_both_worlds(tls_port: int, certificate: Path) -> None:
    assert answers(of_url(f"rediss://localhost:{tls_port}/0?ssl_ca_certs={certificate}"))


def test_a_client_with_tls_is_spoken_for_in_both_worlds(tls_port: int, certificate: Path) -> None:
    with redis.Redis("localhost", tls_port, ssl=True, ssl_ca_certs=str(certificate)) as client:
        assert answers(of_client(client))


def test_a_certificate_of_nobody_is_not_trusted(tls_port: int) -> None:
    with pytest.raises(L2Unavailable, match=r"(?i)certificate"):
        answers(of_url(f"rediss://localhost:{tls_port}/0"))
