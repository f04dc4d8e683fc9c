"""What a model on trial must not do unseen, and what must not be held against it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bundle import Thresholds
from streaming.guard import Guard, Limits, stability, surely_more
from streaming.scoring import Opinion, Trial

LIMITS = Limits(window=30.0, least=500, alerts=2.0, drift=1.0, seconds=0.1)
JUDGE = Thresholds(review=0.5, decline=0.9).judge


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def an_opinion(scores: list[float], seconds: float = 0.01) -> Opinion:
    return Opinion(np.zeros((len(scores), 1), np.float32), scores, scores, list(map(JUDGE, scores)), seconds)


def a_trial(candidate: list[float], reference: list[float], *, seconds: float = 0.01, name: str = "new") -> Trial:
    return Trial(candidate=name, reference="old", opinions=(an_opinion(candidate, seconds), an_opinion(reference)))


def flagging(alerts: int, of: int = 1_000) -> list[float]:
    return [0.6] * alerts + [0.01] * (of - alerts)


def test_one_that_does_as_the_other_does_stays() -> None:
    guard = Guard(LIMITS)
    assert guard.look(a_trial(flagging(20), flagging(20))) is None
    assert guard.figures == {
        "transactions": 1_000, "alerts": 20, "reference_alerts": 20, "drift": 0.0, "seconds": pytest.approx(0.01)
    }  # fmt: skip


@pytest.mark.parametrize(
    ("candidate", "reference", "says"), [(90, 20, "as many"), (20, 90, "fewer"), (30, 0, "as many")]
)
def test_far_more_alerts_or_far_fewer_are_broken_limits(candidate: int, reference: int, says: str) -> None:
    broken = Guard(LIMITS).look(a_trial(flagging(candidate), flagging(reference)))
    assert broken is not None
    assert broken.limit == "alerts"
    assert says in broken.why


def test_a_few_more_alerts_are_chance() -> None:
    assert Guard(LIMITS).look(a_trial(flagging(9), flagging(2))) is None
    assert Guard(LIMITS).look(a_trial(flagging(45), flagging(20))) is None


def test_nothing_is_said_of_rates_before_enough_was_seen() -> None:
    guard = Guard(LIMITS)
    assert guard.look(a_trial(flagging(400, 499), flagging(1, 499))) is None
    assert guard.figures == {}
    broken = guard.look(a_trial([0.01], [0.01]))
    assert broken is not None
    assert broken.limit == "alerts"


def test_what_is_older_than_the_window_is_forgotten() -> None:
    clock = Clock()
    guard = Guard(LIMITS, clock=clock)
    guard.look(a_trial(flagging(60), flagging(30)))
    clock.now = 30.1
    guard.look(a_trial(flagging(60), flagging(30)))
    assert guard.figures["transactions"] == 1_000


def test_another_candidate_begins_with_a_clean_sheet() -> None:
    guard = Guard(LIMITS)
    assert guard.look(a_trial(flagging(300), flagging(10), name="bad")) is not None
    assert guard.look(a_trial(flagging(10, 600), flagging(10, 600), name="good")) is None
    assert guard.figures["transactions"] == 600


def test_scores_that_lie_elsewhere_are_a_broken_limit_though_the_alerts_are_the_same() -> None:
    broken = Guard(LIMITS).look(a_trial([0.001] * 500 + [0.3] * 500, [0.01] * 1_000))
    assert broken is not None
    assert broken.limit == "drift"


def test_one_that_is_slow_must_go() -> None:
    broken = Guard(LIMITS).look(a_trial(flagging(20), flagging(20), seconds=0.2))
    assert broken is not None
    assert (broken.limit, "200.0 ms" in broken.why) == ("seconds", True)


def test_one_that_fails_must_go_at_once() -> None:
    broken = Guard(LIMITS).look(Trial(candidate="new", reference="old", opinions=None, failure="Senseless: NaN"))
    assert broken is not None
    assert (broken.limit, broken.why) == ("failure", "it failed: Senseless: NaN")


@given(st.integers(0, 2**32 - 1), st.floats(0.002, 0.2))
def test_chance_alone_is_hardly_ever_held_against_it(seed: int, rate: float) -> None:
    """Two independent models with one rate: twice as many alerts happens, but not surely."""
    many, few = np.random.default_rng(seed).binomial(2_000, rate, 2)
    assert not surely_more(many, few, 2.0)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=20))
def test_a_distribution_is_stable_against_itself_and_never_below_zero(counts: list[int]) -> None:
    found = np.array(counts)
    assert stability(found, found) == 0
    assert stability(found, found[::-1]) >= 0
