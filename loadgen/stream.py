"""A stream of transactions, their labels, and mischief among them, sent when each is due."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from loadgen.latency import Latency, Recorder
from loadgen.mischief import DUPLICATE, Mischief, Planted, plan
from loadgen.pace import Ints, Pace, at_rate, at_speed, when_the_world_gets_there
from loadgen.sender import Sender
from loadgen.target import Target
from schemas.encoding import Encoded, encode_labels, encode_transactions
from schemas.errors import WrongSettings
from schemas.partitioning import partition_of
from schemas.tables import UTC_TIME
from schemas.topics import LABELS, TRANSACTIONS
from schemas.wire import microseconds

LABEL, TRANSACTION, PLANTED = 0, 1, 2
"""In this order where they are due together: a label is known when the transaction that waited for it comes."""
TICK: Final = 0.002
"""Seconds that the sender sleeps at least: waking for each message would cost more than sending it."""
SLICE: Final = 200
TOLD_EVERY: Final = 0.25
"""Seconds between two reports of progress."""


class Stop(Protocol):
    """threading.Event, multiprocessing.Event, or what is like them."""

    def is_set(self) -> bool:
        """It is time to end."""
        ...


class Outgoing(Protocol):
    """What loadgen.sender.Sender does."""

    waited: int
    failed: Counter[str]
    last_error: str

    def send(self, topic: str, key: bytes | None, value: bytes | None, due: int, partition: int = -1) -> None:
        """Takes a message in."""
        ...

    def poll(self) -> None:
        """Hears of failures, without waiting."""
        ...

    def flush(self, timeout: float) -> int:
        """Waits until all have arrived; how many have not."""
        ...


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a stream is."""

    transactions: int
    of: int
    labels: int
    planted: int
    """Malformed messages and duplicates."""
    failed: int
    seconds: float
    """Since the start."""
    rate: float
    """Transactions a second since the last report."""
    world_time: datetime
    lateness: Latency
    """From due to handed to Kafka's client, since the last report."""


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream has sent."""

    transactions: int
    of: int
    labels: int
    labels_not_reached: int
    """Labels that become known after the last transaction."""
    planted: dict[str, int]
    """Malformed messages by the error planned for them, and duplicates."""
    failed: dict[str, int]
    """Messages that Kafka did not take, by error."""
    waited: int
    """How often the client's queue was full."""
    seconds: float
    rate: float
    """Transactions a second."""
    lateness: Latency
    finished: bool
    """False where it was stopped before."""
    start_at: int
    """Microseconds since 1970 UTC: when the first one was due."""


@dataclass(frozen=True)
class Schedule:
    """When each transaction is due: known to sender and reader alike, so that nobody has to ask."""

    ids: pl.Series
    due: Ints
    """Microseconds after the start."""

    def by_id(self) -> dict[str, int]:
        """Microseconds after the start by transaction_id."""
        return dict(zip(self.ids.to_list(), self.due.tolist(), strict=True))


class Encoding(Protocol):
    """How rows become messages, where it isn't as schemas.encoding has it.  Can be pickled."""

    def transactions(self, rows: pl.DataFrame) -> Encoded:
        """Each row as a message, with its key."""
        ...

    def labels(self, rows: pl.DataFrame) -> Encoded:
        """The same."""
        ...


class AsTheyCame:
    """Rows with a `key` and a `value`, as an archive has them: the very bytes."""

    def transactions(self, rows: pl.DataFrame) -> Encoded:
        """Each row as the message it was."""
        return Encoded(rows["key"].to_list(), rows["value"].to_list())

    labels = transactions


