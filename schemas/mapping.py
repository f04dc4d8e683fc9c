"""A foreign table as transactions and labels: `mapping.toml` says which column is what.  docs/mapping.md explains it.

Nothing of a table is lost silently: rows that can't be a transaction are counted, with examples, and handed to
`on_rejected`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from string import Formatter
from typing import Annotated, Final, Literal

import msgspec
import polars as pl

from schemas.absent import MISSING, without
from schemas.errors import WrongSettings
from schemas.foreign import exactly, is_parquet, scan_table
from schemas.header import repeats
from schemas.ids import id_text, was_float
from schemas.label import LabelSource
from schemas.money import Amounts, codes_beside, currency_code, currency_codes
from schemas.numerals import Numerals
from schemas.spans import duration
from schemas.tables import ATTRIBUTE, LABEL_COLUMNS, TRANSACTION_COLUMNS
from schemas.times import (
    COUNTS,
    NUMBERS,
    READ,
    UNITS,
    WHY,
    Times,
    Why,
    Zone,
    better_format,
    counted,
    formatted,
    since,
    stamped,
    written,
)
from schemas.wire import MAX_AMOUNT, MAX_ID_BYTES, microseconds

log = logging.getLogger(__name__)

WAS_FLOAT: Final = "went through a floating-point number, and digits may be lost"
"""Why a row is rejected whose id is written as 12.0 or 4.56E15, behind the name of the field."""
ROW: Final = "#"
"""In a pattern, `{#}` is the row's number, from 0."""


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a field comes from: exactly one of a column, a constant, a pattern over columns; of a time also a day and an hour."""

    column: str | None = None
    constant: str | int | float | bool | None = None
    pattern: str | None = None
    """Such as `tx-{TRANSACTION_ID}`; `{#}` is the row's number."""

    day: str | None = None
    """Of a time: the column that counts the days since `time.start`."""
    hour: str | None = None
    """And the one with the hour of that day."""
    minute: str | None = None
    second: str | None = None

    def __post_init__(self) -> None:
        if sum(each is not None for each in (self.column, self.constant, self.pattern, self.day)) != 1:
            raise ValueError(
                "a field is one of { column = … }, { constant = … }, { pattern = … }; a time may be { day = …, hour = … }"
            )
        if (self.day is None) != (self.hour is None) or ((self.minute or self.second) and self.hour is None):
            raise ValueError("{ day = …, hour = … } names both columns, and may name those of minute and second")
        if self.pattern is not None:
            list(self.pieces())

    def pieces(self) -> Iterator[tuple[str, str | None]]:
        """Literal text, and the column behind it, of the pattern."""
        for literal, name, spec, conversion in Formatter().parse(self.pattern or ""):
            if spec or conversion or name == "":
                raise ValueError(f"a pattern holds names of columns in braces, as in tx-{{ID}}; not {self.pattern!r}")
            yield literal, name

    def columns(self) -> list[str]:
        """Those it needs."""
        if self.column is not None:
            return [self.column]
        if self.day is not None:
            return [each for each in (self.day, self.hour, self.minute, self.second) if each is not None]
        return [name for _, name in self.pieces() if name is not None and name != ROW]


From = Field | str
"""A string alone is a column's name."""


class TransactionFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[transaction]`: the fields of schemas.transaction.Transaction."""

    amount: From
    currency: From
    occurred_at: From
    transaction_id: From = Field(pattern="row-{#}")
    """Without one each row is named by its number."""
    account_id: From = Field(pattern="row-{#}")
    """Without one each row gets an account of its own: then there are no habits to learn."""
    counterparty_id: From | None = None
    utc_offset: From | None = None
    """Minutes east of UTC where it occurred; otherwise it follows from `occurred_at` and `time.zone`."""
    channel: From | None = None
    category: From | None = None
    country: From | None = None
    latitude: From | None = None
    longitude: From | None = None
    device_id: From | None = None
    ip: From | None = None


class LabelFields(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[label]`: what isn't the transaction's already."""

    is_fraud: From
    """Compared with `fraud_values`; null: nothing is known of it, and there is no label."""
    known_at: From | None = None
    """Instead of `label_delay`; written as `occurred_at` is."""
    label_id: From = Field(pattern="label-{#}")
    source: From = Field(constant=LabelSource.CHARGEBACK.value)


class TableMapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole `mapping.toml`."""

    transaction: TransactionFields
    label: LabelFields | None = None
    """Without it there are no labels."""
    amount: Amounts = Amounts()
    numbers: Numerals | None = None
    """How all other numbers are written: attributes, degrees, minutes.  By default as `amount` says."""
    time: Times = Times()
    fraud_values: tuple[str | int | float | bool, ...] = (1, True)
    label_delay: str = "7d"
    """After how long a label is known: a number and d, h, m or s."""
    labels: Literal["frauds", "all"] = "frauds"
    """Which transactions get a label; the others are taken for genuine."""
    attributes: tuple[str, ...] | Literal["*"] = ()
    """Columns that go along under their own names; `*`: all that no field uses and `drop` doesn't name."""
    drop: tuple[str, ...] = ()
    """Columns that must not go along, the ones that give the answer away first of all."""
    missing: tuple[str, ...] = MISSING
    """Words that stand where nothing is known; what is empty always does.  `NA` is Namibia where a country is meant."""
    separator: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] = ","
    """Of a CSV file."""
    encoding: str = "utf-8"
    """Of a CSV file: a name that Python knows, such as `latin-1` or `utf-16`."""
    origin: str = "mapping"
    """The file it was read from, for errors."""

    def delay(self) -> timedelta:
        """`label_delay`.  Raises WrongSettings."""
        try:
            return duration(self.label_delay)
        except WrongSettings as error:
            raise WrongSettings(f"{self.origin}: `label_delay` {error}") from error


