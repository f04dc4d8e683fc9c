"""The local stack starts, survives crashes, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # it doesn't say that it exports them
    AdminClient,
    ConfigResource,
    ResourceType,
)

from deploy.local import server
from deploy.local.children import AlreadyRunning, FailedToStart, NotRunning
from deploy.local.ports import LOOPBACK, accepts, free_ports
from deploy.local.stack import LocalStack
from deploy.local.topics import create_topics
from schemas import topics
from tests.integration.waiting import lives, within


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """One that these tests may break, in a folder whose name breaks what doesn't quote."""
    with LocalStack(tmp_path_factory.mktemp("a stack, of 'mine'"), kafka_heap_mb=192) as stack:
        yield stack


def test_every_topic_is_made_as_the_schemas_say(stack: LocalStack, prefix: str) -> None:
    stack.create_topics(prefix, partitions=3)

    admin = AdminClient({"bootstrap.servers": stack.kafka_url})
    found = admin.list_topics(timeout=10).topics
    assert {name: len(topic.partitions) for name, topic in found.items() if name.startswith(prefix)} == {
        prefix + topic.name: topic.partitions or 3 for topic in topics.ALL
    }
    for topic in topics.ALL:
        resource = ConfigResource(ResourceType.TOPIC, prefix + topic.name)
        settings = admin.describe_configs([resource])[resource].result()
        assert {name: settings[name].value for name in topic.config} == topic.config


def test_topics_that_exist_are_left_as_they_are(stack: LocalStack, prefix: str) -> None:
    stack.create_topics(prefix, partitions=2)
    stack.create_topics(prefix, partitions=2)

    with pytest.raises(ValueError, match="another number of partitions than 3"):
        create_topics(stack.kafka_url, prefix=prefix, partitions=3)


def test_a_killed_kafka_comes_back_with_its_messages(own_stack: LocalStack, prefix: str) -> None:
    own_stack.create_topics(prefix, partitions=1)
    url, pid = own_stack.kafka_url, own_stack.kafka_pid
    tell(url, prefix + topics.VERDICTS.name, b"before the crash")

    own_stack.kill_kafka()
    assert not lives(pid)
    with pytest.raises(NotRunning):
        _ = own_stack.kafka_pid
    own_stack.start_kafka()

    assert own_stack.kafka_url == url
    assert first_message(url, prefix + topics.VERDICTS.name) == b"before the crash"


def test_a_paused_kafka_goes_on(own_stack: LocalStack, prefix: str) -> None:
    own_stack.create_topics(prefix, partitions=1)

    kafka = psutil.Process(own_stack.kafka_pid)

    os.kill(kafka.pid, signal.SIGSTOP)
    within(60, lambda: kafka.status() == psutil.STATUS_STOPPED)
    os.kill(kafka.pid, signal.SIGCONT)

    tell(own_stack.kafka_url, prefix + topics.VERDICTS.name, b"after the pause")


def test_a_killed_redis_comes_back_with_its_keys(own_stack: LocalStack, prefix: str) -> None:
    url = own_stack.redis_url
    with redis.Redis.from_url(url) as client:
        client.set(prefix + "key", b"value")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}

    own_stack.kill_redis()
    own_stack.start_redis()

    assert own_stack.redis_url == url
    with redis.Redis.from_url(url) as client:
        assert client.get(prefix + "key") == b"value"


def test_a_stopped_stack_leaves_its_data_and_nothing_else(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path / "stack", kafka=False)
    stack.start()
    pid, port = stack.redis_pid, port_of(stack.redis_url)
    remember(stack, "key", b"value")

    stack.stop()
    stack.stop()

    assert not lives(pid)
    assert not accepts(port)
    assert sorted(path.name for path in stack.folder.iterdir()) == ["lock", "redis"]
    with pytest.raises(NotRunning):
        _ = stack.redis_url
    with stack:
        assert recall(stack, "key") == b"value"
    with LocalStack(stack.folder, kafka=False, fresh=True) as emptied:
        assert recall(emptied, "key") is None


