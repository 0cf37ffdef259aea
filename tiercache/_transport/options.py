"""What may follow the `?` of a URL: each option that a text can say, and the values it can have.

redis-py says of most of them with each connection, or never; here it is said once, by name.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Collection, Mapping, Sequence
from urllib.parse import parse_qs

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
    client_name db password socket_keepalive socket_read_size username
    ssl_ca_certs ssl_ca_data ssl_ca_path ssl_cert_reqs ssl_certfile ssl_check_hostname ssl_ciphers
    ssl_exclude_verify_flags ssl_include_verify_flags ssl_keyfile ssl_min_version ssl_password
"""
IN_A_URL = {*_SAID_IN_A_URL.split(), *OURS} - {"connection_class"}
# redis-py takes any other word for true, "off" included; on our own options a word is not looked at.
_TRUE, _FALSE = ("1", "t", "true", "y", "yes"), ("0", "f", "false", "n", "no")
_FLAGS = {"socket_keepalive", "ssl_check_hostname"}
_CONTROL = re.compile("[\\x00-\\x1f\\x7f-\\x9f]")
_BETWEEN_LINES = str.maketrans("", "", "\t\r\n")  # of a certificate
_NAME = re.compile("[!-~]*")  # what CLIENT SETNAME takes
_READ_SIZES = range(1 << 10, (1 << 26) + 1)  # bytes; redis-py has as many set aside for each connection
_VERSIONS = {"771": ssl.TLSVersion.TLSv1_2, "772": ssl.TLSVersion.TLSv1_3}


def check_options(query: str, said: Collection[str], *, tls: bool) -> None:
    """Raise an error for options that cannot be meant, and that would be one only with each connection.

    *said*: those that the URL says at a place of their own; *tls*: whether it is one of rediss://.
    """
    options: Mapping[str, Sequence[str]] = parse_qs(query, keep_blank_values=True)
    check_once(options)
    if unknown := options.keys() - IN_A_URL:
        raise TypeError(f"a URL takes no {', '.join(sorted(unknown))}")
    for name in sorted(options):
        if name in said:
            raise ValueError(f"{name} is said twice: before the '?' and behind it")
        if name.startswith("ssl_") and not tls:
            raise ValueError(f"{name} needs rediss://, which is TLS")
        check_characters(name, options[name][0])
    for name in options.keys() & _FLAGS:
        if options[name][0].lower() not in _TRUE + _FALSE:
            raise ValueError(f"{name} must be one of {', '.join(_TRUE + _FALSE)}")
    if "db" in options and not is_database(options["db"][0]):
        raise ValueError("db must be the number of a database, as in ?db=0")
    given = {name: values[0] for name, values in options.items() if values[0]}
    size = given.get("socket_read_size", "65536")
    if not (is_database(size) and len(size) < 9 and int(size) in _READ_SIZES):
        raise ValueError(f"socket_read_size must be from {_READ_SIZES[0]} to {_READ_SIZES[-1]} bytes")
    if not _NAME.fullmatch(given.get("client_name", "")):
        raise ValueError("client_name must be of printable ASCII, without spaces: Redis refuses any other")
    _check_tls(given)


def _check_tls(given: Mapping[str, str]) -> None:
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise ValueError("ssl_keyfile is the key to a certificate: it needs ssl_certfile, too")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if version := given.get("ssl_min_version"):
        if version not in _VERSIONS:
            raise ValueError(f"ssl_min_version must be 771 (TLS 1.2) or 772 (TLS 1.3), not {version!r}")
        context.minimum_version = _VERSIONS[version]
    if ciphers := given.get("ssl_ciphers"):
        context.set_ciphers(ciphers)
    if data := given.get("ssl_ca_data"):
        context.load_verify_locations(cadata=data)


def check_characters(name: str, value: str) -> None:
    """Raise ValueError for a control character in *value*; a certificate may have lines."""
    if _CONTROL.search(value.translate(_BETWEEN_LINES) if name == "ssl_ca_data" else value):
        raise ValueError(f"{name} has a control character in it")


def check_once(options: Mapping[str, Sequence[str]]) -> None:
    """Raise ValueError for an option that is given twice: redis-py takes the first, without a word."""
    if twice := sorted(name for name, values in options.items() if len(values) > 1):
        raise ValueError(f"{', '.join(twice)} is given twice")


def is_database(text: str) -> bool:
    """Whether *text* is a number of plain digits."""
    return text.isascii() and text.isdecimal()
