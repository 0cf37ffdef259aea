"""How the instances of a user's class come apart into storable parts, and go together again.

A Shape travels as its class's name, a print of its parts, and the parts. The print says which
parts the class had where the value was stored; a process whose class has others must not put
it together. Nothing here runs code of the class: an instance is laid out anew and its fields
are set, past __init__, __post_init__ and a frozen class's __setattr__; the exceptions are an
Enum's look-up of a Flag combination, and the functions that the user registered.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, Flag
from functools import cached_property, partial
from types import MemberDescriptorType, SimpleNamespace
from typing import Any

from tiercache._core.tags import module_name


class Refused(Exception):
    """A part cannot be stored; `steps` grow from the part outwards as this passes up."""

    def __init__(self, reason: str, cause: BaseException | None = None) -> None:
        super().__init__(reason)
        self.cause = cause
        self.steps: list[tuple[object, str]] = []  # (a container, the way from it to what it holds)

    def path(self, depth: int | None = None) -> str:
        """The way to the part, or only the first *depth* steps of it."""
        return "value" + "".join([way for _, way in reversed(self.steps)][:depth])

    def message(self) -> str:
        return f"{self.path()}: {self}"


@dataclass(eq=False, slots=True)
class Shape:
    """One class's way into parts and back.

    `take` raises Refused for an instance that would lose something. `make` gets as many parts
    as there are `ways`, of any type, and may raise anything; whether what it returns is of this
    class is the caller's to check.
    """

    cls: type
    print: str
    ways: tuple[str, ...]  # from an instance to each part, as a path shows it: ".price"
    immutable: bool  # an instance is immutable if its parts are
    take: Callable[[Any], Sequence[Any]]
    make: Callable[[Sequence[Any]], Any]
    name: str = field(init=False)

    def __post_init__(self) -> None:
        # A script's classes are those of its file: in itself, and in the workers that it spawns.
        self.name = f"{module_name(self.cls.__module__)}:{self.cls.__qualname__}"

    def way(self, parts: Sequence[Any], index: int) -> str:
        return self.ways[index]


def called(cls: type) -> str:
    """The class as a message shows it."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def register_hint(cls: type) -> str:
    return f"cache.register({cls.__name__}, encode, decode)"


def describe(cls: type) -> Shape | None:
    """The shape of an Enum, NamedTuple or dataclass; None for any other class.

    Raises Refused for one of these whose instances hold more than their fields tell.
    """
    if issubclass(cls, Flag):
        return flag_shape(cls)
    if issubclass(cls, Enum):
        return enum_shape(cls)
    if issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple):
        return namedtuple_shape(cls)
    if dataclasses.is_dataclass(cls):
        return dataclass_shape(cls)
    return None


