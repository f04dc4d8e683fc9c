"""Whether the log is still the one that profiles were folded from and verdicts were given on.

A log becomes another one where a topic is deleted and made anew, or where it loses its end (an unclean election, a power cut)
and is written on: every offset looks right, and other records lie there.  So positions and committed offsets carry the topics'
ids and the last record that was taken (schemas.marks.Landmark), and who takes a partition number over looks for that record:
one fetch for all three topics.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

from features.position import Last, Offsets, Position, TopicIds
from schemas.errors import WrongSettings
from schemas.marks import Landmark, Marks, Trace, parse
from schemas.topics import INPUTS

NOTHING_COMMITTED = -1001
Place = tuple[int, int]
"""(index of the input topic, offset)."""
Fetch = Callable[[Collection[Place]], Mapping[Place, Landmark | None]]
"""What lies at these places of a partition number; None: no record does."""


class Now(NamedTuple):
    """An input topic of a partition number, as it is now."""

    topic_id: str
    low: int
    """The first offset that is still there."""
    high: int
    """The next offset to be written."""


class Committed(NamedTuple):
    """What the group has committed of an input topic of a partition number."""

    offset: int
    """NOTHING_COMMITTED where nothing was."""
    metadata: str


class Broken(Enum):
    """How a log is not the one that was known."""

    MADE_ANEW = "made anew"
    BEGINS_LATER = "begins later"
    LOST_ITS_END = "lost its end"


class Break(NamedTuple):
    """One input topic of a partition number whose log is not the one that was known."""

    topic: int
    """Index among the input topics."""
    kind: Broken
    begin: int
    """The records of [begin, end) are gone, as far as this can be known from the ends of the log,"""
    end: int
    says: str
    """and this is how, in words."""


@dataclass(frozen=True)
class Standing:
    """Where a partition number stands: the log as it is, what the group has committed, and what the store holds."""

    number: int
    now: tuple[Now, ...]
    committed: tuple[Committed, ...]
    raw: bytes
    """The position as the store has it; empty: none."""
    last_verdict: int | None = None
    """Offset of the last transaction of this log that has a verdict, -1: none has; None: nobody has looked, or retention has
    taken all verdicts."""

    @property
    def topics(self) -> TopicIds:
        """Kafka's ids of the input topics."""
        return TopicIds(*(one.topic_id for one in self.now))

    @property
    def low(self) -> Offsets:
        """Where the input topics begin."""
        return Offsets(*(one.low for one in self.now))

    @property
    def high(self) -> Offsets:
        """Where the input topics end."""
        return Offsets(*(one.high for one in self.now))

    @property
    def committed_as(self) -> str:
        """Names what the group has committed, as a resumption does."""
        return hashlib.sha256(repr(self.committed).encode()).hexdigest()[:8]

    def marks(self) -> Marks:
        """Of the log as it is: those of another log don't count.  Raises WrongSettings where somebody else committed."""
        marks = parse(Marks, self.committed[0].metadata)
        return marks if self._is_of_this_log(0, marks) else Marks()

    def traces(self) -> tuple[Trace, Trace, Trace]:
        """What the committed offsets count on.  Raises WrongSettings where somebody else committed."""
        labels, activity = (parse(Trace, one.metadata) for one in self.committed[1:])
        return parse(Marks, self.committed[0].metadata), labels, activity

    def offsets(self) -> Offsets:
        """The committed offsets; NOTHING_COMMITTED where there are none that count on the log as it is."""
        return Offsets(
            *(
                one.offset if self._is_of_this_log(i, trace) else NOTHING_COMMITTED
                for i, (one, trace) in enumerate(zip(self.committed, self.traces(), strict=True))
            )
        )

    def _is_of_this_log(self, topic: int, trace: Trace) -> bool:
        return trace.topic_id in ("", self.now[topic].topic_id)

    def told_last(self) -> Last:
        """The last records before the committed offsets, of those that count on the log as it is.  Raises WrongSettings."""
        traces = enumerate(self.traces())
        return Last(*(trace.last if self._is_of_this_log(i, trace) else None for i, trace in traces))

    def is_of_another_log(self) -> bool:
        """Whether something was committed of a topic that was deleted and made anew since.  Raises WrongSettings.

        What was counted by then counts messages of that topic as well.
        """
        return not all(self._is_of_this_log(i, trace) for i, trace in enumerate(self.traces()))

    def position(self) -> Position | None:
        """None where the store has none.  Raises WrongSettings where what it has is no position."""
        try:
            return Position.parse(self.raw) if self.raw else None
        except ValueError as error:
            raise WrongSettings(f"its position is {self.raw[:100]!r}, which is none") from error

    def position_if_any(self) -> Position | None:
        """None also where what the store has is no position."""
        try:
            return self.position()
        except WrongSettings:
            return None

    def foreign(self) -> str | None:
        """In words, where somebody else committed for the group."""
        try:
            self.traces()
        except WrongSettings as error:
            return str(error)
        return None

    def by_outputs(self) -> Standing:
        """The same, as if nothing had been committed: what was told is what outputs say."""
        return replace(self, committed=tuple(Committed(NOTHING_COMMITTED, "") for _ in self.committed))

    def resumed(self, position: Position | None) -> Offsets | None:
        """What counts as told, where somebody has accepted that the log is another than the group's offsets say."""
        resumption = position.resumption if position else None
        return resumption.told if resumption and resumption.instead_of == self.committed_as else None

    def lost_verdicts(self, position: Position | None) -> str | None:
        """In words, where `verdicts` no longer holds the last verdict that the committed offsets know of.

        Raises WrongSettings.
        """
        known, last = self.marks().verdict, self.last_verdict
        if last is None or known <= last or self.resumed(position) is not None:
            return None
        return (
            f"verdicts were given up to transactions at {known}, and the last one there is of "
            f"{'none' if last < 0 else last}: verdicts lost its end"
        )

    def breaks(self, position: Position | None, fetch: Fetch) -> list[Break]:
        """How the log is not the one that `position` and the committed offsets know.  Raises WrongSettings."""
        known: list[list[tuple[int, Landmark | None]]] = [[], [], []]
        found: list[Break] = []
        for i, now in enumerate(self.now):
            if position is not None and position.topics[i] != now.topic_id:
                found.append(_made_anew(i, position.next[i]))
            elif position is not None:
                known[i].append((position.next[i], position.last[i]))
        if self.resumed(position) is None:
            for i, (offset, trace) in enumerate(zip(self.offsets(), self.traces(), strict=True)):
                if offset != NOTHING_COMMITTED:
                    known[i].append((offset, trace.last))
        there = self._look(known, fetch)
        for i, beliefs in enumerate(known):
            if (lost := self._lost_end(i, beliefs, there)) is not None:
                found.append(lost)
            elif (
                position is not None
                and position.topics[i] == self.now[i].topic_id
                and position.next[i] < self.now[i].low
            ):
                found.append(_begins_later(i, position.next[i], self.now[i].low))
        return found

    def _look(
        self, known: Sequence[Sequence[tuple[int, Landmark | None]]], fetch: Fetch
    ) -> Mapping[Place, Landmark | None]:
        wanted = {
            (i, last.offset)
            for i, beliefs in enumerate(known)
            for _, last in beliefs
            if last is not None and self.now[i].low <= last.offset < self.now[i].high
        }
        return fetch(wanted) if wanted else {}

    def _lost_end(
        self, topic: int, beliefs: Sequence[tuple[int, Landmark | None]], there: Mapping[Place, Landmark | None]
    ) -> Break | None:
        name, (_, low, high) = INPUTS[topic].name, self.now[topic]
        end = max((offset for offset, _ in beliefs), default=0)
        if end > high:
            return Break(
                topic, Broken.LOST_ITS_END, high, end, f"{name} ends at {high}, and was folded or judged up to {end}"
            )
        for _, last in beliefs:
            if last is None or last.offset < low:
                continue
            if there.get((topic, last.offset)) != last:
                says = (
                    f"{name} no longer holds the record that was at {last.offset}: it lost its end and was written on"
                )
                return Break(topic, Broken.LOST_ITS_END, low, end, says)
        return None


