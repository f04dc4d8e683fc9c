"""What a model on trial must not do unseen, and what must not be held against it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.bundle import Thresholds
from streaming.guard import LOOKED_EVERY, Broken, Guard, Limits, histogram, stability, surely_more
from streaming.scoring import Opinion, Trial

LIMITS = Limits(window=30.0, least=2_000, alerts=2.0, drift=1.0, seconds=0.1)
JUDGE = Thresholds(review=0.5, decline=0.9).judge
Scores = list[float]


class Watched:
    """A guard, and a clock that goes on by as much as it takes from one look to the next."""

    def __init__(self) -> None:
        self.now = 0.0
        self.guard = Guard(LIMITS, clock=lambda: self.now)

    def see(
        self, candidate: Scores, reference: Scores, *, accounts: list[int] | None = None, name: str = "new",
        seconds: tuple[float, float] = (0.01, 0.01), after: float = LOOKED_EVERY,
    ) -> Broken | None:  # fmt: skip
        self.now += after
        return self.guard.look(
            Trial(
                candidate=name,
                reference="old",
                shadow=name,
                opinions=(an_opinion(candidate, seconds[0]), an_opinion(reference, seconds[1])),
                accounts=accounts or list(range(len(candidate))),
            )
        )


def an_opinion(scores: Scores, seconds: float) -> Opinion:
    return Opinion(np.zeros((len(scores), 1), np.float32), scores, scores, list(map(JUDGE, scores)), seconds)


def flagging(alerts: int, of: int = 1_000) -> Scores:
    return [0.6] * alerts + [0.01] * (of - alerts)


def test_one_that_does_as_the_other_does_stays() -> None:
    watched = Watched()
    assert watched.see(flagging(20), flagging(20)) is None
    found = watched.guard.figures
    assert (found["transactions"], found["accounts"], found["reference_accounts"], found["drift"]) == (1_000, 20, 20, 0)


@pytest.mark.parametrize(
    ("candidate", "reference", "says"), [(90, 20, "as many"), (20, 90, "fewer"), (30, 0, "as many")]
)
def test_far_more_accounts_flagged_or_far_fewer_are_a_broken_limit(candidate: int, reference: int, says: str) -> None:
    broken = Watched().see(flagging(candidate), flagging(reference))
    assert broken is not None
    assert broken.limit == "alerts"
    assert says in broken.why


def test_a_few_more_are_chance_and_less_than_twice_as_many_are_a_matter_of_taste() -> None:
    assert Watched().see(flagging(12), flagging(2)) is None
    assert Watched().see(flagging(180), flagging(100)) is None


def test_a_burst_of_one_account_counts_once() -> None:
    """Only the new one sees that it is being emptied."""
    assert Watched().see(flagging(60), flagging(0), accounts=[7] * 60 + list(range(100, 1_040))) is None


def test_little_traffic_is_looked_back_at_further() -> None:
    """Three times as many accounts at one transaction in two seconds: an hour shows it, and no window of seconds would."""
    watched = Watched()
    rows = [([0.6], [0.6]), ([0.6], [0.1]), ([0.6], [0.1])] + [([0.1], [0.1])] * 97
    broken = None
    for turn in range(1_500):
        candidate, reference = rows[turn % 100]
        broken = broken or watched.see(candidate, reference, accounts=[turn], after=2.0)
    assert broken is not None
    assert broken.limit == "alerts"


def test_much_traffic_is_forgotten_after_the_window() -> None:
    watched = Watched()
    watched.see(flagging(30, 2_000), flagging(30, 2_000))
    watched.see(flagging(30, 2_000), flagging(30, 2_000), after=31.0)
    assert watched.guard.figures["transactions"] == 2_000


def test_another_candidate_begins_with_a_clean_sheet() -> None:
    watched = Watched()
    assert watched.see(flagging(300), flagging(10), name="bad") is not None
    assert watched.see(flagging(10, 600), flagging(10, 600), name="good") is None
    assert watched.guard.figures["transactions"] == 600


def test_scores_that_lie_elsewhere_are_a_broken_limit_though_the_alerts_are_the_same() -> None:
    broken = Watched().see([0.005] * 500 + [0.4] * 500, [0.03] * 1_000)
    assert broken is not None
    assert broken.limit == "drift"


def test_of_too_few_transactions_nothing_is_said_of_where_scores_lie() -> None:
    watched = Watched()
    assert watched.see([0.4] * 199, [0.03] * 199) is None
    broken = watched.see([0.4], [0.03])
    assert broken is not None
    assert broken.limit == "drift"


def test_scores_of_no_suspicion_are_all_alike_and_a_little_more_is_little() -> None:
    assert Watched().see([0.0001] * 950 + [0.1] * 50, [0.004] * 950 + [0.1] * 50) is None
    assert Watched().see([0.019] * 1_000, [0.021] * 1_000) is None


def test_one_that_is_slow_must_go_unless_the_machine_is() -> None:
    slow, both = Watched(), Watched()
    broken = [slow.see(flagging(20), flagging(20), seconds=(0.4, 0.02)) for _ in range(25)]
    assert broken[0] is None, "once is a machine that stood still"
    assert broken[-1] is not None
    assert (broken[-1].limit, "400.0 ms" in broken[-1].why) == ("seconds", True)
    assert [both.see(flagging(20), flagging(20), seconds=(0.4, 0.3)) for _ in range(25)] == [None] * 25


@pytest.mark.parametrize(("failed", "goes"), [("new", True), ("old", False)])
def test_only_the_one_that_fails_is_accused(failed: str, goes: bool) -> None:
    trial = Trial(
        candidate="new",
        reference="old",
        shadow="new",
        opinions=None,
        accounts=[1],
        failed=failed,
        failure="Senseless: NaN",
    )
    broken = Guard(LIMITS).look(trial)
    assert (broken is not None) == goes
    if broken is not None:
        assert broken == Broken("failure", "it failed: Senseless: NaN")


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.002, 0.05))
def test_chance_alone_is_hardly_ever_held_against_it(seed: int, rate: float) -> None:
    """Two models that flag as much, each a fifth of it alone, looked at again and again."""
    random = np.random.default_rng(seed)
    watched = Watched()
    for _ in range(60):
        both, new, old = (random.random(500) < share * rate for share in (0.8, 0.2, 0.2))
        accounts = random.integers(0, 5_000, 500).tolist()
        candidate, reference = (np.where(both | own, 0.6, 0.01).tolist() for own in (new, old))
        assert watched.see(candidate, reference, accounts=accounts) is None


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_never_both_are_surely_more(many: int, few: int) -> None:
    assert not (surely_more(many, few) and surely_more(few, many))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_a_distribution_is_stable_against_itself_and_never_below_zero(one: Scores, other: Scores) -> None:
    a, b = histogram(one), histogram(other)
    assert a.sum() == pytest.approx(len(one))
    assert stability(a, a) == 0
    assert stability(a, b) >= 0


def test_a_score_is_shared_by_the_two_bins_it_lies_between() -> None:
    """A quarter of the way from the sixth of eleven bins to the seventh: log-odds reach from -5.29 to 5.29."""
    width = 2 * math.log(0.995 / 0.005) / 10
    counts = histogram([1 / (1 + math.exp(-width / 4))])
    assert counts.round(6).tolist() == [0, 0, 0, 0, 0, 0.75, 0.25, 0, 0, 0, 0]


def test_scores_of_no_suspicion_are_alike_and_so_are_those_of_no_doubt() -> None:
    assert histogram([0.0, 0.001, 0.005, 0.995, 1.0]).round(6).tolist() == [3, *[0] * 9, 2]
