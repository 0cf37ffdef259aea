"""sync.lua and the state it proves: epochs, records, floors, trimming, numbers, tenure."""

from __future__ import annotations

import pytest

from tests.redis.domain import ME, OTHER, Domain
from tiercache._core.commands import REPLAY_LIMIT


def records_after(domain: Domain, proved: int) -> set[tuple[str, int]]:
    records = domain.sync(proved=proved).records
    assert records is not None, "the node was told to flush"
    return set(records)


def test_the_first_sync_opens_an_epoch_with_a_head_of_1(domain: Domain) -> None:
    synced = domain.sync(epoch=0, proved=0)

    assert synced.epoch > 0
    assert (synced.head, synced.tag_floor, synced.key_floor, synced.records) == (1, 1, 1, None)


def test_the_next_sync_finds_that_epoch(domain: Domain) -> None:
    first = domain.sync()

    assert domain.sync().epoch == first.epoch


def test_two_domains_that_begin_have_different_epochs(domain: Domain) -> None:
    first = domain.sync()
    domain.client.delete(domain.names.state)

    assert domain.sync().epoch != first.epoch


def test_a_sync_brings_what_was_recorded_since(domain: Domain) -> None:
    domain.sync()
    domain.invalidate("before")
    proved = domain.head()
    domain.invalidate("users", "posts", keys=("a",))
    domain.set("b", "users")

    assert records_after(domain, proved) == {
        ("t:users", proved + 1),
        ("t:posts", proved + 1),
        ("k:a", proved + 1),
        ("k:b", proved + 2),
    }


def test_a_sync_brings_only_the_last_record_of_a_dependency(domain: Domain) -> None:
    domain.sync()
    proved = domain.head()
    for _ in range(3):
        domain.invalidate("users")

    assert records_after(domain, proved) == {("t:users", proved + 3)}


def test_a_node_that_is_up_to_date_is_brought_nothing(domain: Domain) -> None:
    domain.sync()
    domain.invalidate("users")

    assert records_after(domain, domain.head()) == set()


def test_a_node_of_another_epoch_is_brought_no_records(domain: Domain) -> None:
    domain.sync()
    domain.invalidate("users")

    assert domain.sync(epoch=12345).records is None


def test_a_node_as_far_behind_as_a_replay_carries_is_brought_it_all(domain: Domain) -> None:
    domain.cap = 10_000
    domain.sync()
    proved = domain.head()
    domain.invalidate(*map(str, range(REPLAY_LIMIT)))

    assert len(records_after(domain, proved)) == REPLAY_LIMIT


def test_a_node_further_behind_is_told_to_flush(domain: Domain) -> None:
    domain.cap = domain.key_cap = 10_000
    domain.sync()
    proved = domain.head()
    domain.invalidate(*map(str, range(REPLAY_LIMIT - 10)), keys=tuple(map(str, range(11))))

    assert domain.sync(proved=proved).records is None


def test_a_sync_counts_the_nodes_of_the_last_minute(domain: Domain) -> None:
    assert [domain.sync(node=node).members for node in (ME, ME, OTHER)] == [1, 1, 2]


def test_a_node_not_heard_of_for_a_minute_is_not_counted(domain: Domain) -> None:
    seconds, microseconds = domain.client.time()
    long_ago = seconds * 1000 + microseconds // 1000 - 61_000
    domain.client.zadd(domain.names.members, {OTHER: long_ago})

    assert domain.sync(node=ME).members == 1


def test_the_list_of_nodes_goes_when_nobody_syncs_any_more(domain: Domain) -> None:
    domain.sync()

    assert 0 < domain.client.pttl(domain.names.members) <= 60_000


# ---- numbers


@pytest.mark.parametrize("head", [2**31 - 1, 2**31, 2**32, 10**14 + 7, 10**15 + 3, 2**53 - 2])
def test_large_numbers_keep_their_digits(domain: Domain, head: int) -> None:
    domain.sync()
    domain.client.zadd(domain.names.state, {b"\1s": -head})
    record = domain.invalidate("users", keys=("a",))
    assert record.number == domain.head() == head + 1

    assert records_after(domain, head) == {("t:users", head + 1), ("k:a", head + 1)}
    assert domain.lead("a") == head + 1
    assert domain.fill("a", head, "users").status == "stale"
    assert domain.fill("a", head + 1, "users").status == "ok"
    assert domain.holds("a")


def test_an_epoch_of_48_bits_keeps_its_digits(domain: Domain) -> None:
    domain.sync()
    domain.client.zadd(domain.names.state, {b"\1e": -(2**48 - 1)})

    assert domain.sync().epoch == 2**48 - 1
    assert domain.invalidate("users").epoch == 2**48 - 1


# ---- trimming


def numbers(domain: Domain, table: int) -> dict[str, int]:
    """Dependency to version, of the tags (0) or the keys (1)."""
    found = domain.client.zrangebyscore(domain.names.domain[table], 1, "+inf", withscores=True)
    return {dep.decode(): int(number) for dep, number in found}


def test_above_its_cap_the_table_of_tags_stays_bounded(domain: Domain) -> None:
    domain.cap = 50
    for n in range(200):
        domain.invalidate(f"tag {n}")

    assert len(numbers(domain, 0)) <= 50


