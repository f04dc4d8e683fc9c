"""The topics into the archive's tables, on a real Kafka: each message once, whatever ends whom and when."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from confluent_kafka import TopicPartition
from typer.testing import CliRunner

from deploy.local.stack import LocalStack
from features.archive import Archive
from features.archive_tables import ARCHIVED, GAPS, Overtaken, Place, Table
from features.catalogue import OF_THE_ACCOUNT, OF_THE_COUNTERPARTY, column
from features.hash_keys import HashKeys
from features.log import Log
from features.settings import Settings
from schemas.errors import WrongSettings
from schemas.topics import ACTIVITY, DEAD_LETTERS, LABELS, TRANSACTIONS, VERDICTS, Topic
from schemas.verdict import Verdict, decode_verdict
from tests.builders import ID_KEY
from tests.conftest import a_prefix
from tests.fleet.fleet import Fleet
from tests.fleet.messages import a_label_of, a_transaction, message, now, spoiled
from tests.fleet.processes import Forked
from tests.integration.waiting import within
from training import replay
from training.__main__ import app
from training.archive import Archived, Archiver
from training.archive_limits import Limits
from training.served import instead_of, read_served

NEVER = threading.Event()


@pytest.fixture
def fleet(stack: LocalStack, prefix: str, bundle: Path) -> Iterator[Fleet]:
    with Fleet(stack, prefix, bundle) as fleet:
        yield fleet


def archive(fleet: Fleet, folder: Path, **limits: Any) -> Archived:
    """All that is there now."""
    archiver = Archiver(fleet.settings, Place.of(str(folder)), limits=Limits(**limits))
    return archiver.run(NEVER, until_end=True)


def records_of(settings: Settings, topic: Topic) -> list[tuple[Any, ...]]:
    """What lies on a topic: place, time, key and value."""
    with Log(settings) as log:
        return [
            (one.partition, one.offset, one.timestamp, one.key, one.value)
            for number in range(settings.partitions)
            for records in log.read(topic, number, *log.bounds(topic, number))
            for one in records
        ]


def rows_of(folder: Path, topic: Topic) -> list[tuple[Any, ...]]:
    """The same of a table, in order."""
    table = Table.at(Place.of(str(folder)), topic.name)
    assert table is not None
    rows = table.read(table.scan("partition", "offset", "timestamp", "key", "value"))
    return rows.with_columns(pl.col("timestamp").dt.epoch("ms")).sort("partition", "offset").rows()


def assert_all_is_archived(fleet: Fleet, folder: Path) -> None:
    for topic in ARCHIVED:
        assert rows_of(folder, topic) == records_of(fleet.settings, topic), topic.name


def test_all_topics_are_archived_once_over_restarts_and_learnt_from(fleet: Fleet, tmp_path: Path) -> None:
    one, twice = a_transaction("one", account_id="account-0001"), a_transaction("twice", account_id="account-0002")
    fleet.start()
    fleet.send([*fleet.life.messages(150), message(one, value=spoiled(one, amount=-1)), message(one, value=b"{")])
    fleet.wait_until_settled()
    first = archive(fleet, tmp_path, rows=40)
    fleet.send([*fleet.life.messages(60), message(twice), message(twice)])
    fleet.wait_until_settled()
    second = archive(fleet, tmp_path)

    assert_all_is_archived(fleet, tmp_path)
    assert (first.rows["verdicts"], second.rows["verdicts"], first.rows["dead-letters"]) == (150, 61, 2)
    assert archive(fleet, tmp_path).total == 0
    transactions, labels = Archive.open(str(tmp_path)).past()
    assert transactions.height == 212  # a duplicate is the kernel's to see
    assert labels.height == len(records_of(fleet.settings, LABELS))
    letters = Table.at(Place.of(str(tmp_path)), DEAD_LETTERS.name)
    assert letters is not None
    assert sorted(letters.read(letters.scan("error"))["error"]) == ["not-json", "out-of-range"]


def test_vectors_as_served_are_those_of_a_replay_but_where_a_worker_had_folded_less(
    fleet: Fleet, tmp_path: Path, bundle: Path
) -> None:
    """The last fraud's label comes when its account has paid once more; others may be overtaken by a transaction."""
    fleet.start()
    fleet.send(fleet.life.messages(300))
    fleet.wait_until_settled()
    missed = a_transaction("missed", account_id="late", occurred_at=now() - timedelta(minutes=9))
    after = a_transaction("after", account_id="late", occurred_at=now())
    fleet.send([message(missed), message(after)])
    fleet.wait_for_verdicts(302)
    fleet.send([message(a_label_of(missed, known_at=after.occurred_at - timedelta(minutes=1)))])
    fleet.wait_until_settled()
    archive(fleet, tmp_path)

    found = Archive.open(str(tmp_path), also=(VERDICTS,))
    served = read_served(found, bundle.parent)
    transactions, labels = found.past()
    replayed = replay.vectors(transactions, labels, keys=HashKeys.of(ID_KEY))

    assert served.there.all()
    by_id = {one: row for row, one in enumerate(transactions["transaction_id"])}
    unlike = served.vectors.view(np.uint32) != replayed.vectors.view(np.uint32)
    assert unlike[by_id["after"], column("account_known_frauds")]
    heard = table_of(tmp_path, LABELS, "account_id", "partition", "offset", "known_at")
    activity = table_of(tmp_path, ACTIVITY, "counterparty_id", "offset", "occurred_at", "known_at")
    for verdict in verdicts_of(tmp_path):
        row = by_id[verdict.transaction_id]
        if unlike[row, OF_THE_ACCOUNT].any():
            later = heard.filter(
                (pl.col("account_id") == verdict.account_id)
                & (pl.col("partition") == verdict.source.partition)
                & (pl.col("offset") >= verdict.folded.labels)
                & (pl.col("known_at") <= verdict.occurred_at)
            )
            assert later.height, "the worker had folded all labels, and should have seen what the replay sees"
        if unlike[row, OF_THE_COUNTERPARTY].any():
            later = activity.filter(
                (pl.col("counterparty_id") == transactions["counterparty_id"][row])
                & (pl.col("offset") > (-1 if verdict.folded.activity is None else verdict.folded.activity))
                & (pl.max_horizontal("occurred_at", "known_at") <= verdict.occurred_at)
            )
            assert later.height, "the worker had folded all activity, and should have seen what the replay sees"
    assert instead_of(replayed, served)[1].unlike == int(unlike.any(axis=1).sum())


