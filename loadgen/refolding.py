"""The log once more, serially: which message should have got what, from which vector, and which profiles that leaves.

It leans on the kernel, as training does, and on nothing of the worker: batches, takeovers and the store's history are what
it is there to doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from features import kernel
from features.accepting import Rules
from features.attributes import Encoder
from features.catalogue import FEATURES
from features.describing import Batch, Columns, Describer, Taken, columns_of, needed, read
from features.hashing import hash64
from features.history import Steps, walk_accounts, walk_counterparties
from features.log import Log
from features.position import Offsets
from features.settings import Settings
from schemas.errors import Fault
from schemas.topics import ACTIVITY, LABELS, TRANSACTIONS
from schemas.wire import microseconds

Ints = npt.NDArray[np.int64]
Told = Callable[[int], None]
CHUNK = 20_000
NEVER_JUDGED = -1


@dataclass
class Accounts:
    """One partition's transactions and labels."""

    offset: Ints
    """Of each accepted transaction, in order."""
    status: npt.NDArray[np.int8]
    """kernel.NEW, DUPLICATE or ID_REUSED."""
    transaction_id: list[str]
    account_id: list[str]
    counterparty_id: list[str | None]
    columns: Columns
    account: Ints
    """A number for each account."""
    label_offset: Ints
    label_account: Ints
    label_time: Ints
    label_known: Ints
    label_ident: npt.NDArray[np.uint64]
    label_fraud: npt.NDArray[np.int8]
    labels_told: dict[int, bool]
    """Offsets of accepted labels, and whether they name a counterparty."""
    rejected: dict[tuple[str, int], Fault]
    """By topic and offset."""
    encoded: dict[int, bytes] = field(default_factory=dict)
    """By offset of a transaction whose encoder was given: the columns behind the catalogue's, float32."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """The profiles at the position asked for, by account."""


@dataclass
class Counterparties:
    """One partition of the activity."""

    offset: Ints
    counterparty: Ints
    names: dict[str, int]
    """A number for each counterparty."""
    is_label: npt.NDArray[np.bool_]
    time: Ints
    amount: Ints
    ident: npt.NDArray[np.uint64]
    account: npt.NDArray[np.uint64]
    known: Ints
    fraud: npt.NDArray[np.int8]
    sources: list[tuple[int, int, bool]]
    """Partition, offset and whether it was a label, of what each activity tells of."""
    rejected: dict[tuple[str, int], Fault]
    """By topic and offset."""
    blobs: dict[str, bytes] = field(default_factory=dict)


class _Serial:
    """Profiles folded in chunks that have nothing to do with any worker's batches."""

    def __init__(self, rules: Rules) -> None:
        self.blobs: dict[str, bytes] = {}
        self._rules = rules
        self._describer = Describer(rules)

    def fold(self, batch: Batch) -> None:
        need = needed(batch, self._rules.partitions, to_describe=False)
        accounts = [self.blobs.get(name) for name in need.accounts]
        folded = self._describer.fold(batch, need, accounts, [self.blobs.get(name) for name in need.counterparties])
        self.blobs.update(folded.accounts)
        self.blobs.update(folded.counterparties)


def _until(taken: Sequence[Taken], end: int) -> list[Taken]:
    return [one for one in taken if one.record.offset < end]


def _encoded(taken: Sequence[Taken], encoders: Mapping[int, Encoder]) -> dict[int, bytes]:
    by_encoder: dict[int, list[Taken]] = {}
    for one in taken:
        if one.record.offset in encoders:
            by_encoder.setdefault(id(encoders[one.record.offset]), []).append(one)
    found: dict[int, bytes] = {}
    for some in by_encoder.values():
        rows = encoders[some[0].record.offset].encode([one.message for one in some])
        found.update((one.record.offset, row.tobytes()) for one, row in zip(some, rows, strict=True))
    return found


