"""How well a model does on the rows that were kept from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn import metrics

from schemas.bundle import Thresholds
from training.costs import Costs

Rows = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CARDS = 100
"""How many accounts a day the card precision is of."""
_FALSE_POSITIVES = 0.01
_LIFTED = 0.2
_BINS = 10
_MOST_SEGMENTS = 12


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The rows [n] that models are judged by; both classes must be among them."""

    is_fraud: Rows
    account: pl.Series
    occurred_at: pl.Series
    amounts: Ints
    """In minor units of the `currency`."""
    currency: str
    """That profiles are kept in."""
    days: float
    """How long they took."""
    segments: dict[str, pl.Series]
    """Name -> value of each row."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points of a line."""

    x: Floats
    y: Floats


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """What is flagged at a threshold and what is fraud."""

    threshold: float
    caught: int
    """Flagged frauds."""
    wrong: int
    """Flagged genuine ones."""
    missed: int
    """Frauds not flagged."""
    passed: int
    """Genuine ones not flagged."""

    @property
    def precision(self) -> float | None:
        """Of the flagged, the share of frauds; None if none is flagged."""
        flagged = self.caught + self.wrong
        return self.caught / flagged if flagged else None

    @property
    def false_positives(self) -> float:
        """Of the genuine, the share of flagged ones."""
        return self.wrong / (self.wrong + self.passed)

    @property
    def recall(self) -> float:
        """Of the frauds, the share of flagged ones."""
        return self.caught / (self.caught + self.missed)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The part of the rows with one value of something."""

    of: str
    value: str
    rows: int
    frauds: int
    average_precision: float | None
    """None where there is no fraud."""
    precision: float | None
    """At the review threshold."""
    recall: float | None


@dataclass(frozen=True, kw_only=True)
class Day:
    """One UTC day of the rows."""

    day: str
    rows: int
    frauds: int
    alerts: int
    caught: int
    card_precision: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that is said of a model; `metrics` is what the manifest keeps."""

    metrics: dict[str, float]
    precision_recall: Curve
    roc: Curve
    reliability: Curve
    """Mean score and share of frauds, in ten bins of the score."""
    review: Confusion
    decline: Confusion
    segments: tuple[Segment, ...]
    days: tuple[Day, ...]
    costs: tuple[float, ...]
    """Of each of the days, in minor units of the currency that profiles are kept in."""


def evaluate(kept: Kept, *, scores: Floats, thresholds: Thresholds, costs: Costs) -> Evaluation:
    """Of calibrated `scores` [n]."""
    is_fraud = kept.is_fraud
    precision, recall, _ = metrics.precision_recall_curve(is_fraud, scores)
    false, true, _ = metrics.roc_curve(is_fraud, scores)
    review = _confusion(scores, is_fraud, thresholds.review)
    decline = _confusion(scores, is_fraud, thresholds.decline)
    cost = costs.of(scores, kept.amounts, is_fraud, thresholds)
    by_day = card_precision_by_day(scores, is_fraud, kept.account, kept.occurred_at, review=thresholds.review)
    said: dict[str, float | None] = {
        "auc": float(metrics.roc_auc_score(is_fraud, scores)),
        "average_precision": float(metrics.average_precision_score(is_fraud, scores)),
        "recall_at_1_percent_false_positives": float(true[false <= _FALSE_POSITIVES].max()),
        f"lift_at_{round(100 * _LIFTED)}_percent": lift(scores, is_fraud, share=_LIFTED),
        "cost_per_1000": _per_1000(cost),
        "cost_per_1000_if_all_are_approved": _per_1000(costs.approved(kept.amounts, is_fraud)),
        "brier": float(np.mean((scores - is_fraud) ** 2)),
        f"card_precision_{CARDS}": float(np.mean([day.card_precision for day in by_day])),
        f"card_precision_{CARDS}_attainable": attainable_card_precision(is_fraud, kept.account, kept.occurred_at),
        "fraud_share": float(is_fraud.mean()),
        "alerts_per_day": (review.caught + review.wrong) / kept.days,
        "review_precision": review.precision,
        "review_recall": review.recall,
        "decline_precision": decline.precision,
        "decline_recall": decline.recall,
    }
    return Evaluation(
        metrics={name: value for name, value in said.items() if value is not None},
        precision_recall=Curve(x=recall[::-1], y=precision[::-1]),
        roc=Curve(x=false, y=true),
        reliability=_reliability(scores, is_fraud),
        review=review,
        decline=decline,
        segments=tuple(
            part
            for name, values in kept.segments.items()
            for part in _segments(name, values, scores, is_fraud, thresholds)
        ),
        days=by_day,
        costs=_by_day(cost, kept.occurred_at),
    )


