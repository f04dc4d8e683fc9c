"""A worker dies, stands still, is replaced, loses Redis: every transaction still gets one verdict, and the right one.

Each ends with the checker: nothing lost, doubled or contradicting, every vector to the bit, every profile as a serial fold
of the log has it.  tests/faults/ has the same under load, many times over.
"""

from __future__ import annotations

import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from tests.fleet import planted
from tests.fleet.fleet import Fleet
from tests.fleet.messages import Outgoing, transactions_in

SLOT_0, SLOT_1 = 0, 1
SHORT_LEASE = partial(planted.set_constant, "streaming.slot", "LEASE", 0.6)


def test_workers_killed_all_over_a_batch_are_taken_over_by_the_next(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    with Fleet(stack, prefix, bundle, batch=60) as fleet:
        for place in planted.PLACES:
            fleet.send(fleet.life.messages(150))
            doomed = fleet.launch(plant=partial(planted.kill, place, batch=2))
            assert doomed.wait() == -signal.SIGKILL
            assert doomed.log.count(f"planted: {place}") == 1
        fleet.start()
        fleet.send(fleet.life.messages(100))
        fleet.wait_for_verdicts(700)
        fleet.check(verdicts=700)


class Sending:
    """Sends on, in a thread of its own, until the test has seen enough."""

    def __init__(self, fleet: Fleet, *, at_once: int = 40) -> None:
        self.sent = 0
        self._fleet, self._at_once = fleet, at_once
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Sending:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            messages: list[Outgoing] = self._fleet.life.messages(self._at_once)
            self._fleet.send(messages)
            self.sent += transactions_in(messages)


def test_a_second_worker_joins_and_leaves_under_load(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        first = fleet.start(SLOT_0)
        with Sending(fleet) as sending:
            fleet.wait_for_verdicts(100)
            mark = first.log.mark()
            second = fleet.start(SLOT_1)
            second.log.wait_for("took partition", times=2)
            first.log.wait_for("took partition", after=mark, times=2)
            assert sorted(first.readiness()["partitions"] + second.readiness()["partitions"]) == [0, 1, 2, 3]
            fleet.wait_for_verdicts(len(fleet.answers.verdicts) + 200)

            mark = first.log.mark()
            assert second.stop() == 0
            first.log.wait_for("took partition", after=mark, times=4)
            fleet.wait_for_verdicts(len(fleet.answers.verdicts) + 200)
        fleet.wait_for_verdicts(sending.sent)
        fleet.check(verdicts=sending.sent)


def test_sigterm_finishes_the_batch_in_hand(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start(plant=partial(planted.dawdle, planted.AFTER_PRODUCE, seconds=2.0))
        fleet.send(fleet.life.messages(80))
        worker.log.wait_for(f"planted: {planted.AFTER_PRODUCE}")
        worker.signal(signal.SIGTERM)
        began = time.monotonic()
        assert worker.wait() == 0
        assert time.monotonic() - began < 10

        told = sum(sum(position.next) for n in range(4) if (position := fleet.position(n)))
        assert told > 0, "the batch was told and remembered"
        fleet.start()
        fleet.wait_for_verdicts(80)
        fleet.check(verdicts=80)


@pytest.mark.parametrize("when", ["judging", "waiting for Kafka", "waiting for a bundle"])
def test_sigterm_is_heard_whatever_the_worker_is_at(
    stack: LocalStack, prefix: str, bundle: Path, tmp_path: Path, when: str
) -> None:
    other: dict[str, dict[str, object]] = {
        "judging": {},
        "waiting for Kafka": {"kafka_url": "127.0.0.1:1"},
        "waiting for a bundle": {"bundle": tmp_path / "none"},
    }
    with Fleet(stack, prefix, bundle, partitions=1) as fleet:
        worker = fleet.launch(other=other[when])
        if when == "judging":
            worker.wait_until_ready()
        else:
            worker.log.wait_for("waiting: Kafka" if "Kafka" in when else "waiting for a bundle")
        worker.signal(signal.SIGTERM)
        began = time.monotonic()
        assert worker.wait() == 0
        assert time.monotonic() - began < 10


def test_profiles_that_are_wiped_are_folded_anew_from_the_log(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        first, second = fleet.start(SLOT_0), fleet.start(SLOT_1)
        fleet.send(fleet.life.messages(300))
        fleet.wait_for_verdicts(300)
        with Sending(fleet) as sending:
            fleet.wait_for_verdicts(400)
            fleet.redis.flushall()
            for worker in (first, second):
                worker.log.wait_for("position is b''")
            fleet.wait_for_verdicts(len(fleet.answers.verdicts) + 200)
        fleet.wait_for_verdicts(300 + sending.sent)
        fleet.check(verdicts=300 + sending.sent)
        first.wait_until(lambda: first.metric("fraud_folded_total") > 0)


def test_a_position_that_is_deleted_begins_a_new_epoch(stack: LocalStack, prefix: str, bundle: Path) -> None:
    """Folding onto what still lies there would count everything twice."""
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start()
        fleet.send(fleet.life.messages(300))
        fleet.wait_for_verdicts(300)
        fleet.wait_until_settled()
        before = fleet.position(2)
        assert before is not None
        fleet.redis.delete(fleet.keys(2).position)
        fleet.send(fleet.life.messages(200))
        worker.log.wait_for("position is b''")
        fleet.wait_for_verdicts(500)
        fleet.check(verdicts=500)
        after = fleet.position(2)
        assert after is not None
        assert after.epoch != before.epoch


def test_redis_is_away_for_three_seconds(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start()
        fleet.send(fleet.life.messages(200))
        fleet.wait_for_verdicts(200)
        mark = worker.log.mark()
        stack.kill_redis()
        try:
            away_since = time.monotonic()
            fleet.send(fleet.life.messages(200))
            worker.log.wait_for("Redis", after=mark)
            worker.wait_until(lambda: "Redis" in str(worker.readiness()["waits_for"]))
            assert worker.readiness()["status"] == 503
            assert worker.get("/healthz")[0] == 200, "a restart would not bring Redis back"
            time.sleep(max(0.0, away_since + 3 - time.monotonic()))
        finally:
            stack.start_redis()
        fleet.send(fleet.life.messages(100))
        fleet.wait_for_verdicts(500)
        worker.wait_until_ready()
        fleet.check(verdicts=500)
        said = [line for line in worker.log.lines[mark:] if "Redis" in line]
        assert len(said) <= 12, "said once, not at every attempt"
        worker.wait_until(lambda: worker.metric("fraud_redis_errors_total") >= 1)


@pytest.mark.parametrize("place", [planted.AFTER_PRODUCE, planted.AFTER_SEND_OFFSETS])
def test_a_transaction_that_kafka_wants_aborted_is_told_again_once(
    stack: LocalStack, prefix: str, bundle: Path, place: str
) -> None:
    with Fleet(stack, prefix, bundle, batch=60) as fleet:
        fleet.send(fleet.life.messages(300))
        worker = fleet.start(plant=partial(planted.abort, place, batch=2))
        fleet.wait_for_verdicts(300)
        worker.log.wait_for("aborting")
        worker.log.wait_for("over again")
        fleet.check(verdicts=300)
        worker.wait_until(lambda: worker.metric("fraud_takeovers_total", cause="doubt") >= 1)


def test_a_transaction_that_takes_too_long_is_aborted_by_kafka(stack: LocalStack, prefix: str, bundle: Path) -> None:
    """By then its producer is fenced: the process ends, and the next one begins where the last was told."""
    with Fleet(stack, prefix, bundle, batch=60, transaction_timeout=1) as fleet:
        fleet.send(fleet.life.messages(300))
        slow = fleet.launch(plant=partial(planted.dawdle, planted.AFTER_SEND_OFFSETS, seconds=4.0, batch=2))
        slow.log.wait_for(f"planted: {planted.AFTER_SEND_OFFSETS}")
        slow.log.wait_for("leaving" if slow.wait(20) else "aborting")
        fleet.start()
        fleet.wait_for_verdicts(300)
        fleet.check(verdicts=300)


@pytest.mark.parametrize("place", planted.PLACES[:3])
def test_a_worker_that_stood_still_and_was_replaced_says_nothing_when_it_wakes(
    stack: LocalStack, prefix: str, bundle: Path, place: str
) -> None:
    with Fleet(stack, prefix, bundle, batch=60, transaction_timeout=4) as fleet:
        fleet.send(fleet.life.messages(200))
        zombie = fleet.launch(SLOT_0, plant=partial(planted.stop, place, batch=2))
        zombie.log.wait_for(f"planted: {place}")

        heir = fleet.launch(SLOT_1)
        heir.log.wait_for("took partition", times=4)
        fleet.send(fleet.life.messages(100))
        fleet.wait_for_verdicts(300)
        mark = heir.log.mark()
        zombie.resume()
        # Alive, it joins again and shares; fenced for good, it ends and says so.
        if "leaving" in zombie.log.wait_for("leaving", "are no longer ours", "over again"):
            assert zombie.wait() == 3
        else:
            heir.log.wait_for("assigned partitions", after=mark)
        fleet.send(fleet.life.messages(100))
        fleet.wait_for_verdicts(400)
        fleet.check(verdicts=400)


def test_a_second_worker_with_the_same_slot_says_so_and_ends(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        first = fleet.start(SLOT_0, plant=SHORT_LEASE)
        fleet.send(fleet.life.messages(50))
        second = fleet.launch(SLOT_0, plant=SHORT_LEASE)
        assert second.wait() == 2
        assert f"slot 0 of group {fleet.settings.group} is taken by process {first.pid}" in str(second.log)
        assert "FRAUD_SLOT" in str(second.log)
        fleet.send(fleet.life.messages(50))
        fleet.wait_for_verdicts(100)
        assert first.running
        fleet.check(verdicts=100)


def test_a_worker_whose_slot_was_taken_while_it_stood_still_ends_when_it_wakes(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    """Its lease in Redis runs out meanwhile; from there on Kafka fences it."""
    with Fleet(stack, prefix, bundle, session_timeout=60) as fleet:  # else it would join again as it wakes
        zombie = fleet.start(SLOT_0, plant=SHORT_LEASE)
        fleet.send(fleet.life.messages(50))
        fleet.wait_for_verdicts(50)
        zombie.pause()
        heir = fleet.start(SLOT_0)
        fleet.send(fleet.life.messages(50))
        fleet.wait_for_verdicts(100)
        zombie.resume()
        assert zombie.wait() == 3
        assert "FRAUD_SLOT" in str(zombie.log)
        assert heir.running
        fleet.send(fleet.life.messages(50))
        fleet.wait_for_verdicts(150)
        fleet.check(verdicts=150)
