"""Taking a partition number over: where its profiles are, what was told of it, and whether the log reaches that far back.

A thread of its own asks Redis and Kafka, for a number at a time, on a consumer that never joins the group: nothing is
decided inside the rebalance callback, and a number whose predecessor's transaction is still open keeps nobody else waiting.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import redis
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from features.accepting import Rules
from features.log import Log
from features.pin import pin
from features.position import Keys, Last, Offsets, Position, TopicIds, new_epoch
from features.redis_store import retries
from features.redis_words import why
from features.resuming import left_out_of, told_of, unfit
from schemas.errors import (
    FraudScorerError,
    LogUnavailable,
    PartitionParked,
    RegistryUnavailable,
    TryAgain,
    WrongSettings,
)
from schemas.topics import ALL, MODELS
from streaming.leaving import BROKEN, WRONG_USE, leave
from streaming.outbox import check_sizes
from streaming.partition import Part
from streaming.settings import WorkerSettings

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds that Kafka may take for an answer; then it is asked again."""
IDS_LAST = 1.0
"""Seconds for which the topics' ids are believed without asking again."""


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
        self._rules = rules
        self._writers = rules.writers
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.waits_for: str | None = "Kafka and Redis"
        """What keeps the worker from beginning, in words; None: nothing."""
        self.ready = threading.Event()
        self.refused: FraudScorerError | None = None
        """Why this worker must not run at all."""
        self._asked: queue.SimpleQueue[tuple[int, int]] = queue.SimpleQueue()
        self._ids = TopicIds(), -IDS_LAST
        """The input topics' ids, and when they were asked for,"""
        self._ids_of = -1
        """for this generation."""
        self._looked_at: set[int] = set()
        """Numbers whose outputs were looked at since the process began."""

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
            self._log = Log(s, patience=PATIENCE)
            self._admin = AdminClient(s.client())
        except KafkaException as error:  # the first client that is made: what was passed through is tried here
            raise WrongSettings(f"FRAUD_KAFKA__…: {error.args[0].str()}") from error

    def _prepare(self) -> bool:
        """Wait for both, check what must hold.  False: refused."""
        wait, said = 0.1, ""
        while True:
            try:
                self._check_redis()
                self._check_topics()
                self._check_sizes()
                self._pin()
            except (TryAgain, LogUnavailable) as error:
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
        known = self._log.partition_counts()
        if missing := [s.topic(topic) for topic in ALL if s.topic(topic) not in known]:
            raise TryAgain(f"topics are missing: {', '.join(missing)}")
        if (count := known[s.topic(MODELS)]) != MODELS.partitions:
            raise WrongSettings(f"topic {s.topic(MODELS)} must have {MODELS.partitions} partition, not {count}")
        counts = {s.topic(topic): known[s.topic(topic)] for topic in ALL if topic.partitions is None}
        if any(count != s.partitions for count in counts.values()):
            raise WrongSettings(
                f"every topic must have FRAUD_PARTITIONS={s.partitions} partitions, but there are "
                + ", ".join(f"{name}: {count}" for name, count in counts.items())
                + "; other numbers mean new topics and a rebuild, since profiles are kept by partition"
            )

    def _check_sizes(self) -> None:
        try:
            check_sizes(self._admin, self.settings)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise TryAgain(f"Kafka does not say how its topics are set ({error.args[0].str()})") from error
            log.warning(
                "Kafka does not tell this user max.message.bytes of its topics: it must be as schemas/topics.py has it"
            )

    def _pin(self) -> None:
        try:
            pin(self._redis, self.settings)
        except redis.RedisError as error:
            raise TryAgain(why(error)) from error

    def _answer(self, generation: int, number: int) -> Answer:
        try:
            self._writers.check()
            self._doubt_ids_of_before(generation)
            return Answer(generation, number, part=self._take(number))
        except PartitionParked as parked:
            return Answer(generation, number, parked=parked)
        except (LogUnavailable, RegistryUnavailable) as error:
            return self._later(generation, number, str(error))
        except redis.RedisError as error:
            return self._later(generation, number, why(error))

    @staticmethod
    def _later(generation: int, number: int, why: str) -> Answer:
        time.sleep(0.05)
        return Answer(generation, number, again=why)

    def _take(self, number: int) -> Part:
        """Raises PartitionParked where going on would be wrong, RedisError or LogUnavailable where it is not known."""
        keys = Keys(self.settings.topic_prefix, number)
        raw = self._position(number, keys)
        standing = self._log.standing(
            number, raw, topics=self._topic_ids, outputs=number not in self._looked_at, patience=0.25
        )
        if (why_not := unfit(self._log, standing, self._rules)) is not None:
            raise PartitionParked(why_not)
        position = standing.position() or Position(self.format, new_epoch(), standing.topics, Offsets(0, 0, 0))
        told = told_of(self._log, standing, position)
        self._looked_at.add(number)
        resumed = standing.resumed(position) is not None
        last = Last() if resumed else standing.told_last()
        anew = resumed or standing.is_of_another_log()
        part = Part(number, position, told.until, told.marks, last, keys, bool(standing.raw), anew=anew)
        if position.next == told.until:
            return part
        skipped = left_out_of(self._log, standing, told)
        left_out = sum(offset < told.until[topic] for topic, offset in skipped)
        return replace(part, skipped=skipped, marks=msgspec.structs.replace(told.marks, left_out=left_out))

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

    def _doubt_ids_of_before(self, generation: int) -> None:
        """What all was taken over again for may be that a topic was made anew."""
        if generation != self._ids_of:
            self._ids, self._ids_of = (TopicIds(), -IDS_LAST), generation

    def _topic_ids(self) -> TopicIds:
        """As they are now; asked once for the numbers of one generation, and again where those are looked at later."""
        ids, asked = self._ids
        if time.monotonic() - asked > IDS_LAST:
            ids = TopicIds(*self._log.topic_ids())
            self._ids = ids, time.monotonic()
        return ids
