"""What the URL of a server may say, and what of it may be shown: a password is in no error."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote_plus, urlsplit

import redis
import redis.connection as blocking

from tiercache._errors import SettingError
from tiercache._nearest import nearest
from tiercache._transport.options import IN_A_URL, check_options, is_database

THROUGH_SENTINEL = ("redis+sentinel", "rediss+sentinel")
SCHEMES = ("redis", "rediss", "unix", "memory", *THROUGH_SENTINEL)
# Of any other name it is not known what its value is: it may be a password's, misspelt.
_SHOWN = (IN_A_URL | {"sentinel_username"}) - {"password", "ssl_password"}
_USER = re.compile("([^:/?#=]*)[:/?#=]")  # and what may be a password
_QUOTED = re.compile("(with args beginning with:).*", re.DOTALL)  # Redis' words
_SOCKET = "write it as in unix:///run/redis.sock?db=0"
LONGEST_PATH = 107 if sys.platform == "linux" else 103  # bytes: `sun_path` of sockaddr_un, and its NUL
_VALUE = re.compile("=.*", re.DOTALL)
_HOST = re.compile(r"[^:=]*(:\d*)?|\[[^\]=]*\](:\d*)?|[0-9a-fA-F:.]+")
WRITTEN = (
    "in a user's name, a password, a path or an option, '/', '?', '#', '@', '[' and ']' are written "
    "%2F, %3F, %23, %40, %5B and %5D"
)


def read(url: str) -> dict[str, Any]:
    """What *url*, which is none of Sentinel's, says of a connection; an error for a typo anywhere in it."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES:
        word = scheme.partition(":")[0]
        raise SettingError(
            f"{redacted(url)!r} is not the URL of a cache: its scheme must be one of {', '.join(SCHEMES)}"
            f"{nearest(word.lower(), SCHEMES)}; write it as in redis://localhost:6379/0"
        )
    check_marks(rest)
    try:
        parts = urlsplit(url)
    except ValueError:  # which may quote all of it
        raise ValueError(f"it names no host; an IPv6 address stands in brackets; {WRITTEN}") from None
    try:
        is_place = parts.port != 0
    except ValueError:
        is_place = False
    if not is_place:
        raise ValueError("its port must be a number from 1 to 65535")
    if any(c.isspace() for c in parts.netloc):
        raise ValueError("it has white space in it")
    path = parts.path.strip("/")
    if scheme == "unix" and not path:
        raise ValueError(f"it names no socket; {_SOCKET}")
    if scheme == "unix" and parts.netloc.rpartition("@")[2]:
        raise ValueError(f"a socket has no host, and its path begins with a third slash; {_SOCKET}")
    if scheme != "unix" and path and not is_database(path):
        raise ValueError("the database must be a number, as in redis://host:6379/0")
    said = {"username": parts.username, "password": parts.password, "db": path if scheme != "unix" else ""}
    check_options(parts.query, [name for name, value in said.items() if value], tls=scheme == "rediss")
    kwargs = dict(blocking.parse_url(url))
    if "path" in kwargs:
        check_path(kwargs["path"])
    return kwargs


def check_path(path: str) -> None:
    """Raise ValueError for a socket that the system could not be asked for."""
    if "\0" in path:
        raise ValueError("the path of a socket must have no NUL in it")
    if (length := len(os.fsencode(path))) > LONGEST_PATH:
        raise ValueError(f"the path of a socket must have at most {LONGEST_PATH} bytes here, not {length}")


def check_marks(rest: str) -> None:
    """Raise ValueError where *rest*, a URL without its scheme, was cut within a name or a password.

    redis://:2024#Summer@cache is a server "" with the port 2024 to everybody who reads URLs.
    """
    authority = rest.replace("?", "/").partition("/")[0]
    if "#" in rest or "@" in rest.removeprefix(authority):
        raise ValueError(WRITTEN)


def redacted(url: str) -> str:
    """*url* without what is, or may be, a password: for messages."""
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    credentials, at, where = rest.rpartition("@")
    user = _USER.match(credentials)
    shown = credentials if user is None else f"{user[1]}:***"
    if re.search(r"[?].*=", credentials, re.DOTALL):  # the '@' may be one of an option's
        return f"{scheme}{mark}{shown}"
    where, cut, _ = where.partition("#")
    where, question, query = where.partition("?")
    authority, slash, path = where.partition("/")
    hosts = ",".join(map(redacted_host, authority.split(",")))
    options = "&".join(map(_redacted_option, query.split("&")))
    rest = f"{hosts}{slash}{_VALUE.sub('=***', path)}{question}{options}{cut and '#***'}"
    return f"{scheme}{mark}{shown}{at}{rest}"


@contextmanager
def without_secrets(kwargs: Mapping[str, Any]) -> Iterator[None]:
    """What is raised amid a connection's first commands does not quote the password that *kwargs* has.

    A server that knows no AUTH quotes its arguments, the first 128 bytes of them, also where they are of
    a credential provider.
    """
    try:
        yield
    except redis.RedisError as error:
        met: BaseException | None = error
        while met is not None:
            met.args = tuple(_unquoted(part, kwargs.get("password")) for part in met.args)
            met = met.__cause__ or met.__context__
        raise


def _unquoted(part: Any, password: Any) -> Any:
    if not isinstance(part, str):
        return part
    part = _QUOTED.sub(r"\1 ***", part)
    return re.sub(rf"(?<!\w){re.escape(str(password))}(?!\w)", "***", part) if password else part


def redacted_host(host: str) -> str:
    """*host*, or host:port, without what is no port: where an '@' is missing, that is a password."""
    return host if _HOST.fullmatch(host) else re.sub("([:=]).*", r"\1***", host, count=1, flags=re.DOTALL)


def _redacted_option(option: str) -> str:
    return option if unquote_plus(option.partition("=")[0]) in _SHOWN else _VALUE.sub("=***", option)
