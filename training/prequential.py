"""How well a recipe does from date to date: learnt from what was known then, judged by what came next.

    |<-- fit -->|<- gap: the delay ->|<- validation ->|
    |<------------ fit ------------->|<- gap: the delay ->|<- validation ->|
    |<-------------------- fit ------------------------->|<- gap: the delay ->|<- validation ->|<- too young ->|

Each fold is a training at the date its validation begins: of labels that came later, also for older rows, nothing is known.
One number from one stretch of time says little of a learner; their mean is what tuning goes by, and their spread says how
much of a difference is noise.

The older half of each validation chooses the number of trees, the newer half judges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from features.catalogue import FEATURES
from schemas.wire import EPOCH
from training.attributes import History
from training.errors import UnusablePast
from training.learners.learner import Learner, Steps
from training.learners.learner import Rows as LearntRows
from training.settings import TrainingSettings
from training.split import KnownPast, choosing_ends, known_frauds, mature_until

Rows = npt.NDArray[np.bool_]
Vectors = npt.NDArray[np.float32]

_MICROSECOND = timedelta(microseconds=1)
_SHARE_OF_VALIDATION = 0.5
_LONGEST_VALIDATION = timedelta(days=14)


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Which of the transactions [n] one training is made of, and how it is judged."""

    at: datetime
    """The training's date, when its validation begins."""
    until: datetime
    """When that ends."""
    fit: Rows
    known: Rows
    """The frauds that were known at the training's date."""
    validation: Rows
    chooses: Rows | None
    """[validation rows]: those that choose; the others judge.  None: all do both, there are too few frauds to divide them."""
    frozen: Vectors
    """[validation rows, attributes' features]: as a model of that date is served with."""
    features: tuple[str, ...]
    """What the columns are called, the catalogue's and the attributes'."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """How well a fold's model did."""

    at: datetime
    until: datetime
    rows: int
    frauds: int
    """Known of them at the time."""
    validation_rows: int
    """That judged it."""
    validation_frauds: int
    average_precision: float
    auc: float
    knew: bool = False
    """The rows that judged it chose its number of trees: the figures are too good."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """A past with its vectors, all of them by what was known before each transaction."""

    past: KnownPast
    accepted: Rows
    """[n]: what gets a verdict."""
    vectors: Vectors
    """[n, features]: the catalogue's."""
    encoded: Vectors
    """[n, attributes' features]"""
    history: History
    """What `encoded` comes from, to be frozen at any date."""


def _unheard(_done: int, _of: int) -> None: ...


def cut(described: Described, settings: TrainingSettings, *, folds: int) -> tuple[Fold, ...]:
    """So many folds, the oldest first, whose validations follow each other up to the youngest that is mature.

    They take `settings.validation` each, by default half of what is mature but for the first gap among them, and 14 days at
    most.  Raises UnusablePast where a part has no rows, no fraud or nothing but frauds.
    """
    past, delay = described.past, settings.label_delay // _MICROSECOND
    require_classes(past, described.accepted, settings, folds=folds)
    time = _times(past)
    edges = _edges(past, settings, folds)
    return tuple(
        _fold(described, time, begins, ends, delay, last=ends == edges[-1]) for begins, ends in pairwise(edges)
    )


def require_classes(past: KnownPast, accepted: Rows, settings: TrainingSettings, *, folds: int) -> None:
    """Raises UnusablePast where a part of one of so many folds has no rows, no fraud or nothing but frauds."""
    time, delay = _times(past), settings.label_delay // _MICROSECOND
    edges = _edges(past, settings, folds)
    for number, (begins, ends) in enumerate(pairwise(edges), 1):
        fit, kept = _rows(accepted, time, begins, ends, delay, last=ends == edges[-1])
        at = EPOCH + timedelta(microseconds=begins)
        known = known_frauds(past.transactions, past.labels, at)
        for purpose, is_fraud in (("to fit", known[fit]), ("to validate", past.is_fraud[kept])):
            frauds = int(is_fraud.sum())
            if frauds in (0, is_fraud.size):
                raise UnusablePast(
                    f"fold {number}, of {at}, has {is_fraud.size} mature rows {purpose}, {frauds} of them known as frauds: "
                    "fewer --folds, more history, or another --validation would do"
                )


