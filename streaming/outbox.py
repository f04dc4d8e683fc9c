"""The producer's thread: what a batch has to say leaves in one Kafka transaction, offsets included, or not at all."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType

from schemas.errors import FraudScorerError, WrongSettings
from schemas.topics import ACTIVITY, ALERTS, DEAD_LETTERS, EXPLANATIONS, MIB, VERDICTS
from streaming.leaving import BROKEN, FENCED, STUCK, leave
from streaming.settings import WorkerSettings
from streaming.slot import BOTH_CAUSES

log = logging.getLogger(__name__)

SLOW = 2.0
"""Seconds after which a call to Kafka is one that is waited for."""
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)
_OVERHEAD = 65_536
"""Bytes for keys, headers and what a record batch adds."""
_OF_A_RECORD = 100
"""Bytes that Kafka adds to a message that lies in a record batch of its own, at most."""
Place = tuple[int, int, int]
"""Index of the input topic, partition, offset."""
LARGEST_ALERT = int(ALERTS.config["max.message.bytes"]) - _OVERHEAD


class Aborted(FraudScorerError):
    """Nothing of the batch was told; every number must be taken over again."""


class TooLarge(Aborted):
    """Kafka doesn't take what is to be said: nothing was told, and the same again would meet the same."""

    def __init__(self, said: Sequence[Said], why: str) -> None:
        """`said`: what is too large."""
        super().__init__(why)
        self.said = said


