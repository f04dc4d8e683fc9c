"""What a transaction carries besides what the catalogue describes, as numbers: attributes, channel, category, country, currency.

The one encoder that training, worker and checker share.  Its tables are learnt (training/attributes.py), frozen at the
training's date, and kept in the bundle as `attributes.json`; the model's input is the catalogue's vector with these columns
behind it, float32 like the rest.

A column is a *number* or a *category*, as it was in the training's table.  What a message holds there may be of another type:

| in the message | number column                                | category column                               |
|----------------|----------------------------------------------|-----------------------------------------------|
| nothing        | missing: NaN                                 | missing: NaN, NaN                             |
| number         | itself, at most float32's largest; one that  | the value that reads so: `7` (7.0 too), `1.5` |
|                | no double can hold is missing                |                                               |
| boolean        | 1 or 0                                       | the value `true` or `false`                   |
| text           | `12.5` is parsed, so are `true` and `false`; | itself                                        |
|                | any other is missing                         |                                               |

A category gives two numbers.  `frequency(column)` is its value's share of the transactions that had one, 0 for an unknown
one.  `fraud_rate(column)` is the share of known frauds among its value's matured transactions, drawn towards the share among
all of the column by as much as `smoothing` transactions weigh.  A value that isn't in the table, because it was never seen or
too seldom to tell, is *unknown*: its fraud rate is that of the transactions whose value was unknown when they occurred.
"""

from __future__ import annotations

import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import repeat
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from features.catalogue import Feature, Unit
from schemas.bundle import ATTRIBUTES, EncodedColumn
from schemas.errors import UnusableModel
from schemas.tables import ATTRIBUTE
from schemas.transaction import Transaction

Vectors = npt.NDArray[np.float32]
Value: TypeAlias = float | int | bool | str | None
Number = TypeVar("Number", float, npt.NDArray[np.float64])

NAMED_CATEGORIES = ("channel", "category", "country", "currency")
"""Fields of a transaction that are encoded as attributes are."""
LONGEST_VALUE = 128
"""Characters of a category's value that count."""

_PRIOR_FRAUDS, _PRIOR_MATURED = 1, 100
"""Before anything is known, one in a hundred is fraud; it weighs as much as so many transactions."""
_LARGEST = float(np.finfo(np.float32).max)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WORDS = {"true": 1.0, "false": 0.0}
_NOT_FOUND = -1
_DIGITS_IN_BITS = 1_024
_MOST_SHOWN = 40
"""Characters of a value in words."""


class Tally(msgspec.Struct, frozen=True, array_like=True):
    """Of some transactions: how many were seen, how many of them have matured, how many of these are known frauds."""

    seen: int = 0
    matured: int = 0
    frauds: int = 0


class NumberColumn(msgspec.Struct, frozen=True, kw_only=True, tag="number", tag_field="encoding"):
    """A column of numbers or booleans, taken as they are."""

    column: str
    """As schemas.tables has it: `attributes.<name>`."""
    boolean: bool = False


class CategoryColumn(msgspec.Struct, frozen=True, kw_only=True, tag="category", tag_field="encoding"):
    """A column of text, and what was known of its values at one moment."""

    column: str
    smoothing: float
    all: Tally = Tally()
    """Of the transactions that had a value."""
    unknown: Tally = Tally()
    """Of those whose value was unknown when they occurred."""
    values: dict[str, Tally] = {}


Column: TypeAlias = NumberColumn | CategoryColumn


class Attributes(msgspec.Struct, frozen=True):
    """`attributes.json`: the columns behind the catalogue's, in order."""

    columns: tuple[Column, ...] = ()


def prior(frauds: Number, matured: Number) -> Number:
    """The share of frauds among all of a column, of which so many have matured; the same for scalars and arrays."""
    return (frauds + _PRIOR_FRAUDS) / (matured + _PRIOR_MATURED)


def fraud_rate(frauds: Number, matured: Number, prior: Number, smoothing: float) -> Number:
    """The share of frauds, drawn towards the `prior`.

    >>> fraud_rate(0.0, 0.0, 0.01, 50.0), fraud_rate(50.0, 50.0, 0.0, 50.0)
    (0.01, 0.5)
    """
    return (frauds + smoothing * prior) / (matured + smoothing)


