"""Messages to send: transactions that look like life, what becomes known of them, and one's own wishes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from schemas.label import Label, LabelSource
from schemas.topics import LABELS, TRANSACTIONS, Topic
from schemas.transaction import Transaction
from schemas.wire import encode
from tests.fleet.models import LARGE


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """One message to publish; -1: in the partition of its key."""

    value: bytes | None
    key: bytes | None
    topic: Topic = TRANSACTIONS
    partition: int = -1
    timestamp: datetime | None = None
    """Of the record; None: when it is sent."""


def now() -> datetime:
    return datetime.now(UTC)


def a_transaction(transaction_id: str = "one", **fields: Any) -> Transaction:
    """A small payment of just now."""
    defaults: dict[str, Any] = {
        "account_id": "account-1",
        "counterparty_id": "shop-1",
        "amount": 1_250,
        "currency": "EUR",
        "occurred_at": now(),
    }
    return Transaction(transaction_id=transaction_id, **(defaults | fields))


def a_large_transaction(transaction_id: str = "large", **fields: Any) -> Transaction:
    """One that is flagged."""
    return a_transaction(transaction_id, **({"amount": 3 * LARGE} | fields))


def a_label_of(transaction: Transaction, **fields: Any) -> Label:
    """Fraud, known now."""
    defaults: dict[str, Any] = {
        "label_id": f"label-of-{transaction.transaction_id}",
        "transaction_id": transaction.transaction_id,
        "account_id": transaction.account_id,
        "counterparty_id": transaction.counterparty_id,
        "occurred_at": transaction.occurred_at,
        "amount": transaction.amount,
        "is_fraud": True,
        "known_at": now(),
        "source": LabelSource.CHARGEBACK,
    }
    return Label(**(defaults | fields))


def message(what: Transaction | Label, **changed: Any) -> Outgoing:
    """As a producer would send it."""
    topic = TRANSACTIONS if isinstance(what, Transaction) else LABELS
    defaults: dict[str, Any] = {"topic": topic, "key": what.account_id.encode(), "value": encode(what)}
    return Outgoing(**(defaults | changed))


def spoiled(transaction: Transaction, **fields: Any) -> bytes:
    """Its JSON with other fields; `...` leaves one out."""
    changed = msgspec.to_builtins(transaction) | fields
    return msgspec.json.encode({name: value for name, value in changed.items() if value is not ...})


class Life:
    """A stream without end: accounts pay shops, some of it is fraud, and some of that becomes known.

    The same seed, the same stream.  Its time runs from `since` on, a minute between two payments, so that windows move.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        accounts: int = 40,
        counterparties: int = 12,
        since: datetime | None = None,
        every: timedelta = timedelta(seconds=20),
        name: str = "tx",
    ) -> None:
        self._random = np.random.default_rng(seed)
        self._details = np.random.default_rng([seed, 1])
        self._accounts, self._counterparties = accounts, counterparties
        self._at = since or now() - timedelta(days=6)
        self._every = every
        self._name = name
        self._count = 0
        self._unknown: list[Transaction] = []

    def transactions(self, count: int) -> list[Transaction]:
        """The next ones, without labels."""
        return [self._next() for _ in range(count)]

    def messages(self, count: int) -> list[Outgoing]:
        """The next `count` transactions, with the labels that become known meanwhile."""
        return [message(what) for what in self._with_labels(count)]

    def _with_labels(self, count: int) -> Iterator[Transaction | Label]:
        for _ in range(count):
            transaction = self._next()
            if transaction.amount >= LARGE or self._random.random() < 0.05:
                self._unknown.append(transaction)
            if self._unknown and self._random.random() < 0.1:
                known = self._unknown.pop(0)
                yield a_label_of(known, known_at=transaction.occurred_at, is_fraud=known.amount >= LARGE)
            yield transaction

    def _next(self) -> Transaction:
        random = self._random
        self._count += 1
        self._at += self._every
        amount = int(random.lognormal(8, 1)) if random.random() < 0.95 else int(random.uniform(LARGE, 3 * LARGE))
        shop = int(random.zipf(1.5)) % self._counterparties
        if self._details.random() < 0.05:
            amount = 9_900
        return Transaction(
            transaction_id=f"{self._name}-{self._count:06}",
            account_id=f"account-{int(random.integers(self._accounts)):04}",
            counterparty_id=None if random.random() < 0.05 else f"shop-{shop:03}",
            amount=amount,
            currency="EUR" if random.random() < 0.9 else "USD",
            occurred_at=self._at,
            **self._what_else(),
        )

    def _what_else(self) -> dict[str, Any]:
        """Where and with what it was paid; now and then nothing is known of it."""
        random = self._details
        if random.random() < 0.1:
            return {}
        known = {
            "country": str(random.choice(["DE", "FR", "PL", "US"], p=[0.7, 0.1, 0.1, 0.1])),
            "device_id": f"device-{int(random.integers(5))}",
            "channel": str(random.choice(["chip", "online", "phone"])),
            "category": str(random.choice(["food", "fuel", "travel", "games"])),
            "latitude": round(float(random.uniform(40, 55)), 5),
            "longitude": round(float(random.uniform(-5, 20)), 5),
        }
        return {name: value for name, value in known.items() if random.random() < 0.9}


def transactions_in(messages: Sequence[Outgoing]) -> int:
    return sum(one.topic is TRANSACTIONS for one in messages)
