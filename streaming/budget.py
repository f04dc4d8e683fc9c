"""How much time reasons may take, so that an attack costs the verdicts no more than a fixed share of their rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MOST = 0.05
"""Seconds that are saved up while there is nothing to explain: what a burst may add to a verdict's latency, once."""


class Budget:
    """A share of the time that goes by, to be spent on something else than verdicts.  Used by one thread.

    >>> now = 0.0
    >>> budget = Budget(0.1, clock=lambda: now)
    >>> with budget.spending():
    ...     now += 0.08
    >>> budget.is_left()
    False
    >>> now += 0.5
    >>> budget.is_left()
    True
    """

    def __init__(self, share: float, *, clock: Callable[[], float] = time.perf_counter) -> None:
        """`share`: 0 is nothing, 1 all of the time."""
        self._share, self._clock = share, clock
        self._left = MOST if share else 0.0
        self._seen = clock()

    def is_left(self) -> bool:
        """Whether anything may be begun now; what has begun may overdraw, which is made good before the next."""
        now = self._clock()
        self._left = min(self._left + self._share * (now - self._seen), MOST)
        self._seen = now
        return self._left > 0 or self._share >= 1

    @contextmanager
    def spending(self) -> Iterator[None]:
        """What goes by meanwhile is spent."""
        began = self._clock()
        yield
        self._left -= self._clock() - began
