"""A partition that can't be served rightly is left out, says why and what mends it; the others go on, and nobody exits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from features.log import Log
from features.position import Offsets
from schemas.topics import INPUTS, TRANSACTIONS
from tests.fleet.fleet import Fleet
from tests.fleet.messages import a_transaction, message
from tests.fleet.parked import LOOKS_SOON_AGAIN, make_anew, of_number, parked_at, truncate

NUMBER = 2


@pytest.fixture
def fleet(stack: LocalStack, prefix: str, bundle: Path) -> Iterator[Fleet]:
    """Told 200 transactions, and stopped."""
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start()
        fleet.send(fleet.life.messages(200))
        fleet.wait_for_verdicts(200)
        fleet.wait_until_settled()
        worker.kill()
        yield fleet


def everybody_was_told_once(fleet: Fleet, count: int) -> None:
    """For a log that the checker can't read from its beginning any more."""
    fleet.wait_for_verdicts(count)
    fleet.wait_until_settled()
    ids = [verdict.transaction_id for verdict in fleet.answers.verdicts]
    assert len(ids) == len(set(ids)) == count


def test_no_position_under_a_log_that_was_cut_is_not_begun_from_nothing(fleet: Fleet) -> None:
    truncate(fleet, NUMBER, before=10)
    fleet.redis.delete(fleet.keys(NUMBER).position)
    worker = fleet.start(plant=LOOKS_SOON_AGAIN)
    why = parked_at(worker, NUMBER)
    assert "has no position, and transactions begins at 10" in why
    assert f"`features rebuild --partition {NUMBER} --from-here`" in why
    assert worker.readiness()["status"] == 200, "the others are served"

    sent = of_number(fleet, fleet.life.messages(100), 0, 1, 3)
    fleet.wait_for_verdicts(200 + sent)
    assert all(verdict.source.partition != NUMBER for verdict in fleet.answers.verdicts[200:])

    status, said = fleet.run("features", "rebuild", "--partition", str(NUMBER))
    assert status == 2
    assert "--from-here" in said
    status, said = fleet.run("features", "rebuild", "--partition", str(NUMBER), "--from-here")
    assert status == 0, said
    everybody_was_told_once(fleet, 300)
    assert worker.readiness()["parked"] == {}
    worker.wait_until(lambda: worker.metric("fraud_parked_partitions") == 0)
    assert worker.log.count("parked: ") == 1, "said once"


def test_a_position_that_retention_has_overtaken_is_not_a_silent_gap(fleet: Fleet) -> None:
    sent = of_number(fleet, fleet.life.messages(100), NUMBER)
    assert sent > 5
    with Log(fleet.settings) as log:
        end = log.bounds(TRANSACTIONS, NUMBER)[1]
    truncate(fleet, NUMBER, before=end - 5)
    worker = fleet.start(plant=LOOKS_SOON_AGAIN)
    why = parked_at(worker, NUMBER)
    assert f"transactions begins at {end - 5}, its profiles end at {end - sent}" in why
    status, said = fleet.run("features", "rebuild", "--partition", str(NUMBER), "--from-here")
    assert status == 0, said
    everybody_was_told_once(fleet, 300 - sent + 5)


def forget_the_group(fleet: Fleet) -> None:
    for done in fleet.admin.delete_consumer_groups([fleet.settings.group]).values():
        done.result()


def test_committed_offsets_that_are_gone_let_nothing_be_judged_again(fleet: Fleet) -> None:
    """Expired, or deleted: beginning at the earliest would judge everything a second time."""
    fleet.wait_until_nobody_is_in_the_group()
    forget_the_group(fleet)
    worker = fleet.start()
    worker.log.wait_for("its outputs and profiles say that it told up to", times=4)
    fleet.send(fleet.life.messages(50))
    fleet.wait_for_verdicts(250)
    fleet.check(verdicts=250)


def test_neither_committed_offsets_nor_profiles_and_still_nothing_is_judged_again(fleet: Fleet) -> None:
    """It looks like a first start, but for the verdicts and dead letters that there are."""
    fleet.send([message(a_transaction("nobody's", currency="XXX")), *fleet.life.messages(20)])
    worker = fleet.start()
    fleet.wait_for_verdicts(220)
    fleet.wait_until_settled()
    last = [a_transaction(f"last {i}", account_id=f"account {i}") for i in range(20)]
    fleet.send([message(one) for one in last])  # a verdict says which labels were told before it
    fleet.wait_for_verdicts(240)
    worker.kill()
    fleet.wait_until_nobody_is_in_the_group()
    forget_the_group(fleet)
    fleet.redis.delete(*[fleet.keys(number).position for number in range(4)])
    status, said = fleet.run("features", "rebuild", "--partition", str(NUMBER))
    assert status == 0, said

    worker = fleet.start()
    worker.log.wait_for("its outputs and profiles say that it told up to", times=4)
    fleet.send(fleet.life.messages(50))
    fleet.wait_for_verdicts(290)
    fleet.check(verdicts=290, dead_lettered={"unknown-currency": 1})


