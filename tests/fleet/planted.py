"""Faults that a worker's process is given from outside, before it begins.  Each says so in the worker's log.

    fleet.start(plant=partial(planted.kill, planted.AFTER_COMMIT, batch=3))

They lean on the names of streaming/outbox.py and streaming/memory.py, and fail loudly where those change.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException

AFTER_PRODUCE = "after produce"
"""The messages are at the broker, the offsets are not."""
AFTER_SEND_OFFSETS = "after send_offsets"
"""All is at the broker, and not committed."""
AFTER_COMMIT = "after commit"
"""Told, and not remembered."""
AFTER_REMEMBER = "after the compare-and-set"
PLACES = (AFTER_PRODUCE, AFTER_SEND_OFFSETS, AFTER_COMMIT, AFTER_REMEMBER)


def say(what: str) -> None:
    """Into the worker's log."""
    print(f"planted: {what}", file=sys.stderr, flush=True)


def kill(place: str, batch: int = 1) -> None:
    """SIGKILL at this place of the `batch`th batch that is told."""
    at(place, batch, lambda: os.kill(os.getpid(), signal.SIGKILL))


def stop(place: str, batch: int = 1) -> None:
    """SIGSTOP there: the process stands still until somebody sends it SIGCONT."""
    at(place, batch, lambda: os.kill(os.getpid(), signal.SIGSTOP))


def dawdle(place: str, seconds: float, batch: int = 1) -> None:
    """Takes its time there."""
    at(place, batch, lambda: time.sleep(seconds))


def hold(place: str, until: Path, batch: int = 1) -> None:
    """Stands still there until this file exists."""

    def wait() -> None:
        while not until.exists():
            time.sleep(0.01)

    at(place, batch, wait)


def abort(place: str, batch: int = 1) -> None:
    """Kafka says there that the transaction must be aborted."""

    def refuse() -> None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "planted", False, False, True))

    at(place, batch, refuse)


def at(place: str, batch: int, do: Callable[[], None]) -> None:
    """Do this when the `batch`th batch that is told comes to the place."""
    from streaming.memory import Memory  # noqa: PLC0415 - in the worker's process only
    from streaming.outbox import Outbox  # noqa: PLC0415

    assert place in PLACES
    told = 0
    persist, remember = Outbox._persist, Memory.remember

    def here(where: str) -> None:
        if where == place and told == batch:
            say(place)
            do()

    def watched_persist(self: Outbox, name: str, call: Callable[..., Any], *arguments: Any) -> None:
        nonlocal told

        def watched(*arguments: Any) -> None:
            if name == "send_offsets":
                self._producer.flush()  # or what was produced might still be on its way
                here(AFTER_PRODUCE)
            elif name == "commit":
                here(AFTER_SEND_OFFSETS)
            call(*arguments)

        told += name == "send_offsets"
        persist(self, name, watched, *arguments)
        if name == "commit":
            here(AFTER_COMMIT)

    async def watched_remember(self: Memory, *arguments: Any) -> None:
        await remember(self, *arguments)
        here(AFTER_REMEMBER)

    _put(Outbox, "_persist", watched_persist)
    _put(Memory, "remember", watched_remember)


def remember_slowly(seconds: float, batches: int) -> None:
    """The first batches take so long between what they fold and what they write."""
    from streaming.memory import Memory  # noqa: PLC0415

    remember, left = Memory.remember, batches

    async def slow(self: Memory, *arguments: Any) -> None:
        nonlocal left
        if left:
            left -= 1
            say(f"{seconds} s before profiles are remembered")
            await asyncio.sleep(seconds)
        await remember(self, *arguments)

    _put(Memory, "remember", slow)


def fail_on(*ids: str) -> None:
    """A bug in the scorer, which these transactions or labels show."""
    from features.describing import Describer  # noqa: PLC0415
    from streaming.scoring import Opinion, Scorer  # noqa: PLC0415

    describe, opinion = Describer.describe, Scorer.opinion

    def failing_describe(self: Describer, batch: Any, *arguments: Any) -> Any:
        for taken in batch.labels:
            if taken.message.label_id in ids:
                raise ZeroDivisionError(f"planted: {taken.message.label_id}")
        return describe(self, batch, *arguments)

    def failing_opinion(self: Scorer, described: Any) -> Opinion:
        for taken in described.transactions:
            if taken.message.transaction_id in ids:
                raise ZeroDivisionError(f"planted: {taken.message.transaction_id}")
        return opinion(self, described)

    _put(Describer, "describe", failing_describe)
    _put(Scorer, "opinion", failing_opinion)
    say(f"a bug that {', '.join(ids)} shows")


