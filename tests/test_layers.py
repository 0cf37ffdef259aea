"""Imports point down only, and no module or function grows beyond what one can hold in mind.

    public face     _cache, _sync, _decorator, _verbs, _node ...     may import everything below
    transport       _transport                                       performs the steps of plans
    plans and core  _core                                            no I/O, no loop, no clock
    foundation      _errors, _nearest, _accelerator, _locks ...      import nothing of ours

The listener is the one part of the transport that runs a plan itself: the sync.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tiercache"
MODULES = sorted(PACKAGE.rglob("*.py"))
FOUNDATIONS = ("errors", "nearest", "accelerator", "turnstiles", "locks", "cells")
FOUNDATION = {f"tiercache._{name}" for name in FOUNDATIONS}
LOCKS = ("tiercache._locks",)
PLANS = {f"tiercache._core.{name}" for name in ("reads", "writes", "loads", "batches", "audits")}
MAKERS = ("__init__", "_default", "_decorator", "_sync", "cli", "testing", "__main__")


def name_of(path: Path) -> str:
    parts = ("tiercache", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts).removesuffix(".__init__")


def imports(path: Path, *, later: bool = True) -> Iterator[str]:
    """Full names of all that *path* imports when it runs, modules and names taken from them.

    Not *later*: only what importing it imports, and not what its functions do when they are called.
    """
    package = name_of(path).split(".") if path.stem == "__init__" else name_of(path).split(".")[:-1]
    for node in _nodes(ast.parse(path.read_text("utf-8")), later):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join((*above, *(node.module or "").split("."))).strip(".")
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


def _nodes(node: ast.AST, later: bool) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
        if not for_types and (later or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)):
            yield from _nodes(child, later)


def within(name: str, parents: set[str] | tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def ours(path: Path) -> set[str]:
    return {name for name in imports(path) if within(name, ("tiercache",))}


def modules_in(folder: str) -> list[Path]:
    found = [path for path in MODULES if path.parent == PACKAGE / folder]
    assert found, f"there is no {folder} any more; this test is out of date"
    return found


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=name_of)


@each(modules_in("_core"))
def test_the_core_does_no_io_and_reads_no_clock(path: Path) -> None:
    world = {"redis", "asyncio", "anyio", "time", "socket", "select", "subprocess", "os", "random"}

    assert {name for name in imports(path) if within(name, world)} == set()


@each(modules_in("_core"))
def test_the_core_imports_only_itself_and_the_errors(path: Path) -> None:
    allowed = ("tiercache._core", *FOUNDATION)

    assert {name for name in ours(path) if not within(name, allowed)} == set()


@each(modules_in("_core"))
def test_the_core_starts_no_thread(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

    assert used.isdisjoint({"Thread", "Timer", "ThreadPoolExecutor"})


@each(modules_in("_transport"))
def test_the_transport_knows_nothing_of_those_who_use_it(path: Path) -> None:
    allowed = ("tiercache._core", "tiercache._transport", *FOUNDATION)

    assert {name for name in ours(path) if not within(name, allowed)} == set()


@each(modules_in("_transport"))
def test_the_transport_never_reaches_into_the_plans_it_performs(path: Path) -> None:
    assert {name for name in ours(path) if within(name, PLANS)} == set()


@each([path for path in MODULES if name_of(path) in FOUNDATION])
def test_the_foundation_imports_nothing_of_ours_that_is_python(path: Path) -> None:
    assert ours(path) - {"tiercache._compiled"} == set()


@each([path for path in MODULES if path.stem not in (*MAKERS, "_cache")])
def test_only_the_public_face_knows_the_cache(path: Path) -> None:
    handles = {name for name in ours(path) if within(name, ("tiercache._cache", "tiercache.TierCache"))}

    assert handles == set() or is_integration(path)


def is_integration(path: Path) -> bool:
    """A public module beside the package's own, such as tiercache.sqlalchemy."""
    return not any(part.startswith("_") for part in path.relative_to(PACKAGE).parts)


def test_an_integration_uses_public_names_only() -> None:
    """And the locks, which say nothing of the cache."""
    own = ("embedded", "shapes", "source", "testing")  # parts of the package itself, however public
    for path in MODULES:
        if is_integration(path) and path.stem not in own and "cli" not in path.parts:
            assert {name for name in ours(path) if "._" in name and not within(name, LOCKS)} == set(), path


@each(MODULES)
def test_no_module_imports_itself_in_a_circle(path: Path) -> None:
    by_name = {name_of(module): module for module in MODULES}
    met: set[str] = set()
    ahead = [path]
    while ahead:
        # A package's own __init__ is in every path and only collects names.
        found = {name for name in imports(ahead.pop(), later=False) if name in by_name}
        found -= {"tiercache", "tiercache.sqlalchemy", *met}
        met |= found
        ahead += [by_name[name] for name in found]

    assert name_of(path) not in met


@each(MODULES)
def test_a_module_has_at_most_350_lines(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 350


@each(MODULES)
def test_a_function_has_at_most_40_lines_of_code(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]

    assert {node.name: lines_of(node) for node in functions if lines_of(node) > 40} == {}


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the first statement on: signature and docstring apart."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body and body[-1].end_lineno else 0


@each(MODULES)
def test_a_module_opens_with_its_contract(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))
