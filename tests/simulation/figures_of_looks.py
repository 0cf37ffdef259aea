"""Figures of looks into L2 by plain commands: what comes before one, and between two of its commands.

In the theme that these make, every read that L1 does not answer looks first.
"""

from __future__ import annotations

from tests.simulation.figure import KEY_A, KEY_B, D, Figure, Mishap, X

Y = (("y",), (), 0.0)


def _filled(f: Figure, key: str = "a") -> None:
    """L2 has the key, and P hears of nothing from then on but by what it asks."""
    f.act(0, "read", f.p, key, False)
    f.act(0.6, "sync", f.p)
    f.silence(0.65, "hints", 6)


def _looks(f: Figure, at: float, key: str = "a", apart: float = 0.0) -> float:
    """P looks at *at*, one of its commands *apart* from the next; when it is about to be given that one."""
    split = ("split", 0, apart, f.draw.choice([1, 1, 1, 2, 3])) if apart else ()
    f.act(at - 0.02, "drop_l1", f.p, key)
    f.act(at, "read", f.p, key, False, wrong=split)
    return at + apart * f.some(0.2, 0.8)


def _polls(f: Figure, at: float, key: str = "a") -> None:
    for turn in range(3):
        _looks(f, at + 0.3 * turn, key)
    f.poll(at + 1, f.p, key, 0.1, at + 1.5)


def _asks_for_both(f: Figure, at: float, wrong: Mishap = ()) -> None:
    """P, with neither in L1, reads "a" and "b" at once."""
    f.act(at - 0.02, "drop_l1", f.p, "a")
    f.act(at - 0.02, "drop_l1", f.p, "b")
    f.act(at, f.draw.choice(["get_many", "load_many"]), f.p, wrong=wrong)


def something_written_before(f: Figure) -> None:
    """The entry is there still, and no longer good: its tag was invalidated, or all is cleared."""
    key = f.draw.choice("ab")
    _filled(f, key)
    act = f.draw.choice([("write", X), ("write", Y), ("clear", ())])
    f.act(0.8, act[0], f.q, *act[1])
    _polls(f, 0.9, key)


def something_written_amid(f: Figure) -> None:
    """In the middle of a look its key is deleted, its tag invalidated, all cleared, or it is loaded anew."""
    key = f.draw.choice("aab")
    _filled(f, key)
    for at in (1.0, 2.5):
        amid = _looks(f, at, key, f.some(0.2, 0.6))
        act = f.draw.choice([("write", KEY_A), ("write", KEY_B), ("write", X), ("clear", ())])
        f.act(amid, act[0], f.q, *act[1])
        if f.draw.random() < 0.3:
            f.act(amid + 0.03, "refresh", f.r, key)
    _polls(f, 3.5, key)


def a_server_replaced_amid(f: Figure) -> None:
    """The key is deleted; in the middle of P's look a copy takes over that has it still."""
    _filled(f)
    f.act(0.7, "replicate", f.q, False)
    f.act(0.8, "write", f.q, *KEY_A)
    amid = _looks(f, 1.0, "a", f.some(0.3, 0.6))
    f.act(amid, "fail_over", f.p, 0.0, (), False)
    for turn in range(f.draw.choice([0, 0, 6])):
        f.act(amid + 0.001 + turn * 0.0005, "write", f.r, *Y)
    _polls(f, 2)


def a_server_that_lost_records(f: Figure) -> None:
    """P has met a record that the server it looks at has lost."""
    _filled(f)
    f.act(0.7, "replicate", f.q, False)
    f.act(0.8, *f.draw.choice([("write", f.q, *X), ("write", f.q, *KEY_A), ("write", f.p, *X)]))
    f.act(0.9, "sync", f.p)
    f.act(1.05, "fail_over", f.p, 0.0, (), False)
    _polls(f, 1.1)


def an_entry_of_an_epoch_before(f: Figure) -> None:
    """The state is lost, and another epoch comes as far as the token that the entry has."""
    records = f.draw.randint(1, 3)
    for turn in range(records):
        f.act(0.02 * turn, "write", f.q, *Y)
    f.act(0.2, "read", f.p, "a", False)
    f.silence(0.8, "hints", 6)
    f.act(0.85, "evict", f.q, "state")
    f.act(0.9, "write", f.q, *X)
    for turn in range(records + 1):
        f.act(0.95 + 0.02 * turn, "write", f.r, *Y)
    if f.draw.random() < 0.7:
        f.act(1.1, "sync", f.p)
    _polls(f, f.draw.choice([1.0, 1.3]))


def something_written_amid_a_batch(f: Figure) -> None:
    """In the middle of a look for "a" and "b" one is invalidated, and P may meet that record elsewhere."""
    _filled(f, "b")
    f.act(0.3, "read", f.p, "a", False)
    for at in (1.0, 2.5):
        late = f.some(0.3, 0.8)
        wrong = f.draw.choice([("slow reply", 0, late), ("split", 0, late, f.draw.randint(1, 3))])
        _asks_for_both(f, at, wrong)
        amid = at + late * f.some(0.2, 0.7)
        f.act(amid, "write", f.draw.choice([f.p, f.q]), *f.draw.choice([KEY_A, KEY_B, X, Y]))
        if f.draw.random() < 0.5:
            f.act(amid + 0.05, "sync", f.p)
        f.poll(at + late, f.p, "a", 0.1, at + 1.4)
        _asks_for_both(f, at + 1.45)


def a_batch_while_an_invalidation_waits(f: Figure) -> None:
    """P's own invalidation is refused; it is answered for neither key until it is sent."""
    _filled(f, "b")
    f.act(0.3, "read", f.p, "a", False)
    f.act(1.0, "write", f.p, *f.draw.choice([X, Y, KEY_A, KEY_B]), wrong=("refused", 0))
    for turn in range(8):
        _asks_for_both(f, 1.03 + turn * f.some(0.05, 0.12))


def a_batch_after_the_lease(f: Figure) -> None:
    """Long after a record that the server has lost since, and before anybody syncs with it, P reads both."""
    f.act(0, "read", f.q, "a", False)
    f.act(0.3, "load_many", f.p)
    f.act(0.6, "replicate", f.r, False)
    written = 2 * D + f.some(0.5, 5)
    f.act(written, "write", f.q, *X)
    f.act(written + 0.1, "fail_over", f.r, 0.0, (), False)
    _asks_for_both(f, written + D + f.some(0.5, 2))