class Said(NamedTuple):
    """One message to publish.  It goes to the partition number of the message that it answers, or by its key."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int = -1
    headers: Sequence[tuple[str, str | bytes | None]] = ()
    source: Place | None = None
    """The message that it is about."""

    @property
    def size(self) -> int:
        """Bytes that the topic's max.message.bytes is held to, uncompressed: at least what Kafka makes of it alone."""
        headers = sum(len(name) + len(value or b"") + 8 for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + _OF_A_RECORD


class Told(NamedTuple):
    """An offset to commit: the next message of a partition that nothing was said of yet."""

    topic: str
    partition: int
    offset: int
    metadata: str = ""


@dataclass(frozen=True)
class _Order:
    said: Sequence[Said]
    told: Sequence[Told]
    group: bytes
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


class Outbox(threading.Thread):
    """Owns the transactional producer.  As a thread it takes batches by `tell`; else its owner calls `open` and `transact`."""

    def __init__(
        self, settings: WorkerSettings, *, name: str | None = None, why_fenced: Callable[[], str] = lambda: BOTH_CAUSES
    ) -> None:
        """`name`: the transactional.id; none: the worker's.  `why_fenced` says who may have shut this process out."""
        super().__init__(daemon=True, name="outbox")
        self.settings = settings
        self._id = name or f"{settings.group}-{settings.slot}"
        self._why_fenced = why_fenced
        self.ready = threading.Event()
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._call: tuple[str, float] | None = None
        self._waiting_since: float | None = None

    async def tell(self, said: Sequence[Said], told: Sequence[Told], group: bytes) -> None:
        """`transact`, on the thread.  Raises Aborted."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._orders.put(_Order(said, told, group, loop, done))
        await done

    def waits_for(self) -> str | None:
        """What keeps a batch from being told, in words; None: nothing, or not for long."""
        since = self._waiting_since
        if since is None or time.monotonic() - since < SLOW:
            return None
        return f"Kafka at {self.settings.kafka_shown}, which does not take a batch"

    def close(self) -> None:
        """End the thread once all is told."""
        self._orders.put(None)

    def run(self) -> None:
        """The thread."""
        try:
            self.open()
            while (order := self._orders.get()) is not None:
                try:
                    self.transact(order.said, order.told, order.group)
                except Aborted as aborted:
                    _answer(order, aborted)
                else:
                    _answer(order, None)
        except BaseException as error:  # a thread that dies in silence would leave the worker waiting
            log.exception("the outbox failed")
            leave(BROKEN, f"the outbox failed: {error!r}")

    def open(self) -> None:
        """Wait for Kafka, and abort what a predecessor of the same id left open."""
        s = self.settings
        self._producer = Producer(
            s.client(
                transactional_id=self._id,
                transaction_timeout_ms=round(s.transaction_timeout * 1000),
                acks="all",
                linger_ms=0,
                delivery_report_only_error=True,
                compression_type="lz4",  # two thirds of a verdict are its vector, and much of that is zeros and NaN
                partitioner="murmur2_random",
                message_max_bytes=max(s.dead_letter_bytes, LARGEST_ALERT) + _OVERHEAD,
                # With librdkafka's default of 100 ms every transaction takes 105: the broker asks for patience until the
                # last one's markers are written, and the client waits its whole back-off.
                retry_backoff_ms=1,
                retry_backoff_max_ms=1,
            )
        )
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()
        self._persist("init_transactions", self._producer.init_transactions, 5.0)
        self.ready.set()

    def transact(self, said: Sequence[Said], told: Sequence[Told], group: bytes) -> None:
        """Publish all of it and commit the offsets, in one transaction.

        Raises Aborted where none of it happened, TooLarge where the same again would end the same.  Where it can't be
        known, the process ends.
        """
        produce = self._producer.produce
        refused: list[Said] = []

        def note(one: Said, error: KafkaError | None, _message: Message) -> None:
            if error is not None and error.code() in _TOO_LARGE:
                refused.append(one)

        self._producer.begin_transaction()
        for one in said:
            while True:
                try:
                    produce(
                        one.topic,
                        value=one.value,
                        key=one.key,
                        partition=one.partition,
                        headers=list(one.headers),
                        on_delivery=partial(note, one),
                    )
                    break
                except BufferError:
                    self._producer.poll(0.01)
                except KafkaException as error:
                    self._abort()
                    why = f"a message could not be produced: {error.args[0].str()}"
                    if error.args[0].code() in _TOO_LARGE:
                        raise TooLarge([one], why) from error
                    raise self._aborted(refused, why) from error
        offsets = [TopicPartition(topic, n, offset, metadata) for topic, n, offset, metadata in told]
        try:
            self._persist("send_offsets", self._producer.send_offsets_to_transaction, offsets, group, 10.0)
            self._persist("commit", self._producer.commit_transaction, 10.0)
        except Aborted as aborted:
            raise self._aborted(refused, str(aborted)) from aborted

    def _aborted(self, refused: list[Said], why: str) -> Aborted:
        """What to raise: a record batch is refused as a whole, with all that happened to be in it."""
        if not refused:
            return Aborted(why)
        limits = self._limits({one.topic for one in refused})
        too_large = [one for one in refused if one.size > limits.get(one.topic, 0)]
        # Where the limits aren't known, or all of it is small: the largest of each topic, one after the other.
        if len(limits) < len({one.topic for one in refused}) or not too_large:
            too_large = list({one.topic: one for one in sorted(refused, key=lambda one: one.size)}.values())
        return TooLarge(
            too_large, f"{why}; {', '.join(f'{topic} takes {most} bytes' for topic, most in limits.items())}"
        )

    def _limits(self, topics: set[str]) -> dict[str, int]:
        try:
            return largest_messages(AdminClient(self.settings.client()), topics)
        except KafkaException as error:
            log.warning("Kafka does not say how large messages may be: %s", error.args[0].str())
            return {}

    def _abort(self) -> None:
        self._persist("abort", self._producer.abort_transaction, 10.0)

    def _persist(self, name: str, call: Callable[..., Any], *arguments: Any) -> None:
        """The same call until it is decided: librdkafka says of each error what is to be done."""
        said = ""
        self._waiting_since = time.monotonic()
        while True:
            self._call = (name, time.monotonic())
            try:
                call(*arguments)
            except KafkaException as exception:
                error = exception.args[0]
                if error.fatal():
                    leave(FENCED, f"{name}: {error.name()}, {error.str()}: {self._why_fenced()}")
                if error.txn_requires_abort():
                    log.warning("%s: %s, %s: aborting", name, error.name(), error.str())
                    self._abort()
                    raise Aborted(f"{name}: {error.name()}") from exception
                if not error.retriable() and name != "init_transactions":
                    leave(BROKEN, f"{name}: {error.name()}, {error.str()}")
                if said != error.name():
                    said = error.name()
                    log.warning("%s: %s, %s: trying again", name, said, error.str())
                if name == "init_transactions":
                    time.sleep(0.2)
            else:
                self._waiting_since = None
                return
            finally:
                self._call = None

    def _watch(self) -> None:
        """send_offsets_to_transaction can hang for ever after a broker's restart, whatever its time-out (#5456, #5511)."""
        while True:
            time.sleep(1)
            call = self._call
            if (
                call is not None
                and call[0] != "init_transactions"
                and time.monotonic() - call[1] > self.settings.watchdog
            ):
                leave(
                    STUCK,
                    f"{call[0]} has hung for {self.settings.watchdog:.0f} s; a new process takes the partitions over",
                )


def check_sizes(admin: AdminClient, settings: WorkerSettings) -> None:
    """That the topics take what is told there.  Raises WrongSettings, KafkaException."""
    s = settings
    needed = {s.topic(topic): MIB for topic in (VERDICTS, ACTIVITY, EXPLANATIONS)}
    needed[s.topic(ALERTS)] = LARGEST_ALERT + _OVERHEAD
    needed[s.topic(DEAD_LETTERS)] = s.dead_letter_bytes + _OVERHEAD
    found = largest_messages(admin, needed)
    if less := [f"{topic}: {found[topic]}, not {most}" for topic, most in needed.items() if found[topic] < most]:
        raise WrongSettings(
            f"max.message.bytes of topics is less than what may be told there ({'; '.join(less)}): raise it, or of "
            f"{s.topic(DEAD_LETTERS)} lower FRAUD_DEAD_LETTER_BYTES"
        )


def largest_messages(admin: AdminClient, topics: Iterable[str]) -> dict[str, int]:
    """max.message.bytes of these topics.  Raises KafkaException."""
    asked = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic) for topic in topics], request_timeout=5)
    return {resource.name: int(found.result()["max.message.bytes"].value) for resource, found in asked.items()}


def _answer(order: _Order, error: Aborted | None) -> None:
    def set_it() -> None:
        if order.done.done():
            return
        if error is None:
            order.done.set_result(None)
        else:
            order.done.set_exception(error)

    order.loop.call_soon_threadsafe(set_it)
