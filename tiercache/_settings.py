"""Every setting: its default, its unit, and the check that its value passes.

A setting is given as a keyword, or as TIERCACHE_<NAME> in the environment. Those of a node
hold for every handle that shares it; those of a handle are the defaults of its own calls.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from importlib.util import find_spec
from typing import Any, ClassVar, Literal, TypedDict

from tiercache._errors import SettingError
from tiercache._nearest import nearest

Duration = float | int | str | timedelta


class SettingArguments(TypedDict, total=False):
    """The settings as keywords; what each means stands at `Settings`."""

    namespace: str
    ttl: Duration | None
    l1_ttl: Duration | None
    jitter: float
    l1_maxsize: int
    l1_maxbytes: int | None
    max_staleness: Duration
    on_lapse: Literal["load", "raise"]
    load_timeout: Duration
    timeout: Duration
    pool_size: int
    listen: bool
    assume_no_failover_loss: bool
    audit: float | None
    compression: Literal["zstd", "lz4"] | None
    compression_above: int


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?) *(ms|[smhdw])")
# What Kubernetes sets for a Service named tiercache, or tiercache-redis, in each pod beside it.
_OF_A_SERVICE = re.compile(
    r"TIERCACHE_([A-Z0-9_]+_)?"
    r"(SERVICE_HOST=.*|SERVICE_PORT(_[A-Z0-9_]+)?=\d+|PORT(_\d+_(TCP|UDP|SCTP))?=\w+://.*"
    r"|PORT_\d+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=.*)"
)
MIN_STALENESS = 0.2  # seconds; below it a lease is shorter than Redis' own hiccups
MIN_WAIT = 0.001  # seconds; no server and no loader answers sooner
LONGEST = 10 * 365 * 86400.0  # seconds


def seconds(value: object, name: str) -> float:
    """*value* in seconds, ten years at most: a positive number, a timedelta, or text as "10m" or "2h30m"."""
    if isinstance(value, timedelta):
        result = value.total_seconds()
    elif isinstance(value, str):
        parts = _PART.findall(value)
        if not parts or "".join(number + unit for number, unit in parts) != value.replace(" ", ""):
            raise SettingError(
                f"{name} must be seconds, a timedelta, or text such as '10m' or '2h30m' "
                f"(units: {', '.join(_UNITS)}), not {value!r}"
            )
        result = sum(float(number) * _UNITS[unit] for number, unit in parts)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        result = float(max(-1, min(value, 2 * LONGEST)))  # some whole numbers are no floats
    else:
        raise SettingError(f"{name} must be seconds, a timedelta, or text such as '10m', not {value!r}")
    if not 0 < result < math.inf:
        raise SettingError(f"{name} must be a positive number of seconds, not {value!r}")
    if result > LONGEST:
        raise SettingError(f"{name} must be at most ten years, not {value!r}")
    return result


def lifetime(value: object, name: str) -> float | None:
    """A time to live in seconds; None is no expiry."""
    if value is None:
        return None
    if (type(value) is int or type(value) is float) and 0 < value <= LONGEST:
        return float(value)
    try:
        return seconds(value, name)
    except SettingError as error:
        raise SettingError(f"{error}; for no expiry pass None") from None


def _count(least: int, most: int | None = None) -> Callable[[object, str], int]:
    def check(value: object, name: str) -> int:
        number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise SettingError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if most is not None and number > most:
            raise SettingError(f"{name} must be at most {most:,}, not {value!r}")
        return number

    return check


def _count_or_none(value: object, name: str) -> int | None:
    return None if value is None or value == "none" else _count(1)(value, name)


def _fraction(value: object, name: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # caught below
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < 1:
        raise SettingError(f"{name} must be a fraction from 0 up to 1, not {value!r}")
    return number


def _share_of_hits(value: object, name: str) -> float | None:
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]  # caught below
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number <= 1:
        raise SettingError(
            f"{name} must be the fraction of hits to compare with their source, above 0 up to 1 (1e-5, say), "
            f"not {value!r}; for none pass None"
        )
    return number


def _flag(value: object, name: str) -> bool:
    named = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    flag = named.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise SettingError(f"{name} must be True or False, not {value!r}")
    return flag


def _staleness(value: object, name: str) -> float:
    result = seconds(value, name)
    if not MIN_STALENESS <= result <= 3600:
        raise SettingError(f"{name} must be from {MIN_STALENESS} s to an hour, not {value!r}")
    return result


def _wait(value: object, name: str) -> float:
    result = seconds(value, name)
    if result < MIN_WAIT:
        raise SettingError(f"{name} must be at least {MIN_WAIT} s, not {value!r}")
    return result


def _on_lapse(value: object, name: str) -> str:
    if value not in ("load", "raise"):
        raise SettingError(f"{name} must be 'load' or 'raise', not {value!r}")
    return str(value)


def check_handle(private: object, clock: object) -> None:
    """Raise SettingError for arguments of a handle that cannot be."""
    if not isinstance(private, bool):
        raise SettingError(f"private must be True or False, not {private!r}")
    if not callable(clock):
        raise SettingError(
            f"clock must be a function that gives seconds, such as time.monotonic, not {clock!r}"
        )


def _compression(value: object, name: str) -> str | None:
    if value is not None and value not in ("zstd", "lz4"):
        raise SettingError(f"{name} must be 'zstd', 'lz4' or None, not {value!r}")
    package = {"zstd": "zstandard", "lz4": "lz4"}.get(str(value))
    if package is not None and find_spec(package) is None:
        raise SettingError(
            f"{name}={value!r} needs the package {package}, which is not installed here: "
            f"pip install 'tiercache[{value}]'"
        )
    return None if value is None else str(value)


def namespace(value: object, name: str = "namespace") -> str:
    """A name for a set of entries: letters, digits and ._:- , at most 64 of them."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", value):
        raise SettingError(
            f"{name} must be 1 to 64 letters, digits, dots, dashes, colons or underscores, not {value!r}"
        )
    return value


