"""What keeps a worker from starting: named, with what would be right, and nothing started; or waited for, and said once."""

from __future__ import annotations

import shutil
import socket
import urllib.parse
from pathlib import Path

import pytest
from confluent_kafka.cimpl import NewPartitions

from deploy.local.ports import LOOPBACK
from deploy.local.stack import LocalStack
from features.settings import FORBIDDEN
from schemas.topics import ALL
from tests.fleet.fleet import Fleet
from tests.fleet.forwarder import Forwarder
from tests.fleet.messages import a_transaction, message
from tests.fleet.models import a_bundle

WRONG_USE = 2


@pytest.fixture
def fleet(stack: LocalStack, prefix: str, bundle: Path) -> Fleet:
    """Without topics, for a worker that must not get so far."""
    return Fleet(stack, prefix, bundle, make_topics=False)


WRONG = {
    "slot is no number": ({"slot": "one"}, "FRAUD_SLOT"),
    "slot is negative": ({"slot": -1}, "FRAUD_SLOT"),
    "no message a batch": ({"batch": 0}, "FRAUD_BATCH"),
    "a batch that no write takes": ({"batch": 5_000}, "FRAUD_BATCH"),
    "no Kafka": ({"kafka_url": ""}, "FRAUD_KAFKA_URL"),
    "no Redis": ({"redis_url": ""}, "FRAUD_REDIS_URL"),
    "Redis without a scheme": ({"redis_url": "127.0.0.1:6379"}, "FRAUD_REDIS_URL"),
    "Redis at no port": ({"redis_url": "redis://127.0.0.1:port/0"}, "FRAUD_REDIS_URL"),
    "a prefix that no topic has": ({"topic_prefix": "a b"}, "FRAUD_TOPIC_PREFIX"),
    "no partitions": ({"partitions": 0}, "FRAUD_PARTITIONS"),
    "a currency without a rate": ({"currency": "XXX"}, "FRAUD_RATES__XXX"),
    "a rate that is none": ({"rates__USD": "much"}, "FRAUD_RATES"),
    "a negative rate": ({"rates__USD": "-1"}, "USD"),
    "review above decline": ({"review": 0.9, "decline": 0.5}, "FRAUD_REVIEW"),
    "a score above one": ({"review": 2}, "FRAUD_REVIEW"),
    "a session that three heartbeats outlast": ({"session_timeout": 1, "heartbeat": 0.5}, "FRAUD_SESSION_TIMEOUT"),
    "a level that no log has": ({"log_level": "loud"}, "FRAUD_LOG_LEVEL"),
    "a file that isn't there": ({"settings": "/nowhere/fraud.toml"}, "FRAUD_SETTINGS"),
    "no such setting of librdkafka": ({"kafka__no_such_thing": "1"}, "no.such.thing"),
    "no such value of librdkafka": ({"kafka__security_protocol": "pigeon"}, "security.protocol"),
    **{
        f"forbidden: {name}": ({f"kafka__{name.replace('.', '_')}": "x"}, f"{name} can't be changed: {why[:20]}")
        for name, why in FORBIDDEN.items()
    },
}


