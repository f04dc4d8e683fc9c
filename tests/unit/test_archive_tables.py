"""The archive's tables: every row once, whoever else writes; and what lies in them read back."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from deltalake import DeltaTable
from polars.testing import assert_frame_equal

from deploy.local.ports import free_ports
from features.archive import Archive
from features.archive_tables import ArchiveUnusable, Overtaken, Place, make_table, source_of
from schemas.avro_wire import NO_REGISTRY
from schemas.encoding import encode_transactions
from schemas.errors import WrongSettings
from schemas.topics import TRANSACTIONS
from schemas.wire import encode
from tests.builders import a_dead_letter, a_transaction
from tests.unit.archives import add, an_archive, arrived, the_table
from tests.unit.full_disk import full_after
from tests.unit.pasts import a_past
from training.archive_rows import Arrived, rows_of
from training.job import train
from training.settings import TrainingSettings

PARTS = source_of("id", 0), source_of("id", 1)


def rows(*offsets: int, partition: int = 0) -> pl.DataFrame:
    """Transactions at these offsets, of one account."""
    some = Arrived(
        partitions=[partition] * len(offsets),
        offsets=offsets,
        timestamps=[1_772_452_800_000] * len(offsets),
        keys=[b"alice"] * len(offsets),
        values=[encode(a_transaction(f"t-{partition}-{offset}")) for offset in offsets],
    )
    return rows_of(TRANSACTIONS, some, NO_REGISTRY)


def offsets_in(folder: Path) -> list[tuple[int, int]]:
    table = the_table(folder)
    return sorted(table.read(table.scan("partition", "offset")).rows())


def test_a_table_knows_where_it_goes_on(tmp_path: Path) -> None:
    the_table(tmp_path).append(rows(0, 1, 2), {PARTS[0]: 3})
    the_table(tmp_path).append(rows(7, partition=1), {PARTS[1]: 9})

    again = the_table(tmp_path)

    assert (again.reached(PARTS[0]), again.reached(PARTS[1]), again.reached(source_of("id", 2))) == (3, 9, None)


def test_who_comes_second_with_the_same_rows_is_refused(tmp_path: Path) -> None:
    the_table(tmp_path)
    first, second = the_table(tmp_path), the_table(tmp_path)
    first.append(rows(0, 1), {PARTS[0]: 2})

    with pytest.raises(Overtaken, match="another archiver"):
        second.append(rows(0), {PARTS[0]: 1})

    assert offsets_in(tmp_path) == [(0, 0), (0, 1)]


def test_a_commit_of_another_partition_does_not_make_a_stale_archiver_believed(tmp_path: Path) -> None:
    """It brings the handle to a version that holds the other's rows: delta-rs has nothing to refuse then."""
    the_table(tmp_path)
    first, second = the_table(tmp_path), the_table(tmp_path)
    assert second.reached(PARTS[0]) is None
    first.append(rows(0, 1), {PARTS[0]: 2})
    second.append(rows(0, partition=1), {PARTS[1]: 1})

    with pytest.raises(Overtaken):
        second.append(rows(0), {PARTS[0]: 1})

    assert offsets_in(tmp_path) == [(0, 0), (0, 1), (1, 0)]


def test_where_it_goes_on_outlives_the_log_of_the_table(tmp_path: Path) -> None:
    table = the_table(tmp_path)
    table.append(rows(5, partition=1), {PARTS[1]: 6})
    for offset in range(3):
        table.append(rows(offset), {PARTS[0]: offset + 1})
    log = tmp_path / "transactions" / "_delta_log"
    DeltaTable(log.parent).create_checkpoint()
    for commit in log.glob("*.json"):
        commit.unlink()

    again = the_table(tmp_path)

    assert (again.reached(PARTS[0]), again.reached(PARTS[1]), again.count()) == (3, 6, 4)


def test_tidying_beside_an_archiver_changes_no_row(tmp_path: Path) -> None:
    archiver = the_table(tmp_path)
    for offset in range(4):
        archiver.append(rows(offset), {PARTS[0]: offset + 1})
    tidier = the_table(tmp_path)
    archiver.append(rows(4), {PARTS[0]: 5})

    assert tidier.compact() == (4, 1)
    archiver.append(rows(5), {PARTS[0]: 6})

    assert offsets_in(tmp_path) == [(0, offset) for offset in range(6)]
    assert the_table(tmp_path).files() == 3


def test_two_who_tidy_at_once_double_no_row(tmp_path: Path) -> None:
    """delta-rs lets both replace the same files."""
    for offset in range(4):
        the_table(tmp_path).append(rows(offset), {PARTS[0]: offset + 1})
    first, second = the_table(tmp_path), the_table(tmp_path)

    assert first.compact() == (4, 1)
    assert second.compact() == (0, 0)

    assert offsets_in(tmp_path) == [(0, offset) for offset in range(4)]


