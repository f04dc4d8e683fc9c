"""What a reason says to an analyst."""

from __future__ import annotations

import pytest

from features.catalogue import CATALOGUE, Feature, Unit
from streaming.phrases import Phrasing


def said(feature: Feature, value: float | None, *, currency: str = "EUR", **usual: float | None) -> str:
    known = {feature.name: usual["usual"]} if "usual" in usual else {}
    return Phrasing((feature,), known, currency).text(0, value)


def a(unit: Unit, meaning: str) -> Feature:
    return Feature(name="it", unit=unit, meaning=meaning)


PAYMENTS = a(Unit.COUNT, "payments in the hour before")
AMOUNT = a(Unit.MINOR, "amount")
NIGHT = a(Unit.YES, "local time is before 7 in the morning")
SINCE = a(Unit.SECONDS, "time since the last payment")
NUMBER = a(Unit.NUMBER, "tip")
RATE = a(Unit.RATIO, "share of frauds")


@pytest.mark.parametrize(
    ("feature", "value", "usual", "text"),
    [
        (PAYMENTS, 7.0, 0.0, "7 payments in the hour before, usually 0"),
        (PAYMENTS, 1.0, 0.0, "payments in the hour before: 1, usually 0"),
        (PAYMENTS, 0.0, 0.0, "0 payments in the hour before, as usual"),
        (PAYMENTS, 1_234.0, 3.0, "1,234 payments in the hour before, usually 3"),
        (AMOUNT, 81_240.0, 5_800.0, "amount: 812.40 EUR, 14 times the usual 58.00 EUR"),
        (AMOUNT, 6_000.0, 5_800.0, "amount: 60.00 EUR, usually 58.00 EUR"),
        (AMOUNT, 100.0, 0.0, "amount: 1.00 EUR, usually 0.00 EUR"),
        (AMOUNT, None, 5_800.0, "amount: unknown, usually 58.00 EUR"),
        (AMOUNT, None, None, "amount: unknown, as usual"),
        (AMOUNT, 129_900.0, None, "amount: 1,299.00 EUR, usually unknown"),
        (NIGHT, 1.0, 0.0, "local time is before 7 in the morning, usually no"),
        (NIGHT, 0.0, 0.0, "local time is before 7 in the morning: no, as usual"),
        (SINCE, 45.0, 3 * 86_400.0, "time since the last payment: 45 s, usually 3 days"),
        (SINCE, 5_400.0, 7_200.0, "time since the last payment: 90 min, usually 2 h"),
        (NUMBER, 12.5, 3.0, "tip: 12.5, usually 3"),
        (NUMBER, 3.4e38, None, "tip: 3.4e+38, usually unknown"),
        (RATE, 0.03125, 0.0, "share of frauds: 0.0312, usually 0"),
        (a(Unit.WEEKDAY, "local weekday"), 6.0, 2.0, "local weekday: Sunday"),
        (a(Unit.HOUR, "local hour"), 3.0, 14.0, "local hour: 3, usually 14"),
        (
            a(Unit.DEVIATIONS, "distance"),
            14.26,
            0.5,
            "distance: 14.3 standard deviations, usually 0.5 standard deviations",
        ),
    ],
)
def test_a_reason_says_what_how_much_and_how_much_is_usual(
    feature: Feature, value: float | None, usual: float | None, text: str
) -> None:
    assert said(feature, value, usual=usual) == text


def test_a_bundle_that_doesnt_say_what_is_usual_is_told_without() -> None:
    assert said(PAYMENTS, 7.0) == "7 payments in the hour before"


def test_amounts_are_in_the_currencys_own_minor_unit() -> None:
    assert said(AMOUNT, 1_500.0, currency="JPY") == "amount: 1,500 JPY"
    assert said(AMOUNT, 1_500.0, currency="KWD") == "amount: 1.500 KWD"


@pytest.mark.parametrize("value", [None, 0.0, 0.25, 1.0, 7.0, -3.5, 123_456.0])
def test_every_feature_of_the_catalogue_has_words(value: float | None) -> None:
    phrasing = Phrasing.of([feature.name for feature in CATALOGUE], {}, "EUR")

    for column, feature in enumerate(CATALOGUE):
        assert feature.meaning in phrasing.text(column, value)


def test_an_attribute_is_named_as_it_was_in_its_transaction() -> None:
    rate = Feature(name="fraud_rate(attributes.shop)", unit=Unit.RATIO, meaning="frauds among payments with shop 'zoo'")
    phrasing = Phrasing.of(["amount"], {rate.name: 0.01}, "EUR").followed_by([rate])

    assert phrasing.text(0, 100.0).endswith("1.00 EUR")
    assert phrasing.text(1, 0.25) == "frauds among payments with shop 'zoo': 0.25, usually 0.01"


def test_a_feature_that_this_catalogue_doesnt_have_means_its_name() -> None:
    assert (
        Phrasing.of(["entry_mode_chip"], {"entry_mode_chip": 0.0}, "EUR").text(0, 1.0)
        == "entry mode chip: 1, usually 0"
    )
