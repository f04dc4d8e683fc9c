"""Every call to the consumer, on one thread: joining, polling, forming batches, and where to begin after a takeover.

In lock-step: either this thread polls, or a batch is out.  A rebalance callback can so never meet a batch in flight, and
nothing here needs a lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas.errors import PartitionParked
from schemas.topics import INPUTS
from streaming.leaving import BROKEN, FENCED, WRONG_USE, leave
from streaming.merging import Merger, size_of
from streaming.metrics import Metrics
from streaming.partition import Part
from streaming.settings import WorkerSettings
from streaming.slot import BOTH_CAUSES
from streaming.takeover import Takeover

log = logging.getLogger(__name__)

PARKED_AGAIN = 5.0
"""Seconds after which a parked number is asked for once more: somebody may have mended it."""
MOST_PARKED_AGAIN = 60.0
"""The same, at the most, of a number whose messages were tried again in vain: each time takes twice as long as the last."""
APART = 60.0
"""Seconds for which each number has batches of its own, after one failed without showing whose fault it was."""
MOST_BACKOFF = 2.0
"""Seconds between two takeovers at the most."""
PENDING_HOLDS = 10.0
"""Seconds for which numbers that are not taken over yet hold back the judging of the others."""
LOST = 10.0
"""Seconds after which a batch that nobody took is taken to be lost on its way to the agent."""
_AT_ONCE = 20
"""Messages taken from Kafka's client before it is looked at how large they are."""
_NO_MEMBER = b"\xff\xff\xff\xff"


@dataclass
class Polled:
    """A batch on its way: what was polled, and what is known of its numbers."""

    messages: list[tuple[int, Message]]
    """(index of the input topic, message): each topic's in the order of its offsets."""
    parts: dict[int, Part]
    group: bytes
    """The group's metadata of this generation: fences a worker that was replaced."""
    done: threading.Event = field(default_factory=threading.Event)
    doubt: str | None = None
    """Why everything must be taken over again; None: the batch is told and remembered, or parked."""
    parked: PartitionParked | None = None
    """Why nothing was told: one of its numbers can't be served; without a number, it isn't known which."""
    _claim: threading.Lock = field(default_factory=threading.Lock)

    def claim(self) -> bool:
        """Whoever is first, the agent that takes it up or the intake that gives it up, gets True."""
        return self._claim.acquire(blocking=False)

    @property
    def numbers(self) -> list[int]:
        """The partition numbers that have messages in it."""
        return sorted({message.partition() or 0 for _, message in self.messages})

    def settle(self, doubt: str | None = None, parked: PartitionParked | None = None) -> None:
        """The batch is over."""
        self.doubt, self.parked = doubt, parked
        self.done.set()


@dataclass(frozen=True)
class _Spoilt:
    """A number that a batch has failed on."""

    why: str
    epoch: str
    """Of its profiles; empty: the store had none, and each takeover begins them anew under another."""
    upto: tuple[int, ...]
    """The next offset of each input topic behind that batch: whoever comes so far has got over it."""
    wait: float
    again_at: float


