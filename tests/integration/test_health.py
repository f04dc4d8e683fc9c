"""/healthz fails where a restart would help, and nowhere else: what looks alive and does nothing ends, or says so."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from deploy.local.stack import LocalStack
from tests.fleet import planted
from tests.fleet.fleet import Fleet

IMPATIENT = partial(planted.set_constant, "streaming.worker", "STUCK_AFTER", 0.0)
"""Whatever waits when it is asked for the second time has waited too long."""


def test_a_worker_that_has_nothing_to_do_is_healthy(stack: LocalStack, prefix: str, bundle: Path) -> None:
    """What transactions leave on a log behind the last message is no lag."""
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start(plant=IMPATIENT)
        fleet.send(fleet.life.messages(100))
        fleet.wait_for_verdicts(100)
        fleet.wait_until_settled()
        worker.wait_until(lambda: worker.metric("fraud_lag_messages") == 0)
        healths = [worker.get("/healthz") for _ in range(5)]
        assert {status for status, _ in healths} == {200}, healths


def test_a_batch_that_does_not_end_makes_it_unhealthy(
    stack: LocalStack, prefix: str, bundle: Path, tmp_path: Path
) -> None:
    go_on = tmp_path / "go-on"
    plants = [IMPATIENT, partial(planted.hold, planted.AFTER_COMMIT, go_on)]
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start(plant=partial(planted.all_of, plants))
        worker.wait_until(lambda: worker.get("/healthz")[0] == 200)
        fleet.send(fleet.life.messages(50))
        worker.log.wait_for(f"planted: {planted.AFTER_COMMIT}")
        worker.wait_until(lambda: worker.get("/healthz")[0] == 503)
        assert "no batch was told" in worker.get("/healthz")[1]
        go_on.touch()
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
