"""A batch: what one poll brought, read, put into columns, and taken through the kernel.

The order within a batch is fixed: labels, then activity, then transactions.  What a transaction was judged on is
therefore said by two numbers: the next label of its partition, and the last activity its counterparty had folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from features import facts, kernel
from features.accepting import Record, Rules
from features.catalogue import FEATURES
from features.facts import Facts
from features.hash_keys import HashKeys
from features.hashing import partitions_of
from features.profile import ACCOUNT, COUNTERPARTY, Profiles, Shape
from schemas.activity import CounterpartyActivity
from schemas.errors import LEFT_OUT, BadMessage, Fault, PartitionParked
from schemas.topics import ACTIVITY, LABELS, TRANSACTIONS
from schemas.verdict import Source
from schemas.wire import microseconds


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

    Raises RegistryUnavailable where it can't be known, PartitionParked where what was told can't be read any more.
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
                    raise PartitionParked(
                        f"partition {record.partition}: {name} could be read when it was told, and can't be now: {bad.detail}",
                        partition=record.partition,
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
    degraded: npt.NDArray[np.bool_]
    """Whether each one's counterparty was among the unknown: its columns are missing."""
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


class Walked(NamedTuple):
    """Of each transaction of a batch."""

    status: npt.NDArray[np.int8]
    late: npt.NDArray[np.int8]
    ratio: npt.NDArray[np.int32]
    """To what was typical of its account, in thousandths."""


