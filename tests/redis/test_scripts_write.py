"""set.lua, invalidate.lua and clear.lua: what is recorded, stored, and told to whom."""

from __future__ import annotations

import fakeredis
import pytest
import redis

from tests.redis.domain import ODD, Domain
from tiercache._core.commands import Hit
from tiercache._core.records import MAX_DEPS, Hint, key_dep, parse_entry, parse_hint, tag_dep


@pytest.fixture
def domain(domain: Domain) -> Domain:
    domain.sync()
    return domain


def heard_hints(domain: Domain, messages: list[tuple[str, bytes]]) -> list[Hint | None]:
    return [parse_hint(data) for channel, data in messages if channel == domain.names.channel]


# ---- set


def test_a_set_is_found_and_is_one_record(domain: Domain) -> None:
    before = domain.head()
    record = domain.set("a", "users", payload=b"set")

    assert (record.epoch, record.number, record.status) == (domain.epoch, before + 1, "ok")
    assert domain.head() == before + 1
    answer = domain.answer("a")
    assert isinstance(answer, Hit)
    entry = parse_entry(answer.raw, "a")
    assert entry is not None
    assert (entry.token, entry.tags, entry.payload) == (before + 1, ("users",), b"set")


def test_the_last_set_wins(domain: Domain) -> None:
    for payload in (b"first", b"second"):
        domain.set("a", payload=payload)
    answer = domain.answer("a")

    assert isinstance(answer, Hit)
    assert answer.raw.endswith(b"second")


def test_a_set_tells_the_other_nodes_of_its_key(domain: Domain) -> None:
    with domain.heard() as messages:
        record = domain.set("a", "users")

    assert heard_hints(domain, messages) == [Hint(record.epoch, record.number, ("k:a",))]


def test_a_set_is_invalidated_by_its_tags(domain: Domain) -> None:
    domain.set("a", "users")
    domain.invalidate("users")

    assert not domain.holds("a")


def test_a_set_with_a_token_of_now_is_stored(domain: Domain) -> None:
    assert domain.set("a", "users", token=(domain.epoch, domain.head())).status == "ok"
    assert domain.holds("a")


@pytest.mark.parametrize("what", ["tag", "key", "clear", "epoch"])
def test_a_set_with_a_token_that_was_overtaken_does_nothing(domain: Domain, what: str) -> None:
    domain.set("a", payload=b"stays")
    token = (domain.epoch, domain.head())
    match what:
        case "tag":
            domain.invalidate("users")
        case "key":
            domain.set("a", payload=b"stays")
        case "clear":
            domain.clear()
        case "epoch":
            token = (domain.epoch + 1, domain.head())
    before = domain.head()
    with domain.heard() as messages:
        record = domain.set("a", "users", payload=b"late", token=token)

    assert record.status == {"tag": "stale", "key": "stale", "clear": "floor", "epoch": "epoch"}[what]
    assert (domain.head(), messages) == (before, [])
    answer = domain.answer("a")
    assert answer == "miss" or (isinstance(answer, Hit) and answer.raw.endswith(b"stays"))


def test_a_set_that_is_refused_as_an_error_leaves_no_older_value(domain: Domain) -> None:
    domain.set("a", payload=b"older")

    with pytest.raises(redis.ResponseError):
        domain.set("a", payload=b"newer", ttl_ms=0)
    assert not domain.holds("a")


# ---- invalidate


def test_an_invalidation_is_one_record_whatever_it_names(domain: Domain) -> None:
    before = domain.head()
    record = domain.invalidate("users", "posts", keys=("a", "b"))

    assert (record.epoch, record.number) == (domain.epoch, before + 1)
    assert domain.head() == before + 1


def test_an_invalidated_key_is_gone_from_redis(domain: Domain) -> None:
    domain.set("a")
    domain.invalidate(keys=("a",))

    assert not domain.client.exists(domain.names.entry("a"))


