"""A batch through the kernel: what is told of it, and what it leaves behind, wherever batches begin and end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta, timezone
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.accepting import Record
from features.catalogue import column
from features.describing import Batch, needed, read
from features.hash_keys import PUBLIC
from schemas.errors import Fault
from schemas.partitioning import partition_of
from schemas.transaction import Transaction
from schemas.wire import microseconds
from tests.builders import (
    NOON,
    RULES,
    Shelf,
    a_label,
    a_transaction,
    after_noon,
    an_activity,
    records,
)
from tests.examples import examples
from tests.logs import a_log
from tests.unit.oracle import HOUR

BAKERY = a_transaction(counterparty_id="bakery")


def told(shelf: Shelf, *transactions: Transaction, first: int = 0) -> list[dict[str, float]]:
    described = shelf.describe(records(transactions, first))
    return [
        {name: float(vector[column(name)]) for name in ("account_count_24h", "account_known_frauds", "amount")}
        for vector in described.vectors
    ]


def test_of_a_transaction_itself_its_amount_and_local_time_are_told() -> None:
    night_in_japan = NOON.replace(hour=21).astimezone(timezone(timedelta(hours=9)))
    vector = (
        Shelf().describe(records([a_transaction(amount=360, currency="JPY", occurred_at=night_in_japan)])).vectors[0]
    )

    names = ("amount", "hour", "weekday", "night")
    assert [vector[column(name)] for name in names] == [200, 6, 1, 1]  # two euros, at six on a Tuesday


@pytest.mark.parametrize(("hour", "night"), [(0, 1), (6, 1), (7, 0), (23, 0)])
def test_the_night_ends_at_seven(hour: int, night: int) -> None:
    vector = Shelf().describe(records([a_transaction(occurred_at=NOON.replace(hour=hour, minute=59))])).vectors[0]

    assert vector[column("night")] == night


def test_transactions_of_one_batch_see_each_other_in_their_order() -> None:
    batch = [a_transaction(f"t-{n}", occurred_at=after_noon(n)) for n in range(3)]

    assert [one["account_count_24h"] for one in told(Shelf(), *batch)] == [0, 1, 2]


def test_labels_come_before_the_transactions_of_their_batch() -> None:
    shelf = Shelf()
    shelf.describe(records([a_transaction()]))
    later = a_transaction("t-2", occurred_at=NOON + timedelta(days=2))

    described = shelf.describe(records([later], 1), labels=records([a_label()]))

    assert described.vectors[0][column("account_known_frauds")] == 1


def test_activity_comes_before_the_transactions_of_its_batch() -> None:
    activity = an_activity(occurred_at=microseconds(NOON) - HOUR)

    described = Shelf().describe(records([BAKERY]), activity=records([activity], 41))

    assert described.vectors[0][column("counterparty_count_24h")] == 1
    assert described.folded_activity.tolist() == [41]


def test_a_verdict_can_say_up_to_where_its_counterparty_was_known() -> None:
    shelf = Shelf()
    nobody, stranger = a_transaction("t-2", counterparty_id=None), a_transaction("t-3", counterparty_id="kiosk")

    described = shelf.describe(records([BAKERY, nobody, stranger]), activity=records([an_activity()] * 3, 7))

    assert described.folded_activity.tolist() == [9, -1, -1]
    assert shelf.describe(records([BAKERY, nobody]), activity=[]).folded_activity.tolist() == []  # told before
    assert shelf.describe(records([a_transaction("t-4", counterparty_id="bakery")], 9)).folded_activity.tolist() == [9]


def test_each_payment_is_told_to_its_counterparty_in_the_currency_of_profiles() -> None:
    transaction = a_transaction(amount=116, currency="USD", counterparty_id="bakery")

    described = Shelf().describe(records([transaction, a_transaction("t-2")], 5))

    (activity,) = described.activity
    assert (activity.counterparty_id, activity.amount, activity.occurred_at) == ("bakery", 100, microseconds(NOON))
    assert (activity.transaction, activity.account) == (
        PUBLIC.ids.hash_of_text("t-1"),
        PUBLIC.accounts.hash_of_text("alice"),
    )
    assert (activity.source.offset, activity.known_at, activity.is_fraud) == (5, None, None)


def test_each_label_is_told_to_its_counterparty_with_when_it_was_known() -> None:
    label = a_label(BAKERY, is_fraud=False)

    described = Shelf().describe(labels=records([label, a_label()], 8))

    (activity,) = described.activity
    assert (activity.known_at, activity.is_fraud) == (microseconds(label.known_at), False)
    assert (activity.transaction, activity.source.offset) == (PUBLIC.ids.hash_of_text("t-1"), 8)


def test_no_payment_can_be_chosen_to_pass_for_another() -> None:
    """Of these two the ids share 48 bits of an unkeyed xxh3, and the contents 24: the second was taken for the first."""
    first = a_transaction("t-13905020", counterparty_id="bakery")
    chosen = a_transaction("t-26320645", counterparty_id="thief", amount=99_000, device_id="d-1147926")

    described = Shelf().describe(records([first, chosen]))

    assert [taken.message for taken in described.transactions] == [first, chosen]
    assert described.duplicates == 0


def test_activity_by_another_key_is_refused_by_name() -> None:
    """Its hashes are names of nothing here: it would never meet what is said of the same transactions by this key."""
    older = an_activity(hashed_by="")
    others = an_activity(hashed_by="00c0ffee")

    batch = read(RULES, activity=[(record, True) for record, _ in records([older, others, an_activity()])])

    assert [one.fault for one in batch.rejected] == [Fault.OTHER_KEY] * 2
    assert len(batch.activity) == 1


def test_a_duplicate_gets_no_second_vector_and_is_told_to_nobody() -> None:
    shelf = Shelf()
    first = shelf.describe(records([BAKERY, BAKERY]))
    again = shelf.describe(records([BAKERY], 2))

    assert (len(first.transactions), first.duplicates, len(first.activity)) == (1, 1, 1)
    assert (len(again.transactions), again.duplicates, again.activity, again.rejected) == (0, 1, [], [])


@pytest.mark.parametrize(
    "other", [{"amount": 351}, {"counterparty_id": "kiosk"}, {"occurred_at": after_noon(1)}, {"attributes": {"x": 1}}]
)
def test_an_id_used_again_is_a_dead_letter_that_names_it(other: dict[str, Any]) -> None:
    described = Shelf().describe(records([a_transaction(), a_transaction(**other)]))

    (rejected,) = described.rejected
    assert (rejected.fault, rejected.record.offset, rejected.topic) == (Fault.ID_REUSED, 1, "transactions")
    assert "`$.transaction_id` 't-1'" in rejected.detail
    assert len(described.transactions) == 1


def test_another_account_may_use_the_same_id() -> None:
    described = Shelf().describe(records([a_transaction(), a_transaction(account_id="bob")]))

    assert [taken.message.account_id for taken in described.transactions] == ["alice", "bob"]


def test_what_is_older_than_all_that_the_account_is_known_by_is_late() -> None:
    shelf = Shelf()
    late = [a_transaction(f"t-{n}", occurred_at=after_noon(at)) for n, at in enumerate((0, 5, -1, 3, -1))]

    assert shelf.describe(records(late)).late.tolist() == [False, False, True, False, False]


def test_what_was_told_before_is_folded_and_told_no_more() -> None:
    before = a_transaction("t-0", account_id="bob", counterparty_id="bakery")
    shelf = Shelf()
    batch = [*records([before, before, a_transaction("t-0", account_id="bob", amount=1)], told=False)]
    described = shelf.describe([*batch, *records([a_transaction("t-9", account_id="bob")], 3)])

    assert [taken.message.transaction_id for taken in described.transactions] == ["t-9"]
    assert described.vectors[0][column("account_count_1h")] == 1
    assert (described.duplicates, described.rejected, described.activity) == (0, [], [])


def test_a_batch_of_nothing_describes_nothing() -> None:
    shelf = Shelf()
    described = shelf.describe()

    assert described.vectors.shape == (0, len(shelf.describe(records([BAKERY])).vectors[0]))
    assert (described.accounts, described.counterparties, described.activity) == ({}, {}, [])
    assert shelf.describe(labels=records([a_label()])).vectors.shape[0] == 0


def test_profiles_are_asked_for_where_their_keys_belong() -> None:
    names = [f"account-{n}" for n in range(9)]
    batch = read(
        RULES,
        records([a_transaction(account_id=name, counterparty_id=f"{name}'s shop") for name in names]),
        labels=records([a_label(account_id=name) for name in names[3:]]),
        activity=records([an_activity(counterparty_id="market")]),
    )

    need = needed(batch, RULES.partitions)

    assert set(need.accounts) == set(names)
    for account, row in need.accounts.items():
        assert need.account_partitions[row] == partition_of(account.encode(), RULES.partitions)
    assert set(need.counterparties) == {"market", *(f"{name}'s shop" for name in names)}
    for counterparty, row in need.counterparties.items():
        assert need.counterparty_partitions[row] == partition_of(counterparty.encode(), RULES.partitions)
    assert set(needed(batch, RULES.partitions, to_describe=False).counterparties) == {"market"}


def test_a_counterparty_that_was_only_asked_is_not_written() -> None:
    described = Shelf().describe(records([BAKERY]))

    assert list(described.accounts) == ["alice"]
    assert described.counterparties == {}


# A profile is a function of the prefix of each topic.


@cache
def serially(seed: int) -> Shelf:
    """Each topic's profiles folded one message at a time, one topic after the other."""
    log, shelf = a_log(seed), Shelf()
    for record in log.labels:
        shelf.fold(labels=[(record, True)])
    for record in log.transactions:
        shelf.fold([(record, True)])
    for record in log.activity:
        shelf.fold(activity=[(record, True)])
    return shelf


