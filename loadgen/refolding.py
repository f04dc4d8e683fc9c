"""The log once more, serially: which message should have got what, from which vector, and which profiles that leaves.

It leans on the kernel, as training does, and on nothing of the worker: batches, takeovers and the store's history are what
it is there to doubt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from features import facts, kernel
from features.accepting import Rules
from features.attributes import Encoder
from features.catalogue import FEATURES
from features.describing import Batch, Describer, Taken, needed, read
from features.facts import Facts, Heard
from features.history import Steps, walk_accounts, walk_counterparties
from features.log import Log
from features.position import Offsets
from features.settings import Settings
from schemas.errors import Fault
from schemas.topics import ACTIVITY, LABELS, TRANSACTIONS

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
    transactions: Facts
    account: Ints
    """A number for each account."""
    labels: Facts
    label_offset: Ints
    label_account: Ints
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
    heard: Heard
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
    labels: list[Facts] = [facts.of_labels(())]
    label_offset: list[int] = []
    label_account: list[int] = []
    labels_told: dict[int, bool] = {}
    offsets: list[int] = []
    transaction_id: list[str] = []
    account_id: list[str] = []
    counterparty_id: list[str | None] = []
    transactions: list[Facts] = [facts.of_transactions((), rules)]
    encoded: dict[int, bytes] = {}
    with Log(settings) as log:
        skipped = log.left_out(number)
        for records in log.read(LABELS, number, 0, ends.labels, chunk=CHUNK):
            batch = read(rules, labels=[(record, True) for record in records if (1, record.offset) not in skipped])
            rejected.update({(one.topic, one.record.offset): one.fault for one in batch.rejected})
            for record, one, _ in batch.labels:
                labels_told[record.offset] = one.counterparty_id is not None
                label_offset.append(record.offset)
                label_account.append(codes.setdefault(one.account_id, len(codes)))
            labels.append(facts.of_labels(one.message for one in batch.labels))
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
            transactions.append(
                facts.of_transactions(((one.message, one.record.offset) for one in batch.transactions), rules)
            )
            encoded.update(_encoded(batch.transactions, encoders))
            if position is not None:
                serial.fold(Batch(transactions=_until(batch.transactions, position.transactions)))
            told(len(records))
    names = (TRANSACTIONS.name, LABELS.name)
    rejected.update({(names[topic], offset): fault for (topic, offset), fault in skipped.items() if topic < 2})
    return Accounts(
        offset=np.array(offsets, np.int64),
        status=np.empty(0, np.int8),
        transaction_id=transaction_id,
        account_id=account_id,
        counterparty_id=counterparty_id,
        transactions=np.concatenate(transactions),
        account=np.array([codes.setdefault(name, len(codes)) for name in account_id], np.int64),
        labels=np.concatenate(labels),
        label_offset=np.array(label_offset, np.int64),
        label_account=np.array(label_account, np.int64),
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
    offsets: list[int] = []
    whose: list[int] = []
    heard: list[Heard] = []
    sources: list[tuple[int, int, bool]] = []
    rejected: dict[tuple[str, int], Fault] = {}
    with Log(settings) as log:
        skipped = log.left_out(number)
        for records in log.read(ACTIVITY, number, 0, end, chunk=CHUNK):
            batch = read(rules, activity=[(record, True) for record in records if (2, record.offset) not in skipped])
            rejected.update({(one.topic, one.record.offset): one.fault for one in batch.rejected})
            heard.append(facts.of_activity((one.message, one.record.offset) for one in batch.activity))
            for record, one, _ in batch.activity:
                offsets.append(record.offset)
                whose.append(names.setdefault(one.counterparty_id, len(names)))
                sources.append((one.source.partition, one.source.offset, one.known_at is not None))
            if position is not None:
                serial.fold(Batch(activity=_until(batch.activity, position.activity)))
            told(len(records))
    return Counterparties(
        offset=np.array(offsets, np.int64),
        counterparty=np.array(whose, np.int64),
        names=names,
        heard=Heard.joined(heard),
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
    kernel.describe_transactions(vectors, found.transactions)
    rows = np.arange(n, dtype=np.int64)
    if instantly:
        at, label_at = _arrivals(found.transactions["time"]), _arrivals(found.labels["known"])
    else:
        # A label with offset l was folded before a transaction whose verdict says that l + 1 or more was next.
        seen = np.array([labels_seen.get(offset, NEVER_JUDGED) for offset in found.offset.tolist()], np.int64)
        at, label_at = np.maximum.accumulate(2 * seen - 1) if n else seen, 2 * found.label_offset
    walked = walk_accounts(
        Steps.merged(
            Steps.of(kernel.LABEL, profile=found.label_account, at=label_at, which=np.arange(len(label_at))),
            Steps.of(kernel.TRANSACTION, profile=found.account, at=at, which=rows, told=rows),
        ),
        found.transactions,
        found.labels,
        vectors,
    )
    found.status = walked.status
    return vectors


@dataclass
class Questions:
    """What judged transactions asked of the counterparties of one partition: n of each."""

    counterparty: Ints
    """As Counterparties.names numbers them."""
    transactions: Facts
    seen: Ints
    """The last activity offset that the verdict says was folded; -1: none."""


def describe_counterparties(
    found: Counterparties, asked: Questions, *, instantly: bool = False
) -> npt.NDArray[np.float32]:
    """The counterparties' part of the vector of each question, in order (the rest of the row is not filled)."""
    n = len(asked.transactions)
    vectors = np.zeros((n, len(FEATURES)), np.float32)
    heard, time = found.heard, asked.transactions["time"]
    if instantly:
        at, question_at = heard.known_at(), time
    else:
        at, question_at = 2 * found.offset, 2 * asked.seen + 1
    rows = np.arange(n, dtype=np.int64)
    walk_counterparties(
        Steps.merged(
            Steps.of(heard.step, profile=found.counterparty, at=at, which=heard.which),
            Steps.of(kernel.QUESTION, profile=asked.counterparty, at=question_at, which=rows, told=rows),
        ),
        heard.payments,
        heard.labels,
        asked.transactions,
        vectors,
    )
    return vectors


def _arrivals(time: Ints) -> Ints:
    return np.maximum.accumulate(time) if len(time) else time
