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
from features.attributes import Encoder
from features.catalogue import FEATURES, SETTLING
from features.describing import Taken, read
from features.facts import Facts, Heard
from features.history import Steps, fold_accounts, fold_counterparties, walk_accounts, walk_counterparties
from features.log import Log
from features.position import Offsets, TopicIds
from features.settings import Settings
from schemas.activity import CounterpartyActivity
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
    names: dict[str, int]
    """A number for each account."""
    labels: Facts
    label_offset: Ints
    label_account: Ints
    labels_told: dict[int, bool]
    """Offsets of accepted labels, and whether they name a counterparty."""
    rejected: dict[tuple[str, int], Fault]
    """By topic and offset."""
    record_offset: Ints
    """Of every record on `transactions`, accepted or not,"""
    record_timestamp: Ints
    """and its timestamp, in milliseconds since 1970 UTC."""
    encoded: dict[int, bytes] = field(default_factory=dict)
    """By offset of a transaction whose encoder was given: the columns behind the catalogue's, float32."""


@dataclass
class Counterparties:
    """One partition of the activity."""

    offset: Ints
    counterparty: Ints
    names: dict[str, int]
    """A number for each counterparty."""
    heard: Heard
    source: Ints
    """What each tells of, as `source_of` names it."""
    rejected: dict[tuple[str, int], Fault]
    """By topic and offset."""


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


def read_accounts(
    settings: Settings, number: int, begins: Offsets, ends: Offsets, encoders: Mapping[int, Encoder], told: Told
) -> Accounts:
    """Read a partition's transactions and labels, from where they begin to where they end.

    `encoders` are, by offset of a judged transaction, those of the bundle that judged it, where it is at hand.
    """
    rules = settings.rules()
    names: dict[str, int] = {}
    rejected: dict[tuple[str, int], Fault] = {}
    labels: list[Facts] = [facts.of_labels((), rules)]
    label_offset: list[int] = []
    label_account: list[int] = []
    labels_told: dict[int, bool] = {}
    offsets: list[int] = []
    transaction_id: list[str] = []
    account_id: list[str] = []
    counterparty_id: list[str | None] = []
    transactions: list[Facts] = [facts.of_transactions((), rules)]
    encoded: dict[int, bytes] = {}
    record_offset: list[int] = []
    record_timestamp: list[int] = []
    with Log(settings) as log:
        skipped = log.left_out(number, TopicIds(*log.topic_ids()))
        for records in log.read(LABELS, number, begins.labels, ends.labels, chunk=CHUNK):
            batch = read(rules, labels=[(record, True) for record in records if (1, record.offset) not in skipped])
            rejected.update({(one.topic, one.record.offset): one.fault for one in batch.rejected})
            for record, one, _ in batch.labels:
                labels_told[record.offset] = one.counterparty_id is not None
                label_offset.append(record.offset)
                label_account.append(names.setdefault(one.account_id, len(names)))
            labels.append(facts.of_labels((one.message for one in batch.labels), rules))
            told(len(records))
        for records in log.read(TRANSACTIONS, number, begins.transactions, ends.transactions, chunk=CHUNK):
            record_offset += [record.offset for record in records]
            record_timestamp += [record.timestamp for record in records]
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
            told(len(records))
    topics = (TRANSACTIONS.name, LABELS.name)
    rejected.update({(topics[topic], offset): fault for (topic, offset), fault in skipped.items() if topic < 2})
    return Accounts(
        offset=np.array(offsets, np.int64),
        status=np.empty(0, np.int8),
        transaction_id=transaction_id,
        account_id=account_id,
        counterparty_id=counterparty_id,
        transactions=np.concatenate(transactions),
        account=np.array([names.setdefault(name, len(names)) for name in account_id], np.int64),
        names=names,
        labels=np.concatenate(labels),
        label_offset=np.array(label_offset, np.int64),
        label_account=np.array(label_account, np.int64),
        labels_told=labels_told,
        rejected=rejected,
        record_offset=np.array(record_offset, np.int64),
        record_timestamp=np.array(record_timestamp, np.int64),
        encoded=encoded,
    )


