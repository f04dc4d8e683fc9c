"""The log becomes another one: topics made anew, an end that is lost and written on, a beginning that retention took.

What was judged on records that are gone is never taken for an answer to what lies there now; nobody goes on by himself, and
whoever goes on is told what is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from features.log import Log
from features.position import Offsets
from schemas.errors import Fault
from schemas.partitioning import partition_of
from schemas.topics import ACTIVITY, DEAD_LETTERS, INPUTS, LABELS, TRANSACTIONS, VERDICTS
from tests.fleet import planted
from tests.fleet.cutting import cut
from tests.fleet.fleet import Fleet
from tests.fleet.messages import Outgoing, a_transaction, message
from tests.fleet.parked import LOOKS_SOON_AGAIN, make_anew, parked_at, truncate

NUMBER = 2
ACCOUNT = next(f"account-{n:04}" for n in range(99) if partition_of(f"account-{n:04}".encode(), 4) == NUMBER)


@pytest.fixture
def fleet(stack: LocalStack, prefix: str, bundle: Path) -> Iterator[Fleet]:
    """Told 200 transactions, sent 20 at a time, and stopped."""
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start()
        for told in (100, 200):  # what was paid by then is known to those who come later
            for _ in range(5):
                fleet.send(fleet.life.messages(20))
            fleet.wait_for_verdicts(told)
            fleet.wait_until_settled()
        worker.kill()
        yield fleet


def payments(name: str, count: int) -> list[Outgoing]:
    """Of one account, whose partition number is NUMBER."""
    return [message(a_transaction(f"{name} {i}", account_id=ACCOUNT, counterparty_id="shop-001")) for i in range(count)]


def end_of(fleet: Fleet) -> int:
    with Log(fleet.settings) as log:
        return log.bounds(TRANSACTIONS, NUMBER)[1]


def run(fleet: Fleet, *command: str, status: int = 0) -> str:
    found, said = fleet.run(*command)
    assert found == status, said
    return said


@pytest.mark.parametrize("written_on", [False, True], ids=["is shorter", "was written on"])
def test_a_log_that_lost_its_end_is_parked_until_somebody_accepts_it(fleet: Fleet, written_on: bool) -> None:
    judged = end_of(fleet)
    cut(fleet, (TRANSACTIONS, NUMBER, judged // 2))
    end = end_of(fleet)
    gone = sum(v.source.partition == NUMBER and v.source.offset >= end for v in fleet.answers.verdicts)
    assert 0 < end < judged
    assert gone > 0
    new = payments("new", judged - end + 10) if written_on else []
    fleet.send(new)
    worker = fleet.launch(plant=LOOKS_SOON_AGAIN)
    why = parked_at(worker, NUMBER)
    assert ("no longer holds the record" if written_on else f"ends at {end}") in why
    assert f"`features rebuild --partition {NUMBER}` says what is lost, and goes on with --accept-loss" in why
    assert why in run(fleet, "features", "check", status=1)

    refused = run(fleet, "features", "rebuild", "--partition", str(NUMBER), status=2)
    assert "--accept-loss" in refused
    fleet.send(payments("newer", 5))
    accepted = run(fleet, "features", "rebuild", "--partition", str(NUMBER), "--accept-loss")
    assert f"transactions [{NUMBER}] {end} to {judged - 1}" in accepted
    fleet.send(fleet.life.messages(40))
    fleet.wait_for_verdicts(200 + len(new) + 5 + 40)
    report = fleet.check(verdicts=200 - gone + len(new) + 5 + 40)
    assert report.gone >= gone
    assert len(report.accepted) == 1
    assert worker.running

    worker.kill()  # once others are committed, what was accepted is over: nobody is judged twice
    fleet.start()
    fleet.send(fleet.life.messages(20))
    fleet.wait_for_verdicts(200 + len(new) + 5 + 60)
    fleet.check(verdicts=200 - gone + len(new) + 5 + 60)


def test_inputs_made_anew_under_a_running_worker_are_judged_once_they_are_rebuilt(fleet: Fleet) -> None:
    worker = fleet.start(plant=LOOKS_SOON_AGAIN)
    make_anew(fleet, *INPUTS)
    fleet.send(fleet.life.messages(400))  # further than the log before
    assert "made anew" in parked_at(worker, 0, 1, 2, 3)
    assert len(fleet.answers.verdicts) == 200

    run(fleet, "features", "rebuild")
    fleet.wait_for_verdicts(600)
    report = fleet.check(verdicts=400)
    assert report.gone >= 200
    assert worker.running


def test_verdicts_of_another_log_do_not_count_where_workers_were_away(fleet: Fleet) -> None:
    fleet.wait_until_nobody_is_in_the_group()
    make_anew(fleet, *INPUTS)
    fleet.send(fleet.life.messages(50))
    run(fleet, "features", "rebuild")
    worker = fleet.start()
    fleet.wait_for_verdicts(250)
    fleet.check(verdicts=50)
    assert worker.log.count("its outputs and profiles say") == 0


def test_new_frauds_reach_counterparties_where_labels_were_made_anew(fleet: Fleet) -> None:
    worker = fleet.start(plant=LOOKS_SOON_AGAIN)
    make_anew(fleet, LABELS)
    parked_at(worker, 0, 1, 2, 3)
    run(fleet, "features", "rebuild")
    fleet.send(fleet.life.messages(100))
    fleet.wait_for_verdicts(300)
    fleet.wait_until_settled()
    report = fleet.report()
    assert report.well, report
    assert report.vectors_compared + report.vectors_not_comparable == report.verdicts == 300
    assert report.vectors_compared >= 100, "those that were judged since"
    with Log(fleet.settings) as log:
        labels = sum(log.bounds(LABELS, n)[1] for n in range(4))
    assert labels > 0
    assert worker.metric("fraud_labels_total") >= labels


def test_what_retention_has_left_is_checked(fleet: Fleet) -> None:
    fleet.start()
    early, late = payments("early", 2), payments("late", 3)
    fleet.send(early)
    fleet.wait_for_verdicts(202)
    fleet.wait_until_settled()
    truncated = end_of(fleet)
    for number in range(4):
        truncate(fleet, number, before=truncated if number == NUMBER else 20)
    fleet.send([*fleet.life.messages(50), *late, *late, *early])
    fleet.wait_for_verdicts(255)
    fleet.wait_until_settled()
    report = fleet.report()
    assert report.well, report
    assert report.begins_at == {f"transactions [{n}]": truncated if n == NUMBER else 20 for n in range(4)}
    assert report.vectors_not_comparable == report.verdicts > 0
    assert report.duplicates == len(late) + len(early), "also of payments whose first message is gone"


def test_a_gap_that_retention_left_can_be_skipped_and_the_profiles_kept(fleet: Fleet) -> None:
    before, judged = fleet.position(NUMBER), end_of(fleet)
    fleet.send(payments("missed", 30))
    truncate(fleet, NUMBER, before=judged + 25)
    worker = fleet.launch(plant=LOOKS_SOON_AGAIN)
    why = parked_at(worker, NUMBER)
    assert f"begins at {judged + 25}, its profiles end at {judged}: the 25 records between" in why
    assert f"`features skip-gap --partition {NUMBER}`" in why

    said = run(fleet, "features", "skip-gap", "--partition", str(NUMBER))
    assert f"lost: {fleet.settings.topic(TRANSACTIONS)} [{NUMBER}] {judged} to {judged + 24}" in said
    fleet.wait_for_verdicts(205)
    fleet.wait_until_settled()
    after = fleet.position(NUMBER)
    assert before is not None
    assert after is not None
    assert after.epoch == before.epoch, "the profiles are those from before"
    report = fleet.report()
    assert report.well, report
    assert "no gap" in run(fleet, "features", "skip-gap", "--partition", str(NUMBER), status=2)


def test_verdicts_that_lost_their_end_are_missed_and_named(fleet: Fleet) -> None:
    with Log(fleet.settings) as log:
        middle = log.bounds(VERDICTS, NUMBER)[1] // 2
    cut(fleet, (VERDICTS, NUMBER, middle))
    with Log(fleet.settings) as log:
        left = sum(len(some) for some in log.read(VERDICTS, NUMBER, *log.bounds(VERDICTS, NUMBER)))
    told = sum(verdict.source.partition == NUMBER for verdict in fleet.answers.verdicts)
    assert 0 < left < told
    worker = fleet.launch(plant=LOOKS_SOON_AGAIN)
    assert "verdicts lost its end" in parked_at(worker, NUMBER)
    said = run(fleet, "features", "rebuild", "--partition", str(NUMBER), "--accept-loss")
    assert "those of these transactions are gone" in said
    fleet.send(payments("after", 10))
    fleet.wait_until_settled()
    report = fleet.report()
    assert report.lost == report.doubled == report.contradicting == report.profiles_different == 0, report
    assert report.verdicts == 200 - (told - left) + 10


def test_activity_that_lost_its_end_is_parked_and_named(fleet: Fleet) -> None:
    with Log(fleet.settings) as log:
        ends = {number: log.bounds(ACTIVITY, number)[1] for number in range(4)}
    number = max(ends, key=lambda n: ends[n])
    cut(fleet, (ACTIVITY, number, ends[number] // 4))
    worker = fleet.launch(plant=LOOKS_SOON_AGAIN)
    assert "counterparty-activity ends at" in parked_at(worker, number)
    run(fleet, "features", "rebuild", "--partition", str(number), "--accept-loss")
    fleet.send(fleet.life.messages(60))
    fleet.wait_for_verdicts(260)
    fleet.wait_until_settled()
    report = fleet.report()
    assert report.well, report
    assert report.vectors_compared + report.vectors_not_comparable == 260
    assert report.vectors_not_comparable > 0


def test_dead_letters_that_lost_their_end_are_accepted_once_and_for_all(fleet: Fleet) -> None:
    worker = fleet.start(plant=partial(planted.fail_on, "culprit"))
    fleet.send([message(a_transaction("culprit", account_id=ACCOUNT)), *payments("more", 5)])
    fleet.wait_for(lambda answers: len(answers.letters) == 1)
    fleet.wait_for_verdicts(205)
    fleet.wait_until_settled()
    worker.kill()
    cut(fleet, (DEAD_LETTERS, NUMBER, 0))
    fleet.redis.delete(fleet.keys(NUMBER).position)
    worker = fleet.launch(plant=LOOKS_SOON_AGAIN)
    assert "1 messages were left out of its profiles, and dead-letters names 0 of them" in parked_at(worker, NUMBER)
    assert "dead-letters names 0 of them" in run(fleet, "features", "check", status=1)
    assert "--accept-loss" in run(fleet, "features", "rebuild", "--partition", str(NUMBER), status=2)
    run(fleet, "features", "rebuild", "--partition", str(NUMBER), "--accept-loss")
    fleet.send(payments("after", 5))
    fleet.wait_until_settled()  # whoever reads the answers is told that their log was cut, and goes no further

    worker.kill()
    fleet.redis.delete(fleet.keys(NUMBER).position)
    worker = fleet.start()
    fleet.send(payments("later", 5))
    fleet.wait_until_settled()
    assert fleet.report().verdicts == 215
    assert worker.readiness()["parked"] == {}


def test_offsets_that_were_set_by_hand_forget_no_message_that_was_left_out(fleet: Fleet) -> None:
    """Such a tool commits no metadata; the dead letters say which messages no fold takes."""
    worker = fleet.start()
    fleet.send([Outgoing(value=b"\x00\x00\x00\x00\x07avro", key=ACCOUNT.encode()), *payments("more", 5)])
    fleet.wait_for(lambda answers: len(answers.letters) == 1)
    fleet.wait_for_verdicts(205)
    fleet.wait_until_settled()
    assert fleet.answers.letters[0].says.fault is Fault.NO_REGISTRY
    worker.kill()
    fleet.wait_until_nobody_is_in_the_group()
    with Log(fleet.settings) as log:
        for number in range(4):
            offsets = Offsets(*(max(one.offset, 0) for one in log.committed(number)))
            log.commit(number, offsets, ["", "", ""])
    fleet.redis.delete(*[fleet.keys(number).position for number in range(4)])
    fleet.start()
    fleet.send(fleet.life.messages(20))
    fleet.wait_for_verdicts(225)
    fleet.check(verdicts=225, dead_lettered={"no-registry": 1})
