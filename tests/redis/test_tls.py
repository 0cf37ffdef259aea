"""Redis behind TLS: all three kinds of connection speak it, and none is talked into trusting a stranger."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.redis.test_acl import printed_rule
from tests.servers import RedisServer, eventually
from tests.tls import Authority, Front, Pair, Spoken, with_tls
from tests.world import World
from tiercache import TierCache
from tiercache._transport.address import Address
from tiercache._transport.subscription import Subscription

Serve = Callable[..., Any]
SERVERS = ["in front", *(["of its own"] if with_tls() else [])]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(params=SERVERS)
def serve(
    request: pytest.FixtureRequest, redis_server: RedisServer, authority: Authority, free_tcp_port: int
) -> Iterator[Serve]:
    """Starts an end of TLS with a certificate, which asks its clients for theirs if told so."""
    with ExitStack() as started:

        def start(pair: Pair, *, ask_clients: bool = False) -> Any:
            if request.param == "in front":
                made: Any = Front(redis_server, pair, clients_of=authority if ask_clients else None)
            else:
                made = Spoken(pair, port=free_tcp_port, clients_of=authority, ask_clients=ask_clients)
            return started.enter_context(closing(made))

        yield start


def url_of(end: Any, *, user: str = "", scheme: str = "rediss", **options: object) -> str:
    return f"{scheme}://{user}localhost:{end.port}/0?{urlencode(options)}"


def works(world: World, new_node: Callable[..., TierCache], url: str) -> None:
    """Whether two nodes there share entries and hear each other, in this world."""
    nodes = [new_node(url, namespace="shop", max_staleness=60, timeout=10) for _ in range(2)]
    one, other = map(world.view, nodes)

    async def load() -> int:
        return 7

    async def body() -> None:
        assert await one.get_or_load("k", load, tags=["t"]) == 7
        assert await other.get("k") == 7
        await world.until(lambda: all(node._node.is_listening() for node in nodes))
        await other.get("k")
        await one.invalidate_tags("t")
        await world.until(lambda: "k" not in nodes[1]._node.tiers.core.l1.entries)
        assert (await one.health()).problem is None

    world.run(body())


def is_gone_without(
    world: World, new_node: Callable[..., TierCache], url: str, caplog: pytest.LogCaptureFixture, said: str
) -> None:
    """Whether functions are called there as if there were no cache, and health, and the log, say why."""
    node = new_node(url, namespace="shop", timeout=2.0)
    cache, runs = world.view(node), []

    async def load() -> int:
        runs.append(1)
        return len(runs)

    async def body() -> None:
        assert [await cache.get_or_load("k", load) for _ in range(3)] == [1, 2, 3]
        health = await cache.health()
        assert re.search(said, str(health.problem)), health.problem
        assert health.mode == "without cache"

    with caplog.at_level(logging.WARNING):
        world.run(body())
        assert eventually(lambda: [each for each in caplog.records if re.search(said, each.message)])
    assert not node._node.is_listening()


@pytest.mark.on_each_loop
def test_both_worlds_and_the_listener_speak_tls(
    world: World, serve: Serve, new_node: Callable[..., TierCache], authority: Authority
) -> None:
    end = serve(authority.issue("localhost"))

    works(world, new_node, url_of(end, ssl_ca_certs=authority.root))
    assert end.accepted >= 4, "two subscriptions, two connections for the syncs, and those of the callers"


@pytest.mark.on_each_loop
def test_a_value_of_many_records_comes_whole_through_tls(
    world: World, serve: Serve, new_node: Callable[..., TierCache], authority: Authority
) -> None:
    end = serve(authority.issue("localhost"))
    url = url_of(end, ssl_ca_certs=authority.root)
    one, other = (world.view(new_node(url, namespace="shop", timeout=10)) for _ in range(2))
    value = "".join(map(str, range(200_000)))

    async def body() -> None:
        await one.set("k", value)
        assert await other.get("k") == value

    world.run(body())


def test_no_event_loop_makes_a_context_and_connections_of_all_loops_share_one(
    serve: Serve, authority: Authority
) -> None:
    """To read the system's authorities takes 65 ms, in which no task goes on; a burst opens 16 at once."""
    end = serve(authority.issue("localhost"))
    address = Address.of_url(url_of(end, ssl_ca_certs=authority.root), 10)
    called: set[str] = set()

    async def contexts() -> list[Any]:
        each = [address.open_async(), address.open_async(), address.with_timeout(5).open_async()]
        connections = await asyncio.gather(*each)
        for connection in connections:
            await connection.disconnect()
        return [connection.ssl_context.get() for connection in connections]

    sys.setprofile(lambda frame, event, arg: called.add(frame.f_code.co_name))
    try:
        made = asyncio.run(contexts()) + asyncio.run(contexts())
    finally:
        sys.setprofile(None)

    assert len(set(map(id, made))) == 1
    assert "lend" in called
    assert "create_default_context" not in called


