"""Under an attack alerts go out at once without their reasons, and each gets them later, exactly once."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from confluent_kafka import KafkaError, KafkaException

from deploy.local.stack import LocalStack
from features.log import Log
from schemas.topics import ALERTS, EXPLANATIONS
from schemas.verdict import Explanation, Outcome, decode_explanation
from schemas.wire import encode
from streaming.bundle import LoadedBundle
from streaming.explaining import _vector
from streaming.reasons import Explainer
from tests.fleet import planted
from tests.fleet.fleet import Fleet
from tests.fleet.messages import Outgoing, a_large_transaction, a_transaction, message
from tests.integration.waiting import within


def an_attack(count: int, name: str = "attack") -> list[Outgoing]:
    """Half of it is flagged."""
    return [
        message((a_large_transaction if i % 2 else a_transaction)(f"{name} {i}", account_id=f"account-{name}-{i}"))
        for i in range(count)
    ]


def explanations(fleet: Fleet) -> list[Explanation]:
    found = []
    with Log(fleet.settings) as log:
        for number in range(fleet.settings.partitions):
            for records in log.read(EXPLANATIONS, number, *log.bounds(EXPLANATIONS, number)):
                found += [decode_explanation(record.value) for record in records]
                assert all(explanation.source.partition == number for explanation in found[-len(records) :])
    return found


def test_an_attacks_alerts_are_explained_exactly_once_though_the_explainer_is_killed(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    """Vectors are left out of verdicts here: alerts that are pending have theirs nonetheless."""
    with Fleet(stack, prefix, bundle, reasons_share=0, vectors=False) as fleet:
        fleet.start()
        fleet.send(an_attack(1_200))
        fleet.wait_for(lambda answers: len(answers.alerts) >= 600)
        report = fleet.check(verdicts=1_200, alerts=600)
        assert report.awaited == 600

        for place in (planted.AFTER_PRODUCE, planted.AFTER_SEND_OFFSETS, planted.AFTER_COMMIT):
            doomed = fleet.launch_explainer(
                plant=partial(planted.all_of, [SMALL_BATCHES, partial(planted.kill, place)])
            )
            assert doomed.wait() == -signal.SIGKILL
            assert doomed.log.count(f"planted: {place}") == 1
        explainer = fleet.launch_explainer()
        explainer.wait_until_ready()
        fleet.wait_until_explained(600)

        fleet.check(verdicts=1_200, alerts=600, awaited=0, explanations=600)
        told = explanations(fleet)
        assert Counter(one.transaction_id for one in told) == Counter(
            alert.verdict.transaction_id for alert in fleet.answers.alerts
        )
        assert explainer.stop() == 0
        as_the_worker_would_have(fleet, told, bundle)


SMALL_BATCHES = partial(planted.set_constant, "streaming.explaining", "AT_ONCE", 50)


def as_the_worker_would_have(fleet: Fleet, told: list[Explanation], bundle: Path) -> None:
    loaded = LoadedBundle.load_any(bundle)
    by_id = {alert.verdict.transaction_id: alert for alert in fleet.answers.alerts}
    vectors = [_vector(by_id[one.transaction_id]) for one in told]
    assert all(alert.verdict.vector for alert in by_id.values())
    assert not any(verdict.vector for verdict in fleet.answers.verdicts)

    transactions = [by_id[one.transaction_id].transaction for one in told]
    stacked = np.stack([vector for vector in vectors if vector is not None])
    assert [one.reasons for one in told] == Explainer(loaded, currency="EUR").reasons(stacked, transactions)
    assert all(0 < len(one.reasons) <= 5 and all(reason.text for reason in one.reasons) for one in told)


def test_an_explainer_whose_offsets_were_forgotten_says_nothing_twice(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    with Fleet(stack, prefix, bundle, reasons_share=0, partitions=1) as fleet:
        fleet.start()
        fleet.send(an_attack(60))
        explainer = fleet.launch_explainer().wait_until_ready()
        fleet.wait_until_explained(30)
        assert explainer.stop() == 0
        forget_the_explainers_offsets(fleet)
        fleet.send(an_attack(20, "again"))
        fleet.wait_for_verdicts(80)

        fleet.launch_explainer().wait_until_ready()
        fleet.wait_until_explained(40)

        fleet.check(verdicts=80, alerts=40, explanations=40, awaited=0)


def forget_the_explainers_offsets(fleet: Fleet) -> None:
    """A static member that has left is one until its session has run out, and its group can't be deleted before."""
    group = fleet.settings.explainers

    def deleted() -> bool:
        try:
            fleet.admin.delete_consumer_groups([group])[group].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NON_EMPTY_GROUP:
                raise
            return False
        return True

    within(20, deleted)


def test_alerts_of_a_bundle_that_isnt_there_wait_for_it(
    stack: LocalStack, prefix: str, bundle: Path, tmp_path: Path
) -> None:
    theirs, ours = bundle.resolve(), tmp_path / "bundles"
    ours.mkdir()
    with Fleet(stack, prefix, bundle, reasons_share=0, partitions=1) as fleet:
        fleet.start()
        fleet.send(an_attack(20))
        fleet.wait_for_verdicts(20)
        explainer = fleet.launch_explainer(bundle=ours / "current")
        explainer.log.wait_for("waits for a bundle that alerts name")
        explainer.wait_until(lambda: theirs.name in str(explainer.readiness().get("waits_for")))
        fleet.check(awaited=10, explanations=0)

        shutil.copytree(theirs, ours / theirs.name)
        explainer.wait_until_ready()
        fleet.wait_until_explained(10)

        fleet.check(awaited=0, explanations=10)
        assert explainer.log.count("waits for a bundle that alerts name") == 1


def test_reasons_that_the_budget_pays_for_are_in_the_alert_and_explained_no_second_time(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    with Fleet(stack, prefix, bundle, reasons_share=1) as fleet:
        worker = fleet.start()
        explainer = fleet.launch_explainer().wait_until_ready()
        fleet.send(an_attack(60))
        fleet.wait_for_verdicts(60)
        fleet.wait_until_explained(0)

        fleet.check(alerts=30, explanations=0, awaited=0)
        assert all(alert.reasons != "pending" for alert in fleet.answers.alerts)
        assert worker.metric("fraud_pending_reasons_total") == 0
        assert explainer.metric("fraud_explained_total") == 0


def test_an_alert_that_cant_be_explained_is_named_and_the_others_are(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    with Fleet(stack, prefix, bundle, reasons_share=0, partitions=1) as fleet:
        fleet.start()
        fleet.send(an_attack(4))
        fleet.wait_for(lambda answers: len(answers.alerts) == 2)
        alert = fleet.answers.alerts[0]
        verdict = msgspec.structs.replace(alert.verdict, vector="AAAA", outcome=Outcome.REVIEW)
        for nonsense in (encode(msgspec.structs.replace(alert, verdict=verdict)), b"nonsense"):
            fleet.producer.produce(fleet.settings.topic(ALERTS), nonsense, b"", 0)
        assert fleet.producer.flush(10) == 0
        fleet.send(an_attack(4, "later"))

        explainer = fleet.launch_explainer().wait_until_ready()
        fleet.wait_until_explained(4)

        explainer.wait_until(lambda: explainer.metric("fraud_unexplainable_total") == 2)
        assert explainer.log.count("it stays without reasons") == 2
        assert len(explanations(fleet)) == 4