def registered_shape(cls: type, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> Shape:
    """The shape of a class whose instances come apart and together by the user's functions."""

    def take(instance: Any) -> Sequence[Any]:
        try:
            return (encode(instance),)
        except Exception as error:  # the user's function may raise anything
            raise Refused(f"encode of {called(cls)} raised {error!r}", error) from error

    return Shape(cls, "registered", (", encoded",), False, take, lambda parts: decode(parts[0]))


def enum_shape(cls: type[Enum]) -> Shape:
    members = cls.__members__

    def take(member: Enum) -> Sequence[Any]:
        if members.get(member._name_) is not member:
            raise Refused(f"{called(cls)} does not find this member by its name {member._name_!r}")
        return (member._name_,)

    return Shape(cls, "enum", (".name",), True, take, lambda parts: members[parts[0]])


def flag_shape(cls: type[Flag]) -> Shape:
    def take(flag: Flag) -> Sequence[Any]:
        try:
            if cls(flag._value_) is flag:
                return (flag._value_,)
        except ValueError:
            pass  # as when it makes another one
        raise Refused(f"{called(cls)} does not find this flag by its value")

    return Shape(cls, "flag", (".value",), True, take, lambda parts: cls(parts[0]))


def namedtuple_shape(cls: Any) -> Shape:
    fields: tuple[str, ...] = cls._fields
    derived = derived_names(cls)

    def take(instance: Any) -> Sequence[Any]:
        refuse_extra(instance, derived)
        return list(tuple.__iter__(instance))

    ways = tuple(f".{name}" for name in fields)
    immutable = cls.__dictoffset__ == 0  # a subclass without __slots__ takes attributes
    return Shape(cls, "namedtuple " + ",".join(fields), ways, immutable, take, partial(tuple.__new__, cls))


def dataclass_shape(cls: Any) -> Shape:
    fields = tuple(each.name for each in dataclasses.fields(cls))
    check_layout(cls, fields)
    derived = derived_names(cls)
    allowed = derived.union(fields)

    def take(instance: Any) -> Sequence[Any]:
        refuse_extra(instance, allowed)
        try:
            return [getattr(instance, name) for name in fields]
        except AttributeError as error:
            raise Refused(f"this {called(cls)} has a field without a value: {error}", error) from error

    new, put = object.__new__, object.__setattr__

    def make(parts: Sequence[Any]) -> Any:
        instance = new(cls)
        for name, part in zip(fields, parts, strict=True):
            put(instance, name, part)
        return instance

    ways = tuple(f".{name}" for name in fields)
    # Looked up in the class itself: a subclass that is no dataclass of its own takes attributes.
    params = vars(cls).get("__dataclass_params__")
    immutable = params is not None and params.frozen and not derived
    return Shape(cls, "dataclass " + ",".join(fields), ways, immutable, take, make)


def check_layout(cls: type, fields: tuple[str, ...]) -> None:
    """Refuse a dataclass whose instances keep state where its fields do not show it."""
    hint = f"return its data, or {register_hint(cls)}"
    try:
        object.__new__(cls)
    except TypeError as error:  # a builtin base (dict, Exception, ...) with contents of its own
        raise Refused(f"{called(cls)} is more than its fields ({error}); {hint}", error) from error
    slots = {
        name for base in cls.__mro__ for name, at in vars(base).items() if type(at) is MemberDescriptorType
    }
    if extra := slots.difference(fields):
        raise Refused(f"{called(cls)} has slots that are no fields ({listed(extra)}); {hint}")
    for name in fields:
        at = inspect.getattr_static(cls, name, None)
        if hasattr(type(at), "__set__") and type(at) is not MemberDescriptorType:
            raise Refused(f"{called(cls)} keeps its field {name!r} behind a descriptor; {hint}")


def derived_names(cls: type) -> frozenset[str]:
    """The attributes that an instance makes anew from its fields when asked."""
    return frozenset(
        name for base in cls.__mro__ for name, at in vars(base).items() if isinstance(at, cached_property)
    )


def refuse_extra(instance: Any, allowed: frozenset[str]) -> None:
    state = getattr(instance, "__dict__", {}).keys()
    if state <= allowed:
        return
    if extra := state - allowed - {"__orig_class__"}:  # typing's note of how it was called: Box[int](1)
        raise Refused(
            f"this {called(type(instance))} carries attributes that are no fields ({listed(extra)}) and "
            f"would be lost; make them fields, or {register_hint(type(instance))}"
        )


def listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names))


def classes_in(annotation: object) -> Iterator[type]:
    """Each class that *annotation* names, also inside fields of the classes it names.

    Whatever it does not understand it passes over. Strings among the fields are evaluated
    where their class was defined; one that cannot be is passed over, too.
    """
    todo = [annotation]
    met: dict[int, object] = {}  # by id, for not all annotations are hashable; the value keeps the id taken
    while todo:
        part = todo.pop()
        if id(part) in met:
            continue
        met[id(part)] = part
        if isinstance(part, type):
            yield part
            todo.extend(field_hints(part))
        elif isinstance(part, list):  # the arguments of a Callable
            todo.extend(part)
        elif isinstance(part, (typing.NewType, TYPE_ALIAS)):
            todo.append(meant(part))
        todo.extend(arguments_of(part))


TYPE_ALIAS: Any = getattr(typing, "TypeAliasType", ())  # `type X = ...`, from Python 3.12


def meant(alias: Any) -> object:
    try:
        return alias.__supertype__ if isinstance(alias, typing.NewType) else alias.__value__
    except Exception:  # an alias evaluates its right-hand side, the user's code, only now
        return None


def arguments_of(annotation: object) -> Sequence[object]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return arguments[:1]
    if origin is typing.Literal:
        return [type(value) for value in arguments]
    return [origin, *arguments]


def field_hints(cls: type) -> Iterator[object]:
    if not (dataclasses.is_dataclass(cls) or hasattr(cls, "_fields") or typing.is_typeddict(cls)):
        return
    for base in cls.__mro__:
        module = sys.modules.get(base.__module__)
        names = vars(module) if module else {}, dict(vars(base))
        try:
            hints = inspect.get_annotations(base)
        except Exception:  # from Python 3.14 on they are evaluated here, and may name what is not there
            continue
        for hint in hints.values():
            alone = SimpleNamespace(__annotations__={"hint": hint})
            try:
                yield from typing.get_type_hints(alone, *names, include_extras=True).values()
            except Exception:  # a name imported for type checkers only, or no annotation at all
                continue
