"""The lines of the demo: what goes on, a line a second, what it came to. At most 100 columns."""

from __future__ import annotations

from itertools import zip_longest
from textwrap import fill

from tiercache.cli.demo.delays import percentile
from tiercache.cli.demo.messages import Tiers
from tiercache.cli.demo.shop import ORDERS, PRODUCTS, USERS
from tiercache.cli.demo.tally import Figures, Tally
from tiercache.cli.demo.worker import VISITORS
from tiercache.cli.demo.writer import WRITES_PER_SECOND

WIDTH = 100
ABREAST = 4  # workers in one line; the others stand below them
CELL = 11  # columns of a worker
MOST_BREACHES = 5  # told one by one

OPENING = """\
tiercache demo: {count} processes serve a small shop from two cache tiers, and every read is checked

  database  SQLite: {users:,} customers, {products} products, {orders:,} orders
  Redis     {version} at {url}, started for this demo
  workers   {kinds}
            {visitors} visitors of each look at accounts and products, some far more often than others
  writer    commits {writes} changes a second, then names their tags to invalidate_tags()
  promise   no read begun more than {bound:.3f} s after an invalidation gives the old value
            (max_staleness is {limit:g} s, and two clocks may differ by 0.2 %)

The columns, each for one second:
  reads     of all workers, each checked against the log of the writer
  saved     of them, those that cost the database no query
  L1 L2 db  per cent of the worker's reads that its own memory, Redis and the database answered;
            what is missing to 100 waited for the same load of another reader
  arrival   of an invalidation in ms, median and 99th percentile: from its call by the writer to the
            first read of the new value at each worker, a load from the database included
  stale     the stalest read, in s: how long an invalidation was over when a read began that still
            gave the old value
"""

SUMMARY = """
reads             {reads:,}, each checked; {queries:,} queries to the database, {saved:,} saved ({share:.1%})
commits           {commits:,}, each invalidated by tag
arrival           p50 {p50} ms, p99 {p99} ms; {fault} ms at most while a worker was hurt
worst staleness   {worst:.3f} s; the bound is {bound:.3f} s: {verdict}"""


def opening(kinds: dict[str, str], *, version: str, url: str, limit: float, bound: float) -> str:
    """Before the first line; *kinds* tells "threads" or "tasks" of each worker."""
    return OPENING.format(
        count=len(kinds),
        users=USERS,
        products=PRODUCTS,
        orders=ORDERS,
        version=version,
        url=url,
        kinds=", ".join(f"{name} {kind}" for name, kind in kinds.items()),
        visitors=VISITORS,
        writes=WRITES_PER_SECOND,
        bound=bound,
        limit=limit,
    )


def heading(kinds: dict[str, str]) -> str:
    """The lines above the columns."""
    shown = min(ABREAST, len(kinds))
    return "\n".join(
        [
            *_rows("", [f"{name} {kind}" for name, kind in kinds.items()], "    arrival ms  stale"),
            *_rows("  s   reads   saved", [" L1 L2   db"] * shown, "    p50    p99      s"),
        ]
    )


def line(seconds: float, figures: Figures, length: float) -> str:
    """What happened in the last *length* seconds."""
    left = f"{seconds:3.0f} {figures.reads / length:7,.0f} {figures.saved / length:7,.0f}"
    delays = figures.delays + figures.delays_under_fault
    p50, p99 = _milliseconds(delays, 50), _milliseconds(delays, 99)
    cells = [_shares(served.tiers) for served in figures.workers.values()]
    return "\n".join(_rows(left, cells, f" {p50:>6} {p99:>6} {figures.worst:6.3f}"))


def note(seconds: float, text: str) -> str:
    return fill(f"{seconds:5.1f} --- {text}", WIDTH, subsequent_indent=" " * 10)


def summary(kinds: dict[str, str], tally: Tally, done: dict[str, str]) -> str:
    """The last lines; *done* tells what was done to a worker."""
    whole = tally.whole
    rows = ["\nworker          reads   L1 %   L2 %  waited %   db %  stalest s"]
    for name, kind in kinds.items():
        served = whole.workers[name]
        l1, l2, joined, loaded = _percent(served.tiers)
        remark = f"   {done[name]}" if name in done else ""
        rows.append(
            f"{name:<3} {kind:<7} {served.reads:9,}  {l1:5.1f}  {l2:5.1f}     {joined:5.1f}  {loaded:5.1f}"
            f"   {served.worst:8.3f}{remark}"
        )
    text = SUMMARY.format(
        reads=whole.reads,
        queries=whole.queries,
        saved=whole.saved,
        share=whole.saved / (whole.saved + whole.queries or 1),
        commits=tally.commits,
        p50=_milliseconds(whole.delays, 50),
        p99=_milliseconds(whole.delays, 99),
        fault=_milliseconds(whole.delays_under_fault, 100),
        worst=whole.worst,
        bound=tally.bound,
        verdict=_verdict(tally),
    )
    return "\n".join([*rows, text])


def _verdict(tally: Tally) -> str:
    if not tally.breaches:
        return "no read broke the promise"
    broken = sorted(tally.breaches, key=lambda verdict: -verdict.staleness)[:MOST_BREACHES]
    return "\n  ".join(["the promise is BROKEN, as when", *map(str, broken)])


def _rows(left: str, cells: list[str], right: str) -> list[str]:
    """Cells in rows, ABREAST each; what stands left and right of them is in the first."""
    rows = [cells[start : start + ABREAST] for start in range(0, len(cells), ABREAST)]
    padded = ["".join(f"   {cell:<{CELL}}" for cell in row) for row in rows]
    return [
        f"{outer:<19}{row}{other}".rstrip()
        for outer, row, other in zip_longest([left], padded, [right], fillvalue="")
    ]


def _percent(tiers: Tiers) -> list[float]:
    return [100 * reads / (sum(tiers) or 1) for reads in tiers]


def _shares(tiers: Tiers) -> str:
    if not sum(tiers):
        return "no reads"
    l1, l2, _, loaded = _percent(tiers)
    return f"{l1:3.0f} {l2:2.0f} {loaded:4.1f}"


def _milliseconds(values: list[float], percent: float) -> str:
    return f"{percentile(values, percent) * 1000:.1f}" if values else "-"
