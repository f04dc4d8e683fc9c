"""Amounts and currencies of a foreign table: how they are written, and what they are in a transaction."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec
import polars as pl

from schemas.currencies import MINOR_DIGITS, NUMBERS, SIGNS
from schemas.numerals import BLANKS, Numerals, currency_beside

_CODE: Final = re.compile("[A-Z]{3}|[a-z]{3}|[A-Z][a-z]{2}")  # not GBp, which is pence
_NUMBER: Final = re.compile(r"(\d{1,3})([.,]0+)?")
_OF_NUMBER: Final = {number: code for code, number in NUMBERS.items()}


class Amounts(Numerals, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[amount]`: how amounts are written."""

    unit: Literal["major", "minor"] = "major"
    """Euros or cents."""
    digits: Annotated[int, msgspec.Meta(ge=0, le=8)] | None = None
    """Of the minor unit; by default those of the row's currency (ISO 4217)."""
    sign: Literal["positive", "negative", "either"] = "positive"
    """That payments have in the table.  Rows of the other sign, such as refunds, are rejected; `either`: it says nothing."""
    direction: str | None = None
    """A column that says of each row whether it is a payment."""
    debits: tuple[str, ...] = ()
    """What `direction` says of a payment, such as D or DBIT.  Other rows are rejected."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.direction is None) != (not self.debits):
            raise ValueError(
                "`direction` names a column and `debits` what it says of payments: both are needed, or none"
            )

    def minor_units(self, amount: pl.Expr, currency: pl.Expr) -> pl.Expr:
        """Of amounts as they stand in the table; not rounded, so that what is no amount, or finer than one, is still seen."""
        if self.sign != "positive":
            amount = -amount if self.sign == "negative" else amount.abs()
        if self.unit == "minor":
            return amount
        if self.digits is not None:
            return amount * pl.lit(10.0**self.digits)
        factors = {code: 10.0**digits for code, digits in MINOR_DIGITS.items()}
        return amount * currency.replace_strict(factors, default=100.0, return_dtype=pl.Float64)


def currency_code(text: str) -> str | None:
    """The code that is meant by a code in any letters, by a number of ISO 4217, or by a sign or a name of one currency only.

    >>> [currency_code(text) for text in ("usd ", "978", "36", "€", "Euro", "$", "GBp", "credits")]
    ['USD', 'EUR', 'AUD', 'EUR', 'EUR', None, None, None]
    """
    plain = text.strip(BLANKS)
    meant = SIGNS.get(plain.upper().removesuffix("."))
    if meant is not None:
        return meant if len(meant) == 3 else None  # of several nobody can tell which
    if _CODE.fullmatch(plain):
        return plain.upper()
    number = _NUMBER.fullmatch(plain)
    return _OF_NUMBER.get(number[1].zfill(3)) if number else None


def currency_codes(text: pl.Expr) -> pl.Expr:
    """`currency_code` of a column; what is none stays as it is, to be named."""
    return text.map_batches(_codes, return_dtype=pl.String, is_elementwise=True)


def _codes(text: pl.Series) -> pl.Series:
    read = {each: currency_code(each) or each for each in text.drop_nulls().unique()}
    return text.replace_strict(read, default=None, return_dtype=pl.String)


def codes_beside(amount: pl.Expr) -> pl.Expr:
    """The currencies that each amount's own sign or code may mean: see `currency_beside`."""
    return amount.map_batches(currency_beside, return_dtype=pl.String, is_elementwise=True)
