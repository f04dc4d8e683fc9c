"""A bug of ours: the message that shows it is found and dead-lettered, and stays out of every fold; the others go on."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

from deploy.local.stack import LocalStack
from schemas.errors import Fault
from schemas.wire import encode
from tests.fleet import planted
from tests.fleet.fleet import Fleet
from tests.fleet.messages import a_label_of, a_large_transaction, a_transaction, message


def forget_all_profiles(fleet: Fleet) -> None:
    fleet.redis.delete(*[fleet.keys(number).position for number in range(fleet.settings.partitions)])


def test_the_transaction_that_shows_a_bug_is_found_and_the_others_go_on(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    culprit = a_transaction("culprit", account_id="account-0001", counterparty_id="shop-001")
    with Fleet(stack, prefix, bundle) as fleet:
        before, after = fleet.life.messages(60), fleet.life.messages(60)
        *_, sent = fleet.send([*before, message(culprit)])
        fleet.send(after)
        worker = fleet.start(plant=partial(planted.fail_on, "culprit"))
        fleet.wait_for(lambda answers: len(answers.verdicts) >= 120 and len(answers.letters) >= 1)
        (letter,) = fleet.answers.letters
        assert (letter.says.fault, letter.says.topic) == (Fault.BUG, f"{prefix}transactions")
        assert (letter.says.partition, letter.says.offset) == (sent.partition, sent.offset)
        assert letter.value == encode(culprit)
        worker.wait_until(lambda: worker.metric("fraud_dead_letters_total", error="bug") == 1)
        assert "planted: culprit" in str(worker.log), "the trace is in the log"
        fleet.check(verdicts=120, dead_lettered={"bug": 1})

        # What follows has been mended, and still leaves it out: nobody was told of it.
        worker.kill()
        forget_all_profiles(fleet)
        fleet.start()
        fleet.send(fleet.life.messages(60))
        fleet.wait_for_verdicts(180)
        fleet.check(verdicts=180, dead_lettered={"bug": 1})
        assert fleet.answers.verdicts_of("culprit") == []


def test_a_message_that_can_not_even_be_read_is_found_as_well(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        fleet.send(
            [
                *fleet.life.messages(30),
                message(a_transaction("unreadable", account_id="account-0001")),
                message(a_transaction("undecidable", account_id="account-0002")),
                *fleet.life.messages(30),
            ]
        )
        plants = [partial(planted.fail_to_read, "unreadable"), partial(planted.fail_on, "undecidable")]
        worker = fleet.start(plant=partial(planted.all_of, plants))
        fleet.wait_for(lambda answers: len(answers.verdicts) >= 60 and len(answers.letters) >= 2)
        worker.kill()
        forget_all_profiles(fleet)
        fleet.start()
        fleet.send(fleet.life.messages(30))
        fleet.wait_for_verdicts(90)
        fleet.check(verdicts=90, dead_lettered={"bug": 2})


def test_several_messages_that_show_it_are_all_found(stack: LocalStack, prefix: str, bundle: Path) -> None:
    goods = [a_transaction(f"good {i}", account_id=f"account-{i % 5}") for i in range(30)]
    known = a_large_transaction("known", account_id="account-1")
    with Fleet(stack, prefix, bundle) as fleet:
        messages = [message(good) for good in goods]
        messages[7:7] = [message(a_transaction("culprit 1", account_id="account-2"))]
        messages[9:9] = [message(a_label_of(known, label_id="culprit 2"))]
        messages[20:20] = [message(a_transaction("culprit 3", account_id="account-2"))]
        fleet.send(messages)
        worker = fleet.start(plant=partial(planted.fail_on, "culprit 1", "culprit 2", "culprit 3"))
        fleet.wait_for(lambda answers: len(answers.verdicts) >= 30 and len(answers.letters) >= 3)
        worker.kill()
        forget_all_profiles(fleet)
        fleet.start()
        fleet.send(fleet.life.messages(30))
        fleet.wait_for_verdicts(60)
        fleet.check(verdicts=60, dead_lettered={"bug": 3})


def test_a_worker_that_dies_before_it_remembers_a_bug_leaves_its_heir_to_leave_it_out(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        fleet.send([*fleet.life.messages(60), message(a_transaction("culprit", account_id="account-0001"))])
        plants = [partial(planted.fail_on, "culprit"), partial(planted.kill_when_told, "culprit")]
        worker = fleet.launch(plant=partial(planted.all_of, plants))
        assert worker.wait() == -signal.SIGKILL
        fleet.start()
        fleet.send(fleet.life.messages(30))
        fleet.wait_for_verdicts(90)
        fleet.check(verdicts=90, dead_lettered={"bug": 1})


def test_a_bug_found_while_profiles_are_folded_anew_has_nothing_judged_again(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    """The mark of a bug travels with the committed offset of the transactions, which then are far behind it."""
    known = a_transaction("known", account_id="account-0001")
    with Fleet(stack, prefix, bundle, batch=5) as fleet:
        worker = fleet.start()
        fleet.send(fleet.life.messages(200))
        fleet.wait_for_verdicts(200)
        fleet.wait_until_settled()
        worker.kill()
        forget_all_profiles(fleet)
        fleet.send([message(a_label_of(known, label_id="culprit"))])
        plants = [partial(planted.fail_on, "culprit"), partial(planted.kill, planted.AFTER_COMMIT)]
        assert fleet.launch(plant=partial(planted.all_of, plants)).wait() == -signal.SIGKILL
        fleet.start()
        fleet.send(fleet.life.messages(50))
        fleet.wait_for_verdicts(250)
        fleet.check(verdicts=250, dead_lettered={"bug": 1})


def test_a_bug_that_no_message_shows_parks_its_partitions_and_loses_nothing(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        numbers = {str(sent.partition) for sent in fleet.send(fleet.life.messages(60))}
        worker = fleet.launch(plant=planted.fail_to_recall)
        worker.wait_until(lambda: worker.readiness().get("parked", {}).keys() == numbers)
        assert "a batch failed as a whole, and none of its messages alone" in str(worker.readiness()["parked"])
        assert worker.readiness()["status"] == 503
        worker.kill()
        fleet.start()
        fleet.wait_for_verdicts(60)
        fleet.check(verdicts=60, dead_lettered={})


def test_a_message_that_was_told_before_is_left_out_of_no_fold(stack: LocalStack, prefix: str, bundle: Path) -> None:
    """A worker that can't fold it must not go on without: its profiles would be others than the log's."""
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start()
        *_, sent = fleet.send([*fleet.life.messages(60), message(a_transaction("culprit", account_id="account-0001"))])
        fleet.wait_for_verdicts(61)
        fleet.wait_until_settled()
        worker.kill()
        forget_all_profiles(fleet)
        broken = fleet.launch(plant=partial(planted.fail_to_fold, "account-0001"))
        broken.wait_until(lambda: str(sent.partition) in broken.readiness().get("parked", {}))
        assert "can't be folded now" in str(broken.readiness()["parked"])
        broken.kill()
        fleet.start()
        fleet.send(fleet.life.messages(30))
        fleet.wait_for_verdicts(91)
        fleet.check(verdicts=91, dead_lettered={})
