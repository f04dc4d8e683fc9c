"""The way of one transaction, as somebody else's programs see it: a plain producer, a plain consumer, the commands.

docs/journey.md tells the same in words.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from deploy.local.ports import free_ports
from deploy.local.stack import LocalStack
from features.catalogue import FEATURES
from tests.builders import ID_KEY

pytestmark = pytest.mark.integration

PARTITIONS = range(4)
SECONDS = 60.0


class Installation:
    """One worker on a Kafka and a Redis, its topics under a prefix."""

    def __init__(self, stack: LocalStack, prefix: str, bundle: Path, folder: Path) -> None:
        self.kafka, self.prefix = stack.kafka_url, prefix
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self.environment = os.environ | {
            "FRAUD_KAFKA_URL": stack.kafka_url,
            "FRAUD_REDIS_URL": stack.redis_url,
            "FRAUD_ID_KEY": ID_KEY,
            "FRAUD_TOPIC_PREFIX": prefix,
            "FRAUD_GROUP": f"{prefix}group",
            "FRAUD_BUNDLE": str(bundle),
            "FRAUD_WEB_PORT": str(port),
        }
        self.log = folder / "worker.log"
        with self.log.open("wb") as output:
            self.worker = subprocess.Popen(
                [sys.executable, "-m", "streaming", "worker"], env=self.environment, stdout=output, stderr=output
            )

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()
        except OSError:
            return 0, ""

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + SECONDS
        while self.get("/readyz")[0] != 200:
            assert self.worker.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.get("/readyz")[1] + self.log.read_text()
            time.sleep(0.1)

    def send(self, transaction: dict[str, Any]) -> None:
        producer = Producer({"bootstrap.servers": self.kafka, "partitioner": "murmur2_random"})
        producer.produce(f"{self.prefix}transactions", key=transaction["account_id"], value=json.dumps(transaction))
        assert producer.flush(SECONDS) == 0

    def read(self, topic: str, *, until: str | None = None) -> list[Message]:
        """All that is committed there; with `until`, wait for the message of this transaction."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.kafka,
                "group.id": f"{self.prefix}reader",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        consumer.assign([TopicPartition(self.prefix + topic, number, 0) for number in PARTITIONS])
        messages: list[Message] = []
        ended: set[int] = set()
        deadline = time.monotonic() + SECONDS
        while len(ended) < len(PARTITIONS) or (
            until and not any(until.encode() in (m.value() or b"") for m in messages)
        ):
            assert time.monotonic() < deadline, self.log.read_text()
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error() is None:
                messages.append(message)
            else:
                ended.add(message.partition() or 0)
        consumer.close()
        return messages

    def id_of(self, topic: str) -> str:
        """Kafka's own, which tells it from one of this name that was deleted."""
        admin = AdminClient({"bootstrap.servers": self.kafka})
        (asked,) = admin.describe_topics(TopicCollection([self.prefix + topic])).values()
        return str(asked.result().topic_id)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *command], env=self.environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def installation(stack: LocalStack, prefix: str, bundle: Path, tmp_path: Path) -> Iterator[Installation]:
    stack.create_topics(prefix)
    running = Installation(stack, prefix, bundle, tmp_path)
    try:
        yield running
    finally:
        running.worker.kill()
        running.worker.wait()


def test_one_transaction_gets_one_verdict_an_alert_and_a_place_in_its_accounts_profile(
    installation: Installation,
) -> None:
    installation.wait_until_ready()
    paid_at = datetime.now(UTC).replace(microsecond=123456)
    installation.send(
        {
            "transaction_id": "first-of-all",
            "account_id": "account-42",
            "counterparty_id": "shop-7",
            "amount": 1_500_000,
            "currency": "EUR",
            "occurred_at": paid_at.isoformat(),
            "category": "jewellery",
            "of_a_newer_producer": "ignored",
        }
    )

    (message,) = installation.read("verdicts", until="first-of-all")
    verdict = json.loads(message.value() or b"")
    assert message.key() == b"account-42"
    assert (verdict["transaction_id"], verdict["account_id"]) == ("first-of-all", "account-42")
    assert datetime.fromisoformat(verdict["occurred_at"]) == paid_at
    assert verdict["outcome"] in {"review", "decline"}
    assert 0.5 <= verdict["score"] <= 1
    (paid,) = installation.read("transactions", until="first-of-all")
    assert verdict["source"] == {
        "partition": paid.partition(),
        "offset": 0,
        "topic_id": installation.id_of("transactions"),
        "timestamp": paid.timestamp()[1],
    }
    assert message.partition() == paid.partition(), "as the account's next verdicts"
    assert len(base64.b64decode(verdict["vector"])) == 4 * len(FEATURES)

    (message,) = installation.read("alerts", until="first-of-all")
    alert = json.loads(message.value() or b"")
    assert alert["verdict"] == verdict
    assert alert["transaction"]["category"] == "jewellery"
    assert alert["reasons"][0]["feature"] == "amount"
    assert alert["reasons"][0]["value"] == 1_500_000

    (message,) = installation.read("counterparty-activity", until="shop-7")
    assert message.key() == b"shop-7"
    assert b"account-42" not in (message.value() or b""), "counterparties are not told who pays"
    assert installation.read("dead-letters") == []

    shown = installation.run("features", "show", "account-42", "--json")
    assert shown.returncode == 0, shown.stderr
    profile = json.loads(shown.stdout)
    assert profile["transactions"] == 1
    assert profile["events"] == [{"at": paid_at.isoformat(), "amount": 1_500_000}]

    status, health = installation.get("/healthz")
    assert (status, json.loads(health)["healthy"]) == (200, True)
    status, readiness = installation.get("/readyz")
    assert status == 200
    assert json.loads(readiness) == {"ready": True, "waits_for": [], "partitions": [0, 1, 2, 3], "parked": {}}
    status, metrics = installation.get("/metrics")
    assert status == 200
    assert f'fraud_transactions_total{{outcome="{verdict["outcome"]}"}} 1.0' in metrics
    champion = f'bundle="{verdict["bundle"]}",policy="{verdict["policy"]}",role="champion"'
    assert f"fraud_bundle_info{{{champion}}} 1.0" in metrics

    checked = installation.run("loadgen", "check", "--json")
    assert checked.returncode == 0, checked.stderr
    report = json.loads(checked.stdout)
    assert (report["transactions"], report["verdicts"], report["alerts"]) == (1, 1, 1)
    assert (report["lost"], report["doubled"], report["contradicting"], report["profiles_different"]) == (0, 0, 0, 0)
    assert report["profiles_compared"] >= 1

    installation.worker.send_signal(signal.SIGTERM)
    assert installation.worker.wait(10) == 0
