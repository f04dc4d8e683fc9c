"""The kernel says of every sequence of events what a calculation by hand says."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import kernel
from features.catalogue import FEATURES, column
from features.profile import ACCOUNT, COUNTERPARTY, Profiles, Shape
from schemas.wire import microseconds
from tests.builders import NOON
from tests.examples import examples
from tests.unit import oracle
from tests.unit.oracle import DAY, FINEST, HOUR, MATURITY, SECOND, SETTLING, Event, Told

T0 = microseconds(NOON)
SMALL_ACCOUNT = Shape(events=5, labels=3, horizon=ACCOUNT.horizon, fraud_days=3)
SMALL_COUNTERPARTY = Shape(events=5, labels=3, horizon=COUNTERPARTY.horizon, fraud_days=3)
LARGEST = 2**47 - 1


@dataclass(frozen=True)
class Question:
    """What is known of you at this moment?"""

    time: int


Step = Event | Told | Question


@dataclass
class Walked:
    """What the kernel made of the steps of one profile."""

    vectors: npt.NDArray[np.float32]
    """A row for each event of an account, each question to a counterparty."""
    status: npt.NDArray[np.int8]
    late: npt.NDArray[np.int8]
    profiles: Profiles

    def told(self, name: str) -> list[float]:
        values: list[float] = self.vectors[:, column(name)].tolist()
        return values

    @property
    def ring(self) -> list[tuple[int, int]]:
        events = self.profiles.events[0, : self.profiles.head["events"][0]]
        return list(zip(events["time"].tolist(), events["amount"].tolist(), strict=True))

    @property
    def tiles(self) -> list[tuple[int, int, int, int]]:
        tiles = self.profiles.tiles[0, : self.profiles.head["tiles"][0]]
        return [tuple(tile) for tile in tiles[["newest", "count", "sum", "max"]].tolist()]

    @property
    def labels(self) -> list[Told]:
        labels = self.profiles.labels[0, : self.profiles.head["labels"][0]]
        return [Told(ident, occurred, known, bool(fraud)) for ident, occurred, known, fraud in labels.tolist()]

    @property
    def fraud_days(self) -> dict[int, int]:
        return dict(self.profiles.fraud_days[0, : self.profiles.head["fraud_days"][0]].tolist())


def account(steps: Sequence[Event | Told], shape: Shape = ACCOUNT) -> Walked:
    """All steps of one account in one batch, each transaction described."""
    profiles = Profiles.room_for(1, shape)
    n = len(steps)
    events = [i for i, step in enumerate(steps) if isinstance(step, Event)]
    told = np.full(n, kernel.UNTOLD, np.int64)
    told[events] = np.arange(len(events))
    status, late = np.zeros(n, np.int8), np.zeros(n, np.int8)
    vectors = np.full((len(events), len(FEATURES)), -1, np.float32)
    kernel.walk_accounts(
        np.array([kernel.TRANSACTION if isinstance(step, Event) else kernel.LABEL for step in steps], np.int8),
        np.zeros(n, np.int64),
        np.array([step.time if isinstance(step, Event) else step.occurred for step in steps], np.int64),
        np.array([step.amount if isinstance(step, Event) else 0 for step in steps], np.int64),
        np.array([step.ident for step in steps], np.uint64),
        np.array([step.content if isinstance(step, Event) else 0 for step in steps], np.uint32),
        np.array([step.known if isinstance(step, Told) else 0 for step in steps], np.int64),
        np.array([isinstance(step, Told) and step.fraud for step in steps], np.int8),
        np.arange(n, dtype=np.int64),
        told,
        shape.horizon,
        profiles.head,
        profiles.events,
        profiles.tiles,
        profiles.labels,
        profiles.fraud_days,
        vectors,
        status,
        late,
    )
    return Walked(vectors, status[events], late[events], profiles)


def counterparty(steps: Sequence[Step], shape: Shape = COUNTERPARTY) -> Walked:
    """All steps of one counterparty in one batch."""
    profiles = Profiles.room_for(1, shape)
    n = len(steps)
    questions = [i for i, step in enumerate(steps) if isinstance(step, Question)]
    told = np.full(n, kernel.UNTOLD, np.int64)
    told[questions] = np.arange(len(questions))
    vectors = np.full((len(questions), len(FEATURES)), -1, np.float32)
    kinds = {Event: kernel.PAYMENT, Told: kernel.PAYMENT_LABEL, Question: kernel.QUESTION}
    kernel.walk_counterparties(
        np.array([kinds[type(step)] for step in steps], np.int8),
        np.zeros(n, np.int64),
        np.array([step.occurred if isinstance(step, Told) else step.time for step in steps], np.int64),
        np.array([step.amount if isinstance(step, Event) else 0 for step in steps], np.int64),
        np.array([step.ident if isinstance(step, Told) else 0 for step in steps], np.uint64),
        np.array([step.ident if isinstance(step, Event) else 0 for step in steps], np.uint64),
        np.array([step.known if isinstance(step, Told) else 0 for step in steps], np.int64),
        np.array([isinstance(step, Told) and step.fraud for step in steps], np.int8),
        np.arange(n, dtype=np.int64),
        told,
        shape.horizon,
        profiles.head,
        profiles.events,
        profiles.tiles,
        profiles.labels,
        profiles.fraud_days,
        vectors,
    )
    nothing = np.zeros(0, np.int8)
    return Walked(vectors, nothing, nothing, profiles)


def check(vector: npt.NDArray[np.float32], by_hand: oracle.Vector) -> None:
    """Every feature to the bit; but for the one with a root in it, whose sum of squares is rounded on the way."""
    for name, expected in by_hand.items():
        told = float(vector[column(name)])
        if name == "amount_deviation_30d":
            assert math.isnan(told) == math.isnan(expected), name
            assert math.isnan(told) or math.isclose(told, expected, rel_tol=1e-3, abs_tol=1e-6), name
        else:
            assert np.float32(expected).tobytes() == np.float32(told).tobytes(), (name, expected, told)


def check_kept(walked: Walked, by_hand: oracle.Profile) -> None:
    """The profile holds what it promises, and nothing else."""
    assert walked.ring == [(event.time, event.amount) for event in by_hand.ring]
    assert walked.tiles == [
        (tile.newest, len(tile.events), sum(e.amount for e in tile.events), max(e.amount for e in tile.events))
        for tile in by_hand.tiles
    ]
    assert walked.labels == by_hand.labels
    assert walked.fraud_days == by_hand.fraud_days
    assert walked.profiles.head["total"][0] == by_hand.total
    for tile in by_hand.tiles:
        for event in tile.events:
            too_young = tile.newest - event.time
            assert too_young < FINEST or 8 * too_young < by_hand.newest - event.time


# What may happen.  Most moments lie at the edge of a window from one before.

WIDTHS = [SECOND, SETTLING, FINEST, HOUR, DAY, 7 * DAY, 14 * DAY, 30 * DAY, 37 * DAY]
WIDTHS += [ACCOUNT.horizon, COUNTERPARTY.horizon]
EDGES = sorted({0} | {width + d for width in WIDTHS for d in (-1, 0, 1)})
onwards = st.sampled_from(EDGES) | st.integers(0, 2 * HOUR) | st.integers(0, 40 * DAY)
amounts = st.sampled_from([0, 1, 350, 350, 99_999, LARGEST]) | st.integers(0, 10_000)


@st.composite
def moments(draw: st.DrawFn, most: int = 40) -> list[int]:
    """Each so long after, or now and then before, one of those before it."""
    times = [T0]
    for _ in range(draw(st.integers(0, most - 1))):
        age = draw(onwards)
        times.append(draw(st.sampled_from(times[-6:])) + (age if draw(st.integers(0, 4)) else -age))
    return times


@st.composite
def lives_of_accounts(draw: st.DrawFn) -> list[Event | Told]:
    """Transactions with ids that come again, labels before and after them, taken back and repeated."""
    steps: list[Event | Told] = []
    for time in draw(moments()):
        ident = draw(st.integers(0, 30))
        if draw(st.integers(0, 3)):
            steps.append(Event(time, draw(amounts), ident, draw(st.integers(0, 1))))
        else:
            steps.append(Told(ident, draw(st.sampled_from([time, T0])), time, draw(st.booleans())))
    return steps


@st.composite
def lives_of_counterparties(draw: st.DrawFn) -> list[Step]:
    """Payments, labels and questions."""
    steps: list[Step] = []
    for time in draw(moments(60)):
        kind = draw(st.integers(0, 4))
        if kind < 2:
            steps.append(Event(time, draw(amounts), draw(st.integers(0, 9))))
        elif kind < 3:
            occurred = time - draw(st.sampled_from([0, DAY, MATURITY - 1, MATURITY, MATURITY + 1, 14 * DAY]))
            steps.append(Told(draw(st.integers(0, 9)), occurred, time, draw(st.booleans())))
        else:
            steps.append(Question(time))
    return steps


@examples(250)
@given(lives_of_accounts())
def test_an_account_is_described_as_by_hand(life: list[Event | Told]) -> None:
    walked = account(life, SMALL_ACCOUNT)

    by_hand = oracle.Account(SMALL_ACCOUNT.events, SMALL_ACCOUNT.labels, SMALL_ACCOUNT.horizon, most_days=3)
    row = 0
    for step in life:
        if isinstance(step, Told):
            by_hand.hear(step)
            continue
        late, described = by_hand.is_late(step.time), by_hand.describe(step.time, step.amount)
        status = by_hand.meet(step)
        assert walked.status[row] == status
        if status == oracle.NEW:
            assert walked.late[row] == late
            check(walked.vectors[row], described)
        row += 1
    check_kept(walked, by_hand)


@examples(250)
@given(lives_of_counterparties())
def test_a_counterparty_is_described_as_by_hand(life: list[Step]) -> None:
    walked = counterparty(life, SMALL_COUNTERPARTY)

    by_hand = oracle.Counterparty(
        SMALL_COUNTERPARTY.events, SMALL_COUNTERPARTY.labels, SMALL_COUNTERPARTY.horizon, most_days=3
    )
    row = 0
    for step in life:
        if isinstance(step, Question):
            check(walked.vectors[row], by_hand.describe(step.time))
            row += 1
        elif isinstance(step, Told):
            by_hand.hear(step)
        else:
            by_hand.fold(step)
    check_kept(walked, by_hand)


@examples(60)
@given(st.lists(st.integers(0, 3 * HOUR) | st.sampled_from(EDGES), min_size=20, max_size=80), st.integers(2, 5))
def test_tiles_give_way_to_each_other_and_lose_nothing(gaps: list[int], room: int) -> None:
    shape = Shape(events=2, labels=1, horizon=10_000 * DAY, tiles=room)
    times = list(accumulate(gaps, initial=T0))
    walked = account([Event(time, 7, ident) for ident, time in enumerate(times)], shape)

    by_hand = oracle.Account(2, 1, shape.horizon, most_tiles=room)
    for time in times:
        by_hand.fold(Event(time, 7))
    assert sum(count for _, count, _, _ in walked.tiles) + len(walked.ring) == len(times)
    assert len(walked.tiles) <= room
    assert [tile[:2] for tile in walked.tiles] == [(tile.newest, len(tile.events)) for tile in by_hand.tiles]


# The edges, one by one.


@pytest.mark.parametrize(("window", "span"), oracle.ACCOUNT_WINDOWS.items())
def test_a_payment_leaves_an_accounts_window_when_it_is_as_old_as_the_window_is_wide(window: str, span: int) -> None:
    for age, inside in ((0, True), (span - 1, True), (span, False)):
        walked = account([Event(T0, 500, 1), Event(T0 + age, 0, 2)])

        assert walked.told(f"account_count_{window}")[1] == inside
        assert walked.told(f"account_sum_{window}")[1] == 500 * inside


@pytest.mark.parametrize(("window", "span"), oracle.COUNTERPARTY_WINDOWS.items())
def test_a_payment_is_in_a_counterpartys_window_from_two_seconds_on(window: str, span: int) -> None:
    for age, inside in ((0, False), (SETTLING - 1, False), (SETTLING, True), (span - 1, True), (span, False)):
        walked = counterparty([Event(T0, 500), Question(T0 + age)])

        assert walked.told(f"counterparty_count_{window}") == [inside]


@pytest.mark.parametrize(("window", "span"), oracle.COUNTERPARTY_WINDOWS.items())
def test_a_payment_is_matured_when_its_label_may_be_expected(window: str, span: int) -> None:
    for age, inside in ((MATURITY - 1, False), (MATURITY, True), (MATURITY + span - 1, True), (MATURITY + span, False)):
        walked = counterparty([Event(T0, 500), Told(1, T0, T0 + DAY, True), Question(T0 + age)])

        assert walked.told(f"counterparty_matured_count_{window}") == [inside]
        assert walked.told(f"counterparty_matured_frauds_{window}") == [inside]


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

    for window in oracle.ACCOUNT_WINDOWS:
        assert walked.told(f"account_count_{window}") == [0]
        assert math.isnan(walked.told(f"account_mean_{window}")[0])
    assert math.isnan(walked.told("account_since_last")[0])
    assert math.isnan(walked.told("amount_deviation_30d")[0])


def test_equal_payments_have_no_spread_to_measure_another_by() -> None:
    walked = account([Event(T0 + ident, 1_234_567, ident) for ident in range(50)] + [Event(T0 + 99, 2_000_000, 99)])

    assert math.isnan(walked.told("amount_deviation_30d")[-1])
    assert walked.told("amount_to_account_mean_30d")[-1] == pytest.approx(2_000_000 / 1_234_567)


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
    kept = sum(count for _, count, _, _ in walked.tiles) + len(walked.ring)
    assert sum(newest - time < ACCOUNT.horizon for time in times) <= kept
    assert kept <= sum(time > old(newest, ACCOUNT.horizon) for time in times)
    assert len(walked.tiles) < ACCOUNT.tiles
    for row in random.sample(range(50_000, 100_000), 60):
        before = sorted(zip(times[:row], amounts[:row], strict=True))
        ordered = [time for time, _ in before]
        sums = [0, *accumulate(amount for _, amount in before)]
        end = bisect_right(ordered, times[row])
        for window, span in oracle.ACCOUNT_WINDOWS.items():
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
        life.append(Event(time - random.choice([0, 0, 0, 90 * SECOND, 3 * DAY]), random.randrange(5_000), ident))
    walked = account(life)

    by_hand = oracle.Account(ACCOUNT.events, ACCOUNT.labels, ACCOUNT.horizon)
    for row, event in enumerate(life):
        if row % 25 == 0:
            check(walked.vectors[row], by_hand.describe(event.time, event.amount))
        by_hand.fold(event)
    check_kept(walked, by_hand)
    assert len(walked.tiles) > 10


def test_a_busy_counterparty_is_described_as_by_hand() -> None:
    random = Random(3)
    time, life = T0, list[Step]()
    for ident in range(4_000):
        time += random.choice([0, 1, SECOND, HOUR // 3, HOUR])
        life.append(Event(time, random.randrange(5_000), ident % 50))
        if ident % 9 == 0:
            life.append(Told(ident, time, time + random.randrange(9 * DAY), random.random() < 0.7))
        if ident % 40 == 0:
            life.append(Question(time + random.choice([0, SETTLING, HOUR, DAY])))
    walked = counterparty(life)

    by_hand = oracle.Counterparty(COUNTERPARTY.events, COUNTERPARTY.labels, COUNTERPARTY.horizon)
    row = 0
    for step in life:
        if isinstance(step, Question):
            check(walked.vectors[row], by_hand.describe(step.time))
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
    walked = counterparty([Event(time, 1) for time in times], Shape(events=2, labels=1, horizon=COUNTERPARTY.horizon))

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
    assert min(total for _, _, total, _ in walked.tiles) > 0
