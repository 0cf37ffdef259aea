"""The examples of README and docs, run as they are printed.

The language of a block says what happens to it:

    python, first line "# name.py"   a file of that name, for the commands of its page
    python                           part of the page's program: all such blocks, in one process
    console                          commands after "$ ", in one shell; below each what it prints, "..." for
                                     anything. Of a command in the background (&), when it prints it.
    any other                        is not run

Each page runs in an empty directory, and finds a Redis at TIERCACHE_URL.
"""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import fields
from pathlib import Path
from typing import IO, NamedTuple

import pytest

import tiercache
from tests.postgres import PostgresServer
from tests.servers import TIMEOUT, RedisServer
from tiercache._settings import Settings

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


class Block(NamedTuple):
    language: str
    text: str
    line: int  # of the page, at which the text begins

    @property
    def file(self) -> str | None:
        named = re.match(r"# (\w+\.py)\n", self.text)
        return named[1] if named else None


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [Block(m[1], m[2], text.count("\n", 0, m.start(2)) + 1) for m in FENCE.finditer(text)]


def program(page: Path) -> str:
    """The python blocks of *page* that are no files, each at its own line, so that a traceback shows it."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "python" and block.file is None:
            lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
    return "\n".join(lines) + "\n" if lines else ""


def chooses_database(page: Path) -> bool:
    return any(block.language == "python" and "DATABASE_URL" in block.text for block in blocks(page))


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def environment(redis_server: RedisServer) -> dict[str, str]:
    """With this Python and this tiercache in front of any other, and a server."""
    return {
        **os.environ,
        "PATH": os.pathsep.join((os.path.dirname(sys.executable), os.environ["PATH"])),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",  # or a background command's lines would come when it ends
        "TIERCACHE_URL": redis_server.url(),
        "PYTEST_ADDOPTS": "-p no:valkey",  # as in our own configuration
    }


@pytest.fixture
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """With the files that the page names."""
    for block in blocks(request.getfixturevalue("page")):
        if block.language == "python" and block.file is not None:
            (tmp_path / block.file).write_text(block.text)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if program(page)], ids=name)
def test_the_python_blocks_of_a_page_run(page: Path, directory: Path, environment: Mapping[str, str]) -> None:
    run_program(page, directory, environment)


@pytest.mark.parametrize("page", [page for page in PAGES if chooses_database(page)], ids=name)
def test_the_python_blocks_of_a_page_run_on_postgresql(
    page: Path, directory: Path, environment: Mapping[str, str]
) -> None:
    """Where the environment chooses the database; a file of SQLite is what they take by themselves."""
    with closing(PostgresServer()) as server:
        url = server.url("", server.create_database())
        run_program(page, directory, {**environment, "DATABASE_URL": url})


def run_program(page: Path, directory: Path, environment: Mapping[str, str]) -> None:
    script = directory / f"{page.stem}.md"
    script.write_text(program(page))
    ended = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr


def consoles(page: Path) -> str:
    return "".join(block.text for block in blocks(page) if block.language == "console")


@pytest.mark.parametrize("page", [page for page in PAGES if consoles(page)], ids=name)
def test_the_commands_of_a_page_print_what_stands_below_them(
    page: Path, directory: Path, environment: Mapping[str, str]
) -> None:
    shell = Shell(directory, environment)
    try:
        for line in consoles(page).splitlines():
            if line.startswith("$ "):
                shell.type(line.removeprefix("$ "))
            else:
                shell.expect(line)
        shell.end()
    finally:
        shell.kill()


class Shell:
    """A bash that is fed line by line, and what it and its commands print."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "-e"],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,  # so that its background commands can be ended with it
        )
        self._printed: queue.Queue[str] = queue.Queue()
        self._complaints: list[str] = []
        self._readers = [
            threading.Thread(target=_hand_over, args=(self._process.stdout, self._printed.put)),
            threading.Thread(target=_hand_over, args=(self._process.stderr, self._complaints.append)),
        ]
        for reader in self._readers:
            reader.start()

    def type(self, command: str) -> None:
        """Give bash a command; it waits for the end of the one before, unless that is in the background."""
        print(command, file=self._process.stdin)

    def expect(self, line: str) -> None:
        """Wait for the next line that is printed, which must be *line*."""
        printed = None
        with suppress(queue.Empty):
            printed = self._printed.get(timeout=TIMEOUT)
        assert printed is not None, f"{line!r} was not printed. {self._complaint()}"
        pattern = ".*".join(map(re.escape, line.split("...")))
        assert re.fullmatch(pattern, printed), f"printed {printed!r}, not {line!r}. {self._complaint()}"

    def end(self) -> None:
        """Wait for the last command, which must have succeeded as all others did, and printed no more."""
        self._process.stdin.close()
        assert self._process.wait(TIMEOUT) == 0, self._complaint()
        assert self._printed.empty(), f"printed {self._printed.get()!r} as well"

    def kill(self) -> None:
        """End whatever still runs, in the background or not."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        for reader in self._readers:
            reader.join(TIMEOUT)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            stream.close()

    def _complaint(self) -> str:
        return "On stderr: " + "\n".join(self._complaints)


def _hand_over(stream: IO[str], take: Callable[[str], None]) -> None:
    for line in stream:
        take(line.rstrip("\n"))


def test_every_link_leads_somewhere() -> None:
    for page in [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]:
        for target, anchor in LINK.findall(FENCE.sub("", page.read_text())):
            if "//" not in target:
                there = (page.parent / target).resolve() if target else page
                assert there.is_file(), f"{name(page)} links to {target}"
                assert not anchor or anchor in anchors(there), f"{name(page)} links to {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of *page*."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ["README.md", "docs/reference/settings.md"])
def test_every_setting_is_in_the_table_with_its_variable_and_its_default(page: str) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", (ROOT / page).read_text(), re.MULTILINE))
    for field in fields(Settings):
        cells = [cell.strip(" `") for cell in rows[field.name].split("|")]
        assert f"TIERCACHE_{field.name.upper()}" in cells
        assert shown(field.default) in cells, f"{field.name} is {field.default!r}, the table says {cells}"


def shown(default: object) -> str:
    return f"{default:,g}" if type(default) in (int, float) else str(default)


def test_every_event_is_explained() -> None:
    explained = set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/reference/events.md").read_text(), re.MULTILINE)
    )
    counted = {
        event
        for source in (ROOT / "tiercache").rglob("*.py")
        for event in re.findall(r"events\[f?\"(\w+)", source.read_text())
    }
    for event in counted:
        assert event in explained or any(x.startswith(event) for x in explained if event.endswith("_")), event


def test_every_public_name_is_in_the_api() -> None:
    text = (ROOT / "docs/reference/api.md").read_text()
    verbs = [verb for verb in vars(tiercache.TierCache) if not verb.startswith("_")]
    missing = [word for word in (*tiercache.__all__, *verbs) if not re.search(rf"\b{word}\b", text)]
    assert missing == []
