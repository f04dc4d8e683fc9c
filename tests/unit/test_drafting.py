"""A drafted mapping: what is found in tables of many shapes, why, and what is said not to be."""

from __future__ import annotations

import re
import time
from datetime import date, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from loadgen.drafting.draft import Draft, draft
from loadgen.samples import SAMPLES, write_sample
from schemas.errors import WrongSettings
from schemas.mapping import Field, TableMapping, read_past
from tests.examples import examples

ODD_NAMES = ["", " ", "#", "{}", "{id}", "a.b", "a:b", 'say "x"', "a\nb", "\x7f", "*", "^.*$", "über", "字", "x" * 300]
TELLING = [
    "amount",
    "Amount ",
    "time",
    "step",
    "date",
    "clock",
    "year",
    "month",
    "day",
    "is_fraud",
    "class",
    "customer_id",
    "to",
]
WRITTEN = ["01.02.2024", "2024-02-01", "31/12/2023", "20240131", "12:30", "$1.50", "1,50", "€ 2", "007", "NaN", "yes"]
ROWS = 8


def eight(of: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(of, min_size=ROWS, max_size=ROWS)


values = st.one_of(
    eight(st.one_of(st.none(), st.text(max_size=12))),
    eight(st.one_of(st.none(), st.floats())),
    eight(st.one_of(st.none(), st.integers(-(2**62), 2**62))),
    eight(st.one_of(st.none(), st.booleans())),
    eight(st.one_of(st.none(), st.datetimes())),
    eight(st.one_of(st.none(), st.dates())),
    eight(st.one_of(st.none(), st.times())),
    eight(st.sampled_from(WRITTEN)),
    st.sampled_from(WRITTEN).map(lambda one: [one] * ROWS),
    eight(st.integers(0, 1)),
    *(st.just([odd] * ROWS) for odd in (None, [1, 2], {"a": 1}, b"\xff")),
)
tables = st.dictionaries(st.one_of(st.sampled_from(ODD_NAMES + TELLING), st.text(max_size=8)), values, max_size=9)


def as_mapping(drafted: Draft) -> TableMapping:
    return msgspec.toml.decode(drafted.toml, type=TableMapping)


@given(columns=tables, rows=st.integers(0, ROWS))
@example(columns={"^[$": [None] * ROWS}, rows=0)
@example(columns={"^$": [None] * ROWS}, rows=ROWS)
@examples(150)
def test_no_parquet_file_is_too_odd(
    tmp_path_factory: pytest.TempPathFactory, columns: dict[str, Any], rows: int
) -> None:
    file = tmp_path_factory.mktemp("odd") / "table.parquet"
    pl.DataFrame(columns, strict=False).head(rows).write_parquet(file)
    if rows and columns:
        is_told_rightly(draft(file), needs_only=set(columns))
    else:
        with pytest.raises(WrongSettings, match="has no rows"):
            draft(file)


@given(
    columns=tables,
    rows=st.integers(0, ROWS),
    separator=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-16"]),
)
@examples(100)
def test_no_csv_file_is_too_odd(
    tmp_path_factory: pytest.TempPathFactory, columns: dict[str, Any], rows: int, separator: str, encoding: str
) -> None:
    file = tmp_path_factory.mktemp("odd") / "table.csv"
    plain = {name: column for name, column in columns.items() if not isinstance(column[0], list | dict | bytes)}
    text = pl.DataFrame(plain, strict=False).head(rows).write_csv(separator=separator)
    file.write_bytes(text.encode(encoding, errors="replace"))
    told_or_refused(file)


@given(content=st.binary(max_size=200))
@examples(150)
def test_bytes_that_are_no_table_are_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    for name in ("table.csv", "table.parquet", "table.csv.gz"):
        file = tmp_path_factory.mktemp("bytes") / name
        file.write_bytes(content)
        told_or_refused(file)


def told_or_refused(file: Path) -> None:
    try:
        drafted = draft(file)
    except WrongSettings as refused:
        if file.name not in str(refused):
            raise
    else:
        is_told_rightly(drafted)


def is_told_rightly(drafted: Draft, needs_only: set[str] | None = None) -> None:
    """It loads where all that is needed was found, and says which isn't; each column has one place."""
    needed = [each.key for each in drafted.missing if each.needed]
    if needed:
        assert drafted.trial is None
        assert all(f"# {key.split('.')[1]} = " in drafted.toml for key in needed)
    else:
        assert as_mapping(drafted)
        assert drafted.trial is not None
        assert drafted.trial.error is None, (drafted.trial.error, drafted.toml)
    if needs_only is not None:
        placed = [name for each in drafted.guesses for name in each.columns]
        placed += [each.column for each in (*drafted.attributes, *drafted.drop)]
        assert set(placed) == needs_only
    assert all(each.why for each in drafted.guesses)


def of(tmp_path: Path, **columns: object) -> Draft:
    """The draft of a table of 300 rows, 12 of them frauds."""
    file = tmp_path / "payments.parquet"
    pl.DataFrame(columns).write_parquet(file)
    return draft(file)


def values_of(drafted: Draft) -> dict[str, str]:
    return {each.key: each.value for each in drafted.guesses}


N = 300
FRAUD = np.arange(N) % 25 == 0
WHEN = pl.datetime_range(datetime(2024, 1, 1), datetime(2024, 3, 1), "2h", eager=True)[:N]
CENTS = np.arange(N) * 1.37 + 0.5
PLAIN: dict[str, Any] = {"amount": CENTS, "when": WHEN}


def test_a_published_tables_names_are_understood(tmp_path: Path) -> None:
    """One in the shape of the simulated card payments that many have tried (Sparkov)."""
    found = of(
        tmp_path,
        trans_date_trans_time=WHEN.dt.strftime("%Y-%m-%d %H:%M:%S"),
        cc_num=4_000_000_000 + np.arange(N) % 50,
        merchant=[f"shop {n % 40}" for n in range(N)],
        category=[f"kind {n % 7}" for n in range(N)],
        amt=CENTS,
        first=["Jo", "Mo", "Bo"] * (N // 3),
        dob=[date(1980, 1, 1 + n % 28) for n in range(N)],
        lat=np.linspace(1, 50, N),
        long=np.linspace(-100, 3, N),
        trans_num=[f"{n:032x}" for n in range(N)],
        unix_time=WHEN.dt.epoch("s"),
        merch_lat=np.linspace(1, 50, N),
        merch_long=np.linspace(-100, 3, N),
        is_fraud=FRAUD.astype(int),
    )

    said = as_mapping(found)
    assert (said.transaction.transaction_id, said.transaction.account_id) == ("trans_num", "cc_num")
    assert (said.transaction.counterparty_id, said.transaction.category) == ("merchant", "category")
    assert (said.transaction.latitude, said.transaction.longitude) == ("merch_lat", "merch_long")
    assert said.transaction.occurred_at == "trans_date_trans_time"
    assert said.label is not None
    assert said.label.is_fraud == "is_fraud"
    assert set(said.drop) == {"dob", "unix_time"}
    assert found.complete
    assert found.trial is not None
    assert (found.trial.transactions, found.trial.labels) == (N, 12)


def test_a_time_in_four_columns_and_amounts_with_a_sign(tmp_path: Path) -> None:
    """In the shape of TabFormer's card payments."""
    found = of(
        tmp_path,
        User=np.arange(N) % 30,
        Year=WHEN.dt.year(),
        Month=WHEN.dt.month(),
        Day=WHEN.dt.day(),
        Time=WHEN.dt.strftime("%H:%M"),
        Amount=[f"${one:.2f}" for one in CENTS],
        **{"Is Fraud?": np.where(FRAUD, "Yes", "No")},
    )

    assert as_mapping(found).transaction.occurred_at == Field(pattern="{Year}-{Month}-{Day} {Time}")
    assert as_mapping(found).transaction.currency == Field(constant="USD")
    assert as_mapping(found).fraud_values == ("Yes",)
    assert found.trial is not None
    assert (found.trial.transactions, found.trial.rejected, found.trial.labels) == (N, 0, 12)


def test_who_pays_and_who_is_paid_are_told_apart(tmp_path: Path) -> None:
    ids = [f"a{n % 40}" for n in range(N)]
    found = values_of(of(tmp_path, to_account=ids, from_account=ids, **PLAIN))

    assert found["transaction.account_id"] == '"from_account"'
    assert found["transaction.counterparty_id"] == '"to_account"'


def test_an_id_that_comes_twice_names_no_transaction(tmp_path: Path) -> None:
    found = of(tmp_path, transaction_id=np.arange(N) // 2, **PLAIN)

    assert values_of(found)["transaction.transaction_id"] == '{ pattern = "payments-{#}" }'
    assert "transaction.transaction_id" in [each.key for each in found.guesses if not each.sure]


@pytest.mark.parametrize(
    ("times", "says"),
    [
        ({"when": WHEN.dt.strftime("%d.%m.%Y %H:%M")}, {"time.format": '"%d.%m.%Y %H:%M"'}),
        ({"when": WHEN.dt.strftime("%m/%d/%Y %I:%M %p")}, {"time.format": '"%m/%d/%Y %I:%M %p"'}),
        ({"when": WHEN.dt.strftime("%Y%m%d%H%M%S")}, {"time.format": '"%Y%m%d%H%M%S"'}),
        ({"when": WHEN.dt.strftime("%Y-%m-%dT%H:%M:%S+01:00")}, {}),
        ({"when": WHEN.dt.replace_time_zone("Europe/Berlin")}, {}),
        (
            {"day": WHEN.dt.date(), "clock": WHEN.dt.time()},
            {"transaction.occurred_at": '{ pattern = "{day} {clock}" }'},
        ),
        ({"date": WHEN.dt.strftime("%Y%m%d").cast(pl.Int64)}, {"transaction.occurred_at": '{ pattern = "{date}" }'}),
        ({"timestamp": WHEN.dt.epoch("s")}, {"time.format": '"epoch-s"'}),
        ({"timestamp": WHEN.dt.epoch("ms")}, {"time.format": '"epoch-ms"'}),
        ({"seconds_elapsed": WHEN.dt.epoch("s") - WHEN.dt.epoch("s")[0]}, {"time.format": '"seconds"'}),
        ({"step": np.arange(N) // 3}, {"time.format": '"steps"', "time.step": '"1h"'}),
        ({"hour": np.arange(N)}, {"time.format": '"hours"'}),
    ],
)
def test_times_are_read_however_they_are_written(tmp_path: Path, times: dict[str, Any], says: dict[str, str]) -> None:
    found = of(tmp_path, amount=CENTS, **times)

    assert says.items() <= values_of(found).items()
    assert found.complete
    assert found.trial is not None
    assert found.trial.rejected == 0
    assert ("time.zone" not in values_of(found)) == ("+01:00" in str(times) or "Europe/Berlin" in str(times))


def test_an_hour_of_the_day_is_no_time(tmp_path: Path) -> None:
    found = of(tmp_path, amount=CENTS, hour=WHEN.dt.hour())

    assert not found.complete
    assert [each.key for each in found.missing if each.needed] == ["transaction.occurred_at"]
    assert "# occurred_at = " in found.toml


def test_days_and_months_that_may_be_swapped_are_to_be_checked(tmp_path: Path) -> None:
    written = pl.date_range(date(2024, 1, 1), date(2024, 1, 12), eager=True).dt.strftime("%d/%m/%Y")
    (said,) = [e for e in of(tmp_path, amount=CENTS[:12], date=written).guesses if e.key == "time.format"]

    assert said.value == '"%d/%m/%Y"'
    assert not said.sure
    assert "%m/%d/%Y" in said.why


@pytest.mark.parametrize(
    ("amount", "says"),
    [
        ({"amount": CENTS}, "major"),
        ({"amount_cents": np.arange(N) * 137}, "minor"),
        ({"amount": [1999 + 1000 * (n % 40) for n in range(N)]}, "minor"),
        ({"amount": np.arange(N)}, "major"),
    ],
)
def test_euros_or_cents(tmp_path: Path, amount: dict[str, Any], says: str) -> None:
    assert values_of(of(tmp_path, when=WHEN, **amount))["amount.unit"] == f'"{says}"'


@pytest.mark.parametrize(
    ("written", "fraud"),
    [
        ((0, 1), "1"),
        ((1.0, 2.0), "2"),
        ((False, True), "true"),
        (("N", "Y"), '"Y"'),
        (("ok", "fraud"), '"fraud"'),
    ],
)
def test_which_value_means_fraud(tmp_path: Path, written: tuple[object, object], fraud: str) -> None:
    found = of(tmp_path, fraud=[written[int(one)] for one in FRAUD], **PLAIN)

    assert values_of(found)["fraud_values"] == f"[{fraud}]"
    assert found.trial is not None
    assert found.trial.labels == 12


def test_what_gives_the_answer_away_is_suspicious_and_what_only_hints_is_not(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    found = of(
        tmp_path,
        fraud=FRAUD.astype(int),
        scenario=np.where(FRAUD, 1 + np.arange(N) % 3, 0),
        once_more=np.where(FRAUD, "red", "green"),
        margin=np.where(FRAUD, 9.0, 0.0) + random.random(N),
        refunded_to=[f"x{n}" if one else None for n, one in enumerate(FRAUD)],
        review_outcome=random.integers(0, 2, N),
        hints=np.where(FRAUD, 1.0, 0.0) + random.normal(0, 1, N),
        always="x",
        **PLAIN,
    )

    assert {each.column for each in found.drop if each.suspicious} == {
        "scenario", "once_more", "margin", "refunded_to", "review_outcome",
    }  # fmt: skip
    assert [each.column for each in found.attributes] == ["hints"]
    assert [each.column for each in found.drop if not each.suspicious] == ["always"]
    assert re.search('"margin",  # SUSPICIOUS: .*', found.toml)


def test_with_hardly_a_fraud_nothing_is_suspected_but_by_its_name(tmp_path: Path) -> None:
    few = np.arange(N) == 7
    found = of(tmp_path, fraud=few.astype(int), twin=few.astype(int), fraud_score=np.arange(N) % 7, **PLAIN)

    assert [each.column for each in found.drop if each.suspicious] == ["fraud_score"]


def test_what_was_not_found_is_said(tmp_path: Path) -> None:
    found = of(tmp_path, a=["x", "y"] * (N // 2), b=np.arange(N))

    assert {each.key: each.needed for each in found.missing} == {
        "transaction.amount": True,
        "transaction.occurred_at": True,
        "transaction.account_id": False,
        "transaction.counterparty_id": False,
        "label.is_fraud": False,
    }
    assert "'a'" in next(each.why for each in found.missing if each.key == "label.is_fraud")
    assert not found.complete


def test_thousands_of_columns_take_seconds(tmp_path: Path) -> None:
    noise = {f"v{number}": np.arange(500) % (number + 2) for number in range(2_000)}
    begun = time.monotonic()
    found = of(
        tmp_path,
        amount=np.arange(500) + 0.5,
        time=np.arange(500),
        fraud=(np.arange(500) % 50 == 0).astype(int),
        **noise,
    )

    assert found.complete
    assert len(found.attributes) + len(found.drop) == 2_000
    assert time.monotonic() - begun < 60


def test_another_encoding_and_separator_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "zahlungen.csv"
    text = (
        "Datum;Uhrzeit;Konto;Händler;Betrag\n" + "01.02.2024;12:30;7;Bäcker;1.234,50\n31.01.2024;08:00;8;Müller;3,00\n"
    )
    file.write_bytes(text.encode("latin-1"))

    found = draft(file)

    assert (as_mapping(found).separator, as_mapping(found).encoding) == (";", "cp1252")
    transactions, _ = read_past(file, as_mapping(found))
    assert transactions["amount"].to_list() == [300, 123_450]
    assert transactions["counterparty_id"].to_list() == ["Müller", "Bäcker"]


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_samples_draft_reads_what_its_own_mapping_does(tmp_path: Path, sample: str) -> None:
    file = tmp_path / f"{sample}.csv"
    rows = write_sample(sample, file)
    drafted, labels = read_past(file, as_mapping(draft(file)))
    shipped, known = read_past(file, Path(sample))

    assert drafted.height == shipped.height == rows
    same = ["transaction_id", "amount", "counterparty_id", "channel", "category", "country"]
    assert drafted.select(same).equals(shipped.select(same))
    assert labels["transaction_id"].sort().equals(known["transaction_id"].sort())
    assert labels.height > 100


def test_a_sample_is_the_same_each_time(tmp_path: Path) -> None:
    for seed, name in ((1, "a"), (1, "b"), (2, "c")):
        write_sample("paysim", tmp_path / name, seed=seed)

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()
    with pytest.raises(WrongSettings, match="there are card-payments"):
        write_sample("no", tmp_path / "d")
