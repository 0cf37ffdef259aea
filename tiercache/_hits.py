"""The hit path: what a cached function does before anything else.

One look-up by the arguments, the lease, the expiry. The lease is read before the entry and
compared after it (R32). A hit path has the parameters of the function it stands for, so the
interpreter binds the call: however that is spelled, an argument is found in one place, and a
call under one key of the table. For that its text is made at decoration, from `_PURE`; and where
there is a compiled half (`_accelerator`), that is asked before, by the few lines of `_COMPILED`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from inspect import Parameter, signature
from types import BuiltinFunctionType, FunctionType
from typing import Any
from uuid import UUID

from tiercache._accelerator import compiled
from tiercache._core.coherence import Coherence
from tiercache._core.key_text import is_uncounted
from tiercache._core.l1 import L1, Entry
from tiercache._core.tiers import Counts
from tiercache._core.values import Values

Clock = Callable[[], float]

# Arguments of these types and no others may stand for their call as they are: equal values of one of
# them have one key. (0.0 and -0.0 are equal, and so are two datetimes in two zones, with two keys.)
PLAIN_TYPES = frozenset({int, str, bytes, bool, type(None), UUID})
UNFILED = object()  # in place of the table's key of a call that has none

# 1, True and 1.0 are one key to a dict, so the types count. A TypeError says that an argument has no hash.
# What is not answered goes past after the exception is over: no later one has it for its context.
_PURE = """
{kind} _pure({parameters}):
    _until = _core.open_until
    try:
        _entry = _table[{key}]
    except _MISSES:
        pass
    else:
        _now = _clock()
        if _now < _until and _now < _entry.deadline{same}:
            _entry.stamp = _now
            _counts.l1_hits += 1
            _restore = _entry.restore
            return _entry.value if _restore is None else _restore(_entry.value)
        return {wait}_past({args}, {kwargs}, _now)
    return {wait}_past({args}, {kwargs})

def _filed({parameters}):
    return {key} if {fits} and {plain} else _UNFILED
"""
# What is there, and not answered, is looked up again, in the way above.
_COMPILED = """
{kind} _hit({parameters}):
    if {fits}:
        try:
            return _look({counted})
        except _Missing:
            _way = _past
        except _Unanswered:
            _way = _pure
        if _way is _past:
            return {wait}_past({args}, {kwargs})
    return {wait}_pure({call})
"""
# Of a function whose calls are not kept in L1.
_UNKEPT = """
{kind} _unkept({parameters}):
    return {wait}_past({args}, {kwargs})
