"""Topics are made when whoever asks the broker next finds them."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from confluent_kafka.cimpl import NewTopic

from deploy.local import topics as making
from schemas import topics


class SlowToHear:
    """The controller makes topics at once; the broker that is asked hears of them one by one, with every time it is asked."""

    def __init__(self) -> None:
        self.made: list[NewTopic] = []
        self.asked = 0

    def create_topics(self, wanted: list[NewTopic], **_: object) -> dict[str, Future[None]]:
        self.made = wanted
        done: Future[None] = Future()
        done.set_result(None)
        return {one.topic: done for one in wanted}

    def list_topics(self, **_: object) -> SimpleNamespace:
        self.asked += 1
        return SimpleNamespace(
            topics={one.topic: SimpleNamespace(partitions=range(one.num_partitions)) for one in self.known()}
        )

    def known(self) -> list[NewTopic]:
        return self.made[: self.asked]


def test_topics_that_were_made_are_known_to_the_broker_that_is_asked_next(monkeypatch: pytest.MonkeyPatch) -> None:
    brokers: list[SlowToHear] = []

    def a_client(_: dict[str, str]) -> SlowToHear:
        brokers.append(SlowToHear())
        return brokers[-1]

    monkeypatch.setattr(making, "AdminClient", a_client)
    monkeypatch.setattr("time.sleep", lambda _: None)

    making.create_topics("127.0.0.1:9092", prefix="bank-", partitions=3)

    (broker,) = brokers
    assert {one.topic: one.num_partitions for one in broker.known()} == {
        f"bank-{topic.name}": topic.partitions or 3 for topic in topics.ALL
    }
