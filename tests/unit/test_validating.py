"""What can't be learnt from is refused, what gives the answer away is found, and what is only odd is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from schemas.mapping import Rejected
from tests.unit.pasts import START, a_past, labels_of
from training import __main__ as command
from training.errors import UnusablePast
from training.validating import Validation, validate

PAST = a_past()
TRANSACTIONS, LABELS = PAST
FRAUD = TRANSACTIONS["transaction_id"].is_in(LABELS["transaction_id"].to_list())
ROWS = TRANSACTIONS.height
RANDOM = np.random.default_rng(0)


def of(*changes: pl.Expr | pl.Series, labels: pl.DataFrame = LABELS, **settings: Any) -> Validation:
    """Of the past with these columns instead, or beside."""
    return validate(TRANSACTIONS.with_columns(*changes), labels, **settings)


def refused(found: Validation) -> dict[str, str]:
    return {finding.about: finding.says for finding in found.refused}


def odd(found: Validation) -> dict[str, str]:
    return {finding.about: finding.says for finding in found.odd}


def test_a_past_as_it_should_be_has_nothing_to_be_said_of() -> None:
    found = validate(*PAST)

    assert (found.transactions, found.labels, found.frauds) == (ROWS, LABELS.height, LABELS.height)
    assert found.refused == found.odd == ()
    found.require_usable()


def test_all_that_is_refused_is_named_at_once() -> None:
    with pytest.raises(UnusablePast, match=r"(?s)amount: 1 of .*; account_id: 2 of .*floats"):
        of(
            pl.when(pl.int_range(pl.len()) == 7).then(-5).otherwise("amount").alias("amount"),
            pl.when(pl.int_range(pl.len()) < 2).then(pl.lit("12.0")).otherwise("account_id").alias("account_id"),
        ).require_usable()


# What can't be learnt from


@pytest.mark.parametrize(
    ("change", "about", "says"),
    [
        (lambda past: (past[0].clear(), past[1]), "transactions", "is empty; there is nothing to learn from"),
        (lambda past: (past[0].drop("amount", "ip"), past[1]), "transactions", "has no column amount, ip; a mapping"),
        (lambda past: (past[0], past[1].drop("known_at")), "labels", "has no column known_at; a mapping"),
        (lambda past: (past[0].cast({"amount": pl.Float64}), past[1]), "amount", "is Float64 in the table of tran"),
        (lambda past: (past[0], past[1].clear()), "labels", "one class only: of 4,800 transactions none is a fraud. A"),
        (
            lambda past: (past[0], past[1].with_columns(pl.lit("else").alias("account_id"))),
            "labels",
            "none of the .* labels belongs to a transaction",
        ),
        (
            lambda past: (past[0], labels_of(past[0], timedelta(days=3))),
            "labels",
            "one class only: all 4,800 transactions are frauds",
        ),
        (lambda past: (past[0].reverse(), past[1]), "occurred_at", "times go backwards: 4,.* of 4,800 .*sort them by"),
        (
            lambda past: (past[0], past[1].with_columns(pl.col("known_at") - timedelta(days=4))),
            "known_at",
            r"before their transaction occurred.*23:59:59",
        ),
        (
            lambda past: (past[0].with_columns(pl.col("occurred_at").dt.offset_by("-50y")), past[1]),
            "occurred_at",
            "from 1976-03-01 to 1976-04-09: are they seconds, or milliseconds",
        ),
        (
            lambda past: (past[0].with_columns(("t" + pl.col("account_id")).alias("transaction_id")), past[1]),
            "transaction_id",
            "4,800 rows share 80 ids: .* is it the right column",
        ),
        (
            lambda past: (past[0].with_columns(pl.lit(91.0).alias("latitude")), past[1]),
            "latitude",
            "4,800 of 4,800 are out of range; degrees from -90 to 90",
        ),
        (
            lambda past: (past[0].with_columns(pl.lit("eur").alias("currency")), past[1]),
            "currency",
            "three capital letters",
        ),
        (
            lambda past: (past[0].with_columns(pl.lit(None, pl.String).alias("account_id")), past[1]),
            "account_id",
            "missing in 4,800 of 4,800 rows",
        ),
    ],
)
def test_what_can_not_be_learnt_from_is_refused_with_what_would_be_right(
    change: Callable[[tuple[pl.DataFrame, pl.DataFrame]], tuple[pl.DataFrame, pl.DataFrame]], about: str, says: str
) -> None:
    found = validate(*change(PAST))

    assert about in refused(found)
    with pytest.raises(UnusablePast, match=says):
        found.require_usable()


@pytest.mark.parametrize("written", ["123.0", "123.00", "-5.0", "1.5e+18", "7E+3"])
@pytest.mark.parametrize("column", ["transaction_id", "account_id", "counterparty_id", "device_id"])
def test_ids_that_were_floats_are_refused(written: str, column: str) -> None:
    found = of(pl.when(pl.int_range(pl.len()) == 9).then(pl.lit(written)).otherwise(column).alias(column))

    assert repr(written) in refused(found)[column]


@pytest.mark.parametrize("written", ["123", "v1.0-beta", "12e5", "10.20.30.0", "+4912345", "1.5", ".0", "a+b", "1e+"])
def test_other_ids_are_none_of_our_business(written: str) -> None:
    assert refused(of(pl.lit(written).alias("counterparty_id"), pl.lit(written).alias("device_id"))) == {}


# What gives the answer away


def known_to(rows: pl.Series, value: Any, other: Any = None) -> pl.Series:
    return pl.select(pl.when(rows).then(pl.lit(value)).otherwise(pl.lit(other)).alias("x")).to_series()


SOME_FRAUDS = FRAUD & pl.Series(RANDOM.random(ROWS) < 0.7)
NOISE = pl.Series(RANDOM.normal(size=ROWS))


@pytest.mark.parametrize(
    ("planted", "says"),
    [
        (FRAUD, r"it alone tells frauds from the others \(AUC 1.0000\)"),
        (FRAUD.cast(pl.Int64), "AUC 1.0000"),
        (1 - FRAUD.cast(pl.Int64), "AUC 1.0000"),
        (6 * FRAUD.cast(pl.Float64) + NOISE, "AUC 1.0000"),
        (NOISE - 6 * FRAUD.cast(pl.Float64), "AUC 1.0000"),
        (known_to(FRAUD, "chargeback", "settled"), "AUC 1.0000"),
        (known_to(FRAUD, 3, 2), "AUC 1.0000"),
        (pl.Series(np.where(FRAUD, 3, RANDOM.choice([1, 2, 4, 5], ROWS))), "AUC 1.0000"),
        (
            pl.Series(np.where(SOME_FRAUDS, "stolen", RANDOM.choice(["a", "b"], ROWS))),
            "only frauds have the value 'stol",
        ),
        (pl.Series(np.where(SOME_FRAUDS, -1, RANDOM.integers(0, 30, ROWS))), "only frauds have the value -1"),
        (known_to(SOME_FRAUDS, "2026-04-01"), "it is there for frauds only, for"),
        (pl.select(pl.when(SOME_FRAUDS).then(NOISE)).to_series(), "it is there for frauds only"),
        (pl.select(pl.when(~SOME_FRAUDS).then(NOISE)).to_series(), "it is missing for frauds only"),
    ],
)
def test_a_column_known_only_after_the_fact_is_refused_and_named(planted: pl.Series, says: str) -> None:
    harmless = NOISE.alias("attributes.noise")
    found = of(planted.alias("attributes.later"), harmless)

    assert list(refused(found)) == ["attributes.later"]
    with pytest.raises(UnusablePast, match=says):
        found.require_usable()
    assert "`drop` in the mapping" in refused(found)["attributes.later"]
    # Left out it is of no matter, and whoever knows that it is known in time says so.
    assert of(planted.alias("attributes.later"), harmless, attributes=["attributes.noise"]).refused == ()
    trusted = of(planted.alias("attributes.later"), trusted=["attributes.later"])
    assert trusted.refused == ()
    assert "attributes.later" in odd(trusted)


def test_devices_of_frauds_only_are_odd() -> None:
    """Whoever has three telephones for nothing else is found by them, and rightly."""
    devices = np.where(SOME_FRAUDS, RANDOM.choice(["x1", "x2", "x3"], ROWS), RANDOM.integers(0, 90, ROWS).astype(str))
    found = of(pl.Series(devices).alias("attributes.device"))

    assert "only frauds have the value" in odd(found)["attributes.device"]
    assert found.refused == ()


def test_a_value_of_some_frauds_only_is_odd() -> None:
    few = FRAUD & pl.Series(RANDOM.random(ROWS) < 0.2)
    found = of(pl.Series(np.where(few, "x", RANDOM.choice(["a", "b"], ROWS))).alias("attributes.code"))

    assert "only frauds have the value 'x'" in odd(found)["attributes.code"]
    assert found.refused == ()


@pytest.mark.parametrize(
    "harmless",
    [
        1.5 * FRAUD.cast(pl.Float64) + NOISE,  # strong, as attributes may be
        pl.Series([f"v{i}" for i in RANDOM.integers(0, 1_500, ROWS)]),  # so many values that some are of frauds alone
        pl.Series([f"v{i}" for i in RANDOM.integers(0, 300, ROWS)]),
        known_to(pl.Series(RANDOM.random(ROWS) < 0.5), 1.0),
        pl.Series(np.where(RANDOM.random(ROWS) < 0.001, 1.0, 0.0)),
        pl.Series([float("nan")] * ROWS),
    ],
)
def test_columns_that_may_be_learnt_from_are_left_in_peace(harmless: pl.Series) -> None:
    found = of(harmless.alias("attributes.x"))

    assert found.refused == ()
    assert "attributes.x" not in odd(found)


@pytest.mark.parametrize(
    "written",
    [
        pl.when(FRAUD).then(pl.int_range(pl.len()) + 90_000).otherwise(pl.int_range(pl.len())).cast(pl.String),
        pl.concat_str(pl.when(FRAUD).then(pl.lit("F")).otherwise(pl.lit("T")), pl.int_range(pl.len())),
    ],
)
@pytest.mark.parametrize("column", ["counterparty_id", "device_id"])
def test_an_id_that_tells_the_frauds_is_odd(column: str, written: pl.Expr) -> None:
    assert "from another source" in odd(of(written.alias(column)))[column]


def test_the_place_in_the_table_may_tell_the_frauds() -> None:
    last = TRANSACTIONS.tail(150)
    assert "from another source" in odd(validate(TRANSACTIONS, labels_of(last, timedelta(days=3))))["rows"]


def test_many_values_that_happen_to_be_of_frauds_are_no_leak() -> None:
    """What a value's own rows say of it they may say by chance; later ones don't repeat it."""
    some = LABELS.gather_every(8)
    found = of(pl.Series([f"v{i}" for i in RANDOM.integers(0, 1_000, ROWS)]).alias("attributes.x"), labels=some)

    assert found.frauds == 20
    assert found.refused == ()


def test_chance_is_not_taken_for_a_leak_where_frauds_are_few() -> None:
    some = LABELS.head(6)
    few = TRANSACTIONS["transaction_id"].is_in(some["transaction_id"].to_list())
    found = of(few.alias("attributes.x"), labels=some)

    assert found.refused == ()
    assert "only 6 of 4,800" in odd(found)["labels"]


# What is only odd


def thinned(days: tuple[int, int]) -> pl.DataFrame:
    since, until = (START + timedelta(days=day) for day in days)
    return TRANSACTIONS.filter(~pl.col("occurred_at").is_between(since, until))


@pytest.mark.parametrize(
    ("transactions", "labels", "about", "says"),
    [
        (
            thinned((20, 22)),
            LABELS,
            "occurred_at",
            "on 2 of 40 days there is not one transaction: 2026-03-21, 2026-03-22",
        ),
        (
            pl.concat([TRANSACTIONS.slice(300, 50), TRANSACTIONS.slice(0, 300), TRANSACTIONS.slice(350)]),
            LABELS,
            "occurred_at",
            "came more than a day late",
        ),
        (
            TRANSACTIONS.with_columns(pl.col("occurred_at").dt.truncate("1d")),
            LABELS.with_columns(pl.col("occurred_at").dt.truncate("1d")),
            "occurred_at",
            "4,800 of 4,800 are at midnight sharp",
        ),
        (pl.concat([TRANSACTIONS, TRANSACTIONS.tail(40)]), LABELS, "transaction_id", "40 of 4,840 rows repeat the id"),
        (
            TRANSACTIONS.with_columns(pl.lit(0, pl.Int64).alias("amount")),
            LABELS,
            "amount",
            "4,800 of 4,800 are 0: is it the right column",
        ),
        (
            TRANSACTIONS.with_columns(pl.lit(0.0).alias("latitude"), pl.lit(0.0).alias("longitude")),
            LABELS,
            "latitude",
            "places are 0, 0",
        ),
        (
            TRANSACTIONS.with_columns(
                pl.when(pl.int_range(pl.len()) < 100).then(pl.lit("d")).alias("device_id"),
            ),
            LABELS,
            "missing values",
            "in more than half of the rows there is no device_id",
        ),
        (
            TRANSACTIONS.with_columns(pl.format("row-{}", pl.int_range(pl.len())).alias("account_id")),
            LABELS.clear(),
            "account_id",
            "no account pays twice",
        ),
        (
            TRANSACTIONS,
            LABELS.with_columns(pl.col("occurred_at").alias("known_at")),
            "known_at",
            "known the moment their transaction occurred",
        ),
        (
            TRANSACTIONS,
            labels_of(TRANSACTIONS.gather_every(2), timedelta(days=3)),
            "labels",
            "2,400 of 4,800 transactions are frauds: do `fraud_values`",
        ),
        (
            TRANSACTIONS,
            LABELS.filter(pl.col("occurred_at") > START + timedelta(days=9)),
            "labels",
            "no fraud is known in this part of the rows: 0 to 10 %, 10 to 20 %; were labels kept then",
        ),
        (
            TRANSACTIONS.tail(4_000),
            LABELS,
            "labels",
            "belong to no transaction of the past",
        ),
    ],
)
def test_what_is_odd_is_said(transactions: pl.DataFrame, labels: pl.DataFrame, about: str, says: str) -> None:
    said = odd(validate(transactions, labels))

    assert says in said[about]


def test_rows_that_a_mapping_could_make_nothing_of_are_odd_and_most_of_them_are_refused() -> None:
    def rejected(count: int) -> Rejected:
        return Rejected(
            table="t.csv", count=count, rows=100, reasons={"amount is negative": count}, examples=["row 3: -1"]
        )

    assert "amount is negative (5); the first: row 3: -1" in odd(validate(*PAST, rejected=[rejected(5)]))["t.csv"]
    assert "60 of 100 rows can't be" in refused(validate(*PAST, rejected=[rejected(60)]))["t.csv"]


# The command


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["training", *(str(argument) for argument in arguments)])
    with pytest.raises(SystemExit) as left:
        command.main()
    return left.value.code


def written(folder: Path, transactions: pl.DataFrame, labels: pl.DataFrame = LABELS) -> Path:
    folder.mkdir()
    transactions.write_parquet(folder / "transactions.parquet")
    labels.write_parquet(folder / "labels.parquet")
    return folder


def test_the_command_says_well_or_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leaking = written(tmp_path / "leaking", TRANSACTIONS.with_columns(FRAUD.alias("attributes.later")))
    assert run(monkeypatch, "validate", leaking) == 1
    assert "refused  attributes.later: it alone tells frauds" in capsys.readouterr().out
    assert run(monkeypatch, "validate", leaking, "--trust", "attributes.later", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["refused"] == []
    assert [finding["about"] for finding in report["odd"]] == ["attributes.later"]
    assert run(monkeypatch, "validate", written(tmp_path / "well", TRANSACTIONS)) == 0
    assert "0 refused, 0 odd" in capsys.readouterr().out


def test_a_mapping_that_names_a_missing_column_is_wrong_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, mapping = tmp_path / "t.csv", tmp_path / "m.toml"
    table.write_text("id,who,paid,when\n1,a,5,2026-01-01\n")
    mapping.write_text('[transaction]\namount = "sum"\ncurrency = { constant = "EUR" }\noccurred_at = "when"\n')

    assert run(monkeypatch, "validate", table, "--mapping", mapping) == 2
    assert "names the column 'sum'" in capsys.readouterr().err


def test_training_refuses_it_too_and_says_what_is_odd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    leaking = written(tmp_path / "leaking", TRANSACTIONS.with_columns(FRAUD.alias("attributes.later")))
    quick = ("--out", tmp_path / "bundles", "--trees", "3", "--threads", "1", "--json")
    assert run(monkeypatch, "run", leaking, *quick) == 2
    assert "attributes.later: it alone tells frauds" in capsys.readouterr().err
    assert not (tmp_path / "bundles").exists()

    assert run(monkeypatch, "run", leaking, *quick, "--trust", "attributes.later") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert [finding["about"] for finding in report["odd"]] == ["attributes.later"]
    assert "odd: attributes.later" in err
    assert "What is odd about the data" in Path(report["evaluation"]).read_text()