def test_old_files_go_and_so_does_what_a_killed_archiver_left_but_nothing_that_is_new(tmp_path: Path) -> None:
    for offset in range(3):
        the_table(tmp_path).append(rows(offset), {PARTS[0]: offset + 1})
    table = the_table(tmp_path)
    (day,) = (tmp_path / "transactions").glob("day=*")
    left, about_to_be_committed = day / "part-left.parquet", day / "part-new.parquet"
    left.write_bytes(b"PAR1")
    about_to_be_committed.write_bytes(b"PAR1")
    long_ago = time.time() - 3 * 3600
    os.utime(left, (long_ago, long_ago))

    assert table.vacuum(timedelta(hours=2)) == 1

    assert not left.exists()
    assert about_to_be_committed.exists()
    assert len(offsets_in(tmp_path)) == 3
    with pytest.raises(WrongSettings, match="an hour at least"):
        table.vacuum(timedelta(minutes=1))


def test_a_topic_made_anew_is_no_part_of_the_old_ones_table(tmp_path: Path) -> None:
    the_table(tmp_path, topic_id="old")

    with pytest.raises(WrongSettings, match=r"made anew.*another FRAUD_ARCHIVE"):
        the_table(tmp_path, topic_id="new")


def test_another_installation_needs_an_archive_of_its_own(tmp_path: Path) -> None:
    the_table(tmp_path)

    with pytest.raises(WrongSettings, match="archives the topic transactions, not bank-transactions"):
        make_table(Place.of(str(tmp_path)), TRANSACTIONS, topic_name="bank-transactions", topic_id="id")


def test_a_folder_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear all")
    (tmp_path / "transactions").mkdir()
    (tmp_path / "transactions" / "some.parquet").write_bytes(b"PAR1")

    with pytest.raises(WrongSettings, match=r"letters\.txt.*an empty or a new folder"):
        Place.of(str(tmp_path)).require_ours()
    with pytest.raises(WrongSettings, match="is a file"):
        Place.of(str(tmp_path / "letters.txt")).require_ours()
    with pytest.raises(WrongSettings, match="holds other things"):
        the_table(tmp_path)


def test_somebody_elses_table_is_left_alone(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1]}).write_delta(str(tmp_path / "transactions"))

    with pytest.raises(ArchiveUnusable, match="none of ours"):
        the_table(tmp_path)


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    table = the_table(tmp_path)
    table.append(rows(0), {PARTS[0]: 1})

    with full_after(1_000), pytest.raises(ArchiveUnusable, match=r"can't be read or written: .*(large|space)"):
        table.append(rows(*range(1, 500)), {PARTS[0]: 500})

    again = the_table(tmp_path)
    assert again.reached(PARTS[0]) == 1
    again.append(rows(*range(1, 500)), {PARTS[0]: 500})
    assert offsets_in(tmp_path) == [(0, offset) for offset in range(500)]


def test_an_s3_that_is_away_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "ENDPOINT_URL": f"http://127.0.0.1:{free_ports(1)[0]}",
        "REGION": "us-east-1",
        "ACCESS_KEY_ID": "a",
        "SECRET_ACCESS_KEY": "b",
        "ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)

    with pytest.raises(ArchiveUnusable, match=r"s3://bank/fraud/transactions can't be read or written: .*refused"):
        make_table(Place.of("s3://bank/fraud"), TRANSACTIONS, topic_name="transactions", topic_id="id")


def test_a_past_comes_back_as_it_was_archived(tmp_path: Path) -> None:
    transactions, labels = a_past(days=5)
    transactions = transactions.with_columns(pl.lit("chip").alias("attributes.entry_mode"))

    found = Archive.open(str(an_archive(tmp_path, transactions, labels, at=range(transactions.height)))).past()

    assert_frame_equal(found[0], transactions)
    assert_frame_equal(found[1], labels.sort("known_at"), check_row_order=False)
    assert found[1]["known_at"].is_sorted()


def test_an_account_keeps_its_order_whatever_the_clocks_say(tmp_path: Path) -> None:
    """A producer's clock went back: what lies behind on a partition still came after."""
    of_one = [a_transaction(f"t-{number}", account_id="alice") for number in range(3)]
    transactions = [a_transaction("t-other", account_id="bob"), *of_one]
    values = [encode(one) for one in transactions]
    an_archive(tmp_path, *(frame.head(0) for frame in a_past(days=1)))
    some = arrived(values, [one.account_id.encode() for one in transactions], at=[2_000, 5_000, 1_000, 3_000])
    add(the_table(tmp_path), TRANSACTIONS, some)

    found, _ = Archive.open(str(tmp_path)).past()

    assert found["transaction_id"].to_list() == ["t-other", "t-0", "t-1", "t-2"]


def test_what_was_refused_is_not_learnt_from(tmp_path: Path) -> None:
    transactions, labels = a_past(days=1)
    some = arrived(
        encode_transactions(transactions).values, [one.encode() for one in transactions["account_id"].to_list()]
    )
    letter = a_dead_letter(topic="transactions", partition=some.partitions[7], offset=some.offsets[7])
    of_labels = a_dead_letter(topic="labels", partition=some.partitions[9], offset=some.offsets[9])

    found, _ = Archive.open(str(an_archive(tmp_path, transactions, labels, refused=[letter, of_labels]))).past()

    assert set(transactions["transaction_id"]) - set(found["transaction_id"]) == {transactions["transaction_id"][7]}