def test_what_a_trim_drops_is_below_the_floor(domain: Domain) -> None:
    domain.sync()
    domain.cap = 20
    version = {f"t:tag {n}": domain.invalidate(f"tag {n}").number for n in range(100)}
    kept = numbers(domain, 0)

    assert kept.items() <= version.items()
    assert all(version[dep] <= domain.floor() for dep in version.keys() - kept.keys())
    assert domain.floor() < domain.head()


def test_an_entry_whose_tags_were_trimmed_is_a_miss(domain: Domain) -> None:
    domain.sync()
    domain.cap = 20
    token = domain.lead("a")
    domain.invalidate("users")
    for n in range(100):
        domain.invalidate(f"tag {n}")

    assert "t:users" not in numbers(domain, 0)
    assert domain.fill("a", token, "users").status == "floor"


def test_an_entry_older_than_the_floor_is_a_miss(domain: Domain) -> None:
    domain.sync()
    domain.cap = 20
    domain.fill("a", domain.lead("a"), "users")
    for n in range(100):
        domain.invalidate(f"tag {n}")

    assert not domain.holds("a")


def test_a_node_that_missed_what_was_trimmed_is_told_to_flush(domain: Domain) -> None:
    domain.sync()
    domain.cap = 20
    proved = domain.head()
    for n in range(100):
        domain.invalidate(f"tag {n}")

    assert domain.sync(proved=proved).records is None


def test_a_trim_costs_a_bounded_number_of_members_a_record(domain: Domain) -> None:
    domain.cap = 10_000
    for n in range(40):
        domain.invalidate(*(f"tag {n}.{m}" for m in range(10)))
    domain.cap = 20
    domain.invalidate("one", "two")

    # 64 and twice the two named, then the rest of the record where that ended.
    assert 402 - (64 + 4 + 10) <= len(numbers(domain, 0)) <= 402 - (64 + 4)


def test_trimming_catches_up_with_what_each_record_adds(domain: Domain) -> None:
    domain.cap = 30
    for n in range(20):
        domain.invalidate(*(f"tag {n}.{m}" for m in range(25)))

    assert len(numbers(domain, 0)) <= 30


def test_a_record_larger_than_the_cap_is_its_own_floor(domain: Domain) -> None:
    domain.sync()
    domain.cap = 20
    token = domain.lead("a")
    record = domain.invalidate(*map(str, range(100)))

    assert domain.floor() == record.number
    assert domain.fill("a", token, "1").status == "floor"
    assert domain.fill("a", domain.lead("a"), "1").status == "ok"


def test_sets_of_keys_never_make_an_entry_with_tags_a_miss(domain: Domain) -> None:
    domain.sync()
    domain.key_cap = 20
    domain.fill("a", domain.lead("a"), "users")
    for n in range(200):
        domain.set(f"key {n}")

    assert len(numbers(domain, 1)) <= 20
    assert domain.holds("a")


def test_a_load_older_than_the_floor_of_the_keys_fills_nothing(domain: Domain) -> None:
    domain.sync()
    domain.key_cap = 20
    token = domain.lead("a")
    for n in range(100):
        domain.set(f"key {n}")

    assert domain.fill("a", token).status == "floor"


# ---- what is evicted or lost


def test_without_its_table_of_keys_a_domain_takes_no_load_of_before(domain: Domain) -> None:
    domain.sync()
    domain.invalidate("before")
    token = domain.lead("a")
    domain.invalidate(keys=("a",))
    domain.client.delete(domain.names.domain[1])

    assert domain.fill("a", token).status == "floor"
    domain.invalidate("elsewhere")
    assert domain.fill("a", token).status == "floor"


def test_without_its_table_of_keys_a_domain_takes_a_load_of_now(domain: Domain) -> None:
    domain.sync()
    domain.invalidate("before")
    domain.client.delete(domain.names.domain[1])

    assert domain.fill("a", domain.lead("a")).status == "ok"


def test_without_its_table_of_keys_a_domain_keeps_its_epoch_and_its_entries(domain: Domain) -> None:
    first = domain.sync()
    domain.fill("a", domain.lead("a"), "users")
    domain.client.delete(domain.names.domain[1])

    assert domain.sync().epoch == first.epoch
    assert domain.holds("a")


def test_a_table_of_keys_of_another_epoch_is_none(domain: Domain) -> None:
    domain.sync()
    token = domain.lead("a")
    domain.invalidate(keys=("a",))
    domain.client.zrem(domain.names.domain[1], "k:a")
    domain.client.zadd(domain.names.domain[1], {b"\1e": -(domain.epoch + 1)})

    assert domain.fill("a", token).status == "floor"


def test_a_node_behind_a_lost_table_of_keys_is_told_to_flush(domain: Domain) -> None:
    domain.sync()
    proved = domain.head()
    domain.invalidate(keys=("a",))
    domain.client.delete(domain.names.domain[1])

    assert domain.sync(proved=proved).records is None


@pytest.mark.parametrize("special", [b"\1e", b"\1s", b"\1f", b"\1r", b"\1q"])
def test_a_state_that_lacks_a_part_is_a_new_epoch(domain: Domain, special: bytes) -> None:
    first = domain.sync()
    domain.client.zrem(domain.names.state, special)

    assert domain.sync().epoch != first.epoch


def test_fences_go_with_their_epoch(domain: Domain) -> None:
    domain.sync()
    fences = domain.names.domain[2:]
    for key in fences:
        domain.client.set(key, "fence")
    domain.client.delete(domain.names.state)
    domain.sync()

    assert domain.client.exists(*fences) == 0
