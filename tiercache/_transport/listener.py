"""The thread that hears the other nodes, and keeps the lease alive.

One a node. It feeds hints to the coherence core, rings the bells of those who wait for
another process's load, and syncs three times within `max_staleness`: what the channel lost
comes with the next sync. Correctness never needs it: without it a lease lapses, and the next
read syncs in line.

The channel is open to whoever may publish on it. What it says is heard for no more than a sync
every tenth of `max_staleness`, once it was caught lying; and under a flood it is not heard at
all for a while, which costs nothing but speed.

A subscription can die without a sign (a half-open path). Each sync is accompanied by a PING
on it, and one that was not answered by the sync after next is closed and made anew.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from tiercache._core.barriers import Question, acknowledge, parse_question
from tiercache._core.complaints import tell
from tiercache._core.plan import Step, run
from tiercache._core.records import parse_hint
from tiercache._core.scripts import Names
from tiercache._core.syncs import sync
from tiercache._core.tiers import Tiers
from tiercache._errors import L2Unavailable
from tiercache._transport.address import Address
from tiercache._transport.blocking import FAILURES
from tiercache._transport.breaker import PROBE_EVERY
from tiercache._transport.flood import Flood
from tiercache._transport.subscription import Subscription

TURN = 0.1  # seconds a wait on the socket takes at most
RECONNECT_EVERY = 0.25  # seconds between two attempts to subscribe
MAX_QUESTIONS = 32  # barriers that wait for this node at once; the rest find its next sync
LOOK_EVERY = 1.0  # seconds between two looks at whether another server is the primary now
DEAF = 10.0  # seconds without a subscription after a flood on the channel
TRUSTED, LIED, FOREIGN = 0.01, 0.1, 0.1  # parts of D between a sync and one that a hint asks for
ASKED, ASKED_BY_A_LIAR = 0.002, 0.2  # parts of D between two rounds of acknowledgements,
AT_MOST = 0.01, 1.0  # and seconds: whoever waits for a barrier knows nothing of D

SLEEP_NOTICED = 0.05  # seconds


def time_asleep() -> float:
    """Seconds this machine has slept since it was started; 0.0 where nobody can tell."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return (
        0.0 if boottime is None else time.clock_gettime(boottime) - time.clock_gettime(time.CLOCK_MONOTONIC)
    )


