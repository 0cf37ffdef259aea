"""The build hook: what it compiles with, and what is built where it cannot."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def compile_extension() -> Callable[[Path], None]:
    """Compile what the hook does, into the file that is named."""
    hook = load_hook()
    sources = [ROOT / "tiercache" / source for source in hook.SOURCES]
    return lambda target: hook.compile_extension(sources, target)


def load_hook() -> Any:
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    hook: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    return hook


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CC", "CFLAGS", "LDFLAGS", "TIERCACHE_PURE"):
        monkeypatch.delenv(name, raising=False)


def test_the_compiler_is_the_one_that_the_environment_names(
    compile_extension: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = tmp_path / "noted"
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\necho "$@" > {noted}\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("CFLAGS", "-DGIVEN")
    monkeypatch.setenv("LDFLAGS", "-Lgiven")

    compile_extension(tmp_path / "made.so")

    assert {"-shared", "-DGIVEN", "-Lgiven"} <= set(noted.read_text().split())


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("CC", "false", subprocess.CalledProcessError),
        ("CC", "no-such-compiler", OSError),
        ("TIERCACHE_PURE", "1", NotImplementedError),
        ("TIERCACHE_PURE", "yes", NotImplementedError),
    ],
)
def test_where_nothing_can_be_compiled_the_error_is_one_that_the_hook_goes_on_after(
    compile_extension: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    error: type[Exception],
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(error):
        compile_extension(tmp_path / "made.so")


@pytest.mark.parametrize("off", ["", "0", "false", "No"])
def test_a_flag_that_is_off_leaves_nothing_out(
    compile_extension: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: str
) -> None:
    monkeypatch.setenv("TIERCACHE_PURE", off)
    monkeypatch.setenv("CC", "true")

    compile_extension(tmp_path / "made.so")


def test_what_is_compiled_can_be_imported(compile_extension: Callable[[Path], None], tmp_path: Path) -> None:
    if shutil.which((sysconfig.get_config_var("CC") or "none").split()[0]) is None:
        pytest.skip("there is no C compiler here")
    name = f"_compiled{sysconfig.get_config_var('EXT_SUFFIX')}"
    compile_extension(tmp_path / name)

    subprocess.run([sys.executable, "-c", "import _compiled; _compiled.Look()"], cwd=tmp_path, check=True)


def test_every_source_is_compiled() -> None:
    assert set(load_hook().SOURCES) == {path.name for path in (ROOT / "tiercache").rglob("*.c")}
