"""The local stack: Kafka and Redis in one folder, for the demo, the tests and the faults they provoke."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.local.children import Children, Claim, NotRunning
from deploy.local.jars import PROJECT
from deploy.local.kafka_server import KafkaServer
from deploy.local.redis_server import RedisServer
from deploy.local.topics import create_topics
from schemas.topics import DEFAULT_PARTITIONS

FOLDER = PROJECT / ".local" / "stack"


class LocalStack:
    """A real Kafka and a real Redis on free loopback ports.

    Used as a context manager, or by `start` and `stop`.  Data stays in the folder from one start to the next, unless
    `fresh`.  Both servers end with this process, whatever ends it.  A terminal's Ctrl-C reaches only this process, so
    that they are still there for what it does last.

    >>> with LocalStack(Path("somewhere")) as stack:
    ...     stack.create_topics()
    ...     stack.kafka_url, stack.redis_url
    ('127.0.0.1:21477', 'redis://127.0.0.1:30961/0')
    """

    def __init__(
        self,
        folder: Path = FOLDER,
        *,
        kafka: bool = True,
        redis: bool = True,
        fresh: bool = False,
        kafka_heap_mb: int = 512,
    ) -> None:
        self.folder = folder.absolute()
        self._kafka_wanted = kafka
        self._redis_wanted = redis
        self._fresh = fresh
        self._kafka_heap_mb = kafka_heap_mb
        self._kafka: KafkaServer | None = None
        self._redis: RedisServer | None = None
        self._running: ExitStack | None = None
        self._children: Children | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exception: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Both ready to serve when this returns; neither left behind when it raises.

        Raises AlreadyRunning where another program uses the folder, FailedToStart with the tail of a server's log.
        """
        self.launch()
        try:
            self.wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start both, and don't wait for them; `wait_until_ready` does.  Raises AlreadyRunning."""
        with ExitStack() as undo:
            claim = Claim(self.folder)
            claim.take()
            undo.callback(claim.release)
            self._children = undo.enter_context(Children(self.folder))
            if self._fresh:
                shutil.rmtree(self.folder / "kafka", ignore_errors=True)
                shutil.rmtree(self.folder / "redis", ignore_errors=True)
            if self._redis_wanted:
                self._redis = RedisServer(self.folder / "redis", self._children)
                self._redis.launch()
            if self._kafka_wanted:
                self._kafka = KafkaServer(self.folder / "kafka", self._children, heap_mb=self._kafka_heap_mb)
                self._kafka.launch()
            self._running = undo.pop_all()

    def wait_until_ready(self) -> None:
        """Until both serve.  Raises FailedToStart."""
        if self._redis_wanted:
            self.redis.wait_until_ready()
        if self._kafka_wanted:
            self.kafka.wait_until_ready()

    def stop(self) -> None:
        """Both gone when this returns; without effect where nothing runs."""
        if self._running is not None:
            self._running.close()
            self._running = self._children = self._kafka = self._redis = None

    def create_topics(self, prefix: str = "", partitions: int = DEFAULT_PARTITIONS) -> None:
        """All topics, each name preceded by `prefix`."""
        create_topics(self.kafka_url, prefix=prefix, partitions=partitions)

    @property
    def kafka(self) -> KafkaServer:
        if self._kafka is None:
            raise NotRunning("this stack has no running Kafka")
        return self._kafka

    @property
    def redis(self) -> RedisServer:
        if self._redis is None:
            raise NotRunning("this stack has no running Redis")
        return self._redis

    @property
    def children(self) -> Children:
        """To start more processes that end with the stack."""
        if self._children is None:
            raise NotRunning("this stack is not running")
        return self._children

    @property
    def kafka_url(self) -> str:
        return self.kafka.url

    @property
    def redis_url(self) -> str:
        return self.redis.url

    @property
    def kafka_pid(self) -> int:
        return self.kafka.pid

    @property
    def redis_pid(self) -> int:
        return self.redis.pid

    def kill_kafka(self) -> None:
        """As a crash would: SIGKILL."""
        self.kafka.kill()

    def start_kafka(self) -> None:
        """Again, on the same port and data."""
        self.kafka.launch()
        self.kafka.wait_until_ready()

    def kill_redis(self) -> None:
        """As a crash would: SIGKILL."""
        self.redis.kill()

    def start_redis(self) -> None:
        """Again, on the same port and data."""
        self.redis.launch()
        self.redis.wait_until_ready()
