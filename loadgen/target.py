"""Which Kafka, and which topics in it."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from schemas import masking
from schemas.errors import WrongSettings
from schemas.topics import KAFKA_ANSWERS_WITHIN, Topic

URL_VARIABLE, PREFIX_VARIABLE = "FRAUD_KAFKA_URL", "FRAUD_TOPIC_PREFIX"
DEFAULT_URL: Final = "127.0.0.1:9092"

# librdkafka writes to standard error, over the progress; what matters reaches us as an error as well.
_silent = logging.getLogger("librdkafka")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stream goes and verdicts come from."""

    url: str = DEFAULT_URL
    prefix: str = ""

    @classmethod
    def of(cls, url: str | None = None, prefix: str | None = None) -> Target:
        """What is not given comes from the environment."""
        return cls(
            url=url or os.environ.get(URL_VARIABLE) or DEFAULT_URL,
            prefix=os.environ.get(PREFIX_VARIABLE, "") if prefix is None else prefix,
        )

    @property
    def shown(self) -> str:
        """Where, as it may be shown."""
        return masking.brokers(self.url)

    def name(self, topic: Topic) -> str:
        """The topic's name there."""
        return self.prefix + topic.name

    def client(self, **settings: str | int | float | bool) -> dict[str, Any]:
        """librdkafka's settings, with dots for the double underscores of a keyword."""
        return {
            "bootstrap.servers": self.url,
            "logger": _silent,
            **{name.replace("__", "."): value for name, value in settings.items()},
        }

    def partitions(self, topics: Sequence[Topic], timeout: float = KAFKA_ANSWERS_WITHIN) -> dict[str, int]:
        """Of each topic, by its name there.

        Raises WrongSettings where Kafka is not there within `timeout` seconds, or lacks a topic.
        """
        try:
            found = AdminClient(self.client()).list_topics(timeout=timeout).topics
        except KafkaException as error:
            raise WrongSettings(
                f"no Kafka answers at {self.shown} ({error.args[0].str()}); --kafka or {URL_VARIABLE} says where"
            ) from error
        names = [self.name(topic) for topic in topics]
        if missing := [name for name in names if name not in found]:
            raise WrongSettings(
                f"the Kafka at {self.shown} has no topic {', '.join(missing)}; --prefix or {PREFIX_VARIABLE} says what "
                "goes before the names, and `python -m deploy.local.topics HOST:PORT` makes the topics"
            )
        return {name: len(found[name].partitions) for name in names}
