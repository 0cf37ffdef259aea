"""The hit path: which calls it answers, and what it leaves to the plan of a read."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib.util
import inspect
import os
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from enum import Enum
from math import inf
from typing import Any

import pytest

from tiercache._accelerator import compiled
from tiercache._core.coherence import Coherence
from tiercache._core.l1 import L1, Entry
from tiercache._core.tiers import Counts
from tiercache._hits import UNFILED, HitPath, Spelling

Call = tuple[tuple[Any, ...], dict[str, Any]]
PAST = "past the hit path"


class Path:
    """The hit path of *function*, bound to an L1 with a lease until 100, at 1 o'clock."""

    def __init__(
        self, function: Callable[..., Any], *, blocking: bool, pure: bool, ignore: tuple[str, ...] = ()
    ) -> None:
        self.l1, self.table, self.counts, self.now = L1(100), dict[Any, Entry](), Counts(), 1.0
        self.core = Coherence(self.l1, max_staleness=1.0, node="n")
        self.core.open_until = 100.0
        self.asked: list[tuple[Any, ...]] = []
        self.handling: list[type[BaseException] | None] = []  # what was under way when it was asked
        self.while_it_asks_for_the_time: Callable[[], None] = lambda: None
        self.blocking = blocking

        def past(*call: Any) -> Any:
            self.asked.append(call)
            self.handling.append(sys.exc_info()[0])
            return PAST

        async def past_later(*call: Any) -> Any:
            return past(*call)

        self.path = HitPath(
            Spelling(function, ignore), past if blocking else past_later, blocking=blocking, pure=pure
        )
        self.hit, self.filed = self.path.call, self.path.filed
        self.path.bind(self.core, self.clock, self.counts, self.table, sampled=False)

    def clock(self) -> float:
        act, self.while_it_asks_for_the_time = self.while_it_asks_for_the_time, lambda: None
        act()
        return self.now

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        answer = self.hit(*args, **kwargs)
        return answer if self.blocking else asyncio.run(answer)

    def keep(
        self, value: Any, *args: Any, deadline: float = 50.0, restore: Any = None, **kwargs: Any
    ) -> Entry:
        """File *value* as a load of this call would."""
        at = self.filed(*args, **kwargs)
        assert at is not UNFILED
        entry = Entry(f"key of {at!r} {type(at)}", value, restore, deadline=deadline)
        self.l1.put(entry, 0.0)
        self.l1.alias(entry, self.table, at)
        return entry


@pytest.fixture(params=["pure", "compiled"])
def half(request: pytest.FixtureRequest) -> str:
    """Each test of a hit path runs on both of its halves."""
    if request.param == "compiled" and compiled is None:
        pytest.skip("the hit path was not compiled here: no C compiler, or TIERCACHE_PURE is set")
    return str(request.param)


@pytest.fixture(params=["sync", "async"])
def path_of(request: pytest.FixtureRequest, half: str) -> Callable[..., Path]:
    return functools.partial(Path, blocking=request.param == "sync", pure=half == "pure")


def test_a_hit_gives_the_value_counts_and_stamps(path_of: Callable[..., Path]) -> None:
    def function(a: int) -> None: ...

    path = path_of(function)
    entry = path.keep("one", 1)
    path.now = 7.0

    assert [path(1), path(2)] == ["one", PAST]
    assert (path.counts.l1_hits, entry.stamp, path.asked) == (1, 7.0, [((2,), {})])


class Unfiled(dict[Any, Entry]):
    """A table that counts what it is asked for by `[]`, as the half in Python asks, and does not have."""

    asked = 0

    def __missing__(self, key: object) -> Entry:
        self.asked += 1
        raise KeyError(key)


def test_a_call_that_is_not_filed_is_looked_for_once(path_of: Callable[..., Path], half: str) -> None:
    path, table = path_of(lambda a: None), Unfiled()
    path.path.bind(path.core, path.clock, path.counts, table, sampled=False)

    assert path(1) == PAST
    assert (path.asked, table.asked) == ([((1,), {})], 1 if half == "pure" else 0)


