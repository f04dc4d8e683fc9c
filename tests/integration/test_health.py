"""/healthz fails where a restart would help, and nowhere else: what looks alive and does nothing ends, or says so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from deploy.local.stack import LocalStack
from tests.fleet import planted
from tests.fleet.fleet import Fleet

IMPATIENT = partial(planted.set_constant, "streaming.worker", "STUCK_AFTER", 0.7)


def test_a_worker_that_has_nothing_to_do_is_healthy(stack: LocalStack, prefix: str, bundle: Path) -> None:
    """What transactions leave on a log behind the last message is no lag."""
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start(plant=IMPATIENT)
        fleet.send(fleet.life.messages(100))
        fleet.wait_for_verdicts(100)
        fleet.wait_until_settled()
        worker.wait_until(lambda: worker.metric("fraud_lag_messages") == 0)
        healths = [worker.get("/healthz") for _ in now_and_then(1.5)]
        assert {status for status, _ in healths} == {200}, healths


def now_and_then(seconds: float) -> Iterator[None]:
    """As a prober would ask: that nothing happens is no event to wait for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        time.sleep(0.1)


def test_a_batch_that_does_not_end_makes_it_unhealthy(stack: LocalStack, prefix: str, bundle: Path) -> None:
    plants = [IMPATIENT, partial(planted.dawdle, planted.AFTER_COMMIT, seconds=4.0)]
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start(plant=partial(planted.all_of, plants))
        assert worker.get("/healthz")[0] == 200
        fleet.send(fleet.life.messages(50))
        worker.log.wait_for(f"planted: {planted.AFTER_COMMIT}")
        worker.wait_until(lambda: worker.get("/healthz")[0] == 503, seconds=3.5)
        assert "no batch was told" in worker.get("/healthz")[1]
        fleet.wait_for_verdicts(50)
        worker.wait_until(lambda: worker.get("/healthz")[0] == 200)
        fleet.check(verdicts=50)


def test_a_call_to_kafka_that_hangs_ends_the_process(stack: LocalStack, prefix: str, bundle: Path) -> None:
    """After a broker's restart librdkafka may never come back, whatever its time-out (#5456, #5511)."""
    with Fleet(stack, prefix, bundle, watchdog=1) as fleet:
        worker = fleet.start(plant=partial(planted.dawdle, planted.AFTER_PRODUCE, seconds=60.0))
        fleet.send(fleet.life.messages(50))
        assert worker.wait(20) == 5
        assert "send_offsets has hung" in str(worker.log)
        fleet.start()
        fleet.wait_for_verdicts(50)
        fleet.check(verdicts=50)
