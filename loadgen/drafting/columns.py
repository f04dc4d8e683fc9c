"""A foreign table as it is looked at: a sample of its rows, and of each column what its values are like."""

from __future__ import annotations

import codecs
import csv
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from io import BufferedIOBase
from itertools import islice
from pathlib import Path
from typing import Final

import polars as pl

from loadgen.drafting.numbers import Written, written
from loadgen.drafting.times import NEARLY_ALL, TimeForm, clock_form, moments_of, stamp_form, time_form
from loadgen.drafting.words import FIELDS, words_of
from schemas.absent import MISSING, without
from schemas.encodings import mixed, narrow_encoding, no_text, wide_encoding
from schemas.errors import WrongSettings
from schemas.foreign import exactly, is_parquet, scan_table, unpacked
from schemas.numerals import Numerals

CELLS: Final = 5_000_000
MOST_ROWS: Final = 100_000
FEWEST_ROWS: Final = 2_000
"""Of the sample: every n-th row of a larger table, fewer where it is wide."""
_SEPARATORS: Final = ",;\t|"


class Kind(StrEnum):
    """What a column's values are like, however they are written."""

    NOTHING = "nothing"
    NUMBER = "numbers"
    TIME = "times"
    CLOCK = "times of day"
    BOOLEAN = "booleans"
    TEXT = "text"
    OTHER = "other"
    """Lists, structures, bytes: nothing that a message carries."""


class Column:
    """One column of the sample."""

    def __init__(self, values: pl.Series) -> None:
        self.name = values.name
        self.type = values.dtype
        self.words = words_of(values.name)
        values = values.alias("values")  # what polars does with a series goes by its name, and ^…$ would be a pattern
        if isinstance(values.dtype, pl.Categorical | pl.Enum):
            values = values.cast(pl.String)
        if values.dtype == pl.String:
            namibia = FIELDS["country"].score(self.words)[0] > 0
            words = [word for word in MISSING if not (namibia and word == "NA")]
            values = values.to_frame().select(without(pl.first(), words)).to_series()
        self.values = values
        """As they stand; what is empty is null, and so is what says that nothing is known."""

    @cached_property
    def present(self) -> pl.Series:
        """Without nulls and NaN."""
        return self.values.drop_nans().drop_nulls() if self.type.is_float() else self.values.drop_nulls()

    @property
    def empty(self) -> pl.Series:
        """For each row whether it has no value."""
        return (self.values.fill_nan(None) if self.type.is_float() else self.values).is_null()

    @cached_property
    def told(self) -> pl.Series:
        """For each row whether it has a time, and no word for never such as 9999-12-31."""
        if self.type != pl.String and not self.type.is_temporal():
            return ~self.empty
        read = moments_of(self.values, self.time)
        return ~self.empty if read is None else read.is_not_null()

    @property
    def missing(self) -> float:
        """Share of the rows."""
        return 1 - len(self.present) / len(self.values) if len(self.values) else 0.0

    @cached_property
    def distinct(self) -> int:
        return len(self.present) if self.kind is Kind.OTHER else self.present.n_unique()

    @cached_property
    def text(self) -> pl.Series:
        """The values that are present, as text."""
        return self.present.cast(pl.String, strict=False)

    @cached_property
    def kind(self) -> Kind:  # noqa: PLR0911 - a table, read top to bottom
        if self.type.is_nested() or self.type in (pl.Binary, pl.Object, pl.Duration):
            return Kind.OTHER
        if not len(self.present):
            return Kind.NOTHING
        if self.type == pl.Boolean:
            return Kind.BOOLEAN
        if self.type.is_numeric():
            return Kind.NUMBER
        if self.type == pl.Time:
            return Kind.CLOCK
        if self.type.is_temporal():
            return Kind.TIME
        if self.text.str.to_lowercase().is_in(["true", "false"]).all():
            return Kind.BOOLEAN
        if self.clock is not None:
            return Kind.CLOCK
        if self.time is not None:
            return Kind.TIME
        return Kind.NUMBER if self._mostly_numbers else Kind.TEXT

    @cached_property
    def _some_text(self) -> pl.Series:
        return self.text.unique(maintain_order=True).head(20_000)

    @cached_property
    def written(self) -> Written:
        """How numbers are written, where this is text."""
        return written(self._some_text) if self.type == pl.String and len(self.present) else Written(Numerals())

    @cached_property
    def numbers(self) -> pl.Series:
        """As numbers, a null for each that is none; of the same rows."""
        if self.type != pl.String:
            return self.values.cast(pl.Float64, strict=False).fill_nan(None)
        return self.written.numerals.read_series(self.values)

    @cached_property
    def _mostly_numbers(self) -> bool:
        return self.numbers.count() >= NEARLY_ALL * len(self.present)

    @cached_property
    def zero_padded(self) -> bool:
        """Such as 007: an id, however much it looks like a number."""
        return self.type == pl.String and bool(self._some_text.str.contains(r"^0\d").any())

    @cached_property
    def whole(self) -> bool:
        """Whole numbers only."""
        present = self.numbers.drop_nulls()
        return self.kind is Kind.NUMBER and bool((present == present.floor()).all())

    @cached_property
    def smallest(self) -> float:
        return float(self.numbers.min() or 0)  # type: ignore[arg-type]

    @cached_property
    def largest(self) -> float:
        return float(self.numbers.max() or 0)  # type: ignore[arg-type]

    @cached_property
    def time(self) -> TimeForm | None:
        """How these times are written; None: they are none."""
        if self.type.is_temporal():
            return stamp_form(self.present) if self.type not in (pl.Time, pl.Duration) else None
        return time_form(self._some_text) if self.type == pl.String and len(self.present) else None

    @cached_property
    def clock(self) -> str | None:
        """How these times of day are written."""
        if self.type == pl.Time:
            return "%H:%M:%S%.f"
        return clock_form(self._some_text) if self.type == pl.String and len(self.present) else None

    @property
    def named(self) -> str:
        """For a message: quoted, on one line."""
        return repr(self.name)

    def described(self) -> str:
        """In a few words."""
        parts = [self.kind.value]
        if self.kind is Kind.NUMBER and self.numbers.count():
            parts.append(f"{self.smallest:,.10g} to {self.largest:,.10g}")
        elif self.kind is Kind.TEXT:
            parts.append(f"{self.distinct:,} different")
        if self.missing:
            parts.append(f"{self.missing:.1%} missing")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """What was looked at."""

    file: Path
    rows: int
    sampled: int
    columns: tuple[Column, ...]
    separator: str
    encoding: str
    odd_encoding: str = ""
    """What is odd about it, in words."""

    @cached_property
    def distinct(self) -> int:
        """How many different rows were looked at."""
        plain = [
            column.values.alias(str(at)) for at, column in enumerate(self.columns) if column.kind is not Kind.OTHER
        ]
        return pl.DataFrame(plain).n_unique() if plain else 0

    def told_apart(self, column: str) -> tuple[int, int]:
        """Of the whole table's rows, how many repeat an earlier one's value, and how many have none; blank lines are no rows."""
        scan = scan_table(self.file, separator=self.separator, encoding=self.encoding)
        schema = scan.collect_schema()
        there = {name: exactly(name).is_not_null() for name in schema}
        there |= {name: exactly(name).str.strip_chars() != "" for name, kind in schema.items() if kind == pl.String}
        value = without(exactly(column), MISSING) if schema[column] == pl.String else exactly(column)
        told, different, absent = (
            scan.select(
                told=value.count(),
                different=value.drop_nulls().n_unique(),
                absent=(value.is_null() & pl.any_horizontal(there.values())).sum(),
            )
            .collect(engine="streaming")
            .row(0)
        )
        return told - different, absent


