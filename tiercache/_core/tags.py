"""Tags as a user wrote them, checked; and templates of tags, rendered over the arguments of a call.

A rendered tag is the same text in every process, or an error: it holds no address, no set (their order
differs from process to process) and no None where a name was meant. What is wrong with a template itself
is found when it is built, not at the first call.
"""

from __future__ import annotations

import inspect
import re
import reprlib
import string
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from enum import Enum
from hashlib import blake2b
from pathlib import PurePath
from typing import Any

from tiercache._nearest import nearest_of

MAX_TAG_BYTES = 512
MAX_TAGS = 128
_SURE_LENGTH, _SURE_INT = 128, 10**18  # of a value whose tag needs no check

ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+>")
_FIELD = re.compile(r"([^\W\d]\w*)((?:\.[^\W\d]\w*|\[[^\[\]]+\])*)")
_ROW = re.compile("row:[^:]+:")
_STEP = re.compile(r"\.(\w+)|\[([^\[\]]+)\]")
_CONVERSIONS: dict[str | None, Callable[[object], object]] = {
    None: lambda value: value,
    "s": str,
    "r": repr,
    "a": ascii,
}


def check_tags(tags: object, *, most: int | None = MAX_TAGS) -> tuple[str, ...]:
    """The tags, each once, in the order given; a lone str is one tag.

    TypeError for what is no str, ValueError for a tag that is empty, holds a NUL or a lone surrogate,
    or is longer than MAX_TAG_BYTES as UTF-8, and for more than *most* different ones.
    """
    checked = tuple(dict.fromkeys(map(_check_tag, _each(tags))))
    if most is not None and len(checked) > most:
        raise ValueError(
            f"an entry has at most {most} tags, not {len(checked)}; "
            "write one tag for what they have in common"
        )
    return checked


def check_entry_tags(tags: object) -> tuple[str, ...]:
    """As check_tags(), for what an entry depends on: under "row:users:7" it depends on "row:users:*", too.

    A write that cannot tell which rows of a table it changed thus reaches each of them, in every process.
    """
    given = check_tags(tags)
    wider: dict[str, None] = {}
    for tag in given:
        if tag.startswith("row:") and (match := _ROW.match(tag)):
            wider[match[0] + "*"] = None
    return check_tags((*given, *wider)) if wider else given


class TagTemplates:
    """The declared tags of one function, rendered for each call. Built once; safe from any thread.

    A template is a `str.format` text over the parameters: "user:{user.id}", "order:{order[id]:05}". Private
    attributes are refused, and an Enum member renders as its value. A callable gets, by name, those arguments
    that it asks for, and gives a tag or several.
    """

    print: int
    """32 bits that tell one declaration from another, in any order, in every process; 0 for no tags.

    A callable counts by its name: two lambdas of one module have one print.
    """

    def __init__(
        self, tags: str | Iterable[str] | Callable[..., str | Iterable[str]], parameters: Collection[str]
    ) -> None:
        self._choose: Chooser | None = None
        self._templates: tuple[Template, ...] = ()
        self._constant: tuple[str, ...] | None = None
        self._plain: list[tuple[str, str | None, str]] = []
        if callable(tags):
            self._choose = Chooser(tags, parameters, "tags")
            declared = ["\0" + _name(tags)]  # no template holds a NUL, so none has this print
        else:
            declared = sorted(texts := check_tags(tags))
            self._templates = tuple(Template(text, parameters, "tags") for text in texts)
            if not any(template.fields for template in self._templates):
                self._constant = self._rendered({})
            plain = [template.plain for template in self._templates]
            if all(each is not None and _is_sure(*each) for each in plain):
                self._plain = [each for each in plain if each is not None]
        digest = blake2b("\0".join(declared).encode(), digest_size=4).digest()
        self.print = int.from_bytes(digest) or 1 if declared else 0

    def pieces(self) -> list[tuple[str, str | None, str]] | None:
        """Of each tag the text before its one parameter, that, and the text after it; None: no parameter.

        None for all where some tag is of another form, or may need a check.
        """
        return self._plain if self._plain or not (self._choose or self._templates) else None

    def render(self, arguments: Mapping[str, object]) -> tuple[str, ...]:
        """The tags of a call with these arguments, as check_entry_tags() gives them.

        ValueError, naming the template, where a field is None, is a set, shows a memory address or cannot be
        had from its argument. What a callable raises passes through.
        """
        if self._constant is not None:
            return self._constant
        if self._choose is not None:
            return check_entry_tags(self._choose(arguments))
        return (self._plain and self._surely(arguments)) or self._rendered(arguments)

    def _surely(self, arguments: Mapping[str, object]) -> tuple[str, ...] | None:
        """The tags where they need no check, as with the usual templates and arguments; else None."""
        tags = []
        for before, parameter, after in self._plain:
            value = "" if parameter is None else arguments[parameter]
            if type(value) is str:
                if not (len(value) <= _SURE_LENGTH and value.isascii() and value.isprintable()):
                    return None
            elif type(value) is not int or not -_SURE_INT < value < _SURE_INT:
                return None
            tags.append(f"{before}{value}{after}")
        return tuple(dict.fromkeys(tags)) if len(tags) > 1 else (tags[0],)

    def _rendered(self, arguments: Mapping[str, object]) -> tuple[str, ...]:
        return check_entry_tags([template.tag(arguments) for template in self._templates])


