"""What Kafka finds too large is told shorter, and the others go on."""

from __future__ import annotations

from hashlib import sha512
from pathlib import Path

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType  # type: ignore[attr-defined]

from deploy.local.stack import LocalStack
from tests.fleet.fleet import Fleet
from tests.fleet.messages import Outgoing, a_large_transaction, message


def takes(fleet: Fleet, topic: str, size: int) -> None:
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    there = ConfigResource(ResourceType.TOPIC, fleet.settings.topic_prefix + topic, incremental_configs=[entry])
    for done in fleet.admin.incremental_alter_configs([there]).values():
        done.result()


def test_topics_that_do_not_take_what_may_be_told_are_named_at_the_start(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        takes(fleet, "dead-letters", 1_000_000)
        worker = fleet.launch()
        assert worker.wait() == 2
        assert f"{prefix}dead-letters: 1000000, not 2097152" in str(worker.log)
        assert "FRAUD_DEAD_LETTER_BYTES" in str(worker.log)


def test_a_limit_that_was_lowered_under_a_worker_costs_what_is_too_large_and_nothing_else(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    noise = b"".join(sha512(str(n).encode()).digest() for n in range(2_000))
    attributes = {f"note {n}": sha512(str(n).encode()).hexdigest() for n in range(200)}  # which can't be compressed
    with Fleet(stack, prefix, bundle) as fleet:
        fleet.start()
        takes(fleet, "dead-letters", 50_000)
        takes(fleet, "alerts", 10_000)
        account = "account-0001"
        fleet.send(fleet.life.messages(40))
        fleet.send([message(a_large_transaction("long", account_id=account, attributes=attributes))])
        fleet.send([Outgoing(value=noise, key=account.encode())])
        fleet.send(fleet.life.messages(40))
        fleet.wait_for(lambda answers: len(answers.verdicts) >= 81 and len(answers.letters) >= 1)
        (letter,) = fleet.answers.letters
        assert letter.value == noise[:1024]
        assert "SHA-256" in letter.says.detail
        (alert,) = (one for one in fleet.answers.alerts if one.verdict.transaction_id == "long")
        assert alert.transaction.attributes == {}
        fleet.check(verdicts=81)
