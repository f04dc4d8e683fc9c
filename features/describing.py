"""A batch: what one poll brought, read, put into columns, and taken through the kernel.

The order within a batch is fixed: labels, then activity, then transactions.  What a transaction was judged on is
therefore said by two numbers: the next label of its partition, and the last activity its counterparty had folded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from features import kernel
from features.accepting import Record, Rules
from features.catalogue import FEATURES
from features.hashing import hash32, hash64, partitions_of
from features.profile import ACCOUNT, COUNTERPARTY, Profiles, Shape
from schemas.activity import CounterpartyActivity
from schemas.errors import LEFT_OUT, BadMessage, Fault, RegistryUnavailable
from schemas.label import Label
from schemas.topics import ACTIVITY, LABELS, TRANSACTIONS
from schemas.transaction import Transaction
from schemas.verdict import Source
from schemas.wire import encode, microseconds


class Rejected(NamedTuple):
    """A message that goes to `dead-letters`."""

    topic: str
    """Without the prefix of the settings."""
    record: Record
    fault: Fault
    detail: str


class Taken(NamedTuple):
    """A transaction or a label that was accepted, and where it came from."""

    record: Record
    message: Any
    told: bool
    """False: it was told before, and is only folded."""


@dataclass
class Batch:
    """Messages of the three input topics, accepted or rejected, each topic's in the order of its offsets."""

    transactions: list[Taken] = field(default_factory=list)
    labels: list[Taken] = field(default_factory=list)
    activity: list[Taken] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    """Only those not told before."""

    def __len__(self) -> int:
        return len(self.transactions) + len(self.labels) + len(self.activity)


def read(
    rules: Rules,
    transactions: Sequence[tuple[Record, bool]] = (),
    labels: Sequence[tuple[Record, bool]] = (),
    activity: Sequence[tuple[Record, bool]] = (),
) -> Batch:
    """Accept or reject each record; beside each stands whether it is to be told.

    Raises RegistryUnavailable where it can't be known.
    """
    batch = Batch()
    for topic, records, accept, taken in (
        (TRANSACTIONS.name, transactions, rules.transaction, batch.transactions),
        (LABELS.name, labels, rules.label, batch.labels),
        (ACTIVITY.name, activity, rules.activity, batch.activity),
    ):
        belongs = partitions_of([record.key or b"" for record, _ in records], rules.partitions).tolist()
        for (record, told), home in zip(records, belongs, strict=True):
            try:
                taken.append(Taken(record, accept(record, home), told))
            except BadMessage as bad:
                if told:
                    batch.rejected.append(Rejected(topic, record, bad.fault, bad.detail))
                elif bad.fault in LEFT_OUT:  # no dead letter says so: when it was told, nothing was wrong with it
                    name = f"{topic} [{record.partition}] at {record.offset}"
                    raise RegistryUnavailable(
                        f"{name} could be read when it was told, and can't be now: {bad.detail}"
                    ) from bad
    return batch


class Needed(NamedTuple):
    """The profiles that a batch is about: of each id its row, of each row its partition number."""

    accounts: dict[str, int]
    account_partitions: list[int]
    counterparties: dict[str, int]
    counterparty_partitions: list[int]


def needed(batch: Batch, partitions: int, *, to_describe: bool = True) -> Needed:
    """Which profiles to recall for this batch; only to be folded, it asks no counterparty."""
    accounts: dict[str, int] = {}
    account_partitions: list[int] = []
    for taken in (batch.labels, batch.transactions):
        for record, message, _ in taken:
            if message.account_id not in accounts:
                accounts[message.account_id] = len(accounts)
                account_partitions.append(record.partition)
    counterparties: dict[str, int] = {}
    for _, activity, _ in batch.activity:
        counterparties.setdefault(activity.counterparty_id, len(counterparties))
    for _, transaction, told in batch.transactions:
        if to_describe and told and transaction.counterparty_id is not None:
            counterparties.setdefault(transaction.counterparty_id, len(counterparties))
    homes = partitions_of([name.encode() for name in counterparties], partitions).tolist()
    return Needed(accounts, account_partitions, counterparties, homes)