@pytest.mark.parametrize("name", ODD)
def test_a_hint_names_any_tag_and_key_as_it_was_given(domain: Domain, name: str) -> None:
    with domain.heard() as messages:
        record = domain.invalidate(name, "users", keys=(name,))

    deps = (tag_dep(name), "t:users", key_dep(name))
    assert heard_hints(domain, messages) == [Hint(record.epoch, record.number, deps)]


def test_a_record_takes_2000_dependencies_and_its_hint_names_them_all(domain: Domain) -> None:
    domain.cap = domain.key_cap = 100_000
    tags = tuple(f"{n:0512}" for n in range(MAX_DEPS // 2))
    keys = tuple(f"key {n}" for n in range(MAX_DEPS // 2))
    with domain.heard() as messages:
        record = domain.invalidate(*tags, keys=keys)

    (hint,) = heard_hints(domain, messages)
    assert hint == Hint(record.epoch, record.number, (*map(tag_dep, tags), *map(key_dep, keys)))
    records = domain.sync(proved=record.number - 1).records
    assert records is None  # more than one replay carries: the node empties its L1


def test_databases_of_one_server_do_not_hear_each_other() -> None:
    server = fakeredis.FakeServer()
    here = Domain(fakeredis.FakeRedis(server=server, db=0, protocol=2), database=0)
    there = Domain(fakeredis.FakeRedis(server=server, db=3, protocol=2), database=3)
    with here.heard() as messages:
        there.invalidate("users")

    assert here.names.channel != there.names.channel
    assert heard_hints(here, messages) == []
    assert len(heard_hints(there, messages)) == 1


def test_namespaces_of_one_server_do_not_touch_each_other(domain: Domain) -> None:
    other = Domain(domain.client, namespace="shop2")
    other.sync()
    domain.set("a", "users")
    with domain.heard() as messages:
        other.invalidate("users", keys=("a",))
        other.clear()

    assert domain.holds("a")
    assert heard_hints(domain, messages) == []


# ---- clear


def test_a_clear_drops_everything_and_keeps_the_numbers(domain: Domain) -> None:
    domain.invalidate("users")
    domain.fill("filled", domain.lead("filled"), "users")
    domain.set("set")
    before = domain.head()
    record = domain.clear()

    assert (record.epoch, record.number) == (domain.epoch, before + 1)
    assert domain.head() == before + 1
    assert not domain.holds("filled")
    assert not domain.holds("set")


def test_a_clear_tells_the_other_nodes_to_drop_everything(domain: Domain) -> None:
    with domain.heard() as messages:
        record = domain.clear()

    assert heard_hints(domain, messages) == [Hint(record.epoch, record.number, ("*",))]


def test_after_a_clear_the_domain_goes_on(domain: Domain) -> None:
    domain.clear()
    domain.fill("a", domain.lead("a"), "users")
    assert domain.holds("a")

    domain.invalidate("users")
    assert not domain.holds("a")


def test_a_clear_forgets_every_tag_and_key(domain: Domain) -> None:
    domain.invalidate("users", keys=("a",))
    domain.clear()

    assert domain.client.zcount(domain.names.state, 1, "+inf") == 0
    assert domain.client.zcount(domain.names.domain[1], 1, "+inf") == 0


def test_a_clear_is_the_floor_of_tags_and_of_keys(domain: Domain) -> None:
    number = domain.clear().number
    synced = domain.sync()

    assert (synced.tag_floor, synced.key_floor) == (number, number)


def test_a_node_that_has_not_heard_of_a_clear_is_told_to_flush(domain: Domain) -> None:
    proved = domain.head()
    domain.clear()

    assert domain.sync(proved=proved).records is None


def test_a_clear_keeps_a_fence(domain: Domain) -> None:
    domain.fence("t")
    domain.clear()

    assert domain.fill("a", domain.lead("a"), "t").status == "fenced"