def names_of(column: Column) -> tuple[str, ...]:
    """Its features.  No attribute's name makes two of them alike, nor like one of the catalogue's.

    >>> names_of(CategoryColumn(column="channel", smoothing=50))
    ('frequency(channel)', 'fraud_rate(channel)')
    """
    if isinstance(column, NumberColumn):
        return (column.column,)
    return f"frequency({column.column})", f"fraud_rate({column.column})"


class Encoder:
    """Appends to vectors what the tables say; safe to make in one thread and to ask in others."""

    def __init__(self, attributes: Attributes) -> None:
        self.attributes = attributes
        self._encodings = [
            _NumberEncoder(column) if isinstance(column, NumberColumn) else _CategoryEncoder(column)
            for column in attributes.columns
        ]
        self.columns: tuple[EncodedColumn, ...] = tuple(_said(column) for column in attributes.columns)
        """As the manifest names them."""
        self.features: tuple[str, ...] = tuple(name for column in self.columns for name in column.features)

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """Of the bundle in this folder.  Raises UnusableModel."""
        try:
            return cls(_decoder.decode((folder / ATTRIBUTES).read_bytes()))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnusableModel(f"bundle {folder.name}: {ATTRIBUTES} can't be read: {error}") from error

    def encode(self, transactions: Sequence[Transaction]) -> Vectors:
        """The columns [n, features] of these messages."""
        attributes = [one.attributes for one in transactions]
        return self._encoded(
            len(transactions), lambda column: column.encode(column.of_messages(transactions, attributes))
        )

    def encode_table(self, transactions: pl.DataFrame) -> Vectors:
        """The same of rows as schemas.tables has them; a column that isn't there is missing."""
        return self._encoded(transactions.height, lambda column: column.encode_column(column.of_table(transactions)))

    def extend(self, vectors: Vectors, transactions: Sequence[Transaction]) -> Vectors:
        """The model's input: the catalogue's `vectors` [n, features] with the columns of their transactions behind them."""
        return np.hstack([vectors, self.encode(transactions)]) if self.columns else vectors

    def words(self, transaction: Transaction) -> tuple[Feature, ...]:
        """What the features mean of this transaction: its values are named."""
        return tuple(feature for column in self._encodings for feature in column.words(column.value_of(transaction)))

    def _encoded(self, rows: int, encoded: Callable[[_Encoding], npt.NDArray[np.floating]]) -> Vectors:
        out = np.empty((rows, len(self.features)), np.float32)
        at = 0
        for column in self._encodings:
            out[:, at : at + column.width] = encoded(column)
            at += column.width
        return out


class _Encoding(ABC):
    """One column: where its values are."""

    width: int

    def __init__(self, column: str) -> None:
        self.column = column
        self._is_attribute = column.startswith(ATTRIBUTE)
        self.name = column.removeprefix(ATTRIBUTE)
        self._field = attrgetter(self.name) if not self._is_attribute else None

    def value_of(self, transaction: Transaction) -> Value:
        (value,) = self.of_messages([transaction], [transaction.attributes])
        return value

    def of_messages(self, transactions: Sequence[Transaction], attributes: Sequence[dict[str, Any]]) -> list[Value]:
        if self._field is not None:
            return list(map(self._field, transactions))
        name = self.name
        return [some.get(name) for some in attributes]

    def of_table(self, transactions: pl.DataFrame) -> pl.Series:
        if self.column not in transactions.columns:
            return pl.repeat(None, transactions.height, dtype=pl.Null, eager=True)
        return transactions[self.column]

    def encode_column(self, values: pl.Series) -> npt.NDArray[np.floating]:
        """[n, width]"""
        return self.encode(values.to_list())

    @abstractmethod
    def encode(self, values: list[Value]) -> npt.NDArray[np.floating]:
        """[n, width]"""

    @abstractmethod
    def words(self, value: Value) -> tuple[Feature, ...]:
        """What its features mean of this value."""


