"""The text of a value in a key: the same in every process, and no other value's.

Type and extent of each part can be read back from the text: strings are quoted, the parts of an object follow
the name of its class, sets and dicts are sorted. Nothing is written by its address or its repr; what has no
other text is an UnstableKey. What a call uses without depending on it (a session, a client, a lock) is
"uncounted": it is left out among arguments and attributes, and keeps an empty place, "~", in a container.

Equal is not the same: 1, 1.0 and True differ, and so do Decimal("1.0") and Decimal("1.00"), 0.0 and -0.0,
and two datetimes of one instant in two zones. Two dicts of one content are the same in any order.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import functools
import io
import re
import struct
import sys
import types
import uuid
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from decimal import Decimal
from enum import Enum, Flag
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, NoReturn

from tiercache._core.tags import ADDRESS, module_name
from tiercache._errors import UnstableKey

_MAX_DEPTH = 50  # five Python frames each
_WORD = struct.calcsize("P")
_CLASSES = 1024  # remembered, so that the key of a method takes 10 us and not 17
_ESCAPED = re.compile(r"[\\'\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_ESCAPES = {"\\": "\\\\", "'": "\\'"}
_PLAIN = re.compile(r"[A-Za-z0-9_.:<>]+")

# By name, in the packages' own terms, because none of them is imported here: package, then classes.
_UNCOUNTED = {
    (package, name)
    for package, names in {
        "_thread": "lock RLock",
        "aiohttp": "ClientSession",
        "anyio": "CapacityLimiter Condition Event Lock Semaphore",
        "asyncio": "Barrier Condition Event Lock Semaphore",
        "django": "HttpRequest",
        "flask": "Request",
        "httpx": "AsyncClient Client",
        "logging": "Logger LoggerAdapter",
        "loguru": "Logger",
        "multiprocessing": "Barrier Condition Event Lock RLock Semaphore",
        "redis": "AbstractConnection Connection ConnectionPool PubSub Redis RedisCluster Sentinel",
        "requests": "Session",
        "sqlalchemy": "AsyncConnection AsyncEngine AsyncSession Connection Engine Session "
        "async_scoped_session async_sessionmaker scoped_session sessionmaker",
        "starlette": "BackgroundTask BackgroundTasks HTTPConnection Response",
        "structlog": "BoundLoggerBase BoundLoggerLazyProxy",
        "threading": "Barrier Condition Event Semaphore _RLock",
        "tiercache": "SyncCache TierCache",
        "werkzeug": "Request",
    }.items()
    for name in names.split()
}
_registered: list[type] = []  # only ever grows, so it is read without a lock

_NAMED = (type, types.FunctionType, types.BuiltinFunctionType)
_NO_VALUES = (
    AsyncIterator,
    Awaitable,
    Iterator,
    functools.partial,
    functools.partialmethod,
    io.IOBase,
    types.ModuleType,
    weakref.ReferenceType,
)


def text_of_leaf(value: object) -> str | None:
    """The text of a value without parts; None for any other."""
    leaf = _LEAVES.get(type(value))
    return None if leaf is None else leaf(value)


def text_of_counted_leaf(value: object) -> str | None:
    """The text of a value without parts, whose type counts; None for any other."""
    leaf = COUNTED_LEAVES.get(type(value))
    return None if leaf is None else leaf(value)


def register_uncounted(cls: type) -> None:
    """Leave instances of *cls* and of its subclasses out of every key made from now on.

    For what a call uses and does not depend on: a client, a pool, a connection. Call it at import, in every
    process: a process that has not called it makes other keys, or UnstableKey.
    """
    if not isinstance(cls, type):
        raise TypeError(f"register_uncounted() takes a class, not {cls!r}; write {type(cls).__name__}")
    if cls not in _registered:
        _registered.append(cls)
        _is_uncounted_class.cache_clear()
        for leaf in [leaf for leaf in COUNTED_LEAVES if issubclass(leaf, cls)]:
            COUNTED_LEAVES.pop(leaf, None)


class ValueText:
    """Writes one value as text. Remembers what it is inside of, so it serves one value at a time.

    *function*, and *ignorable*, the parameter that may be ignored instead, are for the messages.
    """

    def __init__(self, function: str, ignorable: str | None = None) -> None:
        self._function = function
        self._ignorable = ignorable
        self._outer: list[object] = []

    def of(self, value: object, path: str) -> str:
        """The text of *value*; UnstableKey, naming *path* and what to write, where it has none."""
        leaf = text_of_leaf(value)
        if leaf is not None:
            return leaf
        if any(value is outer for outer in self._outer):
            self.refuse(value, path, "it holds itself")
        if len(self._outer) == _MAX_DEPTH:
            self.refuse(value, path, f"it is nested more than {_MAX_DEPTH} deep")
        self._outer.append(value)
        text = self._compound(behind_proxy(value), path)
        self._outer.pop()
        return text

    def refuse(self, value: object, path: str, why: str) -> NoReturn:
        """Raises the UnstableKey that says so."""
        cls = type(value).__name__
        ignore = f'ignore=["{self._ignorable}"], ' if self._ignorable else ""
        raise UnstableKey(
            f"{self._function}(): {path}: {cls} has no key that is the same in every process: {why}; "
            f"write {ignore}key=..., or a __cache_key__ in a class of yours"
        )

    def _compound(self, value: Any, path: str) -> str:
        cls = type(value)
        if is_uncounted(value):
            return "~"  # an element keeps its place
        if issubclass(cls, _NAMED):
            return self._named(value, path)
        if issubclass(cls, types.MethodType):
            owner = self.of(value.__self__, f"{path}.__self__")
            return f"method({self._named(value.__func__, path)}, {owner})"
        if hasattr(cls, "__cache_key__"):
            chosen = value.__cache_key__
            chosen = chosen() if callable(chosen) else chosen
            if chosen is None:
                self.refuse(value, path, "its __cache_key__ is None, as that of any other may be")
            return f"{_class_name(cls)}({self.of(chosen, f'{path}.__cache_key__')})"
        if issubclass(cls, Flag):
            return f"{_class_name(cls)}[{value._value_}]"
        if issubclass(cls, Enum):
            return f"{_class_name(cls)}[{_word(value._name_)}]"
        if cls.__module__.startswith("asyncpg.") and issubclass(cls, uuid.UUID):
            return _LEAVES[uuid.UUID](value)  # ids as this driver returns them equal those written by hand
        if issubclass(cls, _NO_VALUES):
            self.refuse(value, path, "what it will give cannot be told from it")
        return self._instance(value, path)

    def _named(self, value: Any, path: str) -> str:
        module, name = value.__module__, value.__qualname__
        found: Any = sys.modules.get(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if getattr(found, "__func__", found) is not value:
            self.refuse(value, path, f"{name} does not lead back to it; define it at the top of a module")
        return _word(f"{module_name(module)}:{name}")

    def _instance(self, value: object, path: str) -> str:
        cls: type = type(value)
        base = next(c for c in cls.__mro__ if c in _LEAVES or c in _CONTAINERS or c is object)
        if cls is object or _hides_state(cls, base):
            self.refuse(value, path, "its state is not in its attributes")
        if base is object:
            parts = self._attributes(value, base, path)
        else:
            inner = _LEAVES[base](value) if base in _LEAVES else self._items(value, base, path)
            if cls is base:
                return inner
            parts = [inner, *self._attributes(value, base, path)]
        return f"{_class_name(cls)}({', '.join(parts)})"

    def _items(self, value: Any, base: Any, path: str) -> str:
        # By the methods of the base: a subclass may show less than it holds.
        if issubclass(base, dict):
            pairs = [(self.of(key, f"a key of {path}"), item) for key, item in base.items(value)]
            items = [f"{key}: {self.of(item, f'{path}[{key}]')}" for key, item in pairs]
        else:
            items = [self.of(item, f"{path}[{index}]") for index, item in enumerate(base.__iter__(value))]
        opening, closing, is_ordered = _CONTAINERS[base]
        return opening + ", ".join(items if is_ordered else sorted(items)) + closing

    def _attributes(self, value: object, base: type, path: str) -> list[str]:
        cls: type = type(value)
        attributes = dict(getattr(value, "__dict__", ()))
        for name, slot in _slots(cls, base):
            with contextlib.suppress(AttributeError):  # never set
                attributes.setdefault(name, slot.__get__(value))
        if getattr(attributes.get("_sa_instance_state"), "expired_attributes", None):
            self.refuse(value, path, "its attributes are expired, so refresh it or pass its id")
        texts = []
        for name in sorted(attributes):
            attribute = behind_proxy(attributes[name])
            # A cached property depends on the rest, and on whether it was read: the key must not.
            is_derived = type(getattr(cls, name, None)).__name__ == "cached_property"
            is_derived = is_derived or _is_cached_method(attribute, value)
            if not (is_derived or name.startswith("_sa_") or is_uncounted(attribute)):
                texts.append(f"{_word(name)}={self.of(attribute, f'{path}.{name}')}")
        return texts


def is_uncounted(value: object) -> bool:
    """Whether a call only uses the value, so that keys leave it out: by its class or one above that."""
    cls: type = type(value)
    return _is_uncounted_class(cls)


def _is_cached_method(attribute: object, owner: object) -> bool:
    """Whether it is *owner*'s own method, behind a cache: `self.get = cache.cached(self._get)`."""
    return (
        isinstance(attribute, types.MethodType)
        and attribute.__self__ is owner
        and hasattr(attribute.__func__, "cache_info")
    )


