"""An archive holds what was accepted once, as often as it was sent: training takes what it can learn from, and names the rest."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features.archive import MOST_ATTRIBUTES, Archive
from schemas.encoding import encode_labels, encode_transactions
from schemas.label import Label
from schemas.mapping import Rejected
from schemas.topics import LABELS, TRANSACTIONS
from schemas.transaction import Transaction
from schemas.wire import encode
from tests.builders import a_label, a_transaction
from tests.unit.archives import add, an_archive, arrived, the_table
from tests.unit.pasts import a_past
from training.job import train
from training.narration import Silent
from training.reading import read
from training.settings import TrainingSettings
from training.validating import validate

SETTINGS: dict[str, Any] = {"trees": 2, "threads": 1}
PAST = a_past()
LATER = 1_800_000_000_000
"""Milliseconds: when all of it is published."""


def with_messages(folder: Path, *messages: Transaction | Label, past: tuple[pl.DataFrame, pl.DataFrame] = PAST) -> str:
    """The past, and behind it these, as an older release took them."""
    place = str(an_archive(folder / "archive", *past))
    for topic, kind in ((TRANSACTIONS, Transaction), (LABELS, Label)):
        some = [one for one in messages if isinstance(one, kind)]
        if some:
            keys = [f"{one.account_id}".encode() for one in some]
            sent = encode_transactions(past[0]) if topic is TRANSACTIONS else encode_labels(past[1])
            before = list(arrived(sent.values, sent.keys).partitions)
            told = arrived([encode(one) for one in some], keys, at=LATER)
            ends = {number: before.count(number) for number in range(4)}
            offsets = [ends[number] + told.partitions[:row].count(number) for row, number in enumerate(told.partitions)]
            add(the_table(place, topic), topic, type(told)(**{**vars(told), "offsets": offsets}))
    return place


def learnt_from(place: str, folder: Path, **settings: Any) -> tuple[Any, Sequence[Rejected]]:
    """A bundle, and what was left out of its past."""
    chosen = TrainingSettings(out=folder / "bundles", **(SETTINGS | settings))
    found = read(place, None, Silent(), attributes=chosen.attributes)
    trained = train(found.transactions, found.labels, settings=chosen, rejected=found.rejected, data=found.archive)
    return trained, found.rejected


REAL = a_transaction("real", occurred_at=PAST[0]["occurred_at"][0])


@pytest.mark.parametrize(
    ("message", "table", "reason"),
    [
        (a_transaction(occurred_at=datetime(1970, 1, 1, tzinfo=UTC)), "transactions", "before 1990"),
        (a_transaction(occurred_at=datetime(1, 1, 1, tzinfo=UTC)), "transactions", "before 1990"),
        (a_transaction(occurred_at=datetime(9999, 12, 31, tzinfo=UTC)), "transactions", "from 2100 on"),
        (
            a_label(REAL, known_at=REAL.occurred_at - timedelta(hours=9)),
            "labels",
            "known before its transaction occurred",
        ),
        (
            a_label(REAL, known_at=datetime(2029, 1, 1, tzinfo=UTC)),
            "labels",
            "known later than its message was published",
        ),
        (a_label(REAL, known_at=datetime(9999, 12, 31, tzinfo=UTC)), "labels", "from 2100 on"),
    ],
    ids=str,
)
def test_one_odd_message_of_an_older_release_is_left_out_and_named(
    tmp_path: Path, message: Transaction | Label, table: str, reason: str
) -> None:
    place = with_messages(tmp_path, message)
    found = read(place, None, Silent())

    assert found.transactions.height == PAST[0].height
    assert found.labels.height == PAST[1].height
    (left_out,) = found.rejected
    assert (left_out.table, left_out.count) == (table, 1)
    assert reason in str(left_out.reasons)
    said = validate(found.transactions, found.labels, rejected=found.rejected, of_a_log=True)
    assert said.refused == ()
    assert any(finding.about == table and reason in finding.says for finding in said.odd)
    assert Archive.open(place).places().height == PAST[0].height


def test_a_past_with_odd_messages_is_learnt_from_as_if_they_were_not_there(tmp_path: Path) -> None:
    odd: list[Transaction | Label] = [
        a_transaction("epoch", occurred_at=datetime(1970, 1, 1, tzinfo=UTC)),
        a_label(a_transaction("t1"), known_at=datetime(2029, 1, 1, tzinfo=UTC)),
    ]
    with_them, left_out = learnt_from(with_messages(tmp_path / "a", *odd), tmp_path / "a")
    without, nothing = learnt_from(with_messages(tmp_path / "b"), tmp_path / "b")

    assert [one.table for one in left_out] == ["transactions", "labels"]
    assert nothing == []
    assert with_them.metrics == without.metrics


def test_a_past_that_was_sent_twice_is_learnt_from(tmp_path: Path) -> None:
    """A second replay: times go backwards, and each id is there twice; what a worker takes for a duplicate counts once."""
    transactions, labels = past = a_past(days=28)
    twice = (pl.concat([transactions, transactions, transactions]), pl.concat([labels, labels]))
    at = [1_772_452_800_000 + row for row in range(3 * transactions.height)]
    place = str(an_archive(tmp_path / "twice", *twice, at=at))
    found = read(place, None, Silent())
    said = validate(found.transactions, found.labels, of_a_log=True)

    assert said.refused == ()
    assert any("repeat the id of another" in finding.says for finding in said.odd)
    trained, _ = learnt_from(place, tmp_path)
    once, _ = learnt_from(with_messages(tmp_path / "once", past=past), tmp_path / "once")
    assert trained.manifest.trained["rows"] == once.manifest.trained["rows"]


def test_in_a_table_it_is_still_a_fault(tmp_path: Path) -> None:
    transactions, labels = PAST
    said = validate(pl.concat([transactions, transactions]), labels)

    assert {finding.about for finding in said.refused} == {"transaction_id", "occurred_at"}


def with_attributes(transactions: pl.DataFrame, attributes: Sequence[dict[str, Any]]) -> list[Transaction]:
    return [
        a_transaction(
            row["transaction_id"], account_id=row["account_id"], occurred_at=row["occurred_at"], attributes=some
        )
        for row, some in zip(transactions.iter_rows(named=True), attributes, strict=True)
    ]


def an_archive_of(folder: Path, transactions: Sequence[Transaction]) -> Archive:
    an_archive(folder, *(frame.head(0) for frame in PAST))
    keys = [one.account_id.encode() for one in transactions]
    add(the_table(folder), TRANSACTIONS, arrived([encode(one) for one in transactions], keys))
    return Archive.open(str(folder))


def test_names_of_a_few_transactions_are_no_columns_and_are_counted(tmp_path: Path) -> None:
    attributes: list[dict[str, Any]] = [{"tip": n % 7} for n in range(1_500)]
    attributes[0] |= {f"noise {n}": n for n in range(4_000)}
    for row in range(12):
        attributes[row] |= {"just enough": row}
    said: list[Rejected] = []
    found, _ = an_archive_of(tmp_path, with_attributes(PAST[0].head(1_500), attributes)).past(on_left_out=said.append)

    assert [name for name in found.columns if name.startswith("attributes.")] == [
        "attributes.just enough",
        "attributes.tip",
    ]
    assert found["attributes.tip"].null_count() == 0
    assert found["attributes.just enough"].count() == 12
    (left_out,) = said
    assert (left_out.table, left_out.count, left_out.rows) == ("attributes", 4_000, 4_002)
    assert left_out.reasons == {"fewer than 10 transactions have them": 4_000}


def test_of_more_columns_than_anybody_learns_from_the_most_frequent_are_taken(tmp_path: Path) -> None:
    many = {f"a{n:04}": n for n in range(MOST_ATTRIBUTES + 20)}
    often = {name: value for name, value in many.items() if name >= "a0020"}
    said: list[Rejected] = []
    archive = an_archive_of(tmp_path, with_attributes(PAST[0].head(60), [many] * 20 + [often] * 40))
    found, _ = archive.past(on_left_out=said.append)

    assert [name for name in found.columns if name.startswith("attributes.")] == [
        f"attributes.{name}" for name in often
    ]
    assert said[0].reasons == {"1,000 others are more frequent": 20}


def test_only_the_columns_that_are_wanted_are_read(tmp_path: Path) -> None:
    archive = an_archive_of(
        tmp_path, with_attributes(PAST[0].head(3), [{"tip": 1, "note": "x", "channel": 5}, {"tip": 2}, {"note": "y"}])
    )

    assert "attributes.tip" not in archive.past(attributes=())[0].columns
    wanted = archive.past(attributes=["channel", "attributes.tip"])[0]
    assert [name for name in wanted.columns if name.startswith("attributes.")] == ["attributes.tip"]
    assert wanted.sort("transaction_id")["attributes.tip"].to_list() == [1, 2, None]


def test_gaps_that_an_older_release_took_for_values_are_missing(tmp_path: Path) -> None:
    transactions = with_attributes(PAST[0].head(2), [{"note": "", "tip": 1}, {"note": "x", "tip": 2}])
    found, _ = an_archive_of(tmp_path, transactions).past()

    assert sorted(found["attributes.note"].to_list(), key=str) == sorted([None, "x"], key=str)
    assert found["attributes.tip"].dtype == pl.Int64
    assert np.array_equal(np.sort(found["attributes.tip"].to_numpy()), [1, 2])


def test_what_is_sent_again_is_not_held_up_by_one_of_the_year_9999(tmp_path: Path) -> None:
    transactions = with_attributes(PAST[0].head(3), [{}] * 3)
    ages = [a_transaction("never", occurred_at=datetime(9999, 1, 1, tzinfo=UTC)), *transactions]
    sent, _ = an_archive_of(tmp_path, ages).messages()

    assert sent.height == 4
    assert sent["occurred_at"].max() == PAST[0]["occurred_at"][2]
