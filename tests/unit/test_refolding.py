"""What the checker makes of a log at once is what a worker makes of it batch by batch."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import facts
from features.accepting import Record
from features.catalogue import SETTLING
from features.position import Offsets
from loadgen.refolding import (
    Accounts,
    Counterparties,
    Questions,
    came_late,
    partition_offset_label,
    refold_accounts,
    refold_counterparties,
    source_of,
)
from schemas.activity import decode_activity
from schemas.label import decode_label
from schemas.transaction import decode_transaction
from tests.builders import RULES, Shelf, an_activity
from tests.logs import Log, a_log


def ints(values: list[int]) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


def accounts_of(log: Log) -> Accounts:
    transactions = [decode_transaction(record.value) for record in log.transactions]
    labels = [decode_label(record.value) for record in log.labels]
    names: dict[str, int] = {}
    return Accounts(
        offset=ints(list(range(len(transactions)))),
        status=np.empty(0, np.int8),
        transaction_id=[one.transaction_id for one in transactions],
        account_id=[one.account_id for one in transactions],
        counterparty_id=[one.counterparty_id for one in transactions],
        transactions=facts.of_transactions(zip(transactions, range(len(transactions)), strict=True), RULES),
        account=ints([names.setdefault(one.account_id, len(names)) for one in transactions]),
        names=names,
        labels=facts.of_labels(labels, RULES),
        label_offset=ints(list(range(len(labels)))),
        label_account=ints([names.setdefault(one.account_id, len(names)) for one in labels]),
        labels_told={},
        rejected={},
        record_offset=ints(list(range(len(transactions)))),
        record_timestamp=ints([record.timestamp for record in log.transactions]),
    )


def counterparties_of(log: Log) -> Counterparties:
    activity = [decode_activity(record.value) for record in log.activity]
    names: dict[str, int] = {}
    return Counterparties(
        offset=ints(list(range(len(activity)))),
        counterparty=ints([names.setdefault(one.counterparty_id, len(names)) for one in activity]),
        names=names,
        heard=facts.of_activity(zip(activity, range(len(activity)), strict=True)),
        source=ints([0] * len(activity)),
        rejected={},
    )


def in_batches(records: tuple[Record, ...], random: Random) -> list[list[tuple[Record, bool]]]:
    cuts = sorted({0, len(records), *(random.randrange(len(records) + 1) for _ in range(7))})
    return [[(record, True) for record in records[begin:end]] for begin, end in pairwise(cuts)]


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_profiles_are_those_that_batches_leave(seed: int, share: float) -> None:
    log, random, shelf = a_log(seed), Random(seed), Shelf()
    until = Offsets(*(round(share * len(topic)) for topic in (log.transactions, log.labels, log.activity)))
    for batch in in_batches(log.transactions[: until.transactions], random):
        shelf.fold(batch)
    for batch in in_batches(log.labels[: until.labels], random):
        shelf.fold(labels=batch)
    for batch in in_batches(log.activity[: until.activity], random):
        shelf.fold(activity=batch)

    assert refold_accounts(accounts_of(log), until) == shelf.accounts
    assert refold_counterparties(counterparties_of(log), until.activity) == shelf.counterparties


@given(
    heard=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.booleans()), max_size=12),
    asked=st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 14), st.integers(0, 9)), max_size=8),
)
def test_activity_came_late_that_was_settled_and_had_not_been_folded(
    heard: list[tuple[int, int, bool]], asked: list[tuple[int, int, int]]
) -> None:
    activity = [
        (
            an_activity(occurred_at=at * SETTLING, **({"known_at": at * SETTLING, "is_fraud": True} if label else {})),
            row,
        )
        for row, (_, at, label) in enumerate(heard)
    ]
    transactions = np.zeros(len(asked), facts.TRANSACTION)
    transactions["time"] = [at * SETTLING for _, _, at in asked]
    found = Counterparties(
        offset=ints(list(range(len(heard)))),
        counterparty=ints([whose for whose, _, _ in heard]),
        names={},
        heard=facts.of_activity(activity),
        source=ints([0] * len(heard)),
        rejected={},
    )
    questions = Questions(
        counterparty=ints([whose for whose, _, _ in asked]),
        transactions=transactions,
        seen=ints([seen for _, seen, _ in asked]),
    )

    assert came_late(found, questions).tolist() == [
        any(
            whose == somebody and row > seen and (at if label else at + 1) <= now
            for row, (somebody, at, label) in enumerate(heard)
        )
        for whose, seen, now in asked
    ]


@given(st.integers(0, 999), st.integers(0, 2**40), st.booleans())
def test_a_sources_number_says_what_it_is(partition: int, offset: int, is_label: bool) -> None:
    taken_apart = partition_offset_label(ints([source_of(partition, offset, is_label=is_label)]))
    assert [int(one[0]) for one in taken_apart] == [partition, offset, is_label]
