"""Small logs in which everything happens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

from features.accepting import Record
from schemas.activity import CounterpartyActivity
from schemas.label import Label
from schemas.transaction import Transaction
from tests.builders import Message, Shelf, a_label, a_record, a_transaction, after_noon, records

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR

ACCOUNTS = ("alice", "bob", "carol")
SHOPS = ("bakery", "kiosk", None)


@dataclass(frozen=True)
class Log:
    """The three topics."""

    transactions: tuple[Record, ...]
    labels: tuple[Record, ...]
    activity: tuple[Record, ...]


@cache
def a_log(seed: int) -> Log:
    """Two months in which everything happens: duplicates, used ids, late ones, labels early, taken back, of nobody."""
    random = Random(seed)
    transactions: list[Transaction] = []
    labels: list[Label] = []
    at = 0
    for n in range(120):
        at += random.choice([0, 1, SECOND, HOUR, DAY])
        mischief = random.random()
        if transactions and mischief < 0.1:
            transactions.append(random.choice(transactions[-9:]))
        elif transactions and mischief < 0.15:
            again = random.choice(transactions[-9:])
            transactions.append(a_transaction(again.transaction_id, account_id=again.account_id, amount=n))
        else:
            late = random.choice([0, 0, 0, HOUR, 40 * DAY])
            transactions.append(
                a_transaction(
                    f"t-{n}",
                    account_id=random.choice(ACCOUNTS),
                    counterparty_id=random.choice(SHOPS),
                    amount=random.randrange(10_000),
                    currency=random.choice(["EUR", "JPY"]),
                    occurred_at=after_noon(at - late),
                )
            )
        if random.random() < 0.4:
            of = random.choice(transactions)
            known = max(of.occurred_at, after_noon(at + random.choice([-DAY, 0, DAY, 9 * DAY])))
            labels.append(a_label(of, is_fraud=random.random() < 0.7, known_at=known))
    shelf = Shelf()
    told: list[CounterpartyActivity] = []
    for i, one in enumerate(transactions):
        told += shelf.describe(records([one], i)).activity
    told += shelf.describe(labels=records(labels)).activity
    random.shuffle(told)
    logs: tuple[Sequence[Message], ...] = (transactions, labels, told)
    return Log(*(tuple(a_record(one, i) for i, one in enumerate(log)) for log in logs))
