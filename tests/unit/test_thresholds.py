"""Scores mean what they say, and the thresholds keep to the capacity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from schemas.bundle import Calibration, Thresholds
from schemas.errors import WrongSettings
from schemas.verdict import Outcome
from training.calibration import brier, calibrate, calibrated, isotonic, probabilities
from training.costs import Costs
from training.judging import Opinion
from training.settings import CalibrationMethod, Policy, TrainingSettings
from training.thresholds import NEVER, by_champion, by_cost, by_precision, choose, went_by

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
    return by_precision(scores, is_fraud, **(defaults | bounds))


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


def test_isotonic_calibration_finds_a_relation_that_is_no_logistic_function() -> None:
    random = np.random.default_rng(0)
    margins = random.uniform(0, 1, 100_000)
    share = np.where(margins < 0.5, 0.01, np.where(margins < 0.9, 0.1, 0.6))
    is_fraud = random.random(margins.size) < share
    found = isotonic(margins, is_fraud)

    at = np.array([0.25, 0.7, 0.95])
    assert probabilities(at, found) == pytest.approx([0.01, 0.1, 0.6], abs=0.02)
    assert calibrated(margins, is_fraud, CalibrationMethod.AUTO, seed=0) == found
    assert brier(margins, is_fraud, found) < brier(margins, is_fraud, calibrate(margins, is_fraud))


def test_isotonic_steps_still_tell_margins_apart() -> None:
    margins = np.linspace(0, 1, 1_000)
    scores = probabilities(margins, isotonic(margins, margins > 0.9))

    assert (np.diff(scores) > 0).all()
    assert scores[margins <= 0.9].max() < 0.0012  # of the smoothed target of a genuine one, 1 / 901


def test_auto_stays_with_platt_where_his_is_the_relation_or_frauds_are_few() -> None:
    margins, is_fraud = some_margins(3_000)

    assert calibrated(margins, is_fraud, CalibrationMethod.AUTO, seed=0) == calibrate(margins, is_fraud)
    for frauds, expected in ((9, calibrate), (12, isotonic)):
        # One genuine row far above all frauds leaves no logistic function that is right.
        margins = np.concatenate([np.linspace(0, 1, 3_000), np.full(frauds, 2.0), [1_000.0]])
        is_fraud = margins == 2.0
        assert calibrated(margins, is_fraud, CalibrationMethod.AUTO, seed=0) == expected(margins, is_fraud)
        assert calibrated(margins, is_fraud, CalibrationMethod.ISOTONIC, seed=0) == isotonic(margins, is_fraud)


@given(
    margins=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60),
    asked=st.lists(st.floats(-1e7, 1e7), min_size=1, max_size=20),
    seed=st.integers(0, 100),
)
def test_isotonic_scores_rise_with_the_margin_one_by_one_as_at_once(
    margins: list[float], asked: list[float], seed: int
) -> None:
    known = np.array(margins)
    found = isotonic(known, np.random.default_rng(seed).random(known.size) < 0.4)
    rising = np.sort(np.array(asked))
    scores = [found.probability(margin) for margin in rising.tolist()]

    assert scores == sorted(scores)
    assert all(0 < score < 1 for score in scores)
    assert scores == pytest.approx(probabilities(rising, found).tolist(), rel=1e-9)


def test_a_calibration_survives_its_bundle_and_platts_is_written_as_ever() -> None:
    steps = Calibration(margins=(-1.0, 0.5, 2.0), scores=(0.01, 0.01, 0.9))

    assert msgspec.json.decode(msgspec.json.encode(steps), type=Calibration) == steps
    assert msgspec.json.encode(Calibration(slope=2.0)) == b'{"slope":2.0,"intercept":0.0}'
    assert [steps.probability(margin) for margin in (-5.0, -1.0, 0.0, 1.25, 2.0, 9.0)] == pytest.approx(
        [0.01, 0.01, 0.01, 0.455, 0.9, 0.9]
    )


@pytest.mark.parametrize(
    ("margins", "scores", "said"),
    [
        ((), (), "a score for each margin"),
        ((1.0, 2.0), (0.5,), "a score for each margin"),
        ((1.0, 1.0), (0.1, 0.5), "margins must rise"),
        ((1.0, 2.0), (0.5, 0.1), "scores not fall"),
        ((1.0, 2.0), (0.5, 1.1), "from 0 to 1"),
    ],
)
def test_a_calibration_that_can_not_be_is_refused(
    margins: tuple[float, ...], scores: tuple[float, ...], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Calibration(margins=margins, scores=scores)


PAYMENTS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.7, 0.9, 1.0]), st.integers(0, 900), st.booleans()),
    min_size=1,
    max_size=14,
)
COSTS = st.builds(
    Costs,
    missed_share=st.sampled_from([0.0, 0.5, 1.0]),
    missed_fixed=st.integers(0, 300),
    review=st.integers(0, 300),
    wrong_decline=st.integers(0, 600),
)


def plain_cost(payments: list[tuple[float, int, bool]], costs: Costs, thresholds: Thresholds) -> float:
    """One by one, by what the worker itself would say."""
    total = 0.0
    for score, amount, is_fraud in payments:
        outcome = thresholds.judge(score)
        if outcome is Outcome.REVIEW:
            total += costs.review
        elif outcome is Outcome.DECLINE:
            total += 0 if is_fraud else costs.wrong_decline
        elif is_fraud:
            total += costs.missed_share * amount + costs.missed_fixed
    return total


@given(PAYMENTS, COSTS)
def test_no_other_thresholds_cost_less(payments: list[tuple[float, int, bool]], costs: Costs) -> None:
    scores, amounts, is_fraud = (np.array(column) for column in zip(*payments, strict=True))
    found = by_cost(scores, is_fraud, amounts, costs)
    possible = [*sorted(set(scores.tolist())), NEVER]
    every = [
        Thresholds(review=review, decline=decline) for review in possible for decline in possible if review <= decline
    ]

    least = min(plain_cost(payments, costs, thresholds) for thresholds in every)
    assert plain_cost(payments, costs, found) == pytest.approx(least)
    flagged = min(
        int((scores >= thresholds.review).sum())
        for thresholds in every
        if plain_cost(payments, costs, thresholds) == least
    )
    assert (scores >= found.review).sum() == flagged
    assert costs.of(scores, amounts, is_fraud, found).sum() == pytest.approx(least)


def test_a_dear_review_leaves_small_frauds_alone() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.1])
    amounts, is_fraud = np.array([90_000, 300, 300, 50]), np.array([True, True, True, False])
    dear = by_cost(scores, is_fraud, amounts, Costs(review=500, wrong_decline=1e9))
    cheap = by_cost(scores, is_fraud, amounts, Costs(review=100, wrong_decline=1e9))

    # Declining is right as long as all are frauds; what is looked at needs a reason of its own.
    assert (dear.review, dear.decline) == pytest.approx((0.4, 0.4))
    assert cheap == dear
    mixed = np.array([True, False, True, False])
    assert by_cost(scores, mixed, amounts, Costs(review=500, wrong_decline=1e9)).review == pytest.approx(0.85)
    assert by_cost(scores, mixed, amounts, Costs(review=100, wrong_decline=1e9)).review == pytest.approx(0.4)


def test_one_setting_chooses_the_policy_and_the_manifest_says_which() -> None:
    margins, is_fraud = some_margins()
    scores = probabilities(margins, calibrate(margins, is_fraud))

    def flagged(**settings: Any) -> tuple[int, dict[str, str | float]]:
        those = TrainingSettings(**settings)
        found = choose(scores, is_fraud, np.full(scores.size, 10_000), days=10.0, settings=those)
        return int((scores >= found.review).sum()), went_by(those)

    count, said = flagged(review_per_day=50, review_precision=0.99)
    assert count < 500
    assert said == {"policy": "precision", "review_per_day": 50, "review_precision": 0.99, "decline_precision": 0.9}
    count, said = flagged(thresholds_by=Policy.CAPACITY, review_per_day=50, review_precision=0.99)
    assert count == 500
    assert said == {"policy": "capacity", "review_per_day": 50, "decline_precision": 0.9}
    count, said = flagged(thresholds_by=Policy.CAPACITY, review_share=0.03)
    assert count == 600
    assert said == {"policy": "capacity", "review_share": 0.03, "decline_precision": 0.9}
    count, said = flagged(thresholds_by=Policy.COST, cost_review=1_000)
    # At a tenth of what it saves, a review is worth while where one in ten is a fraud.
    assert count == pytest.approx((scores >= 0.1).sum(), rel=0.2)
    costs = {"missed_share": 1.0, "missed_fixed": 0.0, "review": 1_000.0, "wrong_decline": 2_000.0}
    assert said == {"policy": "cost", **costs}


def test_thresholds_like_the_champions_flag_and_decline_as_many() -> None:
    random = np.random.default_rng(1)
    scores, theirs = random.random(1_000), np.round(random.random(1_000) ** 2, 2)
    is_fraud, amounts = random.random(1_000) < scores, np.full(1_000, 10_000)
    champion = Opinion(name="0ld", scores=theirs, thresholds=Thresholds(review=0.6, decline=0.9))
    settings = TrainingSettings(thresholds_by=Policy.CHAMPION)

    found = choose(scores, is_fraud, amounts, days=1.0, settings=settings, champion=champion)
    assert (scores >= found.review).sum() == (theirs >= 0.6).sum()
    assert (scores >= found.decline).sum() == (theirs >= 0.9).sum()
    assert went_by(settings, champion) == {"policy": "champion"}

    never = replace(champion, thresholds=Thresholds(review=NEVER, decline=NEVER))
    assert by_champion(scores, never) == Thresholds(review=NEVER, decline=NEVER)


@pytest.mark.parametrize("levels", [1, 20, 1_000])
def test_equal_scores_never_flag_or_decline_more_than_the_champion_does(levels: int) -> None:
    random = np.random.default_rng(2)
    scores, theirs = random.integers(levels, size=5_000) / levels, random.random(5_000)
    champion = Opinion(name="0ld", scores=theirs, thresholds=Thresholds(review=0.97, decline=0.99))

    found = by_champion(scores, champion)

    largest = np.unique(scores, return_counts=True)[1].max()
    for mine, its in ((found.review, 0.97), (found.decline, 0.99)):
        assert (theirs >= its).sum() - largest < (scores >= mine).sum() <= (theirs >= its).sum()


def test_the_champions_own_thresholds_are_what_it_would_choose_again() -> None:
    random = np.random.default_rng(3)
    scores, theirs = np.round(random.random(5_000), 2), random.random(5_000)
    once = by_champion(scores, Opinion(name="0ld", scores=theirs, thresholds=Thresholds(review=0.97, decline=0.99)))

    assert by_champion(scores, Opinion(name="itself", scores=scores, thresholds=once)) == once


def test_without_a_champion_thresholds_are_by_precision() -> None:
    margins, is_fraud = some_margins()
    scores, amounts = probabilities(margins, calibrate(margins, is_fraud)), np.full(margins.size, 10_000)
    alone, plain = TrainingSettings(thresholds_by=Policy.CHAMPION), TrainingSettings()

    found, usual = (choose(scores, is_fraud, amounts, days=10.0, settings=each) for each in (alone, plain))
    assert found == usual
    assert went_by(alone) == went_by(plain)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cost_review": -1.0}, "cost_review must not be negative"),
        ({"cost_missed_share": float("nan")}, "cost_missed_share must not be negative"),
    ],
)
def test_a_cost_that_can_not_be_meant_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongSettings, match=said):
        TrainingSettings(**wrong)