def test_a_group_that_was_set_back_judges_nothing_again(fleet: Fleet) -> None:
    """Or a broker that was killed, and has read only a part of what was committed."""
    with Log(fleet.settings) as log:
        fleet.wait_until_nobody_is_in_the_group()
        offsets, metadata = zip(*log.committed(NUMBER), strict=True)
        log.commit(NUMBER, Offsets(offsets[0] - 3, *offsets[1:]), metadata)
    worker = fleet.start()
    worker.log.wait_for(f"partition {NUMBER}: the group has committed")
    fleet.send(fleet.life.messages(50))
    fleet.wait_for_verdicts(250)
    fleet.check(verdicts=250)


def test_a_log_that_lost_its_end_is_parked(fleet: Fleet) -> None:
    with Log(fleet.settings) as log:
        offsets = Offsets(*(one.offset for one in log.committed(NUMBER)))
    before = fleet.position(NUMBER)
    assert before is not None
    beyond = offsets._replace(transactions=offsets.transactions + 3)
    fleet.redis.set(fleet.keys(NUMBER).position, bytes(before._replace(next=beyond)))
    why = parked_at(fleet.start(), NUMBER)
    assert f"transactions ends at {offsets.transactions}, and was folded or judged up to {beyond.transactions}" in why


def test_offsets_that_somebody_else_committed_are_parked(fleet: Fleet) -> None:
    with Log(fleet.settings) as log:
        fleet.wait_until_nobody_is_in_the_group()
        offsets = Offsets(*(one.offset for one in log.committed(NUMBER)))
        log.commit(NUMBER, offsets, ["some other tool was here", "", ""])
    worker = fleet.start()
    assert "some other tool was here" in parked_at(worker, NUMBER)


def test_a_position_that_is_none_is_parked(fleet: Fleet) -> None:
    fleet.redis.set(fleet.keys(NUMBER).position, "?")
    worker = fleet.start(plant=LOOKS_SOON_AGAIN)
    assert "features rebuild" in parked_at(worker, NUMBER)
    status, said = fleet.run("features", "rebuild", "--partition", str(NUMBER))
    assert status == 0, said
    fleet.send(fleet.life.messages(100))
    fleet.wait_for_verdicts(300)
    fleet.check(verdicts=300)


def test_topics_made_anew_are_another_log(fleet: Fleet) -> None:
    make_anew(fleet, *INPUTS)
    fleet.send(fleet.life.messages(40))
    worker = fleet.launch()
    assert "made anew" in parked_at(worker, 0, 1, 2, 3)
    assert len(fleet.answers.verdicts) == 200


def test_profiles_of_another_format_are_parked_until_they_are_rebuilt(fleet: Fleet) -> None:
    """As after a release that folds otherwise: what a position says must be what whoever writes it would write."""
    worker = fleet.launch(plant=LOOKS_SOON_AGAIN, future_tolerance=30)
    assert "features rebuild" in parked_at(worker, 0, 1, 2, 3)
    fleet.send(fleet.life.messages(100))
    status, said = fleet.run("features", "rebuild", future_tolerance=30)
    assert status == 0, said
    fleet.wait_for_verdicts(300)
    fleet.adopt(future_tolerance=30)
    fleet.check(verdicts=300)


def test_a_partition_is_rebuilt_beside_a_worker_that_serves_it(fleet: Fleet) -> None:
    worker = fleet.start()
    before = fleet.position(NUMBER)
    status, said = fleet.run("features", "rebuild", "--partition", str(NUMBER))
    assert status == 0, said
    after = fleet.position(NUMBER)
    assert before is not None
    assert after is not None
    assert after.next == before.next
    assert after.epoch != before.epoch
    fleet.send(fleet.life.messages(100))
    worker.log.wait_for("over again")
    fleet.wait_for_verdicts(300)
    fleet.check(verdicts=300)
    left = list(fleet.redis.scan_iter(match=fleet.keys(NUMBER).of_epoch(before.epoch)))
    assert left == [], "the old epoch's profiles are removed"
