"""One or several nemeses, from the first process to the verdict."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests import peers
from tests.chaos import history
from tests.chaos.check import Terms, Verdict, judge
from tests.chaos.crew import NAMES, Crew, Plan
from tests.chaos.log import lines
from tests.chaos.rows import Rows
from tests.chaos.station import Job
from tests.chaos.world import Nemesis, World
from tests.peers import Peer

READS_A_SECOND = 100  # by all processes together: with fewer a verdict means nothing
WRITES_A_SECOND = 2


@dataclass
class Result:
    nemeses: Sequence[Nemesis]
    seconds: float
    strikes: list[int]
    verdict: Verdict
    server: str

    @property
    def name(self) -> str:
        return " + ".join(nemesis.name for nemesis in self.nemeses)

    def complaints(self) -> list[str]:
        """Why this run proves nothing; empty if it proves something."""
        said = [
            f"{nemesis.name} never struck"
            for nemesis, strikes in zip(self.nemeses, self.strikes, strict=True)
            if not strikes
        ]
        if self.verdict.reads < READS_A_SECOND * self.seconds:
            said.append(f"only {self.verdict.reads} reads in {self.seconds:.0f} s")
        if self.verdict.writes < WRITES_A_SECOND * self.seconds:
            said.append(f"only {self.verdict.writes} writes in {self.seconds:.0f} s")
        return said


def run(
    nemeses: Sequence[Nemesis],
    *,
    seconds: float,
    d: float,
    binary: str,
    seed: int = 1,
    sabotage: Callable[[], None] | None = None,
) -> Result:
    """Hurt the processes by each in turn for *seconds*, let them go on for 2 D', and judge what they saw.

    The nemeses must ask for the same site, settings and terms.
    """
    first = nemeses[0]
    terms = Terms(d, lock=first.lock, **first.terms)
    folder = Path(tempfile.mkdtemp(prefix="tiercache-chaos-"))
    Rows.new(folder)
    strikes = []
    plan = _plan(first, nemeses, folder, d, seed, sabotage)
    with closing(first.site(binary)) as site:
        plan.url = site.url
        with Crew(plan) as crew:
            crew.await_ready()
            begun = time.monotonic()
            crew.begin()
            world = World(d, site, crew, folder, Random(seed))
            for nemesis in nemeses:
                world.strikes = 0
                world.until = time.monotonic() + seconds + nemesis.longest
                nemesis.hurt(world)
                strikes.append(world.strikes)
            world.over("the writing")
            lasted = time.monotonic() - begun
            time.sleep(2 * terms.bound)
            world.over("the reading")
            crew.await_end()
        server = f"{Path(binary).name} {site.server.version}"
    verdict = judge(history.collect(lines(folder)), terms)
    if not verdict.violations:
        shutil.rmtree(folder)
    elif sabotage is None:
        print(f"  the logs are in {folder}")
    return Result(nemeses, lasted, strikes, verdict, server)


def _plan(
    first: Nemesis,
    nemeses: Sequence[Nemesis],
    folder: Path,
    d: float,
    seed: int,
    sabotage: Callable[[], None] | None,
) -> Plan:
    def prepare(peer: Peer) -> None:
        peer.call(peers.shorten_locks, round(first.lock * 1000))
        if sabotage is not None:
            peer.call(sabotage)

    clocks = max((nemesis.clocks for nemesis in nemeses), key=len)
    return Plan(
        Job("", str(folder), "", d, seed, fence_ttl=max(1.0, d)),
        str,
        {"max_staleness": d, **first.settings},
        lambda name: clocks[NAMES.index(name) % len(clocks)],
        prepare,
    )
