"""What comes back: verdicts, alerts and dead letters, as a consumer that reads only committed messages sees them.

Latency is from when the transaction was due, which sender and reader both know, to when its verdict is here: a sender
that is held up can't hide it.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import msgspec
import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from loadgen.latency import Latency, Recorder
from loadgen.stream import TOLD_EVERY, Schedule, Stop
from loadgen.target import Target
from schemas.dead_letter import ERROR
from schemas.topics import ALERTS, DEAD_LETTERS, VERDICTS


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What came back so far."""

    verdicts: int
    """Of the schedule's transactions, each counted once."""
    awaited: int
    """Transactions of the schedule that have none yet."""
    others: int
    """Verdicts of no transaction of the schedule, or the second of one."""
    outcomes: dict[str, int]
    alerts: int
    right_alerts: int
    """Alerts about frauds."""
    dead_letters: dict[str, int]
    """By error."""
    bundles: dict[str, int]
    """The verdicts by the bundle that judged."""
    rate: float
    """Verdicts a second in the last interval."""
    interval: Latency
    total: Latency
    histogram: str = ""
    """At the end: all latencies in microseconds, as HdrHistogram encodes them."""


class _Verdict(msgspec.Struct):
    """What is needed of schemas.verdict.Verdict; all else is skipped over."""

    transaction_id: str
    outcome: str
    bundle: str = ""


class _Alert(msgspec.Struct):
    verdict: _Verdict


_verdict = msgspec.json.Decoder(_Verdict).decode
_alert = msgspec.json.Decoder(_Alert).decode


class Tally:
    """What messages come to; the time is handed in."""

    def __init__(self, target: Target, schedule: Schedule, frauds: frozenset[str]) -> None:
        self._verdicts, self._alerts = target.name(VERDICTS), target.name(ALERTS)
        self._due = schedule.by_id()
        self._expected = len(self._due)
        self._frauds = frauds
        self.latency = Recorder()
        self._outcomes: Counter[str] = Counter()
        self._errors: Counter[str] = Counter()
        self._bundles: Counter[str] = Counter()
        self._others = self._alerted = self._right = 0

    @property
    def awaited(self) -> int:
        """Transactions of the schedule that have no verdict yet."""
        return len(self._due)

    @property
    def verdicts(self) -> int:
        """Transactions of the schedule that have one."""
        return self._expected - len(self._due)

    def answers(self, rate: float, interval: Latency) -> Answers:
        """Everything so far; `rate` and `interval`: of the last interval."""
        return Answers(
            verdicts=self.verdicts,
            awaited=self.awaited,
            others=self._others,
            outcomes=dict(self._outcomes),
            alerts=self._alerted,
            right_alerts=self._right,
            dead_letters=dict(self._errors),
            bundles=dict(self._bundles),
            rate=rate,
            interval=interval,
            total=self.latency.total(),
        )

    def take(self, messages: Sequence[Message], now: int) -> None:
        """Messages that are here `now`, in microseconds after the start.

        A verdict's latency is from when its transaction was due until now, whenever it came to lie on the log.
        """
        ages, outcomes, bundles = list[int](), list[str](), list[str]()
        for message in messages:
            if message.topic() == self._verdicts and message.error() is None:
                verdict = _verdict(message.value() or b"")
                due = self._due.pop(verdict.transaction_id, None)
                if due is None:
                    self._others += 1
                else:
                    ages.append(now - due)
                    outcomes.append(verdict.outcome)
                    bundles.append(verdict.bundle)
            else:
                self._take_other(message)
        self._outcomes.update(outcomes)
        self._bundles.update(bundles)
        self.latency.record(np.array(ages, dtype=np.int64))

    def _take_other(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.code() != KafkaError._ALL_BROKERS_DOWN and not error.retriable():
                raise KafkaException(error)
        elif message.topic() == self._alerts:
            alert = _alert(message.value() or b"")
            self._alerted += 1
            self._right += alert.verdict.transaction_id in self._frauds
        else:
            headers = dict(message.headers() or ())
            name = headers.get(ERROR)
            self._errors[name.decode() if isinstance(name, bytes) else str(name)] += 1


class Reader:
    """Reads from the ends that the topics have when it is made.  Used by one thread."""

    def __init__(self, target: Target, schedule: Schedule, *, frauds: frozenset[str] = frozenset()) -> None:
        """Raises WrongSettings where Kafka or a topic isn't there."""
        partitions = target.partitions([VERDICTS, ALERTS, DEAD_LETTERS])
        self._consumer = Consumer(
            target.client(
                group__id=f"loadgen-reader-{os.getpid()}",
                isolation__level="read_committed",
                enable__auto__commit=False,
                fetch__wait__max__ms=20,
                # The default waits a second after the local queue was full.
                fetch__queue__backoff__ms=5,
            )
        )
        everything = [TopicPartition(name, number) for name, count in partitions.items() for number in range(count)]
        # Offsets that are looked up now: "the end" would be looked up later, perhaps behind the first verdicts.
        for each in everything:
            each.offset = self._end_of(each)
        self._consumer.assign(everything)
        self._tally = Tally(target, schedule, frauds)
        self._rate, self._interval = 0.0, Latency()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exception: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def read(
        self,
        start_at: int,
        *,
        progress: Callable[[Answers], None] = lambda _: None,
        stop: Stop | None = None,
        linger: float = 0.5,
    ) -> None:
        """Until every scheduled transaction has its verdict (and `linger` seconds more), or `stop` is set.

        `start_at` (microseconds since 1970 UTC) is when the first one is due.  `progress` is told four times a second.
        """
        told, before = time.monotonic(), 0
        ends: float | None = None
        while not (stop is not None and stop.is_set()):
            self._take(start_at)
            now = time.monotonic()
            if now - told >= TOLD_EVERY:
                had = self._tally.verdicts
                self._rate, self._interval = (had - before) / (now - told), self._tally.latency.interval()
                told, before = now, had
                progress(self.answers())
            if not self._tally.awaited:
                ends = ends or now + linger
                if now >= ends:
                    break

    def answers(self) -> Answers:
        """Everything so far."""
        return self._tally.answers(self._rate, self._interval)

    def histogram(self) -> str:
        """All latencies in microseconds, in HdrHistogram's base64 form."""
        return self._tally.latency.encoded()

    def _end_of(self, partition: TopicPartition) -> int:
        deadline = time.monotonic() + 10.0
        while True:
            try:
                return int(self._consumer.get_watermark_offsets(partition, timeout=10.0)[1])
            except KafkaException:
                # A topic that was made just now has no leader yet.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _take(self, start_at: int) -> None:
        # `consume(n, t)` would wait all of t unless n arrive: wait for the first, then take what else is here.
        first = self._consumer.poll(0.05)
        if first is None:
            return
        messages = [first, *self._consumer.consume(999, 0)]
        self._tally.take(messages, time.time_ns() // 1_000 - start_at)
