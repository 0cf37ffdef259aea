"""What the fuzzer starts from: one small input of each kind that a decoder takes, by target."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from tests.fuzz.entities import samples
from tests.fuzz.targets import (
    COMMANDS,
    EPOCH,
    PASSWORD,
    TARGETS,
    VALUES,
    Colour,
    Odd,
    Order,
    Point,
    Right,
)
from tiercache._core.compression import compress
from tiercache._core.records import check_of

SAMPLES: tuple[Any, ...] = (
    {"a": [1, 2.5, None, True, "é"]},
    (1, {2, 3}, frozenset((4,)), {5: 6}, {"!x": 1}),
    [b"x", bytearray(b"y"), 2**70, float("nan"), 1j, Decimal("1.5"), UUID(int=1), "\ud800"],
    [datetime(2026, 1, 2, 3, tzinfo=ZoneInfo("Europe/Paris")), datetime(2026, 1, 2, tzinfo=UTC)],
    [date(2026, 1, 2), time(3, 4), timedelta(1, 2, 3)],
    [Colour.RED, Right.READ | Right.WRITE, Point(1, (2,)), Order(7, [Odd("x")])],
)
LINKED_SAMPLES = tuple(samples())
URLS = (
    "redis://user:s3cret@cache:6379/0",
    "rediss://cache:1/2?ssl_ca_certs=ca.pem&ssl_cert_reqs=required&ssl_check_hostname=true",
    "unix:///run/redis.sock?db=0&password=x",
    "redis://[::1]:6379/0?client_name=shop&encoding=latin-1&socket_keepalive=1&lib_name=x",
    "redis+sentinel://user:s3cret@one:26379,[::1]/service/2?sentinel_username=u&sentinel_password=p",
    "redis://cache?protocol=3&socket_timeout=1&max_connections=2&retry_on_error=x&driver_info=x",
    "rediss://cache?ssl_min_version=771&ssl_ciphers=x&ssl_keyfile=k&ssl_certfile=c&ssl_ca_data=x",
)


def part(data: bytes) -> bytes:
    return bytes((len(data),)) + data


def seeds() -> Iterator[bytes]:
    """Inputs for run.py: the first byte chooses the target."""
    for number, target in enumerate(TARGETS):
        for seed in BY_TARGET[target.__name__]():
            yield bytes((number,)) + seed


def entries() -> Iterator[bytes]:
    for tags in ((), ("users", "user:7")):
        payload = VALUES.encode({"id": 7, "at": (1, 2)})
        names = "\0".join(tags).encode()
        header = f"1|{EPOCH}|42|1700000000000|{check_of('k', tags, payload)}|1f|{len(names)}|"
        yield part(b"k") + header.encode() + names + payload


def checked_entries() -> Iterator[bytes]:
    for sample in SAMPLES:
        fields = [b"k", str(EPOCH).encode(), b"42", b"1700000000000", b"", b"1f", b"users\0user:7"]
        yield b"".join(map(part, fields)) + VALUES.encode(sample)


def hints() -> Iterator[bytes]:
    for epoch, number, deps in (
        (EPOCH, 2, "t:users"),
        (EPOCH, 2, "*"),
        (EPOCH, 9, "k:a"),
        (EPOCH - 1, 2, "t:user:7\0k:a"),
    ):
        yield f"1|{epoch}|{number}|{deps}".encode()


def replies() -> Iterator[bytes]:
    for number in range(len(COMMANDS)):
        yield bytes((number, 0, 7, 5, 5)) + EPOCH.to_bytes(6, "big") + bytes((5, 0, 1, 5, 0, 1, 5, 0, 1))
        yield bytes((number, 0, 3, 4, 0, 5, 0, 1, 5, 0, 2))
        yield bytes((number, 0, 2, 5, 0, 1, 0, 3, 4, 3)) + bytes((6, 2)) + b"1|" + bytes((1,)) + bytes(8)


BY_TARGET: dict[str, Any] = {
    "entry": entries,
    "checked_entry": checked_entries,
    "hint": hints,
    "next_hint": lambda: iter((b"t:users", b"*", b"t:user:7\0k:a", b"*\0*", b"")),
    "question": lambda: iter((b"2|%d|5|%s" % (EPOCH, b"a" * 32), b"5|" + b"b" * 32, b"%d|5|c" % EPOCH)),
    "sentinel": lambda: iter(
        (b"\0\2\6\x099.9.9.9.9\6\x046379\0\2\6\x0cconfig-epoch\6\x013", b"\2\2", b"\0\1\6\1x\0\0")
    ),
    "value": lambda: map(VALUES.encode, SAMPLES),
    "enveloped": lambda: (VALUES.encode(sample)[1:] for sample in SAMPLES),
    "linked": lambda: (VALUES.encode(sample)[1:] for sample in LINKED_SAMPLES),
    "compressed": lambda: (compress(b"\n" + b"[1]," * 99, form) for form in ("zstd", "lz4")),
    "plain": lambda: iter((b'{"a":[1,2.5,null,true]}', b"[[[]]]")),
    "reply": replies,
    "address": lambda: (url.encode() for url in URLS),
    "address_with_password": lambda: iter(
        (
            part(b"user") + part(b"cache") + b"\0:6379/0",
            part(b"") + part(b"") + b"\1?ssl_ca_certs=x",
            part(b"u") + part(b"one,two:1") + b"\2/service/1?sentinel_password=x",
            part(b"a@b/c") + part(b"one") + b"\2/service",
            part(b"u") + part(b"[::1]") + b"\0/x#?@" + PASSWORD[:3].encode(),
        )
    ),
}

# Words that a mutation alone would seldom find.
WORDS = """
    !link !links !each (identity) (token)
    !tuple !set !frozenset !dict !bytes !bytearray !int !float !complex !Decimal !UUID !datetime !date !time
    !timedelta !str !class nan inf -inf 0x1p0 1E+999999999 1970-01-01 Europe/Paris UTC ../ registered
    flag enum RED redis:// rediss:// unix:// &ssl_cert_reqs=none &ssl_ca_certs= &ssl_ca_path= &ssl_certfile=
    ?db= &ssl_keyfile= &ssl_check_hostname= &ssl_min_version= &username= &password= &protocol= &retry= &host=
    &port= &credential_provider= &redis_connect_func= &socket_read_size= &socket_type= &path= &driver_info=
    &client_name= &lib_name= &encoding= &encoding_errors= &command_packer= &ssl_include_verify_flags=
    %00 %0d%0a records flush hit miss lead wait again
"""
DICTIONARY = WORDS.split()
