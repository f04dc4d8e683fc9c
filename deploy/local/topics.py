"""Makes the topics, in whichever Kafka: the local stack's, a test's, or `python -m deploy.local.topics HOST:PORT`."""

from __future__ import annotations

import os
import sys
import time

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from schemas import topics


def create_topics(
    kafka_url: str, *, prefix: str = "", partitions: int = topics.DEFAULT_PARTITIONS, replication: int = 1
) -> None:
    """Every topic of schemas/topics.py, of `partitions` unless it has a number of its own; those that exist stay as they are.

    Then the broker knows them, so that whoever asks it next finds them.  Raises ValueError where one exists with another
    number of partitions: labels would not meet their accounts; TimeoutError where Kafka doesn't say within half a minute.
    """
    admin = AdminClient({"bootstrap.servers": kafka_url})
    counts = {prefix + topic.name: topic.partitions or partitions for topic in topics.ALL}
    wanted = [
        NewTopic(
            prefix + topic.name,
            num_partitions=counts[prefix + topic.name],
            replication_factor=replication,
            config=dict(topic.config),
        )
        for topic in topics.ALL
    ]
    existing = []
    for name, done in admin.create_topics(wanted, operation_timeout=30).items():
        try:
            done.result()
        except KafkaException as problem:
            if problem.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
            existing.append(name)
    found = _partitions(admin, list(counts))
    unequal = {name: found[name] for name in existing if found[name] != counts[name]}
    if unequal:
        raise ValueError(f"topics exist with another number of partitions than {partitions}: {unequal}")


def _partitions(admin: AdminClient, names: list[str]) -> dict[str, int]:
    """How many each has.  A broker may learn of a topic a moment after the controller has made it.  Raises TimeoutError."""
    end = time.monotonic() + 30
    while True:
        found = admin.list_topics(timeout=30).topics
        missing = [name for name in names if name not in found]
        if not missing:
            return {name: len(found[name].partitions) for name in names}
        if time.monotonic() > end:
            raise TimeoutError(f"topics are made, but Kafka names no partitions of them: {', '.join(missing)}")
        time.sleep(0.1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case [kafka_url]:
            create_topics(kafka_url, prefix=os.environ.get("FRAUD_TOPIC_PREFIX", ""))
        case [kafka_url, prefix]:
            create_topics(kafka_url, prefix=prefix)
        case _:
            sys.exit(__doc__)
