"""Tokens from request to request: two processes on a real server, and each rule of the middleware."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import copy_context
from typing import Any

import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tests.peers import Peer
from tests.servers import RedisServer
from tests.source import Source
from tiercache import SettingError, TierCache, Token, cached, default_cache
from tiercache._core.collect import note
from tiercache.causal import CausalTokens, WSGICausalTokens

NewNode = Callable[..., TierCache]
LONG = 60.0  # a `max_staleness` within which no test ends: what another process has is served


# ---- two processes: each answers requests to one application, in its own way


@cached(tags=["things"])
def thing(folder: str) -> int:
    return Source(folder).load()


async def read_thing(request: Request) -> Response:
    folder = request.query_params["folder"]
    return PlainTextResponse(str(await anyio.to_thread.run_sync(thing, folder)))


async def write_thing(request: Request) -> Response:
    version = int(request.query_params["version"])
    Source(request.query_params["folder"]).commit(version)
    await default_cache().invalidate_tags("things")
    return PlainTextResponse("written")


def asgi(with_tokens: bool) -> Any:
    routes = [Route("/read", read_thing), Route("/write", write_thing, methods=["POST"])]
    return Starlette(routes=routes, middleware=[Middleware(CausalTokens)] if with_tokens else [])


def wsgi(with_tokens: bool) -> Any:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        params = httpx.QueryParams(environ["QUERY_STRING"])
        if environ["PATH_INFO"] == "/write":
            Source(params["folder"]).commit(int(params["version"]))
            default_cache().sync.invalidate_tags("things")
            body = b"written"
        else:
            body = str(thing(params["folder"])).encode()
        start_response("200 OK", [("content-type", "text/plain")])
        return [body]

    return WSGICausalTokens(application) if with_tokens else application


Answer = tuple[str, list[tuple[str, str]]]


def answer(
    kind: str, with_tokens: bool, method: str, path: str, sent: dict[str, str], **params: Any
) -> Answer:
    """What this process answers: the body, and the headers."""

    async def asynchronously() -> httpx.Response:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(asgi(with_tokens)), base_url="http://shop"
        ) as client:
            return await client.request(method, path, headers=sent, params=params)

    if kind == "asgi":
        response = asyncio.run(asynchronously())
    else:
        transport = httpx.WSGITransport(wsgi(with_tokens))
        with httpx.Client(transport=transport, base_url="http://shop") as client:
            response = client.request(method, path, headers=sent, params=params)
    assert response.status_code == 200
    return response.text, response.headers.multi_items()


class Browser:
    """Keeps what servers tell it to keep; each request goes to the process it is given."""

    def __init__(self, kind: str, with_tokens: bool = True) -> None:
        self._how = (kind, with_tokens)
        self._cookies: dict[str, str] = {}

    def ask(self, peer: Peer, method: str, path: str, **params: Any) -> str:
        cookies = {"cookie": "; ".join(f"{k}={v}" for k, v in self._cookies.items())} if self._cookies else {}
        text, headers = peer.call(answer, *self._how, method, path, cookies, **params)
        for name, value in headers:
            if name == "set-cookie":
                key, _, kept = value.partition(";")[0].partition("=")
                self._cookies[key] = kept
        return text


@pytest.fixture
def peers(redis_server: RedisServer) -> Iterator[tuple[Peer, Peer]]:
    """Two processes that hear nothing of each other for a minute, but by a sync."""
    settings: dict[str, Any] = {"max_staleness": LONG, "listen": False}
    with Peer(redis_server.url(), **settings) as one, Peer(redis_server.url(), **settings) as other:
        yield one, other


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_a_request_sees_what_the_one_before_it_wrote_in_another_process(
    peers: tuple[Peer, Peer], source: Source, kind: str
) -> None:
    here, there = peers
    browser = Browser(kind)
    for version in range(1, 6):
        assert browser.ask(there, "GET", "/read", folder=source.folder) == str(version - 1)
        browser.ask(here, "POST", "/write", folder=source.folder, version=version)
        assert browser.ask(there, "GET", "/read", folder=source.folder) == str(version)
        here, there = there, here


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_without_the_token_it_would_not(peers: tuple[Peer, Peer], source: Source, kind: str) -> None:
    """What the test above would see if the middleware did nothing."""
    here, there = peers
    browser = Browser(kind, with_tokens=False)
    assert browser.ask(there, "GET", "/read", folder=source.folder) == "0"
    browser.ask(here, "POST", "/write", folder=source.folder, version=1)
    assert browser.ask(there, "GET", "/read", folder=source.folder) == "0"


def test_another_user_costs_and_gets_nothing(peers: tuple[Peer, Peer], source: Source) -> None:
    here, there = peers
    writer, reader = Browser("asgi"), Browser("asgi")
    assert reader.ask(there, "GET", "/read", folder=source.folder) == "0"
    writer.ask(here, "POST", "/write", folder=source.folder, version=1)
    assert reader.ask(there, "GET", "/read", folder=source.folder) == "0"
    assert writer.ask(there, "GET", "/read", folder=source.folder) == "1"


# ---- one process: what a request brings, and what its response bears


@pytest.fixture
def cache(redis_server: RedisServer, new_node: NewNode) -> TierCache:
    return new_node(redis_server.url(), max_staleness=LONG, listen=False)


class Client:
    def __init__(self, app: Any) -> None:
        self._app = app

    def get(self, path: str, headers: Any = None) -> httpx.Response:
        return asyncio.run(self._get(path, headers))

    async def _get(self, path: str, headers: Any) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.get(path, headers=headers)


def client_of(
    cache: TierCache, endpoint: Callable[[Request], Any], *others: Middleware, **options: Any
) -> Client:
    middleware = [Middleware(CausalTokens, cache=cache, **options), *others]
    return Client(Starlette(routes=[Route("/", endpoint)], middleware=middleware))


def syncs(cache: TierCache) -> int:
    return cache.stats().events["syncs"]


async def nothing(request: Request) -> Response:
    return PlainTextResponse("")


def token_in(response: httpx.Response) -> Token:
    token = Token.parse(response.headers["X-Tiercache-Token"])
    (cookie,) = response.headers.get_list("set-cookie")
    assert cookie.startswith(f"tiercache={token};")
    return token


def test_a_response_of_a_request_that_wrote_nothing_bears_nothing(cache: TierCache) -> None:
    response = client_of(cache, nothing).get("/")
    assert "set-cookie" not in response.headers
    assert "x-tiercache-token" not in response.headers


def test_the_response_bears_the_newest_record_of_its_request(cache: TierCache) -> None:
    tokens: list[Token | None] = []

    async def write(request: Request) -> Response:
        async def later() -> None:
            tokens.append((await cache.set("a", 1)).token)

        def on_a_thread() -> None:
            tokens.append(cache.sync.set_many({"b": 1, "c": 2}).token)

        tokens.append((await cache.invalidate_tags("t")).token)
        await asyncio.gather(later(), asyncio.to_thread(on_a_thread), anyio.to_thread.run_sync(on_a_thread))
        return PlainTextResponse("")

    response = client_of(cache, write).get("/")

    assert len(tokens) == 4
    assert token_in(response) == max(token for token in tokens if token is not None)


def test_every_verb_that_makes_a_record_is_noted(cache: TierCache) -> None:
    @cache.cached
    def answer() -> int:
        return 42

    writes: list[Callable[[], Any]] = [
        lambda: cache.sync.delete("k"),
        lambda: cache.sync.delete_many(["k", "l"]),
        lambda: cache.sync.invalidate_tags("t"),
        lambda: cache.sync.clear(),
        lambda: cache.sync.set("k", 1),
        lambda: cache.sync.set_many({"k": 1}),
        answer.invalidate,
        answer.invalidate_all,
    ]
    for write in writes:
        with cache.collect_token() as collected:
            written = write()
        assert collected.token == written.token
        assert collected.token is not None
    with cache.collect_token() as collected, cache.sync.invalidating(tags="t") as block:
        pass
    assert block.written is not None
    assert collected.token == block.written.token


def test_what_is_pending_is_no_token(own_redis: RedisServer, new_node: NewNode) -> None:
    cache = new_node(own_redis.url())
    own_redis.kill()
    with cache.collect_token() as collected:
        assert cache.sync.invalidate_tags("t").pending
    assert collected.token is None


def test_each_collects_its_own_cache_and_context_alone(cache: TierCache, new_node: NewNode) -> None:
    other = new_node("memory://")
    with cache.collect_token() as collected:
        other.sync.delete("k")
        elsewhere = copy_context()
    assert collected.token is None
    cache.sync.delete("k")
    assert collected.token is None
    with cache.collect_token() as inner, other.collect_token() as of_other:
        written = elsewhere.run(cache.sync.delete, "k")
    assert collected.token == written.token
    assert (inner.token, of_other.token) == (None, None)


def test_the_newest_record_is_kept_in_whatever_order_threads_note_them(cache: TierCache) -> None:
    core = cache._node.tiers.core
    with cache.collect_token() as collected:
        for number in (2, 3, 1):
            note(core, Token(7, number))
        assert collected.token == Token(7, 3)
        note(core, Token(8, 1))
    assert collected.token == Token(8, 1), "of a new epoch"


def test_what_was_collected_stays_when_it_is_entered_again(cache: TierCache) -> None:
    with cache.collect_token() as collected:
        first = cache.sync.delete("k").token
    with collected:
        assert collected.token == first
        second = cache.sync.delete("k").token
    assert collected.token == second


def test_middleware_of_the_framework_between_does_not_keep_the_token(cache: TierCache) -> None:
    async def passed_on(request: Request, call_next: Any) -> Response:
        return await call_next(request)

    async def write(request: Request) -> Response:
        await cache.delete("k")
        return PlainTextResponse("")

    response = client_of(cache, write, Middleware(BaseHTTPMiddleware, dispatch=passed_on)).get("/")
    assert token_in(response)


def test_what_a_stream_and_a_background_task_write_is_not_carried(cache: TierCache) -> None:
    done: list[str] = []

    async def parts() -> AsyncIterator[str]:
        await cache.delete("k")
        done.append("stream")
        yield "x"

    async def task() -> None:
        await cache.delete("k")
        done.append("task")

    async def write(request: Request) -> Response:
        return StreamingResponse(parts(), background=BackgroundTask(task))

    response = client_of(cache, write).get("/")
    assert done == ["stream", "task"]
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("carried", ["cookie", "header"])
def test_a_token_that_is_not_proved_costs_one_sync_and_then_none(
    cache: TierCache, redis_server: RedisServer, new_node: NewNode, carried: str
) -> None:
    cache.sync.get("k")
    written = new_node(redis_server.url()).sync.delete("k")
    client = client_of(cache, nothing)
    brought = (
        {"cookie": f"a=b; tiercache={written.token}; c=d"}
        if carried == "cookie"
        else {"X-Tiercache-Token": str(written.token)}
    )
    before = syncs(cache)
    client.get("/", headers=brought)
    assert syncs(cache) == before + 1
    client.get("/", headers=brought)
    assert syncs(cache) == before + 1


def test_where_both_come_the_header_counts(
    cache: TierCache, redis_server: RedisServer, new_node: NewNode
) -> None:
    cache.sync.get("k")
    known = cache.sync.token()
    written = new_node(redis_server.url()).sync.delete("k")
    before = syncs(cache)
    headers = {"X-Tiercache-Token": str(known), "cookie": f"tiercache={written.token}"}
    client_of(cache, nothing).get("/", headers=headers)
    assert syncs(cache) == before


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "-",
        "x",
        "1",
        "1-",
        "zz-zz",
        "1-2-3",
        "a" * 5_000,
        "1-" + "f" * 5_000,
        "\xff\xfe",
        "%00",
        '"1-1"',
        "-1--1",
    ],
)
def test_what_is_no_token_is_ignored(cache: TierCache, wrong: str) -> None:
    cache.sync.get("k")
    before = syncs(cache)
    client = client_of(cache, nothing)
    for name in ("cookie", "X-Tiercache-Token"):
        value = f"tiercache={wrong}" if name == "cookie" else wrong
        response = client.get("/", headers=[(name.encode(), value.encode("latin-1"))])
        assert response.status_code == 200
    assert syncs(cache) <= before


@pytest.mark.parametrize("forged", [Token(1, 2**50), Token(2**48 - 1, 1), Token(0, 0)])
def test_a_forged_token_costs_one_sync(cache: TierCache, forged: Token) -> None:
    cache.sync.set("k", 1)
    before = syncs(cache)
    response = client_of(cache, nothing).get("/", headers={"X-Tiercache-Token": str(forged)})
    assert response.status_code == 200
    assert syncs(cache) <= before + 1
    assert cache.sync.get("k") == 1


def test_a_token_while_redis_is_away_is_no_error(own_redis: RedisServer, new_node: NewNode) -> None:
    cache = new_node(own_redis.url(), listen=False)
    token = cache.sync.set("k", "old").token
    assert token is not None
    own_redis.kill()

    async def read(request: Request) -> Response:
        return PlainTextResponse(await cache.get_or_load("k", lambda: "loaded"))

    newer = Token(token.epoch, token.number + 1)
    response = client_of(cache, read).get("/", headers={"X-Tiercache-Token": str(newer)})
    assert response.text == "loaded", "L1 cannot vouch for what the token names"


def test_the_cookie_outlives_the_bound_and_not_by_much(redis_server: RedisServer, new_node: NewNode) -> None:
    cache = new_node(redis_server.url(), max_staleness=2.5)

    async def write(request: Request) -> Response:
        await cache.delete("k")
        return PlainTextResponse("")

    (cookie,) = client_of(cache, write).get("/").headers.get_list("set-cookie")
    assert re.fullmatch(
        r"tiercache=[0-9a-f]+-[0-9a-f]+; Max-Age=6; Path=/; HttpOnly; SameSite=Lax", cookie
    ), cookie
    (cookie,) = client_of(cache, write, secure=True, max_age=60).get("/").headers.get_list("set-cookie")
    assert "Max-Age=60;" in cookie
    assert cookie.endswith("; Secure")


def test_several_caches_are_told_apart_by_name(
    cache: TierCache, redis_server: RedisServer, new_node: NewNode
) -> None:
    users = new_node(redis_server.url(), namespace="users")

    async def write(request: Request) -> Response:
        await users.delete("k")
        await cache.delete("k")
        return PlainTextResponse("")

    of_users = Middleware(CausalTokens, cache=users, cookie="tiercache-users", header="X-Users-Token")
    response = client_of(cache, write, of_users).get("/")
    names = [line.partition("=")[0] for line in response.headers.get_list("set-cookie")]
    assert sorted(names) == ["tiercache", "tiercache-users"]
    assert response.headers["X-Users-Token"] != response.headers["X-Tiercache-Token"]


def test_a_cookie_that_is_no_token_does_not_hide_one_that_is(cache: TierCache) -> None:
    async def application(*_: Any) -> None:
        raise NotImplementedError

    carrier = CausalTokens(application, cache)

    assert carrier.found(None, ["tiercache=old; a=b", "tiercache=1-2"]) == Token(1, 2)


def test_cookie_or_header_may_be_left_out(cache: TierCache) -> None:
    async def write(request: Request) -> Response:
        await cache.delete("k")
        return PlainTextResponse("")

    response = client_of(cache, write, cookie=None).get("/")
    assert ("set-cookie" in response.headers, "x-tiercache-token" in response.headers) == (False, True)
    response = client_of(cache, write, header=None).get("/")
    assert ("set-cookie" in response.headers, "x-tiercache-token" in response.headers) == (True, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cookie": "a b"}, "cookie must be a name"),
        ({"header": "X:Y"}, "header must be a name"),
        ({"cookie": None, "header": None}, "leave nothing"),
        ({"max_age": 0}, "max_age must be"),
        ({"max_age": 1.5}, "max_age must be"),
        ({"cookie": 5}, "cookie must be a name"),
        ({"header": b"X"}, "header must be a name"),
        ({"secure": "no"}, "secure must be True or False"),
        ({"cache": "redis://127.0.0.1:6379/0"}, "cache must be a TierCache"),
        ({"app": None}, "app must be the application"),
    ],
)
def test_options_that_cannot_be_are_errors_at_once(options: dict[str, Any], message: str) -> None:
    for made in (CausalTokens, WSGICausalTokens):
        with pytest.raises(SettingError, match=message):
            made(**{"app": print, **options})


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_websockets_and_lifespan_pass_untouched(cache: TierCache, kind: str) -> None:
    passed: list[Any] = []

    async def application(*call: Any) -> None:
        await cache.delete("k")
        passed.extend(call)

    async def nobody() -> Any:
        raise NotImplementedError

    call = ({"type": kind}, nobody, nobody)
    asyncio.run(CausalTokens(application, cache)(*call))  # type: ignore[arg-type]
    assert [id(part) for part in passed] == [id(part) for part in call]


# ---- WSGI, where an application may do its work late


def wsgi_response(application: Any, **environ: str) -> tuple[dict[str, str], bytes]:
    sent: dict[str, str] = {}
    body = application(environ, lambda status, headers, *error: sent.update(headers))
    try:
        return sent, b"".join(body)
    finally:
        if hasattr(body, "close"):
            body.close()


def test_a_generator_that_writes_before_its_first_part_is_carried(cache: TierCache) -> None:
    closed: list[bool] = []

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        try:
            cache.sync.delete("k")
            start_response("200 OK", [])
            yield b"a"
            yield b"b"
        finally:
            closed.append(True)

    headers, body = wsgi_response(WSGICausalTokens(application, cache))
    assert body == b"ab"
    assert closed == [True]
    assert Token.parse(headers["X-Tiercache-Token"])


def test_a_body_that_writes_as_it_is_iterated_is_carried(cache: TierCache) -> None:
    class Application:
        """As WSGI allows it: the class is the application, its instance the body."""

        def __init__(self, environ: Any, start_response: Any) -> None:
            self.start_response = start_response

        def __iter__(self) -> Iterator[bytes]:
            cache.sync.delete("k")
            self.start_response("200 OK", [])
            return iter([b"a"])

    headers, body = wsgi_response(WSGICausalTokens(Application, cache))
    assert body == b"a"
    assert Token.parse(headers["X-Tiercache-Token"])


def test_a_client_that_goes_away_ends_a_late_body(cache: TierCache) -> None:
    closed: list[bool] = []

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        try:
            start_response("200 OK", [])
            yield b"a"
            yield b"b"
        finally:
            closed.append(True)

    body: Any = WSGICausalTokens(application, cache)({}, lambda *_: None)
    assert next(body) == b"a"
    body.close()
    assert closed == [True]


def test_a_body_that_is_ready_is_handed_on_as_it_is(cache: TierCache) -> None:
    body = [b"a"]

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return body

    assert WSGICausalTokens(application, cache)({}, lambda *_: None) is body


def test_an_error_that_restarts_the_response_bears_the_token_as_well(cache: TierCache) -> None:
    calls: list[tuple[Any, ...]] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        cache.sync.delete("k")
        start_response("500 Oh", [("a", "b")], ("type", "value", "trace"))
        return [b""]

    WSGICausalTokens(application, cache)({}, lambda *call: calls.append(call))
    assert calls[0] == ("200 OK", [])
    status, headers, error = calls[1]
    assert (status, headers[0], error) == ("500 Oh", ("a", "b"), ("type", "value", "trace"))
    assert [name for name, _ in headers[1:]] == ["Set-Cookie", "X-Tiercache-Token"]