class Intake(threading.Thread):
    """Polls, and hands batches on by `deliver`."""

    def __init__(
        self,
        settings: WorkerSettings,
        takeover: Takeover,
        metrics: Metrics,
        deliver: Callable[[Polled], None],
        connect: Callable[[dict[str, Any]], Consumer] = Consumer,
        clock: Callable[[], float] = time.monotonic,
        why_fenced: Callable[[], str] = lambda: BOTH_CAUSES,
    ) -> None:
        """`connect` makes the consumer of its settings; `clock` gives the seconds of any steady clock; `why_fenced` says who may
        have shut this process out of Kafka."""
        super().__init__(daemon=True, name="intake")
        self.settings = settings
        self.takeover = takeover
        self.metrics = metrics
        self.deliver = deliver
        self._most_polled = settings.held_here // 4
        """Bytes that one poll brings, about: the most that is held beyond `held_here`."""
        self._connect, self._clock, self._why_fenced = connect, clock, why_fenced
        self.parts: dict[int, Part] = {}
        self.pending: set[int] = set()
        self.parked: dict[int, str] = {}
        """Why, of each number that is left out, or is being tried again."""
        self.assigned: frozenset[int] = frozenset()
        self.merger: Merger[Message] = Merger(settings.merge_wait)
        self.settled = 0
        """Batches told and remembered."""
        self.doubts = 0
        """Batches in a row that were not."""
        self.doubt = ""
        self._halt = threading.Event()
        self._generation = 0
        self._group = b""
        self._asked: set[int] = set()
        self._said: dict[int, str] = {}
        self._spoilt: dict[int, _Spoilt] = {}
        self._apart_until = 0.0
        self._look_at_once = threading.Event()
        self._waits: dict[int, str] = {}
        self._paused: set[int] = set()
        self._ended: set[tuple[int, int]] = set()
        """(topic, partition number) whose log was read to its end: markers of transactions lie behind the last message."""
        self._park_checked = 0.0
        self._watched = 0.0
        self._forgot = 0.0
        self._kafka_away = False
        self._topics = {settings.topic(topic): i for i, topic in enumerate(INPUTS)}

    def halt(self) -> None:
        """Finish the batch in hand, then leave the group's partitions."""
        self._halt.set()

    def look_at_parked(self) -> None:
        """Try what is parked again, and soon: something that may have mended it has changed."""
        self._look_at_once.set()

    def waits_for(self) -> str | None:
        """Why no batches come, in words; None: nothing keeps them."""
        if not self.takeover.ready.is_set():
            return self.takeover.waits_for
        if self._kafka_away:
            return f"Kafka at {self.settings.kafka_shown}, which does not answer"
        if self.doubts > 1:
            return f"an end of its doubts, {self.doubts} in a row: {self.doubt}"
        return self._waits_for_numbers()

    def _waits_for_numbers(self) -> str | None:
        if waiting := self.pending - self.parked.keys():
            why = {reason for number in waiting if (reason := self._waits.get(number)) is not None}
            return f"the takeover of partitions {_numbers(waiting)}" + "".join(f": {reason}" for reason in sorted(why))
        if rebuilding := self._rebuilding():
            return f"the rebuild of partitions {_numbers(rebuilding)} from the log"
        if self.parked and not self.parts.keys() - self.parked.keys():
            return "; ".join(self.parked.values())
        return None

    def run(self) -> None:
        """The thread."""
        try:
            while not self.takeover.ready.wait(0.1):
                if self._halt.is_set():
                    return
            if self.takeover.refused is not None:
                leave(WRONG_USE, str(self.takeover.refused))
            self.join_group()
            while not self._halt.is_set():
                self.turn()
            self._consumer.close()
        except BaseException as error:  # a thread that dies in silence would leave a worker that does nothing
            log.exception("the intake failed")
            leave(BROKEN, f"the intake failed: {error!r}")

    def join_group(self) -> None:
        """Make the consumer, and subscribe."""
        self._consumer = self._connect(
            self.settings.member(
                self.settings.group,
                enable_partition_eof=True,
                # Each message would else be an answer of its own: at 2,000 a second a fifth of the broker's work.
                fetch_min_bytes=16_384,
                fetch_wait_max_ms=10,
                fetch_queue_backoff_ms=5,
                retry_backoff_ms=5,
                retry_backoff_max_ms=50,
            )
            | {"error_cb": self._note_error}
        )
        self._consumer.subscribe(
            list(self._topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    # Rebalances.  The callbacks only note: nothing new can arrive between assign([]) and the assign that follows a takeover.

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign([])
        numbers = {tp.partition for tp in partitions}
        if any(sum(tp.partition == number for tp in partitions) != len(INPUTS) for number in numbers):
            leave(
                WRONG_USE,
                f"the assignment {partitions} is not the same numbers of every topic: the assignor must be range",
            )
        if max(numbers, default=0) >= self.settings.partitions:
            leave(
                WRONG_USE,
                f"the topics have got more partitions than FRAUD_PARTITIONS={self.settings.partitions}: keys have moved; "
                "more partitions mean new topics and a rebuild",
            )
        self._forget()
        self._spoilt = {number: spoilt for number, spoilt in self._spoilt.items() if number in numbers}
        self.assigned = frozenset(numbers)
        self._await_takeovers()
        log.info("assigned partitions %s", _numbers(numbers))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.info("partitions %s are no longer ours", _numbers({tp.partition for tp in partitions}))
        self._forget()
        self.assigned = frozenset()
        self.pending = set()

    def _forget(self) -> None:
        self._forgot = self._clock()
        self._generation += 1  # what was polled or asked before is stale
        self.parts = {}
        self.parked = {}
        self._asked.clear()
        self._waits.clear()
        self._paused.clear()
        self._ended.clear()
        self.metrics.lag.clear()
        self._group = b""
        self.merger.clear()

    def _again(self, why: str) -> None:
        """After any doubt: drop all that is held and take every number over again.  One way, and idempotent."""
        self.metrics.takeovers.labels("doubt").inc()
        self.doubts += 1
        self.doubt = why
        log.warning("taking partitions %s over again: %s", _numbers(self.parts), why)
        self._begin_anew()
        # The first doubt is often the only one; a Redis that refuses to write would else keep us spinning.
        self._halt.wait(min(0.05 * (2 ** min(self.doubts, 8) - 2), MOST_BACKOFF))

    def _begin_anew(self) -> None:
        self._consumer.assign([])
        self._forget()
        self._await_takeovers()

    def _await_takeovers(self) -> None:
        self.parked = {number: spoilt.why for number, spoilt in self._spoilt.items()}
        self.pending = set(self.assigned - self._spoilt.keys())

    def _park(self, polled: Polled, parked: PartitionParked) -> None:
        """A batch failed on a number: leave it out for a while, and take the others over again."""
        numbers = polled.numbers
        number = parked.partition
        if number not in self.parts:
            number = numbers[0] if len(numbers) == 1 else None
        if number is None:
            log.warning("%s: from now on each partition has batches of its own, to find out which it is", parked)
            self._apart_until = self._clock() + APART
            self._again(str(parked))
            return
        why = f"{parked}" if parked.partition == number else f"partition {number}: {parked}"
        part = self.parts[number]
        upto = list(part.position.next)
        for topic, message in polled.messages:
            if message.partition() == number:
                upto[topic] = max(upto[topic], (message.offset() or 0) + 1)
        before = self._spoilt.get(number)
        wait = PARKED_AGAIN if before is None else min(2 * before.wait, MOST_PARKED_AGAIN)
        self._spoilt[number] = _Spoilt(why, _stored_epoch(part), tuple(upto), wait, self._clock() + wait)
        self._say(number, f"parked: {why}")
        self.metrics.takeovers.labels("parked").inc()
        self._begin_anew()
        self.metrics.parked.set(len(self.parked))

    def _look_whether_mended(self) -> None:
        """Of numbers that are tried again: those that have got over the batch that they were parked for."""
        for number, spoilt in list(self._spoilt.items()):
            part = self.parts.get(number)
            if part is None:
                continue
            passed = all(at >= upto for at, upto in zip(part.position.next, spoilt.upto, strict=True))
            if passed or _stored_epoch(part) != spoilt.epoch:
                del self._spoilt[number]
                self.parked.pop(number, None)
                self._said.pop(number, None)
                self.metrics.parked.set(len(self.parked))
                log.info("partition %d goes on: what it was parked for is behind it", number)

    def _take_over(self) -> bool:
        """Ask, and take up what was answered; True: everything was placed anew."""
        for number in self.pending - self._asked:
            self._asked.add(number)
            self.takeover.ask(self._generation, number)
        placed = False
        while not self.takeover.answers.empty():
            answer = self.takeover.answers.get()
            if answer.generation != self._generation:
                continue
            number = answer.number
            self._asked.discard(number)
            if answer.again is not None:
                self._waits[number] = answer.again
                self._say(number, f"takeover of partition {number} waits: {answer.again}")
            elif answer.parked is not None:
                self._say(number, f"parked: {answer.parked}")
                self._spoilt.pop(number, None)
                self.parked[number] = str(answer.parked)
                self.pending.discard(number)
            elif answer.part is not None and self._is_member():
                if number not in self._spoilt:
                    self._said.pop(number, None)
                    self.parked.pop(number, None)
                self.parts[number] = answer.part
                self.pending.discard(number)
                self.merger.place(number, answer.part.position.next, answer.part.until)
                self.metrics.takeovers.labels("assigned").inc()
                behind = sum(answer.part.until) - sum(answer.part.position.next)
                log.info(
                    "took partition %d over at %s, %d messages to fold",
                    number,
                    tuple(answer.part.position.next),
                    max(behind, 0),
                )
                placed = True
        if placed:
            self._place()
            self._look_whether_mended()
        self.metrics.parked.set(len(self.parked))
        return placed

    def _is_member(self) -> bool:
        metadata = membership(self._consumer)
        if metadata is None:
            return False
        self._group = metadata
        return True

    def _place(self) -> None:
        self._consumer.assign(
            [
                TopicPartition(topic, number, part.position.next[i])
                for number, part in self.parts.items()
                for topic, i in self._topics.items()
            ]
        )
        # librdkafka keeps a partition paused across assignments.
        transactions = self.settings.topic(INPUTS[0])
        self._consumer.resume([TopicPartition(transactions, number) for number in self.parts])
        self._paused.clear()
        # Assigning anew begins every number where its profiles end: what was held of it will come again.
        self.merger.clear()
        for number, part in self.parts.items():
            self.merger.place(number, part.position.next, part.until)

    def _look_at_parked(self) -> None:
        now = self._clock()
        at_once = self._look_at_once.is_set()
        self._look_at_once.clear()
        left_out = self.parked.keys() - self.parts.keys()
        self.pending |= {
            number for number in left_out & self._spoilt.keys() if at_once or now > self._spoilt[number].again_at
        }
        if left_out and (at_once or now - self._park_checked > PARKED_AGAIN):
            self._park_checked = now
            self.pending |= left_out - self._spoilt.keys()

    # Polling.

    def turn(self) -> None:
        """One round: poll, take over what waits for it, and hand on what may be judged, until it is settled."""
        generation = self._generation
        messages = self._poll()
        self._heed_fatal(messages)
        if generation != self._generation:
            messages = []  # of an assignment that is gone: they will come again from the new positions
        self._look_at_parked()
        if self.pending and self._take_over():
            messages = []  # every number begins again where its profiles end, these messages among them
        if self._kafka_away and any(message.error() is None for message in messages):
            self._is_back()
            messages = []  # a log may have lost its end: whoever takes over looks, and they come again
        if self._sort(messages):
            return
        batch = self._form()
        if batch:
            for polled in self._polled(batch):
                if not self._hand_on(polled):
                    break  # everything begins anew: the others of this turn will come again
        self._watch()

    def _polled(self, batch: list[tuple[int, Message]]) -> list[Polled]:
        whole = Polled(batch, self.parts, self._group)
        if self._clock() > self._apart_until:
            return [whole]
        return [
            Polled([one for one in batch if (one[1].partition() or 0) == number], self.parts, self._group)
            for number in whole.numbers
        ]

    def _poll(self) -> list[Message]:
        short = self.pending or any(self.merger.held(number) for number in self.parts)
        first = self._consumer.poll(0.005 if short else 0.1)
        if first is None:
            return []
        messages, size, room = [first], size_of(first), self.settings.batch
        while len(messages) < room and size < self._most_polled:
            # consume(n, t) would wait the whole t unless n arrive.
            more = self._consumer.consume(min(_AT_ONCE, room - len(messages)), 0)
            if not more:
                break
            messages += more
            size += sum(map(size_of, more))
        return messages

    def _sort(self, messages: list[Message]) -> bool:
        """Put each where it belongs; True: an error sent us back to the takeover."""
        self._ready: list[tuple[int, Message]] = []
        for message in messages:
            error = message.error()
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    index, number = self._topics[message.topic() or ""], message.partition() or 0
                    self.merger.ended(index, number, message.offset() or 0)
                    self._ended.add((index, number))
                elif self._failed(error):
                    return True
                continue
            topic = self._topics[message.topic() or ""]
            self._ended.discard((topic, message.partition() or 0))
            if topic == 0:
                self.merger.hold(message)
            elif message.partition() in self.parts:
                self.merger.saw(topic, message)
                self._ready.append((topic, message))
        return False

    def _heed_fatal(self, messages: list[Message]) -> None:
        """librdkafka says it once, under a code of its own, and is silent from then on."""
        for message in messages:
            error = message.error()
            if error is not None and (error.fatal() or error.code() == KafkaError._FATAL):
                leave(FENCED, f"Kafka shut this worker out: {error.name()}, {error.str()}: {self._why_fenced()}")

    def _failed(self, error: KafkaError) -> bool:
        self.metrics.kafka_errors.labels(error.name()).inc()
        if error.code() == KafkaError.FENCED_INSTANCE_ID:
            leave(FENCED, f"Kafka gave this worker's place to another: {self._why_fenced()}")
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            self._again(f"a position lies outside the log ({error.str()})")
            return True
        if error.code() not in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            log.warning("Kafka: %s, %s", error.name(), error.str())
        return False

    def _note_error(self, error: KafkaError) -> None:
        self.metrics.kafka_errors.labels(error.name()).inc()
        if error.code() == KafkaError._ALL_BROKERS_DOWN and not self._kafka_away:
            self._kafka_away = True
            log.warning("waiting: Kafka at %s is away", self.settings.kafka_shown)

    def _form(self) -> list[tuple[int, Message]]:
        now, wall = self._clock(), time.time_ns() // 1_000_000
        folded = {number: part.position.next for number, part in self.parts.items()}
        # A number that is still being folded knows too little of its counterparties: nobody is judged by that.
        waiting = bool(self.pending - self.parked.keys()) and now - self._forgot < PENDING_HOLDS
        judge = not waiting and not self._rebuilding()
        taken = self.merger.take(self.settings.batch, folded, judge=judge, now=now, wall=wall)
        batch = [*self._ready, *((0, message) for message in taken)]
        self._ready = []
        self._pause_where_much_is_held()
        return batch

    def _pause_where_much_is_held(self) -> None:
        total = sum(self.merger.bytes_held(number) for number in self.parts)
        rebuilding = set(self._rebuilding())
        for number in self.parts:
            held = self.merger.held(number)
            # All the others wait for one that is folded anew: it must get on, however much they hold.
            full = (
                self.merger.bytes_held(number) > self._most_polled
                if number in rebuilding
                else total > self.settings.held_here
            )
            here = TopicPartition(self.settings.topic(INPUTS[0]), number)
            if (held > self.settings.batch or full) and number not in self._paused:
                self._consumer.pause([here])
                self._paused.add(number)
            elif held == 0 and not full and number in self._paused:
                self._consumer.resume([here])
                self._paused.discard(number)
        self.metrics.held.set(total)

    def _hand_on(self, polled: Polled) -> bool:
        """False: everything is to be taken over anew, or the worker stops."""
        self.deliver(polled)
        began = time.monotonic()
        while not polled.done.wait(0.1):
            unclaimed = self._halt.is_set() or time.monotonic() - began > LOST
            if unclaimed and polled.claim():
                if not self._halt.is_set():
                    self._again("a batch never reached the agent")
                return False
        if polled.parked is None and polled.doubt is None:
            self.doubts = 0
            self.settled += 1
            if self._spoilt:
                self._look_whether_mended()
            return True
        if self._halt.is_set():
            return False
        if polled.parked is not None:
            self._park(polled, polled.parked)
        elif polled.doubt is not None:
            self._again(polled.doubt)
        return False

    def _rebuilding(self) -> list[int]:
        """The numbers that have not folded yet what was told before."""
        return [
            number
            for number, part in self.parts.items()
            if self.merger.behind(number, part.position.next)
            or part.position.next.transactions < part.until.transactions
        ]

    def _watch(self) -> None:
        """Lag, about once a second: how far the profiles are behind the log's end."""
        now = self._clock()
        if now - self._watched < 1.0:
            return
        self._watched = now
        if self._kafka_away:
            self._look_for_kafka()
        for number, part in self.parts.items():
            for topic, i in self._topics.items():
                _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, number), cached=True)
                if high >= 0:
                    held = self.merger.held(number) if i == 0 else 0
                    lag = held if (i, number) in self._ended else max(high - part.position.next[i], 0)
                    self.metrics.lag.labels(INPUTS[i].name, str(number)).set(lag)

    def _look_for_kafka(self) -> None:
        try:
            self._consumer.list_topics(self.settings.topic(INPUTS[0]), timeout=0.5)
        except KafkaException:
            return
        self._is_back()

    def _is_back(self) -> None:
        self._kafka_away = False
        log.info("Kafka at %s is back", self.settings.kafka_shown)
        if self.parts:
            self._again("Kafka was away, and may have lost what it had")

    def _say(self, number: int, what: str) -> None:
        """Once, until it changes."""
        if self._said.get(number) != what:
            self._said[number] = what
            log.warning("%s", what)


def membership(consumer: Consumer) -> bytes | None:
    """The group's metadata of this generation; None where Kafka no longer calls the consumer a member."""
    metadata = consumer.consumer_group_metadata()
    # The broker would take the offsets of generation -1 without fencing anybody.
    return None if metadata is None or metadata[7:11] == _NO_MEMBER else metadata


def _stored_epoch(part: Part) -> str:
    return part.position.epoch if part.written else ""


def _numbers(numbers: Iterable[int]) -> str:
    return ", ".join(str(number) for number in sorted(numbers)) or "none"
