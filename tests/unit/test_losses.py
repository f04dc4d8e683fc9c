"""How far a log that lost its end is still the one that was judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import pytest

from features.accepting import Record
from features.continuity import Break, Broken, Committed, Now, Standing
from features.log import Letter, Log
from features.losses import still_told
from features.position import Offsets, TopicIds
from features.settings import Settings
from schemas.marks import Marks, Trace
from schemas.topics import ACTIVITY, LABELS, TRANSACTIONS, VERDICTS, Topic
from schemas.verdict import Folded, Outcome, Source, Verdict
from schemas.wire import encode
from tests.builders import NOON, an_activity

IDS = TopicIds("IDt", "IDl", "IDa")
NUMBER, TOLD = 3, Offsets(5, 5, 0)
OLD, NEW = 1, 2
"""Timestamps."""


@dataclass
class LogAsItIs:
    """Each topic's values with their timestamps, in one partition number."""

    topics: dict[str, Sequence[tuple[int, bytes]]]

    @property
    def settings(self) -> Settings:
        return Settings(partitions=1)

    def bounds(self, topic: Topic, _number: int) -> tuple[int, int]:
        return 0, len(self.topics.get(topic.name, ()))

    def read(self, topic: Topic, number: int, begin: int, end: int) -> Iterator[list[Record]]:
        here = list(enumerate(self.topics.get(topic.name, ())))[begin:end]
        yield [Record(number, offset, at, b"", value) for offset, (at, value) in here]

    def letters(self, _number: int) -> Iterator[Letter]:
        return iter(())


def a_verdict(offset: int) -> bytes:
    verdict = Verdict(
        transaction_id="t", account_id="a", outcome=Outcome.APPROVE, score=0.0, margin=0.0, bundle="b", policy="p",
        vector_digest="v", occurred_at=NOON, decided_at=NOON, source=Source(NUMBER, offset, IDS[0], OLD), folded=Folded(0),
    )  # fmt: skip
    return encode(verdict)


def answer(topic: Topic, offset: int) -> tuple[int, bytes]:
    if topic == TRANSACTIONS:
        return OLD, a_verdict(offset)
    return OLD, encode(an_activity(source=Source(NUMBER, offset, IDS[1], OLD), known_at=1, is_fraud=True))


@pytest.mark.parametrize("topic", [TRANSACTIONS, LABELS])
@pytest.mark.parametrize(
    ("there", "answered", "same"),
    [
        ([OLD] * 5, range(5), 5),
        ([OLD] * 3, range(5), 3),
        ([OLD, OLD, OLD, NEW, NEW, NEW], range(5), 3),
        ([OLD, OLD, OLD, OLD, NEW], range(4), 4),  # what was there before was a duplicate, or named no counterparty
        ([OLD, OLD, OLD, NEW], range(3), 3),
    ],
)
def test_what_was_written_on_a_log_that_lost_its_end_does_not_pass_for_what_was_told(
    topic: Topic, there: list[int], answered: range, same: int
) -> None:
    answers = [answer(topic, offset) for offset in answered]
    log = LogAsItIs(
        {topic.name: [(at, b"") for at in there], (VERDICTS if topic == TRANSACTIONS else ACTIVITY).name: answers}
    )
    index = (TRANSACTIONS, LABELS).index(topic)

    told = still_told(cast(Log, log), standing(answered[-1], len(there)), TOLD, [lost(index)])

    assert told == TOLD._replace(**{topic.name: same})


def test_verdicts_that_are_gone_themselves_are_not_given_again() -> None:
    log = LogAsItIs({TRANSACTIONS.name: [(OLD, b"")] * 4, VERDICTS.name: [answer(TRANSACTIONS, 0)]})

    assert still_told(cast(Log, log), standing(0, 4), TOLD, [lost(0)]) == TOLD._replace(transactions=4)


def lost(topic: int) -> Break:
    return Break(topic, Broken.LOST_ITS_END, 0, 5, "it lost its end")


def standing(last_verdict: int, high: int) -> Standing:
    committed = (
        Committed(5, Marks("IDt", verdict=max(last_verdict, 2)).text()),
        Committed(5, Trace("IDl").text()),
        Committed(0, ""),
    )
    now = tuple(Now(topic_id, 0, high) for topic_id in IDS)
    return Standing(NUMBER, now, committed, b"", last_verdict=last_verdict)
