"""What a bank does on its first day: its past goes into the log, is folded straight into the store, and is not judged."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import polars as pl
from redis.exceptions import RedisError

from features.accepting import Record
from features.collecting import spare_the_collector
from features.continuity import NOTHING_COMMITTED
from features.log import Log, Written
from features.pin import pin
from features.position import Keys, Offsets, TopicIds
from features.rebuild import Fold, connect
from features.redis_words import why
from features.settings import Settings
from schemas.encoding import Encoded, encode_labels, encode_transactions
from schemas.errors import BadMessage, StoreUnavailable, WrongSettings
from schemas.mapping import Rejected
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
    """Rows that no worker would accept, left out because somebody said so."""
    not_yet_known: int
    """Labels that become known only after now: they are sent when they are."""


_ANEW = "make the topics anew (all of them), or use another FRAUD_TOPIC_PREFIX"
_ANYWAY = "mend them, or load the rest with --leave-out"
STEPS = (
    "rows checked",
    "transactions written",
    "labels written",
    "accounts folded",
    "activity written",
    "counterparties folded",
)


@dataclass
class _Checked:
    """One topic's rows, held to the rules that workers go by."""

    bad: list[int]
    """Their numbers."""
    faults: Counter[str]
    first: str = ""
    """The first of them, and what is wrong with it."""

    def said(self, rows: int, what: str) -> str:
        faults = ", ".join(f"{fault} {count:,}" for fault, count in self.faults.items())
        return f"{len(self.bad):,} of {rows:,} {what} ({faults}), the first being {self.first}"

    def kept(self, rows: pl.DataFrame) -> pl.DataFrame:
        if not self.bad:
            return rows
        numbers = pl.int_range(rows.height, eager=True)
        return rows.filter(~numbers.is_in(pl.Series(self.bad, dtype=pl.Int64).implode()))


def _check(
    rows: pl.DataFrame,
    encoder: Callable[[pl.DataFrame], Encoded],
    accept: Callable[[Record, int], object],
    name: str,
    told: Callable[[int], None],
) -> _Checked:
    """Whether a worker would accept each of them, were it written now.  Keys and partitions are what the load makes them."""
    found, now = _Checked([], Counter()), time.time_ns() // 1_000_000
    for number, message in enumerate(_messages(rows, encoder)):
        try:
            accept(Record(0, number, now, message.key, message.value), 0)
        except BadMessage as error:
            found.bad.append(number)
            found.faults[str(error.fault)] += 1
            found.first = found.first or f"{name} {rows[name][number]!r}: {error.detail}"
        if number % SLICE == SLICE - 1:
            told(SLICE)
    told(rows.height % SLICE)
    return found


def acceptable(
    settings: Settings,
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    leave_out: bool = False,
    told: Callable[[int], None] = lambda _count: None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of a past (schemas.tables) that workers would accept, by their own rules; nothing is written.

    Raises WrongSettings where they would not accept some, with how many, why, and the first; with `leave_out` those are left
    out instead.
    """
    rules = settings.rules()
    checked = (
        _check(transactions, encode_transactions, rules.transaction, "transaction_id", told),
        _check(labels, encode_labels, rules.label, "label_id", told),
    )
    said = [
        found.said(rows.height, what)
        for found, rows, what in zip(checked, (transactions, labels), ("transactions", "labels"), strict=True)
        if found.bad
    ]
    if said and not leave_out:
        raise WrongSettings(f"nothing was loaded: no worker would accept {'; and '.join(said)}; {_ANYWAY}")
    return checked[0].kept(transactions), checked[1].kept(labels)


def require_whole(rejected: Sequence[Rejected]) -> None:
    """Raises WrongSettings where a table's rows can't be transactions, but for lines that are none."""
    rows = [one for one in rejected if not one.of_labels and any(not why.startswith("row ") for why in one.reasons)]
    if rows:
        raise WrongSettings(f"nothing was loaded: {'; '.join(map(str, rows))}; {_ANYWAY}")


def load(
    settings: Settings,
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    told: Told = lambda _step, _count: None,
    *,
    leave_out: bool = False,
) -> Loaded:
    """Write a past (schemas.tables) to the log, fold it, and commit the group's offsets behind it.

    All of it is held to what workers accept before the first message is written; `leave_out` loads the rest where some is not.
    Raises WrongSettings where it isn't, where workers run or where the topics or the store hold something already: half a load
    is undone by making the topics anew and deleting the keys, not by loading over it.
    """
    spare_the_collector()
    with Log(settings) as log:
        log.check_topics()
        _require_empty(settings, log)
        topics = TopicIds(*log.topic_ids())
        rows = transactions.height + labels.height
        known = labels.filter(pl.col("known_at") <= datetime.now(UTC))
        later = labels.height - known.height
        transactions, labels = acceptable(
            settings, transactions, known, leave_out=leave_out, told=lambda n: told(STEPS[0], n)
        )
        rejected = rows - later - transactions.height - labels.height
        log.write(TRANSACTIONS, _messages(transactions, encode_transactions), told=lambda n: told(STEPS[1], n))
        log.write(LABELS, _messages(labels, encode_labels), told=lambda n: told(STEPS[2], n))
        numbers = range(settings.partitions)
        ends = {n: [log.bounds(topic, n)[1] for topic in INPUTS] for n in numbers}
        folds = {n: Fold(settings, log, n) for n in numbers}

        def activity() -> Iterator[Written]:
            for number, fold in folds.items():
                until = Offsets(ends[number][0], ends[number][1], 0)
                for some in fold.accounts(until, tell=True, told=lambda n: told(STEPS[3], n)):
                    for one in some:
                        yield Written(one.counterparty_id.encode(), encode(one))

        count = log.write(ACTIVITY, activity(), told=lambda n: told(STEPS[4], n))
        for number, fold in folds.items():
            ends[number][2] = log.bounds(ACTIVITY, number)[1]
            fold.counterparties(ends[number][2], told=lambda n: told(STEPS[5], n))
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
        rejected=rejected,
        not_yet_known=later,
    )


def _require_empty(settings: Settings, log: Log) -> None:
    if members := log.members():
        raise WrongSettings(f"group {settings.group} has workers ({', '.join(members)}): stop them before loading")
    client = connect(settings)
    try:
        pin(client, settings)
    except RedisError as error:
        raise StoreUnavailable(why(error)) from error
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
