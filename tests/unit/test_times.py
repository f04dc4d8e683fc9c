"""Times as people's tables write them are read to the moment, or it is said of each why not."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from loadgen.drafting.draft import Draft, draft
from loadgen.mapping_command import summary
from schemas.errors import WrongSettings
from schemas.mapping import Rejected, TableMapping, load_mapping, read_past
from schemas.times import Why, Zone, counted, formatted, stamped, written
from training.validating import validate

TEN = datetime(2024, 1, 1, 10, tzinfo=UTC)
BERLIN = Zone.of("Europe/Berlin")
ROWS = 600


@pytest.mark.parametrize(
    ("text", "moment", "offset"),
    [
        # Databases
        ("2024-01-01 10:00:00+00", TEN, 0),
        ("2024-01-01 10:00:00.123456+00", TEN.replace(microsecond=123_456), 0),
        ("2024-01-01 15:30:00+0530", TEN, 330),
        ("2024-01-01 07:00:00-03", TEN, -180),
        ("2024-01-01 11:00:00 +01:00", TEN, 60),
        ("2024-01-01 11:00:00,123", TEN.replace(microsecond=123_000), 60),
        ("2024-01-01 10:00:00.000 +0000 UTC", TEN, 0),
        ("01-JAN-24 11.00.00.123456 AM", TEN.replace(microsecond=123_456), 60),
        ("01-JAN-24 11.00.00.123456 PM +00:00", TEN.replace(hour=23, microsecond=123_456), 0),
        ("Jan  1 2024 11:00AM", TEN, 60),
        # ISO 8601 and its neighbours
        ("2024-01-01T10:00:00Z", TEN, 0),
        ("2024-01-01t10:00:00z", TEN, 0),
        ("2024-01-01T10:00:00.123456789Z", TEN.replace(microsecond=123_456), 0),
        ("2024-01-01T11:00", TEN, 60),
        ("20240101T100000Z", TEN, 0),
        ("20240101110000", TEN, 60),
        ("2024/01/01 11:00:00", TEN, 60),
        ("2024-01-01", TEN.replace(day=1) - timedelta(hours=11), 60),
        # Zones in words
        ("2024-01-01 10:00:00 UTC", TEN, 0),
        ("2024-01-01 10:00:00 GMT", TEN, 0),
        ("2024-01-01 11:00:00 Europe/Berlin", TEN, 60),
        ("2024-01-01 05:00:00 America/New_York", TEN, -300),
        ("2024-01-01T11:00:00+01:00[Europe/Berlin]", TEN, 60),
        ("2024-01-01T10:00:00Z[UTC]", TEN, 0),
        # Java, Unix, mail, browsers, web servers
        ("Mon Jan 01 11:00:00 CET 2024", TEN, 60),
        ("Mon Jan  1 10:00:00 UTC 2024", TEN, 0),
        ("Mon Jan  1 11:00:00 2024", TEN, 60),
        ("Mon, 01 Jan 2024 11:00:00 +0100", TEN, 60),
        ("1 Jan 2024 10:00:00 GMT", TEN, 0),
        ("Mon Jan 01 2024 11:00:00 GMT+0100 (Central European Standard Time)", TEN, 60),
        ("01/Jan/2024:11:00:00 +0100", TEN, 60),
        ("Jan 1, 2024 11:00:00 AM", TEN, 60),
        ("2024-01-01 11:00:00 a.m.", TEN, 60),
        ("1. Mai 2024 12:00", TEN.replace(month=5), 120),
        # The edges of the clock
        ("2024-01-01 24:00:00", datetime(2024, 1, 1, 23, tzinfo=UTC), 60),
        ("2016-12-31T23:59:60Z", datetime(2017, 1, 1, tzinfo=UTC), 0),
        ("2024-10-27 02:30:00", datetime(2024, 10, 27, 0, 30, tzinfo=UTC), 120),  # shown twice: the first
    ],
)
def test_a_time_that_can_be_read_in_one_way_only_is_read(text: str, moment: datetime, offset: int) -> None:
    # Beside another, as they stand in a table.
    read = written(pl.Series([text, "2024-05-05 05:05:05"]), BERLIN).struct.unnest()

    assert read.row(0) == (moment, offset, None)
    assert read["why"][1] is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", Why.MISSING),
        ("  ", Why.MISSING),
        (None, Why.MISSING),
        ("nonsense", Why.UNREADABLE),
        ("2024-02-30", Why.UNREADABLE),
        ("2024-01-01 25:00:00", Why.UNREADABLE),
        ("2024-01-01 24:00:01", Why.UNREADABLE),
        ("2024-01-01 10:61:00", Why.UNREADABLE),
        ("2024-01-01 10:00:00 IST", Why.UNREADABLE),  # India's, Israel's or Ireland's
        ("2024-01-01 10:00:00 Europe/Nowhere", Why.UNREADABLE),
        ("01-JAN-24 13.00.00 PM", Why.UNREADABLE),
        ("1704069089000", Why.UNREADABLE),
        ("2024-03-31 02:30:00", Why.LEFT_OUT),
        ("9999-12-31", Why.BEYOND),
        ("9999-12-31 23:59:59.999999Z", Why.BEYOND),
        ("1900-01-01 00:00:00", Why.BEYOND),
        ("0001-01-01T00:00:00+14:00", Why.BEYOND),
        ("1970-01-01T00:00:00Z", Why.BEYOND),
        ("31-DEC-99 11.59.59 PM", None),
    ],
)
def test_what_is_no_moment_says_why(text: str | None, why: Why | None) -> None:
    read = written(pl.Series([text], dtype=pl.String), BERLIN).struct.unnest()

    assert read["why"].to_list() == [why]
    assert (read["moment"][0] is None) == (why is not None)


@pytest.mark.parametrize(
    ("form", "number"),
    [
        ("epoch-s", 1_704_103_200),
        ("epoch-s", 1_704_103_200.0),
        ("epoch-s", "1704103200"),
        ("epoch-s", "1.7041032E9"),
        ("epoch-ms", 1_704_103_200_000),
        ("epoch-ms", "1704103200000.0"),
        ("epoch-us", 1_704_103_200_000_000),
        ("epoch-ns", 1_704_103_200_000_000_000),
        ("epoch", 1_704_103_200),
        ("epoch", 1_704_103_200_000),
        ("epoch", "1704103200000000"),
        ("epoch", 1_704_103_200_000_000_000),
        ("filetime", 133_485_768_000_000_000),
        ("excel-days", 45_292 + 10 / 24),
        ("excel-days", "45292.41666666667"),
        ("dotnet-ticks", 638_397_000_000_000_000),
    ],
)
def test_a_number_is_the_moment_that_it_counts_to(form: str, number: float | str) -> None:
    read = counted(pl.Series([number]), form, Zone.of("UTC")).struct.unnest()

    assert read["moment"].to_list() == [TEN]


def test_nanoseconds_keep_their_microseconds_and_local_days_are_the_clocks() -> None:
    fine = counted(pl.Series([1_704_103_200_123_456_789]), "epoch-ns", BERLIN).struct.unnest()
    days = counted(pl.Series([45_292.5]), "excel-days", BERLIN).struct.unnest()

    assert fine.row(0) == (TEN.replace(microsecond=123_456), 60, None)
    assert days.row(0) == (datetime(2024, 1, 1, 11, tzinfo=UTC), 60, None)


@pytest.mark.parametrize("form", ["epoch-s", "epoch-ms", "epoch-us", "epoch-ns", "epoch", "filetime", "excel-days"])
def test_no_number_is_too_large_or_too_odd(form: str) -> None:
    odd = [0.0, -1.0, 1e30, -1e30, 2.0**63, float("nan"), float("inf"), None]
    read = counted(pl.Series(odd), form, BERLIN).struct.unnest()

    assert read["moment"].null_count() == len(odd)
    assert set(read["why"]) == {Why.BEYOND, Why.MISSING, Why.UNREADABLE}
    assert counted(pl.Series([2**63 - 1, -(2**63)]), form, BERLIN).struct.field("moment").null_count() == 2


@pytest.mark.parametrize(
    ("text", "form", "moment"),
    [
        ("01.02.2024 24:00", "%d.%m.%Y %H:%M", datetime(2024, 2, 1, 23, tzinfo=UTC)),
        ("01.02.24 11:00", "%d.%m.%y %H:%M", datetime(2024, 2, 1, 10, tzinfo=UTC)),
        ("01.02.99 11:00", "%d.%m.%y %H:%M", datetime(1999, 2, 1, 10, tzinfo=UTC)),
        ("01/02/2024 15:30:00 +0530", "%d/%m/%Y %H:%M:%S %z", datetime(2024, 2, 1, 10, tzinfo=UTC)),
    ],
)
def test_a_format_reads_the_ends_of_days_and_short_years(text: str, form: str, moment: datetime) -> None:
    assert formatted(pl.Series([text]), form, BERLIN).struct.field("moment").to_list() == [moment]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_timestamp_of_any_age_is_read_or_told_to_be_beyond(unit: Any) -> None:
    far = {"ms": 2**60, "us": 2**62, "ns": 2**63 - 1}[unit]
    column = (
        pl.Series([TEN.replace(tzinfo=None)]).cast(pl.Datetime(unit)).extend(pl.Series([far]).cast(pl.Datetime(unit)))
    )

    assert stamped(column, Zone.of("UTC")).struct.field("why").to_list() == [None, Why.BEYOND]
    assert stamped(pl.Series([date(2024, 1, 1), date(9999, 12, 31)]), BERLIN).struct.field("why").to_list() == [None, 4]


# Tables


FROM = datetime(2024, 1, 1, tzinfo=UTC)
MOMENTS = [FROM + timedelta(hours=2, minutes=24) * row for row in range(ROWS)]
MAPPING = """
[transaction]
transaction_id = "id"
account_id = "card"
amount = "amount"
currency = { constant = "EUR" }
occurred_at = "timestamp"
"""


def a_table(folder: Path, times: list[Any], **columns: list[Any]) -> Path:
    rows = range(len(times))
    table = {
        "id": [f"t{row}" for row in rows],
        "card": [f"a{row % 30}" for row in rows],
        "amount": [f"{5 + row % 90}.{row % 100:02}" for row in rows],
        "timestamp": times,
        "is_fraud": [int(row % 15 == 0) for row in rows],
    }
    file = folder / "t.csv"
    pl.DataFrame(table | columns, strict=False).write_csv(file)
    return file


def mapping(folder: Path, text: str) -> TableMapping:
    file = folder / "own.toml"
    file.write_text(text, encoding="utf-8")
    return load_mapping(file)


def checks(drafted: Draft) -> dict[str, str]:
    return {each.key: f"{each.value}: {each.why}" for each in drafted.guesses if not each.sure}


PER = {"epoch-s": 1, "epoch-ms": 10**3, "epoch-us": 10**6, "epoch-ns": 10**9}
UNITS = {"epoch-s": "seconds", "epoch-ms": "milliseconds", "epoch-us": "microseconds", "epoch-ns": "nanoseconds"}


@pytest.mark.parametrize("said", PER)
@pytest.mark.parametrize("meant", PER)
def test_a_unit_read_as_another_is_refused_with_the_right_one(tmp_path: Path, said: str, meant: str) -> None:
    file = a_table(tmp_path, [round(one.timestamp()) * PER[meant] for one in MOMENTS])
    own = mapping(tmp_path, MAPPING + f'[time]\nformat = "{said}"\n')
    if said == meant:
        assert read_past(file, own)[0]["occurred_at"].to_list() == MOMENTS
        return
    with pytest.raises(
        WrongSettings, match=rf"600 of 600 .*row 0 'timestamp' is '17.*are they {UNITS[said]}, or {UNITS[meant]}"
    ):
        read_past(file, own)


@pytest.mark.parametrize("text", ["17{}.5", "1.7{}E9"])
def test_other_counts_are_named_too(tmp_path: Path, text: str) -> None:
    days = [45_292 + row / 10 for row in range(ROWS)]
    own = mapping(tmp_path, MAPPING + '[time]\nformat = "epoch-s"\n')
    with pytest.raises(
        WrongSettings, match=r"seconds since 1970, or days as Excel counts them, since 1900\?  `excel-days`"
    ):
        read_past(a_table(tmp_path, days), own)
    numbers = [text.format(f"{row:08}") for row in range(ROWS)]
    with pytest.raises(
        WrongSettings, match=r"can't be read.*'timestamp' is '.*are they seconds since 1970\?  `epoch-s`"
    ):
        read_past(a_table(tmp_path, numbers), mapping(tmp_path, MAPPING))


def test_two_units_in_one_column_are_drafted_and_named_with_their_shares(tmp_path: Path) -> None:
    mixed = [round(one.timestamp()) * (1_000 if row % 10 == 0 else 1) for row, one in enumerate(MOMENTS)]
    file = a_table(tmp_path, mixed)
    drafted = draft(file)

    assert "90.0% are seconds since 1970, 10.0% are milliseconds since 1970" in checks(drafted)["time.format"]
    assert drafted.trial is not None
    assert (drafted.trial.transactions, drafted.trial.first) == (ROWS, FROM)
    # With one of the units the others' rows are left out, counted, named.
    told: list[Rejected] = []
    kept, _ = read_past(file, mapping(tmp_path, MAPPING + '[time]\nformat = "epoch-s"\n'), on_rejected=told.append)
    assert kept.height == 540
    assert told[0].reasons == {"occurred_at is before 1990 or after 2099": 60}
    assert "row 0: occurred_at is before 1990 or after 2099 ('timestamp' is '1704067200000')" in str(told[0])
    assert "are they seconds, or milliseconds?" in str(told[0])


@pytest.mark.parametrize(
    ("write", "form"),
    [
        (lambda one: f"{one:%F %T}+00", None),
        (lambda one: f"{one:%FT%T}z", None),
        (lambda one: f"{one:%F %T},250", None),
        (lambda one: f"{one:%F %T} UTC", None),
        (lambda one: f"{one:%F %T} Europe/Berlin", None),
        (lambda one: f"{one:%d-%b-%y %I.%M.%S.000000 %p}".upper(), None),
        (lambda one: f"{one:%a %b %d %T} CET {one:%Y}", None),
        (lambda one: f"{one:%a, %d %b %Y %T} +0100", None),
        (lambda one: f"{one:%FT%T}.123456789Z", None),
        (lambda one: f"{one:%Y%m%d%H%M%S}", "%Y%m%d%H%M%S"),
        (lambda one: f"{one:%d.%m.%y %H:%M}", "%d.%m.%y %H:%M"),
        (lambda one: round(one.timestamp() * 1e9), "epoch-ns"),
        (lambda one: one.timestamp() + 0.5, "epoch-s"),
        (lambda one: 25_569 + one.timestamp() / 86_400, "excel-days"),
        (lambda one: round(one.timestamp() + 11_644_473_600) * 10**7, "filetime"),
        (lambda one: round(one.timestamp() + 62_135_596_800) * 10**7, "dotnet-ticks"),
    ],
)
def test_a_draft_reads_a_table_however_its_times_are_written(tmp_path: Path, write: Any, form: str | None) -> None:
    drafted = draft(a_table(tmp_path, [write(one) for one in MOMENTS]))
    found = {each.key: each.value for each in drafted.guesses}

    assert found["transaction.occurred_at"] == '"timestamp"'
    assert found.get("time.format") == (None if form is None else f'"{form}"')
    assert drafted.trial is not None
    assert drafted.trial.transactions == ROWS
    assert drafted.trial.last is not None
    assert abs(drafted.trial.last - MOMENTS[-1]) <= timedelta(hours=1)


def test_a_time_that_can_not_be_read_is_named_with_its_column(tmp_path: Path) -> None:
    drafted = draft(a_table(tmp_path, [f"the {one:%j}th day of {one:%Y}" for one in MOMENTS]))

    assert not drafted.complete
    assert "'timestamp' is there, but 'the 001th day of 2024' can't be read" in "\n".join(summary(drafted))


@pytest.mark.parametrize(
    ("write", "values"),
    [
        ("%d/%m/%y", ('"%d/%m/%y"', "'%m/%d/%y'")),
        ("%y-%m-%d", ('"%d-%m-%y"', "'%m-%d-%y'")),
        ("%m-%d-%y", ('"%d-%m-%y"', "'%m-%d-%y'")),
    ],
)
def test_a_date_that_may_be_read_in_two_ways_is_to_be_checked(
    tmp_path: Path, write: str, values: tuple[str, str]
) -> None:
    drafted = draft(a_table(tmp_path, [f"{datetime(2012, 1 + row % 12, 1 + row % 11):{write}}" for row in range(40)]))

    assert all(each in checks(drafted)["time.format"] for each in values)


@pytest.mark.parametrize("never", ["9999-12-31 00:00:00", "1900-01-01", "0001-01-01T00:00:00", "1970-01-01 00:00:00"])
def test_a_label_that_was_never_known_is_left_out_counted_and_named(tmp_path: Path, never: str) -> None:
    known = [
        f"{one + timedelta(days=3):%F %T}" if row % 15 == 0 and row != 300 else never for row, one in enumerate(MOMENTS)
    ]
    file = a_table(tmp_path, [f"{one:%F %T}" for one in MOMENTS], known=known)
    own = mapping(tmp_path, MAPPING + '[label]\nis_fraud = "is_fraud"\nknown_at = "known"\n')
    told: list[Rejected] = []
    transactions, labels = read_past(file, own, on_rejected=told.append)

    assert (transactions.height, labels.height) == (ROWS, 39)
    assert f"row 300: known_at is before 1990 or after 2099 ('known' is '{never}')" in str(told[0])
    (odd,) = [one for one in validate(transactions, labels, rejected=told).odd if one.about == "known_at"]
    assert "1 of 40 labels are left out" in odd.says
    # The draft sees the same: it takes the column for what it is.
    drafted = draft(file)
    assert {each.key: each.value for each in drafted.guesses}["label.known_at"] == '"known"'
    assert ", 1 frauds left out" in "\n".join(summary(drafted))


def test_a_row_whose_time_is_a_word_for_unknown_is_named(tmp_path: Path) -> None:
    times = [f"{one:%F %T}" for one in MOMENTS]
    times[7] = "1970-01-01 00:00:00"
    told: list[Rejected] = []
    kept, _ = read_past(a_table(tmp_path, times), mapping(tmp_path, MAPPING), on_rejected=told.append)

    assert kept.height == ROWS - 1
    assert told[0].examples == [
        "row 7: occurred_at is before 1990 or after 2099 ('timestamp' is '1970-01-01 00:00:00')"
    ]


@pytest.mark.parametrize("names", [("hour1", "day"), ("h", "d"), ("hour_of_day", "dt"), ("x", "y")])
def test_a_day_and_an_hour_in_two_columns_are_one_moment(tmp_path: Path, names: tuple[str, str]) -> None:
    hours = [divmod(round(row * 1.6), 24) for row in range(ROWS)]
    hour, day = names
    file = a_table(tmp_path, [""] * ROWS, **{hour: [one[1] for one in hours], day: [1 + one[0] for one in hours]})
    drafted = draft(file)

    found = {each.key: each.value for each in drafted.guesses}
    assert found["transaction.occurred_at"] == f'{{ day = "{day}", hour = "{hour}" }}'
    assert {"transaction.occurred_at", "time.start"} <= set(checks(drafted))
    assert drafted.trial is not None
    assert (drafted.trial.transactions, drafted.trial.rejected) == (ROWS, 0)
    assert drafted.trial.first == datetime(2024, 1, 2, tzinfo=UTC)
    assert drafted.trial.last == datetime(2024, 1, 2, tzinfo=UTC) + timedelta(hours=round((ROWS - 1) * 1.6))


def test_days_hours_and_minutes_are_read_in_their_bounds(tmp_path: Path) -> None:
    file = a_table(
        tmp_path,
        [""] * 5,
        day=["0", "1", "2", "", "3"],
        hour=["0", "23", "25", "1", "24"],
        minute=["5", "0", "0", "0", "0"],
    )
    own = MAPPING.replace('"timestamp"', '{ day = "day", hour = "hour", minute = "minute" }')
    told: list[Rejected] = []
    times = '[time]\nformat = "days"\nstart = 2024-01-01T00:00:00\n'
    kept, _ = read_past(file, mapping(tmp_path, own + times), on_rejected=told.append)

    assert kept["occurred_at"].to_list() == [
        FROM + timedelta(minutes=5),
        FROM + timedelta(days=1, hours=23),
        FROM + timedelta(days=4),
    ]
    assert "row 2: occurred_at can't be read ('day' is '2', 'hour' is '25', 'minute' is '0')" in str(told[0])
    with pytest.raises(WrongSettings, match=r'`time.format` must be "days"'):
        read_past(file, mapping(tmp_path, own))


def test_an_hour_that_begins_again_is_no_time_whatever_it_is_called(tmp_path: Path) -> None:
    drafted = draft(a_table(tmp_path, [""] * ROWS, steps=[round(row * 1.6) % 24 for row in range(ROWS)]))

    assert not drafted.complete
    assert "'steps' begins again and again in the order of the rows" in "\n".join(summary(drafted))


def test_a_date_and_an_hour_are_one_moment(tmp_path: Path) -> None:
    times = [f"{one:%F}" for one in MOMENTS]
    drafted = draft(a_table(tmp_path, times, hour=[one.hour for one in MOMENTS]))

    assert {each.key: each.value for each in drafted.guesses}["transaction.occurred_at"] == (
        '{ pattern = "{timestamp} {hour}:00" }'
    )
    assert drafted.trial is not None
    assert drafted.trial.last == MOMENTS[-1].replace(minute=0)
