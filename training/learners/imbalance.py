"""Frauds are rare: rows that a learner is fitted to, weighed or drawn so that they are less so.

Inside the fit only.  The validation rows stay as they are, so that figures and calibration are of the real share.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from training.learners.learner import Fitted, Floats, Learner, Rows, Steps, Vectors
from training.settings import Imbalance, TrainingSettings

_NEIGHBOURS = 5


@dataclass(frozen=True)
class Balanced:
    """Hands a learner what `balanced` makes of the rows."""

    learner: Learner

    def fit(self, rows: Rows, validation: Rows, settings: TrainingSettings, on_step: Steps) -> Fitted:
        return self.learner.fit(_as_wanted(rows, settings), validation, settings, on_step)


def again(fitted: Fitted, rows: Rows, settings: TrainingSettings, on_step: Steps) -> Fitted:
    """What `Balanced` fitted, learnt once more from other rows, made ready as the first were."""
    return fitted.again(_as_wanted(rows, settings), settings, on_step)


def _as_wanted(rows: Rows, settings: TrainingSettings) -> Rows:
    return balanced(rows, settings.imbalance, ratio=settings.imbalance_ratio, seed=settings.seed)


def balanced(rows: Rows, how: Imbalance, *, ratio: float, seed: int) -> Rows:
    """Rows with `ratio` genuine transactions to a fraud, by weight or by number; as they are where there are fewer anyway.

    * weights: frauds weigh more;
    * undersampling: all frauds, and so many of the others, drawn without putting back, in their order;
    * smote: frauds that are made up between a fraud and a near one, behind all the rows.
    """
    frauds = int(rows.is_fraud.sum())
    genuine = rows.is_fraud.size - frauds
    if how is Imbalance.NONE or genuine <= ratio * frauds:
        return rows
    if how is Imbalance.WEIGHTS:
        return replace(rows, weights=np.where(rows.is_fraud, genuine / (ratio * frauds), 1.0))
    random = np.random.default_rng(seed)
    if how is Imbalance.UNDERSAMPLING:
        drawn = random.choice(np.flatnonzero(~rows.is_fraud), round(ratio * frauds), replace=False)
        kept = np.sort(np.concatenate([np.flatnonzero(rows.is_fraud), drawn]))
        return replace(rows, vectors=rows.vectors[kept], is_fraud=rows.is_fraud[kept])
    made_up = _made_up(rows.vectors[rows.is_fraud], round(genuine / ratio) - frauds, seed)
    return replace(
        rows,
        vectors=np.concatenate([rows.vectors, made_up]),
        is_fraud=np.concatenate([rows.is_fraud, np.ones(len(made_up), bool)]),
    )


def _made_up(frauds: Vectors, count: int, seed: int) -> Vectors:
    """So many more `frauds`, by SMOTE: of whole rows, what is missing being the median, near by deviations."""
    from imblearn.over_sampling import SMOTE  # noqa: PLC0415 - a second that only who asks for it waits

    if len(frauds) < 2 or count < 1:
        return frauds[:0]
    finite = np.where(np.isinf(frauds), np.nan, frauds).astype(np.float64)
    middle = _medians(finite)
    whole = np.where(np.isnan(finite), middle, finite)
    deviation = np.where(whole.std(axis=0) > 0, whole.std(axis=0), 1.0)
    # SMOTE looks at the frauds alone, but wants to see another class: one row of it is enough.
    rows = np.concatenate([whole / deviation, np.zeros((1, whole.shape[1]))])
    smote = SMOTE(
        sampling_strategy={1: len(whole) + count}, k_neighbors=min(_NEIGHBOURS, len(whole) - 1), random_state=seed
    )
    more, _ = smote.fit_resample(rows, np.append(np.ones(len(whole), np.int64), 0))
    made_up = more[len(rows) :] * deviation
    # Hours, counts and yes or no stay such.
    are_whole = (whole == np.round(whole)).all(axis=0)
    return np.asarray(np.where(are_whole, np.round(made_up), made_up), np.float32)


def _medians(values: Floats) -> Floats:
    """Of each column's known values [features]; 0 where none is known."""
    known = ~np.isnan(values)
    return np.array(
        [np.median(column[there]) if there.any() else 0.0 for column, there in zip(values.T, known.T, strict=True)]
    )
