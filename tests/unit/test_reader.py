"""What comes back is counted, and timed from when it was due to when it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest

from loadgen.latency import Latency
from loadgen.reader import Tally
from loadgen.stream import Schedule
from loadgen.target import Target
from schemas.topics import ALERTS, DEAD_LETTERS, VERDICTS

TARGET = Target(url="127.0.0.1:1")
SECOND = 1_000_000


@dataclass(frozen=True)
class Lying:
    """A message as it lies on a topic."""

    of: str
    content: bytes
    with_headers: tuple[tuple[str, bytes], ...] = ()
    written: int = 0
    """Microseconds after the start."""

    def topic(self) -> str:
        return self.of

    def value(self) -> bytes:
        return self.content

    def error(self) -> None:
        return None

    def headers(self) -> tuple[tuple[str, bytes], ...]:
        return self.with_headers

    def timestamp(self) -> tuple[int, int]:
        return 1, self.written // 1_000


def a_verdict(transaction_id: str, *, written: int = 0) -> Any:
    content = msgspec.json.encode({"transaction_id": transaction_id, "outcome": "approve"})
    return Lying(of=TARGET.name(VERDICTS), content=content, written=written)


def a_tally(**due: int) -> Tally:
    schedule = Schedule(pl.Series(list(due)), np.array(list(due.values()), np.int64))
    return Tally(TARGET, schedule, frozenset({"stolen"}))


@pytest.mark.parametrize("written", [1 * SECOND, 2 * SECOND, int(4.9 * SECOND)])
def test_a_verdict_is_as_late_as_it_is_known_after_it_was_due(written: int) -> None:
    """Whenever it was written: what a queue did to it before or behind the log is waited for as well."""
    tally = a_tally(a=2 * SECOND)
    tally.take([a_verdict("a", written=written)], now=5 * SECOND)

    assert tally.latency.total().max == 3_000.0
    assert (tally.verdicts, tally.awaited) == (1, 0)


def test_each_transaction_is_counted_once_and_everything_else_by_what_it_is() -> None:
    tally = a_tally(a=0, stolen=0, never=0)
    alert = msgspec.json.encode({"verdict": {"transaction_id": "stolen", "outcome": "review"}})
    messages: list[Any] = [
        a_verdict("a"), a_verdict("a"), a_verdict("foreign"), a_verdict("stolen"),
        Lying(of=TARGET.name(ALERTS), content=alert),
        Lying(of=TARGET.name(DEAD_LETTERS), content=b"", with_headers=(("error", b"not-json"),)),
    ]  # fmt: skip
    tally.take(messages, now=SECOND)
    answers = tally.answers(1.0, Latency())

    assert (answers.verdicts, answers.awaited, answers.others) == (2, 1, 2)
    assert (answers.alerts, answers.right_alerts, answers.dead_letters) == (1, 1, {"not-json": 1})
    assert answers.total.count == 2
