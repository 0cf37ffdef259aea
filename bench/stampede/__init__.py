"""How often is a key loaded when everybody wants it at once, and how long do they wait?

Workload: 8 processes x 100 callers, tasks of one event loop or threads, want one key; its loader takes
200 ms. It is cold; or it is hot and about to expire, and can be loaded anew ahead of that; or its tag is
invalidated; or Redis has forgotten it and many others. `python -m bench.stampede` asks for more, and takes
its time for it: a key that expires, or is renewed by a job, a loader that fails or hangs, callers who give
up, a process that is killed in its load.

All contenders play in the same processes, in turn, round by round, and every answer is checked.
All is warm before: connections, scripts, leases. Every round has a key of its own. Who leaves callers
without an answer plays no further round. GET and SET by redis-py are there as what happens without any
protection; in `early`, libraries that can load anew what is about to expire are set to do so.

How to read it: 1 load is the least. `over` is what a caller waited beyond the time of one load, counted
from the common instant where all ask at once, so the time that 800 callers need to be scheduled on this
machine is in it. Requests are what the server counts (INFO commandstats), without connecting and loading
scripts: script calls and pipelines of tiercache, and all commands of the others, those that their scripts
and pipelines hold too, for the server does not tell them apart. Lease syncs, which come with time and not
with callers, are not in it. `wrong` counts answers that were of another key, older than 1 s after the
invalidation that they missed, or a second and more beyond their expiry; `missing` callers without an answer.
"""

from __future__ import annotations

from contextlib import closing

from bench.results import Result
from bench.runs import Run
from bench.servers import described, newest_binary
from bench.stampede.field import contest
from bench.stampede.tables import tables
from tiercache.cli.stampede.scenarios import SCENARIOS, Setup
from tiercache.cli.stampede.stage import OwnStage, Stage

QUICK = ("cold",)
WHOLE = ("cold", "early", "tag", "restart")


def measure(run: Run) -> list[Result]:
    asked = QUICK if run.quick or run.tiny else WHOLE
    scenarios = [scenario for scenario in SCENARIOS if scenario.name in asked]
    setup = Setup(keys=200)
    if run.quick:
        setup = Setup(processes=3, callers=10, keys=10, load=0.05)
    if run.tiny:
        setup = Setup(processes=2, callers=4, keys=4, load=0.05)
    with closing(stage_at(run.redis)) as stage:
        return tables(contest(run, stage, scenarios, setup), setup, described(stage.url))


def stage_at(url: str | None) -> Stage:
    """The user's server; else the newest of this machine, for redis-py's own cache asks for more than 6.2."""
    return OwnStage(newest_binary()) if url is None else Stage(url)