class Stream:
    """Transactions at a rate or a speed, labels when the stream's world gets to when they are known, mischief.

    Either `rate` (transactions a second), `speed` (the world's time against ours) or when each is `due`.  Frames as
    schemas.tables, in the order of the log.  Can be pickled, to run in a process of its own (loadgen.beside).
    """

    def __init__(
        self,
        transactions: pl.DataFrame,
        labels: pl.DataFrame,
        *,
        rate: float | None = None,
        speed: float | None = None,
        due: Ints | None = None,
        mischief: Mischief = Mischief(),  # noqa: B008 - frozen
        encoding: Encoding | None = None,
    ) -> None:
        """`due` [transactions]: microseconds after the start, rising.

        In JSON, unless `encoding` is given; what is planted is always in JSON.
        """
        self.transactions, self.labels = transactions, labels
        self.encoding = encoding
        times = transactions["occurred_at"].dt.timestamp("us").to_numpy()
        known = labels["known_at"].dt.timestamp("us").to_numpy()
        if (np.diff(times) < 0).any() or (np.diff(known) < 0).any():
            raise ValueError("transactions and labels stand in the order of the log")
        self.times = times
        try:
            if sum(given is not None for given in (rate, speed, due)) != 1:
                raise ValueError("a stream has either a rate or a speed")
            if due is not None and len(due) != len(times):
                raise ValueError(f"{len(due)} due times for {len(times)} transactions")
            if rate is not None:
                due = at_rate(len(times), rate)
            elif speed is not None:
                due = at_speed(times, speed)
            assert due is not None
            self.due = due
        except ValueError as error:
            raise WrongSettings(str(error)) from error
        self.labels_due, self.labels_reached = when_the_world_gets_there(known, times, self.due)
        self.planted = plan(mischief, transactions)
        """What is wrong on purpose, in order."""

    def rest(self, sent: Sent, rate: float) -> Stream:
        """What this one had still to send when it was stopped, at another rate; what was planted is what was planned."""
        left = Stream(
            self.transactions[sent.transactions :], self.labels[sent.labels :], rate=rate, encoding=self.encoding
        )
        left.planted = [
            replace(one, after=max(one.after - sent.transactions, 0))
            for one in self.planted[sum(sent.planted.values()) :]
        ]
        return left

    def schedule(self) -> Schedule:
        """For the reader."""
        return Schedule(self.transactions["transaction_id"], self.due)

    def duration(self) -> float:
        """Seconds from the first one's due time to the last one's."""
        return float(self.due[-1]) / 1e6 if len(self.due) else 0.0

    def prepare(self, ahead: int = 500_000) -> Prepared:
        """Encodes the first `ahead` transactions, so that sending them costs little; the others follow on the way."""
        return Prepared(self, ahead)

    def send(
        self,
        target: Target,
        *,
        start_at: int | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
        stop: Stop | None = None,
    ) -> Sent:
        """All of it, in this process; see Prepared.send.  Raises WrongSettings where Kafka or a topic isn't there."""
        return self.prepare().send(target, start_at=start_at, progress=progress, stop=stop)


class _Ahead:
    """Rows encoded some way ahead of where they are needed, in order."""

    def __init__(self, rows: pl.DataFrame, encode: Callable[[pl.DataFrame], Encoded], ahead: int) -> None:
        self._rows, self._encode, self._ahead = rows, encode, ahead
        self._encoded = 0
        self._taken = 0
        self._messages: deque[tuple[bytes, bytes]] = deque()
        while self._encoded < min(rows.height, ahead):
            self._more(20_000)

    def take(self) -> tuple[bytes, bytes]:
        """Key and value of the next one."""
        if not self._messages:
            self._more(SLICE)
        self._taken += 1
        return self._messages.popleft()

    def top_up(self) -> None:
        """A few more, while there is time."""
        if self._encoded < self._rows.height and len(self._messages) < self._ahead:
            self._more(SLICE)

    def _more(self, count: int) -> None:
        encoded = self._encode(self._rows[self._encoded : self._encoded + count])
        self._messages.extend(zip(encoded.keys, encoded.values, strict=True))
        self._encoded += len(encoded.values)


class Prepared:
    """A stream that is ready to be sent, once."""

    def __init__(self, stream: Stream, ahead: int) -> None:
        self._stream = stream
        encoding = stream.encoding
        self._ahead = {
            TRANSACTION: _Ahead(stream.transactions, encoding.transactions if encoding else encode_transactions, ahead),
            LABEL: _Ahead(
                stream.labels[: stream.labels_reached], encoding.labels if encoding else encode_labels, ahead
            ),
        }
        self._kinds, self._due = _merged(stream)

    def send(
        self,
        target: Target,
        *,
        start_at: int | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
        stop: Stop | None = None,
    ) -> Sent:
        """Sends everything when it is due, then waits until Kafka has it.

        `start_at` (microseconds since 1970 UTC; default now) is when the first one is due.  `progress` is told four
        times a second; when `stop` is set, what was sent is flushed and the rest left.

        Raises WrongSettings where Kafka or a topic isn't there.
        """
        partitions = target.partitions([TRANSACTIONS, LABELS])[target.name(TRANSACTIONS)]
        return self.send_through(
            Sender(target), target, partitions=partitions, start_at=start_at, progress=progress, stop=stop
        )

    def send_through(
        self,
        sender: Outgoing,
        target: Target,
        *,
        partitions: int,
        start_at: int | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
        stop: Stop | None = None,
    ) -> Sent:
        """The same through any sender, to so many partitions."""
        sending = _Sending(self._stream, self._ahead, sender, target, partitions, progress)
        return sending.run(self._kinds, self._due, start_at, stop)


def _merged(stream: Stream) -> tuple[npt.NDArray[np.int8], Ints]:
    """What comes when: kinds and due times, in order.  Of each kind the next one is meant."""
    planted = stream.due[[each.after for each in stream.planted]] if stream.planted else np.zeros(0, dtype=np.int64)
    parts = [stream.labels_due, stream.due, planted]
    due = np.concatenate(parts)
    kinds = np.repeat(np.array([LABEL, TRANSACTION, PLANTED], dtype=np.int8), [len(part) for part in parts])
    order = np.lexsort((kinds, due))
    return kinds[order], due[order]