def test_a_certificate_that_is_renewed_in_its_place_is_shown_by_the_next_connection(
    serve: Serve, authority: Authority
) -> None:
    end = serve(authority.issue("localhost"), ask_clients=True)
    old, new = authority.issue("shop"), authority.issue("shop")
    options = {"ssl_ca_certs": authority.root, "ssl_certfile": old.certificate, "ssl_keyfile": old.key}
    address = Address.of_url(url_of(end, **options), 10)

    async def context() -> Any:
        connection = await address.open_async()
        await connection.disconnect()
        return connection.ssl_context.get()

    before = asyncio.run(context())
    new.certificate.replace(old.certificate)
    new.key.replace(old.key)

    assert asyncio.run(context()) is not before


def test_a_subscription_that_has_no_time_to_wait_hears_nothing_and_is_kept(
    serve: Serve, authority: Authority
) -> None:
    end = serve(authority.issue("localhost"))
    address = Address.of_url(url_of(end, ssl_ca_certs=authority.root), 10)
    with closing(Subscription(address, "channel")) as subscription:
        assert subscription.hear(10) == [b"subscribe", b"channel", 1]
        assert subscription.hear(0.0) is None


def test_a_user_with_the_least_rights_and_a_password_of_any_characters_is_let_in_by_tls(
    world: World, serve: Serve, new_node: Callable[..., TierCache], authority: Authority
) -> None:
    end = serve(authority.issue("localhost"))
    end.server.cli("ACL", "SETUSER", "shop", "reset", *printed_rule(), "resetpass", ">s/e?c#r@e:t")
    try:
        works(
            world,
            new_node,
            url_of(end, user="shop:s%2Fe%3Fc%23r%40e%3At@", ssl_ca_certs=authority.root),
        )
    finally:
        end.server.cli("ACL", "DELUSER", "shop")