def refold_accounts(
    settings: Settings,
    number: int,
    ends: Offsets,
    position: Offsets | None,
    encoders: Mapping[int, Encoder],
    told: Told,
) -> Accounts:
    """Read and fold a partition's transactions and labels; profiles as of `position`, if asked for.

    `encoders` are, by offset of a judged transaction, those of the bundle that judged it, where it is at hand.
    """
    rules = settings.rules()
    serial = _Serial(rules)
    codes: dict[str, int] = {}
    rejected: dict[tuple[str, int], Fault] = {}
    labels: list[tuple[int, int, int, int, int, bool]] = []
    labels_told: dict[int, bool] = {}
    offsets: list[int] = []
    transaction_id: list[str] = []
    account_id: list[str] = []
    counterparty_id: list[str | None] = []
    columns: list[Columns] = []
    encoded: dict[int, bytes] = {}
    with Log(settings) as log:
        skipped = log.left_out(number)
        for records in log.read(LABELS, number, 0, ends.labels, chunk=CHUNK):
            batch = read(rules, labels=[(record, True) for record in records if (1, record.offset) not in skipped])
            rejected.update({(one.topic, one.record.offset): one.fault for one in batch.rejected})
            for record, one, _ in batch.labels:
                labels_told[record.offset] = one.counterparty_id is not None
                known, occurred = microseconds(one.known_at), microseconds(one.occurred_at)
                account = codes.setdefault(one.account_id, len(codes))
                labels.append((record.offset, account, occurred, known, hash64(one.transaction_id), one.is_fraud))
            if position is not None:
                serial.fold(Batch(labels=_until(batch.labels, position.labels)))
            told(len(records))
        for records in log.read(TRANSACTIONS, number, 0, ends.transactions, chunk=CHUNK):
            batch = read(rules, [(record, True) for record in records if (0, record.offset) not in skipped])
            rejected.update({(one.topic, one.record.offset): one.fault for one in batch.rejected})
            offsets += [one.record.offset for one in batch.transactions]
            transaction_id += [one.message.transaction_id for one in batch.transactions]
            account_id += [one.message.account_id for one in batch.transactions]
            counterparty_id += [one.message.counterparty_id for one in batch.transactions]
            columns.append(columns_of((one.message for one in batch.transactions), rules))
            encoded.update(_encoded(batch.transactions, encoders))
            if position is not None:
                serial.fold(Batch(transactions=_until(batch.transactions, position.transactions)))
            told(len(records))
    names = (TRANSACTIONS.name, LABELS.name)
    rejected.update({(names[topic], offset): fault for (topic, offset), fault in skipped.items() if topic < 2})
    label = list(zip(*labels, strict=True)) if labels else [()] * 6
    return Accounts(
        offset=np.array(offsets, np.int64),
        status=np.empty(0, np.int8),
        transaction_id=transaction_id,
        account_id=account_id,
        counterparty_id=counterparty_id,
        columns=Columns(*(np.concatenate(parts) for parts in zip(*(columns or [columns_of((), rules)]), strict=True))),
        account=np.array([codes.setdefault(name, len(codes)) for name in account_id], np.int64),
        label_offset=np.array(label[0], np.int64),
        label_account=np.array(label[1], np.int64),
        label_time=np.array(label[2], np.int64),
        label_known=np.array(label[3], np.int64),
        label_ident=np.array(label[4], np.uint64),
        label_fraud=np.array(label[5], np.int8),
        labels_told=labels_told,
        rejected=rejected,
        encoded=encoded,
        blobs=serial.blobs,
    )


def refold_counterparties(
    settings: Settings, number: int, end: int, position: Offsets | None, told: Told
) -> Counterparties:
    """Read and fold a partition of the activity; profiles as of `position`, if asked for."""
    rules = settings.rules()
    serial = _Serial(rules)
    names: dict[str, int] = {}
    rows: list[tuple[int, int, bool, int, int, int, int, int, bool]] = []
    sources: list[tuple[int, int, bool]] = []
    rejected: dict[tuple[str, int], Fault] = {}
    with Log(settings) as log:
        skipped = log.left_out(number)
        for records in log.read(ACTIVITY, number, 0, end, chunk=CHUNK):
            batch = read(rules, activity=[(record, True) for record in records if (2, record.offset) not in skipped])
            rejected.update({(one.topic, one.record.offset): one.fault for one in batch.rejected})
            for record, one, _ in batch.activity:
                is_label = one.known_at is not None
                code = names.setdefault(one.counterparty_id, len(names))
                rows.append(
                    (record.offset, code, is_label, one.occurred_at, one.amount, one.transaction, one.account,
                     one.known_at or 0, bool(one.is_fraud))
                )  # fmt: skip
                sources.append((one.source.partition, one.source.offset, is_label))
            if position is not None:
                serial.fold(Batch(activity=_until(batch.activity, position.activity)))
            told(len(records))
    columns = list(zip(*rows, strict=True)) if rows else [()] * 9
    return Counterparties(
        offset=np.array(columns[0], np.int64),
        counterparty=np.array(columns[1], np.int64),
        names=names,
        is_label=np.array(columns[2], np.bool_),
        time=np.array(columns[3], np.int64),
        amount=np.array(columns[4], np.int64),
        ident=np.array(columns[5], np.uint64),
        account=np.array(columns[6], np.uint64),
        known=np.array(columns[7], np.int64),
        fraud=np.array(columns[8], np.int8),
        sources=sources,
        rejected=rejected
        | {(ACTIVITY.name, offset): fault for (topic, offset), fault in skipped.items() if topic == 2},
        blobs=serial.blobs,
    )


