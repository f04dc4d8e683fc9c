"""Holds a bundle on trial to the one it is tried against, on the same transactions: what must not happen unseen.

It hears of committed batches only: what an aborted one would have said was never said.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streaming.scoring import Opinion, Trial

EDGES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Of the bins that distributions of scores are compared in."""
_SURE = 3.0
"""Standard deviations: what chance does less often than once in seven hundred looks."""
_LEAST_ALERTS = 10
"""Of either; fewer say nothing about their rate."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is broken when it is passed."""

    window: float
    """Seconds that are looked back."""
    least: int
    """Transactions that must have been seen before anything is said of rates."""
    alerts: float
    """How many times as many alerts as the reference has, or as few."""
    drift: float
    """Population stability index of the scores against the reference's."""
    seconds: float
    """That a batch's scoring may take on average."""


class Broken(NamedTuple):
    """A limit that was passed."""

    limit: str
    """Its name: failure, alerts, drift or seconds."""
    why: str


@dataclass(frozen=True)
class _Seen:
    at: float
    transactions: int
    alerts: tuple[int, int]
    bins: tuple[Counts, Counts]
    seconds: float


class Guard:
    """Used by one thread."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._about = ("", "")
        self._seen: deque[_Seen] = deque()
        self.figures: dict[str, float] = {}
        """What the last look found, by limit; empty while too little was seen."""

    def look(self, trial: Trial) -> Broken | None:
        """Take in what came of a batch; why the candidate must go, or None."""
        about = (trial.candidate, trial.reference)
        if about != self._about:
            self._about = about
            self._seen.clear()
        if trial.opinions is None:
            return Broken("failure", f"it failed: {trial.failure}")
        now = self._clock()
        self._seen.append(_seen(now, *trial.opinions))
        while self._seen[0].at < now - self.limits.window:
            self._seen.popleft()
        self.figures = self._figures()
        return self._broken()

    def _figures(self) -> dict[str, float]:
        transactions = sum(one.transactions for one in self._seen)
        if transactions < self.limits.least:
            return {}
        theirs, ours = (sum(one.alerts[i] for one in self._seen) for i in (0, 1))
        bins = [sum(one.bins[i] for one in self._seen) for i in (0, 1)]
        return {
            "transactions": transactions,
            "alerts": theirs,
            "reference_alerts": ours,
            "drift": stability(np.asarray(bins[0]), np.asarray(bins[1])),
            "seconds": sum(one.seconds for one in self._seen) / len(self._seen),
        }

    def _broken(self) -> Broken | None:
        found, limits = self.figures, self.limits
        if not found:
            return None
        alerts, reference = found["alerts"], found["reference_alerts"]
        of = f"of {found['transactions']:,.0f} transactions it flags {alerts:,.0f}, the other {reference:,.0f}"
        if surely_more(alerts, reference, limits.alerts):
            return Broken("alerts", f"{of}: more than {limits.alerts:g} times as many")
        if surely_more(reference, alerts, limits.alerts):
            return Broken("alerts", f"{of}: more than {limits.alerts:g} times fewer")
        drift, took = found["drift"], found["seconds"]
        if drift > limits.drift:
            return Broken(
                "drift", f"its scores lie elsewhere: stability index {drift:.2f}, the limit is {limits.drift:g}"
            )
        if took > limits.seconds:
            return Broken(
                "seconds", f"{1e3 * took:.1f} ms for a batch on average, the limit is {1e3 * limits.seconds:g}"
            )
        return None


def surely_more(many: float, few: float, times: float) -> bool:
    """Whether `many` is more than `times` times `few` by more than chance makes of counts.

    >>> surely_more(90, 30, 2.0), surely_more(7, 2, 2.0), surely_more(3_000, 1_000, 2.0)
    (False, False, True)
    """
    if many < _LEAST_ALERTS:
        return False
    return many - times * few > _SURE * math.sqrt(many + times * times * few)


def stability(found: Counts, expected: Counts) -> float:
    """The population stability index of two histograms [bins]; half a transaction more in each, so that none is empty.

    >>> stability(np.array([90, 10]), np.array([90, 10]))
    0.0
    """
    a, b = ((counts + 0.5) / (counts + 0.5).sum() for counts in (found, expected))
    return float(((a - b) * np.log(a / b)).sum())


def _seen(now: float, candidate: Opinion, reference: Opinion) -> _Seen:
    histograms = [
        np.bincount(np.searchsorted(EDGES, opinion.scores, side="right"), minlength=len(EDGES) + 1)
        for opinion in (candidate, reference)
    ]
    return _Seen(
        now,
        len(candidate.scores),
        (candidate.alerts, reference.alerts),
        (histograms[0], histograms[1]),
        candidate.seconds,
    )
