"""What does it cost to import it?

Workload: a fresh interpreter a time, which imports one library and notes how long that took: `import redis`,
which every cache on Redis has to pay, `import tiercache`, the same with a function decorated, and with a
cache made, which loads all that its use will take, redis-py too. The libraries take turns, round by round.

How to read it: `x` is the multiple of `import redis`, as a median over the rounds. A rival below 1 imports
redis-py later, when its backend is made, as tiercache does with a cache. All bytecode is there:
it is written to a directory of its own before the first round, whatever PYTHONDONTWRITEBYTECODE says. The
start of the interpreter itself is not in it. `connections` counts what a fresh interpreter connects to
meanwhile (an audit hook, in a run that is not timed): nobody should be waited for before the first call.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.contenders.facade import version_of
from bench.results import Result, against
from bench.runs import Run

ROUNDS = 11
PATIENCE = 60  # seconds
BASE = "import redis"
DECORATED = """
from tiercache import cached
@cached(ttl="10m", tags=["user:{user_id}"])
def get_user(user_id: int) -> str: ...
"""
MADE = """
from tiercache import TierCache
TierCache("redis://127.0.0.1:6379/0", private=True)
"""
PROGRAMS = {
    BASE: "import redis",
    "tiercache": "import tiercache",
    "tiercache, a function decorated": DECORATED,
    "tiercache, a cache made": MADE,
}
# Those that keep things in Redis, by the name that is imported, and their distribution.
RIVALS = {
    "cashews": "cashews",
    "aiocache": "aiocache",
    "dogpile.cache": "dogpile.cache",
    "py_cachify": "py-cachify",
    "yokedcache": "yokedcache",
}
TIMED = """
import time
begun = time.perf_counter()
{program}
print(time.perf_counter() - begun)
"""
WATCHED = """
import sys
made = []
sys.addaudithook(lambda event, args: made.append(args) if event == "socket.connect" else None)
{program}
print(len(made))
"""


def measure(run: Run) -> list[Result]:
    programs, unable = chosen(run)
    with TemporaryDirectory() as bytecode:
        connections = {name: int(said(WATCHED, program, bytecode)) for name, program in programs.items()}
        times: dict[str, list[float]] = {name: [] for name in programs}
        for order in run.turns(programs, run.rounds(ROUNDS)):
            for name in order:
                times[name].append(said(TIMED, programs[name], bytecode))
    result = against("import, in a fresh interpreter", times, calls=1, unit="ms", base=BASE, unable=unable)
    rows = [(*row, connections[str(row[0])]) for row in result.rows]
    return [replace(result, columns=(*result.columns, "connections"), rows=rows)]


def chosen(run: Run) -> tuple[dict[str, str], dict[str, str]]:
    """What is imported, and why the rest is not."""
    if run.quick:
        return PROGRAMS, dict.fromkeys(RIVALS.values(), "not in a quick run")
    unable = {package: "not installed" for package in RIVALS.values() if version_of(package) is None}
    rivals = {package: f"import {name}" for name, package in RIVALS.items() if package not in unable}
    return PROGRAMS | rivals, unable


def said(source: str, program: str, bytecode: str) -> float:
    """The number that a fresh interpreter prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    ran = subprocess.run(
        [sys.executable, "-c", source.format(program=program)],
        env=environment | {"PYTHONPYCACHEPREFIX": bytecode},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if ran.returncode != 0:
        raise RuntimeError(f"{program.strip()!r} ended with {ran.returncode}:\n{ran.stderr}")
    return float(ran.stdout.split()[-1])