"""
_GLOBALS: dict[str, Any] = {
    "__name__": __name__,  # for a warning that is traced to here
    "_PLAIN": PLAIN_TYPES,
    "_MISSES": (KeyError, TypeError),
    "_UNFILED": UNFILED,
    "_type": type,
    "_map": map,
    "_tuple": tuple,
    "_core": Coherence(L1(1), max_staleness=1.0, node=""),  # before the first call: there is no lease
    "_clock": time.monotonic,
    "_table": {},
}
_OURS = {
    *_GLOBALS,
    "_past",
    "_counts",
    "_until",
    "_way",
    "_entry",
    "_now",
    "_restore",
    "_look",
    "_pure",
    "_Missing",
    "_Unanswered",
}
if compiled is not None:
    compiled.use(Entry, Coherence)
_ANYTHING = [Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)]


class Spelling:
    """How the calls of one function are spelled, and under what its table has them."""

    def __init__(self, function: Callable[..., Any], ignored: Iterable[str]) -> None:
        parameters = list(signature(function).parameters.values())
        # What wraps another function says of itself what is true of that one: calls pass as they come.
        if (
            type(function) is not FunctionType
            or {"__wrapped__", "__signature__"} & vars(function).keys()
            or any(each.name in _OURS or each.name.startswith("_default_") for each in parameters)
        ):
            parameters, ignored = _ANYTHING, ()
        self.text = _text_of(parameters, frozenset(ignored))
        self.is_single = self.text["counted"] == self.text["key"]
        self.name = getattr(function, "__qualname__", "")
        by_place = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        given = [each for each in parameters if each.default is not Parameter.empty]
        self.defaults = tuple(each.default for each in given if each.kind in by_place)
        self.by_name = {each.name: each.default for each in given if each.kind not in by_place}
        self.names = _GLOBALS | {f"_default_{each.name}": each.default for each in given}


class HitPath:
    """A function's hit path, `call`, and `filed`, the key of a call in the table.

    That is `UNFILED` for a call that may be found by its key only. What the path cannot answer goes to
    *past*, with args and kwargs, and the instant if it came to ask for that; all calls do where nothing of
    them is *kept* in L1. *pure*: all of it in Python, as where the compiled half was not built. Made at
    decoration, in half a millisecond.
    """

    def __init__(
        self,
        spelling: Spelling,
        past: Callable[..., Any],
        *,
        blocking: bool,
        kept: bool = True,
        pure: bool = compiled is None,
    ) -> None:
        world = {"kind": "def", "wait": ""} if blocking else {"kind": "async def", "wait": "await "}
        self._names = {**spelling.names, "_past": past}
        self._look = None
        text, main = (_PURE, "_pure") if kept else (_PURE + _UNKEPT, "_unkept")
        if compiled is not None and kept and not pure:
            self._look = look = compiled.Look()
            self._names |= {
                "_look": look.one if spelling.is_single else look.many,
                "_Missing": compiled.Missing,
                "_Unanswered": compiled.Unanswered,
            }
            text, main = _PURE + _COMPILED, "_hit"
        source = text.format_map({**spelling.text, **world})
        exec(compile(source, f"<hit path of {spelling.name}>", "exec"), self._names)
        self.call: Callable[..., Any] = self._names[main]
        self.filed: Callable[..., Any] = self._names["_filed"]
        for made in (self.call, self._names["_pure"], self.filed):
            made.__defaults__, made.__kwdefaults__ = spelling.defaults, spelling.by_name

    def bind(
        self, core: Coherence, clock: Clock, counts: Counts, table: dict[Any, Entry], *, sampled: bool
    ) -> None:
        """Look there from now on. *sampled*: the clock draws hits for an auditor, who must see the call."""
        self._names.update(_core=core, _clock=clock, _counts=counts, _table=table)
        if self._look is not None and sampled:
            self._look.unbind()
        elif self._look is not None:
            self._look.bind(core, clock, counts, table)


def _text_of(parameters: list[Parameter], ignored: frozenset[str]) -> dict[str, str]:
    """The parts of the text that are of this function alone."""
    named = [each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)]
    rest = [each.name for each in parameters if each.kind is each.VAR_POSITIONAL]
    more = [each.name for each in parameters if each.kind is each.VAR_KEYWORD]
    counted = [each for each in named if each.name not in ignored]
    # A default of another type stands for itself, and is the same object in every call that leaves it out.
    fixed = [each.name for each in counted if each.default is not each.empty and _is_fixed(each.default)]
    held = [each.name for each in counted if each.name not in fixed]
    plain = [f"_type({name}) in _PLAIN" for name in held]
    fits = [f"{name} is _default_{name}" for name in fixed] + [f"not {name}" for name in more]
    if rest and rest[0] not in ignored:
        key = f"({', '.join(held)}, *{rest[0]})" if held else rest[0]
        same = [f"_entry.kind == _tuple(_map(_type, {key}))"]
        plain.append(f"_PLAIN.issuperset(_map(_type, {rest[0]}))")
    elif len(held) == 1:
        key, same = held[0], [f"_entry.kind is _type({held[0]})"]
    else:
        key = f"({', '.join(held)})"
        same = [f"_entry.kind[{at}] is _type({name})" for at, name in enumerate(held)]
    by_name = [f"{each.name!r}: {each.name}" for each in named if each.kind is each.KEYWORD_ONLY]
    by_place = [f"{each.name}, " for each in named if each.kind is not each.KEYWORD_ONLY]
    return {
        "parameters": _declared(parameters),
        "args": "(" + "".join([*by_place, *(f"*{name}, " for name in rest)]) + ")",
        "kwargs": "{" + ", ".join([*by_name, *(f"**{name}" for name in more)]) + "}",
        "key": key,
        "same": "".join(f" and {condition}" for condition in [*same, *fits]),
        "fits": " and ".join(fits) or "True",
        "plain": " and ".join(plain) or "True",
        "counted": ", ".join([*held, *(f"*{name}" for name in rest if name not in ignored)]),
        "call": ", ".join(
            [*(each.name for each in named if each.kind is not each.KEYWORD_ONLY)]
            + [f"*{name}" for name in rest]
            + [f"{each.name}={each.name}" for each in named if each.kind is each.KEYWORD_ONLY]
            + [f"**{name}" for name in more]
        ),
    }


def _is_fixed(default: Any) -> bool:
    """Whether *default* is of no plain type, and its text in keys always the same: nobody can change it."""
    if type(default) in PLAIN_TYPES:
        return False
    if type(default) is object or isinstance(default, type | FunctionType | BuiltinFunctionType):
        return True
    return is_uncounted(default) or Values().is_shareable(default)


def _declared(parameters: list[Parameter]) -> str:
    """The *parameters* as a `def` has them, with some default each where they have one."""
    parts: list[str] = []
    kind: Any = None
    for each in parameters:
        if kind is each.POSITIONAL_ONLY and each.kind is not kind:
            parts.append("/")
        if each.kind is each.KEYWORD_ONLY and kind not in (each.KEYWORD_ONLY, each.VAR_POSITIONAL):
            parts.append("*")
        kind = each.kind
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(kind, "")
        parts.append(stars + each.name + ("" if each.default is each.empty else "=None"))
    if kind is Parameter.POSITIONAL_ONLY:
        parts.append("/")
    return ", ".join(parts)