def no_numbers_from(name: str) -> None:
    """This bundle answers as it should until real traffic comes; then its margins are NaN."""
    from streaming.bundle import LoadedBundle, Margins, Vectors  # noqa: PLC0415
    from streaming.scoring import Opinion, Scorer  # noqa: PLC0415

    opinion, margins = Scorer.opinion, LoadedBundle.margins
    broken = False

    def failing_opinion(self: Scorer, described: Any) -> Opinion:
        nonlocal broken
        broken = self.bundle.name == name and described.transactions[0].message.transaction_id != "warm-up"
        try:
            return opinion(self, described)
        finally:
            broken = False

    def failing_margins(self: LoadedBundle, vectors: Vectors) -> Margins:
        found = margins(self, vectors)
        return found * float("nan") if broken else found

    _put(Scorer, "opinion", failing_opinion)
    _put(LoadedBundle, "margins", failing_margins)
    say(f"no numbers from {name}")


def fail_to_read(*ids: str) -> None:
    """A bug that shows before anything of these transactions is known."""
    from features.accepting import Rules  # noqa: PLC0415

    accept = Rules.transaction

    def failing(self: Rules, record: Any, *arguments: Any) -> Any:
        if any(one.encode() in (record.value or b"") for one in ids):
            raise UnicodeError(f"planted: {record.value!r}")
        return accept(self, record, *arguments)

    _put(Rules, "transaction", failing)


def fail_to_fold(account_id: str) -> None:
    """A bug that shows with every transaction of this account, also where nothing is told."""
    from features.describing import Describer  # noqa: PLC0415

    describe = Describer.describe

    def failing(self: Describer, batch: Any, *arguments: Any) -> Any:
        if any(taken.message.account_id == account_id for taken in batch.transactions):
            raise ZeroDivisionError(f"planted: {account_id}")
        return describe(self, batch, *arguments)

    _put(Describer, "describe", failing)


def kill_when_told(what: str) -> None:
    """SIGKILL once a batch is committed that says something of this: before it is remembered."""
    from streaming.outbox import Outbox  # noqa: PLC0415

    tell = Outbox.tell

    async def telling(self: Outbox, said: Any, *arguments: Any) -> None:
        await tell(self, said, *arguments)
        if any(what.encode() in (one.value or b"") for one in said):
            say(f"{what} was told")
            os.kill(os.getpid(), signal.SIGKILL)

    _put(Outbox, "tell", telling)


def fail_to_recall() -> None:
    """A bug that has nothing to do with any message."""
    from streaming.memory import Memory  # noqa: PLC0415

    async def recall(*_: object) -> None:
        raise ZeroDivisionError("planted")

    _put(Memory, "recall", recall)


def see_another_vector(transaction_id: str) -> None:
    """Of this transaction the worker sees a vector that is off by the smallest bit of one feature."""
    import numpy as np  # noqa: PLC0415

    from features.describing import Describer  # noqa: PLC0415

    describe = Describer.describe

    def off(self: Describer, *arguments: Any) -> Any:
        described = describe(self, *arguments)
        for row, taken in enumerate(described.transactions):
            if taken.message.transaction_id == transaction_id:
                described.vectors[row, 0] = np.nextafter(described.vectors[row, 0], np.float32(0))
                say(f"the vector of {transaction_id} is off")
        return described

    _put(Describer, "describe", off)


def set_constant(module: str, name: str, value: float) -> None:
    """Another duration for what would make a test wait."""
    _put(importlib.import_module(module), name, value)


def _put(where: object, name: str, what: object) -> None:
    assert hasattr(where, name), f"{where} has no {name} any more"
    setattr(where, name, what)


def all_of(plants: Sequence[Callable[[], None]]) -> None:
    """Several faults in one worker."""
    for plant in plants:
        plant()
