"""What is known of labels: of each transaction the newest that was known, however often, late and in whatever order it is told.

Exactly so for the last labels, of which a profile keeps so many; of older ones frauds are counted by day, and never before
they were known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.catalogue import FEATURES, column
from features.profile import ACCOUNT, COUNTERPARTY
from tests.examples import examples
from tests.unit import oracle
from tests.unit.lives import (
    SMALL_ACCOUNT,
    SMALL_COUNTERPARTY,
    T0,
    Question,
    Step,
    account,
    counterparty,
)
from tests.unit.oracle import DAY, HOUR, MATURITY, Event, Told

FRAUDS = [name for name in FEATURES if "fraud" in name]
LATER = T0 + 60 * DAY


@dataclass
class EveryLabel(oracle.Account):
    """Forgets no label, and looks at all of them whenever it is asked."""

    heard: list[Told] = field(default_factory=list)

    def hear(self, label: Told) -> None:
        self.heard.append(label)

    def frauds_known(self, time: int) -> list[Told]:
        return oracle.frauds_known(self.heard, time)


@dataclass
class EveryLabelThere(oracle.Counterparty):
    """The same of a counterparty."""

    heard: list[Told] = field(default_factory=list)

    def hear(self, label: Told) -> None:
        self.heard.append(label)

    def frauds_known(self, time: int) -> list[Told]:
        return oracle.frauds_known(self.heard, time)


MOMENTS = sorted(
    {0, 1, HOUR, DAY - 1, DAY, MATURITY - 1, MATURITY, MATURITY + 1, 9 * DAY, 37 * DAY, 38 * DAY, 80 * DAY}
)
moments = st.sampled_from(MOMENTS) | st.integers(0, 50 * DAY)


@st.composite
def tellings(draw: st.DrawFn, most: int) -> list[Told]:
    """At most so many labels of few transactions, each told once or more often, in any order."""
    labels = draw(
        st.lists(
            st.builds(
                lambda ident, known, delay, fraud: Told(ident, T0 + known - delay, T0 + known, fraud),
                st.integers(0, 9),
                moments,
                moments,
                st.booleans(),
            ),
            min_size=1,
            max_size=most,
        )
    )
    again = draw(st.lists(st.sampled_from(labels), max_size=most))
    return draw(st.permutations(labels + again))


@st.composite
def lives(draw: st.DrawFn, most: int) -> list[Step]:
    """Labels, and questions between them and behind them: some come late."""
    told = draw(tellings(most))
    asked = draw(st.lists(st.tuples(st.integers(0, len(told)), moments), min_size=1, max_size=6))
    steps: list[Step] = []
    for place in range(len(told) + 1):
        steps += [Question(T0 + at) for where, at in asked if where == place]
        steps += told[place : place + 1]
    return [*steps, Question(T0 + draw(moments))]


def same(row: np.ndarray, by_hand: oracle.Vector) -> None:
    for name in FRAUDS:
        if name in by_hand:
            assert row[column(name)] == pytest.approx(np.float32(by_hand[name]), nan_ok=True), name


@examples(150)
@given(lives(20))
def test_an_accounts_frauds_are_those_of_all_that_was_told_whatever_the_order(life: list[Step]) -> None:
    steps = [Event(step.time, 1, 1_000 + at) if isinstance(step, Question) else step for at, step in enumerate(life)]
    walked = account(steps, replace(SMALL_ACCOUNT, labels=20))

    by_hand = EveryLabel(SMALL_ACCOUNT.events, 0, SMALL_ACCOUNT.horizon, SMALL_ACCOUNT.exact)
    row = 0
    for step in steps:
        if isinstance(step, Event):
            same(walked.vectors[row], by_hand.describe(step))
            by_hand.take(step)
            row += 1
        elif isinstance(step, Told):
            by_hand.hear(step)
    assert walked.fraud_days == {}


@examples(150)
@given(lives(20))
def test_so_are_a_counterpartys(life: list[Step]) -> None:
    walked = counterparty(life, replace(SMALL_COUNTERPARTY, labels=20))

    by_hand = EveryLabelThere(SMALL_COUNTERPARTY.events, 0, SMALL_COUNTERPARTY.horizon)
    row = 0
    for step in life:
        if isinstance(step, Question):
            same(walked.vectors[row], by_hand.describe(step.time, step.amount))
            row += 1
        elif isinstance(step, Told):
            by_hand.hear(step)


@examples(150)
@given(st.lists(st.tuples(moments, moments), min_size=4, max_size=30), st.lists(moments, min_size=1, max_size=5))
def test_beyond_those_that_are_kept_none_is_lost_and_none_is_seen_before_it_is_known(
    labels: list[tuple[int, int]], asked: list[int]
) -> None:
    """Each told once, more of them than are kept, and more days than are kept too."""
    told = [Told(ident, T0 + known - delay, T0 + known, True) for ident, (known, delay) in enumerate(labels)]
    moments = [T0 + at for at in asked] + [max(label.known for label in told)]
    walked = counterparty([*told, *map(Question, moments)], SMALL_COUNTERPARTY)

    counted = walked.told("counterparty_known_frauds")
    known = [sum(label.known <= at for label in told) for at in moments]
    assert all(count <= most for count, most in zip(counted, known, strict=True))
    assert counted[-1] == len(told)


# With as many as a profile keeps.


def frauds(count: int) -> list[Told]:
    """A fraud an hour, each known ten days later."""
    return [Told(ident, T0 + HOUR * ident, T0 + 10 * DAY + HOUR * ident, True) for ident in range(count)]


def known_frauds(*told: Told, at: int = LATER) -> float:
    of_account = account([*told, Event(at, 1, 9_999)]).told("account_known_frauds")[0]
    assert counterparty([*told, Question(at)]).told("counterparty_known_frauds") == [of_account]
    return of_account


@pytest.mark.parametrize("count", [1, 32, 33, 100, ACCOUNT.labels])
def test_a_label_that_is_told_again_counts_once(count: int) -> None:
    told = frauds(count)

    assert known_frauds(*told, *told, told[0], told[-1]) == count


@pytest.mark.parametrize("count", [1, 32, 33, 100, ACCOUNT.labels - 1])
def test_a_fraud_that_is_withdrawn_counts_no_more_and_the_others_stay(count: int) -> None:
    told = frauds(count)
    withdrawn = replace(told[0], known=T0 + 50 * DAY, fraud=False)

    assert known_frauds(*told, withdrawn) == count - 1
    assert known_frauds(*told, withdrawn, told[0]) == count - 1, "told again, the older one changes nothing"
    assert known_frauds(withdrawn, *told) == count - 1, "nor does it if it comes late"


def test_before_it_is_withdrawn_it_is_a_fraud() -> None:
    """A transaction sees no label that is known after it: neither that one was, nor that one was none after all."""
    (fraud,) = frauds(1)
    withdrawn = replace(fraud, known=T0 + 50 * DAY, fraud=False)

    assert known_frauds(fraud, withdrawn, at=T0 + 50 * DAY - 1) == 1
    assert known_frauds(fraud, withdrawn, at=T0 + 50 * DAY) == 0
    assert known_frauds(fraud, replace(fraud, known=T0 + 50 * DAY), at=T0 + 40 * DAY) == 1


@pytest.mark.parametrize("count", [3, ACCOUNT.labels, ACCOUNT.labels + 1, COUNTERPARTY.labels + 40])
def test_no_fraud_is_seen_before_it_is_known_however_many_are(count: int) -> None:
    told = frauds(count)
    first = told[0].known

    assert known_frauds(*told, at=first - 1) == 0
    assert math.isnan(account([*told, Event(first - 1, 1)]).told("account_since_fraud")[0])
    assert known_frauds(*told, at=told[-1].known) == count


def test_frauds_beyond_those_that_are_kept_count_in_the_window_of_their_day() -> None:
    told = frauds(COUNTERPARTY.labels + 48)
    asked = Question(T0 + 33 * DAY)
    walked = counterparty([*told, asked])

    by_hand = EveryLabelThere(COUNTERPARTY.events, 0, COUNTERPARTY.horizon)
    by_hand.heard = told
    assert walked.fraud_days
    assert walked.told("counterparty_matured_frauds_30d") == [
        by_hand.describe(asked.time)["counterparty_matured_frauds_30d"]
    ]


def test_a_withdrawal_of_one_that_fell_off_while_both_were_there_takes_it_along() -> None:
    """What holds no more when it falls is no fraud of its day."""
    first, *others = frauds(ACCOUNT.labels + 20)
    withdrawn = replace(first, known=others[5].known + 1, fraud=False)
    steps = sorted([first, withdrawn, *others], key=lambda one: one.known)

    assert known_frauds(*steps) == len(others)


def test_labels_in_the_order_of_partitions_leave_what_labels_in_the_order_of_time_do() -> None:
    """A past is loaded partition by partition: the counterparty hears of each from its beginning."""
    told = frauds(COUNTERPARTY.labels + 100)
    random = Random(1)
    home = {one.ident: random.randrange(4) for one in told}
    parts = [[one for one in told if home[one.ident] == part] for part in range(4)]
    swept = counterparty([one for part in parts for one in part])

    in_time = counterparty(list(told))
    assert swept.labels == in_time.labels
    assert sum(count for count, _ in swept.fraud_days.values()) == sum(
        count for count, _ in in_time.fraud_days.values()
    )