SHIPPED: Final = Path(__file__).with_name("mappings")
"""Mappings that go by their names: those of published tables, and the examples of docs/mapping.md."""


def load_mapping(named: Path, *, label_delay: str | None = None) -> TableMapping:
    """The mapping in this file, or the shipped one of this name, which has neither folder nor suffix.

    `label_delay` is taken instead of the mapping's: who waits less for labels than they take would take frauds for genuine.
    Raises WrongSettings, naming the file and the key, or the names that there are.
    """
    path = named
    if not named.is_file() and named.name == str(named) and not named.suffix:
        path = SHIPPED / f"{named}.toml"
        if not path.is_file():
            names = ", ".join(sorted(each.stem for each in SHIPPED.glob("*.toml")))
            raise WrongSettings(f"there is no mapping {str(named)!r}: neither a file nor one of {names}")
    try:
        mapping = msgspec.toml.decode(path.read_bytes(), type=TableMapping)
    except OSError as error:
        raise WrongSettings(f"{path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WrongSettings(f"{path}: {error}") from error
    if label_delay is None:
        return msgspec.structs.replace(mapping, origin=str(path))
    duration(label_delay)
    return msgspec.structs.replace(mapping, origin=str(path), label_delay=label_delay)


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """Rows that can't be a transaction, or labels that are left out."""

    table: str
    count: int
    rows: int
    """How many there are in all."""
    reasons: Mapping[str, int]
    """How many rows for each."""
    examples: Sequence[str]
    """At most five: row number, reason, value."""
    of_labels: bool = False
    """They are no rows but their labels."""
    hint: str = ""
    """What would be right, where that can be told."""
    left_out: str = ""
    """Of an archive: as words behind how many of how many, what is left out though it was accepted once."""

    @property
    def what(self) -> str:
        """As words behind how many of how many."""
        if self.left_out:
            return self.left_out
        if self.of_labels:
            return "labels are left out, whose day isn't known, and their transactions are taken for genuine"
        return "rows can't be transactions"

    def __str__(self) -> str:
        said = f"{self.table}: {self.count} of {self.rows} {self.what}: {'; '.join(self.examples)}"
        return f"{said}; {self.hint}" if self.hint else said


def log_rejected(rejected: Rejected) -> None:
    """Says so in the log."""
    log.warning("%s", rejected)


def read_past(
    source: Path,
    mapping: TableMapping | Path | None = None,
    *,
    on_rejected: Callable[[Rejected], None] = log_rejected,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Transactions and labels with the columns of schemas.tables, in the order of the log.

    `source` is a Parquet or CSV file with a mapping, or a folder that `loadgen simulate` wrote, without one.
    `on_rejected` is told of rows that can't be transactions; it may raise.  Raises WrongSettings.
    """
    if isinstance(mapping, Path):
        mapping = load_mapping(mapping)
    if not source.exists():
        raise WrongSettings(f"{source} does not exist")
    if source.is_dir():
        if mapping is not None:
            raise WrongSettings(f"{source} is a folder, and {mapping.origin} is for a Parquet or CSV file")
        return _written(source / "transactions.parquet", TRANSACTION_COLUMNS), _written(
            source / "labels.parquet", LABEL_COLUMNS
        )
    if mapping is None:
        raise WrongSettings(f"{source} needs a mapping that says which column is what (docs/mapping.md)")
    return _Reading(source, mapping).past(on_rejected)


def rows_in(file: Path, mapping: TableMapping) -> int:
    """Of a Parquet or CSV file, which is streamed where it is in UTF-8: a gigabyte takes seconds.  Raises WrongSettings."""
    scan = scan_table(file, separator=mapping.separator, encoding=mapping.encoding)
    try:
        return int(scan.select(pl.len()).collect(engine="streaming").item())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise WrongSettings(f"{file} can't be read: {error}") from error


def _written(file: Path, columns: Mapping[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    if not file.exists():
        raise WrongSettings(f"{file} does not exist: the folder is not one that `loadgen simulate` wrote")
    try:
        frame = pl.read_parquet(file)
    except pl.exceptions.PolarsError as error:
        raise WrongSettings(f"{file}: {error}") from error
    if missing := [name for name in columns if name not in frame.columns]:
        raise WrongSettings(f"{file} lacks {', '.join(missing)}; it has: {', '.join(frame.columns)}")
    return frame


_CODE_LENGTH: Final = 3
_EXAMPLES: Final = 5
_A_LOOK: Final = 1_000
"""Rows."""
_LONGEST: Final = 60
_A_CREDIT: Final = "amount is a credit: `amount.debits` does not name its direction"
_TIME: Final = "\0time "
_NOT_WHOLE: Final = 1e-3
"""Of a minor unit: so far off a whole number a float may be that is one."""
_FINER: Final = "\0finer"
_WHY, _NUMBER, _FRAUD, _KNOWN, _LABEL, _SOURCE = "\0why", "\0row", "\0fraud", "\0known", "\0label", "\0source"
_NO_TIME, _UNKNOWN = "\0no time", "\0unknown"
"""Why there is no moment: schemas.times.Why."""


class _Reading:
    """One table and its mapping, checked against each other."""

    def __init__(self, file: Path, mapping: TableMapping) -> None:
        self._file = file
        self._mapping = mapping
        self._scan = scan_table(file, separator=mapping.separator, encoding=mapping.encoding)
        self._schema = self._scan.collect_schema()
        self._used: set[str] = set()
        self._again = {
            name: again
            for again in self._schema
            if again not in mapping.drop and (name := repeats(again, self._schema)) is not None
        }
        """By a name that two columns have, what the second is called."""
        self._times: dict[str, pl.Expr] = {}
        """What is read of times, by the name of a column of its own, which several columns are taken from."""
        self._finer = pl.lit(value=False)
        """Whether an amount has more decimals than its currency."""

    def past(self, on_rejected: Callable[[Rejected], None]) -> tuple[pl.DataFrame, pl.DataFrame]:
        columns = self._transaction_columns() | self._label_columns()
        checks = self._checks(columns["currency"])
        attributes = self._attribute_columns()
        # What is the same in all rows is not kept for each of them: of a large table that would be half of the memory.
        same = {name: made for name, made in columns.items() if not _asks_a_column(made)}
        differing = [_NUMBER, _WHY, _FINER, *(name for name in columns if name not in same), *attributes]
        plan = (
            self._scan.with_row_index(_NUMBER)
            .with_columns(**self._times)
            .select(_NUMBER, self._finer.fill_null(value=False).alias(_FINER), **columns, **attributes, **checks)
        )
        wrong_rows = _what_is_wrong(list(checks), self._mapping.amount)
        try:
            frame = plan.with_columns(wrong_rows.alias(_WHY)).select(differing).collect(engine="streaming")
        except (pl.exceptions.PolarsError, OSError) as error:
            raise WrongSettings(f"{self._mapping.origin} on {self._file}: {error}") from error
        self._require_times("transaction.occurred_at", frame.select(_NUMBER, pl.col(_NO_TIME).alias(_WHY)))
        wrong = frame[_WHY].is_not_null()
        if wrong.any():
            on_rejected(self._rejected(frame.filter(wrong).with_columns(**same), frame.height))
            frame = frame.filter(~wrong)
        self._tell_of_rounded(frame.filter(_FINER)[_NUMBER], frame.height)
        kept = _in_order(frame).with_columns(**same)
        transactions = kept.select([*TRANSACTION_COLUMNS, *attributes]).cast(pl.Schema(TRANSACTION_COLUMNS))
        return transactions, self._labels(kept, on_rejected)

    def _tell_of_rounded(self, numbers: pl.Series, rows: int) -> None:
        """1.234 may be a thousand and more, in a table that says so nowhere."""
        said = self._columns_of("transaction.amount")
        if not len(numbers) or not said:
            return
        raw = (
            self._scan.select(pl.nth(self._schema.names().index(said[0])))
            .slice(numbers[0], 1)
            .collect(engine="streaming")
        )
        log.warning(
            "%s: %s of %s amounts of %s have more decimals than their currency, and are rounded; the first: row %s (%r is %s).  "
            "Are they thousands?  `amount.decimal`, `amount.thousands` and `amount.unit` say how amounts are written",
            self._mapping.origin, f"{len(numbers):,}", f"{rows:,}", self._file, numbers[0], said[0], _cut(raw.item()),
        )  # fmt: skip

    def _wrong(self, key: str, what: str) -> WrongSettings:
        return WrongSettings(f"{self._mapping.origin}: `{key}` {what}")

    def _need(self, key: str, column: str) -> str:
        if column not in self._schema:
            have = ", ".join(self._schema)
            like = [name for name in self._schema if name.strip().casefold() == column.strip().casefold()]
            hint = f" (did you mean {like[0]!r}?)" if like else ""
            raise self._wrong(
                key, f"names the column {column!r}, which {self._file} does not have{hint}; it has: {have}"
            )
        if column in self._mapping.drop:
            raise self._wrong(key, f"names the column {column!r}, which `drop` leaves out")
        if again := self._again.get(column):
            raise self._wrong(
                key,
                f"names the column {column!r}, and {self._file} has two of that name: give the other one another, or put "
                f"{again!r}, as it is called here, into `drop`",
            )
        self._used.add(column)
        return column

    def _value(self, key: str, come_from: From) -> tuple[pl.Expr, pl.DataType]:
        """The field's column as it stands, and its type."""
        field = Field(column=come_from) if isinstance(come_from, str) else come_from
        if field.column is not None:
            return self._column(key, field.column)
        if field.day is not None:
            raise self._wrong(key, "is made of a day and an hour, and only a time is")
        if field.constant is not None:
            literal = pl.lit(field.constant)
            return literal, pl.select(literal).to_series().dtype
        parts = []
        for text, name in field.pieces():
            parts.append(pl.lit(text))
            if name == ROW:
                parts.append(pl.col(_NUMBER).cast(pl.String))
            elif name is not None:
                parts.append(id_text(*self._column(key, name)))
        return pl.concat_str(parts), pl.String()

    def _column(self, key: str, name: str) -> tuple[pl.Expr, pl.DataType]:
        """As it stands, but null where a word says that nothing is known."""
        column, kind = exactly(self._need(key, name)), self._schema[name]
        if isinstance(kind, pl.Categorical | pl.Enum):
            column, kind = column.cast(pl.String), pl.String()
        if kind != pl.String:
            return column, kind
        meant = {"transaction.country": {"NA"}, "label.is_fraud": set(map(str, self._mapping.fraud_values))}.get(
            key, set()
        )
        return without(column, [word for word in self._mapping.missing if word not in meant]), kind

    def _columns_of(self, key: str) -> list[str]:
        """Those that a field such as `transaction.amount` comes from."""
        section, name = key.split(".")
        come_from = getattr(getattr(self._mapping, section), name)
        if come_from is None:
            return []
        return [come_from] if isinstance(come_from, str) else come_from.columns()

    def _text(self, key: str, come_from: From | None) -> pl.Expr:
        if come_from is None:
            return pl.lit(None, dtype=pl.String)
        expression, kind = self._value(key, come_from)
        text = id_text(expression, kind)
        return pl.when(text.str.len_bytes() > 0).then(text)

    def _number(self, key: str, come_from: From | None) -> pl.Expr:
        if come_from is None:
            return pl.lit(None, dtype=pl.Float64)
        expression, kind = self._value(key, come_from)
        if kind == pl.String:
            numerals = self._mapping.amount if key == "transaction.amount" else self._numerals()
            return numerals.read(expression)
        if not kind.is_numeric():
            raise self._wrong(key, f"is {kind}, not a number")
        return expression.cast(pl.Float64, strict=False)

    def _numerals(self) -> Numerals:
        amount = self._mapping.amount
        return self._mapping.numbers or Numerals(decimal=amount.decimal, thousands=amount.thousands)

    def _transaction_columns(self) -> dict[str, pl.Expr]:
        fields = self._mapping.transaction
        made: dict[str, pl.Expr] = {
            name: self._text(f"transaction.{name}", getattr(fields, name))
            for name, kind in TRANSACTION_COLUMNS.items()
            if kind == pl.String
        }
        made["currency"] = self._currency(fields.currency, made["currency"])
        amount = self._number("transaction.amount", fields.amount)
        exact = self._mapping.amount.minor_units(amount, made["currency"])
        made["amount"] = exact.round()
        self._finer = (exact - exact.round()).abs() > _NOT_WHOLE
        moment, offset, why = self._moment("transaction.occurred_at", fields.occurred_at)
        if fields.utc_offset is not None:
            offset = self._number("transaction.utc_offset", fields.utc_offset)
        made["occurred_at"] = moment
        made["utc_offset"] = offset.cast(pl.Int16, strict=False)
        for name in ("latitude", "longitude"):
            number = self._number(f"transaction.{name}", getattr(fields, name))
            made[name] = pl.when(number.is_not_nan()).then(number)
        return {name: made[name] for name in TRANSACTION_COLUMNS} | {_NO_TIME: why}

    def _currency(self, come_from: From, text: pl.Expr) -> pl.Expr:
        """Where it stands beside the amounts, in their column, what stands there counts."""
        if isinstance(come_from, Field) and isinstance(come_from.constant, str):
            return pl.lit(currency_code(come_from.constant) or come_from.constant)
        if self._columns_of("transaction.currency") == self._columns_of("transaction.amount"):
            beside = codes_beside(text)
            return pl.when(beside.str.len_bytes() == _CODE_LENGTH).then(beside)
        return currency_codes(text)

    def _checks(self, currency: pl.Expr) -> dict[str, pl.Expr]:
        """What only the table itself tells of a row: why it can't be a transaction, and for which rows."""
        checks = self._no_rows()
        for key in ("transaction_id", "account_id", "counterparty_id", "device_id"):
            made = [
                id_text(*self._column(f"transaction.{key}", name)) for name in self._columns_of(f"transaction.{key}")
            ]
            if made:
                checks[f"{key} {WAS_FLOAT}"] = pl.any_horizontal(
                    was_float(each).fill_null(value=False) for each in made
                )
        amounts, said = self._mapping.amount, self._columns_of("transaction.amount")
        if amounts.direction is not None:
            direction = id_text(*self._column("amount.direction", amounts.direction)).str.strip_chars()
            paid = direction.is_in(list(amounts.debits)).fill_null(value=False)
            checks[_A_CREDIT] = ~paid
        column, kind = self._value("transaction.amount", self._mapping.transaction.amount)
        checks["amount is missing"] = (column.is_null() | column.is_nan()) if kind.is_float() else column.is_null()
        if kind == pl.String and said and said != self._columns_of("transaction.currency"):
            # A dollar sign may mean several; what none of them is contradicts the row's currency.
            other = ~codes_beside(column).str.contains(currency, literal=True)
            checks["amount is in another currency than `currency` says"] = other.fill_null(value=False)
        return checks

    def _no_rows(self) -> dict[str, pl.Expr]:
        """Lines of a CSV file that hold no row: blank ones, and the header of a file that was glued behind another."""
        if is_parquet(self._file):
            return {}
        names = [
            name for key in ("amount", "occurred_at", "account_id") for name in self._columns_of(f"transaction.{key}")
        ]
        if len(names) < 2:
            return {}
        again = [exactly(name).str.strip_chars() == name.strip() for name in names]
        empty = [exactly(name).str.strip_chars().fill_null("") == "" for name in sorted(self._used)]
        return {
            "row repeats the header line": pl.all_horizontal(again).fill_null(value=False),
            "row is empty where the mapping looks": pl.all_horizontal(empty),
        }

    def _moment(self, key: str, come_from: From) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
        """The moment in UTC, its offset in minutes, and why there is none."""
        if isinstance(come_from, Field) and come_from.day is not None:
            expression, read = self._days_and_hours(key, come_from)
        else:
            expression, kind = self._value(key, come_from)
            read = self._reading_of_times(key, kind)
        at = _TIME + key
        self._times[at] = expression.map_batches(read, return_dtype=READ, is_elementwise=True)
        column = pl.col(at).struct
        numbers = self._mapping.time.format in NUMBERS
        offset = pl.lit(self._zone.minutes) if numbers and self._zone.minutes is not None else column.field("offset")
        return column.field("moment"), offset, column.field("why")

    def _days_and_hours(self, key: str, field: Field) -> tuple[pl.Expr, Callable[[pl.Series], pl.Series]]:
        """Seconds since `start`, of columns of days, hours, minutes and seconds; infinite where one of them can't be."""
        if self._mapping.time.format != "days":
            raise self._wrong(key, 'is made of a day and an hour: `time.format` must be "days", the days being counted')
        seconds = pl.lit(0.0)
        parts = (
            (field.day, UNITS["days"], None),
            (field.hour, 3_600, 24),
            (field.minute, 60, 60),
            (field.second, 1, 60),
        )
        for name, worth, most in parts:
            if name is not None:
                column, _ = self._column(key, name)
                number = column.cast(pl.Float64, strict=False)
                right = number.is_finite() if most is None else number.is_between(0, most)
                seconds += pl.when(right).then(number).when(column.is_not_null()).then(math.inf) * worth
        return seconds, partial(since, start=self._start(), step=1e6, zone=self._zone)

    def _reading_of_times(self, key: str, kind: pl.DataType) -> Callable[[pl.Series], pl.Series]:
        form = self._mapping.time.format
        if form in COUNTS or form == "epoch":
            return partial(counted, form=form, zone=self._zone)
        if form in UNITS or form == "steps":
            return partial(since, start=self._start(), step=self._step(), zone=self._zone)
        if kind == pl.String and form == "timestamp":
            return partial(written, zone=self._zone)
        if kind == pl.String and "%" in form:
            return partial(formatted, form=form, zone=self._zone)
        if form != "timestamp":
            raise WrongSettings(
                f"{self._mapping.origin}: `time.format` is {form!r} and {key} is {kind}; it may be timestamp, "
                f"for text a format with %, or {', '.join(NUMBERS)}"
            )
        if isinstance(kind, pl.Datetime | pl.Date):
            return partial(stamped, zone=self._zone)
        raise self._wrong(key, f"is {kind}, not a timestamp: say in `time.format` how to read it")

    @cached_property
    def _zone(self) -> Zone:
        try:
            return Zone.of(self._mapping.time.zone)
        except ValueError as error:
            raise self._wrong("time.zone", str(error)) from error

    def _start(self) -> int:
        """Microseconds since 1970 UTC."""
        start = self._mapping.time.start
        if start is None:
            raise self._wrong("time.start", f"is missing: {self._mapping.time.format} since when?")
        if start.tzinfo is not None:
            return microseconds(start)
        (placed,) = self._zone.placed(pl.Series([start], dtype=pl.Datetime("us"))).dt.epoch("us")
        if placed is None:
            raise self._wrong("time.start", f"is {start}, an hour that the clock of {self._zone.name} left out")
        return int(placed)

    def _step(self) -> float:
        """Microseconds."""
        times = self._mapping.time
        if times.format in UNITS:
            return UNITS[times.format] * 1e6
        if times.step is None:
            raise self._wrong("time.step", 'is missing: how long is a step?  For example step = "1h"')
        try:
            return duration(times.step) / timedelta(microseconds=1)
        except WrongSettings as error:
            raise self._wrong("time.step", str(error)) from error

    def _label_columns(self) -> dict[str, pl.Expr]:
        fields = self._mapping.label
        if fields is None:
            return {}
        value, kind = self._value("label.is_fraud", fields.is_fraud)
        frauds = [_plain(each) for each in self._mapping.fraud_values]
        # Text may say True, or 1.0 where another of its column is missing.
        told = id_text(value, kind).str.strip_chars().str.to_lowercase().str.replace(r"^(-?\d+)\.0+$", "$1")
        told = pl.when(told != "").then(told)
        made: dict[str, pl.Expr] = {_FRAUD: pl.when(told.is_not_null()).then(told.is_in(frauds))}
        if fields.known_at is not None:
            made[_KNOWN], _, made[_UNKNOWN] = self._moment("label.known_at", fields.known_at)
        wanted = self._wants_a_label(made[_FRAUD])
        made[_LABEL] = pl.when(wanted).then(self._text("label.label_id", fields.label_id))
        made[_SOURCE] = self._text("label.source", fields.source)
        return made

    def _wants_a_label(self, is_fraud: pl.Expr) -> pl.Expr:
        return is_fraud if self._mapping.labels == "frauds" else is_fraud.is_not_null()

    def _labels(self, kept: pl.DataFrame, on_rejected: Callable[[Rejected], None]) -> pl.DataFrame:
        if self._mapping.label is None:
            return pl.DataFrame(schema=pl.Schema(LABEL_COLUMNS))
        if kept.height and not kept[_FRAUD].any():
            # Most likely a slip in `fraud_values`; a quiet month has no frauds either, so it is no error.
            log.warning("%s: no row of %s has one of `fraud_values`", self._mapping.origin, self._file)
        delay = self._mapping.delay()
        known = pl.col(_KNOWN) if _KNOWN in kept.columns else pl.col("occurred_at") + delay
        labels = kept.filter(self._wants_a_label(pl.col(_FRAUD))).with_columns(
            pl.col(_FRAUD).alias("is_fraud"),
            known.alias("known_at"),
            pl.col(_LABEL).alias("label_id"),
            pl.col(_SOURCE).alias("source"),
        )
        sources = {each.value for each in LabelSource}
        if unknown := set(labels["source"].unique()) - sources:
            raise self._wrong("label.source", f"gives {unknown}; it may be one of: {', '.join(sorted(sources))}")
        if _KNOWN in kept.columns:
            labels = self._labels_that_became_known(labels, on_rejected)
        ordered = labels.select(list(LABEL_COLUMNS)).cast(pl.Schema(LABEL_COLUMNS))
        return ordered.sort("known_at", maintain_order=True)

    def _labels_that_became_known(self, labels: pl.DataFrame, on_rejected: Callable[[Rejected], None]) -> pl.DataFrame:
        why = labels.select(_NUMBER, pl.col(_UNKNOWN).alias(_WHY))
        if why.filter(pl.col(_WHY) == Why.UNREADABLE).height:
            self._require_times("label.known_at", why)
        never = why.filter(pl.col(_WHY).is_not_null()).sort(_NUMBER)
        if never.height:
            reasons = {
                f"known_at {WHY[Why(code)]}": count for code, count in never.group_by(_WHY).len().sort(_WHY).rows()
            }
            shown = self._values_behind("label.known_at", never[_NUMBER].head(_EXAMPLES))
            rejected = Rejected(
                table=str(self._file),
                count=never.height,
                rows=labels.height,
                reasons=reasons,
                examples=[
                    f"row {number}: known_at {WHY[Why(code)]} ({shown[number]})"
                    for number, code in never.head(_EXAMPLES).rows()
                ],
                of_labels=True,
                hint=self._hint("label.known_at", never),
            )
            on_rejected(rejected)
        return labels.filter(pl.col("known_at").is_not_null())

    def _values_behind(self, key: str, rows: pl.Series) -> dict[int, str]:
        """What stands in the table for this field, with the column's name, of a few rows by their number."""
        columns = self._columns_of(key)
        asked = self._scan.with_row_index(_NUMBER).filter(pl.col(_NUMBER).is_in(rows.implode()))
        found = asked.select(_NUMBER, *map(exactly, columns)).collect(engine="streaming")
        return {
            number: ", ".join(f"{name!r} is {_cut(value)}" for name, value in zip(columns, values, strict=True))
            for number, *values in found.rows()
        }

    def _require_times(self, key: str, why: pl.DataFrame) -> None:
        """`why`, by number of the row, no time was read.  Raises WrongSettings where that is so of most that say one."""
        there = why.filter(pl.col(_WHY).ne_missing(Why.MISSING.value))
        bad = there.filter(pl.col(_WHY).is_in([Why.UNREADABLE.value, Why.BEYOND.value]))
        if 2 * bad.height <= there.height:
            return
        code, count = bad.group_by(_WHY).len().sort("len").row(-1)
        number = int(bad.filter(pl.col(_WHY) == code)[_NUMBER].min())  # type: ignore[arg-type]  # there is one
        example = self._values_behind(key, pl.Series([number], dtype=why.schema[_NUMBER]))[number]
        what = "can't be read" if code == Why.UNREADABLE else WHY[Why.BEYOND].replace("is ", "are ")
        hint = self._hint(key, bad)
        raise self._wrong(
            "time.format",
            f"is {self._mapping.time.format!r}, by which {count:,} of {there.height:,} values for {key} {what}: in row "
            f"{number} {example}{'; ' if hint else ''}{hint}",
        )

    def _hint(self, key: str, rows: pl.DataFrame) -> str:
        """Which format would read most of the values of these rows."""
        columns = self._columns_of(key)
        if len(columns) != 1:
            return ""
        some = rows[_NUMBER].head(_A_LOOK)
        asked = self._scan.with_row_index(_NUMBER).filter(pl.col(_NUMBER).is_in(some.implode()))
        return better_format(
            asked.select(exactly(columns[0])).collect(engine="streaming").to_series(), self._mapping.time
        )

    def _attribute_columns(self) -> dict[str, pl.Expr]:
        wanted = self._mapping.attributes
        for column in self._mapping.drop:
            if column not in self._schema:
                have = ", ".join(self._schema)
                raise self._wrong(
                    "drop", f"names the column {column!r}, which {self._file} does not have; it has: {have}"
                )
        if wanted == "*":
            names = [name for name in self._schema if name not in self._used and name not in self._mapping.drop]
            for name in names:
                self._need("attributes", name)
        else:
            names = [self._need("attributes", name) for name in wanted]
        kinds = self._kinds(names)
        return {ATTRIBUTE + name: self._attribute(name, kinds.get(name)) for name in names}

    def _kinds(self, names: Sequence[str]) -> Mapping[str, str]:
        """What the text of a CSV file is, for each name a key of `_ways`, judged by all of it."""
        if not names or is_parquet(self._file):
            return {}
        rows = self._scan
        again = self._no_rows().get("row repeats the header line")
        if again is not None:
            rows = rows.filter(~again)
        left = {name: list(self._ways(name)) for name in names}
        for some in (rows.head(_A_LOOK), rows):  # most ways are out after a few rows, and asking costs
            asked = {
                f"{way}\0{name}": (self._ways(name)[way].is_null() & self._text_of(name).is_not_null()).any()
                for name, ways in left.items()
                for way in ways
            }
            failed = some.select(**asked).collect(engine="streaming").row(0, named=True) if asked else {}
            left = {name: [way for way in ways if not failed[f"{way}\0{name}"]] for name, ways in left.items()}
        return {name: ways[0] if ways else "text" for name, ways in left.items()}

    def _text_of(self, name: str) -> pl.Expr:
        return self._column("attributes", name)[0]

    def _ways(self, name: str) -> dict[str, pl.Expr]:
        """To read a column of text, the first that reads all of it counts."""
        text, numerals = self._text_of(name), self._numerals()
        number = text.cast(pl.Float64, strict=False)
        lower = text.str.to_lowercase()
        ways = {
            "integer": text.cast(pl.Int64, strict=False),
            "float": pl.when(number.is_not_null()).then(number),
            "boolean": pl.when(lower.is_in(["true", "false"])).then(lower == "true"),
            "number": numerals.read(text),
        }
        if numerals.decimal == ",":  # 1.234 is a thousand and more, where nothing of the column speaks against it
            ways = {way: ways[way] for way in ("integer", "number", "float", "boolean")}
        return ways

    def _attribute(self, name: str, way: str | None) -> pl.Expr:
        """A number, a boolean or text: what a message can carry."""
        column, kind = self._column("attributes", name)
        if way not in (None, "text"):
            column = self._ways(name)[way]
            kind = {"integer": pl.Int64(), "boolean": pl.Boolean()}.get(way, pl.Float64())
        if kind.is_float() or isinstance(kind, pl.Decimal):
            number = column.cast(pl.Float64, strict=False)
            return pl.when(number.is_finite()).then(number)
        if kind.is_integer():
            return column.cast(pl.Int64, strict=False)
        return column if kind == pl.Boolean else column.cast(pl.String)

    def _rejected(self, wrong: pl.DataFrame, rows: int) -> Rejected:
        reasons = wrong.group_by(_WHY, maintain_order=True).len()
        return Rejected(
            table=str(self._file),
            count=wrong.height,
            rows=rows,
            reasons=dict(reasons.iter_rows()),
            examples=self._examples(wrong),
            hint=self._hint("transaction.occurred_at", late) if (late := wrong.filter(_has_no_time())).height else "",
        )

    def _examples(self, wrong: pl.DataFrame) -> list[str]:
        """The first row of each reason, as it stands in the table."""
        first = wrong.unique(_WHY, keep="first", maintain_order=True).head(_EXAMPLES)
        if first.height < _EXAMPLES:
            others = wrong.head(2 * _EXAMPLES).filter(~pl.col(_NUMBER).is_in(first[_NUMBER].implode()))
            first = first.vstack(others.head(_EXAMPLES - first.height))
        first = first.sort(_NUMBER)
        numbers = first[_NUMBER].to_list()
        raw = self._scan.with_row_index(_NUMBER).filter(pl.col(_NUMBER).is_in(numbers)).collect(engine="streaming")
        rows = {row[_NUMBER]: row for row in raw.iter_rows(named=True)}
        return [
            self._example(number, reason, rows[number], row)
            for number, reason, row in zip(numbers, first[_WHY], first.iter_rows(named=True), strict=True)
        ]

    def _example(self, number: int, reason: str, raw: Mapping[str, object], made: Mapping[str, object]) -> str:
        field = reason.split(" ", 1)[0]
        columns = self._columns_of(f"transaction.{field}") if field in TransactionFields.__struct_fields__ else []
        if field == "row":
            return f"row {number} {reason.removeprefix('row ')}"
        if reason == _A_CREDIT and self._mapping.amount.direction is not None:
            columns = [self._mapping.amount.direction]
        # Without a column it is a constant, or follows from another field.
        shown = ", ".join(f"{name!r} is {_cut(raw[name])}" for name in columns) or _cut(made.get(field))
        return f"row {number}: {reason} ({shown})"


def _asks_a_column(made: pl.Expr) -> bool:
    return bool(made.meta.root_names()) or made.meta.has_multiple_outputs()  # what `exactly` picks has no name yet


def _in_order(frame: pl.DataFrame) -> pl.DataFrame:
    """By `occurred_at`, which must be there; column after column, so that no two copies of the table are held."""
    if frame["occurred_at"].is_sorted():
        return frame
    order = frame.select(pl.arg_sort_by("occurred_at", maintain_order=True)).to_series()
    return pl.DataFrame([frame.drop_in_place(name).gather(order) for name in frame.columns])


def _cut(value: object) -> str:
    shown = repr(value) if isinstance(value, str) else "empty" if value is None else str(value)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}…"


def _has_no_time() -> pl.Expr:
    return pl.col(_WHY).cast(pl.String).str.starts_with("occurred_at ")


def _plain(value: str | float | bool) -> str:
    """As the column's text, in small letters."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).lower()


def _what_is_wrong(told: Sequence[str], amounts: Amounts) -> pl.Expr:
    """Why a row can't be a transaction; null where it can.  `told`: columns that say so of the table's own values."""
    column = {name: pl.col(name) for name in TRANSACTION_COLUMNS}
    wrong_sign = (
        "is positive, and `amount.sign` says that payments are negative"
        if amounts.sign == "negative"
        else "is negative"
    )
    checks = {reason: pl.col(reason) for reason in told}
    for name in ("transaction_id", "account_id", "currency"):
        checks[f"{name} is missing"] = column[name].is_null()
    for name in ("transaction_id", "account_id", "counterparty_id", "device_id"):
        checks[f"{name} is over {MAX_ID_BYTES} bytes"] = column[name].str.len_bytes() > MAX_ID_BYTES
    for name in ("channel", "category"):
        checks[f"{name} is over 64 characters"] = column[name].str.len_chars() > 64
    checks |= {
        "amount can't be read as a number: `amount.decimal` and `amount.thousands` say how it is written": column[
            "amount"
        ].is_null()
        | column["amount"].is_nan(),
        f"amount {wrong_sign}": column["amount"] < 0,
        f"amount is over {MAX_AMOUNT} minor units": column["amount"] > MAX_AMOUNT,
        "currency is no code, number or name of ISO 4217": ~column["currency"].str.contains("^[A-Z]{3}$"),
        **{f"occurred_at {words}": pl.col(_NO_TIME) == code.value for code, words in WHY.items()},
        "utc_offset is missing or no number": column["utc_offset"].is_null(),
        "utc_offset is a day or more": column["utc_offset"].abs() >= 24 * 60,
        "country is not two capital letters": ~column["country"].str.contains("^[A-Z]{2}$"),
        "latitude is beyond 90": column["latitude"].abs() > 90,
        "longitude is beyond 180": column["longitude"].abs() > 180,
        "ip is over 45 characters": column["ip"].str.len_chars() > 45,
    }
    kind = pl.Enum(list(checks))
    return pl.coalesce([pl.when(condition).then(pl.lit(reason, kind)) for reason, condition in checks.items()])
