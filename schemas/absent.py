"""Words that tables have where nothing is known."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import polars as pl

from schemas.numerals import BLANKS

MISSING: Final = (
    "NULL", "null", "Null", "<NULL>", "<null>", "(NULL)", "(null)", "[NULL]", "[null]", "\\N", "nil", "None", "<NA>", "NA",
    "N/A", "n/a", "#N/A", "#NULL!", "NaN", "nan", "NAN", "NaT", "-", "--", "?",
)  # fmt: skip
"""As databases, Python, R and spreadsheets write it.  Not `none` and `na`, which people mean something by."""


def without(text: pl.Expr, words: Collection[str]) -> pl.Expr:
    """The text, null where it is one of these words or empty; blanks around it don't count."""
    return pl.when(~text.str.strip_chars(BLANKS).is_in(["", *words])).then(text)
