"""From which score on somebody looks, and from which on it is declined.

Which policy chooses them is a setting: `precision` keeps to bounds of the precision-recall curve, `capacity` flags as much
as somebody can look at, `cost` takes the thresholds under which the rows that were kept would have cost least, `champion`
flags and declines as many of them as the champion does, and no more: what another model is worth shows at the same work.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.bundle import Thresholds
from training.costs import Costs
from training.judging import Opinion
from training.settings import Policy, TrainingSettings

Rows = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NEVER = 2.0
"""A threshold that no score reaches."""


def choose(
    scores: Floats,
    is_fraud: Rows,
    amounts: Ints,
    *,
    days: float,
    settings: TrainingSettings,
    champion: Opinion | None = None,
) -> Thresholds:
    """The thresholds of the rows [n], which took so many `days`, by the policy of the settings.

    `amounts`: in minor units of the currency that profiles are kept in; `champion`: what it says of the same rows.
    """
    policy = _policy(settings, champion)
    if champion is not None and policy is Policy.CHAMPION:
        return by_champion(scores, champion)
    if policy is Policy.COST:
        return by_cost(scores, is_fraud, amounts, settings.costs())
    capacity = settings.review_share * scores.size
    return by_precision(
        scores,
        is_fraud,
        capacity=capacity if settings.review_per_day is None else settings.review_per_day * days,
        review_precision=settings.review_precision if policy is Policy.PRECISION else 0.0,
        decline_precision=settings.decline_precision,
    )


def flags_nothing(thresholds: Thresholds) -> bool:
    """Whether no score reaches them."""
    return min(thresholds.review, thresholds.decline) >= NEVER


def _policy(settings: TrainingSettings, champion: Opinion | None) -> Policy:
    """Without a champion there is nothing to be like."""
    wanted = settings.thresholds_by
    return Policy.PRECISION if wanted is Policy.CHAMPION and champion is None else wanted


def went_by(settings: TrainingSettings, champion: Opinion | None = None) -> dict[str, str | float]:
    """The policy, and what it goes by: for the manifest."""
    policy = _policy(settings, champion)
    bounds: dict[str, str | float]
    if policy is Policy.CHAMPION:
        bounds = {}  # its name would make another bundle of the same model, once that is the champion itself
    elif policy is Policy.COST:
        costs = settings.costs()
        bounds = {name: float(getattr(costs, name)) for name in costs.__struct_fields__}
    else:
        bounds = {"decline_precision": settings.decline_precision}
        if settings.review_per_day is None:
            bounds["review_share"] = settings.review_share
        else:
            bounds["review_per_day"] = settings.review_per_day
        if policy is Policy.PRECISION:
            bounds["review_precision"] = settings.review_precision
    return {"policy": str(policy), **bounds}


def by_champion(scores: Floats, champion: Opinion) -> Thresholds:
    """The thresholds that flag as many of the rows [n], and decline as many, as the champion's.

    Rows with the same score are not told apart: then fewer, by those.
    """
    ranked = -np.sort(-scores)
    taken = np.arange(1, ranked.size + 1)

    def as_many(threshold: float) -> float:
        return _below(ranked, _most(_last_of_ties(ranked) & (taken <= (champion.scores >= threshold).sum())))

    return Thresholds(review=as_many(champion.thresholds.review), decline=as_many(champion.thresholds.decline))


def by_precision(
    scores: Floats, is_fraud: Rows, *, capacity: float, review_precision: float, decline_precision: float
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
    possible = _last_of_ties(ranked) & (taken <= capacity)
    review = _most(possible & (precision >= review_precision))
    decline = _most(possible & (precision >= decline_precision) & (taken <= review))
    return Thresholds(review=_below(ranked, review), decline=_below(ranked, decline))


def by_cost(scores: Floats, is_fraud: Rows, amounts: Ints, costs: Costs) -> Thresholds:
    """The thresholds under which the rows [n] would have cost least; of several, those that flag fewest.

    They lie half-way between two scores.  NEVER where it costs least to flag, or to decline, nothing.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, frauds = scores[order], is_fraud[order]
    # With the first d rows declined, and those behind them up to r looked at, all rows cost what they would if all were
    # approved, and by_declining[d] + by_looking[r] more.
    by_looking = _sums(costs.review - costs.approved(amounts[order], frauds))
    by_declining = _sums(costs.declined(frauds) - costs.review)
    allowed = np.append(True, _last_of_ties(ranked))
    by_looking[~allowed] = by_declining[~allowed] = np.inf
    review = int(np.argmin(by_looking + np.minimum.accumulate(by_declining)))
    decline = int(np.argmin(by_declining[: review + 1]))
    return Thresholds(review=_below(ranked, review), decline=_below(ranked, decline))


def _sums(values: Floats) -> Floats:
    """Of the first 0, 1, 2 … of them [n + 1]."""
    return np.append(0.0, np.cumsum(values))


def _last_of_ties(ranked: Floats) -> Rows:
    return np.append(ranked[1:] != ranked[:-1], True)


def _most(allowed: Rows) -> int:
    """How many rows the longest prefix that is allowed has."""
    found = np.flatnonzero(allowed)
    return int(found[-1]) + 1 if found.size else 0


def _below(ranked: Floats, rows: int) -> float:
    """A threshold that so many of the best `ranked` reach, and no other."""
    if rows == 0:
        return NEVER
    least = float(ranked[rows - 1])
    if rows == ranked.size:
        return least
    between = (least + float(ranked[rows])) / 2
    return between if between > ranked[rows] else least
