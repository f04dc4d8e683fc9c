"""What counts as told: also where some of what was committed is of a log that is gone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from features.continuity import Committed, Now, Place, Standing
from features.log import Log, Told
from features.position import Last, Offsets, Position, Resumption, TopicIds
from features.resuming import told_of
from schemas.errors import Fault
from schemas.marks import Landmark, Marks, Trace

IDS = TopicIds("IDt", "IDl", "IDa")
FOLDED = Offsets(1638, 20, 7)
LAST = Landmark(19, 1, "bb")


@dataclass
class LogOfThreeLetters:
    """`dead-letters` names these messages as left out."""

    left: dict[Place, Fault] = field(default_factory=dict)
    asked: int = 0

    def left_out(self, _number: int, _topics: TopicIds) -> dict[Place, Fault]:
        self.asked += 1
        return self.left

    def told(self, _number: int, _topics: TopicIds) -> Told | None:
        return None


def standing(*, ids: TopicIds = IDS) -> Standing:
    committed = (
        Committed(1638, Marks("IDt", left_out=3, verdict=1637).text()),
        Committed(20, Trace("IDl", LAST).text()),
        Committed(7, Trace("IDa").text()),
    )
    now = tuple(Now(topic_id, 0, high) for topic_id, high in zip(ids, FOLDED, strict=True))
    return Standing(3, now, committed, b"", last_verdict=1637)


def told(log: LogOfThreeLetters, there: Standing, position: Position) -> Told:
    return told_of(cast(Log, log), there, position)


def test_what_was_left_out_of_the_log_as_it_is_is_known_without_reading_dead_letters() -> None:
    log = LogOfThreeLetters()

    assert told(log, standing(), Position("f", "e", IDS, FOLDED)).marks.left_out == 3
    assert log.asked == 0
    assert standing().told_last() == Last(labels=LAST)
    assert not standing().is_of_another_log()


@pytest.mark.parametrize("accepted", [True, False], ids=["a loss was accepted", "labels were made anew"])
def test_messages_that_were_left_out_of_a_log_that_is_gone_are_missed_by_nobody(accepted: bool) -> None:
    """Else the next unclean end would park the partition: fewer dead letters than were counted, `dead-letters lost its end`."""
    log = LogOfThreeLetters({(0, 5): Fault.BUG})
    if accepted:
        there = standing()
        position = Position("f", "e", IDS, FOLDED, resumption=Resumption(FOLDED, there.committed_as))
    else:
        there = standing(ids=IDS._replace(labels="made anew"))
        position = Position("f", "e", there.topics, FOLDED._replace(labels=0))
        assert there.is_of_another_log()
        assert there.told_last() == Last()

    assert told(log, there, position).marks.left_out == 1
