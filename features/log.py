"""Kafka in bulk: reading the log from one offset to another, and writing a past to it.  For tools; a worker has its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from features.accepting import Record
from features.continuity import Committed, Now, Place, Standing
from features.position import Offsets, TopicIds
from features.settings import Settings
from schemas.dead_letter import DeadLetter
from schemas.errors import LEFT_OUT, BadMessage, Fault, LogUnavailable, WrongSettings
from schemas.marks import Landmark, Marks
from schemas.topics import ALERTS, DEAD_LETTERS, INPUTS, KAFKA_ANSWERS_WITHIN, LABELS, TRANSACTIONS, VERDICTS, Topic
from schemas.verdict import decode_verdict

Read = TypeVar("Read")
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


AT_ONCE_WITHIN = 900
"""Seconds for what is written at once: the longest that a broker allows a transaction, by default."""


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


class Loss(NamedTuple):
    """Records that a topic has lost, as somebody has accepted."""

    partition: int
    topic: str
    """Without the prefix of the settings; of `verdicts`, the records are the transactions whose verdicts are gone."""
    topic_id: str
    """Kafka's id of the topic that had them."""
    begin: int
    end: int
    at: datetime
    """When it was accepted."""

    def covers(self, topic: str, partition: int, offset: int, said_at: datetime) -> bool:
        """Was what was said then of this place said of a record that is gone?"""
        here = (topic, partition) == (self.topic, self.partition)
        return here and self.begin <= offset < self.end and said_at <= self.at


class Letter(NamedTuple):
    """A dead letter where it lies."""

    partition: int
    offset: int
    says: DeadLetter
    key: bytes | None
    value: bytes | None


def record_of(message: Message, topic_id: str) -> Record:
    """What Kafka's client gives of a record on the topic of this id."""
    return Record(
        message.partition() or 0,
        message.offset() or 0,
        message.timestamp()[1],
        message.key(),
        message.value(),
        topic_id,
    )


