"""Messages with nothing in them but what a test is about, and a worker's memory without Kafka or a store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from features.accepting import Record, Rules
from features.describing import Batch, Described, Describer, Folded, needed, read
from schemas.activity import CounterpartyActivity
from schemas.dead_letter import DeadLetter
from schemas.errors import Fault
from schemas.label import Label, LabelSource
from schemas.partitioning import partition_of
from schemas.transaction import Transaction
from schemas.verdict import Source
from schemas.wire import encode, microseconds

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""Of a Monday."""
RULES = Rules()
ID_KEY = "0123456789abcdef" * 4
"""An installation's secret; RULES are by the public one."""
Message = Transaction | Label | CounterpartyActivity


def after_noon(microseconds: int) -> datetime:
    """So long after noon, exactly."""
    return NOON + timedelta(microseconds=microseconds)


def a_transaction(transaction_id: str = "t-1", **fields: Any) -> Transaction:
    """A coffee at noon."""
    defaults: dict[str, Any] = {"account_id": "alice", "amount": 350, "currency": "EUR", "occurred_at": NOON}
    return Transaction(transaction_id=transaction_id, **(defaults | fields))


def a_label(of: Transaction | None = None, **fields: Any) -> Label:
    """That it was fraud, known a day later."""
    of = of or a_transaction()
    defaults: dict[str, Any] = {
        "label_id": f"l-{of.transaction_id}",
        "transaction_id": of.transaction_id,
        "account_id": of.account_id,
        "counterparty_id": of.counterparty_id,
        "occurred_at": of.occurred_at,
        "amount": of.amount,
        "is_fraud": True,
        "known_at": of.occurred_at + timedelta(days=1),
        "source": LabelSource.CHARGEBACK,
    }
    return Label(**(defaults | fields))


def an_activity(**fields: Any) -> CounterpartyActivity:
    """A payment at the bakery at noon."""
    defaults: dict[str, Any] = {
        "counterparty_id": "bakery",
        "transaction": 1,
        "account": 1,
        "hashed_by": RULES.keys.fingerprint,
        "amount": 350,
        "occurred_at": microseconds(NOON),
        "source": Source(0, 0),
    }
    return CounterpartyActivity(**(defaults | fields))


def a_dead_letter(**fields: Any) -> DeadLetter:
    """Of bytes that are no JSON, found out at noon where it was one o'clock."""
    defaults: dict[str, Any] = {
        "fault": Fault.NOT_JSON,
        "detail": "byte 0",
        "topic": "transactions",
        "partition": 1,
        "offset": 77,
        "attempt": 1,
        "at": NOON.astimezone(timezone(timedelta(hours=1))),
    }
    return DeadLetter(**(defaults | fields))


def key_of(message: Message) -> bytes:
    """What its producer must give it as key."""
    return (message.counterparty_id if isinstance(message, CounterpartyActivity) else message.account_id).encode()


def a_record(message: Message, offset: int = 0, **fields: Any) -> Record:
    """As it lies on its topic: under the right key, in the right partition, at the time of which it speaks."""
    key = key_of(message)
    defaults: dict[str, Any] = {
        "partition": partition_of(key, RULES.partitions),
        "timestamp": _heard(message) // 1000,
        "key": key,
        "value": encode(message),
    }
    return Record(offset=offset, **(defaults | fields))


def _heard(message: Message) -> int:
    if isinstance(message, CounterpartyActivity):
        return message.known_at or message.occurred_at
    return microseconds(message.known_at if isinstance(message, Label) else message.occurred_at)


def records(messages: Iterable[Message], first: int = 0, *, told: bool = True) -> list[tuple[Record, bool]]:
    """At consecutive offsets, whatever their partitions."""
    return [(a_record(message, first + i), told) for i, message in enumerate(messages)]


@dataclass
class Shelf:
    """Profiles by name, and batches taken through them."""

    rules: Rules = RULES
    accounts: dict[str, bytes] = field(default_factory=dict)
    counterparties: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._describer = Describer(self.rules)

    def describe(
        self,
        transactions: Sequence[tuple[Record, bool]] = (),
        labels: Sequence[tuple[Record, bool]] = (),
        activity: Sequence[tuple[Record, bool]] = (),
    ) -> Described:
        """A batch, as a worker settles it."""
        return self.describe_batch(read(self.rules, transactions, labels, activity))

    def describe_batch(self, batch: Batch) -> Described:
        """The same with what was read already."""
        need = needed(batch, self.rules.partitions)
        described = self._describer.describe(
            batch,
            need,
            [self.accounts.get(name) for name in need.accounts],
            [self.counterparties.get(name) for name in need.counterparties],
        )
        self.accounts.update(described.accounts)
        self.counterparties.update(described.counterparties)
        return described

    def fold(
        self,
        transactions: Sequence[tuple[Record, bool]] = (),
        labels: Sequence[tuple[Record, bool]] = (),
        activity: Sequence[tuple[Record, bool]] = (),
    ) -> Folded:
        """A batch, telling nothing of its transactions."""
        batch = read(self.rules, transactions, labels, activity)
        need = needed(batch, self.rules.partitions, to_describe=False)
        folded = self._describer.fold(
            batch,
            need,
            [self.accounts.get(name) for name in need.accounts],
            [self.counterparties.get(name) for name in need.counterparties],
        )
        self.accounts.update(folded.accounts)
        self.counterparties.update(folded.counterparties)
        return folded