@pytest.mark.on_each_loop
def test_a_certificate_of_somebody_else_is_not_trusted_and_the_application_goes_on(
    world: World,
    serve: Serve,
    new_node: Callable[..., TierCache],
    authority: Authority,
    stranger: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    end = serve(stranger.issue("localhost"))

    url = url_of(end, ssl_ca_certs=authority.root)
    is_gone_without(world, new_node, url, caplog, "certificate verify failed")


def test_without_a_word_on_whom_to_trust_only_the_system_s_authorities_are(
    world: World,
    serve: Serve,
    new_node: Callable[..., TierCache],
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    end = serve(authority.issue("localhost"))

    is_gone_without(world, new_node, url_of(end), caplog, "certificate verify failed")


def test_a_certificate_for_another_host_is_not_trusted(
    world: World,
    serve: Serve,
    new_node: Callable[..., TierCache],
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    end = serve(authority.issue("elsewhere.example"))

    is_gone_without(
        world, new_node, url_of(end, ssl_ca_certs=authority.root), caplog, "Hostname mismatch.*'localhost'"
    )


def test_a_certificate_for_another_host_is_taken_where_the_url_says_so(
    world: World, serve: Serve, new_node: Callable[..., TierCache], authority: Authority
) -> None:
    end = serve(authority.issue("elsewhere.example"))

    works(world, new_node, url_of(end, ssl_ca_certs=authority.root, ssl_check_hostname="false"))


def test_a_certificate_that_has_expired_is_not_trusted(
    world: World,
    serve: Serve,
    new_node: Callable[..., TierCache],
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    end = serve(authority.issue("localhost", not_after=datetime.now(UTC) - timedelta(days=1)))

    is_gone_without(
        world, new_node, url_of(end, ssl_ca_certs=authority.root), caplog, "certificate has expired"
    )


def test_a_certificate_of_the_client_s_is_shown_by_all_its_connections(
    world: World, serve: Serve, new_node: Callable[..., TierCache], authority: Authority
) -> None:
    end, mine = serve(authority.issue("localhost"), ask_clients=True), authority.issue("shop")

    url = url_of(end, ssl_ca_certs=authority.root, ssl_certfile=mine.certificate, ssl_keyfile=mine.key)
    works(world, new_node, url)


@pytest.mark.parametrize("whose", ["nobody's", "a stranger's"])
def test_a_client_without_a_certificate_that_is_asked_for_goes_without_the_cache(
    world: World,
    serve: Serve,
    new_node: Callable[..., TierCache],
    authority: Authority,
    stranger: Authority,
    caplog: pytest.LogCaptureFixture,
    whose: str,
) -> None:
    end, options = serve(authority.issue("localhost"), ask_clients=True), {"ssl_ca_certs": authority.root}
    if whose == "a stranger's":
        mine = stranger.issue("shop")
        options |= {"ssl_certfile": mine.certificate, "ssl_keyfile": mine.key}

    is_gone_without(world, new_node, url_of(end, **options), caplog, "(?i)ssl|alert|closed|reset")


def test_the_oldest_version_of_tls_in_the_url_holds_for_all_connections(
    world: World,
    new_node: Callable[..., TierCache],
    redis_server: RedisServer,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with closing(Front(redis_server, authority.issue("localhost"))) as end:
        end.context.maximum_version = ssl.TLSVersion.TLSv1_2
        works(world, new_node, url_of(end, ssl_ca_certs=authority.root))

        newer = int(ssl.TLSVersion.TLSv1_3)
        url = url_of(end, ssl_ca_certs=authority.root, ssl_min_version=newer)
        is_gone_without(world, new_node, url, caplog, "(?i)ssl")


@pytest.mark.parametrize("missing", ["ssl_ca_certs", "ssl_certfile"])
def test_a_file_that_is_not_there_is_named(
    world: World,
    serve: Serve,
    new_node: Callable[..., TierCache],
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    missing: str,
) -> None:
    end = serve(authority.issue("localhost"))

    url = url_of(end, **{"ssl_ca_certs": authority.root, missing: tmp_path / "nowhere.pem"})
    is_gone_without(world, new_node, url, caplog, f"no '.*nowhere.pem', which {missing} names")


def test_plain_words_to_an_end_of_tls_are_gone_without(
    world: World,
    serve: Serve,
    new_node: Callable[..., TierCache],
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    end = serve(authority.issue("localhost"))

    is_gone_without(world, new_node, url_of(end, scheme="redis"), caplog, "(?i)clos|reset|protocol")


def test_tls_to_a_server_that_speaks_plainly_is_gone_without(
    world: World,
    new_node: Callable[..., TierCache],
    redis_server: RedisServer,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = url_of(redis_server, ssl_ca_certs=authority.root)
    is_gone_without(world, new_node, url, caplog, "Timeout connecting")


@pytest.mark.on_each_loop
def test_a_server_whose_certificate_is_mended_is_used_again(
    world: World,
    new_node: Callable[..., TierCache],
    redis_server: RedisServer,
    authority: Authority,
    stranger: Authority,
) -> None:
    with closing(Front(redis_server, stranger.issue("localhost"))) as end:
        node = new_node(url_of(end, ssl_ca_certs=authority.root), namespace="shop")
        cache = world.view(node)

        async def body() -> None:
            assert (await cache.health()).problem
            good = authority.issue("localhost")
            end.context.load_cert_chain(good.certificate, good.key)

            async def is_well() -> bool:
                return (await cache.health()).mode == "two tiers"

            await world.until(is_well)
            await world.until(node._node.is_listening)

        world.run(body())
