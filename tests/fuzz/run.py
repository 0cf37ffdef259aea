"""`python -m tests.fuzz.run CORPUS [libFuzzer's options]`: every target, mutated from its seeds.

Ends with the first input that breaks a promise, written to the folder it was started in, and with
figures otherwise. Needs `pip install atheris`, which has wheels for some Pythons on Linux only.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found, unused-ignore]  # not among the project's own requirements

MEMORY_MB = 1024  # a decoder that wants more ends the run

with atheris.instrument_imports(include=["tiercache._core", "tiercache._transport"]):
    from tests.fuzz.seeds import DICTIONARY, seeds
    from tests.fuzz.targets import TARGETS


def one(data: bytes) -> None:
    if data:
        TARGETS[data[0] % len(TARGETS)](data[1:])


def main() -> None:
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed-{number:03}").write_bytes(seed)
    words = corpus.parent / "words.txt"
    words.write_text("".join(f'"{word}"\n' for word in DICTIONARY))
    # libFuzzer itself maps terabytes of address space in some builds; Python's share is what may grow.
    resource.setrlimit(resource.RLIMIT_DATA, (2 * MEMORY_MB << 20, 2 * MEMORY_MB << 20))
    limits = [
        f"-dict={words}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-malloc_limit_mb={MEMORY_MB // 4}",
        "-timeout=10",
    ]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", *sys.argv[1:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
