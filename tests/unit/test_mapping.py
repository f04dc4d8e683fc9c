"""Foreign tables as transactions and labels: nothing is lost silently, and what is wrong is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from loadgen.simulate import World, simulate, write_past
from schemas.errors import WrongSettings
from schemas.mapping import SHIPPED, Rejected, TableMapping, load_mapping, read_past
from schemas.tables import LABEL_COLUMNS, TRANSACTION_COLUMNS

NOON = datetime(2024, 3, 1, 12, 0, tzinfo=UTC)

MINIMAL = """
[transaction]
transaction_id = "id"
account_id = "who"
amount = "paid"
currency = { constant = "EUR" }
occurred_at = "when"
"""


def mapping_of(toml: str) -> TableMapping:
    return msgspec.toml.decode(toml, type=TableMapping)


def a_table(tmp_path: Path, **columns: list[object]) -> Path:
    table: dict[str, list[object]] = {"id": ["a", "b"], "who": ["x", "y"], "paid": [1.0, 2.5], "when": [NOON, NOON]}
    file = tmp_path / "table.parquet"
    pl.DataFrame(table | columns).write_parquet(file)
    return file


def a_csv(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "table.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_the_handbooks_table(tmp_path: Path) -> None:
    file = tmp_path / "handbook.parquet"
    pl.DataFrame(
        {
            "TRANSACTION_ID": [0, 1, 2],
            "TX_DATETIME": [datetime(2018, 4, 1, 0, 0, 31), datetime(2018, 4, 1, 0, 2, 10), datetime(2018, 4, 2)],
            "CUSTOMER_ID": [596, 4961, 596],
            "TERMINAL_ID": [3156, 3412, 3156],
            "TX_AMOUNT": [57.16, 81.51, 0.29],
            "TX_TIME_SECONDS": [31, 130, 86400],
            "TX_TIME_DAYS": [0, 0, 1],
            "TX_FRAUD": [0, 1, 0],
            "TX_FRAUD_SCENARIO": [0, 1, 0],
        },
        schema_overrides={"TX_DATETIME": pl.Datetime("ns")},
    ).write_parquet(file)

    transactions, labels = read_past(file, Path("handbook"))

    assert transactions.schema == pl.Schema(TRANSACTION_COLUMNS)
    assert transactions["transaction_id"].to_list() == ["tx-0", "tx-1", "tx-2"]
    assert transactions["account_id"].to_list() == ["customer-596", "customer-4961", "customer-596"]
    assert transactions["amount"].to_list() == [5716, 8151, 29]
    assert transactions["counterparty_id"].to_list() == ["terminal-3156", "terminal-3412", "terminal-3156"]
    assert transactions["utc_offset"].to_list() == [0, 0, 0]
    assert labels.rows(named=True) == [
        {
            "label_id": "label-1",
            "transaction_id": "tx-1",
            "account_id": "customer-4961",
            "counterparty_id": "terminal-3412",
            "occurred_at": datetime(2018, 4, 1, 0, 2, 10, tzinfo=UTC),
            "amount": 8151,
            "is_fraud": True,
            "known_at": datetime(2018, 4, 8, 0, 2, 10, tzinfo=UTC),
            "source": "simulation",
        }
    ]


def test_paysims_table_whose_times_are_steps_of_an_hour(tmp_path: Path) -> None:
    file = a_csv(
        tmp_path,
        "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,newbalanceDest,isFraud,"
        "isFlaggedFraud\n"
        "25,PAYMENT,9839.64,C123,170136.0,160296.36,M197,0.0,0.0,0,0\n"
        "1,TRANSFER,181.0,C130,181.0,0.0,C553,0.0,0.0,1,0\n",
    )

    transactions, labels = read_past(file, Path("paysim"))

    assert transactions["occurred_at"].to_list() == [
        datetime(2024, 1, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 2, 1, tzinfo=UTC),
    ]
    assert transactions["transaction_id"].to_list() == ["paysim-1", "paysim-0"]
    assert transactions["amount"].to_list() == [18100, 983964]
    assert transactions["attributes.oldbalanceOrg"].to_list() == [181.0, 170136.0]
    assert not [name for name in transactions.columns if "new" in name or "Flagged" in name]
    assert labels["transaction_id"].to_list() == ["paysim-1"]


def test_the_credit_card_table_that_names_nobody(tmp_path: Path) -> None:
    file = a_csv(tmp_path, 'Time,V1,V2,Amount,"Class"\n0,-1.35,2.1,149.62,"0"\n1.0,1.19,-0.5,2.69,"1"\n')

    transactions, labels = read_past(file, Path("creditcard"))

    assert transactions["account_id"].to_list() == ["row-0", "row-1"]
    assert transactions["counterparty_id"].null_count() == 2
    assert transactions["occurred_at"][1] == datetime(2013, 8, 31, 22, 0, 1, tzinfo=UTC)
    assert transactions["utc_offset"].to_list() == [120, 120]
    assert transactions.columns[-2:] == ["attributes.V1", "attributes.V2"]
    assert transactions["attributes.V1"].to_list() == [-1.35, 1.19]
    assert labels["known_at"].to_list() == [datetime(2013, 9, 1, 22, 0, 1, tzinfo=UTC)]


@given(cents=st.integers(0, 10**12), digits=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_an_amount_in_major_units_is_the_same_amount(
    tmp_path_factory: pytest.TempPathFactory, cents: int, digits: int
) -> None:
    tmp_path = tmp_path_factory.mktemp("amount")
    written = f"{cents / 10**digits:.{digits}f}"
    as_float = a_table(tmp_path, paid=[float(written), 1.0])
    as_text = a_csv(tmp_path, f"id;who;paid;when\na;x;{written.replace('.', ',')};2024-03-01T12:00:00Z\n")
    amount = f"\n[amount]\ndigits = {digits}\n"

    numbers, _ = read_past(as_float, mapping_of(MINIMAL + amount))
    texts, _ = read_past(as_text, mapping_of('separator = ";"\n' + MINIMAL + amount + 'decimal = ","'))

    assert numbers["amount"][0] == texts["amount"][0] == cents


def test_a_currency_without_cents_has_none(tmp_path: Path) -> None:
    file = a_table(tmp_path, money=["JPY", "KWD"])

    transactions, _ = read_past(file, mapping_of(MINIMAL.replace('{ constant = "EUR" }', '"money"')))

    assert transactions["amount"].to_list() == [1, 2500]


moments = st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)).map(lambda m: m.replace(tzinfo=UTC, microsecond=0))
ZONES = {"Europe/Berlin": ZoneInfo("Europe/Berlin"), "-03:30": timezone(-timedelta(hours=3, minutes=30)), "UTC": UTC}


@given(moment=moments, zone=st.sampled_from(sorted(ZONES)))
@settings(max_examples=80, deadline=None)
def test_a_moment_is_the_same_however_it_is_written(
    tmp_path_factory: pytest.TempPathFactory, moment: datetime, zone: str
) -> None:
    there = moment.astimezone(ZONES[zone])
    if there.fold:
        return  # the hour that a clock shows twice: nobody can tell
    offset = round((there.utcoffset() or timedelta()) / timedelta(minutes=1))
    age = (moment - datetime(2000, 1, 1, tzinfo=UTC)) / timedelta(seconds=1)
    epoch = round(moment.timestamp())
    aware = {"zone": zone}
    ways: list[tuple[object, dict[str, str]]] = [
        (moment, aware),
        (there.replace(tzinfo=None), aware),
        (there.isoformat(), {}),
        (there.strftime("%Y-%m-%d %H:%M:%S"), aware),
        (there.strftime("%d.%m.%Y %H:%M:%S"), aware | {"format": "%d.%m.%Y %H:%M:%S"}),
        (there.strftime("%d/%m/%Y %H:%M:%S %z"), {"format": "%d/%m/%Y %H:%M:%S %z"}),
        (epoch, aware | {"format": "epoch-s"}),
        (epoch * 1_000, aware | {"format": "epoch-ms"}),
        (epoch * 1_000_000, aware | {"format": "epoch-us"}),
        (age, aware | {"format": "seconds", "start": "2000-01-01T00:00:00Z"}),
        (age / 3_600, aware | {"format": "hours", "start": "2000-01-01T00:00:00Z"}),
        (age / 900, aware | {"format": "steps", "step": "15m", "start": "2000-01-01T00:00:00Z"}),
    ]
    tmp_path = tmp_path_factory.mktemp("time")
    for value, times in ways:
        file = a_table(tmp_path, id=["a"], who=["x"], paid=[1.0], when=[value])
        said = "\n".join(f"{key} = {text if key == 'start' else repr(text)}" for key, text in times.items())
        transactions, _ = read_past(file, mapping_of(f"{MINIMAL}\n[time]\n{said}\n"))
        assert transactions["occurred_at"].to_list() == [moment], times
        assert transactions["utc_offset"].to_list() == [offset], times


def test_an_hour_that_the_clock_left_out_is_reported(tmp_path: Path) -> None:
    file = a_table(tmp_path, when=[datetime(2024, 3, 31, 2, 30), datetime(2024, 3, 31, 3, 30)])
    told: list[Rejected] = []

    transactions, _ = read_past(file, mapping_of(MINIMAL + '[time]\nzone = "Europe/Berlin"'), on_rejected=told.append)

    assert transactions["transaction_id"].to_list() == ["b"]
    assert told[0].reasons == {"occurred_at is in an hour that the clock left out": 1}
    assert told[0].examples == [
        "row 0: occurred_at is in an hour that the clock left out ('when' is 2024-03-31 02:30:00)"
    ]


def test_rows_that_cannot_be_transactions_are_counted_and_shown(tmp_path: Path) -> None:
    file = a_table(
        tmp_path,
        id=["a", "b", None, "d", "", "f", "g", "h"],
        who=["x", "x", "x", None, "x", "ü" * 65, "x", "x"],
        paid=[1.0, -5.0, 1.0, 1.0, 1.0, 1.0, float("nan"), 1e11],
        when=[NOON] * 8,
    )
    told: list[Rejected] = []

    transactions, _ = read_past(file, mapping_of(MINIMAL), on_rejected=told.append)

    (rejected,) = told
    assert transactions["transaction_id"].to_list() == ["a"]
    assert (rejected.count, rejected.rows) == (7, 8)
    assert rejected.reasons == {
        "amount is negative": 1,
        "transaction_id is missing": 2,
        "account_id is missing": 1,
        "account_id is over 128 bytes": 1,
        "amount is missing": 1,
        "amount is over 1000000000000 minor units": 1,
    }
    assert rejected.examples[0] == "row 1: amount is negative ('paid' is -5.0)"
    assert "7 of 8 rows" in str(rejected)


def test_what_is_the_same_in_all_rows_is_named_where_it_is_wrong(tmp_path: Path) -> None:
    told: list[Rejected] = []
    mapping = mapping_of(MINIMAL.replace('"EUR"', '"doubloons"'))
    transactions, _ = read_past(a_table(tmp_path), mapping, on_rejected=told.append)

    assert transactions.is_empty()
    assert transactions.schema == pl.Schema(TRANSACTION_COLUMNS)
    assert told[0].examples[0] == "row 0: currency is no code, number or name of ISO 4217 ('doubloons')"


def test_rows_of_one_moment_stay_in_the_tables_order(tmp_path: Path) -> None:
    later = NOON + timedelta(seconds=1)
    rows = [f"r{i}" for i in range(200)]
    table = a_table(
        tmp_path, id=list[object](rows), who=["x"] * 200, paid=[1.0] * 200, when=[later if i % 2 else NOON for i in range(200)],
        extra=[*range(200)],
    )  # fmt: skip
    transactions, _ = read_past(table, mapping_of('attributes = ["extra"]\n' + MINIMAL))

    assert transactions["transaction_id"].to_list() == rows[::2] + rows[1::2]
    assert transactions["attributes.extra"].to_list() == [*range(0, 200, 2), *range(1, 200, 2)]


def test_rejected_rows_are_never_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_past(a_table(tmp_path, paid=[-1.0, 1.0]), mapping_of(MINIMAL))

    assert "1 of 2 rows can't be transactions: row 0: amount is negative" in caplog.text


def test_ids_of_a_csv_keep_their_zeros_and_those_of_a_parquet_lose_their_point(tmp_path: Path) -> None:
    csv = a_csv(tmp_path, "id,who,paid,when\n007,0x1,1,2024-03-01\n")
    parquet = a_table(tmp_path, who=[12.0, None])

    from_csv, _ = read_past(csv, mapping_of(MINIMAL))
    from_parquet, _ = read_past(parquet, mapping_of(MINIMAL), on_rejected=lambda _: None)

    assert from_csv["transaction_id"].to_list() == ["007"]
    assert from_parquet["account_id"].to_list() == ["12"]


@pytest.mark.parametrize("fraud", [[1, 0], [1.0, None], [True, False], ["1", "0"], ["True", ""], ["1.0", "0.0"]])
def test_a_fraud_is_one_however_it_is_written(tmp_path: Path, fraud: list[object]) -> None:
    _, labels = read_past(a_table(tmp_path, bad=fraud), mapping_of(MINIMAL + '[label]\nis_fraud = "bad"'))

    assert labels["transaction_id"].to_list() == ["a"]
    assert labels["known_at"].to_list() == [NOON + timedelta(days=7)]
    assert labels.schema == pl.Schema(LABEL_COLUMNS)


def test_labels_may_be_sent_for_all_whose_fate_is_known(tmp_path: Path) -> None:
    file = a_table(tmp_path, id=["a", "b", "c"], who=["x"] * 3, paid=[1.0] * 3, when=[NOON] * 3, bad=["Y", "N", None])

    _, labels = read_past(
        file, mapping_of('labels = "all"\nfraud_values = ["y"]\n' + MINIMAL + '[label]\nis_fraud = "bad"')
    )

    assert dict(labels.select("transaction_id", "is_fraud").iter_rows()) == {"a": True, "b": False}


def test_labels_stand_in_the_order_in_which_they_become_known(tmp_path: Path) -> None:
    known: list[object] = [NOON + timedelta(days=3), NOON + timedelta(days=1)]
    file = a_table(tmp_path, bad=[1, 1], known=known)

    _, labels = read_past(file, mapping_of(MINIMAL + '[label]\nis_fraud = "bad"\nknown_at = "known"'))

    assert labels["transaction_id"].to_list() == ["b", "a"]


def test_no_row_being_a_fraud_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_past(a_table(tmp_path, bad=[0, 0]), mapping_of(MINIMAL + '[label]\nis_fraud = "bad"'))

    assert "fraud_values" in caplog.text


def test_attributes_are_numbers_booleans_or_text(tmp_path: Path) -> None:
    file = a_csv(
        tmp_path, "id,who,paid,when,n,f,b,s,gone\na,x,1,2024-03-01,7,1.5,true,7a,1\nb,x,1,2024-03-02,8,,False,,2\n"
    )

    transactions, _ = read_past(file, mapping_of('attributes = "*"\ndrop = ["gone"]\n' + MINIMAL))

    assert transactions.select(pl.col("^attributes.*$")).rows(named=True) == [
        {"attributes.n": 7, "attributes.f": 1.5, "attributes.b": True, "attributes.s": "7a"},
        {"attributes.n": 8, "attributes.f": None, "attributes.b": False, "attributes.s": None},
    ]


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        (MINIMAL.replace('"paid"', '"payed"'), r"`transaction.amount` .*'payed'.*it has: id, who, paid, when"),
        ('drop = ["who"]\n' + MINIMAL, r"`transaction.account_id` .*'who'.*`drop`"),
        ('drop = ["scenario"]\n' + MINIMAL, r"`drop` .*'scenario'.*it has"),
        ('attributes = ["v"]\n' + MINIMAL, r"`attributes` .*'v'"),
        (MINIMAL.replace('"paid"', '"when"'), r"`transaction.amount` is Datetime"),
        (MINIMAL.replace('"when"', '"paid"'), r"`transaction.occurred_at` is Float64"),
        (MINIMAL + '[time]\nzone = "Europe/Nowhere"', r"`time.zone` .*Europe/Nowhere"),
        (MINIMAL + '[time]\nformat = "hours"', r"`time.start`"),
        (MINIMAL + '[time]\nformat = "steps"\nstart = 2024-01-01T00:00:00', r"`time.step`"),
        (MINIMAL + '[time]\nformat = "fortnights"', r"`time.format`"),
        ('label_delay = "7"\n' + MINIMAL + '[label]\nis_fraud = "paid"', r"`label_delay`"),
        (MINIMAL + '[label]\nis_fraud = "paid"\nsource = "who"', r"`label.source`.*chargeback"),
    ],
)
def test_what_is_wrong_with_a_mapping_is_named(tmp_path: Path, toml: str, says: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(toml, encoding="utf-8")

    with pytest.raises(WrongSettings, match=rf"mine\.toml: {says}"):
        read_past(a_table(tmp_path), file)


@pytest.mark.parametrize(
    "toml",
    [
        "nonsense",
        MINIMAL.replace("amount", "amuont"),
        MINIMAL.replace('{ constant = "EUR" }', '{ constant = "EUR", column = "x" }'),
        MINIMAL.replace('"id"', '{ pattern = "{id" }'),
        MINIMAL.replace('"id"', '{ pattern = "{id:03}" }'),
        MINIMAL + '[amount]\nunit = "cents"',
    ],
)
def test_a_mapping_that_cannot_be_read_is_named(tmp_path: Path, toml: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(toml, encoding="utf-8")

    with pytest.raises(WrongSettings, match=r"mine\.toml: "):
        load_mapping(file)


def test_a_simulated_folder_needs_no_mapping(tmp_path: Path) -> None:
    world = World(start=NOON, end=NOON + timedelta(days=2), accounts=50, counterparties=40, per_day=300)
    past = simulate(world)
    write_past(tmp_path / "past", world, past)

    transactions, labels = read_past(tmp_path / "past")

    assert_frame_equal(transactions, past.transactions)
    assert_frame_equal(labels, past.labels)


def test_files_that_are_no_past_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes.parquet").write_text("no parquet", encoding="utf-8")
    with pytest.raises(WrongSettings, match="does not exist"):
        read_past(tmp_path / "nothing.parquet", mapping_of(MINIMAL))
    with pytest.raises(WrongSettings, match=r"notes\.parquet"):
        read_past(tmp_path / "notes.parquet", mapping_of(MINIMAL))
    with pytest.raises(WrongSettings, match="needs a mapping"):
        read_past(a_table(tmp_path))
    with pytest.raises(WrongSettings, match="loadgen simulate"):
        read_past(tmp_path)


def test_a_shipped_mapping_goes_by_its_name_and_an_unknown_name_is_told_what_there_is() -> None:
    for file in SHIPPED.glob("*.toml"):
        assert load_mapping(Path(file.stem)).label is not None
    with pytest.raises(WrongSettings, match=r"no mapping 'handbok': neither a file nor one of .*handbook, paysim"):
        load_mapping(Path("handbok"))


def test_a_csv_may_be_written_in_another_encoding(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes("id,who,paid,when\na,Bärbel,1,2024-03-01\n".encode("latin-1"))

    transactions, _ = read_past(file, mapping_of('encoding = "latin-1"\n' + MINIMAL))
    assert transactions["account_id"].to_list() == ["Bärbel"]

    for encoding in ("utf-8", "ascii", "nonsense"):
        with pytest.raises(WrongSettings):
            read_past(file, mapping_of(f'encoding = "{encoding}"\n' + MINIMAL))


def test_a_currency_sign_beside_an_amount_is_no_harm(tmp_path: Path) -> None:
    file = a_csv(tmp_path, "id,who,paid,when\na,x,EUR 12.50,2024-03-01\nb,x,3.10 €,2024-03-02\n")

    transactions, _ = read_past(file, mapping_of(MINIMAL))

    assert transactions["amount"].to_list() == [1250, 310]


def test_a_column_is_the_one_of_that_name_whatever_it_is_called(tmp_path: Path) -> None:
    file = a_csv(tmp_path, "*,^.*$,paid,when\na,x,1,2024-03-01\n")
    mapping = 'attributes = ["*", "^.*$"]\n' + MINIMAL.replace('"id"', '{ pattern = "{*}{^.*$}" }').replace(
        '"who"', '"*"'
    )

    transactions, _ = read_past(file, mapping_of(mapping))

    assert transactions.select("transaction_id", "account_id").row(0) == ("ax", "a")
    assert transactions["attributes.^.*$"].to_list() == ["x"]