def _made_anew(topic: int, end: int) -> Break:
    name = INPUTS[topic].name
    return Break(topic, Broken.MADE_ANEW, 0, end, f"{name} was deleted and made anew since its profiles were folded")


def _begins_later(topic: int, at: int, low: int) -> Break:
    says = (
        f"{INPUTS[topic].name} begins at {low}, its profiles end at {at}: "
        f"the {low - at} records between are gone before they were folded"
    )
    return Break(topic, Broken.BEGINS_LATER, at, low, says)


def parked_by(standing: Standing, format_: str, fetch: Fetch) -> str | None:
    """Why this partition number can't be served, and the command that mends it; None: it can be."""
    number = standing.number
    rebuild = f"`features rebuild --partition {number}`"
    accept = f"{rebuild} says what is lost, and goes on with --accept-loss"
    if (foreign := standing.foreign()) is not None:
        return f"partition {number}: {foreign}; {accept}"
    if (unfit := _unfit(standing, format_)) is not None:
        return f"partition {number}: {unfit}; {rebuild} mends it"
    position = standing.position()
    found = standing.breaks(position, fetch)
    kinds = {one.kind for one in found}
    lost_verdicts = standing.lost_verdicts(position)
    says = f"partition {number}: " + "; ".join(
        [one.says for one in found] + [lost_verdicts or ""] * bool(lost_verdicts)
    )
    if Broken.LOST_ITS_END in kinds or lost_verdicts:
        return f"{says}; {accept}"
    if Broken.MADE_ANEW in kinds:
        return f"{says}; {rebuild} folds what is there now, and whatever nobody has judged is judged"
    if kinds:
        skip = f"`features skip-gap --partition {number}` keeps the profiles and goes on behind the gap"
        return f"{says}; {skip}, {rebuild} --from-here begins anew behind it"
    return _without_a_beginning(standing) if position is None else None


def _unfit(standing: Standing, format_: str) -> str | None:
    try:
        position = standing.position()
    except WrongSettings as error:
        return str(error)
    if position is None or position.format == format_:
        return None
    return (
        f"its profiles are of format {position.format}, this worker folds {format_} (another release, or other settings that are "
        "part of the format: docs/operations.md marks them)"
    )


def _without_a_beginning(standing: Standing) -> str | None:
    number = standing.number
    for topic, low in zip(INPUTS, standing.low, strict=True):
        if low > 0:
            return (
                f"partition {number} has no position, and {topic.name} begins at {low}: what came before is in no log, so that "
                f"profiles can't be folded from the beginning; bring it back from an archive, or `features rebuild "
                f"--partition {number} --from-here` accepts profiles that begin there"
            )
    return None