def test_a_second_start_beside_a_running_one_names_it(tmp_path: Path) -> None:
    with LocalStack(tmp_path, kafka=False) as stack:
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}") as refusal:
            LocalStack(tmp_path, kafka=False).start()

        assert refusal.value.pid == os.getpid()
        remember(stack, "the first one", b"is unharmed")


def test_a_stale_lock_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("1\n")
    (tmp_path / "processes.json").write_text('{"1": 0.0}')  # a pid that another has now

    with LocalStack(tmp_path, kafka=False) as stack:
        remember(stack, "key", b"value")


def test_the_servers_outlive_the_thread_that_started_them(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, kafka=False)
    thread = threading.Thread(target=stack.start)
    thread.start()
    thread.join()
    try:
        # The kernel tells the children of a thread that ends before the thread is out of its list, and nobody who was told
        # to die answers any more.
        within(60, lambda: thread.native_id not in {each.id for each in psutil.Process().threads()})
        remember(stack, "key", b"value")
    finally:
        stack.stop()


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda way: way.name)
def test_nothing_is_left_of_a_stack_whose_program_ends(way: signal.Signals, tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert program.stdout
    with program.stdout as output:
        pids = [int(pid) for pid in output.readline().split()]
        assert len(pids) == 2
        assert all(lives(pid) for pid in pids)

        os.killpg(program.pid, way)  # the whole group, as a terminal's Ctrl-C
        program.wait(20)

    within(60, lambda: not any(lives(pid) for pid in pids))
    with LocalStack(tmp_path, kafka=False) as successor:
        assert recall(successor, "key") == b"value"


PROGRAM = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what goes on in the background without it
import redis
from deploy.local.stack import LocalStack

with LocalStack(Path(sys.argv[1]), kafka_heap_mb=192) as stack:
    redis.Redis.from_url(stack.redis_url).set("key", "value")
    print(stack.kafka_pid, stack.redis_pid, flush=True)
    time.sleep(60)
"""


def test_a_kafka_that_cannot_start_says_why(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, kafka_heap_mb=1)

    with pytest.raises(FailedToStart, match="Too small maximum heap"):
        stack.start()

    assert not (tmp_path / "processes.json").exists()
    with LocalStack(tmp_path, kafka=False):
        pass  # the folder was let go


def test_another_port_is_taken_where_someone_was_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalStack(tmp_path / "first", kafka_heap_mb=192) as first:
        in_use = port_of(first.kafka_url), port_of(first.redis_url)
        monkeypatch.setattr(server, "free_ports", taken_once(*reversed(in_use)))  # Redis asks first

        with LocalStack(tmp_path / "second", kafka_heap_mb=192) as second:
            assert {port_of(second.kafka_url), port_of(second.redis_url)}.isdisjoint(in_use)
            remember(second, "key", b"value")
            assert recall(first, "key") is None


def test_no_port_is_one_that_the_kernel_gives_to_clients() -> None:
    with socket.socket() as client:
        client.bind((LOOPBACK, 0))
        given = client.getsockname()[1]

    first_outgoing = Path("/proc/sys/net/ipv4/ip_local_port_range")
    floor = int(first_outgoing.read_text().split()[0]) if first_outgoing.exists() else given
    ports = free_ports(50)

    assert len(set(ports)) == 50
    assert max(ports) < floor


def taken_once(*ports_in_use: int) -> Callable[[int], tuple[int, ...]]:
    """Like free_ports, but the first answers are out of date."""
    answers = iter(ports_in_use)

    def ports(count: int) -> tuple[int, ...]:
        first = next(answers, None)
        return free_ports(count) if first is None else (first, *free_ports(count - 1))

    return ports


def tell(kafka_url: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": kafka_url})
    producer.produce(topic, value)
    assert producer.flush(20) == 0


def first_message(kafka_url: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": kafka_url, "group.id": topic, "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(20)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()


def remember(stack: LocalStack, key: str, value: bytes) -> None:
    with redis.Redis.from_url(stack.redis_url) as client:
        client.set(key, value)


def recall(stack: LocalStack, key: str) -> bytes | None:
    with redis.Redis.from_url(stack.redis_url) as client:
        found = client.get(key)
    assert found is None or isinstance(found, bytes)
    return found


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])