class Template:
    """A text with fields over a function's parameters; its mistakes are ValueErrors when it is built.

    *setting* is the name under which the user gave it, for the messages.
    """

    def __init__(self, text: str, parameters: Collection[str], setting: str) -> None:
        self.fields: list[Field] = []
        self._pieces: list[str | Field] = []
        self._said = f"{setting} template {text!r}"
        try:
            for literal, name, spec, conversion in string.Formatter().parse(text):
                self._pieces.append(literal)
                if name is not None:
                    self.fields.append(Field(name, conversion, spec or "", parameters))
                    self._pieces.append(self.fields[-1])
        except ValueError as error:
            raise ValueError(
                f"{self._said}: {error}; write {{parameter}} for a field, {{{{ and }}}} for braces"
            ) from None
        self.plain: tuple[str, str | None, str] | None = None  # of the usual template, "user:{user_id}"
        if not self.fields:
            self.plain = "".join(map(str, self._pieces)), None, ""
        elif len(self.fields) == 1 and self.fields[0].is_bare:
            at = self._pieces.index(self.fields[0])
            before, after = (list(map(str, part)) for part in (self._pieces[:at], self._pieces[at + 1 :]))
            self.plain = "".join(before), self.fields[0].name, "".join(after)

    def tag(self, arguments: Mapping[str, object]) -> str:
        """The text as a tag; ValueError where a field cannot be a part of one."""
        if self.plain is not None:
            before, parameter, after = self.plain
            value = "" if parameter is None else arguments[parameter]
            if type(value) is int or type(value) is str:
                return f"{before}{value}{after}"
        return self.fill(arguments, _tag_part)

    def fill(self, arguments: Mapping[str, object], write: Callable[[Field, object], str]) -> str:
        """The text with `write(field, value)` in place of each field; ValueError where there is no value."""
        filled = []
        for piece in self._pieces:
            if isinstance(piece, str):
                filled.append(piece)
                continue
            try:
                filled.append(write(piece, piece.value(arguments)))
            except ValueError as error:
                raise ValueError(f"{self._said}: {{{piece.name}}} {error}") from error
        return "".join(filled)


class Field:
    """One {field} of a template: a parameter, the way from there to a value, and how that is formatted."""

    def __init__(self, name: str, conversion: str | None, spec: str, parameters: Collection[str]) -> None:
        parsed = _FIELD.fullmatch(name)
        if parsed is None:
            raise ValueError(f"{{{name}}} names no parameter")
        parameter, way = parsed.groups()
        if parameter not in parameters:
            raise ValueError(f"{parameter!r} is no parameter; {nearest_of(parameter, parameters)}")
        self.name = name
        self._parameter = parameter
        self._steps = [(attribute, _index(index)) for attribute, index in _STEP.findall(way)]
        for attribute, _ in self._steps:
            if attribute.startswith("_"):
                raise ValueError(f"{{{name}}} reads the private attribute {attribute!r}; use a public one")
        if conversion not in _CONVERSIONS:
            raise ValueError(f"{{{name}!{conversion}}} has an unknown conversion; there are !s, !r and !a")
        if "{" in spec:
            raise ValueError(f"{{{name}:{spec}}} has a field in its format; write the format out")
        self._conversion = conversion
        self._spec = spec
        self.is_formatted = bool(conversion or spec)
        self.is_bare = not (self.is_formatted or self._steps)  # a parameter, as it is

    def value(self, arguments: Mapping[str, object]) -> object:
        """What the field names in these arguments; ValueError where it is not there."""
        value: Any = arguments[self._parameter]
        try:
            for attribute, index in self._steps:
                value = getattr(value, attribute) if attribute else value[index]
        except (AttributeError, LookupError, TypeError) as error:
            raise ValueError(f"has no value: {type(error).__name__}: {error}") from error
        return value

    def text(self, value: object) -> str:
        """The value as `str.format` writes it, an Enum member as its value."""
        if isinstance(value, Enum):
            value = value.value
        try:
            return format(_CONVERSIONS[self._conversion](value), self._spec)
        except TypeError as error:  # "unsupported format string": the format does not fit the value
            raise ValueError(str(error)) from error


