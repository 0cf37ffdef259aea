"""Configurations of Coherence.tla: what holds with every rule on, and what each rule is there for."""

from __future__ import annotations

from tests.model.configuration import Configuration

GUARANTEES = ("G1", "G2", "G6", "G8", "G3", "G3inL1", "SeenIsReal")
SMALL = {
    "D": "1",
    "Keys": '{"i"}',
    "Threads": '{"p1"}',
    "Around": "{}",
    "Own": "FALSE",
    "Writes": '{"invalidate"}',
    "MaxWrites": "1",
    "MaxFailovers": "0",
    "MaxForgets": "0",
    "MaxCrashes": "0",
    "MaxFails": "0",
    "MaxSets": "0",
    "Hints": "{}",
    "MaxForged": "0",
    "Nested": '"no"',
    "Joins": "FALSE",
    "SyncsArrive": "TRUE",
    "Split": "TRUE",
    "Ticks": "TRUE",
    "Large": "FALSE",
    "Looks": "{}",
    "Evicts": "FALSE",
    "Cold": "FALSE",
    "Filled": "TRUE",
}
OWN = {"Own": "TRUE"}
TWO = {"Threads": '{"p1", "p2"}'}
NODES = {"Threads": '{"p1", "q1"}', "Split": "FALSE"}
FAILOVER = {"MaxFailovers": "1"}
FAILS = {"MaxFails": "1"}
STILL = {"Ticks": "FALSE"}
EMPTY = {"Filled": "FALSE"}
FORGED = {"Hints": '{{}, {"t"}}', "MaxForged": "1"}
NESTED = {"Keys": '{"i", "o"}', "Threads": '{"p1", "n"}', "Nested": '"known"', "SyncsArrive": "FALSE"}
NESTED_JOINS = {**NESTED, "Threads": '{"p1", "p2", "n"}', "Joins": "TRUE", "Split": "FALSE"}
LOOKS = {"Looks": "{TRUE, FALSE}"}
LARGE = {"Large": "TRUE"}
JOINS = {**TWO, "Joins": "TRUE", "Split": "FALSE"}


def writes(*kinds: str) -> dict[str, str]:
    return {"Writes": "{" + ", ".join(f'"{kind}"' for kind in kinds) + "}"}


def make(
    name: str, off: tuple[str, ...], breaks: str | None, long: bool, *bounds: dict[str, str]
) -> Configuration:
    constants = dict(SMALL)
    for some in bounds:
        constants |= some
    constants["Off"] = "{" + ", ".join(f'"{rule}"' for rule in off) + "}"
    return Configuration(name, "Coherence", constants, GUARANTEES, breaks, long)


def holds(name: str, *bounds: dict[str, str], long: bool = False) -> Configuration:
    return make(name, (), None, long, *bounds)


def needed(
    rule: str, breaks: str, *bounds: dict[str, str], also: str = "", long: bool = False
) -> Configuration:
    """*rule* switched off, and the one that stands behind it, breaks an invariant."""
    off = (rule, also) if also else (rule,)
    return make("without " + ", ".join(off), off, breaks, long, *bounds)


def spare(rule: str, *bounds: dict[str, str], long: bool = False) -> Configuration:
    """*rule* switched off breaks nothing: it saves work, or stands behind another one."""
    return make(f"without {rule}", (rule,), None, long, *bounds)