def test_a_value_that_must_be_copied_is(path_of: Callable[..., Path]) -> None:
    path = path_of(lambda: None)
    held = path.keep([1], restore=list.copy).value

    assert path() == [1]
    assert path() is not held


@pytest.mark.parametrize("lapse", ["lease", "deadline", "dropped", "audited"])
def test_what_may_not_be_served_is_asked_for_at_the_instant_it_was_looked_at(
    path_of: Callable[..., Path], lapse: str
) -> None:
    path = path_of(lambda a: None)
    entry = path.keep("one", 1)
    match lapse:
        case "lease":
            path.core.open_until = path.now
        case "deadline":
            path.now = entry.deadline
        case "dropped":
            path.l1.drop(entry.key)
            path.table[1] = entry  # as who had found it before
        case "audited":
            path.now = inf

    assert path(1) == PAST
    assert (path.asked, path.counts.l1_hits) == ([((1,), {}, path.now)], 0)


def test_the_lease_is_read_before_the_entry_and_compared_after_it(path_of: Callable[..., Path]) -> None:
    """1. The lease is over.  2. The entry is found.  3. A sync drops it and renews the lease (R32)."""
    path = path_of(lambda a: None)
    path.keep("one", 1)
    path.core.open_until = path.now

    def sync() -> None:
        path.core.open_until = 100.0
        path.table.clear()

    path.while_it_asks_for_the_time = sync
    assert path(1) == PAST


def test_calls_of_equal_arguments_of_two_types_are_two(path_of: Callable[..., Path]) -> None:
    def function(a: object, *, flag: object = 0) -> None: ...

    path = path_of(function)
    path.keep("int", 1)

    assert [path(1), path(True), path(1.0)] == ["int", PAST, PAST]
    assert [path(1, flag=False), path(1, flag=0.0), path(1, flag=0)] == [PAST, PAST, "int"]
    path.keep("bool", True, flag=False)
    assert [path(1), path(True, flag=False)] == [PAST, "bool"]


def test_a_call_is_found_however_it_is_spelled(path_of: Callable[..., Path]) -> None:
    def function(a: int, b: str = "x", *, flag: bool = False) -> None: ...

    path = path_of(function)
    path.keep("plain", 1)
    path.keep("all", 1, "y", flag=True)

    assert {path(1), path(1, "x"), path(a=1), path(b="x", a=1), path(1, flag=False)} == {"plain"}
    assert {path(1, "y", flag=True), path(flag=True, b="y", a=1), path(1, flag=True, b="y")} == {"all"}
    assert len(path.table) == 2


def test_every_kind_of_parameter_reaches_the_function_as_it_was_given(path_of: Callable[..., Path]) -> None:
    def function(a: int, /, b: int, c: int = 3, *rest: int, d: int, e: int = 5, **more: int) -> None: ...

    path = path_of(function)

    assert path(1, 2, d=4) == PAST
    assert path(1, 2, 3, 4, d=4, z=9, a=8) == PAST
    assert path.asked == [((1, 2, 3), {"d": 4, "e": 5}), ((1, 2, 3, 4), {"d": 4, "e": 5, "z": 9, "a": 8})]


def test_variable_arguments_count_by_number_type_and_value(path_of: Callable[..., Path]) -> None:
    def function(a: int, *rest: int, **more: int) -> None: ...

    path = path_of(function)
    path.keep("two", 1, 2)

    assert [path(1, 2), path(1), path(1, 2, 3), path(1, True), path(1, 2.0)] == ["two", *[PAST] * 4]
    assert path(1, 2, b=3) == PAST, "keywords of any name are for the plan to sort"
    assert path.filed(1, 2, b=3) is UNFILED


