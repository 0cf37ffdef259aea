"""The command line: `tiercache demo`, `tiercache server`, `tiercache bench stampede`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from tiercache import TierCacheError, __version__

INTERRUPTED = 130  # as a shell tells of a command that Ctrl-C ended
FAILED = 2


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status of the command in *argv*, sys.argv[1:] by default; SystemExit for a wrong one.

    SIGTERM ends a command as Ctrl-C does, tidily.
    """
    args = _parser().parse_args(argv)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        status: int = args.run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except TierCacheError as error:
        print(f"tiercache: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # Whoever read the output has enough (`| head`); what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    finally:
        signal.signal(signal.SIGTERM, before)
    return status


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
