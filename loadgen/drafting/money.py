"""Amounts and currencies: what the amounts say of their currency, which rows are payments, why a column is no amount."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import polars as pl

from loadgen.drafting.columns import Column, Kind
from loadgen.drafting.times import NEARLY_ALL
from loadgen.drafting.toml import quoted
from loadgen.drafting.words import FIELDS
from schemas.currencies import MINOR_DIGITS, NUMBERS, SIGNS
from schemas.money import currency_code
from schemas.numerals import currency_beside

_MOST_CODES: Final = 200
_ROUNDED: Final = 1e-4
"""Of a minor unit: so far off a whole number a float may be that is one."""
_NAMED: Final = {"euro": "EUR", "euros": "EUR", "dollars": "USD", "dollar": "USD"}
_DEBITS: Final = frozenset({"d", "dr", "db", "dbit", "debit", "s", "soll", "out", "outgoing", "sent"})
_CREDITS: Final = frozenset({"c", "cr", "crdt", "credit", "h", "haben", "in", "incoming", "received"})
_OF_DIRECTION: Final = frozenset({"direction", "dc", "drcr", "crdr", "cdtdbtind", "indicator", "sign", "soll", "haben"})


def currency(amount: Column | None, columns: list[Column]) -> tuple[str, str, bool]:
    """`transaction.currency` in TOML where no column of codes was found, why, and whether that is sure."""
    if amount is not None:
        for word in amount.words:
            code = _NAMED.get(word) or (word.upper() if word in _CODES else None)
            if code is not None:
                return _constant(code), f"{word!r} in the name of the amount", True
        if amount.type == pl.String and (beside := _beside(amount)) is not None:
            return beside
    called = next((column for column in columns if FIELDS["currency"].score(column.words)[0]), None)
    if called is None:
        return _constant("EUR"), "no column of currencies: EUR is taken; say which it is", False
    meant = SIGNS.get(str(called.text[0]).strip().upper(), "") if called.distinct == 1 else ""
    if meant:
        code = meant[:3]
        why = (
            f"{called.named} is {str(called.text[0])!r}, which may be any of {meant}: {code} is taken; say which it is"
        )
        return _constant(code), why, False
    why = f"{called.named} is called so, but its values, such as {str(called.text[0])[:40]!r}, are no codes, numbers or names of"
    return _constant("EUR"), f"{why} ISO 4217 that mean one currency: EUR is taken; say which it is", False


def of_codes(columns: Iterable[Column]) -> Column | None:
    """The column whose values are currencies, whatever it is called; None: there is none, or several."""
    found = [
        column
        for column in columns
        if column.kind is Kind.TEXT
        and column.distinct <= _MOST_CODES
        and all(len(text.strip()) == len("EUR") and currency_code(text) in NUMBERS for text in column.text.unique())
    ]
    return found[0] if len(found) == 1 else None


def _beside(amount: Column) -> tuple[str, str, bool] | None:
    said = currency_beside(amount.text)
    if said.count() < NEARLY_ALL * len(said):
        return None
    meant = said.drop_nulls().unique()
    if len(meant) == 1:
        return (
            _constant(meant[0][:3]),
            f"the amounts carry it, such as {str(amount.text[0])!r}",
            len(meant[0]) == len("EUR"),
        )
    several = sorted(set(meant))
    if all(len(each) == len("EUR") for each in several):
        return quoted(amount.name), f"the amounts carry it: {', '.join(several[:5])}", True
    return None


def _constant(code: str) -> str:
    return f"{{ constant = {quoted(code)} }}"


def direction(column: Column) -> tuple[str, str, int] | None:
    """What a column says of payments, what of the others, and of how many rows; None: it says no such thing."""
    if column.kind is not Kind.TEXT or column.distinct != 2:
        return None
    if not (set(column.words) & _OF_DIRECTION or {"debit", "credit"} <= set(column.words)):
        return None
    values = {str(value).strip().lower(): str(value) for value in column.text.unique()}
    paid, received = sorted(set(values) & _DEBITS), sorted(set(values) & _CREDITS)
    if len(paid) != 1 or len(received) != 1:
        return None
    return values[paid[0]].strip(), values[received[0]].strip(), int((column.text == values[received[0]]).sum())


def why_no_amount(column: Column) -> str | None:
    """Why a column that is called an amount is taken for none; None: it isn't called so."""
    if not FIELDS["amount"].score(column.words)[0] or column.kind is Kind.NOTHING:
        return None
    if column.kind is not Kind.NUMBER:
        return f"{column.named} is called so, but {no_numbers(column)}"
    if column.zero_padded:
        return f"{column.named} is called so, but its values begin with zeros, as those of an id do"
    if column.largest == column.smallest == 0:
        return f"{column.named} is called so, but all its values are 0"
    return f"{column.named} is called so, but its values, from {column.smallest:,.10g} to {column.largest:,.10g}, have both signs"


def no_numbers(column: Column) -> str:
    """How many of its values are none, and one of them."""
    if column.type != pl.String:
        return f"it is {column.type}"
    odd = column.values.filter(column.numbers.is_null() & ~column.empty)
    return f"{len(odd) / max(len(column.present), 1):.0%} of its values, such as {str(odd[0])[:40]!r}, are no numbers"


def too_fine(amount: Column, unit: str, code: str | None) -> str | None:
    """What is said of amounts that have more decimals than their currency; None: they have not."""
    digits = 0 if unit == "minor" else MINOR_DIGITS.get(code or "EUR", 2)
    minor = amount.numbers * 10.0**digits
    odd = ((minor - minor.round()).abs() > _ROUNDED).fill_null(value=False)
    if not odd.any():
        return None
    than = "than two decimals" if code is None else f"decimals than {code} has"
    what = "decimals, and are cents" if unit == "minor" else f"more {than}, and are rounded"
    some = f"{odd.sum():,} of {len(amount.present):,} amounts, such as {str(amount.values.filter(odd)[0])!r}"
    return f"{some}, have {what}: is it so?"


_CODES: Final = {
    code.lower() for code in NUMBERS if code in ("EUR", "USD", "GBP", "CHF", "JPY", "SEK", "NOK", "DKK", "PLN")
}
