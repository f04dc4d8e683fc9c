"""Kafka in bulk: reading the log from one offset to another, and writing a past to it.  For tools; a worker has its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from features.accepting import Record
from features.position import Offsets
from features.settings import Settings
from schemas.dead_letter import DeadLetter
from schemas.errors import LEFT_OUT, BadMessage, Fault, LogUnavailable, WrongSettings
from schemas.marks import Marks
from schemas.topics import ALERTS, DEAD_LETTERS, INPUTS, LABELS, TRANSACTIONS, VERDICTS, Topic
from schemas.verdict import decode_verdict

Read = TypeVar("Read")
NOTHING_COMMITTED = -1001
_NO_LEADER_YET = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
"""Of a topic that was made just now, or whose broker has just started."""
_TAIL = 1_000
"""Messages of an output's end that are looked at first."""
PATIENCE = 30.0
"""Seconds that Kafka may take for an answer."""


class Written(NamedTuple):
    """A message to publish, to the partition of its key."""

    key: bytes
    value: bytes


class Told(NamedTuple):
    """What the outputs say was told of a partition number."""

    until: Offsets
    """By input topic, what is sure to have been told: messages below.

    Of labels, those that the last verdict had folded.  One that came after it may be told again, and is folded once."""
    marks: Marks


class Letter(NamedTuple):
    """A dead letter where it lies."""

    partition: int
    offset: int
    says: DeadLetter
    key: bytes | None
    value: bytes | None