def describe_accounts(
    found: Accounts, labels_seen: Mapping[int, int], *, instantly: bool = False
) -> npt.NDArray[np.float32]:
    """Fill the accounts' part of each transaction's vector, and `found.status`.

    `labels_seen` is, by offset of a judged transaction, the next label that its verdict says was not folded.  With
    `instantly` every label is known at its time instead, as the training takes it.
    """
    n = len(found.offset)
    vectors = np.empty((n, len(FEATURES)), np.float32)
    kernel.describe_transactions(vectors, found.columns.amount, found.columns.hour, found.columns.weekday)
    rows = np.arange(n, dtype=np.int64)
    if instantly:
        at, label_at = _arrivals(found.columns.time), _arrivals(found.label_known)
    else:
        # A label with offset l was folded before a transaction whose verdict says that l + 1 or more was next.
        seen = np.array([labels_seen.get(offset, NEVER_JUDGED) for offset in found.offset.tolist()], np.int64)
        at, label_at = np.maximum.accumulate(2 * seen - 1) if n else seen, 2 * found.label_offset
    status, _ = walk_accounts(
        Steps.merged(
            Steps.of(
                kernel.LABEL, profile=found.label_account, at=label_at, time=found.label_time, ident=found.label_ident,
                known=found.label_known, fraud=found.label_fraud,
            ),
            Steps.of(
                kernel.TRANSACTION, profile=found.account, at=at, time=found.columns.time, amount=found.columns.amount,
                ident=found.columns.ident, extra=found.columns.content.astype(np.uint64), offset=found.offset, told=rows,
            ),
        ),
        vectors,
    )  # fmt: skip
    found.status = status
    return vectors


@dataclass
class Questions:
    """What judged transactions asked of the counterparties of one partition: n of each."""

    counterparty: Ints
    """As Counterparties.names numbers them."""
    time: Ints
    seen: Ints
    """The last activity offset that the verdict says was folded; -1: none."""


def describe_counterparties(
    found: Counterparties, asked: Questions, *, instantly: bool = False
) -> npt.NDArray[np.float32]:
    """The counterparties' part of the vector of each question, in order (the rest of the row is not filled)."""
    n = len(asked.time)
    vectors = np.zeros((n, len(FEATURES)), np.float32)
    if instantly:
        at = np.where(found.is_label, found.known, found.time)
        question_at = asked.time
    else:
        at, question_at = 2 * found.offset, 2 * asked.seen + 1
    step = Steps.of(
        kernel.PAYMENT, profile=found.counterparty, at=at, time=found.time, amount=found.amount, ident=found.ident,
        extra=found.account, known=found.known, fraud=found.fraud, offset=found.offset,
    )  # fmt: skip
    step = step._replace(step=np.where(found.is_label, kernel.PAYMENT_LABEL, kernel.PAYMENT).astype(np.int8))
    questions = Steps.of(
        kernel.QUESTION, profile=asked.counterparty, at=question_at, time=asked.time, told=np.arange(n, dtype=np.int64)
    )
    walk_counterparties(Steps.merged(step, questions), vectors)
    return vectors


def _arrivals(time: Ints) -> Ints:
    return np.maximum.accumulate(time) if len(time) else time
