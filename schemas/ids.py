"""Ids that went through a floating-point number on their way: digits may be lost, and ids that differed may be one."""

from __future__ import annotations

from typing import Final

import polars as pl

_FLOAT: Final = (
    r"^[+-]?\d+(\.0+|,0{1,2}|,0{4,})$"  # pandas, where another id is missing; 100,000 is whole
    r"|^[+-]?\d{1,3}[.,]\d+[eE][+-]?\d{1,3}$"  # 4.56E15 of Java, 4.56e+15 of C, 4,56E+15 of a spreadsheet
    r"|^[+-]?\d{1,3}[eE][+-]\d{1,3}$"  # 1e+05 of R
)
_BARE: Final = r"^\d[eE]\d{1,3}$"
"""4E15 may be a number, and may be the name of something in hexadecimal digits."""
_MOSTLY: Final = 0.5
_EXACT: Final[dict[pl.DataType | type[pl.DataType], int]] = {pl.Float64: 2**53, pl.Float32: 2**24}
"""Below this a float of this kind holds each whole number."""
_HALF_EXACT: Final = 2**11


def was_float(text: pl.Expr) -> pl.Expr:
    """Whether an id is written as floats are: 12.0, 4.56E15, 1e+05."""
    return text.str.contains(_FLOAT)


def floats_among(ids: pl.Series) -> pl.Series:
    """Those that went through a float.  4E15 counts where most of the column looks so."""
    sure = ids.filter(ids.str.contains(_FLOAT).fill_null(value=False))
    bare = ids.filter(ids.str.contains(_BARE).fill_null(value=False))
    return sure.append(bare) if len(sure) + len(bare) > _MOSTLY * (len(ids) - ids.null_count()) else sure


def too_large(ids: pl.Series) -> bool:
    """Whether some are floats that can't hold each whole number of their size."""
    return ids.dtype.is_float() and bool((ids.abs() >= _EXACT.get(ids.dtype.base_type(), _HALF_EXACT)).any())


def id_text(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    """A column as text: whole numbers without `.0`, since an id is often a float because one of its column is missing;
    NaN and infinity name nobody.

    Floats too large to hold each whole number stay written as floats, which `was_float` knows.
    """
    if kind == pl.String:
        return column
    if isinstance(kind, pl.Decimal):
        return column.cast(pl.String).str.replace(r"\.0+$", "")
    if kind.is_float():
        whole = (column == column.floor()) & (column.abs() < _EXACT.get(kind.base_type(), _HALF_EXACT))
        written = pl.when(column.is_finite()).then(column.cast(pl.Float64).cast(pl.String))
        return pl.when(whole).then(column.cast(pl.Int64, strict=False).cast(pl.String)).otherwise(written)
    return column.cast(pl.String)