def test_attributes_come_back_in_the_type_that_all_have(tmp_path: Path) -> None:
    attributes: list[dict[str, float | int | bool | str]] = [
        {"tip": 1.5, "card_present": True, "parts": 3, "mixed": 7}, {"tip": 2, "mixed": "x"}, {},
    ]  # fmt: skip
    transactions = [a_transaction(f"t-{i}", attributes=one) for i, one in enumerate(attributes)]
    an_archive(tmp_path, *(frame.head(0) for frame in a_past(days=1)))
    add(the_table(tmp_path), TRANSACTIONS, arrived([encode(one) for one in transactions], [b"alice"] * 3))

    found, _ = Archive.open(str(tmp_path)).past()

    assert found.select("^attributes[.].*$").to_dict(as_series=False) == {
        "attributes.card_present": [True, None, None],
        "attributes.mixed": ["7", "x", None],
        "attributes.parts": [3, None, None],
        "attributes.tip": [1.5, 2.0, None],
    }
    assert [found[f"attributes.{name}"].dtype for name in ("parts", "tip")] == [pl.Int64, pl.Float64]


def test_a_version_has_a_name_and_stays_what_it_was(tmp_path: Path) -> None:
    transactions, labels = a_past(days=2)
    then = str(Archive.open(str(an_archive(tmp_path, transactions.head(100), labels))))
    add(the_table(tmp_path), TRANSACTIONS, arrived([encode(a_transaction("later"))], [b"a-new-account"]))

    assert then == f"{tmp_path}@transactions=1,labels=1,dead-letters=0"
    assert Archive.is_one(then)
    assert Archive.open(then).past()[0].height == 100
    assert Archive.open(str(tmp_path)).past()[0].height == 101


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("@transactions=99,labels=1,dead-letters=0", "version 99"),
        ("@alerts=1", "there is no table 'alerts'"),
    ],
)
def test_a_version_that_is_not_there_is_said(tmp_path: Path, named: str, says: str) -> None:
    an_archive(tmp_path, *a_past(days=1))

    with pytest.raises(WrongSettings, match=says):
        Archive.open(f"{tmp_path}{named}")


def test_a_folder_without_tables_is_no_archive(tmp_path: Path) -> None:
    assert not Archive.is_one(str(tmp_path))
    with pytest.raises(WrongSettings, match="is no archive"):
        Archive.open(str(tmp_path))


def test_a_bundle_names_the_version_that_it_was_learnt_from(tmp_path: Path) -> None:
    archive = Archive.open(str(an_archive(tmp_path / "archive", *a_past())))
    settings = TrainingSettings(out=tmp_path / "bundles", trees=2, threads=1)

    trained = train(*archive.past(), settings=settings, data=str(archive))

    assert trained.manifest.trained["data"] == str(archive)


def test_what_is_sent_again_are_the_bytes_that_came(tmp_path: Path) -> None:
    transactions, labels = a_past(days=1)
    an_archive(tmp_path, transactions, labels)
    good = encode(a_transaction("t-good"))
    add(the_table(tmp_path), TRANSACTIONS, arrived([b"{", None, good], [b"a-key", b"a-key", b"a-key"]))

    found, told = Archive.open(str(tmp_path)).messages()

    assert sorted(found["value"]) == sorted([*encode_transactions(transactions).values, b"{", good])
    assert found["occurred_at"].is_sorted()
    assert told.height == labels.height


def test_duckdb_and_polars_read_what_is_there(tmp_path: Path) -> None:
    transactions, labels = a_past(days=2)
    table = str(an_archive(tmp_path, transactions, labels) / "transactions")

    by_polars = pl.scan_delta(table).select(pl.len(), pl.col("amount").sum()).collect().row(0)
    archived = DeltaTable(table).to_pyarrow_dataset()
    with duckdb.connect() as connection:
        query = "select count(*), sum(amount)::bigint, min(day)::varchar from archived"
        by_duckdb = connection.execute(query).fetchall()

    assert by_polars == (transactions.height, transactions["amount"].sum())
    assert by_duckdb == [(*by_polars, "2026-03-02")]
    assert archived is not None


@pytest.mark.slow
def test_spark_reads_what_is_there(tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="needs pyspark")
    delta = pytest.importorskip("delta", reason="needs delta-spark")
    from pyspark.sql import SparkSession  # type: ignore[import-not-found]  # noqa: PLC0415

    transactions, labels = a_past(days=2)
    an_archive(tmp_path, transactions, labels)
    builder = (
        SparkSession.builder.master("local[1]")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    )
    spark = delta.configure_spark_with_delta_pip(builder).getOrCreate()

    found = (
        spark.read.format("delta").load(str(tmp_path / "transactions")).selectExpr("count(*)", "sum(amount)").first()
    )

    assert tuple(found) == (transactions.height, transactions["amount"].sum())
