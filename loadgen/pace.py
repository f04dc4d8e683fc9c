"""When the next message is due.  Open loop: late is late, and never skipped.

A sender that waits for answers measures how patient it is; this one is due at times fixed beforehand, whatever happens.
Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def at_rate(count: int, rate: float) -> Ints:
    """When each of `count` messages is due after the start, at `rate` a second.

    >>> at_rate(3, 2.0).tolist()
    [0, 500000, 1000000]
    """
    if rate <= 0:
        raise ValueError(f"a rate is positive, not {rate}")
    due: Ints = np.rint(np.arange(count) * (1e6 / rate)).astype(np.int64)
    return due


def at_falling_rate(legs: Sequence[tuple[float, float]]) -> Ints:
    """The same for as long as the `legs` last: each so many a second, for so many seconds.

    >>> at_falling_rate([(4.0, 1.0), (1.0, 2.0)]).tolist()
    [0, 250000, 500000, 750000, 1000000, 2000000]
    """
    parts, begins = [], 0.0
    for rate, seconds in legs:
        parts.append(at_rate(round(rate * seconds), rate) + round(begins * 1e6))
        begins += seconds
    due: Ints = np.concatenate(parts)
    return due


def at_speed(occurred_at: Ints, speed: float) -> Ints:
    """When each is due after the start, with the world's time `speed` times as fast as ours.

    >>> at_speed(np.array([7_000_000, 9_000_000]), 4.0).tolist()
    [0, 500000]
    """
    if speed <= 0:
        raise ValueError(f"a speed is positive, not {speed}")
    if not len(occurred_at):
        return np.zeros(0, dtype=np.int64)
    due: Ints = np.rint((occurred_at - occurred_at[0]) / speed).astype(np.int64)
    return due


def when_the_world_gets_there(moments: Ints, occurred_at: Ints, due: Ints) -> tuple[Ints, int]:
    """When labels known at `moments` (sorted) are due, and how many of them are.

    That is with the first transaction that occurred then or later; what becomes known after the last one is not due.

    >>> when_the_world_gets_there(np.array([5, 11, 99]), np.array([10, 11, 20]), np.array([0, 50, 100]))
    (array([ 0, 50]), 2)
    """
    place = np.searchsorted(occurred_at, moments, side="left")
    reached = int(np.searchsorted(place, len(occurred_at), side="left"))
    return due[place[:reached]], reached


class Pace:
    """Hands out what is due.  `due` is sorted, microseconds after the start.

    >>> pace = Pace(np.array([0, 500, 500, 2_000]), start=10_000)
    >>> pace.take(10_600), pace.wait(10_600)
    (range(0, 3), 1400)
    """

    def __init__(self, due: Ints, *, start: int, slice_of: int = 1_000) -> None:
        self.due = due + start
        self.start = start
        self._slice = slice_of
        self._next = 0

    @property
    def handed_out(self) -> int:
        """How many so far."""
        return self._next

    @property
    def finished(self) -> bool:
        """Nothing is left."""
        return self._next >= len(self.due)

    def take(self, now: int) -> range:
        """Those due by `now` that were not handed out before, in order, at most a slice of them."""
        upto = int(np.searchsorted(self.due, now, side="right"))
        begin = self._next
        self._next = max(begin, min(upto, begin + self._slice))
        return range(begin, self._next)

    def wait(self, now: int) -> int:
        """Microseconds until the next one is due; 0 where one is already, or none is left."""
        return 0 if self.finished else max(0, int(self.due[self._next]) - now)
