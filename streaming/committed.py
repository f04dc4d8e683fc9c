"""What the group has committed of partition numbers that other workers serve: how far their profiles must be."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas.errors import TryAgain, WrongSettings
from schemas.marks import Trace, parse
from schemas.topics import ACTIVITY
from streaming.settings import WorkerSettings


class Committed(Protocol):
    """Knows how much activity was told to be folded."""

    async def activity(self, numbers: Sequence[int], topic_id: str) -> dict[int, int]:
        """By partition number, the next offset of the activity that the group has not committed yet; 0 where none is.

        What was committed of another log, of a topic with another id than `topic_id`, is none.  Raises TryAgain where it
        can't be known now.
        """


class CommittedInKafka:
    """A Committed.  It has a consumer of its own that never joins the group, made when somebody asks for the first time."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self._consumer: Consumer | None = None

    async def activity(self, numbers: Sequence[int], topic_id: str) -> dict[int, int]:
        """See Committed."""
        return await asyncio.get_running_loop().run_in_executor(None, self._ask, list(numbers), topic_id)

    def _ask(self, numbers: list[int], topic_id: str) -> dict[int, int]:
        s = self.settings
        topic = s.topic(ACTIVITY)
        try:
            if self._consumer is None:
                # What a killed worker has left open is not waited for here: its heir waits for it.
                self._consumer = Consumer(
                    s.client(group_id=s.group, enable_auto_commit=False, isolation_level="read_uncommitted")
                )
            found = self._consumer.committed([TopicPartition(topic, number) for number in numbers], timeout=2.0)
            if failed := [each.error for each in found if each.error]:
                raise KafkaException(failed[0])
        except KafkaException as error:
            raise TryAgain(
                f"Kafka at {s.kafka_shown} does not say what group {s.group} has committed of {topic}: {error.args[0].str()}"
            ) from error
        return {each.partition: told_of(each.offset, each.metadata, topic_id) for each in found}

    def close(self) -> None:
        """Give the connections back."""
        if self._consumer is not None:
            self._consumer.close()


def told_of(offset: int, metadata: str | None, topic_id: str) -> int:
    """How much of the topic of this id a committed offset says was told."""
    with suppress(WrongSettings):  # somebody else committed: the number's own worker is parked for it
        if parse(Trace, metadata).topic_id not in ("", topic_id):
            return 0
    return max(offset, 0)
