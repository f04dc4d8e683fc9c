"""What is learnt of a past's attributes: which columns are of use, and how frequent and how fraudulent their values are.

The rows that a model is fitted to are encoded as they would have been when they occurred: by what was seen before, and by the
labels known before, of transactions that had matured.  A row's own label, and whatever came after it, has no part in it.
The same walk, stopped at a moment, leaves the tables that a worker serves with from then on; for any row the tables frozen at
its time encode it as the walk does, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from features.attributes import (
    LONGEST_VALUE,
    NAMED_CATEGORIES,
    Attributes,
    CategoryColumn,
    Encoder,
    NumberColumn,
    Tally,
    fraud_rate,
    prior,
)
from schemas.tables import ATTRIBUTE
from schemas.wire import microseconds
from training.errors import UnusablePast
from training.settings import TrainingSettings
from training.split import KnownPast

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.bool_]
Vectors = npt.NDArray[np.float32]

_MOST_DISTINCT = 0.5
"""Of the rows with a value: where more of them are distinct it is an id, which says nothing of the next one."""
_SEEN, _MATURED, _FRAUDS = 0, 1, 2
"""Of a tally."""


def choose(transactions: pl.DataFrame, wanted: Sequence[str] | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """The columns to encode, and those left out, each with why.  `wanted`: their names; None: all there are.

    Looks at no label.  Raises UnusablePast where one is wanted that isn't there.
    """
    there = [*NAMED_CATEGORIES, *(name for name in transactions.columns if name.startswith(ATTRIBUTE))]
    for name in wanted or ():
        if name not in there:
            raise UnusablePast(f"there is no attribute {name!r} in this past; there are {', '.join(there)}")
    chosen = [name for name in there if wanted is None or name in wanted]
    left_out = {name: why for name in chosen if (why := _useless(transactions[name])) is not None}
    return tuple(name for name in chosen if name not in left_out), left_out


def in_words(columns: Sequence[str], left_out: dict[str, str]) -> str:
    """What `choose` chose."""
    said = f"encoding {', '.join(columns) or 'no attributes'}"
    return said + "".join(f"; leaving out {name}: {why}" for name, why in left_out.items())


def _useless(values: pl.Series) -> str | None:
    kind = values.dtype
    if not (_is_category(kind) or kind.is_numeric() or kind in (pl.Boolean, pl.Null)):
        return f"it holds {kind}, neither numbers, booleans nor text"
    values = _texts(values) if _is_category(kind) else values
    there = len(values) - values.null_count()
    if not there:
        return "it is always missing"
    distinct = values.drop_nulls().n_unique()
    if distinct == 1 and there == len(values):
        return "it is always the same"
    if _is_category(kind) and distinct > _MOST_DISTINCT * there:
        return f"{distinct} of {there} values are distinct: an id says nothing of the next one"
    return None


def _is_category(kind: pl.DataType) -> bool:
    return isinstance(kind, pl.String | pl.Categorical | pl.Enum)


def _texts(values: pl.Series) -> pl.Series:
    """Of a category; empty text is missing, as it is in a message."""
    return values.cast(pl.String).replace("", None)


@dataclass(frozen=True)
class _Values:
    """One category column of a past."""

    column: str
    names: list[str]
    code: Ints
    """[n] in the order of time: an index into `names`; -1: missing."""


class History:
    """The attributes of a past, to be encoded as of any moment of it."""

    def __init__(self, past: KnownPast, accepted: Rows, columns: Sequence[str], settings: TrainingSettings) -> None:
        """`accepted` [n]: the transactions that count."""
        self._transactions = past.transactions
        self._settings = settings
        time = past.transactions["occurred_at"].dt.epoch("us").to_numpy().astype(np.int64)
        self._order = np.argsort(time, kind="stable")
        self._time = time[self._order]
        self._counted = accepted[self._order]
        self._delay = settings.label_delay // timedelta(microseconds=1)
        self._labels = _label_steps(past, self._order, self._time + self._delay)
        self._columns: list[_Values | NumberColumn] = [
            self._values(name) if _is_category(past.transactions[name].dtype) else _number(past.transactions[name])
            for name in columns
        ]

    def as_they_occurred(self) -> Vectors:
        """Every transaction [n, features] by what was known before it."""
        blocks: list[npt.NDArray[np.floating]] = [np.empty((self._transactions.height, 0), np.float32)]
        for column in self._columns:
            if isinstance(column, NumberColumn):
                blocks.append(Encoder(Attributes((column,))).encode_table(self._transactions))
            else:
                blocks.append(self._category_as_it_occurred(column))
        return np.hstack(blocks, dtype=np.float32)

    def frozen(self, at: datetime) -> Encoder:
        """What a worker would encode with that was trained at this moment: nothing of it or later is known."""
        return Encoder(
            Attributes(
                tuple(
                    column if isinstance(column, NumberColumn) else self._category_frozen(column, microseconds(at))
                    for column in self._columns
                )
            )
        )

    def _values(self, name: str) -> _Values:
        text = _texts(self._transactions[name]).str.slice(0, LONGEST_VALUE)
        physical = text.cast(pl.Categorical).to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
        there = physical >= 0
        _, first, dense = np.unique(physical[there], return_index=True, return_inverse=True)
        code = np.full(len(text), -1, np.int64)
        code[there] = dense
        return _Values(name, text.filter(there).gather(first).to_list(), code[self._order])

    def _walk(self, column: _Values, asked: int, end: int) -> tuple[Ints, Ints, Rows]:
        settings = self._settings
        out = np.zeros((asked, 2, 3), np.int64)
        tallies, known = _walk(
            column.code, self._time, self._counted, self._delay, *self._labels, len(column.names),
            settings.smallest_value, settings.most_values, end, out,
        )  # fmt: skip
        return out, tallies, known

    def _category_as_it_occurred(self, column: _Values) -> Vectors:
        out, _, _ = self._walk(column, len(column.code), np.iinfo(np.int64).max)
        own, whole = out[:, 0].astype(np.float64), out[:, 1].astype(np.float64)
        overall = prior(whole[:, _FRAUDS], whole[:, _MATURED])
        encoded = np.empty((len(out), 2), np.float32)
        encoded[self._order, 0] = own[:, _SEEN] / np.maximum(whole[:, _SEEN], 1)
        encoded[self._order, 1] = fraud_rate(own[:, _FRAUDS], own[:, _MATURED], overall, self._settings.smoothing)
        encoded[self._order[column.code < 0]] = np.nan
        return encoded

    def _category_frozen(self, column: _Values, at: int) -> CategoryColumn:
        _, tallies, known = self._walk(column, 0, at)
        rows = np.flatnonzero(known).tolist()
        *values, unknown, whole = (Tally(*tally) for tally in tallies[[*rows, -2, -1]].tolist())
        kept = sorted(zip((column.names[row] for row in rows), values, strict=True), key=lambda item: item[0])
        return CategoryColumn(
            column=column.column,
            smoothing=float(self._settings.smoothing),
            all=whole,
            unknown=unknown,
            values=dict(kept),
        )


def made_again(encoder: Encoder, at: datetime, past: KnownPast, accepted: Rows, delay: timedelta) -> Encoder:
    """The same columns, their tables learnt from this past as of that moment; of columns that it lacks they stay."""
    there = past.transactions.schema
    categories = [
        column
        for column in encoder.attributes.columns
        if isinstance(column, CategoryColumn) and _is_category(there.get(column.column, pl.Null()))
    ]
    if not categories:
        return encoder
    settings = TrainingSettings(label_delay=delay, smoothing=categories[0].smoothing)
    history = History(past, accepted, [column.column for column in categories], settings)
    frozen = {column.column: column for column in history.frozen(at).attributes.columns}
    return Encoder(Attributes(tuple(frozen.get(column.column, column) for column in encoder.attributes.columns)))


def _number(values: pl.Series) -> NumberColumn:
    return NumberColumn(column=values.name, boolean=values.dtype == pl.Boolean)


def _label_steps(past: KnownPast, order: Ints, matured: Ints) -> tuple[Ints, Ints, Ints]:
    """When labels change what is known of matured transactions: moments, rows in the order of time, by how much.

    A label that comes before its transaction has matured counts from then on: genuine ones are known no sooner.
    """
    rows = pl.DataFrame(
        {
            "account_id": past.transactions["account_id"].gather(order),
            "transaction_id": past.transactions["transaction_id"].gather(order),
            "row": np.arange(len(order)),
            "matured": matured,
        }
    )
    steps = (
        past.labels.select("account_id", "transaction_id", "is_fraud", pl.col("known_at").dt.epoch("us"))
        .sort("known_at", maintain_order=True)
        .join(rows, on=["account_id", "transaction_id"], maintain_order="left")
        .with_columns(pl.col("is_fraud").cast(pl.Int64))
        .select(
            pl.max_horizontal("known_at", "matured").alias("at"),
            "row",
            (pl.col("is_fraud") - pl.col("is_fraud").shift(1, fill_value=0).over("row")).alias("by"),
        )
        .sort("at", maintain_order=True)
    )
    at, row, by = (steps[name].to_numpy().astype(np.int64) for name in ("at", "row", "by"))
    return at, row, by


@njit(cache=True, nogil=True)
def _count(tallies: Ints, own: int, was_unknown: bool, what: int, by: int) -> None:
    tallies[own, what] += by
    tallies[-1, what] += by
    if was_unknown:
        tallies[-2, what] += by


@njit(cache=True, nogil=True)
def _walk(
    code: Ints, time: Ints, counted: Rows, delay: int, label_at: Ints, label_row: Ints, label_by: Ints,
    values: int, smallest: int, most: int, end: int, out: Ints,
) -> tuple[Ints, Rows]:  # fmt: skip
    """Everything before `end`, in the order of time; what is of one moment doesn't see each other.

    A value is known once it was seen `smallest` times, the first `most` of them.  `out` [n or 0, 2, 3] gets the tallies of each
    row's own value (of the unknown ones, with nothing seen, where it isn't known) and of all.  Gives the tallies [values, then
    the unknown ones, then all; 3] and which values are known.
    """
    n = len(code)
    tallies = np.zeros((values + 2, 3), np.int64)
    known = np.zeros(values, np.bool_)
    was_unknown = np.zeros(n, np.bool_)
    seen = matured = heard = kept = 0
    for row in range(n + 1):
        now = min(time[row], end) if row < n else end
        while seen < row and time[seen] < now:
            own = code[seen]
            if own >= 0 and counted[seen]:
                _count(tallies, own, was_unknown[seen], _SEEN, 1)
                if not known[own] and tallies[own, _SEEN] >= smallest and kept < most:
                    known[own] = True
                    kept += 1
            seen += 1
        while matured < row and time[matured] < now - delay:
            if code[matured] >= 0 and counted[matured]:
                _count(tallies, code[matured], was_unknown[matured], _MATURED, 1)
            matured += 1
        while heard < len(label_at) and label_at[heard] < now:
            of = label_row[heard]
            if code[of] >= 0 and counted[of]:
                _count(tallies, code[of], was_unknown[of], _FRAUDS, label_by[heard])
            heard += 1
        if row == n or time[row] >= end:
            break
        own = code[row]
        was_unknown[row] = own >= 0 and not known[own]
        if len(out) and own >= 0:
            if known[own]:
                out[row, 0] = tallies[own]
            else:
                out[row, 0, _MATURED:] = tallies[-2, _MATURED:]
            out[row, 1] = tallies[-1]
    return tallies, known
