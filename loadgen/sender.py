"""To Kafka, as a careful producer sends: idempotent, acknowledged by all, in Java's partitions."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from loadgen.target import Target

DUE: Final = "due"
"""The header that says when the message was due: microseconds since 1970 UTC, in ASCII."""


class Sender:
    """Produces messages and counts what became of them.  Used by one thread."""

    def __init__(self, target: Target, **settings: str | int | float | bool) -> None:
        """`settings` go to librdkafka, with double underscores for dots."""
        defaults: dict[str, Any] = {
            "acks": "all",
            "enable__idempotence": True,
            "linger__ms": 10,
            "partitioner": "murmur2_random",
            # Half a minute of nothing from Kafka at 10,000 a second; then `send` waits.
            "queue__buffering__max__messages": 300_000,
            # A report of each success costs more than producing; what isn't reported and is flushed has arrived.
            "delivery__report__only__error": True,
            "on_delivery": self._delivered,
            "error_cb": self._broken,
        }
        self.sent = 0
        self.waited = 0
        """How often the queue was full."""
        self.failed: Counter[str] = Counter()
        """Messages that did not arrive, by error."""
        self.last_error = ""
        """What Kafka's client said last; it goes on trying."""
        self._producer = Producer(target.client(**(defaults | settings)))
        self._produce = self._producer.produce

    def send(self, topic: str, key: bytes | None, value: bytes | None, due: int, partition: int = -1) -> None:
        """Takes the message in; waits only while the queue is full.  `due` in microseconds since 1970 UTC."""
        headers: list[tuple[str, str | bytes | None]] = [(DUE, b"%d" % due)]
        while True:
            try:
                self._produce(topic, value, key, partition, headers=headers)
            except BufferError:
                self.waited += 1
                self._producer.poll(0.05)
            except KafkaException as error:
                self.failed[error.args[0].str()] += 1
                return
            else:
                self.sent += 1
                return

    def poll(self) -> None:
        """Hears of failures, without waiting."""
        self._producer.poll(0)

    def flush(self, timeout: float) -> int:
        """Waits until all have arrived or failed, at most `timeout` seconds; how many are still on their way."""
        return int(self._producer.flush(timeout))

    def _delivered(self, error: KafkaError | None, _message: Message) -> None:
        if error is not None:
            self.failed[error.str()] += 1

    def _broken(self, error: KafkaError) -> None:
        self.last_error = error.str()