def _times(past: KnownPast) -> npt.NDArray[np.int64]:
    return past.transactions["occurred_at"].dt.epoch("us").to_numpy()


def _edges(past: KnownPast, settings: TrainingSettings, folds: int) -> list[int]:
    """Microseconds since 1970: where each fold's validation begins, and where the last one ends."""
    time, delay = _times(past), settings.label_delay // _MICROSECOND
    first, mature = int(time.min()), mature_until(past, time, settings.label_delay)
    most = max(mature - first - delay, 0) * _SHARE_OF_VALIDATION / folds
    length = int(min(most, _LONGEST_VALIDATION / _MICROSECOND))
    if settings.validation is not None:
        length = settings.validation // _MICROSECOND
    return [mature - length * left for left in range(folds, -1, -1)]


def _rows(
    accepted: Rows, time: npt.NDArray[np.int64], begins: int, ends: int, delay: int, *, last: bool
) -> tuple[Rows, Rows]:
    """Those to fit, and those to validate."""
    fit: Rows = accepted & (time < begins - delay)
    kept: Rows = accepted & (time >= begins) & ((time <= ends) if last else (time < ends))
    return fit, kept


def judge(
    described: Described, folds: Sequence[Fold], learner: Learner, settings: TrainingSettings, on_step: Steps = _unheard
) -> Iterator[Judged]:
    """Fold after fold, a model fitted and judged.  It may stop where it is best on the rows that choose."""
    for fold in folds:
        rows = LearntRows(
            vectors=np.hstack([described.vectors[fold.fit], described.encoded[fold.fit]]),
            is_fraud=fold.known[fold.fit],
            features=fold.features,
        )
        vectors = np.hstack([described.vectors[fold.validation], fold.frozen])
        is_fraud = described.past.is_fraud[fold.validation]
        everybody = np.ones(is_fraud.size, np.bool_)
        chooses, judges = (everybody, everybody) if fold.chooses is None else (fold.chooses, ~fold.chooses)
        validation = LearntRows(vectors=vectors[chooses], is_fraud=is_fraud[chooses], features=fold.features)
        margins = learner.fit(rows, validation, settings, on_step).margins(vectors[judges])
        yield Judged(
            at=fold.at,
            until=fold.until,
            rows=len(rows.is_fraud),
            frauds=int(rows.is_fraud.sum()),
            validation_rows=int(judges.sum()),
            validation_frauds=int(is_fraud[judges].sum()),
            average_precision=float(metrics.average_precision_score(is_fraud[judges], margins)),
            auc=float(metrics.roc_auc_score(is_fraud[judges], margins)),
            knew=fold.chooses is None,
        )


def summary(judged: Sequence[Judged]) -> dict[str, float]:
    """Mean and spread (standard deviation) over at least two folds, as metrics are called."""
    said: dict[str, float] = {}
    for name in ("average_precision", "auc"):
        values = [float(getattr(fold, name)) for fold in judged]
        mean = math.fsum(values) / len(values)
        said[f"prequential_{name}"] = mean
        said[f"prequential_{name}_spread"] = math.sqrt(
            math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
        )
    return said


def _fold(described: Described, time: npt.NDArray[np.int64], begins: int, ends: int, delay: int, *, last: bool) -> Fold:
    past, at = described.past, EPOCH + timedelta(microseconds=begins)
    fit, kept = _rows(described.accepted, time, begins, ends, delay, last=last)
    known = known_frauds(past.transactions, past.labels, at)
    encoder = described.history.frozen(at)
    chosen = choosing_ends(time[kept], past.is_fraud[kept], begins, ends)
    return Fold(
        at=at,
        until=EPOCH + timedelta(microseconds=ends),
        fit=fit,
        known=known,
        validation=kept,
        chooses=None if chosen is None else time[kept] < chosen,
        frozen=encoder.encode_table(past.transactions.filter(kept)),
        features=FEATURES + encoder.features,
    )