@dataclass(frozen=True)
class Described:
    """What the kernel made of a batch."""

    transactions: list[Taken]
    """Those to be judged: told for the first time, and new."""
    vectors: npt.NDArray[np.float32]
    """[len(transactions), features], in that order."""
    occurred: npt.NDArray[np.int64]
    """When, in microseconds since 1970 UTC."""
    late: npt.NDArray[np.bool_]
    folded_activity: npt.NDArray[np.int64]
    """The last activity offset that each one's counterparty had folded; -1: none."""
    duplicates: int
    """Transactions told before by another message of the same id and content, among those to be told."""
    rejected: list[Rejected]
    activity: list[CounterpartyActivity]
    """What the counterparties are to be told."""
    accounts: dict[str, bytes]
    """The new profiles by account."""
    counterparties: dict[str, bytes]
    """The new profiles, by counterparty, of those that had activity."""


@dataclass(frozen=True)
class Folded:
    """What a batch left behind that was folded and not described."""

    duplicates: int
    reused: int
    """Transactions whose id was another's before."""
    activity: list[CounterpartyActivity]
    """Of the messages to be told: what the counterparties are to be told."""
    accounts: dict[str, bytes]
    counterparties: dict[str, bytes]


class Describer:
    """Takes batches through the kernel, in memory that it keeps from one to the next."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._accounts = Profiles.room_for(0, ACCOUNT)
        self._counterparties = Profiles.room_for(0, COUNTERPARTY)

    def describe(
        self, batch: Batch, need: Needed, accounts: Sequence[bytes | None], counterparties: Sequence[bytes | None]
    ) -> Described:
        """Vectors and new profiles of `batch`, given the profiles recalled, in the order of `need`'s rows."""
        told = [i for i, taken in enumerate(batch.transactions) if taken.told]
        columns = columns_of((taken.message for taken in batch.transactions), self.rules)
        vectors = np.empty((len(told), len(FEATURES)), np.float32)
        status, late = self._walk_accounts(batch, columns, need, accounts, told, vectors)
        folded = self._walk_counterparties(batch, columns, need, counterparties, told, vectors)
        kept = [k for k, i in enumerate(told) if status[i] == kernel.NEW]
        rows = [told[k] for k in kept]
        new = [batch.transactions[i] for i in rows]
        reused = [batch.transactions[i] for i in told if status[i] == kernel.ID_REUSED]
        return Described(
            transactions=new,
            vectors=vectors if len(kept) == len(told) else vectors[kept],
            occurred=columns.time[rows],
            late=late[told][kept].astype(np.bool_),
            folded_activity=folded[kept],
            duplicates=len(told) - len(new) - len(reused),
            rejected=batch.rejected + [_id_reused(taken) for taken in reused],
            activity=[*_payments(batch, columns, rows), *_labels(batch)],
            accounts=self._new_accounts(need),
            counterparties=self._new_counterparties(batch, need),
        )

    def fold(
        self,
        batch: Batch,
        need: Needed,
        accounts: Sequence[bytes | None],
        counterparties: Sequence[bytes | None],
    ) -> Folded:
        """New profiles of `batch`, telling nothing of its transactions; `need` without what describing would need."""
        nothing = np.empty((0, len(FEATURES)), np.float32)
        columns = columns_of((taken.message for taken in batch.transactions), self.rules)
        status, _ = self._walk_accounts(batch, columns, need, accounts, [], nothing)
        self._walk_counterparties(batch, columns, need, counterparties, [], nothing)
        new = [i for i in np.flatnonzero(status == kernel.NEW).tolist() if batch.transactions[i].told]
        return Folded(
            duplicates=int((status == kernel.DUPLICATE).sum()),
            reused=int((status == kernel.ID_REUSED).sum()),
            activity=[*_payments(batch, columns, new), *_labels(batch)],
            accounts=self._new_accounts(need),
            counterparties=self._new_counterparties(batch, need),
        )

    def _new_accounts(self, need: Needed) -> dict[str, bytes]:
        return dict(zip(need.accounts, self._accounts.pack(np.arange(len(need.accounts))), strict=True))

    def _new_counterparties(self, batch: Batch, need: Needed) -> dict[str, bytes]:
        touched = sorted({need.counterparties[taken.message.counterparty_id] for taken in batch.activity})
        names = list(need.counterparties)
        blobs = self._counterparties.pack(np.array(touched, np.int64))
        return dict(zip((names[row] for row in touched), blobs, strict=True))

    def _walk_accounts(
        self,
        batch: Batch,
        columns: Columns,
        need: Needed,
        blobs: Sequence[bytes | None],
        told: list[int],
        vectors: npt.NDArray[np.float32],
    ) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
        profiles = self._accounts = _room(self._accounts, len(blobs), ACCOUNT)
        profiles.unpack(blobs)
        labels, transactions = batch.labels, batch.transactions
        n, m = len(labels), len(transactions)
        step = np.full(n + m, kernel.TRANSACTION, np.int8)
        step[:n] = kernel.LABEL
        row = np.empty(n + m, np.int64)
        time = np.empty(n + m, np.int64)
        amount = np.zeros(n + m, np.int64)
        ident = np.empty(n + m, np.uint64)
        content = np.zeros(n + m, np.uint32)
        known = np.zeros(n + m, np.int64)
        fraud = np.zeros(n + m, np.int8)
        offset = np.full(n + m, -1, np.int64)
        where = need.accounts
        if n:
            messages: list[Label] = [taken.message for taken in labels]
            row[:n] = [where[label.account_id] for label in messages]
            time[:n] = [microseconds(label.occurred_at) for label in messages]
            ident[:n] = [hash64(label.transaction_id) for label in messages]
            known[:n] = [microseconds(label.known_at) for label in messages]
            fraud[:n] = [label.is_fraud for label in messages]
        status = np.zeros(n + m, np.int8)
        late = np.zeros(n + m, np.int8)
        towards = np.full(n + m, kernel.UNTOLD, np.int64)
        if m:
            row[n:] = [where[taken.message.account_id] for taken in transactions]
            time[n:], amount[n:], ident[n:], content[n:] = columns.time, columns.amount, columns.ident, columns.content
            offset[n:] = [taken.record.offset for taken in transactions]
            towards[np.array(told, np.int64) + n] = np.arange(len(told))
            kernel.describe_transactions(vectors, columns.amount[told], columns.hour[told], columns.weekday[told])
        kernel.walk_accounts(
            step, row, time, amount, ident, content, known, fraud, offset, towards, profiles.shape.horizon,
            profiles.head, profiles.events, profiles.tiles, profiles.labels, profiles.fraud_days, vectors, status, late,
        )  # fmt: skip
        return status[n:], late[n:]

    def _walk_counterparties(
        self,
        batch: Batch,
        columns: Columns,
        need: Needed,
        blobs: Sequence[bytes | None],
        told: list[int],
        vectors: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.int64]:
        profiles = self._counterparties = _room(self._counterparties, len(blobs), COUNTERPARTY)
        profiles.unpack(blobs)
        n, m = len(batch.activity), len(told)
        step = np.full(n + m, kernel.QUESTION, np.int8)
        row = np.full(n + m, -1, np.int64)
        time = np.empty(n + m, np.int64)
        amount = np.zeros(n + m, np.int64)
        ident = np.zeros(n + m, np.uint64)
        account = np.zeros(n + m, np.uint64)
        known = np.zeros(n + m, np.int64)
        fraud = np.zeros(n + m, np.int8)
        offset = np.full(n + m, -1, np.int64)
        towards = np.full(n + m, kernel.UNTOLD, np.int64)
        where = need.counterparties
        if n:
            activity: list[CounterpartyActivity] = [taken.message for taken in batch.activity]
            step[:n] = [kernel.PAYMENT if one.known_at is None else kernel.PAYMENT_LABEL for one in activity]
            row[:n] = [where[one.counterparty_id] for one in activity]
            time[:n] = [one.occurred_at for one in activity]
            amount[:n] = [one.amount for one in activity]
            ident[:n] = [one.transaction for one in activity]
            account[:n] = [one.account for one in activity]
            known[:n] = [one.known_at or 0 for one in activity]
            fraud[:n] = [bool(one.is_fraud) for one in activity]
            offset[:n] = [taken.record.offset for taken in batch.activity]
        if m:
            named = [batch.transactions[i].message.counterparty_id for i in told]
            row[n:] = [-1 if name is None else where[name] for name in named]
            time[n:] = columns.time[told]
            towards[n:] = np.arange(m)
        kernel.walk_counterparties(
            step, row, time, amount, ident, account, known, fraud, offset, towards, profiles.shape.horizon,
            profiles.head, profiles.events, profiles.tiles, profiles.labels, profiles.fraud_days, vectors,
        )  # fmt: skip
        asked = row[n:]
        return np.where(asked < 0, -1, profiles.head["offset"][asked]) if len(blobs) else np.full(m, -1, np.int64)