def card_precision_by_day(
    scores: Floats, is_fraud: Rows, account: pl.Series, occurred_at: pl.Series, *, review: float
) -> tuple[Day, ...]:
    """For each UTC day: of the CARDS accounts with the highest scores, the share with a fraud that day.

    As published (Dal Pozzolo et al.): an account found on an earlier day is left out afterwards.
    """
    table = pl.DataFrame(
        {"day": occurred_at.dt.date(), "account": account, "score": scores, "is_fraud": is_fraud}
    ).with_columns((pl.col("score") >= review).alias("alert"))
    days: list[Day] = []
    found: set[str] = set()
    for (day,), rows in table.sort("day", maintain_order=True).group_by("day", maintain_order=True):
        accounts = rows.group_by("account", maintain_order=True).agg(pl.col("score").max(), pl.col("is_fraud").any())
        left = accounts.filter(~pl.col("account").is_in(found))
        best = left.sort(["score", "account"], descending=[True, False]).head(CARDS)
        compromised = best.filter("is_fraud")["account"]
        found.update(compromised)
        days.append(
            Day(
                day=str(day),
                rows=rows.height,
                frauds=int(rows["is_fraud"].sum()),
                alerts=int(rows["alert"].sum()),
                caught=int((rows["alert"] & rows["is_fraud"]).sum()),
                card_precision=compromised.len() / CARDS,
            )
        )
    return tuple(days)


def attainable_card_precision(is_fraud: Rows, account: pl.Series, occurred_at: pl.Series) -> float:
    """The mean card precision of who knows the frauds: there are seldom CARDS accounts with one every day."""
    knowing = is_fraud.astype(np.float64)
    days = card_precision_by_day(knowing, is_fraud, account, occurred_at, review=1.0)
    return float(np.mean([day.card_precision for day in days]))


def lift(scores: Floats, is_fraud: Rows, *, share: float) -> float:
    """How many times more frauds this `share` of the rows holds, the highest scores first, than as many of any rows.

    Of rows with one score each is taken in part, so that their order plays no role.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(0, np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)) + 1)
    caught = np.append(0, np.cumsum(is_fraud[order]))[ends]
    return float(np.interp(share * scores.size, ends, caught) / caught[-1] / share)


def _by_day(costs: Floats, occurred_at: pl.Series) -> tuple[float, ...]:
    by_day = pl.DataFrame({"day": occurred_at.dt.date(), "cost": costs}).group_by("day").agg(pl.col("cost").sum())
    return tuple(by_day.sort("day")["cost"])


def _per_1000(costs: Floats) -> float:
    return 1_000 * float(costs.mean())


def _confusion(scores: Floats, is_fraud: Rows, threshold: float) -> Confusion:
    flagged = scores >= threshold
    return Confusion(
        threshold=threshold,
        caught=int((flagged & is_fraud).sum()),
        wrong=int((flagged & ~is_fraud).sum()),
        missed=int((~flagged & is_fraud).sum()),
        passed=int((~flagged & ~is_fraud).sum()),
    )


def _reliability(scores: Floats, is_fraud: Rows) -> Curve:
    """Bins by score from 0 to 1, those with rows in them; most rows are in the first."""
    bins = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    rows = np.bincount(bins, minlength=_BINS)
    some = rows > 0
    mean = np.bincount(bins, scores, _BINS)[some] / rows[some]
    share = np.bincount(bins, is_fraud.astype(np.float64), _BINS)[some] / rows[some]
    return Curve(x=mean, y=share)


def _segments(name: str, values: pl.Series, scores: Floats, is_fraud: Rows, thresholds: Thresholds) -> list[Segment]:
    counted = values.value_counts(name="rows").sort(["rows", values.name], descending=[True, False])
    if isinstance(values.dtype, pl.Enum):  # its values have an order of their own
        counted = counted.sort(values.name)
    parts = []
    for value in counted[values.name].head(_MOST_SEGMENTS):
        where = (values.is_null() if value is None else (values == value).fill_null(value=False)).to_numpy()
        at = _confusion(scores[where], is_fraud[where], thresholds.review)
        frauds = at.caught + at.missed
        parts.append(
            Segment(
                of=name,
                value="not said" if value is None else str(value),
                rows=int(where.sum()),
                frauds=frauds,
                average_precision=float(metrics.average_precision_score(is_fraud[where], scores[where]))
                if frauds
                else None,
                precision=at.precision,
                recall=at.recall if frauds else None,
            )
        )
    return parts
