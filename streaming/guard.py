"""Holds a bundle on trial to the one it is tried against, on the same transactions: what must not happen unseen.

It hears of committed batches only: what an aborted one would have said was never said.  Once a second it looks at the last
of them.  Alerts are counted by account, and tested on the accounts that only one of the two flags: payments of one account
come in bursts, and the two judge the same ones.
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

from schemas.verdict import Outcome
from streaming.scoring import Opinion, Trial

LOOKED_EVERY = 1.0
"""Seconds between two looks."""
_SURE = 4.0
"""Standard deviations: there are many looks at one trial, and each may be wrong."""
_LEAST_TRANSACTIONS = 200
"""Fewer say nothing about a distribution."""
_LEAST_BATCHES = 20
"""Fewer say nothing about durations: one may have met with a machine that stood still."""
_AS_SLOW_AS = 3.0
"""Times the reference's duration: a machine that is slow is slow for both."""
_LOWEST = 0.005
"""Scores below are alike: of no suspicion."""
_NODE = 1.0
"""Width of a bin of scores, in log-odds."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is broken when it is passed."""

    window: float
    """Seconds that are looked back,"""
    least: int
    """and further, until so many transactions are in sight."""
    alerts: float
    """How many times as many accounts with alerts as the reference has, or as few."""
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
    flagged: tuple[frozenset[int], frozenset[int]]
    """Accounts, by the candidate and by the reference."""
    bins: tuple[Floats, Floats]
    seconds: tuple[float, float]


class Guard:
    """Used by one thread."""

    def __init__(self, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._about = ("", "")
        self._seen: deque[_Seen] = deque()
        self._transactions = 0
        self._looked = -math.inf
        self.figures: dict[str, float] = {}
        """What the last look found."""

    def look(self, trial: Trial) -> Broken | None:
        """Take in what came of a batch; why the candidate must go, or None."""
        about = (trial.candidate, trial.reference)
        if about != self._about:
            self._about = about
            self._seen.clear()
            self._transactions = 0
            self.figures = {}
        if trial.failed == trial.candidate:
            return Broken("failure", f"it failed: {trial.failure}")
        if trial.opinions is None:
            return None
        now = self._clock()
        self._take_in(_seen(now, trial.accounts, *trial.opinions))
        if now - self._looked < LOOKED_EVERY:
            return None
        self._looked = now
        self.figures = self._figures()
        return self._broken()

    def _take_in(self, seen: _Seen) -> None:
        self._seen.append(seen)
        self._transactions += seen.transactions
        while (
            self._seen[0].at < seen.at - self.limits.window
            and self._transactions - self._seen[0].transactions >= self.limits.least
        ):
            self._transactions -= self._seen.popleft().transactions

    def _figures(self) -> dict[str, float]:
        theirs, ours = (frozenset[int]().union(*(one.flagged[i] for one in self._seen)) for i in (0, 1))
        bins = [np.sum([one.bins[i] for one in self._seen], axis=0) for i in (0, 1)]
        seconds = [sum(one.seconds[i] for one in self._seen) / len(self._seen) for i in (0, 1)]
        return {
            "transactions": self._transactions,
            "batches": len(self._seen),
            "accounts": len(theirs),
            "reference_accounts": len(ours),
            "only_accounts": len(theirs - ours),
            "only_reference_accounts": len(ours - theirs),
            "drift": stability(bins[0], bins[1]),
            "seconds": seconds[0],
            "reference_seconds": seconds[1],
        }

    def _broken(self) -> Broken | None:
        found, limits = self.figures, self.limits
        theirs, ours = found["accounts"], found["reference_accounts"]
        only, only_ours = found["only_accounts"], found["only_reference_accounts"]
        of = f"in {found['transactions']:,.0f} transactions it flags {theirs:,.0f} accounts, the other {ours:,.0f}"
        if theirs > limits.alerts * ours and surely_more(only, only_ours):
            return Broken("alerts", f"{of}: more than {limits.alerts:g} times as many")
        if ours > limits.alerts * theirs and surely_more(only_ours, only):
            return Broken("alerts", f"{of}: more than {limits.alerts:g} times fewer")
        drift, took, other = found["drift"], found["seconds"], found["reference_seconds"]
        if found["transactions"] >= _LEAST_TRANSACTIONS and drift > limits.drift:
            return Broken(
                "drift", f"its scores lie elsewhere: stability index {drift:.2f}, the limit is {limits.drift:g}"
            )
        if found["batches"] >= _LEAST_BATCHES and took > max(limits.seconds, _AS_SLOW_AS * other):
            return Broken(
                "seconds",
                f"{1e3 * took:.1f} ms for a batch on average, the other {1e3 * other:.1f}, the limit is "
                f"{1e3 * limits.seconds:g}",
            )
        return None


def surely_more(many: float, few: float) -> bool:
    """Whether of accounts that only one of two models flags, the one has more than chance would give it (McNemar's test).

    >>> surely_more(10, 0), surely_more(16, 0), surely_more(60, 40)
    (False, False, False)
    >>> surely_more(17, 0), surely_more(90, 30)
    (True, True)
    """
    return many - few > _SURE * math.sqrt(many + few)


def stability(found: Floats, expected: Floats) -> float:
    """The population stability index of two histograms [bins]; half a transaction more in each, so that none is empty.

    >>> stability(np.array([90.0, 10.0]), np.array([90.0, 10.0]))
    0.0
    """
    a, b = ((counts + 0.5) / (counts + 0.5).sum() for counts in (found, expected))
    return float(((a - b) * np.log(a / b)).sum())


def histogram(scores: list[float]) -> Floats:
    """Of `scores` by their log-odds, each shared by the two nearest bins: a little more or less changes it a little.

    >>> histogram([0.0, 0.001, 0.5, 1.0]).round(1).tolist()
    [2.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    """
    clipped = np.clip(scores, _LOWEST, 1 - _LOWEST)
    lowest, highest = (math.log(edge / (1 - edge)) for edge in (_LOWEST, 1 - _LOWEST))
    bins = int((highest - lowest) / _NODE) + 1
    at = (np.log(clipped / (1 - clipped)) - lowest) / (highest - lowest) * (bins - 1)
    below = np.minimum(at.astype(np.int64), bins - 2)
    share = at - below
    counts = np.zeros(bins)
    np.add.at(counts, below, 1 - share)
    np.add.at(counts, below + 1, share)
    return counts


def _seen(now: float, accounts: list[int], candidate: Opinion, reference: Opinion) -> _Seen:
    def flagged(opinion: Opinion) -> frozenset[int]:
        approve = Outcome.APPROVE
        return frozenset(
            account for account, outcome in zip(accounts, opinion.outcomes, strict=True) if outcome is not approve
        )

    return _Seen(
        now,
        len(accounts),
        (flagged(candidate), flagged(reference)),
        (histogram(candidate.scores), histogram(reference.scores)),
        (candidate.seconds, reference.seconds),
    )