class Chooser:
    """Calls a user's function with those arguments of a call that it names.

    Built with the parameters there are: a function that requires another is a ValueError then, and so is
    one that takes arguments in any way but by name.
    """

    def __init__(self, function: Callable[..., object], parameters: Collection[str], setting: str) -> None:
        said = f"{setting}={_name(function)}"
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"{said} is an async def, and it is not awaited; write a def")
        try:
            signature = inspect.signature(function)
        except ValueError:
            raise ValueError(f"{said} does not say which arguments it takes; write a lambda") from None
        self._function = function
        self._names: list[str] = []
        self._takes_all = False
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                self._takes_all = True
            elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
                raise ValueError(f"{said} takes {name!r} by position; name the parameters of the function")
            elif name in parameters:
                self._names.append(name)
            elif parameter.default is parameter.empty:
                raise ValueError(f"{said} requires {name!r}, no parameter; {nearest_of(name, parameters)}")

    def __call__(self, arguments: Mapping[str, object]) -> object:
        if self._takes_all:
            return self._function(**arguments)
        return self._function(**{name: arguments[name] for name in self._names})


def module_name(module: str) -> str:
    """The name under which any process may import the module; of a script, its file's stem.

    A script is `__main__` where it was started, `__mp_main__` in the workers that it spawns, and may be
    imported under its own name elsewhere; two scripts are not the same module.
    """
    if module not in ("__main__", "__mp_main__"):
        return module
    script = sys.modules.get(module)
    if spec := getattr(script, "__spec__", None):
        return str(spec.name)
    return PurePath(getattr(script, "__file__", None) or "__main__").stem


def _is_sure(before: str, _: str | None, after: str) -> bool:
    """Whether any short printable text between the two makes a tag, and none that has a wider one."""
    fits = len(before + after) <= MAX_TAG_BYTES - _SURE_LENGTH and (before + after).isascii()
    return fits and (before + after).isprintable() and not ("row:".startswith(before) or before[:4] == "row:")


def _each(tags: object) -> Iterator[object]:
    if isinstance(tags, str):
        return iter((tags,))
    if isinstance(tags, bytes | bytearray | Mapping) or not isinstance(tags, Iterable):
        raise TypeError(f"tags must be a str or several, not {reprlib.repr(tags)}; for none write []")
    return iter(tags)


def _check_tag(tag: object) -> str:
    if not isinstance(tag, str):
        raise TypeError(f"a tag must be a str, not {reprlib.repr(tag)}; write f'name:{{value}}'")
    text = str.__str__(tag)  # of a StrEnum, or another subclass of str, the bare text
    if 0 < len(text) <= MAX_TAG_BYTES and text.isascii() and text.isprintable():
        return text
    if not text:
        raise ValueError("a tag must not be empty ('')")
    if "\0" in text:
        raise ValueError(f"a tag must not hold a NUL: {reprlib.repr(text)}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(
            f"a tag must be valid Unicode, without lone surrogates: {reprlib.repr(text)}"
        ) from None
    if size > MAX_TAG_BYTES:
        raise ValueError(
            f"a tag has at most {MAX_TAG_BYTES} bytes, not {size}: {reprlib.repr(text)}; write an id"
        )
    return text


def _tag_part(field: Field, value: object) -> str:
    value = value.value if isinstance(value, Enum) else value
    text = field.text(value)
    problem = _disorder(value)
    if value is None:
        problem = "is None"
    elif not problem and not isinstance(value, str) and ADDRESS.search(text):
        problem = f"holds a memory address, {reprlib.repr(text)}"
    if problem:
        raise ValueError(
            f"{problem}; name an attribute, {{{field.name}.id}}, or write tags=lambda ...: [...]"
        )
    return text


def _disorder(value: object) -> str:
    """What of *value* is written in an order that is not its own; "" for nothing."""
    if isinstance(value, list | tuple):
        return next((f"holds what {found}" for found in map(_disorder, value) if found), "")
    if isinstance(value, dict):
        return "is a dict, in the order in which it was filled"
    return "is a set, in another order in each process" if isinstance(value, set | frozenset) else ""


def _index(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _name(function: Callable[..., object]) -> str:
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{module_name(named.__module__)}:{named.__qualname__}"