class _Sending:
    """One run of a stream."""

    def __init__(
        self,
        stream: Stream,
        ahead: dict[int, _Ahead],
        sender: Outgoing,
        target: Target,
        partitions: int,
        progress: Callable[[Progress], None],
    ) -> None:
        self._stream, self._ahead, self._sender, self._progress = stream, ahead, sender, progress
        self._topic = {TRANSACTION: target.name(TRANSACTIONS), LABEL: target.name(LABELS)}
        self._partitions = partitions
        self._counts = {LABEL: 0, TRANSACTION: 0, PLANTED: 0}
        self._planted: Counter[str] = Counter()
        self._lateness = Recorder()

    def run(self, kinds: npt.NDArray[np.int8], due: Ints, start_at: int | None, stop: Stop | None) -> Sent:
        start = start_at if start_at is not None else _now()
        pace = Pace(due, start=start, slice_of=SLICE)
        begun = told = time.monotonic()
        told_at = 0
        while not pace.finished and not (stop is not None and stop.is_set()):
            part = pace.take(_now())
            if part:
                times = pace.due[part.start : part.stop]
                for kind, when in zip(kinds[part.start : part.stop].tolist(), times.tolist(), strict=True):
                    self._send(kind, when)
                self._lateness.record(_now() - times)
            self._sender.poll()
            if time.monotonic() - told >= TOLD_EVERY:
                told_at, told = self._tell(told_at, told, begun), time.monotonic()
            wait = pace.wait(_now()) / 1e6
            if wait > 0:
                before = time.monotonic()
                for ahead in self._ahead.values():
                    ahead.top_up()
                time.sleep(min(max(wait - (time.monotonic() - before), TICK), 0.05))
        lost = self._sender.flush(10.0 if stop is not None and stop.is_set() else 60.0)
        if lost:
            self._sender.failed[self._sender.last_error or "not acknowledged in time"] += lost
        self._tell(told_at, told, begun)
        seconds = time.monotonic() - begun
        return Sent(
            transactions=self._counts[TRANSACTION],
            of=self._stream.transactions.height,
            labels=self._counts[LABEL],
            labels_not_reached=self._stream.labels.height - self._stream.labels_reached,
            planted=dict(self._planted),
            failed=dict(self._sender.failed),
            waited=self._sender.waited,
            seconds=seconds,
            rate=self._counts[TRANSACTION] / seconds if seconds else 0.0,
            lateness=self._lateness.total(),
            finished=pace.finished,
            start_at=start,
        )

    def _send(self, kind: int, due: int) -> None:
        if kind == PLANTED:
            self._send_planted(self._stream.planted[self._counts[PLANTED]], due)
        else:
            key, value = self._ahead[kind].take()
            self._sender.send(self._topic[kind], key, value, due)
        self._counts[kind] += 1

    def _send_planted(self, planted: Planted, due: int) -> None:
        partition = -1
        if planted.wrong_partition:
            if self._partitions == 1:
                return  # there is no wrong one
            partition = (partition_of(planted.key or b"", self._partitions) + 1) % self._partitions
        self._sender.send(self._topic[TRANSACTION], planted.key, planted.value, due, partition)
        self._planted[str(planted.planned)] += 1

    def _tell(self, before: int, told: float, begun: float) -> int:
        now, sent = time.monotonic(), self._counts[TRANSACTION]
        world = int(self._stream.times[max(sent - 1, 0)]) if len(self._stream.times) else 0
        self._progress(
            Progress(
                transactions=sent,
                of=self._stream.transactions.height,
                labels=self._counts[LABEL],
                planted=self._counts[PLANTED],
                failed=sum(self._sender.failed.values()),
                seconds=now - begun,
                rate=(sent - before) / (now - told) if now > told else 0.0,
                world_time=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=world),
                lateness=self._lateness.interval(),
            )
        )
        return sent


def _now() -> int:
    return time.time_ns() // 1_000


def shifted_to(
    now: datetime, transactions: pl.DataFrame, labels: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame, timedelta]:
    """All times moved by whole weeks, so that the last transaction lies in the week before `now`; and by how much.

    Whole weeks keep hours and weekdays what they were; nothing is from the future.
    """
    if not transactions.height:
        return transactions, labels, timedelta(0)
    last = int(transactions["occurred_at"].dt.timestamp("us").max())  # type: ignore[arg-type]
    shift = timedelta(weeks=(microseconds(now) - last) // (7 * 86_400_000_000))
    moved = pl.col("occurred_at") + shift
    return (
        transactions.with_columns(moved.cast(UTC_TIME)),
        labels.with_columns(moved.cast(UTC_TIME), (pl.col("known_at") + shift).cast(UTC_TIME)),
        shift,
    )


__all__ = ["DUPLICATE", "Prepared", "Progress", "Schedule", "Sent", "Stop", "Stream", "shifted_to"]
