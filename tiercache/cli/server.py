"""`tiercache server`: a Redis for development in the foreground, gone when the command ends."""

from __future__ import annotations

import argparse
import os
import sys
import time

from tiercache import L2Unavailable, embedded


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "server",
        help="run a Redis for development",
        description="Run a real Redis on 127.0.0.1 until Ctrl-C, with nothing on disk, and print its URL.",
    )
    parser.add_argument("--port", type=int, help="where to listen; else on a free port")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """0 after Ctrl-C or SIGTERM; L2Unavailable if the server does not start, or ends by itself."""
    with embedded.start(port=args.port) as server:
        try:
            print(server.url, flush=True)
            print(
                f"Redis {server.version}, for development: nothing on disk. Ctrl-C ends it.", file=sys.stderr
            )
            while _is_alive(server.pid):
                time.sleep(1)
        except KeyboardInterrupt:
            return 0
        raise L2Unavailable(f"the server at {server.url} ended by itself, or was killed")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