_CHECKS: dict[str, Callable[[object, str], Any]] = {
    "namespace": namespace,
    "ttl": lifetime,
    "l1_ttl": lifetime,
    "jitter": _fraction,
    "l1_maxsize": _count(1),
    "l1_maxbytes": _count_or_none,
    "max_staleness": _staleness,
    "on_lapse": _on_lapse,
    "load_timeout": _wait,
    "timeout": _wait,
    "pool_size": _count(1, 10_000),
    "listen": _flag,
    "assume_no_failover_loss": _flag,
    "audit": _share_of_hits,
    "compression": _compression,
    "compression_above": _count(1),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a handle was given, checked; durations in seconds."""

    namespace: str = "default"
    # of a handle
    ttl: float | None = 300.0
    l1_ttl: float | None = None  # as in L2
    jitter: float = 0.0  # part of a ttl taken off at random, so that keys stored together do not end together
    # of the node
    l1_maxsize: int = 10_000  # entries
    l1_maxbytes: int | None = None
    max_staleness: float = 5.0
    on_lapse: Literal["load", "raise"] = "load"
    load_timeout: float = 30.0
    timeout: float = 0.5  # of one round trip, and of connecting
    pool_size: int = 16  # connections in each world
    listen: bool = True
    assume_no_failover_loss: bool = False
    audit: float | None = None  # fraction of hits that are compared with their source; None: no auditor
    compression: Literal["zstd", "lz4"] | None = None  # of values in L2; None: stored as they are
    compression_above: int = 4_096  # bytes of a value as it is stored, from which it is compressed

    OF_HANDLE: ClassVar = ("namespace", "ttl", "l1_ttl", "jitter")
    OF_NODE: ClassVar = (
        "l1_maxsize",
        "l1_maxbytes",
        "max_staleness",
        "on_lapse",
        "load_timeout",
        "timeout",
        "pool_size",
        "listen",
        "assume_no_failover_loss",
        "audit",
        "compression",
        "compression_above",
    )

    @classmethod
    def of(cls, given: Mapping[str, object], base: Settings | None = None) -> Settings:
        """*base*, or the defaults, with what was *given*; SettingError for a name or value that cannot be."""
        known = [field.name for field in fields(cls)]
        for name in given:
            if name == "url":
                raise SettingError("url= is no setting here: TierCache(url) and configure(url) take one")
            if name not in known:
                raise SettingError(f"{name!r} is not a setting of tiercache{nearest(name, known)}")
        return replace(base or cls(), **{name: _CHECKS[name](value, name) for name, value in given.items()})

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> tuple[str | None, dict[str, object]]:
        """The URL and the settings named TIERCACHE_*, checked; an unknown one is an error, too."""
        known = {f"TIERCACHE_{field.name.upper()}": field.name for field in fields(cls)}
        given: dict[str, object] = {}
        for variable, value in environment.items():
            if not variable.startswith("TIERCACHE_") or variable in ("TIERCACHE_URL", "TIERCACHE_PURE"):
                continue
            if _OF_A_SERVICE.fullmatch(f"{variable}={value}"):
                continue
            if variable not in known:
                raise SettingError(
                    f"{variable} is not a setting of tiercache{nearest(variable, [*known, 'TIERCACHE_URL'])}"
                )
            name = known[variable]
            given[name] = _CHECKS[name](_from_text(name, value), variable)
        return environment.get("TIERCACHE_URL") or None, given


def _from_text(name: str, value: str) -> object:
    """Environment text as the check takes it: "600" are seconds, "none" is None."""
    text = value.strip()
    if text.lower() == "none":
        return None
    try:
        return float(text) if _CHECKS[name] in (lifetime, _staleness, _wait) else text
    except ValueError:
        return text
