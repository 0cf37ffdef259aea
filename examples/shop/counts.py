"""How many statements the workers sent: a number a process, in a file that all can read while it grows."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path


class Count:
    """A number that other processes can read while it grows."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(8))
        with open(path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 8)
        self._number = 0

    def increase(self) -> None:
        self._number += 1
        struct.pack_into("=Q", self._memory, 0, self._number)


def total(directory: Path) -> int:
    """The sum over all processes that ever counted in *directory*."""
    return sum(struct.unpack("=Q", path.read_bytes())[0] for path in directory.iterdir())
