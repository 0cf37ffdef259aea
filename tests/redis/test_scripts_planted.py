"""Bytes that are torn, foreign or planted, in every key of a domain: a miss, never an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.redis.domain import ME, OTHER, Domain
from tiercache._core.commands import LOCK_MS, Hit
from tiercache._core.records import parse_entry

Plant = Callable[[Any, str], object]
OTHER_TYPES: dict[str, Plant] = {
    "list": lambda client, key: client.rpush(key, "x"),
    "set": lambda client, key: client.sadd(key, "x"),
    "hash": lambda client, key: client.hset(key, "x", "y"),
    "stream": lambda client, key: client.xadd(key, {"x": "y"}),
}
STRING: dict[str, Plant] = {"string": lambda client, key: client.set(key, "x")}
ZSET: dict[str, Plant] = {"sorted set": lambda client, key: client.zadd(key, {"x": 1})}


def each(plants: dict[str, Plant]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("plant", plants.values(), ids=plants)


@pytest.fixture
def domain(domain: Domain) -> Domain:
    """At some head above the first, with "a" stored under a tag."""
    domain.sync()
    domain.invalidate("before")
    domain.fill("a", domain.lead("a"), "users")
    assert domain.holds("a")
    return domain


def entry(domain: Domain) -> bytes:
    raw = domain.client.get(domain.names.entry("a"))
    assert isinstance(raw, bytes)
    return raw


def plant(domain: Domain, raw: bytes) -> None:
    domain.client.set(domain.names.entry("a"), raw)


def header(
    domain: Domain, *, epoch: object = None, token: object = 1, size: object = 0, tags: bytes = b""
) -> bytes:
    epoch = domain.epoch if epoch is None else epoch
    return f"1|{epoch}|{token}|1700000000000|00000000|0|{size}|".encode() + tags + b"payload"


def test_an_entry_torn_at_any_byte_is_never_taken_for_whole(domain: Domain) -> None:
    whole = entry(domain)
    for length in range(len(whole)):
        plant(domain, whole[:length])
        answer = domain.answer("a")
        # A torn payload is for the reader's check to find: the server does not look at it.
        assert answer == "miss" or (isinstance(answer, Hit) and parse_entry(answer.raw, "a") is None)


@pytest.mark.parametrize(
    "raw",
    [b"", b"x", b"0123456789", b"1|", b"|" * 50, b"\0" * 20, b"\xff" * 300, b"1|1|1|1|1|1|1|" * 5],
    ids=repr,
)
def test_bytes_of_nobody_are_a_miss(domain: Domain, raw: bytes) -> None:
    plant(domain, raw)

    assert domain.answer("a") == "miss"


@pytest.mark.parametrize(
    "fields",
    [
        {"epoch": 0},
        {"epoch": "9" * 400},
        {"token": "9" * 400},
        {"token": 10**15},
        {"token": ""},
        {"token": "-1"},
        {"token": "1e3"},
        {"token": "0x1"},
        {"token": 0},
        {"size": "9" * 400},
        {"size": 8},
        {"size": 10**9},
        {"size": "-1"},
        {"size": ""},
        {"size": 3, "tags": b"\0\0\0"},
    ],
    ids=str,
)
def test_a_header_no_script_wrote_is_a_miss(domain: Domain, fields: dict[str, Any]) -> None:
    plant(domain, header(domain, **fields))

    assert domain.answer("a") == "miss"


def test_an_entry_whose_token_is_ahead_of_the_head_is_a_miss(domain: Domain) -> None:
    plant(domain, header(domain, token=domain.head()))
    assert domain.holds("a")

    plant(domain, header(domain, token=domain.head() + 1))
    assert domain.answer("a") == "miss"


@pytest.mark.parametrize("tag", [b"x", b"x" * 5])
def test_an_entry_of_20000_tags_is_a_miss(domain: Domain, tag: bytes) -> None:
    tags = b"\0".join([tag] * 20_000)
    plant(domain, header(domain, token=domain.head(), size=len(tags), tags=tags))

    assert domain.answer("a") == "miss"


def test_a_planted_entry_does_not_spoil_the_batch_it_is_read_with(domain: Domain) -> None:
    domain.client.set(domain.names.entry("torn"), b"1|torn")
    domain.client.rpush(domain.names.entry("list"), "x")
    found = domain.read("torn", "list", "a").found

    assert found[:2] == ("miss", "miss")
    assert isinstance(found[2], Hit)


@pytest.mark.parametrize("raw", [b"x", b"1|9|9|9", header])
def test_the_next_fill_replaces_what_was_planted(domain: Domain, raw: Any) -> None:
    plant(domain, raw if isinstance(raw, bytes) else raw(domain, token=10**15))

    assert domain.fill("a", domain.lead("a")).status == "ok"
    assert domain.holds("a")


@each({**OTHER_TYPES, **ZSET})
def test_an_entry_of_another_type_is_a_miss_and_the_next_fill_replaces_it(
    domain: Domain, plant: Plant
) -> None:
    domain.client.delete(domain.names.entry("a"))
    plant(domain.client, domain.names.entry("a"))
    assert domain.answer("a") == "miss"

    assert domain.fill("a", domain.lead("a")).status == "ok"
    assert domain.holds("a")


@each({**OTHER_TYPES, **ZSET})
def test_a_set_replaces_an_entry_of_another_type(domain: Domain, plant: Plant) -> None:
    domain.client.delete(domain.names.entry("a"))
    plant(domain.client, domain.names.entry("a"))

    assert domain.set("a").status == "ok"
    assert domain.holds("a")


@each({**OTHER_TYPES, **STRING, **ZSET})
def test_a_lock_of_another_type_keeps_nobody_waiting(domain: Domain, plant: Plant) -> None:
    plant(domain.client, domain.names.lock("b"))
    token = domain.lead("b", ME + ":0")

    assert domain.client.hget(domain.names.lock("b"), "owner") == (ME + ":0").encode()
    assert domain.fill("b", token).status == "ok"


@each({**OTHER_TYPES, **STRING, **ZSET})
def test_a_lock_that_became_another_type_does_not_spoil_the_fill(domain: Domain, plant: Plant) -> None:
    token = domain.lead("b")
    domain.client.delete(domain.names.lock("b"))
    plant(domain.client, domain.names.lock("b"))

    assert domain.fill("b", token).status == "ok"
    assert domain.unlock("b") == 0


def test_a_lock_with_an_owner_of_nobody_is_waited_for_until_its_end(domain: Domain) -> None:
    domain.client.hset(domain.names.lock("b"), mapping={"owner": "\n|", "w" + "x" * 1000: "1"})
    domain.client.pexpire(domain.names.lock("b"), 5_000)
    answer = domain.answer("b", "lead", OTHER + ":0")

    assert answer not in ("lead", "miss")


def test_a_lock_that_lives_longer_than_any_of_ours_keeps_nobody_waiting(domain: Domain) -> None:
    """Its waiters would give up with a LoadTimeout, when the key could have been loaded."""
    domain.client.hset(domain.names.lock("b"), "owner", OTHER + ":0")
    domain.client.pexpire(domain.names.lock("b"), LOCK_MS + 5_000)

    assert domain.answer("b", "lead", ME + ":0") == "lead"
    assert domain.client.pttl(domain.names.lock("b")) <= LOCK_MS


# ---- the domain's own keys


@each({**OTHER_TYPES, **STRING, **ZSET})
def test_a_state_of_another_kind_is_a_lost_domain_and_the_next_sync_opens_a_new_one(
    domain: Domain, plant: Plant
) -> None:
    before = domain.epoch
    domain.client.delete(domain.names.state)
    plant(domain.client, domain.names.state)
    assert domain.read("a").head is None
    assert domain.fill("a", 1).status == "epoch"

    assert domain.sync().epoch != before
    assert domain.answer("a") == "miss"
    assert domain.fill("a", domain.lead("a")).status == "ok"


@pytest.mark.parametrize("act", ["invalidate", "set", "clear"])
@each({**OTHER_TYPES, **STRING, **ZSET})
def test_a_write_on_a_state_of_another_kind_opens_a_new_one(domain: Domain, plant: Plant, act: str) -> None:
    before = domain.epoch
    domain.client.delete(domain.names.state)
    plant(domain.client, domain.names.state)
    match act:
        case "invalidate":
            record = domain.invalidate("users", keys=("a",))
        case "set":
            record = domain.set("a")
        case "clear":
            record = domain.clear()

    assert record.epoch != before
    assert domain.sync().epoch == record.epoch


@each({**OTHER_TYPES, **STRING, **ZSET})
def test_a_table_of_keys_of_another_kind_costs_loads_under_way_and_no_more(
    domain: Domain, plant: Plant
) -> None:
    before, token = domain.epoch, domain.lead("b")
    domain.invalidate(keys=("b",))
    domain.client.delete(domain.names.domain[1])
    plant(domain.client, domain.names.domain[1])
    assert domain.fill("b", token).status == "floor"

    assert domain.sync().epoch == before
    assert domain.holds("a")
    assert domain.fill("b", domain.lead("b")).status == "ok"
    assert domain.fill("b", token).status == "floor"


@pytest.mark.parametrize("act", ["invalidate", "set", "clear"])
@each({**OTHER_TYPES, **STRING, **ZSET})
def test_a_write_mends_a_table_of_keys_of_another_kind(domain: Domain, plant: Plant, act: str) -> None:
    domain.client.delete(domain.names.domain[1])
    plant(domain.client, domain.names.domain[1])
    match act:
        case "invalidate":
            domain.invalidate(keys=("a",))
        case "set":
            domain.set("a")
        case "clear":
            domain.clear()

    assert domain.client.zscore(domain.names.domain[1], b"\1e") == -domain.epoch


@each({**OTHER_TYPES, **STRING})
def test_a_list_of_nodes_of_another_kind_is_made_anew(domain: Domain, plant: Plant) -> None:
    domain.client.delete(domain.names.members)
    plant(domain.client, domain.names.members)

    assert domain.sync().members == 1


@each({**OTHER_TYPES, **STRING, **ZSET})
def test_fences_of_another_kind_disturb_nobody(domain: Domain, plant: Plant) -> None:
    for key in domain.names.domain[2:]:
        plant(domain.client, key)

    domain.sync()
    domain.invalidate("users")
    assert domain.fill("a", domain.lead("a")).status == "ok"


@pytest.mark.parametrize("number", [2**53, 2**60, 1e300, float("inf")])
@pytest.mark.parametrize("special", [b"\1e", b"\1s", b"\1f"])
def test_a_state_with_numbers_too_large_to_count_on_is_a_new_epoch(
    domain: Domain, special: bytes, number: float
) -> None:
    """From 2^53 on adding one changes nothing: the head would stand still, and records get one number."""
    domain.client.zadd(domain.names.state, {special: -number})
    domain.sync()
    first, second = domain.invalidate("users"), domain.invalidate("users")

    assert (second.epoch, second.number) == (first.epoch, first.number + 1)
    assert domain.fill("a", domain.lead("a")).status == "ok"


def test_a_register_of_more_nodes_than_a_sync_keeps_is_a_new_epoch(domain: Domain) -> None:
    """Each sync and each barrier would go through all of them, and a sync takes off one."""
    before = domain.epoch
    for start in range(0, 9_000, 1_000):
        nodes = {f"\1n{n:032x}:5000": 0 for n in range(start, start + 1_000)}
        domain.client.zadd(domain.names.state, nodes)

    assert domain.sync().epoch != before
    assert domain.client.zcount(domain.names.state, "-inf", 0) < 10


@pytest.mark.parametrize("number", [0, 0.5, 2.5, -1, float("-inf")])
@pytest.mark.parametrize("special", [b"\1e", b"\1s", b"\1f"])
def test_a_state_with_numbers_that_count_nothing_is_a_new_epoch(
    domain: Domain, special: bytes, number: float
) -> None:
    before = domain.epoch
    domain.client.zadd(domain.names.state, {special: -number})

    assert domain.sync().epoch not in (before, 0)
    assert domain.fill("a", domain.lead("a")).status == "ok"


@pytest.mark.parametrize("number", [1e300, float("inf")])
def test_a_planted_floor_of_the_keys_is_no_floor(domain: Domain, number: float) -> None:
    domain.client.zadd(domain.names.domain[1], {b"\1f": -number})

    assert domain.sync().key_floor == domain.head()
    assert domain.fill("b", domain.lead("b")).status == "ok"


@pytest.mark.parametrize("number", [2.5, 1e300, float("inf")])
@pytest.mark.parametrize("table", [0, 1])
def test_a_planted_version_costs_misses_and_no_sync(domain: Domain, table: int, number: float) -> None:
    dep = ("t:posts", "k:b")[table]
    domain.client.zadd(domain.names.domain[table], {dep: number})

    assert domain.sync(proved=domain.head()).epoch == domain.epoch
    assert domain.holds("a")


@pytest.mark.parametrize("table", [0, 1])
def test_a_planted_dependency_that_is_no_text_costs_misses_and_no_sync(domain: Domain, table: int) -> None:
    domain.client.zadd(domain.names.domain[table], {b"t:\xff\xfe": domain.head() + 1})

    assert domain.sync(proved=domain.head()).epoch == domain.epoch
    assert domain.holds("a")


@pytest.mark.parametrize("table", [0, 1])
def test_a_planted_dependency_longer_than_any_of_ours_is_not_brought_to_the_nodes(
    domain: Domain, table: int
) -> None:
    head = domain.head()
    domain.client.zadd(domain.names.domain[table], {b"t:" + b"x" * 512: head, b"k:" + b"x" * 100_000: head})

    records = domain.sync(proved=head - 1).records
    assert records is not None
    assert ("t:" + "x" * 512, head) in records
    assert max(len(dep) for dep, _ in records) == 514


def test_a_hint_is_never_written_where_a_channel_is_a_key(domain: Domain) -> None:
    """Channels and keys are apart: a key of the channel's name disturbs nobody."""
    domain.client.set(domain.names.channel, "x")
    with domain.heard() as messages:
        domain.invalidate("users")

    assert len(messages) == 1