def test_what_is_ignored_does_not_tell_calls_apart(path_of: Callable[..., Path]) -> None:
    def function(session: object, a: int) -> None: ...

    path = path_of(function, ignore=("session",))
    path.keep("one", object(), 1)

    assert [path(object(), 1), path([], 1), path(a=1, session=None)] == ["one"] * 3
    assert len(path.table) == 1


def test_a_default_of_any_type_stands_for_itself_alone(path_of: Callable[..., Path]) -> None:
    default = object()

    def function(a: int, b: object = default, c: float = 0.0) -> None: ...

    path = path_of(function)
    path.keep("left out", 1)

    assert [path(1), path(1, default)] == ["left out"] * 2
    assert [path(1, object()), path(1, c=-0.0), path(1, None)] == [PAST] * 3
    assert path.filed(1, c=-0.0) is UNFILED


class Settings:
    def __init__(self) -> None:
        self.limit = 1


class Calendar(Enum):
    MONDAY = 1


@pytest.mark.parametrize("default", [[1], {"limit": 1}, {1}, Settings(), ([1],), bytearray(b"1")])
def test_a_default_that_can_be_changed_does_not_stand_for_itself(
    path_of: Callable[..., Path], default: object
) -> None:
    """Its key is another one when it has changed, and nobody tells the path."""

    def function(a: int, b: object = default) -> None: ...

    path = path_of(function)
    path.keep("given", 1, 2)

    assert path.filed(1) is UNFILED
    assert [path(1), path(1, default), path(1, 2)] == [PAST, PAST, "given"]


@pytest.mark.parametrize("default", [0.5, (1, "a"), Calendar.MONDAY, int, len, threading.Lock()])
def test_a_default_that_nobody_can_change_stands_for_itself(
    path_of: Callable[..., Path], default: object
) -> None:
    def function(a: int, b: object = default) -> None: ...

    path = path_of(function)
    path.keep("left out", 1)

    assert path(1) == "left out"


@pytest.mark.parametrize("argument", [1.5, (1,), [1], object(), {}])
def test_an_argument_whose_value_is_not_its_key_is_never_filed(
    path_of: Callable[..., Path], argument: object
) -> None:
    path = path_of(lambda a: None)

    assert path.filed(argument) is UNFILED
    assert path(argument) == PAST


def test_none_is_an_argument_like_another(path_of: Callable[..., Path]) -> None:
    path = path_of(lambda a: None)
    path.keep("none", None)

    assert [path(None), path(0)] == ["none", PAST]


def test_what_is_asked_for_has_no_exception_of_the_path_for_its_context(path_of: Callable[..., Path]) -> None:
    """Else a function's own error would read: KeyError, and during the handling of that another occurred."""
    path = path_of(lambda a: None)
    path.keep("one", 1)

    assert [path(2), path([]), path(True)] == [PAST] * 3
    assert path.handling == [None] * 3


def test_an_error_of_an_arguments_own_hash_is_raised(path_of: Callable[..., Path]) -> None:
    class Broken:
        def __hash__(self) -> int:
            raise ValueError("no hash")

    path = path_of(lambda a: None)

    with pytest.raises(ValueError, match="no hash"):
        path(Broken())


def test_a_call_that_does_not_fit_is_an_error_of_the_call(path_of: Callable[..., Path]) -> None:
    path = path_of(lambda a, *, b: None)

    for args, kwargs in (((), {}), ((1,), {}), ((1, 2), {}), ((1,), {"b": 2, "c": 3})):
        with pytest.raises(TypeError):
            path(*args, **kwargs)


def test_what_is_no_plain_function_is_called_as_the_caller_spelled_it(path_of: Callable[..., Path]) -> None:
    def function(a: int, b: int) -> None: ...

    @functools.wraps(function)
    def around(*args: Any, **kwargs: Any) -> None: ...

    for other in (around, functools.partial(function, b=2)):
        path = path_of(other)
        path.keep("one", 1)
        assert [path(1), path(a=1), path(1, b=2)] == ["one", PAST, PAST]
        assert [call[:2] for call in path.asked] == [((), {"a": 1}), ((1,), {"b": 2})]