class Describer:
    """Takes batches through the kernel, in memory that it keeps from one to the next."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._accounts = Profiles.room_for(0, ACCOUNT)
        self._counterparties = Profiles.room_for(0, COUNTERPARTY)
        self._cells = kernel.Cells.room()

    def describe(
        self,
        batch: Batch,
        need: Needed,
        accounts: Sequence[bytes | None],
        counterparties: Sequence[bytes | None],
        unknown: frozenset[str] = frozenset(),
    ) -> Described:
        """Vectors and new profiles of `batch`, given the profiles recalled, in the order of `need`'s rows.

        A transaction at one of the `unknown` counterparties is described as if it named none.  None of them may have
        activity in the batch.  Raises DamagedProfiles, which names rows of accounts or of counterparties.
        """
        told = [i for i, taken in enumerate(batch.transactions) if taken.told]
        transactions = facts.of_transactions(
            ((taken.message, taken.record.offset) for taken in batch.transactions), self.rules
        )
        vectors = np.empty((len(told), len(FEATURES)), np.float32)
        status, late, ratio = self._walk_accounts(batch, transactions, need, accounts, told, vectors)
        names = [_known(batch.transactions[i].message.counterparty_id, unknown) for i in told]
        if unknown:
            known = zip(need.counterparties, counterparties, strict=True)
            counterparties = [None if name in unknown else blob for name, blob in known]
        folded = self._walk_counterparties(batch, transactions, need, counterparties, told, names, vectors)
        kept = [k for k, i in enumerate(told) if status[i] == kernel.NEW]
        rows = [told[k] for k in kept]
        new = [batch.transactions[i] for i in rows]
        reused = [batch.transactions[i] for i in told if status[i] == kernel.ID_REUSED]
        return Described(
            transactions=new,
            vectors=vectors if len(kept) == len(told) else vectors[kept],
            occurred=transactions["time"][rows],
            late=late[told][kept].astype(np.bool_),
            folded_activity=folded[kept],
            degraded=np.array([batch.transactions[i].message.counterparty_id in unknown for i in rows], np.bool_),
            duplicates=len(told) - len(new) - len(reused),
            rejected=batch.rejected + [_id_reused(taken) for taken in reused],
            activity=self._told(batch, transactions, ratio, rows),
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
        transactions = facts.of_transactions(
            ((taken.message, taken.record.offset) for taken in batch.transactions), self.rules
        )
        status, _, ratio = self._walk_accounts(batch, transactions, need, accounts, [], nothing)
        self._walk_counterparties(batch, transactions, need, counterparties, [], [], nothing)
        new = [i for i in np.flatnonzero(status == kernel.NEW).tolist() if batch.transactions[i].told]
        return Folded(
            duplicates=int((status == kernel.DUPLICATE).sum()),
            reused=int((status == kernel.ID_REUSED).sum()),
            activity=self._told(batch, transactions, ratio, new),
            accounts=self._new_accounts(need),
            counterparties=self._new_counterparties(batch, need),
        )

    def _told(
        self, batch: Batch, transactions: Facts, ratio: npt.NDArray[np.int32], rows: list[int]
    ) -> list[CounterpartyActivity]:
        return [*_payments(batch, transactions, ratio, rows, self.rules.keys), *_labels(batch, self.rules.keys)]

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
        transactions: Facts,
        need: Needed,
        blobs: Sequence[bytes | None],
        told: list[int],
        vectors: npt.NDArray[np.float32],
    ) -> Walked:
        profiles = self._accounts = _room(self._accounts, len(blobs), ACCOUNT)
        profiles.unpack(blobs)
        labels = facts.of_labels((taken.message for taken in batch.labels), self.rules)
        n, m = len(labels), len(transactions)
        step = np.full(n + m, kernel.TRANSACTION, np.int8)
        step[:n] = kernel.LABEL
        where = need.accounts
        row = [where[taken.message.account_id] for taken in batch.labels]
        row += [where[taken.message.account_id] for taken in batch.transactions]
        which = np.concatenate([np.arange(n), np.arange(m)])
        towards = np.full(n + m, kernel.UNTOLD, np.int64)
        if told:
            towards[np.array(told) + n] = np.arange(len(told))
            kernel.describe_transactions(vectors, transactions[told])
        walked = Walked(np.empty(m, np.int8), np.empty(m, np.int8), np.empty(m, np.int32))
        kernel.walk_accounts(
            step, np.array(row, np.int64), which, towards, transactions, labels, profiles.limits, profiles.rows, self._cells,
            vectors, *walked,
        )  # fmt: skip
        return walked

    def _walk_counterparties(
        self,
        batch: Batch,
        transactions: Facts,
        need: Needed,
        blobs: Sequence[bytes | None],
        told: list[int],
        names: list[str | None],
        vectors: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.int64]:
        profiles = self._counterparties = _room(self._counterparties, len(blobs), COUNTERPARTY)
        profiles.unpack(blobs)
        heard = facts.of_activity((taken.message, taken.record.offset) for taken in batch.activity)
        n, m = len(heard.step), len(told)
        where = need.counterparties
        asked = np.array([-1 if name is None else where[name] for name in names], np.int64)
        row = np.array([where[taken.message.counterparty_id] for taken in batch.activity], np.int64)
        kernel.walk_counterparties(
            np.concatenate([heard.step, np.full(m, kernel.QUESTION, np.int8)]),
            np.concatenate([row, asked]),
            np.concatenate([heard.which, np.array(told, np.int64)]),
            np.concatenate([np.full(n, kernel.UNTOLD), np.arange(m)]),
            heard.payments, heard.labels, transactions, profiles.limits, profiles.rows, self._cells, vectors,
        )  # fmt: skip
        return np.where(asked < 0, -1, profiles.rows.head["offset"][asked]) if len(blobs) else np.full(m, -1, np.int64)


def source_of(record: Record) -> Source:
    """How a verdict, or activity, names the record that it answers."""
    return Source(record.partition, record.offset, record.topic_id, record.timestamp)


def _payments(
    batch: Batch, transactions: Facts, ratio: npt.NDArray[np.int32], rows: list[int], keys: HashKeys
) -> Iterator[CounterpartyActivity]:
    rows = [i for i in rows if batch.transactions[i].message.counterparty_id is not None]
    times, amounts, ratios = transactions["time"].tolist(), transactions["amount"].tolist(), ratio.tolist()
    told = [batch.transactions[i] for i in rows]
    for i, (record, message, _), names in zip(rows, told, _hashed(told, keys), strict=True):
        yield CounterpartyActivity(
            counterparty_id=message.counterparty_id,
            transaction=names[0],
            account=names[1],
            hashed_by=keys.fingerprint,
            amount=amounts[i],
            occurred_at=times[i],
            source=source_of(record),
            ratio=ratios[i],
        )


def _labels(batch: Batch, keys: HashKeys) -> Iterator[CounterpartyActivity]:
    told = [taken for taken in batch.labels if taken.told and taken.message.counterparty_id is not None]
    for (record, message, _), names in zip(told, _hashed(told, keys), strict=True):
        yield CounterpartyActivity(
            counterparty_id=message.counterparty_id,
            transaction=names[0],
            account=names[1],
            hashed_by=keys.fingerprint,
            amount=message.amount,
            occurred_at=microseconds(message.occurred_at),
            source=source_of(record),
            known_at=microseconds(message.known_at),
            is_fraud=message.is_fraud,
        )


def _hashed(taken: Sequence[Taken], keys: HashKeys) -> Iterator[tuple[int, int]]:
    """Of each, its transaction and its account as a counterparty hears of them."""
    transactions = keys.ids.hashes_of_text([one.message.transaction_id for one in taken])
    accounts = keys.accounts.hashes_of_text([one.message.account_id for one in taken])
    return zip(transactions.tolist(), accounts.tolist(), strict=True)


def _known(counterparty: str | None, unknown: frozenset[str]) -> str | None:
    return None if counterparty in unknown else counterparty


def _room(profiles: Profiles, count: int, shape: Shape) -> Profiles:
    return profiles if len(profiles) >= count else Profiles.room_for(max(count, 2 * len(profiles)), shape)


def _id_reused(taken: Taken) -> Rejected:
    return Rejected(
        TRANSACTIONS.name,
        taken.record,
        Fault.ID_REUSED,
        f"`$.transaction_id` {taken.message.transaction_id!r} was another transaction of this account before",
    )
