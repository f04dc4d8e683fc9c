"""Lives of one account or one counterparty: what may happen to them, and how they are taken through the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from features import kernel
from features.catalogue import FEATURES, column
from features.profile import ACCOUNT, COUNTERPARTY, Profiles, Shape
from schemas.wire import microseconds
from tests.builders import NOON
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
        times.append(draw(st.sampled_from(times[-12:])) + (age if draw(st.integers(0, 4)) else -age))
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
