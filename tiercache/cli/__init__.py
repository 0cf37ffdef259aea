"""The command line: `tiercache demo`, `tiercache server`, `tiercache bench stampede`."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from tiercache import TierCacheError, __version__

INTERRUPTED = 130  # as a shell tells of a command that Ctrl-C ended
FAILED = 2
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # EIO: the terminal is gone


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of the command in *argv*, sys.argv[1:] by default; SystemExit for a wrong one.

    SIGTERM ends a command as Ctrl-C does, tidily, and so does the end of its terminal, but under nohup.
    """
    args = _parser().parse_args(argv)
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, _interrupt)}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, _interrupt)
    try:
        status: int = args.run(args)
        if sys.stdout is not None:  # it is closed from the start under `>&-`
            sys.stdout.flush()
    except KeyboardInterrupt:
        _tell("interrupted")
        return INTERRUPTED
    except TierCacheError as error:
        _tell(f"tiercache: {error}")
        return FAILED
    except BrokenPipeError:
        _discard_output()  # whoever read it has enough (`| head`)
        return FAILED
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        _discard_output()
        _tell(f"tiercache: cannot write: {error.strerror}")
        return FAILED
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    return status


def _tell(text: str) -> None:
    try:
        print(text, file=sys.stderr)
    except OSError:
        pass  # the terminal is gone


def _discard_output() -> None:
    """Let what is still buffered not fail at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    from tiercache.cli import server
    from tiercache.cli.demo import command
    from tiercache.cli.stampede import command as stampede

    parser = argparse.ArgumentParser(
        "tiercache", description="A two-tier cache whose reads are never staler than promised."
    )
    parser.add_argument("--version", action="version", version=f"tiercache {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command.add(commands)
    server.add(commands)
    stampede.add(commands)
    return parser


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
