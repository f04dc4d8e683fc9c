"""From which score on somebody looks, and from which on it is declined."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.bundle import Thresholds

NEVER = 2.0
"""A threshold that no score reaches."""


def choose(
    scores: npt.NDArray[np.float64],
    is_fraud: npt.NDArray[np.bool_],
    *,
    capacity: float,
    review_precision: float,
    decline_precision: float,
) -> Thresholds:
    """The points of the precision-recall curve with the most recall under these bounds.

    At most `capacity` of the rows [n] are flagged (reviewed or declined), and at least `review_precision` of them are
    frauds; of the declined `decline_precision`.  Each threshold lies half-way between two scores, so that rounding
    moves no row across.  NEVER where nothing fulfils it.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    taken = np.arange(1, ranked.size + 1)
    precision = np.cumsum(is_fraud[order]) / taken
    is_last_of_ties = np.append(ranked[1:] != ranked[:-1], True)

    possible = is_last_of_ties & (taken <= capacity)
    review = _most(possible & (precision >= review_precision))
    decline = _most(possible & (precision >= decline_precision) & (taken <= review))
    return Thresholds(review=_below(ranked, review), decline=_below(ranked, decline))


def _most(allowed: npt.NDArray[np.bool_]) -> int:
    """How many rows the longest prefix that is allowed has."""
    found = np.flatnonzero(allowed)
    return int(found[-1]) + 1 if found.size else 0


def _below(ranked: npt.NDArray[np.float64], rows: int) -> float:
    """A threshold that so many of the best `ranked` reach, and no other."""
    if rows == 0:
        return NEVER
    least = float(ranked[rows - 1])
    if rows == ranked.size:
        return least
    between = (least + float(ranked[rows])) / 2
    return between if between > ranked[rows] else least
