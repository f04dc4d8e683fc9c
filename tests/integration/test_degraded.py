"""What a worker knows of counterparties that another worker serves, while that one folds its profiles anew: it waits a stated
time, and then says in each verdict that it did without."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from schemas.topics import TRANSACTIONS
from schemas.verdict import Flag
from tests.fleet import planted
from tests.fleet.fleet import Fleet, Worker

BEFORE, AFTER = 200, 100


def two_workers_and_a_wiped_redis(fleet: Fleet) -> None:
    """Both are killed; Kafka keeps each one's partitions for it."""
    workers = [fleet.start(0), fleet.start(1)]
    for worker in workers:
        worker.wait_until(lambda worker=worker: len(worker.readiness().get("partitions", ())) == 2)  # type: ignore[misc]
    fleet.send(fleet.life.messages(BEFORE))
    fleet.wait_for_verdicts(BEFORE)
    fleet.wait_until_settled()
    for worker in workers:
        worker.kill()
    fleet.redis.delete(*[fleet.keys(number).position for number in range(4)])


def waits_for_the_other(worker: Worker) -> None:
    worker.log.wait_for("which another worker serves, has no position, and was told up to")


def does_without_the_other(worker: Worker) -> None:
    worker.log.wait_for("its counterparties are done without")
    worker.wait_until(lambda: worker.metric("fraud_degraded_total") > 0)


@pytest.mark.parametrize(
    ("wait", "until"), [(60.0, waits_for_the_other), (0.1, does_without_the_other)], ids=["in time", "too late"]
)
def test_nobody_is_judged_on_a_counterparty_that_is_folded_by_half_unless_the_verdict_says_so(
    stack: LocalStack, prefix: str, bundle: Path, wait: float, until: Callable[[Worker], None]
) -> None:
    with Fleet(stack, prefix, bundle, batch=50, session_timeout=30, counterparty_wait=wait) as fleet:
        two_workers_and_a_wiped_redis(fleet)
        quick = fleet.launch(0)
        fleet.send(fleet.life.messages(AFTER))
        until(quick)
        slow = fleet.launch(1, plant=partial(planted.remember_slowly, 0.3, 3))
        fleet.wait_for_verdicts(BEFORE + AFTER)
        report = fleet.check(verdicts=BEFORE + AFTER, judged_on_too_little=0)
        flagged = sum(Flag.DEGRADED in verdict.flags for verdict in fleet.answers.verdicts)
        assert report.degraded == flagged == sum(one.metric("fraud_degraded_total") for one in (quick, slow))
        assert (flagged > 0) == (until is does_without_the_other)


def another_currencys(fleet: Fleet, key: str, good: bytes) -> None:
    fleet.redis.set(key, good.replace(good.split(b"|")[0], b"ca9e7ccb"))


def nobodys(fleet: Fleet, key: str, _good: bytes) -> None:
    fleet.redis.set(key, b"\xff\x00 what is this")


def a_list(fleet: Fleet, key: str, _good: bytes) -> None:
    fleet.redis.delete(key)
    fleet.redis.lpush(key, "what", "is", "this")


@pytest.mark.parametrize("spoil", [another_currencys, nobodys, a_list])
def test_a_position_that_somebody_spoiled_costs_its_partition_and_nothing_of_it_gets_into_a_vector(
    stack: LocalStack, prefix: str, bundle: Path, spoil: Callable[[Fleet, str, bytes], None]
) -> None:
    with Fleet(stack, prefix, bundle, counterparty_wait=0.3) as fleet:
        worker = fleet.start()
        fleet.send(fleet.life.messages(BEFORE))
        fleet.wait_for_verdicts(BEFORE)
        fleet.wait_until_settled()
        worker.kill()
        good, key = fleet.position(2), fleet.keys(2).position
        assert good is not None
        spoil(fleet, key, bytes(good))
        worker = fleet.start(plant=partial(planted.set_constant, "streaming.intake", "PARKED_AGAIN", 0.3))
        worker.log.wait_for("parked: partition 2: ")
        sent = fleet.send(fleet.life.messages(AFTER))
        elsewhere = sum(one.topic == TRANSACTIONS.name and one.partition != 2 for one in sent)
        fleet.wait_for_verdicts(BEFORE + elsewhere)
        worker.wait_until(lambda: worker.metric("fraud_degraded_total") > 0)
        fleet.redis.delete(key)  # what it says mends it; an epoch that was folded before it is as good
        fleet.redis.set(key, bytes(good))
        fleet.wait_for_verdicts(BEFORE + AFTER)
        report = fleet.check(verdicts=BEFORE + AFTER, judged_on_too_little=0)
        assert report.degraded == sum(Flag.DEGRADED in verdict.flags for verdict in fleet.answers.verdicts) > 0