def look(file: Path) -> Table:
    """Raises WrongSettings where it is no table."""
    separator, encoding, odd_encoding = (",", "utf-8", "") if is_parquet(file) else _written(file)
    scan = scan_table(file, separator=separator, encoding=encoding)
    try:
        rows = int(scan.select(pl.len()).collect().item())
        names = scan.collect_schema().names()
        most = min(max(CELLS // max(len(names), 1), FEWEST_ROWS), MOST_ROWS)
        every = -(-rows // most)
        if every > 1:
            number = "\0number"
            scan = scan.with_row_index(number).filter(pl.col(number) % every == 0).drop(number)
        sample = scan.collect(engine="streaming") if names else pl.DataFrame()
        if names and not is_parquet(file):
            sample = _rows(sample)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise WrongSettings(f"{file} can't be read: {error}") from error
    return Table(
        file=file,
        rows=rows,
        sampled=sample.height,
        columns=tuple(Column(values) for values in sample.iter_columns()),
        separator=separator,
        encoding=encoding,
        odd_encoding=odd_encoding,
    )


def _rows(sample: pl.DataFrame) -> pl.DataFrame:
    """Without lines that are none: blank ones, and the header of a file that was glued behind another."""
    if sample.width < 2:
        return sample
    text = sample.select(pl.all().str.strip_chars().fill_null(""))
    again = text.select(pl.all_horizontal(exactly(name) == name.strip() for name in text.columns)).to_series()
    empty = text.select(pl.all_horizontal(pl.all() == "")).to_series()
    return sample.filter(~again & ~empty)


def _written(file: Path) -> tuple[str, str, str]:
    """Separator and encoding of a CSV file, and what is odd about the encoding."""
    with unpacked(file) as opened:
        head = opened.read(1 << 18)
        if (what := no_text(head)) is not None:
            raise WrongSettings(f"{file} can't be read: it is {what}")
        encoding, odd = _encoding(head, opened)
    return _separator(head.decode(encoding, errors="replace")), encoding, odd


def _encoding(head: bytes, opened: BufferedIOBase) -> tuple[str, str]:
    if (wide := wide_encoding(head)) is not None:
        return wide, ""
    opened.seek(0)
    if _is_utf8(opened):
        return "utf-8", ""
    opened.seek(0)
    found = mixed(opened)
    opened.seek(0)
    odd = (
        f"line {found.first_other} is no UTF-8, and {found.utf8:,} other lines are: two are mixed" if found.utf8 else ""
    )
    name = narrow_encoding(iter(lambda: opened.read(1 << 22), b""))
    opened.seek(0)
    line = next(islice(opened, found.first_other - 1, None)).decode(name, errors="replace").strip()
    other = "another encoding would read other letters"
    return name, odd or f"line {found.first_other} is no UTF-8; by {name} it is {line[:60]!r}: {other}"


def _is_utf8(opened: BufferedIOBase) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while part := opened.read(1 << 22):
            decoder.decode(part)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _separator(head: str) -> str:
    """The one that cuts the lines into equally many parts, and most of them."""
    lines = [line for line in head.splitlines()[:50] if line.strip()]
    found: tuple[float, int, str] = (0.0, 1, ",")
    for separator in _SEPARATORS:
        try:
            widths = [len(row) for row in csv.reader(lines[: max(len(lines) - 1, 1)], delimiter=separator)]
        except csv.Error:
            continue
        if not widths or widths[0] < 2:
            continue
        alike = Counter(widths)[widths[0]] / len(widths)
        if (round(alike, 1), widths[0]) > found[:2]:
            found = (round(alike, 1), widths[0], separator)
    return found[2]