def chunks(random: Random, log: Sequence[Record]) -> list[Sequence[Record]]:
    """The whole log, cut anywhere; some of the pieces are empty."""
    cuts = sorted(random.randint(0, len(log)) for _ in range(random.randrange(8)))
    return [log[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(log)], strict=True)]


@examples(100)
@given(st.integers(1, 3), st.randoms(use_true_random=False))
def test_profiles_depend_neither_on_batches_nor_on_how_topics_interleave_nor_on_what_is_told(
    seed: int, random: Random
) -> None:
    log, shelf = a_log(seed), Shelf()
    waiting = [chunks(random, topic) for topic in (log.transactions, log.labels, log.activity)]
    while any(waiting):
        batch = [topic.pop(0) if topic and random.random() < 0.6 else () for topic in waiting]
        told_from = [random.choice([0, 0, len(some) // 2, len(some)]) for some in batch]
        transactions, labels, activity = (
            [(record, i >= begin) for i, record in enumerate(some)]
            for some, begin in zip(batch, told_from, strict=True)
        )
        take = random.choice([shelf.fold, shelf.describe])
        take(transactions, labels, activity)

    assert shelf.accounts == serially(seed).accounts
    assert shelf.counterparties == serially(seed).counterparties


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_is_told_of_a_batch_depends_only_on_what_was_folded_before_it(seed: int) -> None:
    """Vectors one by one, and all in one batch whose activity is known beforehand."""
    log = a_log(seed)
    together, alone = Shelf(), Shelf()
    for shelf in (together, alone):
        shelf.fold(
            labels=[(record, True) for record in log.labels], activity=[(record, True) for record in log.activity]
        )

    whole = together.describe([(record, True) for record in log.transactions])
    parts = [alone.describe([(record, True)]) for record in log.transactions]

    assert whole.vectors.tobytes() == np.concatenate([part.vectors for part in parts]).tobytes()
    assert whole.activity == [one for part in parts for one in part.activity]
    assert whole.late.tolist() == [late for part in parts for late in part.late]
    assert whole.duplicates == sum(part.duplicates for part in parts) > 0
    assert whole.rejected == [one for part in parts for one in part.rejected] != []
    assert together.accounts == alone.accounts


def test_folding_tells_counterparties_what_describing_tells_them() -> None:
    log = a_log(1)
    batch = [(record, True) for record in log.transactions], [(record, True) for record in log.labels]

    folded, described = Shelf().fold(*batch), Shelf().describe(*batch)

    assert folded.activity == described.activity
    assert folded.duplicates == described.duplicates
    assert folded.reused == len(described.rejected)
    assert Shelf().fold([(record, False) for record in log.transactions]).activity == []


def test_memory_is_kept_from_batch_to_batch_and_nothing_else() -> None:
    """The second batch's rows are the first one's memory; profiles recalled as never seen are empty."""
    log = a_log(2)
    shelf = Shelf()
    shelf.describe([(record, True) for record in log.transactions])
    shelf.accounts.clear()

    again = shelf.describe(records([BAKERY]))

    assert again.accounts == Shelf().describe(records([BAKERY])).accounts
    assert again.vectors.tobytes() == Shelf().describe(records([BAKERY])).vectors.tobytes()


def test_a_batch_is_as_long_as_what_was_accepted() -> None:
    assert len(Batch()) == 0
    assert len(read(RULES, records([BAKERY]), records([a_label()]), records([an_activity()]))) == 3
