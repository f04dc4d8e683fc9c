"""Reasons may take a share of the time, however many are asked for."""

from __future__ import annotations

import pytest

from streaming.budget import MOST, Budget


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def spend(budget: Budget, clock: Clock, each: float) -> float:
    """All that is left, in steps of so many seconds: how many in all.  A budget that has no end is found out."""
    for steps in range(10_000):
        if not budget.is_left():
            return steps * each
        with budget.spending():
            clock.now += each
    raise AssertionError(f"after {10_000 * each:.0f} s there is still some left")


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_a_worker_that_always_has_more_to_explain_spends_its_share(share: float) -> None:
    clock = Clock()
    budget, spent = Budget(share, clock=clock), 0.0
    for _ in range(5_000):
        clock.now += 0.01  # verdicts
        spent += spend(budget, clock, 0.003)

    assert spent / (clock.now - 100.0) == pytest.approx(share, rel=0.02)


def test_what_is_saved_up_is_little() -> None:
    clock = Clock()
    budget = Budget(0.1, clock=clock)
    clock.now += 3_600.0
    spent = spend(budget, clock, 0.001)

    assert MOST <= spent < 1.2 * MOST


def test_no_share_is_nothing_and_all_is_all() -> None:
    clock = Clock()
    nothing, everything = Budget(0.0, clock=clock), Budget(1.0, clock=clock)
    for _ in range(5):
        with everything.spending():
            clock.now += 1.0
        assert everything.is_left()
        assert not nothing.is_left()
