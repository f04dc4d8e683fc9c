"""The simulated world: one seed, one world; frauds that can be learnt, but not by their amount alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from loadgen.fraud_patterns import PATTERN_NAMES
from loadgen.simulate import Past, World, simulate, world_ending, world_of, write_past
from schemas.errors import WrongSettings
from schemas.tables import ATTRIBUTE, LABEL_COLUMNS, TRANSACTION_COLUMNS
from tests.unit.full_disk import full_after

START = datetime(2025, 10, 1, 7, 30, tzinfo=UTC)


def a_world(**changed: object) -> World:
    world: dict[str, object] = {
        "start": START,
        "end": START + timedelta(days=20),
        "accounts": 900,
        "counterparties": 300,
        "per_day": 4_000,
    }
    return World(**(world | changed))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def past() -> Past:
    return simulate(a_world())


def test_one_seed_makes_one_world_and_another_seed_another(past: Past) -> None:
    again = simulate(a_world())

    assert_frame_equal(past.transactions, again.transactions)
    assert_frame_equal(past.labels, again.labels)
    assert_frame_equal(past.truth, again.truth)
    assert not past.transactions.equals(simulate(a_world(seed=8)).transactions)


def test_a_longer_world_begins_with_the_shorter_one(past: Past) -> None:
    shorter = simulate(a_world(end=START + timedelta(days=9, hours=5)))

    assert_frame_equal(past.transactions.head(shorter.transactions.height), shorter.transactions)
    assert_frame_equal(past.labels.head(shorter.labels.height), shorter.labels)
    assert_frame_equal(past.truth.head(shorter.truth.height), shorter.truth)


def test_the_tables_have_the_columns_of_the_schema_in_the_order_of_the_log(past: Past) -> None:
    known = {name: kind for name, kind in past.transactions.schema.items() if not name.startswith(ATTRIBUTE)}

    assert known == dict(pl.Schema(TRANSACTION_COLUMNS))
    assert past.labels.schema == pl.Schema(LABEL_COLUMNS)
    assert past.transactions["occurred_at"].is_sorted()
    assert past.labels["known_at"].is_sorted()
    assert past.transactions["transaction_id"].is_unique().all()
    assert past.labels["label_id"].is_unique().all()
    assert past.transactions["occurred_at"].min() >= START  # type: ignore[operator]
    assert past.labels["known_at"].max() < START + timedelta(days=20)  # type: ignore[operator]
    assert past.transactions["amount"].min() > 0  # type: ignore[operator]


def test_about_one_payment_in_a_hundred_is_fraud_of_every_kind(past: Past) -> None:
    frauds = past.truth.filter("is_fraud")

    assert 0.006 < frauds.height / past.truth.height < 0.014
    assert set(frauds["pattern"]) == set(PATTERN_NAMES) - {None}
    assert past.truth.filter(~pl.col("is_fraud"))["pattern"].null_count() == past.truth.height - frauds.height
    assert past.transactions.height == pytest.approx(20 * 4_000, rel=0.08)


def test_a_fraud_becomes_known_within_one_to_seven_days_but_for_a_few(past: Past) -> None:
    frauds = past.truth.filter("is_fraud").join(past.transactions, on="transaction_id")
    old = frauds.filter(pl.col("occurred_at") < START + timedelta(days=13))
    labels = past.labels.filter("is_fraud").join(old, on="transaction_id")
    delay = labels["known_at"] - labels["occurred_at"]

    assert delay.min() >= timedelta(days=1)  # type: ignore[operator]
    assert delay.max() <= timedelta(days=7)  # type: ignore[operator]
    assert timedelta(days=3) < delay.median() < timedelta(days=6)  # type: ignore[operator]
    assert 0 < 1 - labels["transaction_id"].n_unique() / old.height < 0.05


def test_what_is_last_known_of_a_payment_is_true_once_everything_is_known() -> None:
    everything = simulate(a_world(end=START + timedelta(days=40)))
    old = everything.labels.filter(pl.col("occurred_at") < START + timedelta(days=25))
    last = old.group_by("transaction_id", maintain_order=True).last().join(everything.truth, on="transaction_id")
    of_two = old.filter(pl.len().over("transaction_id") > 1)

    assert (last["is_fraud"] == last["is_fraud_right"]).all()
    assert set(of_two.group_by("transaction_id").agg(pl.col("is_fraud").n_unique())["is_fraud"]) == {2}
    assert {"chargeback", "analyst"} == set(old["source"])
    assert old.filter(~pl.col("is_fraud")).height > 0


def test_a_label_repeats_what_the_transaction_said(past: Past) -> None:
    shared = ["transaction_id", "account_id", "counterparty_id", "occurred_at", "amount"]

    both = past.labels.select(shared).join(past.transactions.select(shared), on=shared, nulls_equal=True)

    assert both.height == past.labels.height


def test_the_amount_alone_says_little(past: Past) -> None:
    amounts = past.transactions.join(past.truth, on="transaction_id").filter(currency="EUR")
    dearest = amounts.sort("amount", descending=True).head(int(amounts["is_fraud"].sum()))

    assert dearest["is_fraud"].mean() < 0.4  # type: ignore[operator]


def test_a_compromised_counterparty_has_far_more_fraud_than_others(past: Past) -> None:
    all_of_it = past.transactions.join(past.truth, on="transaction_id")
    hit = all_of_it.filter(pattern="compromised-counterparty")["counterparty_id"].unique()
    elsewhere = all_of_it.filter(~pl.col("counterparty_id").is_in(hit.implode()))

    there = all_of_it.filter(pl.col("counterparty_id").is_in(hit.implode()))
    assert there["is_fraud"].sum() / there.height > 5 * elsewhere["is_fraud"].sum() / elsewhere.height


def test_people_sleep_at_night_where_they_live(past: Past) -> None:
    genuine = past.transactions.join(past.truth.filter(~pl.col("is_fraud")), on="transaction_id")
    local = genuine.select(
        (pl.col("occurred_at") + pl.duration(minutes=pl.col("utc_offset").cast(pl.Int64))).dt.hour().alias("hour")
    )["hour"]

    assert (local <= 5).sum() < 0.09 * len(local)
    assert genuine["utc_offset"].n_unique() > 3


def test_a_written_world_can_be_made_again(tmp_path: Path, past: Past) -> None:
    write_past(tmp_path / "past", a_world(), past)
    write_past(tmp_path / "past", a_world(), past)

    assert world_of(tmp_path / "past") == a_world()
    assert_frame_equal(pl.read_parquet(tmp_path / "past" / "transactions.parquet"), past.transactions)


def test_a_full_disk_is_said_and_leaves_the_world_that_was_there(tmp_path: Path, past: Past) -> None:
    write_past(tmp_path / "past", a_world(), past)

    with full_after(2_000), pytest.raises(WrongSettings, match=r"past can't be written: .*large"):
        write_past(tmp_path / "past", a_world(seed=8), past)

    assert [path.name for path in tmp_path.iterdir()] == ["past"]
    assert world_of(tmp_path / "past") == a_world()


def test_a_folder_with_something_else_in_it_is_not_replaced(
    tmp_path: Path, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "years of work.txt").write_text("…", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    for folder in (Path(), tmp_path, tmp_path / "years of work.txt"):
        with pytest.raises(WrongSettings, match="something else"):
            write_past(folder, a_world(), past)

    assert [path.name for path in tmp_path.iterdir()] == ["years of work.txt"]


def test_the_smallest_world_is_a_world() -> None:
    tiny = simulate(a_world(accounts=1, counterparties=14, per_day=3, end=START + timedelta(hours=1)))

    assert tiny.transactions.height < 10
    assert tiny.labels.schema == pl.Schema(LABEL_COLUMNS)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"accounts": 0}, r"`int` >= 1 - at `\$\.accounts`"),
        ({"counterparties": 3}, r"`int` >= 14 - at `\$\.counterparties`"),
        ({"per_day": 0}, r"`float` > 0\.0 - at `\$\.per_day`"),
        ({"days": -1}, "a world starts before it ends"),
        ({"days": 1e12}, r"a world of 1e\+12 days up to"),
        ({"seed": "x"}, r"Expected `int`, got `str` - at `\$\.seed`"),
    ],
)
def test_a_world_that_cannot_be_is_named(wrong: dict[str, int], said: str) -> None:
    with pytest.raises(WrongSettings, match=said):
        world_ending(START, **({"days": 3} | wrong))
