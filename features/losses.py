"""What a log has lost that was judged or should have been, how far it still is the one that was judged, and that it was accepted.

Whoever accepts a loss leaves a dead letter without bytes, `lost`, that names the records: the checker, the archive and whoever
reads `dead-letters` know of it for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from features.continuity import Break, Broken, Place, Standing
from features.log import Log
from features.position import Offsets, Position
from schemas.activity import decode_activity
from schemas.dead_letter import DeadLetter
from schemas.errors import BadMessage, Fault
from schemas.topics import ACTIVITY, INPUTS, LABELS, TRANSACTIONS, VERDICTS
from schemas.verdict import Source, decode_verdict

_TRANSACTIONS, _LABELS, _ACTIVITY = (INPUTS.index(topic) for topic in (TRANSACTIONS, LABELS, ACTIVITY))


def still_told(log: Log, standing: Standing, told: Offsets, breaks: list[Break]) -> Offsets:
    """`told`, but for topics that lost their end only as far as the records that are there are those that were told.

    A log that lost its end and was written on is the old one up to some record and another one from there: what outputs say
    they answer is compared with what lies there.  Reads all that a partition number was told.  Raises LogUnavailable.
    """
    lost = {one.topic for one in breaks if one.kind is Broken.LOST_ITS_END}
    verdicts_are_whole = standing.lost_verdicts(standing.position_if_any()) is None
    until = list(told)
    for topic in lost:
        whole = verdicts_are_whole if topic == _TRANSACTIONS else _ACTIVITY not in lost
        until[topic] = _same_up_to(log, standing, topic, told[topic], answers_are_whole=whole)
    return Offsets(*until)


def _same_up_to(log: Log, standing: Standing, topic: int, told: int, *, answers_are_whole: bool) -> int:
    low, high = standing.now[topic].low, standing.now[topic].high
    if topic == _ACTIVITY:  # nothing is told of it but what can't be read
        return min(told, high)
    answered: dict[int, set[int]] = {}
    for offset, timestamp in _answered(log, standing, topic):
        answered.setdefault(offset, set()).add(timestamp)
    same = min(standing.marks().judged_from, high) if topic == _TRANSACTIONS else low
    for records in log.read(INPUTS[topic], standing.number, low, min(told, high)):
        for record in records:
            timestamps = answered.get(record.offset)
            if timestamps is not None and record.timestamp in timestamps:
                same = max(same, record.offset + 1)
            elif timestamps is not None:
                return same
    # What nobody answered behind that may be what was there, which gets no answer again, or may have been written since.
    return min(same if answered and answers_are_whole else told, told, high)


def _answered(log: Log, standing: Standing, topic: int) -> Iterator[tuple[int, int]]:
    """(offset, timestamp) of the records of an input topic that outputs say they answer."""
    number, topic_id = standing.number, standing.now[topic].topic_id

    def is_meant(source: Source) -> bool:
        return source.partition == number and source.topic_id == topic_id

    if topic == _TRANSACTIONS:
        for records in log.read(VERDICTS, number, *log.bounds(VERDICTS, number)):
            for record in records:
                with suppress(BadMessage):  # somebody else wrote there
                    source = decode_verdict(record.value).source
                    if is_meant(source):
                        yield source.offset, source.timestamp
    else:
        for other in range(log.settings.partitions):
            for records in log.read(ACTIVITY, other, *log.bounds(ACTIVITY, other)):
                for record in records:
                    with suppress(BadMessage):
                        activity = decode_activity(record.value)
                        if activity.known_at is not None and is_meant(activity.source):
                            yield activity.source.offset, activity.source.timestamp
    name = log.settings.topic(INPUTS[topic])
    for letter in (one.says for one in log.letters(number)):
        source = Source(letter.partition, letter.offset, letter.topic_id, letter.timestamp)
        if letter.fault is not Fault.LOST and letter.topic == name and is_meant(source):
            yield letter.offset, letter.timestamp


def letters_of(
    log: Log, standing: Standing, position: Position | None, breaks: list[Break], told: Offsets
) -> list[DeadLetter]:
    """What is written of losses that somebody accepts: of input topics, and of verdicts that are no longer there."""
    now = datetime.now(UTC)
    letters: list[DeadLetter] = []

    def add(topic: str, topic_id: str, begin: int, end: int, detail: str) -> None:
        if begin < end:
            letters.append(
                DeadLetter(
                    fault=Fault.LOST, detail=detail, topic=topic, partition=standing.number, offset=begin, attempt=1,
                    at=now, topic_id=topic_id, until=end,
                )
            )  # fmt: skip

    for one in breaks:
        topic_id = standing.now[one.topic].topic_id
        if one.kind is Broken.MADE_ANEW and position is not None:
            topic_id = position.topics[one.topic]
        begin = told[one.topic] if one.kind is Broken.LOST_ITS_END else one.begin
        add(log.settings.topic(INPUTS[one.topic]), topic_id, begin, one.end, f"{one.says}; this was accepted")
    if (says := standing.lost_verdicts(position)) is not None:
        begin, end = (standing.last_verdict or 0) + 1, standing.marks().verdict + 1
        topic_id = standing.now[_TRANSACTIONS].topic_id
        add(
            log.settings.topic(VERDICTS),
            topic_id,
            begin,
            end,
            f"{says}: those of these transactions are gone; this was accepted",
        )
    return letters


def in_words(letters: list[DeadLetter]) -> list[str]:
    """A line for each loss."""
    return [f"{one.topic} [{one.partition}] {one.offset} to {one.until - 1}: {one.detail}" for one in letters]


def is_kept(place: Place, breaks: list[Break], told: Offsets) -> bool:
    """Was what a dead letter says of this place said of a record that is still there?"""
    topic, offset = place
    return offset < told[topic] or all(one.topic != topic for one in breaks)
