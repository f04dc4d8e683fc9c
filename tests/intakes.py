"""An intake without Kafka: a log in memory, a group that is told who has what, and takeovers that are answered by the test."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
from confluent_kafka import Consumer, KafkaError, TopicPartition

from features.position import Keys, Last, Offsets, Position, TopicIds
from schemas.marks import Marks
from schemas.topics import INPUTS
from streaming.intake import Intake, Polled
from streaming.metrics import Metrics
from streaming.partition import Part
from streaming.settings import WorkerSettings
from streaming.takeover import Answer, Takeover

TRANSACTIONS, LABELS, ACTIVITY = (topic.name for topic in INPUTS)
START = Offsets(0, 0, 0)
Place = tuple[str, int]


@dataclass(frozen=True)
class LogMessage:
    """One message, as Kafka's client hands it on; `failed` makes it an error instead."""

    of_topic: str
    of_partition: int
    at_offset: int
    at: int = 0
    content: bytes | None = b"{}"
    of_key: bytes | None = b"account"
    of_headers: tuple[tuple[str, bytes], ...] = ()
    failed: KafkaError | None = None

    def topic(self) -> str:
        """See confluent_kafka.Message, as all that follow."""
        return self.of_topic

    def partition(self) -> int:
        return self.of_partition

    def offset(self) -> int:
        return self.at_offset

    def timestamp(self) -> tuple[int, int]:
        return 1, self.at

    def key(self) -> bytes | None:
        return self.of_key

    def value(self) -> bytes | None:
        return self.content

    def headers(self) -> list[tuple[str, bytes]]:
        return list(self.of_headers)

    def error(self) -> KafkaError | None:
        return self.failed

    def __len__(self) -> int:
        return len(self.content or b"")