class _NumberEncoder(_Encoding):
    width = 1

    def __init__(self, column: NumberColumn) -> None:
        super().__init__(column.column)
        self._unit = Unit.YES if column.boolean else Unit.NUMBER

    def encode(self, values: list[Value]) -> npt.NDArray[np.floating]:
        return self._cut(np.array([number_of(value) for value in values], np.float64))

    def encode_column(self, values: pl.Series) -> npt.NDArray[np.floating]:
        kind = values.dtype
        if (
            kind.is_integer() or kind.is_float() or kind == pl.Boolean
        ):  # of hundreds of columns, value by value takes minutes
            return self._cut(values.cast(pl.Float64).fill_null(math.nan).to_numpy(writable=True))
        return super().encode_column(values)

    @staticmethod
    def _cut(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.floating]:
        numbers[~np.isfinite(numbers)] = np.nan
        return np.clip(numbers, -_LARGEST, _LARGEST)[:, None]

    def words(self, value: Value) -> tuple[Feature, ...]:
        sent = f", sent as the text {_shown(value)}" if isinstance(value, str) else ""
        return (Feature(name=self.column, unit=self._unit, meaning=f"{self.name}{sent}"),)


class _CategoryEncoder(_Encoding):
    width = 2

    def __init__(self, column: CategoryColumn) -> None:
        super().__init__(column.column)
        self._names = names_of(column)
        overall = prior(float(column.all.frauds), float(column.all.matured))

        def row(tally: Tally, seen: int) -> tuple[float, float]:
            rate = fraud_rate(float(tally.frauds), float(tally.matured), overall, column.smoothing)
            return seen / max(column.all.seen, 1), rate

        self._rows = np.array(
            [
                *(row(tally, tally.seen) for tally in column.values.values()),
                row(column.unknown, 0),
                (math.nan, math.nan),
            ],
            np.float32,
        )
        self._row: dict[Value, int] = {value: i for i, value in enumerate(column.values)}
        self._unknown = len(column.values)
        self._row[None] = self._row[""] = self._unknown + 1  # a message's empty text is missing too

    def encode(self, values: list[Value]) -> npt.NDArray[np.floating]:
        rows = list(map(self._row.get, values, repeat(_NOT_FOUND)))
        if _NOT_FOUND in rows:  # rarely: whatever is no text, is too long or is unknown
            rows = [self._find(value) if row < 0 else row for row, value in zip(rows, values, strict=True)]
        return self._rows[rows]

    def _find(self, value: Value) -> int:
        return self._row.get(text_of(value), self._unknown)

    def words(self, value: Value) -> tuple[Feature, ...]:
        if value is None or value == "":
            which = f"without {self.name}"
        elif self._find(value) == self._unknown:
            which = f"with a {self.name} that is new or rare, as {_shown(value)} is"
        else:
            which = f"with {self.name} {_shown(value)}"
        frequency, rate = self._names
        return (
            Feature(name=frequency, unit=Unit.RATIO, meaning=f"share of payments {which}"),
            Feature(name=rate, unit=Unit.RATIO, meaning=f"frauds among payments {which}"),
        )


def number_of(value: Value) -> float:
    """As a number column takes it; NaN is missing.

    >>> [number_of(value) for value in (True, 7, "1e3", "true", "twelve", "nan", None)]
    [1.0, 7.0, 1000.0, 1.0, nan, nan, nan]
    """
    if value is None:
        return math.nan
    if isinstance(value, str):
        return float(value) if _DECIMAL.fullmatch(value) else _WORDS.get(value, math.nan)
    try:
        return float(value)
    except OverflowError:  # a whole number beyond any double
        return math.nan


def text_of(value: float | str | None) -> str | None:
    """As a category column takes it.

    >>> [text_of(value) for value in (7, 7.0, 1.5, True, "crypto")]
    ['7', '7', '1.5', 'true', 'crypto']
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and value.bit_length() > _DIGITS_IN_BITS:
        return hex(value)[:LONGEST_VALUE]  # in decimals it would take minutes, or be refused
    return str(value)[:LONGEST_VALUE]


def _shown(value: Value) -> str:
    text = str(text_of(value))
    return repr(text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 1] + "…")


def _said(column: Column) -> EncodedColumn:
    return EncodedColumn(
        column=column.column,
        encoding="number" if isinstance(column, NumberColumn) else "category",
        features=names_of(column),
        digest=hashlib.sha256(_encoder.encode(column)).hexdigest()[:16],
    )


_decoder = msgspec.json.Decoder(Attributes)
_encoder = msgspec.json.Encoder(order="deterministic")


def written(attributes: Attributes) -> bytes:
    """The content of `attributes.json`, the same for equal attributes."""
    return msgspec.json.format(_encoder.encode(attributes), indent=1) + b"\n"
