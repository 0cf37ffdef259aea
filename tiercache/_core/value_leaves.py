"""The values without parts that JSON cannot say, each as a tag and a body that it can.

`PACK` turns a value of exactly the type it is listed under into `{tag: body}`; `UNPACK` takes
the body back. An unpacker is fed bytes from outside: it raises some ValueError, TypeError,
LookupError, ArithmeticError or OSError where the body is not one of ours, and what it builds
is never more than a small multiple of the body.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from tiercache._core.value_shapes import Refused, called

MICROSECOND = timedelta(microseconds=1)
Zone = str | list[Any] | None  # a zoneinfo key; [microseconds east, name or None]; naive


def is_text(value: object) -> bool:
    """Whether *value* is a str that UTF-8 can say, that is one without lone surrogates."""
    if type(value) is not str:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def pack_str(value: str) -> Any:
    return value if is_text(value) else {"!str": to_base64(value.encode("utf-8", "surrogatepass"))}


def pack_int(value: int) -> Any:
    # Hex, because decimal digits are capped by sys.set_int_max_str_digits.
    return value if -(2**63) <= value < 2**64 else {"!int": hex(value)}


def to_base64(value: bytes | bytearray) -> str:
    return binascii.b2a_base64(value, newline=False).decode("ascii")


def from_base64(body: str) -> bytes:
    return binascii.a2b_base64(body, strict_mode=True)


def pack_zone(zone: tzinfo | None) -> Zone:
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key is not None:
        return zone.key
    if type(zone) is timezone:
        # Nothing public tells a timezone's own name from the one made of its offset.
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]  # not in typeshed
        return [offset // MICROSECOND, name[0] if name else None]
    raise Refused(
        f"its time zone is a {called(type(zone))}, which has no stored form; "
        f"use zoneinfo.ZoneInfo(key) or datetime.timezone"
    )


def unpack_zone(body: Zone) -> tzinfo | None:
    if body is None:
        return None
    if isinstance(body, str):
        return ZoneInfo(body)
    microseconds, name = body
    offset = microseconds * MICROSECOND
    return timezone(offset) if name is None else timezone(offset, name)


def pack_moment(value: datetime | time) -> list[Any]:
    if value.tzinfo is None:
        return [value.isoformat(), value.fold, None]
    return [value.replace(tzinfo=None).isoformat(), value.fold, pack_zone(value.tzinfo)]


def unpack_datetime(body: list[Any]) -> datetime:
    text, fold, zone = body
    naive = datetime.fromisoformat(text)
    return naive.replace(fold=fold, tzinfo=unpack_zone(zone)) if fold or zone is not None else naive


def unpack_time(body: list[Any]) -> time:
    text, fold, zone = body
    naive = time.fromisoformat(text)
    return naive.replace(fold=fold, tzinfo=unpack_zone(zone)) if fold or zone is not None else naive


def unpack_timedelta(body: list[Any]) -> timedelta:
    days, seconds, microseconds = body
    return timedelta(days, seconds, microseconds)


def unpack_complex(body: list[Any]) -> complex:
    real, imag = body
    return complex(float.fromhex(real), float.fromhex(imag))


# Without True, False and None, and without finite floats: JSON says those, -0.0 to the last bit.
PACK: dict[type, Callable[[Any], Any]] = {
    str: pack_str,
    int: pack_int,
    float: lambda value: {"!float": repr(value)},
    bytes: lambda value: {"!bytes": to_base64(value)},
    bytearray: lambda value: {"!bytearray": to_base64(value)},
    complex: lambda value: {"!complex": [value.real.hex(), value.imag.hex()]},
    Decimal: lambda value: {"!Decimal": str(value)},
    UUID: lambda value: {"!UUID": value.hex},
    datetime: lambda value: {"!datetime": pack_moment(value)},
    date: lambda value: {"!date": value.isoformat()},
    time: lambda value: {"!time": pack_moment(value)},
    timedelta: lambda value: {"!timedelta": [value.days, value.seconds, value.microseconds]},
}

# By tag: the type the body must have, and the way back.
UNPACK: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "!str": (str, lambda body: from_base64(body).decode("utf-8", "surrogatepass")),
    "!int": (str, lambda body: int(body, 16)),
    "!float": (str, float),
    "!bytes": (str, from_base64),
    "!bytearray": (str, lambda body: bytearray(from_base64(body))),
    "!complex": (list, unpack_complex),
    "!Decimal": (str, Decimal),
    "!UUID": (str, UUID),
    "!datetime": (list, unpack_datetime),
    "!date": (str, date.fromisoformat),
    "!time": (list, unpack_time),
    "!timedelta": (list, unpack_timedelta),
}

# Deeply immutable, and without a time zone that might not be.
IMMUTABLE = frozenset((str, int, bool, type(None), float, bytes, complex, Decimal, UUID, date, timedelta))


def has_known_zone(value: datetime | time) -> bool:
    """Whether the time zone of *value*, if it has one, is of a type known to be immutable."""
    return value.tzinfo is None or type(value.tzinfo) in (timezone, ZoneInfo)
