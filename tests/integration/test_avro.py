"""Messages in Avro through a worker: judged as those in JSON are, and decided once, whatever the registry does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest

from deploy.local.stack import LocalStack
from schemas.avro_wire import our_schema
from schemas.errors import Fault
from schemas.label import decode_label
from schemas.topics import TRANSACTIONS
from schemas.transaction import decode_transaction
from tests.avro import framed, in_avro
from tests.fleet import planted
from tests.fleet.fleet import Fleet
from tests.fleet.messages import Outgoing, a_transaction, message
from tests.fleet.registry import FakeRegistry

TRANSACTION, LABEL = 1, 2
"""Ids of our own schemas in the registry."""
ASKS_AGAIN_AT_ONCE = partial(planted.set_constant, "features.registry", "ASKED_AGAIN", 0.0)
"""An id that the registry did not have is else asked for again only some seconds later."""


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as fake:
        fake.has(TRANSACTION)
        fake.has(LABEL, our_schema("label"))
        yield fake


def fleet_with(registry: FakeRegistry, stack: LocalStack, prefix: str, bundle: Path) -> Fleet:
    fleet = Fleet(stack, prefix, bundle)
    fleet.adopt(schema_registry_url=registry.url)
    return fleet


def put_into_avro(messages: Sequence[Outgoing], transaction: int = TRANSACTION, label: int = LABEL) -> list[Outgoing]:
    """The same messages, by the schemas of these ids."""
    return [
        replace(one, value=in_avro(decode_transaction(one.value), transaction))
        if one.topic is TRANSACTIONS
        else replace(one, value=in_avro(decode_label(one.value), label))
        for one in messages
    ]


def forget_all_profiles(fleet: Fleet) -> None:
    fleet.redis.delete(*[fleet.keys(number).position for number in range(fleet.settings.partitions)])


def test_messages_in_avro_and_in_json_are_judged_and_folded_alike(
    stack: LocalStack, prefix: str, bundle: Path, registry: FakeRegistry
) -> None:
    again = message(a_transaction("again", account_id="account-0001"))
    with fleet_with(registry, stack, prefix, bundle) as fleet:
        mixed = fleet.life.messages(40) + put_into_avro(fleet.life.messages(80)) + fleet.life.messages(20)
        fleet.send([*mixed, again, *put_into_avro([again])])
        worker = fleet.start()
        fleet.wait_for_verdicts(141)
        assert registry.asked[f"/schemas/ids/{TRANSACTION}"] == 1
        fleet.check(verdicts=141, duplicates=1, dead_lettered={})

        worker.kill()
        forget_all_profiles(fleet)
        fleet.start()
        fleet.send(put_into_avro(fleet.life.messages(20)))
        fleet.wait_for_verdicts(161)
        fleet.check(verdicts=161, duplicates=1, dead_lettered={})


def test_what_is_wrong_with_a_message_in_avro_is_told_with_its_bytes_untouched(
    stack: LocalStack, prefix: str, bundle: Path, registry: FakeRegistry
) -> None:
    good = a_transaction("good")
    bad = {
        Fault.OUT_OF_RANGE: in_avro(msgspec.structs.replace(good, amount=-1)),
        Fault.WRONG_KEY: in_avro(msgspec.structs.replace(good, account_id="account-2")),
        Fault.NOT_AVRO: in_avro(good)[:-1],
        Fault.UNKNOWN_SCHEMA: in_avro(good, 99),
    }
    with fleet_with(registry, stack, prefix, bundle) as fleet:
        fleet.send([message(good, value=value) for value in [*bad.values(), in_avro(good)]])
        fleet.start()
        fleet.wait_for(lambda answers: len(answers.letters) == len(bad) and answers.has_all(["good"]))
        assert {letter.says.fault: letter.value for letter in fleet.answers.letters} == bad
        fleet.check(verdicts=1, dead_lettered={fault.value: 1 for fault in bad})


def test_an_id_that_was_unknown_is_left_out_of_every_fold_also_when_it_is_registered_later(
    stack: LocalStack, prefix: str, bundle: Path, registry: FakeRegistry
) -> None:
    early, late = (a_transaction(name, account_id="account-0001") for name in ("early", "late"))
    with fleet_with(registry, stack, prefix, bundle) as fleet:
        worker = fleet.start(plant=ASKS_AGAIN_AT_ONCE)
        fleet.send([*fleet.life.messages(30), message(early, value=in_avro(early, 7))])
        fleet.wait_for(lambda answers: len(answers.verdicts) >= 30 and len(answers.letters) == 1)
        assert fleet.answers.letters[0].says.fault is Fault.UNKNOWN_SCHEMA
        registry.has(7)
        fleet.send([message(late, value=in_avro(late, 7))])
        fleet.wait_for_verdicts(31)
        fleet.check(verdicts=31, dead_lettered={"unknown-schema": 1})

        worker.kill()
        fleet.wait_until_nobody_is_in_the_group()
        assert fleet.run("features", "rebuild")[0] == 0
        fleet.check(verdicts=31, dead_lettered={"unknown-schema": 1})

        forget_all_profiles(fleet)
        fleet.start()
        fleet.send(fleet.life.messages(30))
        fleet.wait_for_verdicts(61)
        fleet.check(verdicts=61, dead_lettered={"unknown-schema": 1})
        assert fleet.answers.verdicts_of("early") == []

        resend = [sys.executable, "-m", "streaming.dead_letters", "resend", "--error", "unknown-schema"]
        subprocess.run(resend, env=fleet.environment(), check=True)
        fleet.wait_for(lambda answers: answers.has_all(["early"]))
        fleet.check(verdicts=62, dead_lettered={"unknown-schema": 1})


def test_what_came_before_there_was_a_registry_stays_dead_lettered_when_there_is_one(
    stack: LocalStack, prefix: str, bundle: Path, registry: FakeRegistry
) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start()
        fleet.send([*fleet.life.messages(30), *put_into_avro([message(a_transaction("early"))])])
        fleet.wait_for(lambda answers: len(answers.verdicts) >= 30 and len(answers.letters) == 1)
        fleet.check(verdicts=30, dead_lettered={"no-registry": 1})

        worker.kill()
        forget_all_profiles(fleet)
        fleet.adopt(schema_registry_url=registry.url)
        fleet.start()
        fleet.send(put_into_avro(fleet.life.messages(30)))
        fleet.wait_for_verdicts(60)
        fleet.check(verdicts=60, dead_lettered={"no-registry": 1})


def test_a_registry_that_is_away_is_waited_for_and_nothing_is_lost_or_dead_lettered(
    stack: LocalStack, prefix: str, bundle: Path, registry: FakeRegistry
) -> None:
    registry.has(7)
    with fleet_with(registry, stack, prefix, bundle) as fleet:
        worker = fleet.start()
        fleet.send(put_into_avro([message(one) for one in fleet.life.transactions(30)]))
        fleet.wait_for_verdicts(30)
        registry.go_away()
        fleet.send(put_into_avro([message(one) for one in fleet.life.transactions(30)]))  # by a schema that is known
        fleet.wait_for_verdicts(60)

        fleet.send(put_into_avro(fleet.life.messages(30), 7) + fleet.life.messages(30))
        worker.wait_until(lambda: registry.url in str(worker.readiness().get("waits_for")))
        assert worker.readiness()["status"] == 503
        with registry.answering(503, b"{}"):
            registry.listen()
            registry.wait_until_asked(20)
            assert len(fleet.answers.verdicts) == 60
            # When the batch was given back, and for each partition that can't be taken over.
            assert worker.log.count("Connection refused") <= 1 + fleet.settings.partitions
            assert worker.log.count("answers 503") <= fleet.settings.partitions
            worker.kill()
            heir = fleet.launch()
            heir.wait_until(lambda: registry.url in str(heir.readiness().get("waits_for")))
        fleet.wait_for_verdicts(120)
        heir.wait_until_ready()
        fleet.check(verdicts=120, dead_lettered={})


def test_a_registry_that_answers_slowly_costs_a_worker_neither_its_session_nor_a_verdict(
    stack: LocalStack, prefix: str, bundle: Path, registry: FakeRegistry
) -> None:
    """It is asked beside the loop, and Kafka hears of the worker meanwhile."""
    with fleet_with(registry, stack, prefix, bundle) as fleet:
        worker = fleet.start(session_timeout=1, heartbeat=0.2, watchdog=1)
        with registry.dawdling(1.8):
            fleet.send([*put_into_avro(fleet.life.messages(10)), message(a_transaction("none"), value=framed(99, b""))])
            registry.wait_until_asked(1)
            assert worker.get("/metrics")[0] == 200
            fleet.wait_for_verdicts(10)
        fleet.check(verdicts=10, dead_lettered={"unknown-schema": 1})
        assert worker.log.count("over again") == 0


def test_a_schema_that_the_registry_has_lost_is_waited_for_and_its_messages_are_dropped_by_no_fold(
    stack: LocalStack, prefix: str, bundle: Path, registry: FakeRegistry
) -> None:
    with fleet_with(registry, stack, prefix, bundle) as fleet:
        worker = fleet.start()
        fleet.send(put_into_avro(fleet.life.messages(30)))
        fleet.wait_for_verdicts(30)
        fleet.wait_until_settled()
        worker.kill()
        fleet.wait_until_nobody_is_in_the_group()
        registry.forget(TRANSACTION)
        status, said = fleet.run("features", "rebuild")
        assert (status, "could be read when it was told" in said, "schema 1 is not registered" in said) == (
            1,
            True,
            True,
        )
        assert not fleet.report().well

        forget_all_profiles(fleet)
        heir = fleet.launch()
        heir.wait_until(lambda: "schema 1 is not registered" in str(heir.readiness().get("waits_for")))
        registry.has(TRANSACTION)
        heir.wait_until_ready()
        fleet.send(put_into_avro(fleet.life.messages(30)))
        fleet.wait_for_verdicts(60)
        fleet.check(verdicts=60, dead_lettered={})