class Log:
    """The input topics of one installation, as a tool sees them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._consumer = self._reader()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def _reader(self) -> Consumer:
        return Consumer(
            self.settings.client(
                group_id=self.settings.group,
                enable_auto_commit=False,
                auto_offset_reset="error",
                isolation_level="read_committed",
                enable_partition_eof=True,
                fetch_wait_max_ms=10,
                queued_max_messages_kbytes=65536,
            )
        )

    def check_topics(self, topics: Sequence[Topic] = INPUTS) -> None:
        """Raises WrongSettings where topics are missing or have another number of partitions, LogUnavailable."""
        s = self.settings
        try:
            known = self._consumer.list_topics(timeout=PATIENCE).topics
        except KafkaException as error:
            raise LogUnavailable(f"Kafka at {s.kafka_url} does not answer: {error.args[0].str()}") from error
        for topic in topics:
            name = s.topic(topic)
            if name not in known:
                raise WrongSettings(
                    f"there is no topic {name}; `python -m deploy.local.topics {s.kafka_url}` makes all"
                )
            if (count := len(known[name].partitions)) != s.partitions:
                raise WrongSettings(f"topic {name} has {count} partitions, FRAUD_PARTITIONS is {s.partitions}")

    def topic_ids(self, topics: Sequence[Topic] = INPUTS) -> list[str]:
        """Of these topics, in their order: a topic made anew has another.  Raises LogUnavailable."""
        names = [self.settings.topic(topic) for topic in topics]
        admin = AdminClient(self.settings.client())
        try:
            described = admin.describe_topics(TopicCollection(names), request_timeout=PATIENCE)
            return [str(described[name].result().topic_id) for name in names]
        except KafkaException as error:
            raise LogUnavailable(f"Kafka does not describe its topics: {error.args[0].str()}") from error

    def bounds(self, topic: Topic, number: int) -> tuple[int, int]:
        """The first offset that is still there, and the next one to be written.  Raises LogUnavailable."""
        name = self.settings.topic(topic)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                bounds = self._consumer.get_watermark_offsets(TopicPartition(name, number), timeout=PATIENCE)
                if bounds is not None:
                    return bounds
            except KafkaException as error:
                if error.args[0].code() not in _NO_LEADER_YET or time.monotonic() > deadline:
                    raise LogUnavailable(
                        f"Kafka does not say where {name} [{number}] begins and ends: {error.args[0].str()}"
                    ) from error
            time.sleep(0.1)

    def committed(self, number: int) -> tuple[Offsets, str]:
        """What the group has committed of a partition number (NOTHING_COMMITTED where nothing), and its metadata."""
        here = [TopicPartition(self.settings.topic(topic), number) for topic in INPUTS]
        found = self._consumer.committed(here, timeout=PATIENCE)
        return Offsets(*(tp.offset for tp in found)), found[0].metadata or ""

    def explained(self, number: int) -> int:
        """The next alert of this number that the explainer has not come to; NOTHING_COMMITTED where it never ran.

        Raises LogUnavailable: also while a transaction of an explainer that was killed is still open.
        """
        reader = Consumer(
            self.settings.client(
                group_id=self.settings.explainers, isolation_level="read_committed", enable_auto_commit=False
            )
        )
        try:
            (found,) = reader.committed([TopicPartition(self.settings.topic(ALERTS), number)], timeout=PATIENCE)
        except KafkaException as error:
            raise LogUnavailable(
                f"Kafka does not say what group {self.settings.explainers} has committed: {error.args[0].str()}"
            ) from error
        finally:
            reader.close()
        return found.offset

    def last(self, topic: Topic, number: int, read: Callable[[bytes | None], Read]) -> Read | None:
        """What `read` makes of the last committed message that is one; None: there is none.  Raises LogUnavailable."""
        low, end = self.bounds(topic, number)
        span = 1
        while end > low:
            begin = max(low, end - span)
            found = None
            for records in self.read(topic, number, begin, end):
                for record in records:
                    with suppress(BadMessage):  # somebody else wrote there
                        found = read(record.value)
            if found is not None or begin == low:
                return found
            span *= 16
        return None

    def commit(self, number: int, offsets: Offsets, metadata: str) -> None:
        """Commit for the group, which must be empty."""
        self._consumer.commit(
            offsets=[
                TopicPartition(self.settings.topic(topic), number, offsets[i], metadata if i == 0 else "")
                for i, topic in enumerate(INPUTS)
            ],
            asynchronous=False,
        )

    def members(self) -> list[str]:
        """Who is in the group now."""
        admin = AdminClient(self.settings.client())
        deadline = time.monotonic() + PATIENCE
        while True:
            described = admin.describe_consumer_groups([self.settings.group], request_timeout=PATIENCE)
            try:
                return [
                    one.group_instance_id or one.member_id for one in described[self.settings.group].result().members
                ]
            except KafkaException as error:
                if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                    return []
                if time.monotonic() > deadline:  # a broker that has just started still looks for its coordinators
                    raise LogUnavailable(f"Kafka does not describe group {self.settings.group}: {error}") from error
            time.sleep(0.2)

    def read(self, topic: Topic, number: int, begin: int, end: int, *, chunk: int = 10_000) -> Iterator[list[Record]]:
        """The records with offsets in [begin, end), in order; raises LogUnavailable where they don't come."""
        for messages in self._messages(topic, number, begin, end, chunk):
            yield [Record(number, m.offset() or 0, m.timestamp()[1], m.key(), m.value()) for m in messages]

    def told(self, number: int) -> Told | None:
        """What verdicts and dead letters say of a partition number; None: there are none.

        They were written in one transaction with the committed offsets, and say the same where those are lost: the group
        expired or was deleted, or a broker that was killed has read only a part of them.  Waits for transactions that
        are still open.  Raises LogUnavailable.
        """
        ends = [self._stable_end(topic, number) for topic in (VERDICTS, DEAD_LETTERS)]
        verdicts = self._ends_of(VERDICTS, number, ends[0], self._judged)
        letters = self._ends_of(DEAD_LETTERS, number, ends[1], self._refused)
        if not (verdicts or letters):
            return None
        after = [0, 0, 0]
        for index, offset in verdicts + letters:
            after[index] = max(after[index], offset + 1)
        judged = [offset for index, offset in verdicts + letters if index == INPUTS.index(TRANSACTIONS)]
        return Told(Offsets(*after), Marks(judged_from=min(judged, default=0), left_out=len(self.left_out(number))))

    def _judged(self, message: Message, number: int) -> Iterator[tuple[int, int]]:
        verdict = decode_verdict(message.value())
        if verdict.source.partition == number:
            yield INPUTS.index(TRANSACTIONS), verdict.source.offset
            yield INPUTS.index(LABELS), verdict.folded.labels - 1

    def _refused(self, message: Message, number: int) -> Iterator[tuple[int, int]]:
        says = DeadLetter.from_headers(message.headers())
        names = [self.settings.topic(topic) for topic in INPUTS]
        if says.topic in names and says.partition == number:
            yield names.index(says.topic), says.offset

    def _ends_of(
        self, topic: Topic, number: int, end: int, about: Callable[[Message, int], Iterator[tuple[int, int]]]
    ) -> list[tuple[int, int]]:
        """(index of the input topic, offset) of what the first message of an output and its last ones are about."""
        low = self.bounds(topic, number)[0]

        def sources(begin: int, end: int, chunk: int) -> Iterator[tuple[int, int]]:
            for messages in self._messages(topic, number, begin, end, chunk):
                for message in messages:
                    with suppress(BadMessage):  # somebody else wrote there
                        yield from about(message, number)

        first = next(sources(low, end, 1), None)
        span = _TAIL
        while first is not None:
            begin = max(low, end - span)
            if last := list(sources(begin, end, 10_000)):
                return [first, *last]
            span *= 8
        return []

    def _stable_end(self, topic: Topic, number: int) -> int:
        """Where a topic ends, open transactions included."""
        reader = Consumer(self.settings.client(group_id=self.settings.group, isolation_level="read_uncommitted"))
        try:
            bounds = reader.get_watermark_offsets(TopicPartition(self.settings.topic(topic), number), timeout=PATIENCE)
        except KafkaException as error:
            raise LogUnavailable(
                f"Kafka does not say where {topic.name} [{number}] ends: {error.args[0].str()}"
            ) from error
        finally:
            reader.close()
        if bounds is None:
            raise LogUnavailable(f"Kafka does not say where {topic.name} [{number}] ends")
        return bounds[1]

    def _messages(self, topic: Topic, number: int, begin: int, end: int, chunk: int) -> Iterator[list[Message]]:
        if begin >= end:
            return
        name = self.settings.topic(topic)
        # librdkafka looks only once a second for the leaders of topics that it doesn't know yet.
        self._consumer.list_topics(name, timeout=PATIENCE)
        self._consumer.assign([TopicPartition(name, number, begin)])
        heard = time.monotonic()
        try:
            kept: list[Message] = []
            while begin < end:
                # consume(n, t) would wait the whole t unless n arrive.
                first = self._consumer.poll(0.2)
                for message in [] if first is None else [first, *self._consumer.consume(chunk, 0)]:
                    heard = time.monotonic()
                    error, offset = message.error(), message.offset() or 0
                    if error is None:
                        begin = offset + 1
                        if offset < end:
                            kept.append(message)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        begin = max(begin, offset)
                    elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                        raise LogUnavailable(f"reading {name} [{number}] from {begin}: {error.str()}")
                if len(kept) >= chunk or begin >= end:
                    yield kept
                    kept = []
                    heard = time.monotonic()  # what the caller took over it is not Kafka's silence
                if time.monotonic() - heard > PATIENCE:
                    raise LogUnavailable(f"{name} [{number}] should reach {end}, nothing came after {begin}")
        finally:
            self._consumer.unassign()

    def letters(self, number: int, begin: int = 0, end: int | None = None) -> Iterator[Letter]:
        """The dead letters in this partition number; what isn't one is passed over.  Raises LogUnavailable."""
        low, high = self.bounds(DEAD_LETTERS, number)
        for messages in self._messages(
            DEAD_LETTERS, number, max(low, begin), high if end is None else min(end, high), 1_000
        ):
            for message in messages:
                try:
                    says = DeadLetter.from_headers(message.headers())
                except BadMessage:
                    continue
                yield Letter(number, message.offset() or 0, says, message.key(), message.value())

    def left_out(self, number: int) -> dict[tuple[int, int], Fault]:
        """By (index of the input topic, offset): the messages of this number that are left out of every fold, and why.

        Raises LogUnavailable.
        """
        indices = {self.settings.topic(topic): i for i, topic in enumerate(INPUTS)}
        return {
            (indices[letter.topic], letter.offset): letter.fault
            for letter in (one.says for one in self.letters(number))
            if letter.fault in LEFT_OUT and letter.topic in indices and letter.partition == number
        }

    def write(self, topic: Topic, messages: Iterable[Written], *, told: Callable[[int], None] = lambda _: None) -> int:
        """Publish all, and wait until all are acknowledged.  How many; raises LogUnavailable where one was not taken."""
        producer = Producer(
            self.settings.client(
                enable_idempotence=True, acks="all", linger_ms=20, partitioner="murmur2_random", compression_type="lz4",
                queue_buffering_max_messages=200_000,
            )
        )  # fmt: skip
        name = self.settings.topic(topic)
        failed: list[str] = []

        def check(error: KafkaError | None, _message: object) -> None:
            if error is not None:
                failed.append(error.str())

        count = 0
        for key, value in messages:
            while True:
                try:
                    producer.produce(name, value=value, key=key, on_delivery=check)
                    break
                except BufferError:
                    producer.poll(0.05)
            count += 1
            if count % 5_000 == 0:
                producer.poll(0)
                told(5_000)
        told(count % 5_000)
        if left := producer.flush(PATIENCE * 4):
            raise LogUnavailable(f"{left} messages for {name} were not acknowledged")
        if failed:
            raise LogUnavailable(f"{len(failed)} messages for {name} were refused, the first: {failed[0]}")
        return count
