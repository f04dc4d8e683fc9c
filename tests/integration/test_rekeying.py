"""After another key nothing is folded by the hashes of the one before: they are derived anew, and the checker finds all well."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from deploy.local.stack import LocalStack
from features.log import Log
from schemas.activity import decode_activity
from schemas.topics import ACTIVITY
from tests.builders import ID_KEY
from tests.fleet import planted
from tests.fleet.fleet import Fleet

pytestmark = pytest.mark.integration

LOOKS_SOON_AGAIN = partial(planted.set_constant, "streaming.intake", "PARKED_AGAIN", 0.3)
OTHER_KEY = ID_KEY.replace("0", "1")


def test_another_key_means_that_activity_is_derived_anew(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.start()
        for _ in range(2):  # the second half is judged on activity of the first
            fleet.send(fleet.life.messages(150))
            fleet.wait_until_settled()
        fleet.wait_for_verdicts(300)
        worker.stop()
        before = by_key(fleet)

        fleet.adopt(id_key=OTHER_KEY)
        worker = fleet.launch(plant=LOOKS_SOON_AGAIN)
        worker.log.wait_for("parked: ", times=4)
        worker.wait_until(lambda: len(worker.readiness()["parked"]) == 4)
        assert "its profiles are of format" in worker.readiness()["parked"]["0"]
        for number in range(4):
            fleet.redis.delete(fleet.keys(number).position)
        worker.wait_until(lambda: all("`features rekey`" in why for why in worker.readiness()["parked"].values()))
        assert "is hashed by the key 1d6fd895, FRAUD_ID_KEY is" in worker.readiness()["parked"]["0"]
        assert fleet.run("features", "check")[1].count("`features rekey`") == 4
        worker.stop()
        fleet.wait_until_nobody_is_in_the_group()

        status, said = fleet.run("features", "rebuild")
        assert (status, "`features rekey` derives it anew" in said) == (2, True)
        status, said = fleet.run("features", "rekey", "--json")
        assert (status, json.loads(said)) == (0, {"derived": sum(before.values()), "gone": 0})
        assert sorted(by_key(fleet).values()) == [sum(before.values())] * 2
        assert json.loads(fleet.run("features", "rekey", "--json")[1]) == {"derived": 0, "gone": 0}
        assert fleet.run("features", "rebuild")[0] == 0
        for number, end in ends_of_our_activity(fleet).items():  # all of it is folded before anybody is judged
            position = fleet.position(number)
            assert position is not None
            assert position.next.activity >= end

        fleet.start()
        fleet.send(fleet.life.messages(300))
        fleet.wait_for_verdicts(600)
        fleet.wait_until_settled()
        report = fleet.report()
        assert (report.well, report.vectors_different, report.verdicts, report.pending) == (True, 0, 600, 0), report
        assert report.vectors_compared == 600 - report.vectors_by_another_key
        assert 100 < report.vectors_by_another_key <= 150
        assert report.profiles_compared > 0


def by_key(fleet: Fleet) -> dict[str, int]:
    """How many messages on the activity topic are by each key."""
    found: dict[str, int] = {}
    with Log(fleet.settings) as log:
        for number in range(fleet.settings.partitions):
            for records in log.read(ACTIVITY, number, *log.bounds(ACTIVITY, number)):
                for record in records:
                    key = decode_activity(record.value).hashed_by
                    found[key] = found.get(key, 0) + 1
    return found


def ends_of_our_activity(fleet: Fleet) -> dict[int, int]:
    """Of each partition number that has some by this installation's key: behind the last of it."""
    ends: dict[int, int] = {}
    with Log(fleet.settings) as log:
        for number in range(fleet.settings.partitions):
            for records in log.read(ACTIVITY, number, *log.bounds(ACTIVITY, number)):
                for record in records:
                    if decode_activity(record.value).hashed_by == fleet.settings.rules().keys.fingerprint:
                        ends[number] = record.offset + 1
    assert len(ends) > 1
    return ends


def test_a_worker_without_a_key_refuses_and_says_how_to_make_one(stack: LocalStack, prefix: str, bundle: Path) -> None:
    with Fleet(stack, prefix, bundle) as fleet:
        worker = fleet.launch(id_key=None)

        assert worker.wait() == 2
        assert "FRAUD_ID_KEY is missing" in str(worker.log)
        for command in (["features", "rebuild"], ["features", "rekey"], ["loadgen", "check"]):
            status, said = fleet.run(*command, id_key=None)
            assert (status, "`openssl rand -hex 32` makes one" in said) == (2, True), command
