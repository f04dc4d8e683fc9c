"""Workers on the local stack, with topics, a group and keys of their own: what is sent to them, what they say, and whether
it is right.

    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start()
        fleet.send(fleet.life.messages(200))
        fleet.wait_for_verdicts(200)
        fleet.check()
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

import redis
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.ports import free_ports
from deploy.local.stack import LocalStack
from features.log import Log
from features.position import Keys, Offsets, Position
from features.settings import Settings, load
from loadgen import check as checking
from loadgen.check import Report
from schemas.topics import ACTIVITY, EXPLANATIONS, INPUTS, Topic
from tests.builders import ID_KEY
from tests.fleet.answers import Answers
from tests.fleet.messages import Life, Outgoing
from tests.fleet.processes import Forked, Plant

PATIENCE = 60.0
"""Seconds after which what should have happened is missed; on a busy machine a worker may take ten to start."""


@dataclass(frozen=True)
class Sent:
    """Where a message lies."""

    topic: str
    """Without the prefix."""
    partition: int
    offset: int


class Worker(Forked):
    """One of a fleet's, or an explainer beside it."""

    def __init__(self, environment: dict[str, str], plant: Plant | None, *, command: str = "worker") -> None:
        self.slot = environment.get("FRAUD_SLOT", "0")
        self.port = int(environment["FRAUD_WEB_PORT" if command == "worker" else "FRAUD_EXPLAINER_PORT"])
        super().__init__(["streaming", command], environment, plant)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    def readiness(self) -> dict[str, Any]:
        """What /readyz says, and its `status`.  Empty while nobody answers."""
        try:
            status, body = self.get("/readyz")
        except OSError:
            return {}
        return {"status": status, **json.loads(body)}

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        _, body = self.get("/metrics")
        return sum(
            sample.value
            for family in text_string_to_metric_families(body)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def wait_until_ready(self, seconds: float = PATIENCE) -> Self:
        return self.wait_until(lambda: self.readiness().get("status") == 200, seconds)

    def wait_until(self, holds: Callable[[], bool], seconds: float = PATIENCE) -> Self:
        """Ask until it holds: of what is said only when asked.  Raises TimeoutError, AssertionError where it has ended."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert self.running, f"the worker ended with {self.wait()}; it said\n{self.log}"
            if time.monotonic() > deadline:
                raise TimeoutError(f"readiness is {self.readiness()}; it said\n{self.log}")
            time.sleep(0.05)
        return self


class Fleet:
    """See above."""

    def __init__(
        self,
        stack: LocalStack,
        prefix: str,
        bundle: Path,
        *,
        partitions: int = 4,
        make_topics: bool = True,
        **settings: object,
    ) -> None:
        """`settings` are the workers' (without FRAUD_); numbers are written as they are."""
        self.stack = stack
        self.settings = Settings(
            kafka_url=stack.kafka_url,
            redis_url=stack.redis_url,
            topic_prefix=prefix,
            group=f"{prefix}group",
            partitions=partitions,
            id_key=ID_KEY,
        )
        self._own = {
            "kafka_url": stack.kafka_url,
            "redis_url": stack.redis_url,
            "topic_prefix": prefix,
            "group": self.settings.group,
            "partitions": partitions,
            "id_key": ID_KEY,
            "bundle": bundle,
            # Short, so that what waits for a session to run out waits less.
            "session_timeout": 2,
            "heartbeat": 0.3,
            **settings,
        }
        self.workers: list[Worker] = []
        self.explainers: list[Worker] = []
        self.life = Life()
        """What happens to its accounts."""
        if make_topics:
            stack.create_topics(prefix, partitions)
        self.answers = Answers(self.settings)
        self._producer: Producer | None = None
        self.redis = redis.Redis.from_url(stack.redis_url, socket_timeout=5)

    def __enter__(self) -> Self:
        self.answers.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        everybody = [*self.workers, *self.explainers]
        for worker in everybody:
            worker.signal(signal.SIGKILL)
        for worker in everybody:
            worker.wait()
        if error is not None:
            for worker in everybody:
                error.add_note(f"worker {worker.slot} (process {worker.pid}) said\n{worker.log}")
        self.answers.__exit__(kind, error, trace)
        self.redis.close()

    # Workers.

    def environment(self, **settings: object) -> dict[str, str]:
        """The workers', with other `settings`; None leaves one out."""
        own = {name: value for name, value in (self._own | settings).items() if value is not None}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
        return inherited | {f"FRAUD_{name.upper()}": str(value) for name, value in own.items()}

    def adopt(self, **settings: object) -> None:
        """From here on the checker and the workers to come have these."""
        self._own |= settings
        self.settings = load(Settings, self.environment())

    def launch(
        self, slot: int = 0, *, plant: Plant | None = None, other: Mapping[str, object] = {}, **settings: Any
    ) -> Worker:
        """A worker's process, which is not waited for, with `other` settings than the fleet's."""
        own = {"slot": slot, "web_port": free_ports(1)[0], **settings, **other}
        worker = Worker(self.environment(**own), plant)
        self.workers.append(worker)
        return worker

    def start(self, slot: int = 0, *, plant: Plant | None = None, **settings: Any) -> Worker:
        """A worker that is ready."""
        return self.launch(slot, plant=plant, **settings).wait_until_ready()

    def launch_explainer(self, *, plant: Plant | None = None, **settings: Any) -> Worker:
        """An explainer's process, which is not waited for."""
        own = {"explainer_port": free_ports(1)[0], **settings}
        explainer = Worker(self.environment(**own), plant, command="explain")
        self.explainers.append(explainer)
        return explainer

    def run(self, *command: str, **settings: object) -> tuple[int, str]:
        """A command of ours with the workers' settings, from beginning to end: its exit status and what it said."""
        process = Forked(command, self.environment(**settings))
        status = process.wait(PATIENCE)
        return status, "\n".join(process.log.lines)

    # Messages.

    @property
    def producer(self) -> Producer:
        """A plain one, as a producer in another language would be set."""
        if self._producer is None:
            self._producer = Producer(
                {
                    "bootstrap.servers": self.stack.kafka_url,
                    "partitioner": "murmur2_random",
                    "linger.ms": 5,
                    "acks": "all",
                    "enable.idempotence": False,  # it would begin half a second later
                    "message.max.bytes": 1 << 20,
                    "error_cb": lambda _: None,
                }
            )
        return self._producer

    def send(self, messages: Iterable[Outgoing]) -> list[Sent]:
        """Publish them in this order; where they lie, when all are acknowledged."""
        found: list[Sent] = []

        def note(error: KafkaError | None, message: Message) -> None:
            assert error is None, error.str()
            found[index[message.topic(), message.value(), message.key()].pop(0)] = Sent(
                names[message.topic() or ""], message.partition() or 0, message.offset() or 0
            )

        names = {self.settings.topic(topic): topic.name for topic in INPUTS}
        index: dict[tuple[object, ...], list[int]] = {}
        for number, one in enumerate(messages):
            name = self.settings.topic(one.topic)
            found.append(Sent(one.topic.name, -1, -1))
            index.setdefault((name, one.value, one.key), []).append(number)
            at = 0 if one.timestamp is None else round(one.timestamp.timestamp() * 1000)
            self.producer.produce(name, one.value, one.key, one.partition, on_delivery=note, timestamp=at)
            self.producer.poll(0)
        assert self.producer.flush(PATIENCE) == 0
        return found

    def wait_for_verdicts(self, count: int, seconds: float = PATIENCE) -> None:
        """Until so many have come in all."""
        self.wait_for(lambda answers: len(answers.verdicts) >= count, seconds)

    def wait_for(self, holds: Callable[[Answers], bool], seconds: float = PATIENCE) -> None:
        """Until the answers are such; as long as a worker is there to give them."""

        def still() -> None:
            assert any(worker.running for worker in self.workers), "no worker is left"

        self.answers.wait_until(holds, seconds=seconds, still=still)

    @cached_property
    def admin(self) -> AdminClient:
        """Kept: a temporary one would be gone before its answers come."""
        return AdminClient({"bootstrap.servers": self.stack.kafka_url})

    def wait_until_nobody_is_in_the_group(self) -> None:
        """A static member that was killed or has left is one until its session has run out."""
        deadline = time.monotonic() + PATIENCE
        with Log(self.settings) as log:
            while members := log.members():
                assert time.monotonic() < deadline, members
                time.sleep(0.1)

    def wait_until_explained(self, count: int) -> None:
        """Until so many explanations are there, and no alert awaits another."""
        deadline = time.monotonic() + PATIENCE
        while (awaited := checking.awaited(self.settings)) or self._explanations() < count:
            assert any(explainer.running for explainer in self.explainers), "no explainer is left"
            if time.monotonic() > deadline:
                raise TimeoutError(f"{awaited} alerts are not explained, {self._explanations()} of {count} are")
            time.sleep(0.1)

    def _explanations(self) -> int:
        with Log(self.settings) as log:
            return sum(
                len(records)
                for number in range(self.settings.partitions)
                for records in log.read(EXPLANATIONS, number, *log.bounds(EXPLANATIONS, number))
            )

    # What is remembered.

    def keys(self, number: int) -> Keys:
        return Keys(self.settings.topic_prefix, number)

    def position(self, number: int) -> Position | None:
        raw: Any = self.redis.get(self.keys(number).position)
        return Position.parse(raw) if raw else None

    def wait_until_settled(self, seconds: float = PATIENCE) -> None:
        """Until everything that was sent is told, folded and remembered."""
        deadline = time.monotonic() + seconds
        with Log(self.settings) as log:
            for topic in (0, 1, 2):  # activity last: the others make it
                for number in range(self.settings.partitions):
                    end = self._end(log, INPUTS[topic], number)
                    while (reached := self._reached(number)[topic]) < end:
                        assert any(worker.running for worker in self.workers), "no worker is left"
                        if time.monotonic() > deadline:
                            raise TimeoutError(f"{INPUTS[topic].name} [{number}]: profiles reach {reached} of {end}")
                        time.sleep(0.02)

    def _reached(self, number: int) -> Offsets:
        position = self.position(number)
        return position.next if position else Offsets(0, 0, 0)

    @staticmethod
    def _end(log: Log, topic: Topic, number: int) -> int:
        """Behind the last message, not counting what transactions leave on a log."""
        low, high = log.bounds(topic, number)
        if topic is not ACTIVITY:
            return high
        last = -1
        for records in log.read(topic, number, low, high):
            last = records[-1].offset if records else last
        return last + 1

    # Whether it is right.

    def report(self, **options: Any) -> Report:
        """What the checker finds, in this process."""
        with mock.patch.object(checking, "ProcessPoolExecutor", _Threads):
            own = {"bundles": Path(str(self._own["bundle"])).parent, **options}
            return checking.check(self.settings, processes=self.settings.partitions, **own)

    def check(self, **expected: object) -> Report:
        """Everything told, once, rightly, and remembered; and the report's fields as expected."""
        self.wait_until_settled()
        report = self.report()
        assert report.well, report
        assert report.vectors_different == 0
        assert report.vectors_compared == report.vectors_compared_in_full == report.verdicts
        assert report.pending == 0, report
        assert report.profiles_compared > 0 or not report.transactions
        found = {name: getattr(report, name) for name in expected}
        assert found == expected, report
        return report


class _Threads(ThreadPoolExecutor):
    """In place of the checker's processes, each of which takes seconds to import what is here already."""

    def __init__(
        self, count: int, *, mp_context: object, initializer: Callable[..., object], initargs: Sequence[Any]
    ) -> None:
        super().__init__(count, initializer=initializer, initargs=tuple(initargs))
