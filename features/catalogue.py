"""Every feature, in the model's order, with what it means.  The kernel fills the columns; this says what they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

SECOND = 1_000_000
"""In microseconds, like every time in a profile."""
HOUR = 3_600 * SECOND
DAY = 24 * HOUR

ACCOUNT_WINDOWS = (
    ("1h", HOUR, "hour"),
    ("24h", DAY, "24 hours"),
    ("7d", 7 * DAY, "7 days"),
    ("30d", 30 * DAY, "30 days"),
)
COUNTERPARTY_WINDOWS = (("1d", DAY, "day"), ("7d", 7 * DAY, "7 days"), ("30d", 30 * DAY, "30 days"))

SETTLING = 2 * SECOND
"""Counterparty windows end this long before the transaction, in training and in serving: activity takes a round trip
through Kafka, and what a replay sees at once the worker could not have seen."""

MATURITY = 7 * DAY
"""After this long a label may be expected.  Matured windows hold ages in [MATURITY, MATURITY + w): frauds over
transactions there is a rate, and not biased by labels to come."""


class Unit(StrEnum):
    """What a feature's number counts."""

    MINOR = "minor units"
    COUNT = "count"
    SECONDS = "seconds"
    RATIO = "ratio"
    DEVIATIONS = "standard deviations"
    HOUR = "hour of the day"
    WEEKDAY = "weekday, Monday is 0"
    YES = "1 if so"
    NUMBER = "number, as it was sent"


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One number that the model is told."""

    name: str
    unit: Unit
    meaning: str
    """As an analyst reads it."""
    when_new: str = "missing"
    """Its value for an account or a counterparty never seen; `missing` is NaN."""


def _features() -> Iterator[Feature]:
    yield Feature(name="amount", unit=Unit.MINOR, meaning="amount of the transaction", when_new="as it is")
    yield Feature(name="hour", unit=Unit.HOUR, meaning="local hour", when_new="as it is")
    yield Feature(name="weekday", unit=Unit.WEEKDAY, meaning="local weekday", when_new="as it is")
    yield Feature(name="night", unit=Unit.YES, meaning="local time is before 7 in the morning", when_new="as it is")
    for window, _, words in ACCOUNT_WINDOWS:
        before = f"of the account in the {words} before"
        yield Feature(name=f"account_count_{window}", unit=Unit.COUNT, meaning=f"payments {before}", when_new="0")
        yield Feature(
            name=f"account_sum_{window}", unit=Unit.MINOR, meaning=f"sum of the payments {before}", when_new="0"
        )
        yield Feature(name=f"account_mean_{window}", unit=Unit.MINOR, meaning=f"mean payment {before}")
        yield Feature(name=f"account_max_{window}", unit=Unit.MINOR, meaning=f"largest payment {before}")
    yield Feature(name="account_since_last", unit=Unit.SECONDS, meaning="time since the account's last payment")
    yield Feature(
        name="amount_to_account_mean_30d",
        unit=Unit.RATIO,
        meaning="amount over the account's mean payment in the 30 days before",
    )
    yield Feature(
        name="amount_deviation_30d",
        unit=Unit.DEVIATIONS,
        meaning="how far the amount lies from the account's mean payment in the 30 days before",
    )
    yield Feature(name="account_known_frauds", unit=Unit.COUNT, meaning="known frauds of the account", when_new="0")
    for window, _, words in COUNTERPARTY_WINDOWS:
        before = f"at the counterparty in the {words} before"
        yield Feature(name=f"counterparty_count_{window}", unit=Unit.COUNT, meaning=f"payments {before}", when_new="0")
        yield Feature(name=f"counterparty_mean_{window}", unit=Unit.MINOR, meaning=f"mean payment {before}")
    for window, _, words in COUNTERPARTY_WINDOWS:
        then = f"at the counterparty in the {words} that ended 7 days ago"
        yield Feature(
            name=f"counterparty_matured_count_{window}", unit=Unit.COUNT, meaning=f"payments {then}", when_new="0"
        )
        yield Feature(
            name=f"counterparty_matured_frauds_{window}", unit=Unit.COUNT, meaning=f"known frauds {then}", when_new="0"
        )
        yield Feature(name=f"counterparty_fraud_rate_{window}", unit=Unit.RATIO, meaning=f"share of frauds {then}")


CATALOGUE: tuple[Feature, ...] = tuple(_features())
FEATURES: tuple[str, ...] = tuple(feature.name for feature in CATALOGUE)
_MEANT = (FEATURES, ACCOUNT_WINDOWS, COUNTERPARTY_WINDOWS, SETTLING, MATURITY)
DIGEST: str = hashlib.sha256(repr(_MEANT).encode()).hexdigest()[:16]
"""A bundle and a worker must agree on it: names, order, and what the windows' edges are."""


def column(name: str) -> int:
    """Where in a vector the feature stands; the kernel's constants are made of it."""
    return FEATURES.index(name)
