"""What counts as told: also where some of what was committed is of a log that is gone."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from features.accepting import Record
from features.continuity import Committed, Now, Place, Standing
from features.log import Log, Told
from features.position import Last, Offsets, Position, Resumption, TopicIds
from features.resuming import parked, told_of
from features.settings import Settings
from schemas.activity import CounterpartyActivity
from schemas.errors import Fault
from schemas.marks import Landmark, Marks, Trace
from schemas.topics import Topic
from tests.builders import RULES, an_activity

IDS = TopicIds("IDt", "IDl", "IDa")
FOLDED = Offsets(1638, 20, 7)
LAST = Landmark(19, 1, "bb")


@dataclass
class LogOfThreeLetters:
    """`dead-letters` names these messages as left out."""

    left: dict[Place, Fault] = field(default_factory=dict)
    activity: CounterpartyActivity | None = None
    settings: Settings = field(default_factory=Settings)
    asked: int = 0

    def left_out(self, _number: int, _topics: TopicIds) -> dict[Place, Fault]:
        self.asked += 1
        return self.left

    def landmarks(self, _number: int, _places: Collection[Place]) -> dict[Place, Landmark | None]:
        return {(1, 19): LAST}

    def last(self, _topic: Topic, _number: int, _read: object) -> CounterpartyActivity | None:
        return self.activity

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


def test_what_a_worker_would_leave_out_is_said_beforehand_whatever_it_would_leave_it_out_for() -> None:
    position = Position(RULES.format(), "e", IDS, FOLDED._replace(transactions=1500), Last(labels=LAST))
    behind, without = replace(standing(), raw=bytes(position)), standing()
    three = dict.fromkeys([(0, 5), (0, 6), (0, 7)], Fault.BUG)
    by_another = LogOfThreeLetters(three, an_activity(hashed_by="another"))

    assert parked(cast(Log, LogOfThreeLetters(three)), behind, RULES) is None
    assert parked(cast(Log, LogOfThreeLetters(three)), without, RULES) is None
    assert "`features rekey`" in (parked(cast(Log, by_another), without, RULES) or "")
    assert parked(cast(Log, by_another), behind, RULES) is None, "its profiles are there"
    for there in (behind, without):
        says = parked(cast(Log, LogOfThreeLetters()), there, RULES) or ""
        assert "3 messages were left out of its profiles, and dead-letters names 0 of them" in says


@pytest.mark.parametrize(("bounds", "last"), [((0, 0), -1), ((0, 5), -1), ((700, 700), None), ((700, 703), None)])
def test_verdicts_that_retention_took_are_none_that_were_lost(bounds: tuple[int, int], last: int | None) -> None:
    class WithoutVerdicts(Log):
        def __init__(self) -> None: ...

        def bounds(self, _topic: Topic, _number: int) -> tuple[int, int]:
            return bounds

        def read(self, *_: object, **__: object) -> Iterator[list[Record]]:
            return iter(())

    assert WithoutVerdicts().last_verdict(3, IDS) == last
    there = replace(standing(), last_verdict=last)
    assert (there.lost_verdicts(None) is None) == (last is None)
