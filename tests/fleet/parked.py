"""What is said of partition numbers that a worker leaves out."""

from __future__ import annotations

from functools import partial

from confluent_kafka import TopicPartition

from schemas.topics import TRANSACTIONS, Topic
from tests.fleet import planted
from tests.fleet.fleet import Fleet, Worker
from tests.fleet.messages import Outgoing

LOOKS_SOON_AGAIN = partial(planted.set_constant, "streaming.intake", "PARKED_AGAIN", 0.3)
"""A worker that looks at what it has parked every third of a second."""


def parked_at(worker: Worker, *numbers: int) -> str:
    """Why, once the worker has parked these and taken the others over."""
    worker.log.wait_for("parked: ", times=len(numbers))
    if len(numbers) < 4:
        worker.log.wait_for("took partition", times=4 - len(numbers))
    worker.wait_until(lambda: sorted(map(int, worker.readiness()["parked"])) == sorted(numbers))
    worker.wait_until(lambda: worker.metric("fraud_parked_partitions") == len(numbers))
    assert sorted(worker.readiness()["partitions"]) == sorted({0, 1, 2, 3} - set(numbers))
    assert worker.running
    return str(worker.readiness()["parked"][str(numbers[0])])


def truncate(fleet: Fleet, number: int, before: int, topic: Topic = TRANSACTIONS) -> None:
    """As retention does."""
    for done in fleet.admin.delete_records([TopicPartition(fleet.settings.topic(topic), number, before)]).values():
        done.result()


def of_number(fleet: Fleet, messages: list[Outgoing], *numbers: int) -> int:
    """How many of these transactions lie in these partitions, when they are sent."""
    return sum(sent.topic == TRANSACTIONS.name and sent.partition in numbers for sent in fleet.send(messages))


def make_anew(fleet: Fleet, *topics: Topic) -> None:
    """Delete these topics, and make them again under their names."""
    names = [fleet.settings.topic(topic) for topic in topics]
    for done in fleet.admin.delete_topics(names, operation_timeout=30).values():
        done.result()
    fleet.stack.create_topics(fleet.settings.topic_prefix, fleet.settings.partitions)