class Log:
    """The input topics of one installation, as a tool sees them."""

    def __init__(self, settings: Settings, *, patience: float = PATIENCE) -> None:
        """`patience`: seconds that Kafka may take for an answer."""
        self.settings = settings
        self.patience = patience
        self._consumer = self._reader()
        self._admin: AdminClient | None = None

    def __enter__(self) -> Log:
        """Raises LogUnavailable where Kafka does not answer at once: what it is asked later may take it longer."""
        s = self.settings
        try:
            self._consumer.list_topics(s.topic(TRANSACTIONS), timeout=min(KAFKA_ANSWERS_WITHIN, self.patience))
        except KafkaException as error:
            self._consumer.close()
            raise LogUnavailable(
                f"Kafka at {s.kafka_url} does not answer: {error.args[0].str()} (FRAUD_KAFKA_URL says where it is)"
            ) from error
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
                retry_backoff_ms=5,
                retry_backoff_max_ms=50,
            )
        )

    def check_topics(self, topics: Sequence[Topic] = INPUTS) -> None:
        """Raises WrongSettings where topics are missing or have another number of partitions, LogUnavailable."""
        s, known = self.settings, self.partition_counts()
        for topic in topics:
            name = s.topic(topic)
            if name not in known:
                raise WrongSettings(
                    f"there is no topic {name}; `python -m deploy.local.topics {s.kafka_shown}` makes all"
                )
            if (count := known[name]) != s.partitions:
                raise WrongSettings(f"topic {name} has {count} partitions, FRAUD_PARTITIONS is {s.partitions}")

    def partition_counts(self) -> dict[str, int]:
        """How many partitions each topic has, by its name.  Raises LogUnavailable."""
        try:
            known = self._consumer.list_topics(timeout=self.patience).topics
            return {name: len(topic.partitions) for name, topic in known.items()}
        except KafkaException as error:
            raise LogUnavailable(
                f"Kafka at {self.settings.kafka_shown} does not answer: {error.args[0].str()}"
            ) from error

    def topic_ids(self, topics: Sequence[Topic] = INPUTS) -> list[str]:
        """Of these topics, in their order: a topic made anew has another.  Raises LogUnavailable."""
        names = [self.settings.topic(topic) for topic in topics]
        self._admin = self._admin or AdminClient(self.settings.client())
        try:
            described = self._admin.describe_topics(TopicCollection(names), request_timeout=self.patience)
            return [str(described[name].result().topic_id) for name in names]
        except KafkaException as error:
            raise LogUnavailable(f"Kafka does not describe its topics: {error.args[0].str()}") from error

    def bounds(self, topic: Topic, number: int) -> tuple[int, int]:
        """The first offset that is still there, and the next one to be written.  Raises LogUnavailable."""
        name = self.settings.topic(topic)
        deadline = time.monotonic() + self.patience
        while True:
            try:
                bounds = self._consumer.get_watermark_offsets(TopicPartition(name, number), timeout=self.patience)
                if bounds is not None:
                    return bounds
            except KafkaException as error:
                if error.args[0].code() not in _NO_LEADER_YET or time.monotonic() > deadline:
                    raise LogUnavailable(
                        f"Kafka does not say where {name} [{number}] begins and ends: {error.args[0].str()}"
                    ) from error
            time.sleep(0.1)

    def committed(self, number: int, *, patience: float | None = None) -> tuple[Committed, ...]:
        """What the group has committed of each input topic of a partition number.  Waits for open transactions.

        Raises LogUnavailable.
        """
        here = [TopicPartition(self.settings.topic(topic), number) for topic in INPUTS]
        try:
            found = self._consumer.committed(here, timeout=patience or self.patience)
        except KafkaException as error:
            raise LogUnavailable(f"Kafka does not say what was committed: {error.args[0].str()}") from error
        if failed := [tp.error for tp in found if tp.error]:
            raise LogUnavailable(f"Kafka does not say what was committed: {failed[0].str()}")
        return tuple(Committed(tp.offset, tp.metadata or "") for tp in found)

    def standing(
        self,
        number: int,
        raw: bytes,
        *,
        topics: Callable[[], TopicIds] | None = None,
        outputs: bool = True,
        patience: float | None = None,
    ) -> Standing:
        """Where a partition number stands; `raw` is its position, which must have been read before.

        The other way round, a worker that commits and writes in between would look like a store that is ahead of Kafka.
        `topics` gives their ids, where somebody may have asked already; without `outputs` the last verdict isn't looked at;
        `patience`: seconds that an open transaction is waited for.  Raises LogUnavailable.
        """
        committed = self.committed(number, patience=patience)
        # After what was committed: an admin client that waits for a broker which is away has been seen to abort the process.
        ids = topics() if topics else TopicIds(*self.topic_ids())
        now = tuple(Now(topic_id, *self.bounds(topic, number)) for topic_id, topic in zip(ids, INPUTS, strict=True))
        return Standing(number, now, committed, raw, self.last_verdict(number, ids) if outputs else None)

    def landmarks(self, number: int, places: Collection[Place]) -> dict[Place, Landmark | None]:
        """The records that lie at these places of a partition number; None where none does.

        All are fetched at once.  Raises LogUnavailable, also where an open transaction keeps a place from being read.
        """
        topics = {self.settings.topic(topic): i for i, topic in enumerate(INPUTS)}
        found: dict[Place, Landmark | None] = {}
        wanted = sorted(places)
        while wanted:  # a topic can be assigned at one offset at a time
            now = dict(wanted)
            found |= self._landmarks(number, topics, now)
            wanted = [place for place in wanted if place not in found]
        return found

    def _landmarks(self, number: int, topics: dict[str, int], wanted: dict[int, int]) -> dict[Place, Landmark | None]:
        found: dict[Place, Landmark | None] = {}
        self._consumer.assign([TopicPartition(topic, number, wanted[i]) for topic, i in topics.items() if i in wanted])
        deadline = time.monotonic() + self.patience
        try:
            while len(found) < len(wanted):
                message = self._consumer.poll(0.2)
                if message is None:
                    if time.monotonic() > deadline:
                        raise LogUnavailable(f"Kafka does not give the last records of partition {number}")
                    continue
                topic = topics[message.topic() or ""]
                error, offset, place = message.error(), message.offset() or 0, (topic, wanted[topic])
                if error is None:
                    if place not in found:
                        here = record_of(message, "")
                        found[place] = here.landmark() if offset == wanted[topic] else None
                elif error.code() == KafkaError._PARTITION_EOF:
                    if place in found:
                        continue
                    if self.bounds(INPUTS[topic], number)[1] > offset:
                        raise LogUnavailable(f"a transaction is still open on {message.topic()} [{number}] at {offset}")
                    found[place] = None
                elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise LogUnavailable(f"reading {message.topic()} [{number}] at {wanted[topic]}: {error.str()}")
        finally:
            self._consumer.unassign()
        return found

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
            (found,) = reader.committed([TopicPartition(self.settings.topic(ALERTS), number)], timeout=self.patience)
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

    def commit(
        self, number: int, offsets: Sequence[int], metadata: Sequence[str], topics: Sequence[Topic] = INPUTS
    ) -> None:
        """Commit for the group, which must be empty; an offset and `metadata` of each topic.  Raises LogUnavailable."""
        each = zip(topics, offsets, metadata, strict=True)
        here = [TopicPartition(self.settings.topic(topic), number, offset, text) for topic, offset, text in each]
        try:
            self._consumer.commit(offsets=here, asynchronous=False)
        except KafkaException as error:
            raise LogUnavailable(
                f"Kafka does not take the offsets of group {self.settings.group}: {error.args[0].str()}"
            ) from error

    def members(self) -> list[str]:
        """Who is in the group now."""
        admin = AdminClient(self.settings.client())
        deadline = time.monotonic() + self.patience
        while True:
            described = admin.describe_consumer_groups([self.settings.group], request_timeout=self.patience)
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
        (topic_id,) = self.topic_ids([topic]) if begin < end else [""]
        for messages in self._messages(topic, number, begin, end, chunk):
            yield [record_of(message, topic_id) for message in messages]

    def told(self, number: int, topics: TopicIds) -> Told | None:
        """What verdicts and dead letters say of a partition number's log, that of these topics; None: there are none.

        They were written in one transaction with the committed offsets, and say the same where those are lost: the group
        expired or was deleted, or a broker that was killed has read only a part of them.  Waits for transactions that
        are still open.  Raises LogUnavailable.
        """

        losses = self.losses(number)

        def judged(message: Message) -> Iterator[Place]:
            verdict = decode_verdict(message.value())
            source, folded = verdict.source, verdict.folded
            if (
                source.partition == number
                and source.topic_id in ("", topics.transactions)
                and not any(one.covers(TRANSACTIONS.name, number, source.offset, verdict.decided_at) for one in losses)
            ):
                yield INPUTS.index(TRANSACTIONS), source.offset
                if folded.labels_topic_id in ("", topics.labels):
                    yield INPUTS.index(LABELS), folded.labels - 1

        def refused(message: Message) -> Iterator[Place]:
            place = self._place(DeadLetter.from_headers(message.headers()), number, topics, losses)
            if place is not None:
                yield place

        ends = [self._stable_end(topic, number) for topic in (VERDICTS, DEAD_LETTERS)]
        verdicts = self._ends_of(VERDICTS, number, ends[0], judged)
        letters = self._ends_of(DEAD_LETTERS, number, ends[1], refused)
        if not (verdicts or letters):
            return None
        after = [0, 0, 0]
        for index, offset in verdicts + letters:
            after[index] = max(after[index], offset + 1)
        began = [offset for index, offset in verdicts + letters if index == INPUTS.index(TRANSACTIONS)]
        last = max((offset for index, offset in verdicts if index == INPUTS.index(TRANSACTIONS)), default=-1)
        left_out = len(self.left_out(number, topics))
        return Told(Offsets(*after), Marks(judged_from=min(began, default=0), left_out=left_out, verdict=last))

    def last_verdict(self, number: int, topics: TopicIds) -> int | None:
        """Offset of the last transaction of these topics that has a verdict; -1: none has.

        None where retention has taken all verdicts, which tells nothing.  Raises LogUnavailable.
        """
        verdict = self.last(VERDICTS, number, decode_verdict)
        if verdict is None and self.bounds(VERDICTS, number)[0] > 0:
            return None
        if verdict is None or verdict.source.topic_id not in ("", topics.transactions):
            return -1
        return verdict.source.offset

    def _place(self, letter: DeadLetter, number: int, topics: TopicIds, losses: Sequence[Loss]) -> Place | None:
        """Which message of a partition number's log a dead letter is about; None: one that is not, or no longer, in it."""
        names = [self.settings.topic(topic) for topic in INPUTS]
        if letter.fault is Fault.LOST or letter.topic not in names or letter.partition != number:
            return None
        index = names.index(letter.topic)
        is_gone = any(one.covers(INPUTS[index].name, number, letter.offset, letter.at) for one in losses)
        return None if is_gone or letter.topic_id not in ("", topics[index]) else (index, letter.offset)

    def _ends_of(self, topic: Topic, number: int, end: int, about: Callable[[Message], Iterator[Place]]) -> list[Place]:
        """(index of the input topic, offset) of what the first message of an output and its last ones are about."""
        low = self.bounds(topic, number)[0]

        def sources(begin: int, end: int, chunk: int) -> Iterator[Place]:
            for messages in self._messages(topic, number, begin, end, chunk):
                for message in messages:
                    with suppress(BadMessage):  # somebody else wrote there
                        yield from about(message)

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
            bounds = reader.get_watermark_offsets(
                TopicPartition(self.settings.topic(topic), number), timeout=self.patience
            )
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
        try:
            self._consumer.list_topics(name, timeout=self.patience)
        except KafkaException as away:
            raise LogUnavailable(f"{name} [{number}] can't be read: {away.args[0].str()}") from away
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
                if time.monotonic() - heard > self.patience:
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

    def letters_about(self, number: int, topics: TopicIds) -> Iterator[tuple[Place, DeadLetter]]:
        """The dead letters of messages in a partition number's log, that of these topics.  Raises LogUnavailable."""
        letters = [one.says for one in self.letters(number)]
        losses = [loss for loss in map(self._loss, letters) if loss is not None]
        for letter in letters:
            if (place := self._place(letter, number, topics, losses)) is not None:
                yield place, letter

    def left_out(self, number: int, topics: TopicIds) -> dict[Place, Fault]:
        """The messages of a partition number's log that are left out of every fold, and why.  Raises LogUnavailable."""
        letters = self.letters_about(number, topics)
        return {place: letter.fault for place, letter in letters if letter.fault in LEFT_OUT}

    def losses(self, number: int) -> list[Loss]:
        """Which records of a partition number are gone, as somebody has accepted.  Raises LogUnavailable."""
        found = (self._loss(one.says) for one in self.letters(number))
        return [loss for loss in found if loss is not None]

    def _loss(self, letter: DeadLetter) -> Loss | None:
        names = {self.settings.topic(topic): topic.name for topic in (*INPUTS, VERDICTS)}
        if letter.fault is not Fault.LOST or letter.topic not in names or letter.until < 0:
            return None
        name = names[letter.topic]
        return Loss(letter.partition, name, letter.topic_id, letter.offset, letter.until, letter.at)

    def publish_letters(self, letters: Collection[DeadLetter]) -> None:
        """Publish dead letters that have no bytes.  Raises LogUnavailable."""
        if not letters:
            return
        failed: list[str] = []
        producer = Producer(self.settings.client(enable_idempotence=True, acks="all"))
        for letter in letters:
            producer.produce(
                self.settings.topic(DEAD_LETTERS),
                partition=letter.partition,
                headers=letter.headers(),
                on_delivery=lambda error, _: failed.append(error.str()) if error else None,
            )
        if producer.flush(self.patience) or failed:
            raise LogUnavailable(f"dead letters were not taken: {failed[0] if failed else 'no answer'}")

    def write(
        self,
        topic: Topic,
        messages: Iterable[Written],
        *,
        at_once_as: str = "",
        told: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Publish all, and wait until all are acknowledged.  How many; raises LogUnavailable where one was not taken.

        With `at_once_as`, a transactional.id, all can be read or none: it may take AT_ONCE_WITHIN.
        """
        at_once: dict[str, str | int] = {}
        if at_once_as:
            at_once = {"transactional_id": at_once_as, "transaction_timeout_ms": 1000 * AT_ONCE_WITHIN}
        producer = Producer(
            self.settings.client(
                enable_idempotence=True, acks="all", linger_ms=20, partitioner="murmur2_random", compression_type="lz4",
                queue_buffering_max_messages=200_000, **at_once,
            )
        )  # fmt: skip
        if not at_once_as:
            return self._write(producer, topic, messages, told)
        try:
            producer.init_transactions(PATIENCE)
            producer.begin_transaction()
            try:
                count = self._write(producer, topic, messages, told)
                producer.commit_transaction(PATIENCE)
            except BaseException:
                producer.abort_transaction(PATIENCE)
                raise
        except KafkaException as error:
            raise LogUnavailable(
                f"nothing was written to {self.settings.topic(topic)}: {error.args[0].str()}"
            ) from error
        return count

    def _write(self, producer: Producer, topic: Topic, messages: Iterable[Written], told: Callable[[int], None]) -> int:
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
        if left := producer.flush(self.patience * 4):
            raise LogUnavailable(f"{left} messages for {name} were not acknowledged")
        if failed:
            raise LogUnavailable(f"{len(failed)} messages for {name} were refused, the first: {failed[0]}")
        return count