class Listener:
    """Started by the first read, stopped by `stop`; in a forked child a new one is made."""

    def __init__(
        self,
        tiers: Tiers,
        address: Address,
        names: Names,
        perform: Callable[[Step], Any],
        served: Callable[[], int],
        asleep: Callable[[], float] = time_asleep,
    ) -> None:
        self._tiers, self._address, self._names, self._perform = tiers, address, names, perform
        self._served = served  # reads answered so far, of whatever kind
        self._asleep, self._slept = asleep, asleep()
        self._wake_channel = names.wake + tiers.core.node
        self._stopping = threading.Event()
        self._subscription: Subscription | None = None
        self._next_sync = self._next_connect = self._last_sync = self._active = 0.0
        self._next_look = 0.0
        self._last_served = -1
        self._questions: dict[str, Question] = {}  # by who asks; the last of each
        self._next_answer = 0.0
        self._told = 0, 0  # epoch and number of the last acknowledgement
        self._unanswered = 0  # PINGs
        self._gap = 0, 0  # epoch and number of the highest hint since the last sync that came after a gap
        self._trust = TRUSTED  # in the next one
        self._flood = Flood()
        self.subscribed = False
        self.expected_by = tiers.clock() + tiers.timeout  # to hear the channel for the first time
        self.thread = threading.Thread(target=self._run, name="tiercache-listener", daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Let the thread end, at once or after the timeouts of what it is doing; waits for nothing."""
        self._stopping.set()
        subscription = self._subscription
        if subscription is not None:
            subscription.interrupt()

    def forget(self) -> None:
        """After a fork, in the child: the thread is not here, the socket is the parent's."""
        if self._subscription is not None:
            self._subscription.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except FAILURES as error:
                self._lost(error)
            except Exception:
                # A bug here must not end the thread: syncs go on in line, but nobody would know why.
                self._lost(None)
                tell(logging.ERROR, "the listener failed; it goes on", exc_info=True)
        self._lost(None)

    def _turn(self) -> None:
        now = self._tiers.clock()
        asleep = self._asleep()
        if asleep - self._slept > SLEEP_NOTICED:
            # The clock of the lease may have stood still with the machine.
            self._tiers.core.lapse()
            self._next_sync = 0.0
        self._slept = asleep
        if self._tiers.core.pending or self._tiers.is_cut_off():
            self._next_sync = min(self._next_sync, self._last_sync + PROBE_EVERY)
        if now >= self._next_look and now - self._active <= self._tiers.core.max_staleness:
            self._next_look = now + LOOK_EVERY
            # A third of D until a sync, this, and a third for its answer: less than a lease.
            self._address.look(self._tiers.core.max_staleness / 6)
        if now >= self._next_sync:
            self._sync(now)
        if self._subscription is not None and not self._subscription.leads_there:
            raise ConnectionError("another server is the primary now")
        if self._subscription is None:
            # Each try may take a timeout, and syncs are what shows that Redis is back.
            is_cut_off = self._tiers.is_cut_off()
            if now < self._next_connect or is_cut_off:
                self._stopping.wait(TURN if is_cut_off else min(TURN, self._next_connect - now))
                return
            self._subscribe(now)
        assert self._subscription is not None
        now = self._tiers.clock()
        if self._questions and now >= self._next_answer:
            self._answer(now)
        due = min(self._next_sync, self._next_answer) if self._questions else self._next_sync
        wait = max(0.0, min(TURN, due - now))
        message = self._subscription.hear(wait)
        if message is not None:
            self._receive(message)

    def _subscribe(self, now: float) -> None:
        self._next_connect = now + RECONNECT_EVERY
        self._subscription = Subscription(self._address, self._names.channel, self._wake_channel)
        self._unanswered = 0

    def _receive(self, message: Any) -> None:
        self._unanswered = 0
        tiers = self._tiers
        match message:
            case [b"message", bytes(channel), bytes(data)]:
                if channel.decode("utf-8", "replace") == self._wake_channel:
                    if not tiers.bells.ring(data.decode("utf-8", "replace")):
                        self._count()
                    return
                self._count()
                hint = parse_hint(data)
                if hint is None:
                    self._hear_question(data)
                    return
                tiers.events["hints"] += 1
                match tiers.core.hear(hint):
                    case "gap":
                        noted = self._gap[1] if self._gap[0] == hint.epoch else 0
                        self._gap = hint.epoch, max(noted, hint.number)
                        self._ask_for_sync(self._trust)
                    case "foreign":
                        self._ask_for_sync(FOREIGN)
            case [b"subscribe", _, 2]:
                # What was published while nobody listened is only found by a sync.
                self.subscribed = True
                self._flood.begin(self._tiers.clock(), tiers.core.epoch, tiers.core.proved)
                self._next_sync = 0.0
                # 1. A reader is told to wait.  2. The load ends; nobody here hears its wake-up.
                # 3. Subscribed.  4. The reader waits, and long, since wake-ups arrive.
                tiers.bells.ring_all()

    def _hear_question(self, data: bytes) -> None:
        core, question = self._tiers.core, parse_question(data)
        if question is None:
            self._tiers.events["foreign_messages"] += 1
        elif question.epoch == core.epoch and question.waiter != core.node:
            # What the server was told once it need not be told again, however often somebody asks.
            told = self._told[1] if self._told[0] == core.epoch else 0
            asked = self._questions.get(question.waiter, question).number
            if question.number > told and question.number >= asked and len(self._questions) < MAX_QUESTIONS:
                self._questions[question.waiter] = question

    def _answer(self, now: float) -> None:
        """Acknowledge what was asked: the first question in order syncs for all that are true."""
        core, pause = self._tiers.core, min(ASKED * self._tiers.core.max_staleness, AT_MOST[0])
        questions, self._questions = sorted(self._questions.values()), {}
        try:
            for question in questions:
                if not run(acknowledge(self._tiers, question), self._perform):
                    # The rest are further ahead, or not told yet: let it come.
                    pause = min(ASKED_BY_A_LIAR * core.max_staleness, AT_MOST[1])
                    break
                self._told = core.epoch, core.proved
        except L2Unavailable:
            pass  # whoever asked looks again, and waits no longer than a lease
        self._next_answer = now + pause

    def _count(self) -> None:
        """A message that nobody here waited for: if there are too many, a sync will tell."""
        self._flood.heard()
        if self._flood.is_suspected:
            self._ask_for_sync(LIED)

    def _ask_for_sync(self, spacing: float) -> None:
        """Sync soon, but not sooner than *spacing* parts of D after the last one: any hint may be forged."""
        spaced = self._last_sync + spacing * self._tiers.core.max_staleness
        self._next_sync = min(self._next_sync, spaced)

    def _is_behind(self, gap: tuple[int, int]) -> bool:
        """Whether the head is below that of a hint; in another epoch it says nothing of it."""
        epoch, number = gap
        return epoch == self._tiers.core.epoch and number > self._tiers.core.proved

    def _judge(self, now: float, gap: tuple[int, int]) -> None:
        """Judge what was heard by a good sync: no true hint has a number above the head it brought."""
        core = self._tiers.core
        self._trust = LIED if self._is_behind(gap) else TRUSTED
        if self._flood.is_certain(now, core.epoch, core.proved):
            self._tiers.events["floods"] += 1
            self._flood.begin(now, core.epoch, core.proved)
            self._next_connect = now + DEAF
            raise ConnectionError("the channel is flooded with messages that no record stands for")

    def _sync(self, now: float) -> None:
        tiers = self._tiers
        third = tiers.core.max_staleness / 3
        self._last_sync = now
        self._next_sync = now + third * random.uniform(0.8, 1.0)
        served = self._served()
        if served != self._last_served:
            self._last_served, self._active = served, now
        # A node that served nothing for a while lets its lease lapse; what is pending is still sent, and its
        # next caller is not the one who finds out whether Redis is back.
        wanted = tiers.core.pending or self._flood.is_suspected or tiers.is_cut_off()
        if wanted or now - self._active <= tiers.core.max_staleness:
            gap, self._gap = self._gap, (0, 0)
            joins = not tiers.syncs.is_empty
            good, _ = run(sync(tiers, blocking=True), self._perform)
            if good and joins and self._is_behind(gap):
                # A reader's, perhaps sent before the record that the hint was of: it tells nothing.
                good, _ = run(sync(tiers, blocking=True), self._perform)
            if good:
                self._judge(now, gap)
            else:
                self._last_sync = tiers.clock()
                self._next_sync = self._last_sync + PROBE_EVERY
        if self._subscription is not None and self.subscribed:
            if self._unanswered >= 2:
                raise ConnectionError("the subscription has fallen silent")
            self._unanswered += 1
            self._subscription.ping()

    def _lost(self, error: BaseException | None) -> None:
        if self.subscribed and not self._stopping.is_set():
            self._tiers.events["subscriptions_lost"] += 1
        self.subscribed, self.expected_by = False, 0.0
        self._tiers.bells.ring_all()
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()
        if error is not None and not self._stopping.is_set():
            message = "tiercache does not hear other processes (syncs go on): %s"
            self._tiers.complaints.warn(message, error)
