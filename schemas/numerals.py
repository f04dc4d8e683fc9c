"""Numbers as people write them: a decimal comma, signs between the thousands, a currency beside them, a minus behind them."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
import polars as pl

from schemas.currencies import NUMBERS, SIGNS

BLANKS: Final = " \t\u00a0\u2007\u2009\u202f"
"""Also those that don't break a line, which stand between the thousands of a French or Swedish number."""
_APOSTROPHES: Final = "'\u2019\u02bc"
_MINUSES: Final = "[\u2212\u2013\u2014\u2010\u2011\u2012\ufe63\uff0d]"
_GROUPED: Final = {"'": _APOSTROPHES, " ": BLANKS, "_": "_", ".": ".", ",": ","}
"""The signs that each value of `thousands` stands for."""
_CURRENCY: Final = (
    "(?:(?i:" + "|".join(sorted(NUMBERS, reverse=True)) + r")|(?i:kr|fr|rs|zł|kč|tl|ft|lei|rm)\.?|[A-Za-z]{0,3}\p{Sc})"
)
_DEBIT_OR_CREDIT: Final = r"(?i:dr|db|cr)\.?"


class Numerals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How numbers are written."""

    decimal: Literal[".", ","] = "."
    thousands: Annotated[str, msgspec.Meta(pattern="^[.,' _]?$")] | None = None
    """What stands between the thousands: `.`, `,`, `'` (any apostrophe), a blank (any blank), `_`, or "" for nothing.

    By default whatever can't be anything else: apostrophes, blanks and `_`, and the dot where `decimal` is a comma.  A comma
    must be said, since 1,234 is 1.234 to many.
    """

    def __post_init__(self) -> None:
        if self.thousands == self.decimal:
            raise ValueError(f"`thousands` and `decimal` are both {self.decimal!r}; they can't be the same")

    def read(self, text: pl.Expr) -> pl.Expr:
        """As floats; null where it is no number.

        Groups must be whole (1.23 is never 123), currencies and percent signs go, 12.00-, (12.00), 12.00 CR and minus signs
        of any kind are negative, 12.- is 12.
        """
        return text.map_batches(self.read_series, return_dtype=pl.Float64, is_elementwise=True)

    def read_series(self, text: pl.Series) -> pl.Series:
        """The same of a series."""
        plain = self._plainly(text)
        hard = plain.is_null() & text.is_not_null()
        if not hard.any():
            return plain
        return plain.scatter(hard.arg_true(), self._closely(text.filter(hard)))

    def _plainly(self, text: pl.Series) -> pl.Series:
        """Nearly all numbers are written so that this reads them, fast."""
        if self.decimal == ",":
            plain = text.set(text.str.contains(".", literal=True), None)
            number = plain.str.replace(",", ".", literal=True).cast(pl.Float64, strict=False)
        else:
            number = text.cast(pl.Float64, strict=False)
        return number.set(~number.is_finite(), None)

    def _closely(self, text: pl.Series) -> pl.Series:
        pattern = self._pattern()
        tidy = text.str.strip_chars(BLANKS).str.replace_all(_MINUSES, "-")
        digits = tidy.str.extract(pattern, 2).str.replace_all(f"[{_APOSTROPHES}{BLANKS}_]", "")
        if self.decimal == ",":
            digits = digits.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
        else:
            digits = digits.str.replace_all(",", "", literal=True)
        number = digits.str.strip_chars_end("-").cast(pl.Float64, strict=False)
        before, behind = tidy.str.extract(pattern, 1), tidy.str.extract(pattern, 3)
        negative = (
            before.str.contains("-", literal=True)
            | behind.str.contains(r"(?i)-|cr")
            | (before.str.contains("(", literal=True) & behind.str.contains(")", literal=True))
        )
        unpaired = before.str.contains("(", literal=True) != behind.str.contains(")", literal=True)
        return number.set(unpaired.fill_null(value=True), None).zip_with(~negative.fill_null(value=False), 0.0 - number)

    def _pattern(self) -> str:
        """What stands before the number, the number, and what stands behind it."""
        signs = self.thousands if self.thousands is not None else "' _" + ("." if self.decimal == "," else "")
        # 1'234 567 is no number, and 1.10.345 a version; India writes 12,34,567.
        whole = [rf"[1-9]\d{{0,2}}(?:[{_GROUPED[sign]}]\d{{3}})+" for sign in signs]
        whole += [r"[1-9]\d?(?:,\d{2})*,\d{3}"] * ("," in signs) + [r"\d+"]
        point = rf"\{self.decimal}"
        number = rf"(?:{'|'.join(whole)})(?:{point}(?:\d+|--?)?)?(?:[eE][+-]?\d{{1,3}})?|{point}\d+"
        blank = f"[{BLANKS}]*"
        before = rf"\(?{blank}-?{blank}{_CURRENCY}?{blank}-?{blank}"
        behind = rf"{blank}%?{blank}{_CURRENCY}?{blank}(?:{_DEBIT_OR_CREDIT})?{blank}-?{blank}{_CURRENCY}?\)?"
        return rf"^({before})({number})({behind})$"


def currency_beside(text: pl.Series) -> pl.Series:
    """The currencies that the sign or code beside an amount may mean, in capital letters with blanks between; null without one.

    >>> currency_beside(pl.Series(["EUR 12", "5 €", "$7", "7"])).to_list()
    ['EUR', 'EUR', 'USD CAD AUD NZD SGD HKD TWD MXN ARS CLP COP UYU BRL', None]
    """
    hard = text.cast(pl.Float64, strict=False).is_null() & text.is_not_null()
    if not hard.any():
        return pl.Series(text.name, [None], dtype=pl.String).new_from_index(0, len(text))
    beside = text.set(~hard, None).str.extract(rf"({_CURRENCY})").str.to_uppercase().str.strip_chars(".")
    return beside.replace_strict({**SIGNS, **{code: code for code in NUMBERS}}, default=None, return_dtype=pl.String)