def verdicts_of(folder: Path) -> list[Verdict]:
    table = Table.at(Place.of(str(folder)), VERDICTS.name)
    assert table is not None
    return [decode_verdict(value) for value in table.read(table.scan("value"))["value"]]


def table_of(folder: Path, topic: Topic, *columns: str) -> pl.DataFrame:
    table = Table.at(Place.of(str(folder)), topic.name)
    assert table is not None
    return table.read(table.scan(*columns))


def test_two_archivers_at_once_double_nothing_and_one_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    fleet.send(fleet.life.messages(50))
    first, second = (Archiver(fleet.settings, Place.of(str(tmp_path)), limits=Limits(rows=1)) for _ in range(2))
    with Log(fleet.settings) as log:
        first._open(log)
        second._open(log)
    first.run(NEVER, until_end=True)

    with pytest.raises(Overtaken, match="another archiver"):
        _go_on(second, fleet)

    assert_all_is_archived(fleet, tmp_path)


def _go_on(archiver: Archiver, fleet: Fleet) -> None:
    """From what it knew before the other wrote."""
    consumer = archiver._reader()
    with Log(fleet.settings) as log:
        try:
            archiver._archive(log, consumer, archiver._ends(log), NEVER)
        finally:
            consumer.close()


def test_what_retention_took_before_the_archiver_came_is_said_and_recorded_once(
    fleet: Fleet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    alice = [message(a_transaction(f"t-{number}", account_id="alice")) for number in range(9)]
    number = fleet.send(alice[:5])[0].partition
    archive(fleet, tmp_path)
    fleet.send(alice[5:8])
    cut(fleet, TRANSACTIONS, number, 7)

    gaps = archive(fleet, tmp_path).gaps
    fleet.send(alice[8:])
    again = archive(fleet, tmp_path).gaps

    assert [(gap.partition, gap.begin, gap.end) for gap in gaps] == [(number, 5, 7)]
    assert again == []
    assert f"[{number}]: offsets 5 to 6 were gone from the log, and are in no archive" in caplog.text
    assert [row[1] for row in rows_of(tmp_path, TRANSACTIONS)] == [0, 1, 2, 3, 4, 7, 8]
    table = Table.at(Place.of(str(tmp_path)), GAPS)
    assert table is not None
    assert table.read(table.scan("topic", "partition", "begin", "end")).rows() == [
        (fleet.settings.topic(TRANSACTIONS), number, 5, 7)
    ]
    assert Archive.open(str(tmp_path)).gaps() == 1


def test_what_retention_takes_from_under_a_running_archiver_is_recorded_too(fleet: Fleet, tmp_path: Path) -> None:
    sent = 0

    def send(count: int) -> int:
        """So many more; the partition that they are in."""
        nonlocal sent
        some = [message(a_transaction(f"t-{number}", account_id="alice")) for number in range(sent, sent + count)]
        sent += count
        return fleet.send(some)[0].partition

    number = send(3)
    archiver = start(fleet, tmp_path, seconds=0.1)
    archiver.log.wait_for("archived 3 transactions")
    said = ""
    while "gone" not in said:
        archiver.pause()
        send(2)  # an answer to what it had asked for is on its way
        send(3)  # and may even hold these: then it has them all, and retention must be quicker
        cut(fleet, TRANSACTIONS, number, sent)
        archiver.resume()
        said = archiver.log.wait_for("were gone from the log", f"archived {sent} transactions")
    send(1)
    within(60, lambda: rows_of(tmp_path, TRANSACTIONS)[-1][1] == sent - 1)

    assert archiver.stop() == 0

    table = Table.at(Place.of(str(tmp_path)), GAPS)
    assert table is not None
    ((begin, end),) = table.read(table.scan("begin", "end")).rows()
    assert [row[1] for row in rows_of(tmp_path, TRANSACTIONS)] == [*range(begin), sent - 1]
    assert end == sent - 1


def cut(fleet: Fleet, topic: Topic, number: int, begin: int) -> None:
    """As retention does: the log of a partition begins at `begin` from now on."""
    where = TopicPartition(fleet.settings.topic(topic), number, begin)
    (done,) = fleet.admin.delete_records([where]).values()
    done.result()


def start(fleet: Fleet, folder: Path, **settings: object) -> Forked:
    """An archiver's process."""
    own = {f"archive_{name}": value for name, value in settings.items()}
    return Forked(["training", "archive"], fleet.environment(archive=folder, **own))


def test_topics_made_anew_are_refused_with_what_to_do(fleet: Fleet, tmp_path: Path) -> None:
    fleet.send(fleet.life.messages(5))
    archive(fleet, tmp_path)
    name = fleet.settings.topic(TRANSACTIONS)
    fleet.admin.delete_topics([name])[name].result()
    fleet.stack.create_topics(fleet.settings.topic_prefix, fleet.settings.partitions)
    fleet.send(fleet.life.messages(1))  # until all brokers know of it

    with pytest.raises(WrongSettings, match=r"was made anew.*another FRAUD_ARCHIVE"):
        archive(fleet, tmp_path)


def test_told_to_stop_an_archiver_leaves_nothing_unwritten(fleet: Fleet, tmp_path: Path) -> None:
    sent = fleet.send(fleet.life.messages(40))
    stop = threading.Event()
    archiver = Archiver(fleet.settings, Place.of(str(tmp_path)), limits=Limits(seconds=1_000))
    running = threading.Thread(target=archiver.run, args=(stop,), daemon=True)
    running.start()

    def holds_all() -> bool:
        assert running.is_alive(), "the archiver has ended by itself"
        return sum(rows.height for stream in [*archiver._streams.values()] for rows in stream.waiting) >= len(sent)

    try:
        within(60, holds_all)
    finally:
        stop.set()
        running.join(60)

    assert not running.is_alive()
    assert_all_is_archived(fleet, tmp_path)


def test_the_commands_say_what_they_did_and_what_is_there(fleet: Fleet, tmp_path: Path) -> None:
    fleet.send(fleet.life.messages(10))
    archive(fleet, tmp_path / "archive")
    fleet.send(fleet.life.messages(40))

    def run(*command: str, **settings: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["archive", *command], env=fleet.environment(**settings))
        return done.exit_code, done.stdout

    status, said = run("--until-end", "--json", archive=tmp_path / "archive")
    shown = run("show", "--json", archive=tmp_path / "archive")
    tidied = run("tidy", "--json", archive=tmp_path / "archive")
    refused = fleet.run("training", "archive", "--until-end", archive=Path(__file__).parent)

    assert status == 0, said
    assert json.loads(said)["rows"]["transactions"] == 40
    assert json.loads(shown[1])["tables"]["transactions"] == {"version": 2, "rows": 50, "files": 2}
    assert json.loads(tidied[1])["transactions"] == {"compacted": 2, "into": 1, "removed": 0}
    assert refused[0] == 2
    assert "an empty or a new folder would do" in refused[1]


def test_an_archive_is_sent_again_as_it_came(fleet: Fleet, stack: LocalStack, tmp_path: Path) -> None:
    one = a_transaction("one", account_id="account-0001")
    fleet.send([*fleet.life.messages(40), message(one, value=spoiled(one, amount=-1))])
    archive(fleet, tmp_path)
    elsewhere = Settings(kafka_url=stack.kafka_url, topic_prefix=a_prefix(), partitions=fleet.settings.partitions)
    stack.create_topics(elsewhere.topic_prefix, elsewhere.partitions)

    status, said = fleet.run("loadgen", "replay", str(tmp_path), "--rate", "1000", topic_prefix=elsewhere.topic_prefix)

    assert status == 0, said
    assert [(row[0], *row[3:]) for row in records_of(elsewhere, TRANSACTIONS)] == [
        (row[0], *row[3:]) for row in records_of(fleet.settings, TRANSACTIONS)
    ]
