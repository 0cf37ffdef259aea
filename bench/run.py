"""`python -m bench.run [name...] [--quick] [--save]`: run the benchmarks and print their tables."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from bench.tables import Table
from tiercache import __version__, embedded

NAMES = (
    *("hit", "audit", "l2", "stampede", "delay", "barrier", "fence"),
    *("sqlalchemy_entities", "sqlalchemy_writes"),
)
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="Compare ratios, not times.")
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}; all if none is given"
    )
    parser.add_argument("--quick", action="store_true", help="a few rounds: to see that it works")
    parser.add_argument("--save", action="store_true", help="write bench/results/<date>.json as well")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in NAMES:
            parser.error(f"no benchmark is called {name!r}; there are {', '.join(NAMES)}")
    here = machine()
    print("\n".join(f"{what}: {value}" for what, value in here.items()))
    results: dict[str, list[Table]] = {}
    for name in arguments.names or NAMES:
        module = importlib.import_module(f"bench.{name}")
        print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        results[name] = module.measure(quick=arguments.quick)
        for table in results[name]:
            print(f"\n{table}", flush=True)
    print(f"\nload average at the end: {load()}")
    if arguments.save:
        print(f"saved: {save(here, results)}")


def machine() -> dict[str, str]:
    """What the figures depend on: the machine, how busy it is, and the versions."""
    with embedded.start() as server:
        redis_server = server.version
    packages = ("redis", "hiredis", "orjson", "anyio")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "load average": load(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "server": f"{Path(embedded.find_binary()).name} {redis_server}",
        "packages": ", ".join(
            [f"tiercache {__version__}", *(f"{name} {version(name)}" for name in packages)]
        ),
    }


def load() -> str:
    return "{:.1f} {:.1f} {:.1f}".format(*os.getloadavg())


def save(here: dict[str, str], results: dict[str, list[Table]]) -> Path:
    path = RESULTS / f"{here['date'].replace(':', '')}.json"
    path.parent.mkdir(exist_ok=True)
    tables = {name: [asdict(table) for table in some] for name, some in results.items()}
    path.write_text(json.dumps({"machine": here, "tables": tables}, indent=2) + "\n")
    return path


if __name__ == "__main__":
    main()