def read_counterparties(
    settings: Settings,
    number: int,
    begin: int,
    end: int,
    is_known: Callable[[CounterpartyActivity, int], bool],
    told: Told,
) -> Counterparties:
    """Read a partition of the activity.

    `is_known` says of a message whether it is still in the log, given the activity about it and that record's timestamp in
    milliseconds: what tells of others is folded, and is nobody's source.
    """
    rules = settings.rules()
    names: dict[str, int] = {}
    offsets: list[int] = []
    whose: list[int] = []
    heard: list[Heard] = []
    sources: list[int] = []
    rejected: dict[tuple[str, int], Fault] = {}
    with Log(settings) as log:
        skipped = log.left_out(number, TopicIds(*log.topic_ids()))
        for records in log.read(ACTIVITY, number, begin, end, chunk=CHUNK):
            batch = read(rules, activity=[(record, True) for record in records if (2, record.offset) not in skipped])
            rejected.update({(one.topic, one.record.offset): one.fault for one in batch.rejected})
            heard.append(facts.of_activity((one.message, one.record.offset) for one in batch.activity))
            for record, one, _ in batch.activity:
                offsets.append(record.offset)
                whose.append(names.setdefault(one.counterparty_id, len(names)))
                if is_known(one, record.timestamp):
                    sources.append(
                        source_of(one.source.partition, one.source.offset, is_label=one.known_at is not None)
                    )
            told(len(records))
    return Counterparties(
        offset=np.array(offsets, np.int64),
        counterparty=np.array(whose, np.int64),
        names=names,
        heard=Heard.joined(heard),
        source=np.array(sources, np.int64),
        rejected=rejected
        | {(ACTIVITY.name, offset): fault for (topic, offset), fault in skipped.items() if topic == 2},
    )


_OFFSETS, _PARTITIONS = (1 << 46) - 1, (1 << 16) - 1


def source_of(partition: int, offset: int, *, is_label: bool) -> int:
    """One number for a message on `transactions` or `labels`, which `partition_offset_label` takes apart.

    >>> source_of(3, 1_000, is_label=True)
    131072007
    """
    return (offset & _OFFSETS) << 17 | (partition & _PARTITIONS) << 1 | is_label


def partition_offset_label(source: Ints) -> tuple[Ints, Ints, Ints]:
    """Each of `source` [n] taken apart."""
    return source >> 1 & _PARTITIONS, source >> 17, source & 1


def refold_accounts(found: Accounts, until: Offsets) -> dict[str, bytes]:
    """The profiles as of a position, by account."""
    heard, mine = np.flatnonzero(found.label_offset < until.labels), np.flatnonzero(found.offset < until.transactions)
    steps = Steps.merged(
        Steps.of(kernel.LABEL, profile=found.label_account[heard], at=found.label_offset[heard], which=heard),
        Steps.of(kernel.TRANSACTION, profile=found.account[mine], at=found.offset[mine], which=mine),
    )
    return _by_name(found.names, fold_accounts(steps, found.transactions, found.labels))


def refold_counterparties(found: Counterparties, until: int) -> dict[str, bytes]:
    """The profiles as of an offset of the activity, by counterparty."""
    told = np.flatnonzero(found.offset < until)
    heard = found.heard
    steps = Steps.merged(
        Steps.of(heard.step[told], profile=found.counterparty[told], at=found.offset[told], which=heard.which[told])
    )
    return _by_name(found.names, fold_counterparties(steps, heard.payments, heard.labels))


def _by_name(names: dict[str, int], blobs: dict[int, bytes]) -> dict[str, bytes]:
    return {name: blobs[number] for name, number in names.items() if number in blobs}


def describe_accounts(
    found: Accounts, labels_seen: Mapping[int, int], *, instantly: bool = False
) -> npt.NDArray[np.float32]:
    """Fill the accounts' part of each transaction's vector, and `found.status`.

    `labels_seen` is, by offset of a judged transaction, the next label that its verdict says was not folded.  With
    `instantly` every label is known at its time instead, as the training takes it.
    """
    n = len(found.offset)
    vectors = np.empty((n, len(FEATURES)), np.float32)
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


def came_late(found: Counterparties, asked: Questions) -> npt.NDArray[np.bool_]:
    """Of each question: had activity that was settled by its time not been folded yet?"""
    n = len(found.offset)
    if not n:
        return np.zeros(len(asked.seen), np.bool_)
    order = np.lexsort((found.offset, found.counterparty))
    owner, offset = found.counterparty[order], found.offset[order]
    happened = (found.heard.known_at() + np.where(found.heard.step == kernel.PAYMENT, SETTLING, 0))[order]
    moments, rank = np.unique(happened, return_inverse=True)
    # The earliest of what lies behind each, of the same owner: others' count as later than all.
    soonest = np.minimum.accumulate((owner * n + rank)[::-1])[::-1] - owner * n
    longest = int(offset.max()) + 2
    seen = np.minimum(asked.seen, longest - 1)
    unseen = np.searchsorted(owner * longest + offset, asked.counterparty * longest + seen, side="right")
    there = np.minimum(unseen, n - 1)
    is_unseen = (unseen < n) & (owner[there] == asked.counterparty)
    by_then = np.searchsorted(moments, asked.transactions["time"], side="right")
    late: npt.NDArray[np.bool_] = is_unseen & (soonest[there] < by_then)
    return late


def _arrivals(time: Ints) -> Ints:
    return np.maximum.accumulate(time) if len(time) else time
