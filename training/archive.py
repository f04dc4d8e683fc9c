"""The archiver: the topics into the archive's tables, each message once, and what was gone before it came.

It has no consumer group to speak of: how far it is stands in the tables, in the very commits that hold the rows.  Killed at
any point, it goes on where they say.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Protocol

import msgspec
import polars as pl
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from features.archive_tables import (
    ARCHIVED,
    GAP_COLUMNS,
    GAPS,
    Place,
    Table,
    make_table,
    source_of,
)
from features.log import PATIENCE, Log
from features.settings import Settings
from schemas.dead_letter import Headers
from schemas.errors import LogUnavailable, RegistryUnavailable, WrongSettings
from schemas.topics import DEAD_LETTERS, Topic
from training.archive_limits import Limits
from training.archive_rows import Arrived, rows_of

logger = logging.getLogger(__name__)

CHUNK = 5_000
"""Messages taken from Kafka's client at once, and made rows while the processor's caches still hold them."""
WAIT = 0.2
"""Seconds that the client may wait for the first of them."""


class Stop(Protocol):
    """An event, of threads or of processes."""

    def is_set(self) -> bool:
        """Whether it is time to end."""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Offsets that were gone from the log before they were archived.  Markers of transactions may be among them."""

    topic: str
    partition: int
    begin: int
    end: int
    """The first one that is there again."""

    def __str__(self) -> str:
        return f"{self.topic} [{self.partition}]: offsets {self.begin} to {self.end - 1} were gone from the log"


class Archived(msgspec.Struct, kw_only=True):
    """What a run did: by topic, without the installation's prefix."""

    rows: dict[str, int]
    versions: dict[str, int]
    """Of the tables, afterwards."""
    gaps: list[Gap]
    odd: int = 0
    """Messages that are archived with their bytes alone, for what they say no reader was prepared for: the log names them."""
    seconds: float

    @property
    def total(self) -> int:
        """Rows of all topics."""
        return sum(self.rows.values())