@dataclass
class FakeConsumer:
    """The consumer of a group's only member: what `log` holds comes from where `assign` said."""

    log: dict[Place, list[LogMessage]] = field(default_factory=dict)
    positions: dict[Place, int] = field(default_factory=dict)
    assignments: list[dict[Place, int]] = field(default_factory=list)
    paused: set[Place] = field(default_factory=set)
    queue_bytes: int = 1 << 40
    """What its client's queue takes: no more comes at once."""
    rebalances: deque[frozenset[int]] = field(default_factory=deque)
    """Numbers that the next polls will find themselves with."""

    def subscribe(self, topics: list[str], *, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self.topics, self.on_assign, self.on_revoke, self.on_lost = topics, on_assign, on_revoke, on_lost

    def assign(self, places: Iterable[TopicPartition]) -> None:
        self.positions = {(place.topic, place.partition): place.offset for place in places}
        self.assignments.append(dict(self.positions))

    def pause(self, places: Iterable[TopicPartition]) -> None:
        self.paused |= {(place.topic, place.partition) for place in places}

    def resume(self, places: Iterable[TopicPartition]) -> None:
        self.paused -= {(place.topic, place.partition) for place in places}

    def poll(self, _timeout: float) -> LogMessage | None:
        """A rebalance runs inside it, and a message of the new assignment may follow in the same call."""
        if self.rebalances:
            numbers = self.rebalances.popleft()
            self.on_revoke(self, [])
            self.on_assign(self, [TopicPartition(topic, number) for topic in self.topics for number in sorted(numbers)])
        return next(iter(self._next(1)), None)

    def consume(self, most: int, _timeout: float) -> list[LogMessage]:
        return self._next(most)

    def _next(self, most: int) -> list[LogMessage]:
        found: list[LogMessage] = []
        size = 0
        for place in self.positions:
            for one in self.log.get(place, ())[self.positions[place] :]:
                if place in self.paused or len(found) == most or size >= self.queue_bytes:
                    break
                found.append(one)
                size += len(one)
                self.positions[place] += 1
        return found

    def get_watermark_offsets(self, place: TopicPartition, *, cached: bool) -> tuple[int, int]:
        return 0, len(self.log.get((place.topic, place.partition), ()))

    def consumer_group_metadata(self) -> bytes:
        return b"CGMDv2:\x00\x00\x00\x01"


class FakeTakeover:
    """Notes who is asked about; the test answers."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.ready.set()
        self.refused = None
        self.waits_for = None
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.asked: list[tuple[int, int]] = []

    def ask(self, generation: int, number: int) -> None:
        self.asked.append((generation, number))


Settle = Callable[[Polled], None]


def told(polled: Polled) -> None:
    """A batch is told and remembered: the positions of its numbers move."""
    for topic, message in polled.messages:
        part = polled.parts[message.partition() or 0]
        at = list(part.position.next)
        at[topic] = max(at[topic], (message.offset() or 0) + 1)
        part.position = part.position._replace(next=Offsets(*at))
    polled.settle()


class LoneIntake:
    """An intake at a desk that the test sits at: `settle` takes each batch to its end, by default well."""

    def __init__(self, settle: Settle = told, **settings: Any) -> None:
        self.settle = settle
        self.now = 1000.0
        self.batches: list[list[tuple[int, int, int]]] = []
        """(topic, partition, offset) of all that was handed on."""
        self.consumer = FakeConsumer()
        self.takeover = FakeTakeover()
        self.metrics = Metrics()
        self.intake = Intake(
            msgspec.convert({"topic_prefix": "", "merge_wait": 0.0} | settings, WorkerSettings),
            cast(Takeover, self.takeover),
            self.metrics,
            self._deliver,
            connect=self._connect,
            clock=lambda: self.now,
        )
        self.positions: dict[int, Position] = {}
        self.until: dict[int, Offsets] = {}
        """What was told of a number before."""
        self.intake.join_group()

    def _connect(self, given: dict[str, Any]) -> Consumer:
        self.errors = given["error_cb"]
        self.consumer.queue_bytes = given["queued.max.messages.kbytes"] << 10
        return cast(Consumer, self.consumer)

    def _deliver(self, polled: Polled) -> None:
        self.batches.append([(t, m.partition() or 0, m.offset() or 0) for t, m in polled.messages])
        self.settle(polled)
        self.positions |= {number: part.position for number, part in polled.parts.items()}

    def wrote(self, topic: str, number: int, *contents: bytes, **fields: Any) -> None:
        """These messages come on the log."""
        here = self.consumer.log.setdefault((topic, number), [])
        here += [LogMessage(topic, number, len(here) + i, content=one, **fields) for i, one in enumerate(contents)]

    def kafka_goes_away(self) -> None:
        """As Kafka's client says of it."""
        self.errors(KafkaError(KafkaError._ALL_BROKERS_DOWN))

    def is_assigned(self, *numbers: int) -> None:
        """The group gives it these, at its next poll."""
        self.consumer.rebalances.append(frozenset(numbers))

    def answer(self, *, but: int | None = None) -> None:
        """Every number that was asked about is answered with where it was, `but` one."""
        for generation, number in self.takeover.asked:
            if number != but:
                self.takeover.answers.put(Answer(generation, number, part=self.part(number)))
        self.takeover.asked = [(generation, number) for generation, number in self.takeover.asked if number == but]

    def part(self, number: int) -> Part:
        """What a takeover finds."""
        position = self.positions.get(number, Position("f", "e", TopicIds("t", "l", "a"), START))
        return Part(number, position, self.until.get(number, START), Marks(), Last(), Keys("", number), True)

    def turns(self, count: int = 3) -> None:
        """Time passes: what is asked for is answered, what has come is handed on."""
        for _ in range(count):
            self.intake.turn()
            self.answer()

    def serves(self, *numbers: int) -> None:
        """It has taken these over."""
        self.is_assigned(*numbers)
        self.turns()
        assert self.intake.parts.keys() == set(numbers)

    def handed(self, number: int) -> list[int]:
        """Offsets of this number's transactions, as often as they were handed on."""
        return [offset for batch in self.batches for topic, n, offset in batch if (topic, n) == (0, number)]