def _payments(batch: Batch, columns: Columns, rows: list[int]) -> Iterator[CounterpartyActivity]:
    times, amounts, idents = columns.time.tolist(), columns.amount.tolist(), columns.ident.tolist()
    for i in rows:
        record, message, _ = batch.transactions[i]
        if message.counterparty_id is not None:
            yield CounterpartyActivity(
                counterparty_id=message.counterparty_id,
                transaction=idents[i],
                account=hash64(message.account_id),
                amount=amounts[i],
                occurred_at=times[i],
                source=Source(record.partition, record.offset),
            )


def _labels(batch: Batch) -> Iterator[CounterpartyActivity]:
    for record, message, told in batch.labels:
        if told and message.counterparty_id is not None:
            yield CounterpartyActivity(
                counterparty_id=message.counterparty_id,
                transaction=hash64(message.transaction_id),
                account=hash64(message.account_id),
                amount=message.amount,
                occurred_at=microseconds(message.occurred_at),
                source=Source(record.partition, record.offset),
                known_at=microseconds(message.known_at),
                is_fraud=message.is_fraud,
            )


class Columns(NamedTuple):
    """Transactions as the kernel takes them, n of each."""

    time: npt.NDArray[np.int64]
    """Microseconds since 1970 UTC."""
    amount: npt.NDArray[np.int64]
    """Minor units of the profiles' currency."""
    hour: npt.NDArray[np.int8]
    weekday: npt.NDArray[np.int8]
    ident: npt.NDArray[np.uint64]
    content: npt.NDArray[np.uint32]


def columns_of(transactions: Iterable[Transaction], rules: Rules) -> Columns:
    """Put transactions side by side."""
    rows = [
        (
            microseconds(one.occurred_at),
            rules.amount(one.amount, one.currency),
            one.occurred_at.hour,
            one.occurred_at.weekday(),
            hash64(one.transaction_id),
            hash32(encode(one)),
        )
        for one in transactions
    ]
    time, amount, hour, weekday, ident, content = zip(*rows, strict=True) if rows else ((),) * 6
    return Columns(
        np.array(time, np.int64),
        np.array(amount, np.int64),
        np.array(hour, np.int8),
        np.array(weekday, np.int8),
        np.array(ident, np.uint64),
        np.array(content, np.uint32),
    )


def _room(profiles: Profiles, count: int, shape: Shape) -> Profiles:
    return profiles if len(profiles) >= count else Profiles.room_for(max(count, 2 * len(profiles)), shape)


def _id_reused(taken: Taken) -> Rejected:
    return Rejected(
        TRANSACTIONS.name,
        taken.record,
        Fault.ID_REUSED,
        f"`$.transaction_id` {taken.message.transaction_id!r} was another transaction of this account before",
    )