@functools.lru_cache(_CLASSES)
def _is_uncounted_class(cls: type) -> bool:
    return issubclass(cls, tuple(_registered)) or any(
        (owner.__module__.partition(".")[0], owner.__name__) in _UNCOUNTED for owner in cls.__mro__
    )


def behind_proxy(value: Any) -> Any:
    """What a proxy of werkzeug stands for at this moment: the user behind `current_user` counts."""
    cls = type(value)
    if cls.__name__ == "LocalProxy" and cls.__module__.startswith("werkzeug."):
        return value._get_current_object()
    return value


@functools.lru_cache(_CLASSES)
def _slots(cls: type, base: type) -> list[tuple[str, types.MemberDescriptorType]]:
    return [
        (name, member)
        for owner in cls.__mro__
        if owner not in base.__mro__
        for name, member in vars(owner).items()
        if isinstance(member, types.MemberDescriptorType) and name != "__dict__"
    ]


@functools.lru_cache(_CLASSES)
def _hides_state(cls: type, base: type) -> bool:
    """Whether instances hold more than *base* and their attributes do: the state of a type made in C."""
    pointers = len(_slots(cls, base))
    if cls.__dictoffset__ != base.__dictoffset__ and (cls.__dictoffset__ > 0 or cls.__dictoffset__ == -_WORD):
        pointers += 1  # other negative offsets: the dict lies in front of the object
    if cls.__weakrefoffset__ != base.__weakrefoffset__ and cls.__weakrefoffset__ > 0:
        pointers += 1
    return cls.__basicsize__ > base.__basicsize__ + pointers * _WORD


