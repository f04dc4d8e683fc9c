"""A log is known again by its topics' ids and the last records that were taken; what is not there is told apart by why."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import pytest

from features.continuity import NOTHING_COMMITTED, Broken, Committed, Now, Place, Standing, parked_by
from features.position import Last, Offsets, Position, Resumption, TopicIds
from schemas.marks import Landmark, Marks, Trace

IDS = TopicIds("IDt", "IDl", "IDa")
LAST = Last(Landmark(1637, 1_700_000_000_000, "aa"), Landmark(19, 1_700_000_000_001, "bb"), None)
POSITION = Position("f", "e1", IDS, Offsets(1638, 20, 0), LAST)
FORMAT = "f"


def standing(*, high: int = 1638, low: int = 0, ids: TopicIds = IDS, position: Position | None = POSITION) -> Standing:
    """Of a partition number where all of 1,638 transactions and 20 labels is told and remembered."""
    committed = (
        Committed(1638, Marks("IDt", LAST[0], verdict=1637).text()),
        Committed(20, Trace("IDl", LAST[1]).text()),
        Committed(NOTHING_COMMITTED, ""),
    )
    now = (Now(ids[0], low, high), Now(ids[1], 0, 20), Now(ids[2], 0, 0))
    return Standing(3, now, committed, bytes(position) if position else b"", last_verdict=1637)


class Log:
    """Holds these records; counts how often it is asked."""

    def __init__(self, *records: Landmark | None) -> None:
        self.records = dict(enumerate(records))
        self.asked = 0

    def __call__(self, places: Collection[Place]) -> Mapping[Place, Landmark | None]:
        self.asked += 1
        found: dict[Place, Landmark | None] = {}
        for topic, offset in places:
            record = self.records[topic]
            found[topic, offset] = record if record is not None and record.offset == offset else None
        return found


def test_the_log_that_was_known_is_served_and_asked_once_for_all_its_topics() -> None:
    log = Log(*LAST)

    assert parked_by(standing(), FORMAT, log) is None
    assert log.asked == 1


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (standing(high=817), "transactions ends at 817, and was folded or judged up to 1638"),
        (standing(high=817, position=None), "transactions ends at 817, and was folded or judged up to 1638"),
        (standing(low=1700, high=1800), "begins at 1700, its profiles end at 1638: the 62 records between"),
        (standing(ids=TopicIds("other", "IDl", "IDa"), high=40), "transactions was deleted and made anew"),
        (standing(ids=TopicIds("IDt", "other", "IDa")), "labels was deleted and made anew"),
        (standing(position=POSITION._replace(format="g")), "its profiles are of format g, this worker folds f"),
        (replace(standing(), raw=b"?"), "its position is b'?', which is none"),
        (replace(standing(), last_verdict=1200), "verdicts were given up to transactions at 1637, and the last one there is of"),
        (standing(low=5, position=None), "has no position, and transactions begins at 5"),
        (replace(standing(), committed=(Committed(7, "some tool"), *standing().committed[1:])), "carry 'some tool'"),
    ],
)  # fmt: skip
def test_what_is_not_the_log_that_was_known_is_named_with_what_mends_it(there: Standing, says: str) -> None:
    why = parked_by(there, FORMAT, Log(*LAST))

    assert why is not None
    assert says in why
    assert "`features " in why


@pytest.mark.parametrize("another", [None, Landmark(1637, 1_700_000_000_000, "ff"), Landmark(1637, 1, "aa")])
@pytest.mark.parametrize("position", [POSITION, None])
@pytest.mark.parametrize("high", [1638, 9_999])
def test_an_end_that_was_written_on_is_seen_however_far_the_log_has_grown(
    another: Landmark | None, position: Position | None, high: int
) -> None:
    (lost,) = standing(high=high, position=position).breaks(position, Log(another, LAST[1]))

    assert lost.kind is Broken.LOST_ITS_END
    assert lost.topic == 0


def test_a_record_that_retention_took_is_missed_by_nobody() -> None:
    log = Log(*LAST)

    assert parked_by(standing(low=1638, high=1700), FORMAT, log) is None
    assert parked_by(standing(low=1638, high=1638), FORMAT, log) is None


def test_what_somebody_has_accepted_is_asked_of_the_committed_offsets_no_more_until_others_are_committed() -> None:
    there = standing(high=900)
    begun = Position("f", "e2", IDS, Offsets(817, 20, 0), Last(Landmark(816, 5, "cc"), LAST[1]))
    accepted = begun._replace(resumption=Resumption(Offsets(817, 20, 0), there.committed_as))
    log = Log(Landmark(816, 5, "cc"), LAST[1])

    assert parked_by(replace(there, raw=bytes(accepted)), FORMAT, log) is None
    assert there.resumed(accepted) == Offsets(817, 20, 0)
    later = replace(there, raw=bytes(accepted), committed=(Committed(850, Marks("IDt").text()), *there.committed[1:]))
    assert later.resumed(accepted) is None


def test_offsets_that_count_on_another_log_are_none() -> None:
    there = standing(ids=TopicIds("other", "IDl", "IDa"))

    assert there.offsets() == Offsets(NOTHING_COMMITTED, 20, NOTHING_COMMITTED)
    assert there.marks() == Marks()
