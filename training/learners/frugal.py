"""Of few frauds little can be learnt, and a hundred features of habits fit them by chance: what doesn't pay is left out.

A table whose accounts pay once has no habits, or what there is of its counterparties says nothing.  So where frauds are few,
the same learner is also told the transaction alone, its own features and attributes, and the rows that are kept from both
say whether history is worth having: it must better their average precision by more than half of the standard error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from features.catalogue import FEATURES, OF_THE_ACCOUNT
from schemas.bundle import Calibration
from training.export import Exported, exported
from training.learners.learner import Bools, Card, Fitted, Floats, Learner, Rows, Steps, Vectors
from training.settings import TrainingSettings

Ints = npt.NDArray[np.int64]

FEW_FRAUDS = 2_000
"""Of more, a learner finds out by itself."""
_ROUNDS = 50
_HISTORY = frozenset(FEATURES[OF_THE_ACCOUNT.start :])


@dataclass(frozen=True)
class Frugal:
    """Leaves history out where it doesn't pay."""

    learner: Learner

    def fit(self, rows: Rows, validation: Rows, settings: TrainingSettings, on_step: Steps) -> Fitted:
        """A step is the learner's, first with history and then without."""
        whole = self.learner.fit(rows, validation, settings, on_step)
        columns = tuple(i for i, name in enumerate(rows.features) if name not in _HISTORY)
        if int(rows.is_fraud.sum()) > FEW_FRAUDS or len(columns) in (0, len(rows.features)):
            return whole
        alone = self.learner.fit(_only(rows, columns), _only(validation, columns), settings, on_step)
        gain, error = _gain(
            whole.margins(validation.vectors),
            alone.margins(validation.vectors[:, columns]),
            validation.is_fraud,
            seed=settings.seed,
        )
        if gain > error / 2:
            return whole
        chosen = f"history is left out: it added {gain:.4f} to the average precision, give or take {error:.4f}"
        return WithoutHistory(fitted=alone, columns=columns, features=len(rows.features), chosen=chosen)


@dataclass(frozen=True, kw_only=True)
class WithoutHistory:
    """A model of some of the columns, asked with all of them."""

    fitted: Fitted
    columns: tuple[int, ...]
    features: int
    """How many columns there are."""
    chosen: str

    @property
    def tolerance(self) -> float:
        return self.fitted.tolerance

    @property
    def uncalibrated(self) -> Calibration:
        return self.fitted.uncalibrated

    def again(self, rows: Rows, settings: TrainingSettings, on_step: Steps) -> WithoutHistory:
        return replace(self, fitted=self.fitted.again(_only(rows, self.columns), settings, on_step))

    def margins(self, vectors: Vectors) -> Floats:
        return self.fitted.margins(vectors[:, self.columns])

    def card(self) -> Card:
        return {**self.fitted.card(), "chosen": self.chosen}

    def importance(self) -> Floats:
        of_all = np.zeros(self.features)
        of_all[list(self.columns)] = self.fitted.importance()
        return of_all

    def exported(self) -> Exported:
        part = self.fitted.exported()
        return exported(
            _renumbered(part.trees, self.columns), _renumbered(part.linear, self.columns), features=self.features
        )


def _only(rows: Rows, columns: Sequence[int]) -> Rows:
    names = tuple(rows.features[column] for column in columns)
    return replace(rows, vectors=rows.vectors[:, columns], features=names)


def _renumbered(asked: pl.DataFrame, columns: Sequence[int]) -> pl.DataFrame:
    """Of nodes or terms, `feature`; a leaf's -1 stays."""
    return asked.with_columns(
        pl.col("feature").replace_strict(dict(enumerate(columns)) | {-1: -1}, return_dtype=pl.Int32)
    )


def _gain(whole: Floats, alone: Floats, is_fraud: Bools, *, seed: int) -> tuple[float, float]:
    """By how much the average precision of one is above that of the other, and the standard error of that."""
    random = np.random.default_rng(seed)
    orders = [np.argsort(-margins, kind="stable") for margins in (whole, alone)]

    def difference(copies: Ints) -> float:
        one, other = (_average_precision(is_fraud[order], copies[order]) for order in orders)
        return one - other

    drawn = [difference(random.poisson(1, is_fraud.size)) for _ in range(_ROUNDS)]
    return difference(np.ones(is_fraud.size, np.int64)), float(np.nanstd(drawn))


def _average_precision(is_fraud: Bools, copies: Ints) -> float:
    """Of rows from the highest score down, so many of each; NaN where none is a fraud."""
    frauds = np.cumsum(copies * is_fraud)
    rows = np.maximum(np.cumsum(copies), 1)
    return float((copies * is_fraud * frauds / rows).sum() / frauds[-1]) if frauds[-1] else np.nan