def test_parameters_may_be_called_as_the_paths_own_names(path_of: Callable[..., Path]) -> None:
    def function(type: int, _entry: int, _now: int = 3) -> None: ...

    path = path_of(function)
    path.keep("one", 1, 2)

    assert [path(1, 2), path(1, 3)] == ["one", PAST]


def test_a_path_of_a_coroutine_function_is_one(path_of: Callable[..., Path]) -> None:
    path = path_of(lambda: None)

    assert inspect.iscoroutinefunction(path.hit) is not path.blocking


def test_a_sampled_hit_is_taken_past_with_the_instant_that_drew_it(path_of: Callable[..., Path]) -> None:
    """A clock that is asked twice would draw twice: the second time, it says nothing of the first."""
    path = path_of(lambda a: None)
    path.keep("one", 1)
    path.path.bind(path.core, path.clock, path.counts, path.table, sampled=True)
    path.now = inf

    def back() -> None:
        path.while_it_asks_for_the_time = lambda: setattr(path, "now", 1.0)

    path.while_it_asks_for_the_time = back
    assert path(1) == PAST
    assert path.asked == [((1,), {}, inf)]


class Acting:
    """Equal to 1, and does *act* when it is compared."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    def __hash__(self) -> int:
        return hash(1)

    def __eq__(self, other: object) -> bool:
        self.act()
        return True


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_of_an_arguments_own_comparison_is_raised(
    path_of: Callable[..., Path], error: type[BaseException]
) -> None:
    path = path_of(lambda a: None)
    path.keep("one", 1)

    def fail() -> None:
        raise error("no answer")

    with pytest.raises(error, match="no answer"):
        path.hit(Acting(fail)) if path.blocking else path.hit(Acting(fail)).send(None)


def test_what_a_comparison_does_to_the_table_leads_to_no_value_of_another_call(
    path_of: Callable[..., Path],
) -> None:
    path = path_of(lambda a, b=0: None)
    acts: list[Callable[[Entry], object]] = [
        lambda entry: path.l1.drop(entry.key),
        lambda entry: path.table.clear(),
        lambda entry: path.path.bind(path.core, path.clock, Counts(), {}, sampled=False),
        lambda entry: path.path.bind(path.core, path.clock, Counts(), {}, sampled=True),
        lambda entry: path.table.update({(n, 0): entry for n in range(2, 1000)}),
    ]
    for act in acts:
        entry = path.keep("one", 1)
        assert path(Acting(functools.partial(act, entry))) == PAST
        path.path.bind(path.core, path.clock, path.counts, path.table, sampled=False)


def test_an_error_of_a_restore_is_raised(path_of: Callable[..., Path]) -> None:
    path = path_of(lambda: None)
    path.keep(b"", restore=lambda data: data[0])

    with pytest.raises(IndexError):
        path()


def test_hits_in_threads_are_counted_each_and_never_give_anothers_value(path_of: Callable[..., Path]) -> None:
    path = path_of(lambda a, b=0: None)
    threads, calls = 4, 4_000
    answers: list[set[tuple[int, Any]]] = []
    done = threading.Event()

    def hit() -> None:
        loop = asyncio.new_event_loop()
        ask = path.hit if path.blocking else lambda *call: loop.run_until_complete(path.hit(*call))
        answers.append({(n % 7, ask(n % 7)) for n in range(calls)})
        loop.close()

    def change() -> None:
        while not done.is_set():
            for n in range(7):
                path.l1.drop(path.keep(f"value {n}", n).key)
                path.keep(f"value {n}", n)

    hitting = [threading.Thread(target=hit) for _ in range(threads)]
    changing = threading.Thread(target=change)
    for thread in (changing, *hitting):
        thread.start()
    for thread in hitting:
        thread.join()
    done.set()
    changing.join()

    assert set().union(*answers) <= {(n, answer) for n in range(7) for answer in (f"value {n}", PAST)}
    assert path.counts.l1_hits + len(path.asked) == threads * calls


def test_a_hundred_thousand_hits_leave_nothing_behind(half: str) -> None:
    path = Path(lambda a, b=0: None, blocking=True, pure=half == "pure")
    argument, value = int("1000000000"), ["a", ["b"]]  # a literal is the same in all runs
    entry = path.keep(value, argument, restore=list.copy)
    watched = (entry, value, argument, path.core, path.counts, path.table, PAST)

    def hit_and_miss(times: int) -> None:
        for _ in range(times):
            path.hit(argument)
        for _ in range(times // 100):
            path.hit(argument, 1)
        path.asked.clear()

    hit_and_miss(1000)
    gc.collect()  # what earlier tests left holds some of these as well
    references = [sys.getrefcount(each) for each in watched]
    tracemalloc.start()
    hit_and_miss(1000)
    left = []
    for _ in range(3):  # other threads of this process allocate as well, but not each time
        before, _ = tracemalloc.get_traced_memory()
        hit_and_miss(100_000)
        left.append(tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()

    assert [sys.getrefcount(each) for each in watched] == references
    assert min(left) < 20_000, "bytes, of 100,000 hits"


def test_a_path_that_nobody_has_any_more_is_collected_with_all_it_looked_in(half: str) -> None:
    path = Path(lambda a: None, blocking=True, pure=half == "pure")
    path.keep("one", 1)
    path.hit(1)
    core = weakref.ref(path.core)
    del path
    gc.collect()

    assert core() is None


@pytest.mark.skipif(compiled is None, reason="the hit path was not compiled here")
def test_an_entry_takes_no_more_memory_once_it_was_hit() -> None:
    path = Path(lambda a: None, blocking=True, pure=False)
    path.l1.maxsize = 1_000  # Python itself keeps 100 numbers for later use
    left = []
    tracemalloc.start()
    for turn in range(3):  # other threads of this process allocate as well, but not each time
        for n in range(1_000):
            path.keep("one", n)
        path.now = 7.5 + turn
        before, _ = tracemalloc.get_traced_memory()
        for n in range(1_000):
            path.hit(n)
        left.append(tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()

    assert path.counts.l1_hits == 3_000
    assert min(left) < 10_000, "bytes; a number each would be 24,000"


@pytest.mark.parametrize("pure", ["", "0", "false", "No", "1"])
def test_health_says_which_half_serves_and_the_environment_may_choose_python(pure: str) -> None:
    program = (
        "from tiercache import TierCache\n"
        "cache = TierCache.from_env().sync\n"
        "print(cache.health().hit_path)\n"
        "cache.close()\n"
    )
    environment = {**os.environ, "TIERCACHE_PURE": pure, "TIERCACHE_URL": "memory://"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, check=True)
    built = importlib.util.find_spec("tiercache._compiled") is not None

    assert run.stdout.decode().strip() == ("compiled" if built and pure != "1" else "pure")


@pytest.mark.skipif(compiled is None, reason="the hit path was not compiled here")
def test_the_package_imported_anew_leaves_what_was_decorated_before_as_it_was() -> None:
    """As for a second application in an interpreter of its own (mod_wsgi), which shares no class."""
    program = (
        "import sys\n"
        "def cached():\n"
        "    import tiercache\n"
        "    cache = tiercache.TierCache('memory://', private=True)\n"
        "    @cache.cached\n"
        "    def function(a): return [a]\n"
        "    return function\n"
        "first = cached()\n"
        "first(1), first(1)\n"
        "for name in [name for name in sys.modules if name.partition('.')[0] == 'tiercache']:\n"
        "    del sys.modules[name]\n"
        "second = cached()\n"
        "for function in (first, second):\n"
        "    function(1), function(1), function(2), function(2)\n"
        "print(first.cache_info().l1_hits, second.cache_info().l1_hits)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TIERCACHE_PURE"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, check=True)

    assert run.stdout.decode().split() == ["4", "2"]


@pytest.mark.skipif(compiled is None, reason="the hit path was not compiled here")
def test_interpreters_of_one_process_have_a_compiled_half_each() -> None:
    program = (
        "import importlib, sys\n"
        "if sys.version_info >= (3, 13):\n"
        "    interpreters = importlib.import_module('_interpreters')\n"
        "    other = interpreters.create('legacy')\n"
        "else:\n"
        "    interpreters = importlib.import_module('_xxsubinterpreters')\n"
        "    other = interpreters.create(isolated=False)\n"
        "application = '''\n"
        "import tiercache\n"
        "cache = tiercache.TierCache('memory://', private=True)\n"
        "@cache.cached\n"
        "def function(a): return [a]\n"
        "assert [function(1), function(1), function(2)] == [[1], [1], [2]]\n"
        "assert function.cache_info().l1_hits == 1\n"
        "'''\n"
        "exec(application)\n"
        "failed = interpreters.run_string(other, f'import sys; sys.path[:] = {sys.path!r}' + application)\n"
        "assert failed is None, failed\n"
        "assert [function(2), function(3), function(3)] == [[2], [3], [3]]\n"
        "interpreters.destroy(other)\n"
        "assert function(3) == [3]\n"
        "assert function.cache_info().l1_hits == 4\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TIERCACHE_PURE"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], env=environment, check=True)


@pytest.mark.skipif(compiled is None, reason="the hit path was not compiled here")
@pytest.mark.skipif(sys.version_info < (3, 12), reason="all interpreters of a process have one lock")
def test_the_compiled_half_serves_in_an_interpreter_with_a_lock_of_its_own() -> None:
    """By itself: what the package needs besides (orjson, hiredis) does not load there."""
    assert compiled is not None
    program = (
        "import importlib, sys, threading\n"
        "if sys.version_info >= (3, 13):\n"
        "    interpreters = importlib.import_module('_interpreters')\n"
        "    others = [interpreters.create('isolated') for _ in range(2)]\n"
        "else:\n"
        "    interpreters = importlib.import_module('_xxsubinterpreters')\n"
        "    others = [interpreters.create(isolated=True) for _ in range(2)]\n"
        "application = '''\n"
        "from importlib.machinery import ExtensionFileLoader\n"
        "from importlib.util import module_from_spec, spec_from_loader\n"
        f"loader = ExtensionFileLoader('_compiled', {compiled.__file__!r})\n"
        "compiled = module_from_spec(spec_from_loader('_compiled', loader))\n"
        "loader.exec_module(compiled)\n"
        "namer = compiled.Namer({int: 1, str: 1}, 1, (('k(', 0), (')', -1)), (('user:', 0), ('', -1)))\n"
        "replies = [b'-7', b'-40', b'-5', None], [b'1|7'], [b'1', b'2'], [b'-7', b'-40']\n"
        "for n in range(10_000):\n"
        "    assert namer.name((n,), {}) == (f'k({n})', (f'user:{n}',))\n"
        "    look = (7, 0, (f'k({n})',), (f'user:{n}',))\n"
        "    assert compiled.looked(look, list(map(list, replies))).head == 40\n"
        "    assert compiled.pack_look(look, 's', 'e:', b'').startswith(b'*6')\n"
        "    assert compiled.copy({'a': [n]}) == {'a': [n]}\n"
        "'''\n"
        "failed = []\n"
        "def run(other): failed.append(interpreters.run_string(other, application))\n"
        "threads = [threading.Thread(target=run, args=(other,)) for other in others]\n"
        "for thread in threads: thread.start()\n"
        "exec(application)\n"
        "for thread in threads: thread.join()\n"
        "for other in others: interpreters.destroy(other)\n"
        "assert failed == [None, None], failed\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TIERCACHE_PURE"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], env=environment, check=True)