HOLDS = (
    holds("one reader, any hint", EMPTY, FORGED),
    holds("own writes, evictions", OWN, EMPTY, {"Evicts": "TRUE"}),
    holds("failover", FAILOVER),
    holds("own writes, failover", OWN, FAILOVER, STILL, {"Cold": "TRUE"}),
    holds("lost state", OWN, {"MaxForgets": "1"}),
    holds("two threads", TWO, STILL, EMPTY, {"Split": "FALSE"}),
    holds("set, delete and clear", OWN, writes("set", "delete", "clear")),
    holds("set with a token", OWN, EMPTY, writes("set_token", "invalidate"), {"MaxSets": "1"}),
    holds("Redis away", OWN, FAILS),
    holds("Redis away, clear and delete", OWN, FAILS, STILL, writes("clear", "delete")),
    holds("nested reads", EMPTY, NESTED),
    holds("nested reads nobody knows of", EMPTY, NESTED, {"Nested": '"unknown"', "SyncsArrive": "TRUE"}),
    holds("a set that runs late", OWN, FAILS, STILL, writes("set"), {"MaxWrites": "2"}),
    holds("parts nobody knows of, and a sync lost", EMPTY, NESTED, {"Nested": '"unknown"'}),
    holds("joins", JOINS),
    holds("joins, empty L2, time stands still", JOINS, EMPTY, STILL),
    holds("joins, own writes, Redis away", JOINS, OWN, STILL, FAILS, long=True),
    holds("own writes, failover, leases that end", OWN, FAILOVER, {"Cold": "TRUE"}, long=True),
    holds("two ticks, any hint", OWN, EMPTY, FORGED, {"D": "2"}, long=True),
)
NEEDED = (
    needed("lease", "G1"),
    needed("lease_first", "G1"),
    needed("lease_from_sending", "G1"),
    needed("l2_lease", "G1", FAILOVER),
    needed("sync_stand", "G2", OWN, FAILOVER, STILL, {"Cold": "TRUE"}),
    needed("generation", "G2", OWN, FAILOVER, STILL, {"Cold": "TRUE"}),
    needed("new_epoch_empties", "G3inL1", FAILOVER, STILL),
    needed("proved", "G3inL1", FORGED),
    needed("flush_is_remembered", "G3inL1", writes("clear")),
    needed(
        "seen_only_grows",
        "G6",
        TWO,
        STILL,
        writes("clear", "invalidate"),
        {"MaxWrites": "2", "Split": "FALSE"},
    ),
    needed("floor_after_lie", "G3inL1", OWN, FORGED),
    needed("hint_is_no_proof", "SeenIsReal", FORGED),
    needed("own_record", "G3inL1", OWN),
    needed("disown", "G2", OWN, FAILOVER, STILL),
    needed("reply_stand", "SeenIsReal", OWN, FAILOVER, STILL),
    needed("meet", "G6", TWO, FAILOVER, STILL),
    needed("superseded", "G6", TWO, STILL, {"Around": '{"p2"}', "Split": "FALSE"}),
    needed("recent", "G3inL1"),
    needed("insert_seen", "G6", TWO, STILL),
    needed("insert_proved", "G6", TWO, STILL, {"Hints": "{{}}"}),
    needed("withheld", "G2", OWN, FAILS),
    needed("pending_first", "G2", OWN, FAILS),
    needed("pend_drops", "G2", OWN, FAILS),
    needed("pend_counts", "G2", JOINS, OWN, STILL, FAILS),
    needed("tenure", "G1", FAILOVER),
    needed("nonce", "G1", {"MaxForgets": "1"}),
    needed("read_seen", "G8", OWN, FAILOVER, STILL),
    needed("seen_not_applied", "G2", OWN, FAILOVER, STILL),
    needed("valid_version", "G3"),
    needed("valid_floor", "G3", writes("clear")),
    needed("token_at_miss", "G3", EMPTY),
    needed("fill_version", "G6", EMPTY),
    needed("fill_floor", "G6", EMPTY, writes("clear")),
    needed("fill_key_version", "G3", EMPTY, writes("delete")),
    needed("unlink", "G3", writes("delete")),
    needed("set_record", "G3", EMPTY, writes("set")),
    needed("set_token", "G3", EMPTY, writes("set_token", "invalidate"), {"MaxSets": "1"}),
    needed("set_place", "G3", OWN, FAILS, STILL, writes("set"), {"MaxWrites": "2"}),
    needed("clear_floor", "G3", writes("clear")),
    needed("clear_moves_head", "G3", writes("clear")),
    needed("clear_keeps_state", "G2", OWN, writes("clear")),
    needed("nested", "G3", EMPTY, NESTED, also="proved_token"),
    needed(
        "catch_up", "G3", EMPTY, NESTED, {"Nested": '"unknown"', "SyncsArrive": "TRUE"}, also="proved_token"
    ),
    needed("proved_token", "G3", EMPTY, NESTED, {"Nested": '"unknown"'}),
    needed("join_rule", "G1", JOINS),
    needed("join_lease", "G1", JOINS),
    needed("join_reflects", "G8", JOINS, EMPTY, STILL),
    needed("join_proved", "G6", JOINS, EMPTY, STILL, {"Around": '{"p2"}'}),
    needed("join_stand", "G8", JOINS, EMPTY, STILL, FAILOVER),
    needed("join_own", "G2", JOINS, OWN, STILL, FAILS),
    needed("join_away_own", "G2", JOINS, OWN, STILL, FAILS),
    needed("join_away_seen", "G8", JOINS, STILL),
    needed("join_away_young", "G1", JOINS),
)
LOOKED = (
    holds("looks", LOOKS),
    holds("looks, own writes, failover", LOOKS, OWN, FAILOVER, STILL),
    holds("looks, failover, delete", LOOKS, FAILOVER, writes("delete"), {"Split": "FALSE"}),
    holds("looks, lost state", LOOKS, OWN, STILL, {"MaxForgets": "1"}),
    holds("looks, set, delete and clear", LOOKS, OWN, STILL, writes("set", "delete", "clear")),
    holds("looks, two threads", LOOKS, TWO, STILL, {"Split": "FALSE"}),
    holds("looks, one past L1", LOOKS, TWO, STILL, {"Around": '{"p2"}', "Split": "FALSE"}),
    holds("looks, joins", LOOKS, JOINS, STILL),
    holds("looks, Redis away", LOOKS, OWN, FAILS, STILL),
    holds("looks, nested reads", LOOKS, NESTED, STILL),
    holds("large values, joins", LARGE, JOINS, STILL),
    holds("large values, failover, delete", LARGE, OWN, FAILOVER, STILL, writes("delete")),
    holds("large values, joins, own writes, Redis away", LARGE, JOINS, OWN, STILL, FAILS, long=True),
    holds("looks, two nodes, failover, delete", LOOKS, NODES, FAILOVER, STILL, writes("delete"), long=True),
    holds("looks, joins, leases that end", LOOKS, JOINS, long=True),
    needed("look_versions_first", "G6", LOOKS, STILL, writes("delete")),
    needed("look_tags", "G3inL1", LOOKS, STILL),
    needed("look_version", "G3inL1", LOOKS, STILL),
    needed("look_floor", "G3inL1", LOOKS, STILL, writes("clear")),
    needed("look_epoch", "G3inL1", LOOKS, STILL, {"MaxForgets": "1"}),
    needed("look_seen", "G8", LOOKS, OWN, FAILOVER, STILL),
    needed("look_stands", "G3inL1", LOOKS, FAILOVER, STILL, writes("delete")),
)
SPARE = (
    spare("look_token", LOOKS, STILL, FAILOVER, writes("set", "delete", "invalidate")),
    spare("older", TWO, STILL, EMPTY, {"Split": "FALSE"}),
    spare("join_away_nested", EMPTY, NESTED_JOINS, STILL, long=True),
)
CONFIGURATIONS = (*HOLDS, *NEEDED, *LOOKED, *SPARE)
