"""kill -9 of the archiver, twenty times under load: every offset once in the tables."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from deploy.local.jars import PROJECT
from deploy.local.stack import LocalStack
from features.archive_tables import ARCHIVED, Place, Table
from features.log import Log
from tests.fleet.fleet import Fleet
from tests.fleet.processes import Forked
from tests.fleet.traffic import Traffic

KILLS, RATE = 20, 1_000.0
SUMMARY = PROJECT / ".local" / "faults" / "archive.txt"


def test_archive_kills(
    stack: LocalStack, prefix: str, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(7)

    def start() -> Forked:
        own = fleet.environment(archive=tmp_path, archive_rows=300, archive_seconds=0.05)
        return Forked(["training", "archive"], own)

    with Fleet(stack, prefix, bundle) as fleet:
        fleet.start()
        with Traffic(fleet, rate=RATE) as traffic:
            for _ in range(KILLS):
                archiver = start()
                archiver.log.wait_for("archived", seconds=120)
                time.sleep(dice.uniform(0, 1))  # it writes all the time: any moment is in the middle of something
                archiver.kill()
        fleet.wait_until_settled(120)
        status, said = fleet.run("training", "archive", "--until-end", archive=tmp_path)
        assert status == 0, said
        counts = {}
        with Log(fleet.settings) as log:
            for topic in ARCHIVED:
                table = Table.at(Place.of(str(tmp_path)), topic.name)
                assert table is not None
                rows = table.read(table.scan("partition", "offset")).rows()
                there = [
                    (number, one.offset)
                    for number in range(fleet.settings.partitions)
                    for records in log.read(topic, number, *log.bounds(topic, number))
                    for one in records
                ]
                assert sorted(rows) == there, topic.name
                counts[topic.name] = len(rows)
        assert counts["transactions"] >= len(traffic.sent_at)
        SUMMARY.parent.mkdir(parents=True, exist_ok=True)
        SUMMARY.write_text(f"{KILLS} kills, {counts}: every offset once\n")
        with capsys.disabled():
            print(f"\n{KILLS} kills of the archiver, {counts}: every offset once", flush=True)
