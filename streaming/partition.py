"""A partition number that this worker serves: where its profiles are, and what was told of it before."""

from __future__ import annotations

from dataclasses import dataclass, field

from features.position import Keys, Last, Offsets, Position
from schemas.marks import Marks


@dataclass
class Part:
    """What a worker knows of a partition number that it has taken over."""

    number: int
    position: Position
    until: Offsets
    """What was told before: messages below are folded, telling nothing."""
    marks: Marks
    """What the group's committed offset of `transactions` carries: judged_from, left_out, verdict."""
    told_last: Last
    """Of each input topic the last record before `until`."""
    keys: Keys
    written: bool
    """False: the store has no position yet."""
    skipped: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    """(index of the input topic, offset) of messages that are left out of every fold."""

    anew: bool = False
    """What the group has committed is, in part, of a log that is gone: with the first that is told, all of it is committed
    anew."""

    @property
    def expected(self) -> bytes:
        """What the store must hold as this number's position."""
        return bytes(self.position) if self.written else b""
