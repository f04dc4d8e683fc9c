"""The kernel says of every sequence of events what a calculation by hand says."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate, pairwise
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import kernel
from features.catalogue import column
from features.profile import ACCOUNT, COUNTERPARTY
from tests.examples import examples
from tests.unit import oracle
from tests.unit.lives import (
    EDGES,
    LARGEST,
    SMALL_ACCOUNT,
    SMALL_COUNTERPARTY,
    SMALL_SEEN,
    T0,
    Question,
    Step,
    Walked,
    account,
    counterparty,
    lives_of_accounts,
    lives_of_counterparties,
)
from tests.unit.oracle import DAY, FINEST, HOUR, MATURITY, REACH, SECOND, SETTLING, Event, Told

ROUNDED = ("spread", "deviation", "speed")
"""Features with a root in them, or with a sum of squares that is rounded on the way."""


def check(vector: npt.NDArray[np.float32], by_hand: oracle.Vector) -> None:
    """Every feature to the bit; but for those with a root in them."""
    for name, expected in by_hand.items():
        told = float(vector[column(name)])
        if any(word in name for word in ROUNDED):
            assert math.isnan(told) == math.isnan(expected), name
            assert math.isnan(told) or math.isclose(told, expected, rel_tol=1e-3, abs_tol=1e-2), (name, expected, told)
        else:
            assert np.float32(expected).tobytes() == np.float32(told).tobytes(), (name, expected, told)


def check_kept(walked: Walked, by_hand: oracle.Profile) -> None:
    """The profile holds what it promises, and nothing else."""
    assert walked.ring == [(event.time, event.amount) for event in by_hand.ring]
    assert walked.tiles == [
        (
            tile.newest,
            len(tile.events),
            sum(e.amount for e in tile.events),
            max(e.amount for e in tile.events),
            *of_account(tile.events, isinstance(by_hand, oracle.Account)),
        )
        for tile in by_hand.tiles
    ]
    assert walked.labels == by_hand.labels
    assert walked.fraud_days == by_hand.fraud_days
    assert walked.profiles.rows.head["total"][0] == by_hand.total
    if isinstance(by_hand, oracle.Account):
        kinds = [(kind, seen.last) for kind, seen in enumerate(by_hand.seen.values())]
        assert walked.profiles.rows.habits[0].tolist() == by_hand.hours.counts + by_hand.weekdays.counts
        assert walked.seen == {(kind, name): last for kind, seen in kinds for name, last in seen.items()}
    for tile in by_hand.tiles:
        for event in tile.events:
            too_young = tile.newest - event.time
            assert too_young < FINEST or 8 * too_young < by_hand.newest - event.time


def of_account(events: list[Event], it_is: bool) -> tuple[int, ...]:
    """How many had which trait, how many a ratio, and the sum of these."""
    if not it_is:
        ratios = [event.ratio for event in events]
        return 0, 0, 0, sum(map(bool, ratios)), sum(ratios)
    traits = zip(*((event.far_above, event.hour <= 6, event.below_round) for event in events), strict=True)
    return (*map(sum, traits), 0, 0)


def small_account() -> oracle.Account:
    return oracle.Account(
        SMALL_ACCOUNT.events,
        SMALL_ACCOUNT.labels,
        SMALL_ACCOUNT.horizon,
        SMALL_ACCOUNT.exact,
        most_days=3,
        most_seen=SMALL_SEEN,
    )


@examples(150)
@given(lives_of_accounts())
def test_an_account_is_described_as_by_hand(life: list[Event | Told]) -> None:
    walked = account(life, SMALL_ACCOUNT)

    by_hand = small_account()
    row = 0
    for step in life:
        if isinstance(step, Told):
            by_hand.hear(step)
            continue
        late, described = by_hand.is_late(step.time), by_hand.describe(step)
        status = by_hand.meet(step)
        assert walked.status[row] == status
        if status == oracle.NEW:
            assert walked.late[row] == late
            check(walked.vectors[row], described)
        row += 1
    check_kept(walked, by_hand)


@examples(150)
@given(lives_of_counterparties())
def test_a_counterparty_is_described_as_by_hand(life: list[Step]) -> None:
    walked = counterparty(life, SMALL_COUNTERPARTY)

    by_hand = oracle.Counterparty(
        SMALL_COUNTERPARTY.events, SMALL_COUNTERPARTY.labels, SMALL_COUNTERPARTY.horizon, most_days=3
    )
    row = 0
    for step in life:
        if isinstance(step, Question):
            check(walked.vectors[row], by_hand.describe(step.time, step.amount))
            row += 1
        elif isinstance(step, Told):
            by_hand.hear(step)
        else:
            by_hand.fold(step)
    check_kept(walked, by_hand)


@examples(60)
@given(st.lists(st.integers(0, 3 * HOUR) | st.sampled_from(EDGES), min_size=20, max_size=80), st.integers(2, 5))
def test_tiles_give_way_to_each_other_and_lose_nothing(gaps: list[int], room: int) -> None:
    shape = replace(ACCOUNT, events=2, labels=1, exact=9_000 * DAY, horizon=10_000 * DAY, tiles=room)
    times = list(accumulate(gaps, initial=T0))
    walked = account([Event(time, 7, ident) for ident, time in enumerate(times)], shape)

    by_hand = oracle.Account(2, 1, shape.horizon, shape.exact, most_tiles=room)
    for time in times:
        by_hand.fold(Event(time, 7))
    assert sum(tile[1] for tile in walked.tiles) + len(walked.ring) == len(times)
    assert len(walked.tiles) <= room
    assert [tile[:2] for tile in walked.tiles] == [(tile.newest, len(tile.events)) for tile in by_hand.tiles]


# The edges, one by one.


@pytest.mark.parametrize(("window", "span"), oracle.WINDOWS.items())
def test_a_payment_leaves_an_accounts_window_when_it_is_as_old_as_the_window_is_wide(window: str, span: int) -> None:
    for age, inside in ((0, True), (span - 1, True), (span, False)):
        walked = account([Event(T0, 500, 1), Event(T0 + age, 0, 2)])

        assert walked.told(f"account_count_{window}")[1] == inside
        assert walked.told(f"account_sum_{window}")[1] == 500 * inside


@pytest.mark.parametrize(("window", "span"), oracle.WINDOWS.items())
def test_a_payment_is_in_a_counterpartys_window_from_two_seconds_on(window: str, span: int) -> None:
    for age, inside in ((0, False), (SETTLING - 1, False), (SETTLING, True), (span - 1, True), (span, False)):
        walked = counterparty([Event(T0, 500), Question(T0 + age)])

        assert walked.told(f"counterparty_count_{window}") == [inside]


AGES = (
    st.integers(SETTLING, REACH)
    | st.integers(REACH, 60 * DAY)
    | st.sampled_from([edge + d for edge in (*EDGES, COUNTERPARTY.horizon) for d in (-1, 0, 1)])
)


@examples(100)
@given(st.lists(AGES, max_size=3), st.lists(st.integers(0, SETTLING - 1), min_size=1, max_size=3))
def test_what_a_counterparty_is_told_hangs_on_no_payment_that_has_not_settled(
    settled: list[int], unsettled: list[int]
) -> None:
    """A replay knows of them, and a worker may or may not: their vectors are the same."""
    past = [Event(T0 - age, 500 + age % 1_000) for age in settled]
    just_now = [Event(T0 - age, 70) for age in unsettled]
    asked = Question(T0)

    assert counterparty([*past, asked]).vectors.tobytes() == counterparty([*past, *just_now, asked]).vectors.tobytes()


@pytest.mark.parametrize(("window", "span"), oracle.MATURED_WINDOWS.items())
def test_a_payment_is_matured_when_its_label_may_be_expected(window: str, span: int) -> None:
    for age, inside in ((MATURITY - 1, False), (MATURITY, True), (MATURITY + span - 1, True), (MATURITY + span, False)):
        walked = counterparty([Event(T0, 500), Told(1, T0, T0 + DAY, True), Question(T0 + age)])

        assert walked.told(f"counterparty_matured_count_{window}") == [inside]
        assert walked.told(f"counterparty_matured_frauds_{window}") == [inside]


@pytest.mark.parametrize(("window", "span"), oracle.WINDOWS.items())
def test_in_a_tile_a_payment_leaves_an_accounts_window_as_it_would_in_the_ring(window: str, span: int) -> None:
    room_for_one = replace(ACCOUNT, events=1, labels=1)
    for age, inside in ((span - 1, True), (span, False)):
        walked = account([Event(T0, 500, 1), Event(T0 + age, 0, 2), Event(T0 + age, 0, 3)], room_for_one)

        assert walked.tiles[0][0] == T0
        assert walked.told(f"account_sum_{window}")[2] == 500 * inside
        assert walked.told(f"account_count_{window}")[2] == inside + 1


@pytest.mark.parametrize(("window", "span"), oracle.MATURED_WINDOWS.items())
def test_in_a_tile_a_payment_matures_as_it_would_in_the_ring(window: str, span: int) -> None:
    room_for_one = replace(COUNTERPARTY, events=1, labels=1)
    for age in (SETTLING - 1, SETTLING, span - 1, span, MATURITY - 1, MATURITY, MATURITY + span - 1, MATURITY + span):
        walked = counterparty([Event(T0, 500), Event(T0 + 39 * DAY // 2, 0), Question(T0 + age)], room_for_one)
        in_ring = counterparty([Event(T0, 500), Event(T0 + 39 * DAY // 2, 0), Question(T0 + age)])

        assert walked.tiles[0][0] == T0
        for name in ("counterparty_count_30d", f"counterparty_matured_count_{window}"):
            assert walked.told(name) == in_ring.told(name)


def test_a_burst_sees_itself_and_no_payment_sees_itself() -> None:
    walked = account([Event(T0, 100, ident) for ident in range(4)])

    assert walked.told("account_count_1h") == [0, 1, 2, 3]
    assert walked.told("account_since_last")[1:] == [0, 0, 0]


def test_a_late_payment_sees_what_was_before_it_and_is_seen_by_what_comes_after() -> None:
    walked = account([Event(T0, 100, 1), Event(T0 - HOUR, 30, 2), Event(T0 + 1, 5, 3)])

    assert walked.late.tolist() == [0, 1, 0]
    assert walked.told("account_sum_24h") == [0, 0, 130]
    assert walked.told("account_count_1h") == [0, 0, 1]


def test_a_payment_that_says_nothing_new_is_a_duplicate_and_one_that_does_has_a_used_id() -> None:
    life = [Event(T0, 100, 1, content=7), Event(T0 + 1, 100, 1, content=7), Event(T0 + 2, 100, 1, content=8)]
    walked = account([*life, Event(T0 + 3, 1, 2)])

    assert walked.status.tolist() == [kernel.NEW, kernel.DUPLICATE, kernel.ID_REUSED, kernel.NEW]
    assert walked.told("account_count_1h")[3] == 1


def test_an_id_that_the_ring_has_forgotten_is_a_new_transaction() -> None:
    others = [Event(T0 + ident, 1, ident) for ident in range(1, ACCOUNT.events)]
    again = Event(T0, 100, 0)

    assert account([again, *others, again]).status[-1] == kernel.DUPLICATE
    assert account([again, *others, Event(T0 + HOUR, 1, 999), again]).status[-1] == kernel.NEW


@pytest.mark.parametrize(
    ("labels", "frauds"),
    [
        ([Told(1, T0, T0 + HOUR, True)], 1),
        ([Told(1, T0, T0 + DAY, True)], 1),
        ([Told(1, T0, T0 + DAY + 1, True)], 0),  # known only afterwards
        ([Told(1, T0, T0 + HOUR, True), Told(1, T0, T0 + 2 * HOUR, False)], 0),  # taken back
        ([Told(1, T0, T0 + 2 * HOUR, False), Told(1, T0, T0 + HOUR, True)], 0),  # heard in the other order
        ([Told(1, T0, T0 + HOUR, False), Told(1, T0, T0 + HOUR, True)], 1),  # of two known at once the last heard
        ([Told(1, T0, T0 + HOUR, True), Told(1, T0, T0 + HOUR, True)], 1),
        ([Told(1, T0, T0 + HOUR, True), Told(2, T0, T0 + HOUR, True)], 2),
        ([Told(77, T0, T0 + HOUR, True)], 1),  # of a transaction that nobody saw
    ],
)
def test_the_newest_label_holds_once_it_is_known(labels: list[Told], frauds: int) -> None:
    payment, question = Event(T0, 500, 1), Event(T0 + DAY, 1, 99)
    lives: list[list[Event | Told]] = [[payment, *labels, question], [*labels, payment, question]]
    for life in lives:
        assert account(life).told("account_known_frauds")[-1] == frauds


def test_a_counterpartys_fraud_counts_from_when_it_is_known() -> None:
    life: list[Step] = [Event(T0, 500), Told(1, T0, T0 + 9 * DAY, True)]
    walked = counterparty([*life, Question(T0 + 9 * DAY - 1), Question(T0 + 9 * DAY)])

    assert walked.told("counterparty_matured_frauds_7d") == [0, 1]
    assert walked.told("counterparty_fraud_rate_7d") == [0, 1]


def test_an_account_never_seen_has_counts_of_zero_and_no_means() -> None:
    walked = account([Event(T0, 100)])

    for window in oracle.WINDOWS:
        assert walked.told(f"account_count_{window}") == [0]
        assert math.isnan(walked.told(f"account_mean_{window}")[0])
    assert math.isnan(walked.told("account_since_last")[0])
    assert math.isnan(walked.told("amount_deviation_30d")[0])


def test_equal_payments_have_no_spread_to_measure_another_by() -> None:
    walked = account([Event(T0 + ident, 1_234_567, ident) for ident in range(50)] + [Event(T0 + 99, 2_000_000, 99)])

    assert math.isnan(walked.told("amount_deviation_30d")[-1])
    assert walked.told("amount_to_account_mean_30d")[-1] == pytest.approx(2_000_000 / 1_234_567)


@pytest.mark.parametrize("about", [1_000_000, LARGEST // 4_096])
def test_squares_are_added_up_as_floats_would_add_them_cell_by_cell(about: int) -> None:
    random = Random(8)
    ages = sorted(random.randrange(DAY, 30 * DAY) for _ in range(150))
    amounts = [about + random.randrange(about // 5_000) for _ in ages]
    before = [Event(T0 - age, amount, ident) for ident, (age, amount) in enumerate(zip(ages, amounts, strict=True))]
    edges = [DAY, 7 * DAY, 8 * DAY, 9 * DAY, 11 * DAY, 14 * DAY, 21 * DAY, 30 * DAY]

    squares = 0.0
    for youngest, oldest in pairwise(edges):
        cell = 0.0
        for age, amount in zip(ages, amounts, strict=True):
            cell += float(amount) ** 2 if youngest <= age < oldest else 0.0
        squares += cell
    mean = sum(amounts) / len(amounts)

    spread = np.float32(math.sqrt(squares / len(amounts) - mean * mean))
    assert account([*before[::-1], Event(T0, 1, 999)]).told("account_spread_30d")[-1] == spread
    assert counterparty([*before[::-1], Question(T0, 1)]).told("counterparty_spread_30d")[-1] == spread


def test_payments_of_nothing_have_no_mean_to_compare_with() -> None:
    walked = account([Event(T0, 0, 1), Event(T0 + 1, 100, 2)])

    assert walked.told("account_mean_1h")[1] == 0
    assert math.isnan(walked.told("amount_to_account_mean_30d")[1])


# Many events.


def test_of_a_hundred_thousand_payments_none_is_lost_and_each_counts_in_its_window() -> None:
    random = Random(1)
    lateness = 20 * 60 * SECOND
    times = [T0 + round(60 * DAY * i / 100_000) - random.randrange(lateness) for i in range(100_000)]
    amounts = [random.randrange(10_000) for _ in times]
    walked = account([Event(*one, ident) for ident, one in enumerate(zip(times, amounts, strict=True))])

    def old(time: int, span: int) -> int:
        """Older than this, a payment in a tile can't count as younger than `span`: an eighth of its age, or a tile's width."""
        return time - max(span + FINEST, (8 * span + lateness) // 7 + 1)

    newest = max(times)
    kept = sum(tile[1] for tile in walked.tiles) + len(walked.ring)
    assert sum(newest - time < ACCOUNT.horizon for time in times) <= kept
    assert kept <= sum(time > old(newest, ACCOUNT.horizon) for time in times)
    assert len(walked.tiles) < ACCOUNT.tiles
    for row in random.sample(range(50_000, 100_000), 30):
        before = sorted(zip(times[:row], amounts[:row], strict=True))
        ordered = [time for time, _ in before]
        sums = [0, *accumulate(amount for _, amount in before)]
        end = bisect_right(ordered, times[row])
        for window, span in oracle.WINDOWS.items():
            exactly = bisect_right(ordered, times[row] - span)
            widened = bisect_right(ordered, old(times[row], span))
            count, total, mean, most = walked.vectors[row][column(f"account_count_{window}") :][:4].tolist()
            assert end - exactly <= count <= end - widened
            assert sums[end] - sums[exactly] <= total * (1 + 1e-6) <= (sums[end] - sums[widened]) * (1 + 2e-6)
            assert mean == pytest.approx(total / count)
            assert most >= max(amount for _, amount in before[exactly:end])
            assert window != "1h" or count == end - exactly  # so far the ring reaches


def test_a_busy_account_is_described_as_by_hand() -> None:
    random = Random(2)
    time, life = T0, []
    for ident in range(2_500):
        time += random.choice([0, 1, SECOND, HOUR // 7, HOUR]) if random.random() < 0.97 else 2 * DAY
        at = time - random.choice([0, 0, 0, 90 * SECOND, 3 * DAY])
        life.append(
            Event(
                at,
                random.randrange(5_000),
                ident,
                hour=random.randrange(24),
                counterparty=random.randrange(90),
                device=ident // 300,
            )
        )
    walked = account(life)

    by_hand = oracle.Account(ACCOUNT.events, ACCOUNT.labels, ACCOUNT.horizon, ACCOUNT.exact)
    for row, event in enumerate(life):
        if row % 25 == 0:
            check(walked.vectors[row], by_hand.describe(event))
        by_hand.take(event)
    check_kept(walked, by_hand)
    assert len(walked.tiles) > 10


def test_a_busy_counterparty_is_described_as_by_hand() -> None:
    random = Random(3)
    time, life = T0, list[Step]()
    for ident in range(4_000):
        time += random.choice([0, 1, SECOND, HOUR // 3, HOUR])
        life.append(Event(time, random.randrange(5_000), content=ident % 300, ratio=random.choice([0, 700])))
        if ident % 9 == 0:
            life.append(Told(ident, time, time + random.randrange(9 * DAY), random.random() < 0.7))
        if ident % 40 == 0:
            life.append(Question(time + random.choice([0, SETTLING, HOUR, DAY])))
    walked = counterparty(life, replace(COUNTERPARTY, labels=128))

    by_hand = oracle.Counterparty(COUNTERPARTY.events, 128, COUNTERPARTY.horizon)
    row = 0
    for step in life:
        if isinstance(step, Question):
            check(walked.vectors[row], by_hand.describe(step.time, step.amount))
            row += 1
        elif isinstance(step, Told):
            by_hand.hear(step)
        else:
            by_hand.fold(step)
    check_kept(walked, by_hand)
    assert by_hand.fraud_days


def test_tiles_never_have_to_give_way_before_the_horizon() -> None:
    """A payment every half minute: a tile in every cell there is."""
    times = [T0 + 30 * SECOND * i for i in range(COUNTERPARTY.horizon // (30 * SECOND) + 5_000)]
    walked = counterparty([Event(time, 1) for time in times], replace(COUNTERPARTY, events=2, labels=1))

    assert 100 < len(walked.tiles) < COUNTERPARTY.tiles


def test_a_dormant_profile_forgets_its_tiles_however_long_it_slept() -> None:
    life = [Event(T0 + HOUR * ident, 100, ident) for ident in range(ACCOUNT.events + 50)]
    asleep = [Event(T0 + 12 * 365 * DAY, 1, 9_999)]

    assert account(life).tiles
    assert account(life + asleep).tiles == []
    assert len(account(life + asleep).ring) == 1


def test_sums_beyond_all_money_end_at_a_ceiling() -> None:
    walked = account([Event(T0 + DAY * (ident // 50_000), LARGEST, ident) for ident in range(150_000)])

    for window in ("7d", "30d"):
        sums = walked.told(f"account_sum_{window}")
        assert sums == sorted(sums)
        assert sums[-1] >= 2.0**61
    assert min(tile[2] for tile in walked.tiles) > 0
