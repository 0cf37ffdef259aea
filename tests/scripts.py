"""Programs of a user, each run as its own interpreter from beginning to end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import NamedTuple

from tests.servers import TIMEOUT

USING_A_CACHE = """
import asyncio, os, sys, threading, time, traceback, warnings
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
from tiercache import TierCache
cache = TierCache(sys.argv[1], max_staleness=60)

def fork(act):
    '''A forked child that does *act*, and then ends as any interpreter does.'''
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            traceback.print_exc()
            sys.exit(1)
        sys.exit(0)
    return child

def in_child(act):
    return ended_well(fork(act))

def ended_well(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


class Ended(NamedTuple):
    status: int
    out: str
    err: str
    seconds: float  # from its start to its end


def run_script(text: str, *args: str, warnings: str = "error", **environment: str) -> Ended:
    """What came of the program *text*; its arguments are *args*, its warnings are errors."""
    begun = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-W", warnings, "-c", text, *args],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr, time.monotonic() - begun)


def output_of(text: str, *args: str, **environment: str) -> str:
    """What the program prints; it must end well and say nothing else."""
    ended = run_script(text, *args, **environment)
    assert (ended.status, ended.err) == (0, ""), ended
    return ended.out
