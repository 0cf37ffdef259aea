"""What `import tiercache` loads, and when the rest comes: by the modules that are there, not by a clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import cast

import pytest

from tests.scripts import output_of
from tests.servers import RedisServer

PACKAGE = Path(__file__).parent.parent / "tiercache"
HEAVY = {"redis", "asyncio", "anyio", "ssl", "socket", "sqlalchemy", "multiprocessing", "http"}


def loaded(program: str, *args: str) -> set[str]:
    """Top-level names of what is loaded once *program* ran in a fresh interpreter."""
    program += (
        "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    ran = subprocess.run([sys.executable, "-c", program, *args], check=True, capture_output=True, text=True)
    return set(cast(list[str], json.loads(ran.stdout)))


def test_importing_it_loads_neither_redis_nor_a_loop() -> None:
    assert loaded("import tiercache") & HEAVY == set()


@pytest.mark.parametrize("with_folders", [True, False], ids=["as zipapp makes it", "files alone"])
def test_it_is_imported_and_called_out_of_a_zip(
    redis_server: RedisServer, tmp_path: Path, with_folders: bool
) -> None:
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for path in sorted(PACKAGE.rglob("*")):
            if (path.is_dir() and with_folders) or path.suffix in (".py", ".lua"):
                made.write(path, path.relative_to(PACKAGE.parent))
    program = """
import sys
sys.path.insert(0, sys.argv[1])
import tiercache
assert tiercache.__file__.startswith(sys.argv[1])
with tiercache.TierCache(sys.argv[2], private=True).sync as cache:
    print(cache.get_or_load("k", lambda: 7), cache.invalidate_tags("t").pending)
"""
    redis_server.cli("SCRIPT", "FLUSH")  # so that each is sent as it stands in the archive

    assert output_of(program, str(archive), redis_server.url()) == "7 False\n"


def test_every_folder_of_modules_is_a_package() -> None:
    """One that is not is found in a folder, and in some archives, and not in others."""
    folders = {path.parent for path in PACKAGE.rglob("*.py")}

    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_decorating_functions_loads_no_more() -> None:
    program = """
from tiercache import cached

@cached(ttl="10m", tags=["user:{user_id}"])
def get_user(user_id: int) -> str: ...

@cached
async def count_users() -> int: ...
"""
    assert loaded(program) & HEAVY == set()


def test_making_a_cache_loads_all_that_using_and_closing_it_takes(redis_server: RedisServer) -> None:
    """So that nothing is imported for the first time in a forked child, or while a lock is held."""
    program = """
import asyncio, sys
from tiercache import TierCache

cache = TierCache(sys.argv[1], private=True)
before = set(sys.modules)

@cache.cached(tags=["t"])
def blocking(n): return n

@cache.cached(tags=["t"])
async def awaited(n): return n

async def use():
    await awaited(1)
    async with cache.invalidating(tags=["t"]):
        pass
    await cache.warm([(blocking, 2)])
    await cache.close()

blocking(1)
asyncio.run(use())
late = {name for name in set(sys.modules) - before if name.startswith(("tiercache", "redis", "anyio.to"))}
assert late == set(), late
"""
    loaded(program, redis_server.url())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_waits_for_a_thread_that_loads() -> None:
    """1. A thread imports.  2. The process forks.  3. The child imports the same, and waits for ever."""
    program = """
import os, sys, threading, time
from importlib.abc import MetaPathFinder
from tiercache import TierCache

begun, child_is_made = threading.Event(), threading.Event()

class Slow(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "tiercache._transport.listener":
            begun.set()
            child_is_made.wait(1)  # longer than a fork that does not wait takes

sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=TierCache, args=("memory://",))
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    TierCache("memory://")
    os._exit(0)
child_is_made.set()
thread.join()
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        assert status == 0, status
        break
    time.sleep(0.01)
else:
    os.kill(child, 9)
    raise SystemExit("the child waits for an import of its parent's")
"""
    loaded(program)


def test_making_a_cache_imports_nothing_once_that_is_loaded(redis_server: RedisServer) -> None:
    """Only while it loads does a fork wait for it."""
    program = """
import sys
from tiercache import TierCache, _transports

_transports.load()
before = set(sys.modules)
TierCache(sys.argv[1]).sync.close()
TierCache("memory://").sync.close()
assert set(sys.modules) == before, set(sys.modules) - before
"""
    loaded(program, redis_server.url())