class Archiver:
    """One run.  Used by one thread."""

    def __init__(
        self,
        settings: Settings,
        place: Place,
        *,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        told: Callable[[Mapping[str, int]], None] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`told` hears of rows that are in the tables for good, by topic."""
        self._settings, self._place, self._limits, self._told, self._now = settings, place, limits, told, now
        self._writers = settings.writers()
        self._streams: dict[str, _Stream] = {}
        """By the topic's name in this installation."""
        self._gaps: list[Gap] = []
        self._odd = 0

    def run(self, stop: Stop, *, until_end: bool = False) -> Archived:
        """Archive until `stop`, or until all is archived that is on the log now; what was read is written at the end.

        Raises Overtaken, ArchiveUnusable, LogUnavailable, WrongSettings: what was not written then is read again by the next
        one.
        """
        began = time.monotonic()
        self._place.require_ours()
        with Log(self._settings) as log:
            log.check_topics(ARCHIVED)
            self._open(log)
            ends = self._ends(log) if until_end else None
            consumer = self._reader()
            try:
                self._archive(log, consumer, ends, stop)
            finally:
                consumer.close()
        return Archived(
            rows={one.topic.name: one.archived for one in self._streams.values()},
            versions={one.topic.name: one.table.version for one in self._streams.values()},
            gaps=self._gaps,
            odd=self._odd,
            seconds=round(time.monotonic() - began, 2),
        )

    def _open(self, log: Log) -> None:
        """Find or make the tables, and where each partition goes on."""
        for topic, topic_id in zip(ARCHIVED, log.topic_ids(ARCHIVED), strict=True):
            name = self._settings.topic(topic)
            table = make_table(self._place, topic, topic_name=name, topic_id=topic_id)
            self._streams[name] = stream = _Stream(topic, table, topic_id)
            for number in range(self._settings.partitions):
                self._begin(log, stream, number, table.reached(source_of(topic_id, number)) or 0)

    def _begin(self, log: Log, stream: _Stream, number: int, reached: int) -> None:
        """Go on with a partition at `reached`, or where the log begins, if that is later."""
        low, high = log.bounds(stream.topic, number)
        name = self._settings.topic(stream.topic)
        if reached > high:
            raise WrongSettings(
                f"{name} [{number}] ends at {high}, and {self._place.address} has it up to {reached}: the log has lost "
                "its end, or is another; another FRAUD_ARCHIVE would do"
            )
        if reached < low:
            self._record(stream, Gap(topic=name, partition=number, begin=reached, end=low))
        stream.reached[number] = max(reached, low)

    def _record(self, stream: _Stream, gap: Gap) -> None:
        """Into the table of gaps, once."""
        table = Table.make(self._place, GAPS, GAP_COLUMNS, topic=GAPS, topic_id=GAPS, by_day=False)
        source = source_of(stream.topic_id, gap.partition)
        if (table.reached(source) or 0) < gap.end:
            rows = [{**msgspec.structs.asdict(gap), "found_at": self._now()}]
            table.append(pl.DataFrame(rows, schema=GAP_COLUMNS), {source: gap.end})
        self._gaps.append(gap)
        logger.warning("%s, and are in no archive", gap)

    def _ends(self, log: Log) -> dict[tuple[str, int], int]:
        return {
            (name, number): log.bounds(stream.topic, number)[1]
            for name, stream in self._streams.items()
            for number in range(self._settings.partitions)
        }

    def _reader(self) -> Consumer:
        consumer = Consumer(
            self._settings.client(
                group_id=f"{self._settings.group}-archiver",
                enable_auto_commit=False,
                auto_offset_reset="error",
                isolation_level="read_committed",
                enable_partition_eof=True,
                fetch_wait_max_ms=100,
                queued_max_messages_kbytes=65536,
            )
        )
        consumer.assign(self._positions())
        return consumer

    def _positions(self) -> list[TopicPartition]:
        return [
            TopicPartition(name, number, offset)
            for name, stream in self._streams.items()
            for number, offset in stream.reached.items()
        ]

    def _archive(self, log: Log, consumer: Consumer, ends: Mapping[tuple[str, int], int] | None, stop: Stop) -> None:
        logger.info("reading on from where the tables end")
        heard = time.monotonic()
        with _Beside(self._written) as writer:
            while not stop.is_set() and not (ends is not None and self._are_there(ends)):
                first = consumer.poll(WAIT)
                if first is not None:
                    # consume(n, t) would wait the whole t unless n arrive.
                    self._take(log, consumer, [first, *consumer.consume(CHUNK, 0)], stop)
                    heard = time.monotonic()
                elif ends is not None and time.monotonic() - heard > PATIENCE:
                    raise LogUnavailable(f"Kafka at {self._settings.kafka_shown} has been silent for {PATIENCE:.0f} s")
                for stream in self._streams.values():
                    if stream.is_due(self._limits):
                        writer.write(stream)
                writer.look()
            for stream in self._streams.values():
                writer.write(stream)
            writer.wait()

    def _are_there(self, ends: Mapping[tuple[str, int], int]) -> bool:
        return all(self._streams[name].reached[number] >= end for (name, number), end in ends.items())

    def _take(self, log: Log, consumer: Consumer, messages: Iterable[Message], stop: Stop) -> None:
        arrived: dict[str, list[Message]] = defaultdict(list)
        cut: list[tuple[str, int]] = []
        for message in messages:
            name = message.topic() or ""
            if (error := message.error()) is None:
                arrived[name].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                # Behind the markers of transactions, which are no messages.
                self._streams[name].read_up_to(message.partition() or 0, message.offset() or 0)
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                cut.append((name, message.partition() or 0))
            elif error.fatal():
                raise LogUnavailable(f"Kafka at {self._settings.kafka_shown}: {error.str()}")
        for name, some in arrived.items():
            self._streams[name].take(some, self._rows(self._streams[name].topic, some, stop))
        if cut:
            for name, number in cut:
                self._go_on(log, self._streams[name], number)
            consumer.assign(self._positions())

    def _go_on(self, log: Log, stream: _Stream, number: int) -> None:
        """Retention was faster than we were, or the topic isn't the same any more."""
        if log.topic_ids([stream.topic]) != [stream.topic_id]:
            raise WrongSettings(
                f"the topic {self._settings.topic(stream.topic)} was made anew while it was archived: another "
                "FRAUD_ARCHIVE for the new topics would do"
            )
        self._begin(log, stream, number, stream.reached[number])

    def _rows(self, topic: Topic, messages: Sequence[Message], stop: Stop) -> pl.DataFrame:
        """Waits for a schema registry that is away: what its messages say would be missing for good."""
        arrived = _columns(topic, messages)

        def odd(number: int, error: Exception) -> None:
            self._odd += 1
            place = f"{topic.name} [{arrived.partitions[number]}] at {arrived.offsets[number]}"
            logger.error(
                "%s is archived with its bytes alone: what it says can't be read (%s)", place, type(error).__name__
            )

        while True:
            try:
                return rows_of(topic, arrived, self._writers, odd)
            except RegistryUnavailable as away:
                if stop.is_set():
                    raise
                logger.warning("waiting: %s", away)
                time.sleep(1.0)

    def _written(self) -> None:
        self._told({one.topic.name: one.archived for one in self._streams.values()})


class _Beside:
    """Adds rows to tables in a thread of its own, one batch at a time, while the next ones are read."""

    def __init__(self, written: Callable[[], None]) -> None:
        self._written = written
        self._thread = ThreadPoolExecutor(1)
        self._under_way: Future[None] | None = None

    def __enter__(self) -> _Beside:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def write(self, stream: _Stream) -> None:
        """What was read of a topic is added to its table, and its offsets move, at once.  Raises what `append` raises."""
        if stream.waiting:
            self.wait()
            self._under_way = self._thread.submit(stream.batch())

    def look(self) -> None:
        """Whether it is there."""
        if self._under_way is not None and self._under_way.done():
            self.wait()

    def wait(self) -> None:
        """Until it is there.  Raises what `append` raises."""
        if self._under_way is not None:
            self._under_way.result()
            self._under_way = None
            self._written()


class _Stream:
    """One topic on its way to its table."""

    def __init__(self, topic: Topic, table: Table, topic_id: str) -> None:
        self.topic, self.table, self.topic_id = topic, table, topic_id
        self.reached: dict[int, int] = {}
        """By partition, the next offset to be read."""
        self.archived = 0
        self.waiting: list[pl.DataFrame] = []
        self._rows = self._size = 0
        self._since = 0.0

    def take(self, messages: Sequence[Message], rows: pl.DataFrame) -> None:
        """`rows` are what these messages are in the table."""
        if not self.waiting:
            self._since = time.monotonic()
        self.waiting.append(rows)
        self._rows += len(messages)
        self._size += sum(map(len, messages))
        for number, last in {message.partition(): message.offset() for message in messages}.items():
            self.read_up_to(number or 0, (last or 0) + 1)

    def read_up_to(self, number: int, offset: int) -> None:
        self.reached[number] = max(self.reached[number], offset)

    def is_due(self, limits: Limits) -> bool:
        if not self.waiting:
            return False
        old = time.monotonic() - self._since >= limits.seconds
        return old or self._rows >= limits.rows or self._size >= limits.size

    def batch(self) -> Callable[[], None]:
        """What adds all that waits to the table; from here on others wait."""
        rows, count = pl.concat(self.waiting), self._rows
        until = {source_of(self.topic_id, number): offset for number, offset in self.reached.items()}
        self.waiting, self._rows, self._size = [], 0, 0

        def add() -> None:
            self.table.append(rows, until)
            self.archived += count

        return add


def _columns(topic: Topic, messages: Sequence[Message]) -> Arrived:
    return Arrived(
        partitions=[message.partition() or 0 for message in messages],
        offsets=[message.offset() or 0 for message in messages],
        timestamps=[message.timestamp()[1] for message in messages],
        keys=[message.key() for message in messages],
        values=[message.value() for message in messages],
        headers=[_headers(message) for message in messages] if topic is DEAD_LETTERS else (),
    )


def _headers(message: Message) -> Headers:
    try:
        return message.headers()
    except Exception as error:  # a name that isn't UTF-8: the client can't tell it
        place = f"{message.topic()} [{message.partition()}] at {message.offset()}"
        logger.error("%s is archived without its headers: they can't be read (%s)", place, type(error).__name__)
        return None
