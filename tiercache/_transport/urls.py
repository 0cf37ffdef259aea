"""What the URL of a server may say, and what of it may be shown: a password is in no error."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

import redis
import redis.connection as blocking

from tiercache._errors import SettingError
from tiercache._nearest import nearest

THROUGH_SENTINEL = ("redis+sentinel", "rediss+sentinel")
SCHEMES = ("redis", "rediss", "unix", "memory", *THROUGH_SENTINEL)
# What a cache decides for itself: redis-py's own retries cost 3.5 to 7 s where nobody answers.
OURS = (
    "connection_class",
    "decode_responses",
    "health_check_interval",
    "himport_registry",
    "maint_notifications_config",
    "maint_notifications_pool_handler",
    "max_connections",
    "orig_host_address",
    "orig_socket_connect_timeout",
    "orig_socket_timeout",
    "oss_cluster_maint_notifications_handler",
    "parser_class",
    "protocol",
    "event_dispatcher",
    "retry",
    "retry_on_error",
    "retry_on_timeout",
    "socket_connect_timeout",
    "socket_timeout",
    "timeout",
)
# What a text can say of a connection. The other options are objects: as text they would fail at each call.
_SAID_IN_A_URL = """
    client_name db password path socket_keepalive socket_read_size username
    ssl_ca_certs ssl_ca_data ssl_ca_path ssl_cert_reqs ssl_certfile ssl_check_hostname ssl_ciphers
    ssl_exclude_verify_flags ssl_include_verify_flags ssl_keyfile ssl_min_version ssl_password
"""
_IN_A_URL = {*_SAID_IN_A_URL.split(), *OURS} - {"connection_class"}
# Of any other name it is not known what its value is: it may be a password's, misspelt.
_SHOWN = (_IN_A_URL | {"sentinel_username"}) - {"password", "ssl_password"}
_USER = re.compile("([^:/?#=]*)[:/?#=]")  # and what may be a password
_QUOTED = re.compile("(with args beginning with:).*", re.DOTALL)  # Redis' words
# redis-py takes any other word for true, "off" included; on our own options a word is not looked at.
_TRUE, _FALSE = ("1", "t", "true", "y", "yes"), ("0", "f", "false", "n", "no")
_FLAGS = {"socket_keepalive", "ssl_check_hostname"}
_SOCKET = "write it as in unix:///run/redis.sock?db=0"
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
    check_options(parts.query)
    return dict(blocking.parse_url(url))


def check_marks(rest: str) -> None:
    """Raise ValueError where *rest*, a URL without its scheme, was cut within a name or a password.

    redis://:2024#Summer@cache is a server "" with the port 2024 to everybody who reads URLs.
    """
    authority = rest.replace("?", "/").partition("/")[0]
    if "#" in rest or "@" in rest.removeprefix(authority):
        raise ValueError(WRITTEN)


def check_options(query: str) -> None:
    """Raise an error for options that cannot be meant, and that would be one only with each connection."""
    options: Mapping[str, Sequence[str]] = parse_qs(query, keep_blank_values=True)
    check_once(options)
    if unknown := options.keys() - _IN_A_URL:
        raise TypeError(f"a URL takes no {', '.join(sorted(unknown))}")
    for name in options.keys() & _FLAGS:
        if options[name][0].lower() not in _TRUE + _FALSE:
            raise ValueError(f"{name} must be one of {', '.join(_TRUE + _FALSE)}")
    if "db" in options and not is_database(options["db"][0]):
        raise ValueError("db must be the number of a database, as in ?db=0")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for version in filter(None, options.get("ssl_min_version", ())):
        context.minimum_version = ssl.TLSVersion(int(version))
    for ciphers in filter(None, options.get("ssl_ciphers", ())):
        context.set_ciphers(ciphers)
    for data in filter(None, options.get("ssl_ca_data", ())):
        context.load_verify_locations(cadata=data)


def check_once(options: Mapping[str, Sequence[str]]) -> None:
    """Raise ValueError for an option that is given twice: redis-py takes the first, without a word."""
    if twice := sorted(name for name, values in options.items() if len(values) > 1):
        raise ValueError(f"{', '.join(twice)} is given twice")


def is_database(text: str) -> bool:
    return text.isascii() and text.isdecimal()


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
