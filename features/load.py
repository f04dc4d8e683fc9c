"""What a bank does on its first day: its past goes into the log, is folded straight into the store, and is not judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import polars as pl

from features.collecting import spare_the_collector
from features.continuity import NOTHING_COMMITTED
from features.log import Log, Written
from features.position import Keys, Offsets, TopicIds
from features.rebuild import Fold, connect
from features.settings import Settings
from schemas.encoding import Encoded, encode_labels, encode_transactions
from schemas.errors import WrongSettings
from schemas.marks import Marks, Trace
from schemas.topics import ACTIVITY, INPUTS, LABELS, TRANSACTIONS
from schemas.wire import encode

SLICE = 50_000
Told = Callable[[str, int], None]
"""Hears of progress: of which step, how many messages more."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What was loaded."""

    transactions: int
    labels: int
    activity: int
    duplicates: int
    """Rows with an id and a content that had come before."""
    reused: int
    """Rows with an id that was another transaction's of the account."""
    rejected: int
    """Rows that are no message a worker would accept; `dead-letters` has nothing of them, their offsets are the log's."""


_ANEW = "make the topics anew (all of them), or use another FRAUD_TOPIC_PREFIX"
STEPS = ("transactions written", "labels written", "accounts folded", "activity written", "counterparties folded")


def load(
    settings: Settings, transactions: pl.DataFrame, labels: pl.DataFrame, told: Told = lambda _step, _count: None
) -> Loaded:
    """Write a past (schemas.tables) to the log, fold it, and commit the group's offsets behind it.

    Raises WrongSettings where workers run or where the topics or the store hold something already: half a load is undone
    by making the topics anew and deleting the keys, not by loading over it.
    """
    spare_the_collector()
    with Log(settings) as log:
        log.check_topics()
        _require_empty(settings, log)
        topics = TopicIds(*log.topic_ids())
        log.write(TRANSACTIONS, _messages(transactions, encode_transactions), told=lambda n: told(STEPS[0], n))
        log.write(LABELS, _messages(labels, encode_labels), told=lambda n: told(STEPS[1], n))
        numbers = range(settings.partitions)
        ends = {n: [log.bounds(topic, n)[1] for topic in INPUTS] for n in numbers}
        folds = {n: Fold(settings, log, n) for n in numbers}

        def activity() -> Iterator[Written]:
            for number, fold in folds.items():
                until = Offsets(ends[number][0], ends[number][1], 0)
                for some in fold.accounts(until, tell=True, told=lambda n: told(STEPS[2], n)):
                    for one in some:
                        yield Written(one.counterparty_id.encode(), encode(one))

        count = log.write(ACTIVITY, activity(), told=lambda n: told(STEPS[3], n))
        for number, fold in folds.items():
            ends[number][2] = log.bounds(ACTIVITY, number)[1]
            fold.counterparties(ends[number][2], told=lambda n: told(STEPS[4], n))
        if members := log.members():
            raise WrongSettings(f"workers joined group {settings.group} meanwhile ({', '.join(members)}): {_ANEW}")
        # Committed first: a worker that starts in between finds no position, and folds all of it, telling nothing.
        for number in numbers:
            last = [folds[number].last.get(topic) for topic in range(len(INPUTS))]
            traces = [Trace(topic_id, one) for topic_id, one in zip(topics, last, strict=True)]
            traces[0] = Marks(topics.transactions, last[0], judged_from=ends[number][0])
            log.commit(number, Offsets(*ends[number]), [trace.text() for trace in traces])
        for number, fold in folds.items():
            fold.publish(Offsets(*ends[number]), topics)
    return Loaded(
        transactions=len(transactions),
        labels=len(labels),
        activity=count,
        duplicates=sum(fold.duplicates for fold in folds.values()),
        reused=sum(fold.reused for fold in folds.values()),
        rejected=sum(fold.rejected for fold in folds.values()),
    )


def _require_empty(settings: Settings, log: Log) -> None:
    if members := log.members():
        raise WrongSettings(f"group {settings.group} has workers ({', '.join(members)}): stop them before loading")
    client = connect(settings)
    for number in range(settings.partitions):
        for topic in INPUTS:
            if log.bounds(topic, number)[1] > 0:
                raise WrongSettings(
                    f"topic {settings.topic(topic)} is not empty: a past is loaded into new topics, before the first worker; "
                    "make the topics anew (all of them), or use another FRAUD_TOPIC_PREFIX"
                )
        if any(one.offset != NOTHING_COMMITTED for one in log.committed(number)):
            raise WrongSettings(
                f"group {settings.group} has committed offsets: use another FRAUD_GROUP, or delete the group"
            )
        if client.exists(Keys(settings.topic_prefix, number).position):
            raise WrongSettings(
                f"Redis holds profiles of partition {number}: delete {Keys(settings.topic_prefix, number).position}, or "
                "use another FRAUD_TOPIC_PREFIX"
            )


def _messages(rows: pl.DataFrame, encoder: Callable[[pl.DataFrame], Encoded]) -> Iterator[Written]:
    for some in rows.iter_slices(SLICE):
        encoded = encoder(some)
        yield from map(Written, encoded.keys, encoded.values)


def as_json(loaded: Loaded) -> str:
    """For `--json`."""
    return msgspec.json.encode(loaded).decode()
