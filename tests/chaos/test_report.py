"""What a run says of itself: when it proves nothing, and the page it is put on."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.__main__ import runs_of
from tests.chaos.check import Verdict, Violation
from tests.chaos.nemeses import NEMESES
from tests.chaos.report import BEGIN, END, Report, line
from tests.chaos.run import Result

SECONDS = 10.0
SOUND = Verdict(1.002, reads=5_000, writes=200, worst=0.25)


def result(verdict: Verdict, strikes: int = 3) -> Result:
    return Result([NEMESES[0]], SECONDS, [strikes], verdict, "valkey-server 9.1.2")


def test_a_run_with_enough_of_everything_has_nothing_to_complain_of() -> None:
    assert result(SOUND).complaints() == []


def test_a_nemesis_that_never_struck_proves_nothing() -> None:
    assert result(SOUND, strikes=0).complaints() == ["none never struck"]


def test_too_few_reads_or_writes_prove_nothing() -> None:
    assert result(Verdict(1.002, reads=900, writes=200)).complaints() == ["only 900 reads in 10 s"]
    assert result(Verdict(1.002, reads=5_000, writes=9)).complaints() == ["only 9 writes in 10 s"]


def test_the_short_form_leaves_no_nemesis_out() -> None:
    together = list(runs_of(list(NEMESES), together=True))

    assert len(together) < len(NEMESES) / 2
    assert sorted(nemesis.name for run in together for nemesis in run) == sorted(n.name for n in NEMESES)


def test_a_line_counts_the_violations_of_each_guarantee() -> None:
    broken = Verdict(1.002, 5_000, 200, 3.0, {}, [Violation(name, 1.0, "") for name in ("G2", "G1", "G1")])

    assert line(result(broken)).endswith("2 G1, 1 G2")


def test_the_tables_replace_those_of_an_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "chaos.md"
    page.write_text(f"Before.\n{BEGIN}\nthe old tables\n{END}\nAfter.\n")
    Report(20.0, 1.0, [result(SOUND)], [("lease off", result(SOUND))]).write(page)

    text = page.read_text()
    assert text.startswith(f"Before.\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\nAfter.\n")
    assert "the old tables" not in text
    assert "| none | nothing | 3 | 5,000 | 200 | 0.250 s | 1.002 s | none |" in text
    assert "| lease off | none | 3 | 5,000 | 200 | 0.250 s | 1.002 s | none |" in text


def test_the_picture_beside_the_page_names_every_run(tmp_path: Path) -> None:
    page = tmp_path / "chaos.md"
    Report(20.0, 1.0, [result(SOUND)], [("lease off", result(SOUND))]).write(page)

    assert "![Worst staleness by nemesis, and the bound](chaos.svg)" in page.read_text()
    assert "<svg" in (tmp_path / "chaos.svg").read_text()
