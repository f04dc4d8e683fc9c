"""Columns that give the answer away: they say what became known of a transaction only afterwards."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from loadgen.drafting.columns import Column, Kind
from loadgen.drafting.words import AFTERWARDS, said

FEWEST_FRAUDS: Final = 10
"""With fewer in the sample, chance alone tells them apart."""
NEARLY: Final = 0.9
"""Of as many rows as there are frauds, picked by one column alone, so many are frauds."""
_HALF: Final = 0.5
"""Of the frauds: a column that is filled in for fewer may be rare rather than telling."""
_FEW: Final = 0.02
"""A column with so many different values for each row is told apart by value, others by order."""


def suspicion(column: Column, fraud: npt.NDArray[np.bool_]) -> str | None:
    """Why a column's values or its name look as if they told the answer; None: they do not.  See `gives_away`."""
    if why := gives_away(column, fraud):
        return why
    if column.kind is not Kind.NOTHING and (word := said(column.words, AFTERWARDS)):
        return f"has {word!r} in its name: was it known when the transaction was made?"
    return None


def gives_away(column: Column, fraud: npt.NDArray[np.bool_]) -> str | None:
    """How a column's values tell the answer; None: they do not.

    `fraud` is what the label says of each row of the sample.
    """
    if column.kind in (Kind.NOTHING, Kind.OTHER):
        return None
    frauds = int(fraud.sum())
    if FEWEST_FRAUDS <= frauds < len(fraud):
        empty = column.empty.to_numpy()
        for picked, what in ((empty, "empty"), (~empty, "filled in")):
            if picked.any() and fraud[picked].mean() >= NEARLY and picked[fraud].mean() >= _HALF:
                return f"is {what} where the label says fraud, and hardly elsewhere"
        if column.distinct <= max(2, _FEW * len(fraud)):
            best = _by_value(column.values, fraud, frauds)
        elif column.kind is Kind.NUMBER:
            best = _by_order(column.numbers, fraud, frauds)
        else:
            best = 0.0
        if best == 1.0:
            return "tells each fraud of the sample: it is the label once more"
        if best >= NEARLY:
            return f"nearly tells the label: of the {frauds:,} rows that it points out, {best:.0%} are frauds"
    return None


def _by_value(values: pl.Series, fraud: npt.NDArray[np.bool_], frauds: int) -> float:
    """The share of frauds in as many rows as there are frauds, those values first that have most."""
    groups = (
        pl.DataFrame({"value": values, "fraud": fraud})
        .group_by("value")
        .agg(pl.len().alias("rows"), pl.col("fraud").sum())
        .sort(pl.col("fraud") / pl.col("rows"), descending=True)
    )
    return _among_first(groups["rows"].to_numpy(), groups["fraud"].to_numpy(), frauds)


def _by_order(numbers: pl.Series, fraud: npt.NDArray[np.bool_], frauds: int) -> float:
    """The same, the largest values first, or the smallest."""
    groups = (
        pl.DataFrame({"value": numbers, "fraud": fraud})
        .drop_nulls("value")
        .group_by("value")
        .agg(pl.len().alias("rows"), pl.col("fraud").sum())
        .sort("value")
    )
    rows, found = groups["rows"].to_numpy(), groups["fraud"].to_numpy()
    return max(_among_first(rows, found, frauds), _among_first(rows[::-1], found[::-1], frauds))


def _among_first(rows: npt.NDArray[np.generic], found: npt.NDArray[np.generic], count: int) -> float:
    """The share of frauds among the first `count` rows; of a group that is cut, in proportion."""
    if not len(rows):
        return 0.0
    ends = np.concatenate([[0], np.cumsum(rows.astype(np.int64))])
    told = np.concatenate([[0], np.cumsum(found.astype(np.int64))])
    return float(np.interp(count, ends, told)) / count
