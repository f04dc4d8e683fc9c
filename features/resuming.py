"""Where to go on: what of a partition number's log counts as told, by what was committed, by its outputs and its profiles."""

from __future__ import annotations

import logging

import msgspec

from features.accepting import Rules
from features.continuity import NOTHING_COMMITTED, Place, Standing, parked_by
from features.foreign_activity import by_another_key
from features.log import Log, Told
from features.position import Offsets, Position
from schemas.errors import PartitionParked

log = logging.getLogger(__name__)


def unfit(of: Log, standing: Standing, rules: Rules) -> str | None:
    """Why a partition number can't be served, and the command that mends it; None: it can be.

    Raises LogUnavailable.
    """
    why = parked_by(standing, rules.format(), lambda places: of.landmarks(standing.number, places))
    return by_another_key(of, standing.number, rules) if why is None and not standing.raw else why


def parked(of: Log, standing: Standing, rules: Rules) -> str | None:
    """Why a worker that takes a partition number over would leave it out; None: it would serve it.  Raises LogUnavailable."""
    if (why := unfit(of, standing, rules)) is not None:
        return why
    position = standing.position()
    told = told_of(of, standing, position)
    if told.until != (position.next if position else Offsets(0, 0, 0)):
        try:
            left_out_of(of, standing, told)
        except PartitionParked as error:
            return str(error)
    return None


def left_out_of(of: Log, standing: Standing, told: Told) -> frozenset[Place]:
    """The messages that were dead-lettered for what they don't show themselves: no fold takes them.

    Raises PartitionParked where they are fewer than were counted, LogUnavailable.
    """
    number, known = standing.number, told.marks.left_out
    places = frozenset(of.left_out(number, standing.topics))
    found = sum(offset < told.until[topic] for topic, offset in places)
    if found < known:
        raise PartitionParked(
            f"partition {number}: {known} messages were left out of its profiles, and dead-letters names {found} of them: it "
            f"lost its end; `features rebuild --partition {number} --accept-loss` folds the others too"
        )
    return places


def told_of(of: Log, standing: Standing, position: Position | None) -> Told:
    """What counts as told of a partition number whose log is the one that is known (Standing.breaks).

    The committed offsets say it; where they are gone or behind, the outputs and the profiles: a position is written after the
    offsets were committed, so that it is never ahead of what was told.  Raises LogUnavailable, WrongSettings.
    """
    marks, committed, low = standing.marks(), standing.offsets(), standing.low
    resumed = standing.resumed(position)
    if resumed is not None or standing.is_of_another_log():  # some that were left out are of records that are gone
        marks = msgspec.structs.replace(marks, left_out=len(of.left_out(standing.number, standing.topics)))
    if resumed is not None:
        return Told(Offsets(*map(max, resumed, low)), msgspec.structs.replace(marks, verdict=-1))
    folded = position.next if position else Offsets(0, 0, 0)
    is_behind = (
        committed.transactions == NOTHING_COMMITTED
        or any(at > max(offset, 0) for at, offset in zip(folded, committed, strict=True))
        or (standing.last_verdict is not None and standing.last_verdict >= committed.transactions)
    )
    if not is_behind:
        return Told(Offsets(*map(max, committed, low)), marks)
    said = of.told(standing.number, standing.topics)
    until = Offsets(*map(max, committed, folded, said.until if said else folded, low))
    if said is not None and committed.transactions == NOTHING_COMMITTED:
        marks = said.marks
    elif said is not None:
        marks = msgspec.structs.replace(marks, left_out=said.marks.left_out)
    if until != Offsets(*(max(offset, first) for offset, first in zip(committed, low, strict=True))):
        log.warning(
            "partition %d: the group has committed %s, but its outputs and profiles say that it told up to %s: going on there",
            standing.number,
            tuple(max(offset, 0) for offset in committed),
            tuple(until),
        )
    return Told(until, marks)
