"""Scores mean what they say, and the thresholds keep to the capacity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from schemas.bundle import Thresholds
from training.calibration import calibrate, probabilities
from training.thresholds import NEVER, choose

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


def some_margins(rows: int = 20_000, seed: int = 0) -> tuple[Floats, Bools]:
    random = np.random.default_rng(seed)
    margins = random.normal(-3, 2, rows)
    return margins, random.random(rows) < 1 / (1 + np.exp(-(0.6 * margins - 1)))


def test_calibration_finds_the_logistic_function_behind() -> None:
    margins, is_fraud = some_margins(200_000)
    found = calibrate(margins, is_fraud)

    assert found.slope == pytest.approx(0.6, abs=0.02)
    assert found.intercept == pytest.approx(-1, abs=0.05)


def test_calibration_is_logistic_regression_without_penalty() -> None:
    margins, is_fraud = some_margins()
    reference = LogisticRegression(C=1e12, tol=1e-10, max_iter=1_000).fit(margins[:, None], is_fraud)
    found = calibrate(margins, is_fraud)

    assert found.slope == pytest.approx(float(reference.coef_[0, 0]), rel=5e-3)
    assert found.intercept == pytest.approx(float(reference.intercept_[0]), rel=5e-3)


def test_the_mean_score_is_the_share_of_frauds() -> None:
    margins, is_fraud = some_margins()

    assert probabilities(margins, calibrate(margins, is_fraud)).mean() == pytest.approx(is_fraud.mean(), rel=1e-3)


def test_scores_at_once_are_the_scores_one_by_one() -> None:
    margins, is_fraud = some_margins(500)
    margins[:3] = [-2_000.0, 2_000.0, 0.0]
    calibration = calibrate(margins, is_fraud)

    assert probabilities(margins, calibration).tolist() == pytest.approx(
        [calibration.probability(margin) for margin in margins.tolist()], rel=1e-14, abs=1e-300
    )


def test_margins_that_tell_everything_ask_for_no_infinite_slope() -> None:
    margins = np.linspace(-5, 5, 1_000)
    calibration = calibrate(margins, margins > 0)

    assert 0 < calibration.slope < 1e4
    assert 0 < calibration.probability(-5.0) < 0.01
    assert 0.99 < calibration.probability(5.0) <= 1


@pytest.mark.parametrize("sign", [0, -1])
def test_margins_that_tell_nothing_or_the_contrary_give_the_share_to_all(sign: int) -> None:
    margins, is_fraud = some_margins()
    scores = probabilities(sign * margins, calibrate(sign * margins, is_fraud))

    assert np.ptp(scores) < 1e-6
    assert scores[0] == pytest.approx(is_fraud.mean(), rel=0.01)


def chosen(scores: Floats, is_fraud: Bools, **bounds: float) -> Thresholds:
    defaults = {"capacity": float(len(scores)), "review_precision": 0.0, "decline_precision": 1.0}
    return choose(scores, is_fraud, **(defaults | bounds))


def test_no_more_is_flagged_than_somebody_can_look_at() -> None:
    margins, is_fraud = some_margins()
    scores = probabilities(margins, calibrate(margins, is_fraud))

    for capacity in (0.5, 1, 17, 200.9):
        flagged = (scores >= chosen(scores, is_fraud, capacity=capacity).review).sum()
        assert flagged == int(capacity)


def test_rows_of_one_score_are_flagged_together_or_not_at_all() -> None:
    scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1])
    is_fraud = np.array([True, True, False, True, False])

    assert chosen(scores, is_fraud, capacity=3).review == pytest.approx(0.7)
    assert chosen(scores, is_fraud, capacity=4).review == pytest.approx(0.3)


def test_precision_bounds_both_and_recall_is_what_is_left_to_gain() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    is_fraud = np.array([True, True, False, True, False, False, False, False])
    thresholds = chosen(scores, is_fraud, review_precision=0.6, decline_precision=1.0)

    assert thresholds.review == pytest.approx(0.45)  # 3 of 5
    assert thresholds.decline == pytest.approx(0.75)  # 2 of 2


def test_a_bound_that_nothing_fulfils_flags_nothing() -> None:
    scores, is_fraud = np.array([0.9, 0.8, 0.1]), np.array([False, True, False])
    thresholds = chosen(scores, is_fraud, review_precision=0.9, decline_precision=0.9)

    assert (thresholds.review, thresholds.decline) == (NEVER, NEVER)
    assert chosen(scores, is_fraud, review_precision=0.4).decline == NEVER


def test_a_threshold_lies_between_two_scores_also_if_they_are_neighbours() -> None:
    high = 0.5
    low = float(np.nextafter(high, 0))

    assert chosen(np.array([high, low]), np.array([True, False]), capacity=1).review == high
