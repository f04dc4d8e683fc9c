"""Lives of one account or one counterparty: what may happen to them, and how they are taken through the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from features import history, kernel
from features.catalogue import FEATURES, column
from features.facts import LABEL, NO_PLACE, PAYMENT, TRANSACTION, UNNAMED, Facts, millionths
from features.profile import ACCOUNT, COUNTERPARTY, Profiles, Shape
from schemas.wire import microseconds
from tests.builders import NOON
from tests.unit import oracle
from tests.unit.oracle import DAY, FINEST, HOUR, MATURITY, SECOND, SETTLING, Event, Told

T0 = microseconds(NOON)
SMALL_SEEN = {"counterparty": 3, "country": 2, "device": 2, "channel": 2, "category": 2}
SMALL_ACCOUNT = replace(ACCOUNT, events=5, labels=3, seen=tuple(SMALL_SEEN.values()), fraud_days=3)
SMALL_COUNTERPARTY = replace(COUNTERPARTY, events=5, labels=3, fraud_days=3)
LARGEST = 2**47 - 1


@dataclass(frozen=True)
class Question:
    """What is known of you at this moment?"""

    time: int
    amount: int = 0


Step = Event | Told | Question


@dataclass
class Walked:
    """What the kernel made of the steps of one profile."""

    vectors: npt.NDArray[np.float32]
    """A row for each event of an account, each question to a counterparty."""
    status: npt.NDArray[np.int8]
    late: npt.NDArray[np.int8]
    ratio: npt.NDArray[np.int32]
    profiles: Profiles

    def told(self, name: str) -> list[float]:
        values: list[float] = self.vectors[:, column(name)].tolist()
        return values

    @property
    def ring(self) -> list[tuple[int, int]]:
        events, head = self.profiles.rows.events, self.profiles.rows.head[0]
        ring = slice(head["begin"], head["begin"] + head["events"])
        return list(zip(events.time[0, ring].tolist(), events.amount[0, ring].tolist(), strict=True))

    @property
    def tiles(self) -> list[tuple[int, ...]]:
        """Newest, count, sum, maximum, and how many were far above, at night, below a round amount."""
        tiles = self.profiles.rows.tiles[0, : self.profiles.rows.head["tiles"][0]]
        fields = ["newest", "count", "sum", "max", "far_above", "night", "below_round", "ratios", "ratio_sum"]
        return [tuple(tile) for tile in tiles[fields].tolist()]

    @property
    def seen(self) -> dict[tuple[int, int], int]:
        """By kind and name, the second it was last seen."""
        seen = self.profiles.rows.seen[0, : self.profiles.rows.head["seen"][0]]
        return {(key >> 24, key & 0xFFFFFF): last for last, key in seen.tolist()}

    @property
    def labels(self) -> list[Told]:
        labels = self.profiles.rows.labels[0, : self.profiles.rows.head["labels"][0]]
        return [Told(ident, occurred, known, bool(fraud)) for ident, occurred, known, _, fraud in labels.tolist()]

    @property
    def fraud_days(self) -> dict[int, tuple[int, int]]:
        """By day how many, and when the last of them was known."""
        days = self.profiles.rows.fraud_days[0, : self.profiles.rows.head["fraud_days"][0]]
        return {day: (frauds, known) for day, frauds, known in days.tolist()}


def account(steps: Sequence[Event | Told], shape: Shape = ACCOUNT) -> Walked:
    """All steps of one account in one batch, each transaction described."""
    profiles = Profiles.room_for(1, shape)
    events = [step for step in steps if isinstance(step, Event)]
    walked = history.Walked(
        np.zeros(len(events), np.int8), np.zeros(len(events), np.int8), np.zeros(len(events), np.int32)
    )
    vectors = np.full((len(events), len(FEATURES)), -1, np.float32)
    is_event = np.array([isinstance(step, Event) for step in steps], np.bool_)
    kernel.walk_accounts(
        np.where(is_event, kernel.TRANSACTION, kernel.LABEL).astype(np.int8),
        np.zeros(len(steps), np.int64),
        np.where(is_event, which(is_event), which(~is_event)),
        np.where(is_event, which(is_event), kernel.UNTOLD),
        transactions_of(events),
        labels_of([step for step in steps if isinstance(step, Told)]),
        profiles.limits,
        profiles.rows,
        kernel.Cells.room(),
        vectors,
        *walked,
    )
    return Walked(vectors, walked.status, walked.late, walked.ratio, profiles)


def counterparty(steps: Sequence[Step], shape: Shape = COUNTERPARTY) -> Walked:
    """All steps of one counterparty in one batch."""
    profiles = Profiles.room_for(1, shape)
    kinds = {Event: kernel.PAYMENT, Told: kernel.PAYMENT_LABEL, Question: kernel.QUESTION}
    step = np.array([kinds[type(one)] for one in steps], np.int8)
    places = np.select([step == kind for kind in kinds.values()], [which(step == kind) for kind in kinds.values()])
    questions = [one for one in steps if isinstance(one, Question)]
    vectors = np.full((len(questions), len(FEATURES)), -1, np.float32)
    kernel.walk_counterparties(
        step,
        np.zeros(len(steps), np.int64),
        places.astype(np.int64),
        np.where(step == kernel.QUESTION, places, kernel.UNTOLD).astype(np.int64),
        payments_of([one for one in steps if isinstance(one, Event)]),
        labels_of([one for one in steps if isinstance(one, Told)]),
        transactions_of([Event(one.time, one.amount) for one in questions]),
        profiles.limits,
        profiles.rows,
        kernel.Cells.room(),
        vectors,
    )
    nothing = np.zeros(0, np.int8)
    return Walked(vectors, nothing, nothing, np.zeros(0, np.int32), profiles)


def which(mine: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """For each step that is of a kind, how many of the kind came before it."""
    return np.cumsum(mine) - 1


def transactions_of(events: Sequence[Event]) -> Facts:
    """As the kernel takes them; offsets from 0."""
    rows = np.zeros(len(events), TRANSACTION)
    for row, (offset, event) in zip(rows, enumerate(events), strict=True):
        row["time"], row["amount"], row["offset"] = event.time, event.amount, offset
        row["id"], row["content"] = event.ident, event.content
        for kind in oracle.KINDS:
            name = getattr(event, kind)
            row[kind] = UNNAMED if name is None else name
        row["latitude"], row["longitude"] = (
            (NO_PLACE, NO_PLACE) if event.place is None else map(millionths, event.place)
        )
        row["hour"], row["weekday"], row["below_round"] = event.hour, event.weekday, event.below_round
    return rows


def labels_of(told: Sequence[Told]) -> Facts:
    """As the kernel takes them."""
    return np.array([(one.ident, one.occurred, one.known, 0, one.fraud) for one in told], LABEL)


def payments_of(events: Sequence[Event]) -> Facts:
    """As the kernel takes them."""
    return np.array([(one.time, one.amount, 0, one.content, one.ratio) for one in events], PAYMENT)


# What may happen.  Most moments lie at the edge of a window from one before.

WIDTHS = [SECOND, SETTLING, FINEST, 600 * SECOND, HOUR, DAY, 7 * DAY, 8 * DAY, 14 * DAY, 21 * DAY, 30 * DAY, 37 * DAY]
WIDTHS += [ACCOUNT.exact, ACCOUNT.horizon]
EDGES = sorted({0} | {width + d for width in WIDTHS for d in (-1, 0, 1)})
onwards = st.sampled_from(EDGES) | st.integers(0, 2 * HOUR) | st.integers(0, 40 * DAY)
amounts = st.sampled_from([0, 1, 350, 350, 99_999, LARGEST]) | st.integers(0, 10_000)


@st.composite
def moments(draw: st.DrawFn, most: int = 40) -> list[int]:
    """Each so long after, or now and then before, one of those before it."""
    times = [T0]
    for _ in range(draw(st.integers(0, most - 1))):
        age = draw(onwards)
        times.append(draw(st.sampled_from(times[-12:])) + (age if draw(st.integers(0, 4)) else -age))
    return times


PLACES = [
    (0.0, 0.0),
    (90.0, 0.0),
    (-90.0, 180.0),
    (52.5, 13.4),
    (52.500001, 13.4),
    (-33.9, 151.2),
    (0.0, -180.0),
    (0.0, 179.9),
]


def _kind_of_payment(random: Random) -> Event:
    def name() -> Any:
        return random.choice([None, *range(6)])

    return Event(
        0,
        0,
        hour=random.randrange(24),
        weekday=random.randrange(7),
        below_round=random.random() < 0.3,
        counterparty=name(),
        country=name(),
        device=name(),
        channel=name(),
        category=name(),
        place=random.choice([None, None, *PLACES]),
    )


_random = Random(0)
kinds_of_payments = st.sampled_from([Event(0, 0), *(_kind_of_payment(_random) for _ in range(100))])


@st.composite
def lives_of_accounts(draw: st.DrawFn) -> list[Event | Told]:
    """Transactions with ids that come again, labels before and after them, taken back and repeated."""
    steps: list[Event | Told] = []
    for time in draw(moments()):
        ident = draw(st.integers(0, 30))
        if draw(st.integers(0, 3)):
            kind = draw(kinds_of_payments)
            steps.append(replace(kind, time=time, amount=draw(amounts), ident=ident, content=draw(st.integers(0, 1))))
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
            ratio = draw(st.sampled_from([0, 1, 1000, 2**31 - 1]))
            steps.append(Event(time, draw(amounts), content=draw(st.integers(0, 200)), ratio=ratio))
        elif kind < 3:
            occurred = time - draw(st.sampled_from([0, DAY, MATURITY - 1, MATURITY, MATURITY + 1, 14 * DAY]))
            steps.append(Told(draw(st.integers(0, 9)), occurred, time, draw(st.booleans())))
        else:
            steps.append(Question(time, draw(amounts)))
    return steps