@pytest.mark.parametrize(("wrong", "named"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_setting_is_named_and_nothing_starts(fleet: Fleet, wrong: dict[str, object], named: str) -> None:
    with fleet:
        worker = fleet.launch(other=wrong)
        assert worker.wait() == WRONG_USE
        assert named in str(worker.log)
        assert "Traceback" not in str(worker.log)


@pytest.mark.parametrize(
    ("content", "named"), [("slots = 1", "'slots'"), ("slot = ", "fraud.toml is no TOML"), ('slot = "x"', "FRAUD_SLOT")]
)
def test_a_wrong_file_of_settings_is_named(fleet: Fleet, tmp_path: Path, content: str, named: str) -> None:
    file = tmp_path / "fraud.toml"
    file.write_text(content)
    with fleet:
        worker = fleet.launch(other={"slot": None, "settings": file})
        assert worker.wait() == WRONG_USE
        assert named in str(worker.log)


def test_a_port_that_is_taken_is_named(fleet: Fleet) -> None:
    with fleet, socket.create_server((LOOPBACK, 0)) as taken:
        worker = fleet.launch(web_port=taken.getsockname()[1])
        assert worker.wait() == WRONG_USE
        assert "FRAUD_WEB_PORT" in str(worker.log)


def test_topics_with_unequal_partitions_are_named(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle, partitions=2) as fleet:
        fleet.admin.create_partitions([NewPartitions(f"{prefix}labels", 3)])[f"{prefix}labels"].result()
        worker = fleet.launch()
        assert worker.wait() == WRONG_USE
        assert f"{prefix}labels: 3" in str(worker.log)
        assert "FRAUD_PARTITIONS=2" in str(worker.log)


def test_profiles_folded_for_another_number_of_partitions_are_named(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    with Fleet(stack, prefix, bundle, partitions=2) as fleet:
        fleet.start().kill()
        names = {prefix + topic.name for topic in ALL if topic.partitions is None}
        topics = [NewPartitions(name, 3) for name in fleet.admin.list_topics().topics if name in names]
        for done in fleet.admin.create_partitions(topics).values():
            done.result()
        worker = fleet.launch(partitions=3)
        assert worker.wait() == WRONG_USE
        assert "folded for 2 partitions, FRAUD_PARTITIONS is 3" in str(worker.log)


def test_profiles_of_another_group_are_named(stack: LocalStack, prefix: str, bundle: Path) -> None:
    """Two groups on the same topics and keys would judge everything twice, and take each other's profiles for their own."""
    with Fleet(stack, prefix, bundle, partitions=1) as fleet:
        fleet.start().kill()
        worker = fleet.launch(group="another")
        assert worker.wait() == WRONG_USE
        named = f"the profiles in Redis are of group '{fleet.settings.group}', FRAUD_GROUP is 'another'"
        assert named in str(worker.log)
        status, said = fleet.run("features", "rebuild", group="another")
        assert (status, named in said) == (WRONG_USE, True)


def test_a_redis_that_may_drop_profiles_is_refused(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle, partitions=1) as fleet:
        fleet.redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            worker = fleet.launch()
            assert worker.wait() == WRONG_USE
        finally:
            fleet.redis.config_set("maxmemory-policy", "noeviction")
        assert "maxmemory-policy allkeys-lru" in str(worker.log)
        assert "noeviction" in str(worker.log)


def test_wrong_topics_are_named_before_there_is_a_bundle(stack: LocalStack, prefix: str, tmp_path: Path) -> None:
    with Fleet(stack, prefix, tmp_path / "none", partitions=2) as fleet:
        worker = fleet.launch(partitions=3)
        assert worker.wait() == WRONG_USE
        assert "FRAUD_PARTITIONS=3" in str(worker.log)


def test_kafka_that_is_away_at_the_start_is_waited_for(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle, partitions=1) as fleet, Forwarder(stack.kafka_url) as kafka:
        worker = fleet.launch(kafka_url=kafka.address)
        worker.log.wait_for("waiting: Kafka at")
        worker.wait_until(lambda: "Kafka" in str(worker.readiness().get("waits_for")))
        assert worker.readiness()["status"] == 503
        assert worker.get("/healthz")[0] == 200
        fleet.send([message(a_transaction())])
        kafka.open()
        fleet.wait_for_verdicts(1)
        assert worker.log.count("waiting: Kafka") == 1
        assert worker.wait_until_ready().readiness()["waits_for"] == []


def test_redis_that_is_away_at_the_start_is_waited_for(stack: LocalStack, prefix: str, bundle: Path) -> None:
    server = urllib.parse.urlsplit(stack.redis_url).netloc
    with Fleet(stack, prefix, bundle, partitions=1) as fleet, Forwarder(server) as redis:
        worker = fleet.launch(redis_url=f"redis://{redis.address}/0")
        worker.log.wait_for("waiting: Redis does not answer")
        worker.wait_until(lambda: "Redis" in str(worker.readiness().get("waits_for")))
        fleet.send([message(a_transaction())])
        redis.open()
        fleet.wait_for_verdicts(1)
        assert worker.log.count("waiting: Redis") == 1
        fleet.check(verdicts=1)


def test_topics_that_are_missing_are_named_and_waited_for(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle, make_topics=False) as fleet:
        worker = fleet.launch()
        worker.log.wait_for(f"topics are missing: {prefix}transactions")
        stack.create_topics(prefix)
        worker.wait_until_ready()


def test_a_bundle_for_another_catalogue_is_waited_out(
    stack: LocalStack, prefix: str, bundle: Path, tmp_path: Path
) -> None:
    """The worker judges nothing by it, says why, and takes the right one when it comes."""
    wrong = a_bundle(tmp_path, catalogue="0123456789abcdef")
    with Fleet(stack, prefix, wrong) as fleet:
        fleet.send(fleet.life.messages(20))
        worker = fleet.launch()
        worker.log.wait_for("waiting for a bundle")
        worker.wait_until(lambda: "catalogue 0123456789abcdef" in str(worker.readiness().get("waits_for")))
        assert worker.readiness()["status"] == 503
        assert worker.get("/healthz")[0] == 200
        assert fleet.answers.verdicts == []

        right = shutil.copytree(bundle.resolve(), tmp_path / bundle.resolve().name)
        new = tmp_path / "new"
        new.symlink_to(right.name)
        new.replace(wrong)
        fleet.wait_for_verdicts(20)
        assert {verdict.bundle for verdict in fleet.answers.verdicts} == {right.name}
        assert worker.log.count("waiting for a bundle") == 1
        fleet.check(verdicts=20)
