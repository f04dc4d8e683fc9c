"""What the workers say, as a consumer that reads only what is committed hears it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from features.settings import Settings
from schemas.dead_letter import DeadLetter
from schemas.topics import ALERTS, DEAD_LETTERS, VERDICTS
from schemas.verdict import Alert, Verdict, decode_alert, decode_verdict


@dataclass(frozen=True)
class Letter:
    """A dead letter as it lies on its topic."""

    key: bytes | None
    value: bytes | None
    headers: dict[str, str]
    says: DeadLetter


class Answers(threading.Thread):
    """Verdicts, alerts and dead letters, in the order in which they came."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True, name="answers")
        self.verdicts: list[Verdict] = []
        self.alerts: list[Alert] = []
        self.letters: list[Letter] = []
        self.heard_at: dict[str, float] = {}
        """By transaction_id: time.monotonic() when its first verdict could be read."""
        self._names = {settings.topic(topic): topic for topic in (VERDICTS, ALERTS, DEAD_LETTERS)}
        self._partitions = settings.partitions
        self._consumer = Consumer(
            settings.client(
                group_id=f"{settings.group}-answers",
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="error",
                fetch_wait_max_ms=20,
                fetch_queue_backoff_ms=5,
            )
            | {"error_cb": lambda _: None}
        )
        self._news = threading.Condition()
        self._over = threading.Event()
        self._failed: BaseException | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        self._consumer.close()

    def run(self) -> None:
        self._consumer.assign(
            [TopicPartition(name, number, 0) for name in self._names for number in range(self._partitions)]
        )
        try:
            while not self._over.is_set():
                first = self._consumer.poll(0.1)
                if first is None:
                    continue
                messages = [first, *self._consumer.consume(5_000, 0)]
                with self._news:
                    for message in messages:
                        self._take(message)
                    self._news.notify_all()
        except BaseException as error:
            with self._news:
                self._failed = error
                self._news.notify_all()

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise KafkaException(error)
            return  # Kafka may be away
        topic = self._names[message.topic() or ""]
        if topic is VERDICTS:
            verdict = decode_verdict(message.value())
            self.verdicts.append(verdict)
            self.heard_at.setdefault(verdict.transaction_id, time.monotonic())
        elif topic is ALERTS:
            self.alerts.append(decode_alert(message.value()))
        else:
            headers: Any = message.headers()
            texts = {name: value.decode() for name, value in headers}
            self.letters.append(Letter(message.key(), message.value(), texts, DeadLetter.from_headers(headers)))

    def wait_until(self, holds: Callable[[Self], bool], *, seconds: float, still: Callable[[], object]) -> None:
        """Until this holds.  `still` is asked once a second and raises where waiting is in vain.  Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        with self._news:
            while not holds(self):
                if self._failed is not None:
                    raise self._failed
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"within {seconds:.0f} s there came {len(self.verdicts)} verdicts, {len(self.alerts)} alerts, "
                        f"{len(self.letters)} dead letters"
                    )
                self._news.wait(min(1.0, max(deadline - time.monotonic(), 0.0)))
                still()

    def verdicts_of(self, transaction_id: str) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.transaction_id == transaction_id]

    def has_all(self, ids: Sequence[str]) -> bool:
        """Whether each of these has a verdict."""
        return all(one in self.heard_at for one in ids)
