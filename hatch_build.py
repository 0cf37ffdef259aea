"""Build hook: compiles the hit path where that can be done, and goes on without it where not.

`TIERCACHE_PURE=1` in the environment of the build leaves it out; `CC`, `CFLAGS` and `LDFLAGS` are heeded as
setuptools does. A wheel that has it is for one
Python and one platform; one without it is for all.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Of the one extension; _compiled.h beside them.
SOURCES = (
    "_compiled.c",
    "_compiled_entries.c",
    "_compiled_looks.c",
    "_compiled_names.c",
    "_compiled_glances.c",
    "_compiled_waiters.c",
)


class CompiledHitPath(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        package = Path(self.root, "tiercache")
        name = "_compiled" + str(sysconfig.get_config_var("EXT_SUFFIX"))
        # An editable install is the source itself: what it compiles lies beside it.
        self.folder = None if version == "editable" else tempfile.TemporaryDirectory()
        made = Path(package if self.folder is None else self.folder.name, name)
        try:
            compile_extension([package / source for source in SOURCES], made)
        except (OSError, NotImplementedError, subprocess.CalledProcessError) as error:
            self.app.display_warning(
                f"the hit path is not compiled, and so takes about twice as long: {error}"
            )
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        if self.folder is not None:
            build_data["force_include"][str(made)] = f"tiercache/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if getattr(self, "folder", None) is not None:
            self.folder.cleanup()


def compile_extension(sources: Iterable[Path], target: Path) -> None:
    """Compile and link *sources* as this Python itself was; an error of those named above if it cannot be."""
    config = sysconfig.get_config_vars()
    if os.environ.get("TIERCACHE_PURE", "").lower() not in ("", "0", "false", "no"):
        raise NotImplementedError("TIERCACHE_PURE is set")
    if sys.implementation.name != "cpython" or config.get("Py_GIL_DISABLED") or not config.get("LDSHARED"):
        raise NotImplementedError("it is for CPython with its lock, on POSIX")
    linker = config["LDSHARED"]
    usual, compiler = config.get("CC"), os.environ.get("CC")
    if usual and compiler and linker.startswith(usual):
        linker = compiler + linker.removeprefix(usual)
    given = [
        config.get("CFLAGS"),
        config.get("CCSHARED"),
        os.environ.get("CFLAGS"),
        os.environ.get("LDFLAGS"),
    ]
    flags = [flag for text in (linker, *given) for flag in shlex.split(text or "")]
    includes = {f"-I{sysconfig.get_path(name)}" for name in ("include", "platinclude")}
    subprocess.run([*flags, *sorted(includes), *map(str, sources), "-o", str(target)], check=True)
