"""The scripts on a server that is full, read-only, cut off, restarted, promoted, or shy about itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import redis

from tests.redis.conftest import client_of
from tests.redis.domain import ME, OTHER, Domain
from tests.servers import RedisServer, eventually, newest, oldest_supported
from tiercache._core.barriers import Ack, Barrier, Forget
from tiercache._core.commands import Hit, member_of
from tiercache._core.fences import Unfence

SHY = "shy"  # a user that may do everything but ask the server about itself


@pytest.fixture
def full(real: Domain) -> Iterator[Domain]:
    """A domain with "a" stored under "users", on a server that has no memory left and evicts nothing."""
    real.sync()
    real.fill("a", real.lead("a"), "users")
    real.client.config_set("maxmemory-policy", "noeviction")
    real.client.config_set("maxmemory", 1)
    yield real
    real.client.config_set("maxmemory", 0)


@pytest.fixture
def shy(any_redis: RedisServer) -> Iterator[Domain]:
    """The domain as it is for a user that may not read INFO."""
    any_redis.cli("ACL", "SETUSER", SHY, "on", ">pw", "~*", "&*", "+@all", "-info")
    with client_of(any_redis, username=SHY, password="pw") as client:
        yield Domain(client)
    any_redis.cli("ACL", "DELUSER", SHY)


@pytest.fixture(params=[newest, oldest_supported], ids=["newest", "6.2"])
def own(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """A server to restart and demote."""
    binary: Callable[[], str] = request.param
    with closing(RedisServer(binary())) as server:
        yield server


# ---- no memory left


def test_a_full_server_takes_no_value(full: Domain) -> None:
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        full.client.set("anything", "x")


@pytest.mark.parametrize("act", ["tag", "key", "new tags", "clear"])
def test_a_full_server_takes_every_invalidation(full: Domain, act: str) -> None:
    before = full.head()
    match act:
        case "tag":
            full.invalidate("users")
        case "key":
            full.invalidate(keys=("a",))
        case "new tags":
            full.invalidate(*map(str, range(1_000)), "users", keys=tuple(map(str, range(1_000))))
        case "clear":
            full.clear()

    assert full.head() == before + 1
    assert not full.holds("a")


def test_a_full_server_gives_leases(full: Domain) -> None:
    full.invalidate("posts")

    assert full.sync(node=OTHER).records == (("t:posts", full.head()),)


@pytest.mark.parametrize("act", ["fence", "unfence", "barrier", "ack", "forget"])
def test_a_full_server_takes_fences_and_acknowledgements(full: Domain, act: str) -> None:
    """Else each barrier would take as long as a lease, and each fence suspend the guarantee."""
    full.client.config_set("maxmemory", 0)
    full.sync(node=OTHER)
    full.fence("posts", name="g")
    full.client.config_set("maxmemory", 1)
    match act:
        case "fence":
            assert full.fence("users").number == full.head()
            assert set(full.sync().fenced) == {"t:users", "t:posts"}
        case "unfence":
            assert full.do(Unfence("g", ("t:posts",)))
        case "barrier":
            behind = full.do(Barrier(full.epoch, full.head(), ME, "-0.25"))
            assert behind is not None
            assert set(behind.members.values()) == {"-0.25"}
        case "ack":
            assert full.do(Ack(full.epoch, full.head(), member_of(OTHER, 0), full.head(), ME))
        case "forget":
            full.do(Forget(((member_of(OTHER, 0), ""),)))
            assert full.client.zscore(full.names.state, b"\1n" + member_of(OTHER, 0).encode()) is None


def test_a_full_server_opens_a_new_epoch(full: Domain) -> None:
    before = full.epoch
    full.client.delete(full.names.state)

    assert full.sync().epoch != before


def test_a_full_server_answers_what_it_has(full: Domain) -> None:
    assert full.holds("a")


def test_a_fill_of_a_full_server_is_vouched_for_and_not_stored(full: Domain) -> None:
    filled = full.fill("b", full.lead("b"))

    assert (filled.status, filled.accepted) == ("full", True)
    assert not full.client.exists(full.names.entry("b"))


def test_a_load_that_was_overtaken_is_not_vouched_for_by_a_full_server(full: Domain) -> None:
    token = full.lead("b")
    full.invalidate("users")

    assert not full.fill("b", token, "users").accepted


def test_a_fill_that_a_full_server_refused_leaves_the_entry_of_before(full: Domain) -> None:
    full.answer("a", "renew")

    assert full.fill("a", full.head()).status == "full"
    assert full.holds("a")


def test_a_load_runs_without_a_lock_on_a_full_server(full: Domain) -> None:
    assert full.answer("b", "lead", ME + ":0") == "lead"
    assert full.answer("b", "lead", OTHER + ":0") == "lead"
    assert not full.client.exists(full.names.lock("b"))


def test_a_set_is_recorded_and_not_stored_by_a_full_server(full: Domain) -> None:
    before = full.head()
    record = full.set("b", payload=b"x" * 10_000)

    assert (record.status, record.number) == ("full", before + 1)
    assert full.head() == before + 1
    assert not full.client.exists(full.names.entry("b"))


def test_a_set_of_a_full_server_leaves_no_older_value(full: Domain) -> None:
    full.set("a", payload=b"newer")

    answer = full.answer("a")
    assert answer == "miss" or (isinstance(answer, Hit) and answer.raw.endswith(b"newer"))


# ---- nobody may write


def test_a_replica_gives_no_lease_and_takes_no_write(own: RedisServer) -> None:
    with client_of(own) as client:
        domain = Domain(client)
        domain.sync()
        client.replicaof("127.0.0.1", 1)

        for act in (domain.sync, lambda: domain.invalidate("users"), lambda: domain.set("a"), domain.clear):
            with pytest.raises(redis.ResponseError, match="read only replica"):
                act()


def test_a_primary_that_lost_its_replicas_gives_no_lease_and_takes_no_write(real: Domain) -> None:
    real.sync()
    before = real.head()
    real.client.config_set("min-replicas-to-write", 1)
    try:
        for act in (real.sync, lambda: real.invalidate("users"), lambda: real.set("a"), real.clear):
            with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
                act()
    finally:
        real.client.config_set("min-replicas-to-write", 0)

    assert real.head() == before


# ---- another time as primary


def test_a_restart_from_a_snapshot_is_a_new_epoch(own: RedisServer) -> None:
    with client_of(own) as client:
        domain = Domain(client)
        first = domain.sync()
        domain.fill("a", domain.lead("a"), "users")
        own.save()
        domain.invalidate("users")
        own.restart()
        assert domain.holds("a")  # back from the dead: only a node without a proof would believe it

        second = domain.sync(proved=domain.head())
        assert second.epoch != first.epoch
        assert domain.answer("a") == "miss"


@pytest.mark.parametrize("act", ["invalidate", "set", "clear"])
def test_the_first_write_after_a_restart_opens_the_new_epoch(own: RedisServer, act: str) -> None:
    with client_of(own) as client:
        domain = Domain(client)
        first = domain.sync()
        own.save()
        own.restart()
        record = {"invalidate": domain.invalidate, "set": lambda: domain.set("a"), "clear": domain.clear}[
            act
        ]()

        assert record.epoch != first.epoch
        assert domain.sync().epoch == record.epoch


def test_a_replica_that_is_promoted_opens_a_new_epoch(own: RedisServer, own_redis: RedisServer) -> None:
    """In the old one, invalidations may be missing that the replica never got."""
    with client_of(own) as primary, client_of(own_redis) as replica:
        domain, promoted = Domain(primary), Domain(replica)
        primary.config_set("repl-diskless-sync-delay", 0)
        replica.replicaof("127.0.0.1", own.port)
        assert eventually(lambda: replica.info("replication")["master_link_status"] == "up")
        first = domain.sync()
        assert eventually(lambda: replica.exists(domain.names.state))
        replica.replicaof("NO", "ONE")

        assert promoted.sync(epoch=first.epoch).epoch != first.epoch


def test_a_server_that_goes_on_keeps_its_epoch(own: RedisServer) -> None:
    with client_of(own) as client:
        domain = Domain(client)
        first = domain.sync()
        own.save()
        client.config_resetstat()

        assert domain.sync().epoch == first.epoch
        assert domain.sync().tenure_known


# ---- a user that may not ask


def test_a_user_that_may_not_ask_is_told_that_the_tenure_is_unknown(shy: Domain, real: Domain) -> None:
    assert not shy.sync().tenure_known
    assert real.sync().tenure_known


def test_users_that_may_and_may_not_ask_agree_on_the_epoch(shy: Domain, real: Domain) -> None:
    epochs = [domain.sync().epoch for domain in (real, shy, real, shy, real)]

    assert len(set(epochs)) == 1


def test_an_epoch_opened_by_one_who_may_not_ask_is_trusted_by_nobody_who_may(
    shy: Domain, real: Domain
) -> None:
    epochs = [domain.sync().epoch for domain in (shy, shy, real, shy, real)]

    assert epochs[0] == epochs[1] != epochs[2]
    assert len(set(epochs[2:])) == 1


@pytest.mark.parametrize("act", ["invalidate", "set", "clear"])
def test_a_write_of_one_who_may_not_ask_keeps_the_epoch(shy: Domain, real: Domain, act: str) -> None:
    first = real.sync()
    record = {"invalidate": shy.invalidate, "set": lambda: shy.set("a"), "clear": shy.clear}[act]()

    assert record.epoch == first.epoch
    assert real.sync().epoch == first.epoch
