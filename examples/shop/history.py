"""What was written and what was read, and whether any read was older than promised.

A read is judged by what was committed before it was *sent*: if version v was shown, and v + 1 had been
committed c, then the read sent at i was i - c too old. All instants are of one clock. It is wrong if it is
older than *bound* for who wrote it, or from the future: a version that nobody had begun to write when the
answer was there. And nothing is left out: in the end the log must hold every version the database has.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Write:
    begun: float
    done: float  # an instant after the commit returned
    outside: bool  # made by no application


@dataclass
class Verdict:
    reads: int = 0
    worst: float = 0.0  # seconds by which a read was older than a write of the application
    worst_outside: float = 0.0  # the same for writes of others
    violations: list[str] = field(default_factory=list)


@dataclass
class History:
    """Of rows by name, "products/7", each with versions from 0; in one thread."""

    writes: dict[str, dict[int, Write]] = field(default_factory=lambda: defaultdict(dict))
    reads: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)
    read_count: int = 0

    def wrote(self, row: str, version: int, begun: float, done: float, *, outside: bool = False) -> None:
        self.writes[row][version] = Write(begun, done, outside)

    def read(self, row: str, version: int, sent: float, received: float) -> None:
        """Of all reads of one version only the first to be there and the last to be sent can be wrong."""
        self.read_count += 1
        last, first = self.reads.get((row, version), (sent, received))
        self.reads[row, version] = (max(last, sent), min(first, received))

    def judge(self, versions: dict[str, int], bound: float, bound_outside: float) -> Verdict:
        """*versions* is what the database has in the end."""
        verdict = Verdict(self.read_count)
        for row, version in versions.items():
            if sorted(self.writes[row]) != list(range(1, version + 1)):
                verdict.violations.append(f"{row}: the log of writes misses some of {version} versions")
        for (row, version), (sent, received) in self.reads.items():
            self._judge_one(verdict, row, version, sent, received, bound, bound_outside)
        return verdict

    def _judge_one(
        self,
        verdict: Verdict,
        row: str,
        version: int,
        sent: float,
        received: float,
        bound: float,
        bound_outside: float,
    ) -> None:
        shown = self.writes[row].get(version)
        if version > 0 and (shown is None or shown.begun > received):
            verdict.violations.append(f"{row}: version {version} was shown before anybody wrote it")
        for later, write in self.writes[row].items():
            if later > version:
                age = max(0.0, sent - write.done)
                if write.outside:
                    verdict.worst_outside = max(verdict.worst_outside, age)
                else:
                    verdict.worst = max(verdict.worst, age)
                if age > (bound_outside if write.outside else bound):
                    verdict.violations.append(f"{row}: version {version} was shown {age:.3f} s after {later}")
