"""A call has one key: the same in every process, and no other call's.

    shop.users.get_user(user_id=7)              shop.users.get_user@2(user_id='7')

What stands for each argument is the work of key_text.
"""

from __future__ import annotations

import inspect
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from inspect import Parameter

from tiercache._core.key_text import (
    ValueText,
    behind_proxy,
    is_uncounted,
    register_uncounted,
    text_of_counted_leaf,
)
from tiercache._core.tags import Chooser, Field, Template, module_name
from tiercache._errors import UnstableKey
from tiercache._nearest import nearest_of

__all__ = ["MAX_KEY", "CallKeys", "check_key", "register_uncounted"]

MAX_KEY = 512  # bytes of a key as stored
_MAX_PREFIX = MAX_KEY // 2  # so that a shortened key still begins with its function's whole prefix

_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # controls and lone surrogates
_VERSION = re.compile(r"[A-Za-z0-9_.+-]+")


def check_key(key: object) -> str:
    """The key as it is stored: itself where it fits, else its readable head, "~" and 32 hex digits.

    It fits with at most MAX_KEY bytes of UTF-8 and no control characters or lone surrogates. A stored key
    is stored as itself again. TypeError for anything but a str, ValueError for an empty one.
    """
    if not isinstance(key, str):
        advice = "key.decode()" if isinstance(key, bytes | bytearray) else "f'name:{key}'"
        raise TypeError(f"a key must be a str, not {reprlib.repr(key)}; write {advice}")
    if not key:
        raise ValueError("a key must not be empty ('')")
    return _shortened(str.__str__(key), MAX_KEY)


class CallKeys:
    """Makes the key of each call of one function. Built once, at decoration; safe from any thread.

    *key* decides alone what tells calls apart: a callable that gets the arguments it names and gives a str
    or another value with a key of its own, or a template, "{user.id}", whose fields count by type and value.
    *ignore* names parameters that do not count. Entries of another *version* are other entries.
    """

    prefix: str
    """"module.qualname" and "@version": every key of the function begins with it and "("."""
    parameters: tuple[str, ...]

    def __init__(
        self,
        function: Callable[..., object],
        *,
        version: int | str | None = None,
        ignore: Iterable[str] = (),
        key: Callable[..., object] | str | None = None,
    ) -> None:
        name = getattr(function, "__qualname__", None)
        if name is None or name.endswith("<lambda>"):
            raise TypeError(f"{function!r} has no name to make keys of; write a def")
        whole_name = f"{module_name(function.__module__)}.{name}{_suffix(version)}"
        self.prefix = _shortened(whole_name, _MAX_PREFIX)
        self._name = name
        self._signature = inspect.signature(function)
        self.parameters = tuple(self._signature.parameters)
        kinds = {each.kind for each in self._signature.parameters.values()}
        by_place = {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD}
        self._all_by_place = len(self.parameters) if kinds <= by_place else -1  # arguments of a whole call
        self.ignored = frozenset((ignore,) if isinstance(ignore, str) else ignore)
        for ignored in self.ignored.difference(self.parameters):
            raise ValueError(
                f"ignore: {ignored!r} is no parameter of {name}(); {nearest_of(ignored, self.parameters)}"
            )
        self._counted = tuple(name for name in self.parameters if name not in self.ignored)
        if self.ignored and key is not None:
            raise ValueError("give ignore= or key=: what key= does not name is left out already")
        if key is not None and not callable(key) and not isinstance(key, str):
            raise TypeError(f"key must be a callable or a template, not {key!r}; write '{{parameter}}'")
        self._chooser = Chooser(key, self.parameters, "key") if callable(key) else None
        self._template = Template(key, self.parameters, "key") if isinstance(key, str) else None
        if self._template and self.parameters and not self._template.fields:
            raise ValueError(f"key={key!r} names no argument; write key='{{{self.parameters[0]}}}'")

    def bind(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Each parameter's value in a call, defaults filled in; TypeError where the call would be one."""
        if len(args) == self._all_by_place and not kwargs:
            return dict(zip(self.parameters, args, strict=True))
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._name}() {error}") from None
        bound.apply_defaults()
        return bound.arguments

    def pieces(self) -> list[tuple[str, str | None]] | None:
        """The text of a key in pieces, each with the parameter whose value follows it.

        None where a usual call has another form. Arguments that do not count are not among its values.
        """
        if self._chooser or self._template or self._all_by_place < 0:
            return None
        if not (self.prefix.isprintable() and all(map(str.isascii, (self.prefix, *self._counted)))):
            return None
        before, pieces = f"{self.prefix}(", []
        for name in self._counted:
            pieces.append((f"{before}{name}=", name))
            before = ", "
        return [*pieces, (")" if pieces else f"{before})", None)]

    def key(self, arguments: Mapping[str, object]) -> str:
        """The key of the call with these arguments, as bind() gives them; UnstableKey where there is none."""
        if self._chooser is not None:
            text = self._chosen(self._chooser(arguments), "what key= returned")
        elif self._template is not None:
            text = self._template.fill(arguments, lambda field, value: "{" + self._field(field, value) + "}")
        else:
            counted = [self._argument(name, arguments[name]) for name in self._counted]
            text = ", ".join([each for each in counted if each]) if len(counted) != 1 else counted[0]
        return _shortened(f"{self.prefix}({text})", MAX_KEY)

    def _argument(self, name: str, value: object) -> str:
        leaf = text_of_counted_leaf(value)
        if leaf is not None:
            return f"{name}={leaf}"
        if is_uncounted(value):
            return ""
        value = behind_proxy(value)
        if is_uncounted(value):
            return ""
        try:
            text = ValueText(self._name, ignorable=name).of(value, f"argument {name!r}")
        except UnstableKey:
            # A sentinel, object(), or a lambda: as the default it is the same one in every process.
            if value is not self._signature.parameters[name].default:
                raise
            text = "default"
        return f"{name}={text}"

    def _field(self, field: Field, value: object) -> str:
        return self._chosen(field.text(value) if field.is_formatted else value, f"key's {{{field.name}}}")

    def _chosen(self, value: object, path: str) -> str:
        writer = ValueText(self._name)
        value = behind_proxy(value)
        if is_uncounted(value):
            writer.refuse(value, path, "it is left out of keys, so all calls would have one")
        return writer.of(value, path)


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit and text.isascii() and text.isprintable():
        return text
    whole = text.encode("utf-8", "surrogatepass")
    if len(whole) <= limit and not _UNFIT.search(text):
        return text
    digest = blake2b(whole, digest_size=16).hexdigest()
    head = _UNFIT.sub("?", text).encode()[: limit - len(digest) - 1].decode(errors="ignore")
    return f"{head}~{digest}"


def _suffix(version: int | str | None) -> str:
    if version is None:
        return ""
    if (
        isinstance(version, bool)
        or not isinstance(version, int | str)
        or not _VERSION.fullmatch(str(version))
    ):
        raise ValueError(f"version must be a number or a short name, 2 or '2024-05', not {version!r}")
    return f"@{version}"
