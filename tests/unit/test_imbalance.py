"""What is done about frauds being rare is done to the rows of the fit, and to no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.boosters import some_frauds, some_vectors
from training.learners.imbalance import Balanced, balanced
from training.learners.learner import Rows, Steps
from training.settings import Imbalance, TrainingSettings

RARE = [how for how in Imbalance if how is not Imbalance.NONE]


def some_rows(seed: int, rows: int = 400) -> Rows:
    vectors = some_vectors(seed, rows=rows)
    return Rows(vectors=vectors, is_fraud=some_frauds(vectors, seed).astype(bool))


class Onlooker:
    """Learns nothing; knows what it was given."""

    def fit(self, rows: Rows, validation: Rows, settings: TrainingSettings, on_step: Steps) -> Any:
        self.rows, self.validation = rows, validation


@given(how=st.sampled_from(Imbalance), seed=st.integers(0, 1_000), ratio=st.floats(1, 12))
@settings(max_examples=60, deadline=None)
def test_the_validation_rows_stay_as_they_are_and_none_of_them_gets_into_the_fit(
    how: Imbalance, seed: int, ratio: float
) -> None:
    rows, validation = some_rows(seed), some_rows(seed + 5_000)
    validation.vectors[:, 0] += 1e9  # one that strayed would show
    told = TrainingSettings(imbalance=how, imbalance_ratio=ratio, seed=seed)
    onlooker = Onlooker()
    before = validation.vectors.tobytes(), validation.is_fraud.tobytes()
    Balanced(onlooker).fit(rows, validation, told, lambda _done, _most: None)

    assert onlooker.validation is validation
    assert validation.weights is None
    assert (validation.vectors.tobytes(), validation.is_fraud.tobytes()) == before
    assert onlooker.rows.vectors[:, 0].max() < 1e9


@given(how=st.sampled_from(RARE), seed=st.integers(0, 1_000), ratio=st.floats(1, 8))
@settings(max_examples=60, deadline=None)
def test_there_are_so_many_genuine_ones_to_a_fraud(how: Imbalance, seed: int, ratio: float) -> None:
    rows = balanced(some_rows(seed), how, ratio=ratio, seed=seed)
    weights = np.ones(rows.is_fraud.size) if rows.weights is None else rows.weights
    frauds, genuine = weights[rows.is_fraud].sum(), weights[~rows.is_fraud].sum()

    assert genuine / frauds == pytest.approx(ratio, rel=0.05)
    again = balanced(some_rows(seed), how, ratio=ratio, seed=seed)
    assert again.vectors.tobytes() == rows.vectors.tobytes()


@pytest.mark.parametrize("how", RARE)
def test_where_frauds_are_not_rare_nothing_is_done(how: Imbalance) -> None:
    rows = some_rows(0)

    assert balanced(rows, how, ratio=9.0, seed=0) is rows
    assert balanced(rows, Imbalance.NONE, ratio=1.0, seed=0) is rows


def test_undersampling_keeps_every_fraud_and_draws_from_the_others_in_their_order() -> None:
    rows = some_rows(0)
    drawn = balanced(rows, Imbalance.UNDERSAMPLING, ratio=3.0, seed=0)
    where = {vector.tobytes(): i for i, vector in enumerate(rows.vectors)}
    found = [where[vector.tobytes()] for vector in drawn.vectors]

    assert found == sorted(set(found))
    assert (drawn.vectors[drawn.is_fraud].tobytes()) == rows.vectors[rows.is_fraud].tobytes()


def test_smote_leaves_the_rows_alone_and_makes_up_whole_frauds_between_frauds() -> None:
    rows = some_rows(0)
    more = balanced(rows, Imbalance.SMOTE, ratio=2.0, seed=0)
    made_up = more.vectors[len(rows.vectors) :]
    frauds = rows.vectors[rows.is_fraud]

    assert more.vectors[: len(rows.vectors)].tobytes() == rows.vectors.tobytes()
    assert more.is_fraud[len(rows.vectors) :].all()
    assert np.isnan(frauds).any()
    assert not np.isnan(made_up).any()
    assert (made_up[:, 1] == np.round(made_up[:, 1])).all()  # counts stay counts
    assert (made_up[:, 0] != np.round(made_up[:, 0])).any()
    assert (made_up >= np.nanmin(frauds, axis=0) * (1 - 1e-6) - 1e-6).all()
    assert (made_up <= np.nanmax(frauds, axis=0) * (1 + 1e-6) + 1e-6).all()


def test_smote_of_one_fraud_makes_up_nothing_and_infinities_are_no_obstacle() -> None:
    vectors = some_vectors(1, rows=50)
    vectors[:2, 0] = np.inf
    alone = Rows(vectors=vectors, is_fraud=np.arange(50) == 0)
    several = Rows(vectors=vectors, is_fraud=np.arange(50) < 4)

    assert len(balanced(alone, Imbalance.SMOTE, ratio=1.0, seed=0).vectors) == 50
    assert np.isfinite(balanced(several, Imbalance.SMOTE, ratio=1.0, seed=0).vectors[50:]).all()
