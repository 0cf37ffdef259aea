"""One domain on a server, spoken to by its scripts alone: what a node sends, and what is there afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tiercache._core.commands import (
    Answer,
    Answers,
    Clear,
    Command,
    Fill,
    Filled,
    Hit,
    Invalidate,
    KeyAsk,
    Mode,
    Read,
    Recorded,
    Set,
    Sync,
    Synced,
    Unlock,
)
from tiercache._core.fences import Fence
from tiercache._core.large import Large
from tiercache._core.records import check_of
from tiercache._core.scripts import Names

R = TypeVar("R")
ME, OTHER, THIRD = "a" * 32, "b" * 32, "c" * 32  # nodes
END = b"\0end"
# Keys and tags that a script or a message might take for something else.
ODD = ["a\nb", "a|b", "|", "\r\n", "clé", "鍵", "🔑", "{x}", "}", "*", "%z[", "a b", "-1", "1e400"]


class Domain:
    """The acts of a node on *client*'s server, each with defaults for what a test does not care about."""

    def __init__(self, client: Any, namespace: str = "shop", database: int = 0) -> None:
        self.client = client
        self.names = Names(namespace, database)
        self.epoch = 0
        self.cap = self.key_cap = 1_000

    def do(self, command: Command[R]) -> R:
        """What *command* comes to; raises what the server refuses it with."""
        script, keys, args, ahead = command.parts(self.names)
        if ahead is not None:
            self.client.execute_command(*ahead)
        return command.parse(self.client.execute_command("EVAL", script.source, len(keys), *keys, *args))

    def sync(self, epoch: int | None = None, proved: int = 1, node: str = ME) -> Synced:
        """A sync of somebody who was proved *proved* of *epoch*, by default the last one synced to."""
        synced = self.do(Sync(self.epoch if epoch is None else epoch, proved, node))
        self.epoch = synced.epoch
        return synced

    def read(
        self, *keys: str, mode: Mode = "get", owner: str = ME + ":0", seen: int = 0, epoch: int | None = None
    ) -> Answers:
        asks = tuple(KeyAsk(key, mode, owner) for key in keys)
        return self.do(Read(self.epoch if epoch is None else epoch, seen, asks))

    def answer(self, key: str, mode: Mode = "get", owner: str = ME + ":0") -> Answer:
        """The answer for one key, of a domain that has not changed its epoch."""
        answers = self.read(key, mode=mode, owner=owner)
        assert answers.head is not None, "the domain has another epoch"
        return answers.found[0]

    def holds(self, key: str) -> bool:
        """Whether a read of *key* finds a valid entry."""
        return isinstance(self.answer(key), Hit | Large)

    def lead(self, key: str, owner: str = ME + ":0") -> int:
        """Leave to load *key*: its token."""
        answers = self.read(key, mode="lead", owner=owner)
        assert answers.found == ("lead",)
        assert answers.head is not None
        return answers.head

    def fill(
        self,
        key: str,
        token: int,
        *tags: str,
        payload: bytes = b"payload",
        owner: str = ME + ":0",
        ttl_ms: int = 60_000,
        epoch: int | None = None,
    ) -> Filled:
        check = check_of(key, tags, payload)
        epoch = self.epoch if epoch is None else epoch
        return self.do(Fill(epoch, token, owner, ttl_ms, key, check, 31, payload, tags))

    def set(
        self,
        key: str,
        *tags: str,
        payload: bytes = b"payload",
        token: tuple[int, int] | None = None,
        ttl_ms: int = 60_000,
    ) -> Recorded:
        if token is None:
            synced = self.sync()
            token = synced.epoch, synced.head
        epoch, number = token
        return self.do(
            Set(epoch, number, ttl_ms, key, check_of(key, tags, payload), payload, tags, self.key_cap)
        )

    def invalidate(self, *tags: str, keys: tuple[str, ...] = ()) -> Recorded:
        return self.do(Invalidate(tags, keys, self.cap, self.key_cap))

    def fence(
        self, *tags: str, keys: tuple[str, ...] = (), name: str = "f", ttl_ms: int = 10_000
    ) -> Recorded:
        return self.do(Fence(tags, keys, self.cap, self.key_cap, name, ttl_ms))

    def clear(self) -> Recorded:
        return self.do(Clear())

    def unlock(self, key: str, owner: str = ME + ":0") -> int:
        return self.do(Unlock(key, owner))

    def head(self) -> int:
        return int(-self.client.zscore(self.names.state, b"\1s"))

    def floor(self) -> int:
        return int(-self.client.zscore(self.names.state, b"\1f"))

    @contextmanager
    def heard(self) -> Iterator[list[tuple[str, bytes]]]:
        """(channel, message) of all that is published inside the block, complete after it."""
        messages: list[tuple[str, bytes]] = []
        with self.client.pubsub() as ear:
            ear.psubscribe("{*", "end")
            assert ear.get_message(timeout=10)["type"] == "psubscribe"
            assert ear.get_message(timeout=10)["type"] == "psubscribe"
            yield messages
            self.client.publish("end", END)
            while (message := ear.get_message(timeout=10))["data"] != END:
                messages.append((message["channel"].decode(), message["data"]))
