"""Amounts of any currency in one, in whole minor units, the same on every machine."""

from __future__ import annotations

from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.accepting import MAX_PROFILE_AMOUNT, Rules
from schemas.currencies import DEFAULT_RATES, MINOR_DIGITS, UNITS_PER_EURO, Rates
from schemas.wire import MAX_AMOUNT
from tests.examples import examples
from training.errors import UnusablePast
from training.replay import amounts

codes = st.sampled_from(sorted(UNITS_PER_EURO))


@pytest.mark.parametrize(
    ("amount", "currency", "cents"),
    [
        (12_345, "EUR", 12_345),
        (116, "USD", 100),
        (180, "JPY", 100),  # no minor unit
        (355, "KWD", 100),  # a thousandth
        (0, "USD", 0),
        (1, "VND", 0),
        (153, "VND", 1),
        (152, "VND", 0),
    ],
)
def test_an_amount_is_worth_so_many_cents(amount: int, currency: str, cents: int) -> None:
    assert DEFAULT_RATES.convert(amount, currency) == cents


def test_half_a_cent_is_rounded_up() -> None:
    rates = Rates.of("EUR", {"EUR": "1", "CHF": "2"})

    assert [rates.convert(amount, "CHF") for amount in (1, 2, 3, 4)] == [1, 1, 2, 2]


@examples(200)
@given(st.integers(0, MAX_AMOUNT), codes, codes)
def test_conversion_is_exact_but_for_the_last_cent(amount: int, currency: str, home: str) -> None:
    exactly = Fraction(amount) * Fraction(UNITS_PER_EURO[home]) / Fraction(UNITS_PER_EURO[currency])
    exactly *= Fraction(10) ** (MINOR_DIGITS.get(home, 2) - MINOR_DIGITS.get(currency, 2))

    converted = Rates.of(home).convert(amount, currency)

    assert abs(converted - exactly) <= Fraction(1, 2)
    assert 0 <= Rules(rates=Rates.of(home)).amount(amount, currency) <= MAX_PROFILE_AMOUNT


@examples(50)
@given(st.integers(0, MAX_AMOUNT), codes)
def test_more_money_is_never_worth_less(amount: int, currency: str) -> None:
    assert DEFAULT_RATES.convert(amount, currency) <= DEFAULT_RATES.convert(amount + 1, currency)


def test_what_no_profile_could_hold_is_cut() -> None:
    assert Rules(rates=Rates.of("VND")).amount(MAX_AMOUNT, "EUR") == MAX_PROFILE_AMOUNT


def test_every_code_is_three_letters_and_every_rate_a_positive_number() -> None:
    assert all(len(code) == 3 and code.isupper() and Fraction(rate) > 0 for code, rate in UNITS_PER_EURO.items())


@pytest.mark.parametrize("rate", ["0", "-1"])
def test_a_rate_must_be_positive(rate: str) -> None:
    with pytest.raises(ValueError, match="USD"):
        Rates.of("EUR", {"EUR": "1", "USD": rate})


def test_profiles_are_kept_in_a_currency_that_has_a_rate() -> None:
    with pytest.raises(KeyError):
        Rates.of("XTS")


@examples(100)
@given(
    st.lists(st.tuples(st.integers(0, MAX_AMOUNT), st.sampled_from(["EUR", "USD", "CHF"])), min_size=1),
    st.sampled_from(["2", "0.1234567890123456789", "5.234567890123456789", "1e-17"]),
)
def test_a_column_is_converted_as_each_amount_is(paid: list[tuple[int, str]], rate: str) -> None:
    rates = Rates.of("EUR", {"EUR": "1", "USD": "1.16", "CHF": rate})
    column = pl.DataFrame(paid, schema={"amount": pl.Int64, "currency": pl.String}, orient="row")

    assert amounts(column, rates).tolist() == [Rules(rates=rates).amount(amount, currency) for amount, currency in paid]


def test_an_amount_without_a_currency_is_not_guessed_at() -> None:
    column = pl.DataFrame({"amount": [1, 2], "currency": ["EUR", None]})

    with pytest.raises(UnusablePast, match="without a currency"):
        amounts(column, DEFAULT_RATES)
