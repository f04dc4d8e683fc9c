"""Taking a partition number over: where its profiles are, what was told of it, and whether the log reaches that far back.

A thread of its own asks Redis and Kafka, for a number at a time, on a consumer that never joins the group: nothing is
decided inside the rebalance callback, and a number whose predecessor's transaction is still open keeps nobody else waiting.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import time
from dataclasses import dataclass
from typing import Any

import msgspec
import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from features.accepting import Rules
from features.log import Log
from features.position import Keys, Offsets, Position, new_epoch
from features.redis_store import retries
from features.redis_words import why
from schemas.errors import (
    FraudScorerError,
    LogUnavailable,
    PartitionParked,
    RegistryUnavailable,
    TryAgain,
    WrongSettings,
)
from schemas.marks import Marks
from schemas.topics import ALL, INPUTS, MODELS
from streaming.leaving import BROKEN, WRONG_USE, leave
from streaming.outbox import check_sizes
from streaming.partition import Part
from streaming.settings import WorkerSettings

log = logging.getLogger(__name__)

NOTHING_COMMITTED = -1001
_NAMES = [topic.name for topic in INPUTS]


@dataclass(frozen=True)
class Answer:
    """What became of a takeover: a part, or why there is none yet."""

    generation: int
    number: int
    part: Part | None = None
    parked: PartitionParked | None = None
    again: str | None = None


class Takeover(threading.Thread):
    """Answers, for a partition number, where to begin.  Asked and answered through queues."""

    def __init__(self, settings: WorkerSettings, rules: Rules) -> None:
        super().__init__(daemon=True, name="takeover")
        self.settings = settings
        self.format = rules.format()
        self._writers = rules.writers
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.waits_for: str | None = "Kafka and Redis"
        """What keeps the worker from beginning, in words; None: nothing."""
        self.ready = threading.Event()
        self.refused: FraudScorerError | None = None
        """Why this worker must not run at all."""
        self._asked: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._topics = ""

    def ask(self, generation: int, number: int) -> None:
        """An Answer will follow."""
        self._asked.put((generation, number))

    def run(self) -> None:
        """The thread: first until Kafka and Redis are there and right, then question by question."""
        try:
            self._open()
            if not self._prepare():
                return
            while True:
                generation, number = self._asked.get()
                self.answers.put(self._answer(generation, number))
        except WrongSettings as error:
            leave(WRONG_USE, str(error))
        except BaseException as error:  # a thread that dies in silence would leave the worker waiting
            leave(BROKEN, f"the takeover thread failed: {error!r}")

    def _open(self) -> None:
        s = self.settings
        self._redis = redis.Redis.from_url(
            s.redis_url, socket_timeout=s.redis_timeout, socket_connect_timeout=s.redis_timeout, retry=retries()
        )
        try:
            self._consumer = Consumer(
                s.client(
                    group_id=s.group,
                    enable_auto_commit=False,
                    auto_offset_reset="error",
                    isolation_level="read_committed",  # committed offsets wait for open transactions
                    retry_backoff_ms=5,
                    retry_backoff_max_ms=50,
                )
            )
            self._admin = AdminClient(s.client())
        except KafkaException as error:  # the first clients that are made: what was passed through is tried here
            raise WrongSettings(f"FRAUD_KAFKA__…: {error.args[0].str()}") from error

    def _prepare(self) -> bool:
        """Wait for both, check what must hold.  False: refused."""
        wait, said = 0.1, ""
        while True:
            try:
                self._check_redis()
                self._check_topics()
                self._check_sizes()
                self._pin_partitions()
            except TryAgain as error:
                self.waits_for = str(error)
                if said != self.waits_for:
                    said = self.waits_for
                    log.warning("waiting: %s", said)
                time.sleep(wait)
                wait = min(2 * wait, 2.0)
            except WrongSettings as error:
                self.refused = error
                self.ready.set()
                return False
            else:
                self.waits_for = None
                self.ready.set()
                return True

    def _check_redis(self) -> None:
        try:
            policy = self._redis.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
        except redis.ResponseError:
            log.warning("Redis does not say its maxmemory-policy: it must be noeviction, or profiles vanish unseen")
            return
        except redis.RedisError as error:
            raise TryAgain(why(error)) from error
        if policy != "noeviction":
            raise WrongSettings(
                f"Redis has maxmemory-policy {policy}: it may drop a profile, and nobody would notice; "
                "set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in redis.conf)"
            )

    def _check_topics(self) -> None:
        s = self.settings
        try:
            known = self._consumer.list_topics(timeout=2).topics
        except KafkaException as error:
            raise TryAgain(f"Kafka at {s.kafka_url} does not answer ({error.args[0].str()})") from error
        if missing := [s.topic(topic) for topic in ALL if s.topic(topic) not in known]:
            raise TryAgain(f"topics are missing: {', '.join(missing)}")
        if (count := len(known[s.topic(MODELS)].partitions)) != MODELS.partitions:
            raise WrongSettings(f"topic {s.topic(MODELS)} must have {MODELS.partitions} partition, not {count}")
        counts = {s.topic(topic): len(known[s.topic(topic)].partitions) for topic in ALL if topic.partitions is None}
        if any(count != s.partitions for count in counts.values()):
            raise WrongSettings(
                f"every topic must have FRAUD_PARTITIONS={s.partitions} partitions, but there are "
                + ", ".join(f"{name}: {count}" for name, count in counts.items())
                + "; other numbers mean new topics and a rebuild, since profiles are kept by partition"
            )
        names = [s.topic(topic) for topic in INPUTS]
        try:
            described = self._admin.describe_topics(TopicCollection(names), request_timeout=5)
            ids = [str(described[name].result().topic_id) for name in names]
        except KafkaException as error:
            raise TryAgain(f"Kafka does not describe its topics ({error.args[0].str()})") from error
        self._topics = hashlib.sha256("".join(ids).encode()).hexdigest()[:8]

    def _check_sizes(self) -> None:
        try:
            check_sizes(self._admin, self.settings)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise TryAgain(f"Kafka does not say how its topics are set ({error.args[0].str()})") from error
            log.warning(
                "Kafka does not tell this user max.message.bytes of its topics: it must be as schemas/topics.py has it"
            )

    def _pin_partitions(self) -> None:
        key = f"{{{self.settings.topic_prefix}p}}:partitions"
        try:
            self._redis.set(key, self.settings.partitions, nx=True)
            pinned = int(self._redis.get(key) or 0)
        except redis.RedisError as error:
            raise TryAgain(why(error)) from error
        if pinned != self.settings.partitions:
            raise WrongSettings(
                f"the profiles in Redis were folded for {pinned} partitions, FRAUD_PARTITIONS is {self.settings.partitions}; "
                f"another number means a rebuild under another FRAUD_TOPIC_PREFIX (the pin is {key})"
            )

    def _answer(self, generation: int, number: int) -> Answer:
        try:
            self._writers.check()
            return Answer(generation, number, part=self._take(number))
        except PartitionParked as parked:
            return Answer(generation, number, parked=parked)
        except (LogUnavailable, RegistryUnavailable) as error:
            return self._later(generation, number, str(error))
        except redis.RedisError as error:
            return self._later(generation, number, why(error))
        except KafkaException as error:
            return self._later(generation, number, f"Kafka does not say what was committed: {error.args[0].str()}")

    @staticmethod
    def _later(generation: int, number: int, why: str) -> Answer:
        time.sleep(0.05)
        return Answer(generation, number, again=why)

    def _take(self, number: int) -> Part:
        """Raises PartitionParked where going on would be wrong, RedisError or KafkaException where it is not known."""
        s = self.settings
        keys = Keys(s.topic_prefix, number)
        # The position first and the committed offsets second: the other way round, a worker that commits and writes in
        # between would look like a Redis that is ahead of Kafka.
        raw = self._position(number, keys)
        here = [TopicPartition(s.topic(topic), number) for topic in INPUTS]
        committed = self._consumer.committed(here, timeout=0.25)
        if failed := [tp.error for tp in committed if tp.error]:
            raise KafkaException(failed[0])
        marks = self._marks(number, committed[0].metadata)
        bounds = [self._consumer.get_watermark_offsets(tp, timeout=2) for tp in here]
        low = Offsets(*(bound[0] for bound in bounds))
        offsets = Offsets(*(tp.offset for tp in committed))
        position = self._check(number, raw, offsets, bounds)
        if offsets.transactions < 0 or any(at > offset for at, offset in zip(position.next, offsets, strict=True)):
            offsets, marks = self._recovered(number, position, offsets, marks)
        told = Offsets(*map(max, offsets, low))
        skipped = self._left_out(number) if marks.left_out and position.next != told else frozenset()
        return Part(number, position, told, marks, keys, bool(raw), skipped)

    def _position(self, number: int, keys: Keys) -> bytes:
        try:
            found: Any = self._redis.get(keys.position)
        except redis.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            raise PartitionParked(
                f"partition {number}: its position {keys.position} is no string in Redis: somebody else wrote it; "
                f"`redis-cli DEL '{keys.position}'`, and a worker folds the profiles anew"
            ) from error
        return found or b""

    def _recovered(self, number: int, position: Position, committed: Offsets, marks: Marks) -> tuple[Offsets, Marks]:
        """What was told, of a group whose committed offsets are gone or behind: its outputs and profiles say it as well.

        A position is written after the offsets were committed, so that it is never ahead of what was told.
        """
        with Log(self.settings) as log_:
            said = log_.told(number)
        told = Offsets(*map(max, committed, position.next, said.until if said else position.next))
        if said is None and not any(position.next):
            return told, marks  # a first start
        known = said.marks if said and committed.transactions < 0 else marks
        log.warning(
            "partition %d: the group has committed %s, but its outputs and profiles say that it told up to %s: going on there",
            number,
            tuple(max(offset, 0) for offset in committed),
            tuple(told),
        )
        return told, msgspec.structs.replace(known, left_out=said.marks.left_out if said else known.left_out)

    @staticmethod
    def _marks(number: int, metadata: str | None) -> Marks:
        try:
            return Marks.parse(metadata)
        except WrongSettings as error:
            raise PartitionParked(
                f"partition {number}: {error}; commit them anew, as they were, with the metadata of a worker"
            ) from error

    def _check(self, number: int, raw: bytes, committed: Offsets, bounds: list[tuple[int, int]]) -> Position:
        rebuild = f"`features rebuild --partition {number}` mends it"
        for name, offset, (_, high) in zip(_NAMES, committed, bounds, strict=True):
            if offset > high:
                raise PartitionParked(
                    f"partition {number}: {name} was judged up to {offset}, and ends at {high}: it was made anew or cut off; "
                    f"reset the group's offsets for it"
                )
        if not raw:
            return self._from_nothing(number, bounds)
        try:
            position = Position.parse(raw)
        except ValueError as error:
            raise PartitionParked(
                f"partition {number}: its position is {raw[:100]!r}, which is none; {rebuild}"
            ) from error
        if position.format != self.format:
            raise PartitionParked(
                f"partition {number}: its profiles are of format {position.format}, this worker folds {self.format} "
                f"(another release, or other FRAUD_CURRENCY, FRAUD_RATES, FRAUD_FUTURE_TOLERANCE); {rebuild}"
            )
        if position.topics != self._topics:
            raise PartitionParked(
                f"partition {number}: its profiles were folded from topics since made anew; {rebuild}"
            )
        for name, at, (low, high) in zip(_NAMES, position.next, bounds, strict=True):
            if at < low:
                raise PartitionParked(
                    f"partition {number}: {name} begins at {low}, its profiles end at {at}; {rebuild}"
                )
            if at > high:
                raise PartitionParked(
                    f"partition {number}: its profiles hold {name} up to {at}, which ends at {high}: the log lost its end; "
                    f"{rebuild}"
                )
        return position

    def _from_nothing(self, number: int, bounds: list[tuple[int, int]]) -> Position:
        for name, (low, _) in zip(_NAMES, bounds, strict=True):
            if low > 0:
                raise PartitionParked(
                    f"partition {number} has no position, and {name} begins at {low}: what came before is in no log, so "
                    f"that profiles can't be folded from the beginning; bring it back from an archive, or `features "
                    f"rebuild --partition {number} --from-here` accepts profiles that begin there"
                )
        return Position(self.format, new_epoch(), self._topics, Offsets(0, 0, 0))

    def _left_out(self, number: int) -> frozenset[tuple[int, int]]:
        with Log(self.settings) as log:
            return frozenset(log.left_out(number))
