"""A whole past at once says of each profile what that profile's own life says, however many there are."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from features import kernel
from features.catalogue import FEATURES, OF_THE_COUNTERPARTY, column
from features.history import BLOCK, Steps, walk_accounts, walk_counterparties
from tests.unit.lives import (
    T0,
    Question,
    Step,
    account,
    counterparty,
    labels_of,
    payments_of,
    transactions_of,
)
from tests.unit.oracle import DAY, HOUR, Event, Told

ACCOUNT_COLUMNS = slice(column("account_count_1h"), OF_THE_COUNTERPARTY.start)


def ints(values: list[int]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def a_past(profiles: int, seed: int = 1) -> list[tuple[int, Step]]:
    """Whose, and what; in the order in which it was heard."""
    random = Random(seed)
    past: list[tuple[int, Step]] = []
    at = T0
    for n in range(4 * profiles):
        at += random.choice([0, 1, HOUR])
        whose = random.randrange(profiles)
        match random.randrange(4):
            case 0:
                past.append((whose, Told(random.randrange(9), at - 8 * DAY, at, random.random() < 0.8)))
            case 1:
                past.append((whose, Question(at)))
            case _:
                past.append((whose, Event(at - random.choice([0, 0, DAY]), random.randrange(999), n % 50, n)))
    return past


def steps_of(past: Sequence[tuple[int, Step]], kind: type[Step], step: int, *, told: bool = False) -> Steps:
    """Those of a kind, each taking the row of its own among them."""
    rows = [(at, whose) for at, (whose, one) in enumerate(past) if isinstance(one, kind)]
    which = np.arange(len(rows), dtype=np.int64)
    return Steps.of(
        step,
        profile=ints([whose for _, whose in rows]),
        at=ints([at for at, _ in rows]),
        which=which,
        told=which if told else None,
    )


def of_kind(past: Sequence[tuple[int, Step]], kind: type[Any]) -> list[Any]:
    return [one for _, one in past if isinstance(one, kind)]


@pytest.mark.parametrize("profiles", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 7])
def test_an_accounts_past_is_described_as_if_it_were_alone(profiles: int) -> None:
    past = [(whose, one) for whose, one in a_past(profiles) if not isinstance(one, Question)]
    count = sum(isinstance(one, Event) for _, one in past)
    vectors = np.zeros((count, len(FEATURES)), np.float32)

    status, late, ratio = walk_accounts(
        Steps.merged(steps_of(past, Told, kernel.LABEL), steps_of(past, Event, kernel.TRANSACTION, told=True)),
        transactions_of(of_kind(past, Event)),
        labels_of(of_kind(past, Told)),
        vectors,
    )

    rows: dict[int, list[int]] = {}
    for row, (whose, _) in enumerate((whose, one) for whose, one in past if isinstance(one, Event)):
        rows.setdefault(whose, []).append(row)
    for whose, mine in rows.items():
        alone = account([one for somebody, one in past if somebody == whose and not isinstance(one, Question)])
        new = alone.status == kernel.NEW
        assert status[mine].tolist() == alone.status.tolist()
        assert late[mine][new].tolist() == alone.late[new].tolist()
        assert ratio[mine].tolist() == alone.ratio.tolist()
        assert vectors[mine][new, ACCOUNT_COLUMNS].tobytes() == alone.vectors[new, ACCOUNT_COLUMNS].tobytes()


@pytest.mark.parametrize("profiles", [1, BLOCK, BLOCK + 1])
def test_a_counterpartys_past_is_described_as_if_it_were_alone(profiles: int) -> None:
    past = a_past(profiles, seed=2)
    past.insert(5, (-1, Question(T0)))
    past.append((-1, Question(T0)))
    count = sum(isinstance(one, Question) for _, one in past)
    vectors = np.zeros((count, len(FEATURES)), np.float32)

    walk_counterparties(
        Steps.merged(
            steps_of(past, Told, kernel.PAYMENT_LABEL),
            steps_of(past, Question, kernel.QUESTION, told=True),
            steps_of(past, Event, kernel.PAYMENT),
        ),
        payments_of(of_kind(past, Event)),
        labels_of(of_kind(past, Told)),
        transactions_of([Event(one.time, one.amount) for one in of_kind(past, Question)]),
        vectors,
    )

    rows: dict[int, list[int]] = {}
    for row, (whose, _) in enumerate((whose, one) for whose, one in past if isinstance(one, Question)):
        rows.setdefault(whose, []).append(row)
    assert np.isnan(vectors[rows.pop(-1), OF_THE_COUNTERPARTY]).all()
    for whose, mine in rows.items():
        alone = counterparty([one for somebody, one in past if somebody == whose])
        assert vectors[mine][:, OF_THE_COUNTERPARTY].tobytes() == alone.vectors[:, OF_THE_COUNTERPARTY].tobytes()


def test_steps_at_the_same_time_are_taken_in_the_order_of_their_parts() -> None:
    nobody, same = ints([0, 0]), ints([7, 7])
    labels = Steps.of(kernel.LABEL, profile=nobody, at=same, which=ints([1, 2]))
    transactions = Steps.of(kernel.TRANSACTION, profile=nobody, at=same, which=ints([3, 4]))

    assert Steps.merged(labels, transactions).which.tolist() == [1, 2, 3, 4]
    assert Steps.merged(transactions, labels).which.tolist() == [3, 4, 1, 2]


def test_a_past_without_anybody_is_described_too() -> None:
    nothing = Steps.merged(Steps.of(kernel.QUESTION, profile=ints([]), at=ints([]), which=ints([])))
    nobody = Steps.merged(Steps.of(kernel.QUESTION, profile=ints([-1]), at=ints([0]), which=ints([0]), told=ints([0])))
    facts = payments_of([]), labels_of([]), transactions_of([Event(T0, 1)])
    vectors = np.zeros((1, len(FEATURES)), np.float32)

    walk_counterparties(nothing, *facts, vectors)
    assert not vectors.any()
    walk_counterparties(nobody, *facts, vectors)
    assert np.isnan(vectors[0, OF_THE_COUNTERPARTY]).all()
    walked = walk_accounts(nothing, transactions_of([]), labels_of([]), np.zeros((0, len(FEATURES)), np.float32))
    assert [len(one) for one in walked] == [0, 0, 0]
