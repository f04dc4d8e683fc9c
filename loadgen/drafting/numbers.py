"""How a text column writes its numbers: what stands before the decimals, and what between the thousands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

from schemas.numerals import Numerals

_BETWEEN: Final = {"'": r"\d['\u2019\u02bc]\d{3}", " ": r"\d[ \u00a0\u2007\u2009\u202f]\d{3}", "_": r"\d_\d{3}"}
_SOME: Final = 0.02
"""Of the numbers: so many are below a thousand where the mark stands between thousands."""


@dataclass(frozen=True)
class Written:
    """How numbers are written."""

    numerals: Numerals
    why: str = ""
    """The value that shows it."""
    sure: bool = True


def written(text: pl.Series) -> Written:
    """By the reading that makes numbers of most values; of two that do, by what is usual, and not surely."""
    text = text.str.strip_chars()
    plainly = Numerals().read_series(text)
    grouped = Numerals(thousands=",").read_series(text)
    comma = Numerals(decimal=",").read_series(text)
    most = max(each.count() for each in (plainly, grouped, comma))
    if plainly.count() == most:
        if comma.count() == most and _stands_between(text, "."):
            return _unsurely(text, Numerals(decimal=",", thousands="."), ".")
        return _with_its_groups(text, plainly, Numerals())
    if grouped.count() < most:
        return _with_its_groups(text, comma, Numerals(decimal=","))
    sure = comma.count() < most
    if not sure and _stands_between(text, ","):
        return _unsurely(text, Numerals(thousands=","), ",")
    return Written(
        Numerals(thousands=",") if sure else Numerals(decimal=","), f"such as {_with(text, ',')!r}", sure=sure
    )


def _stands_between(text: pl.Series, mark: str) -> bool:
    """Whether thousands are what this mark most likely cuts off: where it isn't, the number is below a thousand."""
    has = text.str.contains(mark, literal=True)
    others = Numerals().read_series(text.filter(~has)).drop_nulls()
    if not has.any() or (others.abs() >= 1_000).any():
        return False
    return len(others) >= _SOME * len(text) or mark == ","


def _unsurely(text: pl.Series, numerals: Numerals, mark: str) -> Written:
    name, other = ("comma", 'decimal = ","') if mark == "," else ("dot", 'decimal = "."')
    example = _with(text, mark)
    return Written(
        numerals,
        f"such as {example!r}: each {name} is followed by exactly three digits, and taken to stand between the thousands; "
        f"if it begins the decimals, say {other}",
        sure=False,
    )


def _with_its_groups(text: pl.Series, numbers: pl.Series, numerals: Numerals) -> Written:
    signs = dict(_BETWEEN)
    if numerals.decimal == ",":
        signs["."] = r"\d\.\d{3}"
    read = text.filter(numbers.is_not_null())
    found = {sign: hits[0] for sign, pattern in signs.items() if len(hits := read.filter(read.str.contains(pattern)))}
    if len(found) == 1:
        ((sign, example),) = found.items()
        return Written(Numerals(decimal=numerals.decimal, thousands=sign), f"such as {example!r}")
    return Written(numerals, f"such as {_with(read, ',')!r}" if numerals.decimal == "," else "")


def _with(text: pl.Series, mark: str) -> str:
    return str(text.filter(text.str.contains(mark, literal=True))[0])