def _word(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else _quoted(name)


def _class_name(cls: type) -> str:
    return _word(f"{module_name(cls.__module__)}:{cls.__qualname__}")


def _quoted(text: str) -> str:
    if type(text) is str and text.isascii() and text.isprintable() and "'" not in text and "\\" not in text:
        return f"'{text}'"
    # Not repr(): which characters that escapes depends on Python's Unicode version.
    escaped = _ESCAPED.sub(
        lambda found: _ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04x}", str.__str__(text)
    )
    return f"'{escaped}'"


def _integer(value: int) -> str:
    # Python refuses to write very long integers in decimal.
    return int.__repr__(value) if int.bit_length(value) <= 2048 else int.__format__(value, "#x")


def _moment(name: str, iso: str, value: Any) -> str:
    """An instant by its clock, its offset and its zone: the name that this has, or else its values."""
    zone = "" if value.tzinfo is None else str(value.tzinfo)
    if ADDRESS.search(zone):
        zone = ValueText(name).of(value.tzinfo, "tzinfo")
    return f"{name}({iso}{zone and ' ' + _quoted(zone)}{' fold' if value.fold else ''})"


def _pattern(pattern: str | bytes) -> str:
    return _quoted(pattern) if isinstance(pattern, str) else bytes.__repr__(pattern)


def _path(name: str, value: PurePath) -> str:
    # Without the module, which is another one from Python 3.13 on.
    return f"{name}({_quoted(PurePath.__str__(value))})"


# Each by the method of the type itself: a subclass may print something else, or the same for two values.
_LEAVES: dict[type, Callable[[Any], str]] = {
    types.NoneType: repr,
    types.EllipsisType: lambda value: "...",
    bool: repr,
    int: _integer,
    float: float.__repr__,
    complex: lambda value: f"complex({value.real!r}, {value.imag!r})",
    str: _quoted,
    bytes: bytes.__repr__,
    bytearray: lambda value: f"bytearray({bytearray.hex(value)})",
    range: repr,
    Decimal: lambda value: f"Decimal({Decimal.__str__(value).upper()})",  # the context decides e or E
    uuid.UUID: lambda value: f"UUID({value.int:032x})",
    datetime.date: lambda value: f"date({datetime.date.isoformat(value)})",
    datetime.time: lambda value: _moment("time", datetime.time.isoformat(value), value),
    datetime.datetime: lambda value: _moment("datetime", datetime.datetime.isoformat(value), value),
    datetime.timedelta: lambda value: f"timedelta({value.days}, {value.seconds}, {value.microseconds})",
    re.Pattern: lambda value: f"re.Pattern({_pattern(value.pattern)}, {value.flags})",
}
for _cls in (PurePath, PurePosixPath, PureWindowsPath, Path, PosixPath, WindowsPath):
    _LEAVES[_cls] = functools.partial(_path, _cls.__name__)
COUNTED_LEAVES = dict(_LEAVES)  # but for those that were registered

_CONTAINERS = {  # opening, closing, whether the order counts
    tuple: ("(", ")", True),
    list: ("[", "]", True),
    set: ("set(", ")", False),
    frozenset: ("frozenset(", ")", False),
    dict: ("{", "}", False),
    collections.OrderedDict: ("OrderedDict(", ")", True),
}
