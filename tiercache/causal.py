"""Read your own writes in another process: middleware that carries tokens from request to request.

    app.add_middleware(CausalTokens, cache=cache)             # Starlette, FastAPI, any ASGI application
    application = WSGICausalTokens(application, cache=cache)  # Flask, Django, any WSGI application

A user writes on one worker and is sent on to another, whose L1 has not heard of the write yet (R41): without
this, the old value may be shown for some milliseconds, and for up to `max_staleness` if messages are lost.
With it, the response to a request that wrote carries the token of its newest invalidation, and a request that
brings one waits until its process has proved as much (G8): mostly not at all, else for one round trip, once.

The token travels in a cookie, which every browser brings back by itself, and in a header besides, for clients
that keep no cookies: a call of one service to another copies it from response to request. Where both come,
the header counts. The cookie lives for twice `max_staleness` and a second: after the first of them every
process has had to sync (G1), and the rest is for a browser's clock that is set forward meanwhile. A token is
two numbers, no secret and no proof of anything. One that is malformed or too long is ignored; one of another
server, or newer than there is, costs each request that brings it one sync.

Not carried: what is written after the response has begun (a background task, the rest of a stream), since its
headers have left; and what is still pending, since Redis was away. Websockets and lifespan pass untouched.
For several caches, one of these for each, told apart by *cookie* and *header*.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any, Generic, TypeVar

from tiercache import Collected, SettingError, TierCache, Token, default_cache

COOKIE = "tiercache"
HEADER = "X-Tiercache-Token"
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # a token of RFC 9110, as names of headers and cookies are

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

StartResponse = Callable[..., Any]
WSGIApp = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


A = TypeVar("A", bound=Callable[..., Any])


class _Carrier(Generic[A]):
    """How a token is written on a response of *app*, and found in a request."""

    def __init__(
        self,
        app: A,
        cache: TierCache | None = None,
        *,
        cookie: str | None = COOKIE,
        header: str | None = HEADER,
        secure: bool = False,
        max_age: int | None = None,
    ) -> None:
        if not callable(app):
            raise SettingError(f"app must be the application that is wrapped, not {app!r}")
        if not isinstance(cache, TierCache | None):
            raise SettingError(f"cache must be a TierCache, or None for the default one, not {cache!r}")
        if not isinstance(secure, bool):
            raise SettingError(f"secure must be True or False, not {secure!r}")
        for what, name in (("cookie", cookie), ("header", header)):
            if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
                raise SettingError(
                    f"{what} must be a name of letters, digits and dashes, or None, not {name!r}"
                )
        if cookie is None and header is None:
            raise SettingError("cookie=None and header=None leave nothing to carry a token")
        if max_age is not None and (isinstance(max_age, bool) or not isinstance(max_age, int) or max_age < 1):
            raise SettingError(f"max_age must be a whole number of seconds of at least 1, not {max_age!r}")
        self.app, self._cache, self.cookie, self.header = app, cache, cookie, header
        self._flags = "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")
        self._max_age = max_age

    @property
    def cache(self) -> TierCache:
        return default_cache() if self._cache is None else self._cache

    def found(self, header: str | None, cookies: Iterable[str]) -> Token | None:
        """The token that a request brings: in its *header*, else in one of its Cookie lines."""
        token = _parsed(header) if header is not None and self.header is not None else None
        if token is not None or self.cookie is None:
            return token
        for part in (part for line in cookies for part in line.split(";")):
            name, _, value = part.strip().partition("=")
            if name == self.cookie and (token := _parsed(value)) is not None:
                return token
        return None

    def lines(self, collected: Collected) -> list[tuple[str, str]]:
        """What a response is to bear; nothing where nothing was written."""
        token = collected.token
        if token is None:
            return []
        lines = []
        if self.cookie is not None:
            age = self._max_age or math.ceil(2 * self.cache.max_staleness) + 1
            lines.append(("Set-Cookie", f"{self.cookie}={token}; Max-Age={age}{self._flags}"))
        if self.header is not None:
            lines.append((self.header, str(token)))
        return lines


def _parsed(text: str) -> Token | None:
    try:
        return Token.parse(text)
    except ValueError:
        return None


class CausalTokens(_Carrier[App]):
    """ASGI middleware: each request of *app* sees what the one before it wrote, on whatever worker.

    *cache* is whose writes count; None: the default cache. *cookie* and *header* are names, None: without.
    *secure* lets the cookie travel over https alone; *max_age* is its life in whole seconds.
    """

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        token = self._found(scope["headers"])
        cache = self.cache
        if token is not None:
            await cache.at_least(token)
        with cache.collect_token() as collected:

            async def send_with_token(message: Message) -> None:
                if message["type"] == "http.response.start":
                    lines = [(n.lower().encode(), v.encode()) for n, v in self.lines(collected)]
                    message = {**message, "headers": [*message.get("headers", ()), *lines]}
                await send(message)

            await self.app(scope, receive, send_with_token)

    def _found(self, headers: Iterable[tuple[bytes, bytes]]) -> Token | None:
        header, cookies = None, []
        own = (self.header or "").lower().encode()
        for name, value in headers:
            if name == b"cookie":
                cookies.append(value.decode("latin-1"))
            elif name == own:
                header = value.decode("latin-1")
        return self.found(header, cookies)


class WSGICausalTokens(_Carrier[WSGIApp]):
    """WSGI middleware; see `CausalTokens`."""

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        variable = "HTTP_" + (self.header or "").upper().replace("-", "_")
        token = self.found(environ.get(variable), [environ.get("HTTP_COOKIE", "")])
        cache = self.cache
        if token is not None:
            cache.sync.at_least(token)
        collected, has_begun = cache.collect_token(), False

        def start_with_token(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            nonlocal has_begun
            has_begun = True
            return start_response(status, [*headers, *self.lines(collected)], *error)

        with collected:
            body = self.app(environ, start_with_token)
        # As it is where it can be: a server sends a file faster than an iterator.
        return body if has_begun else _Late(body, collected)


class _Late:
    """The body of an application that begins its work only when the first part of it is asked for."""

    def __init__(self, body: Iterable[bytes], collected: Collected) -> None:
        self._body, self._collected = body, collected
        self._parts: Iterator[bytes] | None = None  # asked for with the first: `__iter__` may do the work

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        with self._collected:
            self._parts = iter(self._body) if self._parts is None else self._parts
            return next(self._parts)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()
