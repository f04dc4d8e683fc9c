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

WINDOWS = (
    ("1h", HOUR, "hour"),
    ("24h", DAY, "24 hours"),
    ("7d", 7 * DAY, "7 days"),
    ("30d", 30 * DAY, "30 days"),
)
"""Of counts, sums, means, maxima and spreads, of accounts and counterparties alike."""
BURST = 600 * SECOND
FAR_WINDOWS = (("7d", 7 * DAY, "7 days"), ("14d", 14 * DAY, "14 days"))
MATURED_WINDOWS = (
    ("1d", DAY, "day"),
    ("2d", 2 * DAY, "2 days"),
    ("4d", 4 * DAY, "4 days"),
    ("7d", 7 * DAY, "7 days"),
    ("14d", 14 * DAY, "14 days"),
    ("30d", 30 * DAY, "30 days"),
)

SETTLING = 2 * SECOND
"""Counterparty windows end this long before the transaction, in training and in serving: activity takes a round trip
through Kafka, and what a replay sees at once the worker could not have seen."""

MATURITY = 7 * DAY
"""After this long a label may be expected.  Matured windows hold ages in [MATURITY, MATURITY + w): frauds over
transactions there is a rate, and not biased by labels to come."""


REACH = MATURITY + MATURED_WINDOWS[-1][1]
"""As far back as the oldest window reaches.  Of a counterparty nothing older counts, nor does its last payment: older ones leave
the profile when the next one is folded, which a replay sees sooner than a worker."""


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
    KM_H = "km/h"


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One number that the model is told."""

    name: str
    unit: Unit
    meaning: str
    """As an analyst reads it."""
    when_new: str = "missing"
    """Its value for an account or a counterparty never seen; `missing` is NaN."""


FAR = 3
"""An amount is far above what is typical of an account from this many times of it on."""
TYPICAL_OVER = 100
"""Payments that a typical amount is a mean of, roughly."""
NIGHT_ENDS = 6
"""The last hour that is night."""

Kept = tuple[tuple[str, int], ...]
"""How many of a kind are remembered."""
SEEN_BY_ACCOUNT: Kept = (("counterparty", 64), ("country", 8), ("device", 12), ("channel", 6), ("category", 16))
PAYER_BUCKETS = 128
"""Accounts of a counterparty are told apart by this many buckets (linear counting)."""


def _of_the_transaction() -> Iterator[Feature]:
    for name, unit, meaning in (
        ("amount", Unit.MINOR, "amount of the transaction"),
        (
            "amount_below_round",
            Unit.YES,
            "amount just below a round one (at most 2 % below 1, 2 or 5 times a power of ten)",
        ),
        ("hour", Unit.HOUR, "local hour"),
        ("weekday", Unit.WEEKDAY, "local weekday"),
        ("night", Unit.YES, "local time is before 7 in the morning"),
    ):
        yield Feature(name=name, unit=unit, meaning=meaning, when_new="as it is")


def _sums(side: str, whose: str) -> Iterator[Feature]:
    for window, _, words in WINDOWS:
        before = f"{whose} in the {words} before"
        yield Feature(name=f"{side}_count_{window}", unit=Unit.COUNT, meaning=f"payments {before}", when_new="0")
        yield Feature(
            name=f"{side}_sum_{window}", unit=Unit.MINOR, meaning=f"sum of the payments {before}", when_new="0"
        )
        yield Feature(name=f"{side}_mean_{window}", unit=Unit.MINOR, meaning=f"mean payment {before}")
        yield Feature(name=f"{side}_max_{window}", unit=Unit.MINOR, meaning=f"largest payment {before}")
        yield Feature(
            name=f"{side}_spread_{window}", unit=Unit.MINOR, meaning=f"standard deviation of the payments {before}"
        )


def _frauds(side: str, whose: str) -> Iterator[Feature]:
    for window, _, words in MATURED_WINDOWS:
        then = f"{whose} in the {words} that ended 7 days ago"
        yield Feature(name=f"{side}_matured_count_{window}", unit=Unit.COUNT, meaning=f"payments {then}", when_new="0")
        yield Feature(
            name=f"{side}_matured_frauds_{window}", unit=Unit.COUNT, meaning=f"known frauds {then}", when_new="0"
        )
        yield Feature(name=f"{side}_fraud_rate_{window}", unit=Unit.RATIO, meaning=f"share of frauds {then}")
    yield Feature(name=f"{side}_known_frauds", unit=Unit.COUNT, meaning=f"known frauds {whose}", when_new="0")
    yield Feature(name=f"{side}_since_fraud", unit=Unit.SECONDS, meaning=f"time since the last known fraud {whose}")
    yield Feature(
        name=f"{side}_since_first_fraud",
        unit=Unit.SECONDS,
        meaning=f"time since the first known fraud {whose} in the {REACH // DAY} days before",
    )


def _of_the_account() -> Iterator[Feature]:
    whose = "of the account"
    yield from _sums("account", whose)
    yield Feature(
        name="account_count_10m", unit=Unit.COUNT, meaning=f"payments {whose} in the 10 minutes before", when_new="0"
    )
    yield Feature(
        name="account_sum_10m",
        unit=Unit.MINOR,
        meaning=f"sum of the payments {whose} in the 10 minutes before",
        when_new="0",
    )
    yield Feature(name="account_since_last", unit=Unit.SECONDS, meaning="time since the account's last payment")
    yield Feature(name="account_since_first", unit=Unit.SECONDS, meaning="time since the account's first payment")
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
    yield Feature(
        name="account_typical",
        unit=Unit.MINOR,
        meaning=f"typical payment {whose}: mean of its last {TYPICAL_OVER} or so, each cut to {FAR} times the mean before it",
    )
    yield Feature(
        name="amount_to_account_typical", unit=Unit.RATIO, meaning="amount over the account's typical payment"
    )
    for window, _, words in FAR_WINDOWS:
        yield Feature(
            name=f"account_far_above_{window}",
            unit=Unit.COUNT,
            meaning=f"payments {whose} in the {words} before that were over {FAR} times what was typical of it",
            when_new="0",
        )
    yield Feature(
        name="account_below_round_7d",
        unit=Unit.COUNT,
        meaning=f"payments {whose} in the 7 days before that were just below a round amount",
        when_new="0",
    )
    yield Feature(
        name="account_night_share_30d",
        unit=Unit.RATIO,
        meaning=f"share of night in the payments {whose} in the 30 days before",
    )
    yield Feature(
        name="hour_usual",
        unit=Unit.RATIO,
        meaning="share of the account's payments at this local hour or one beside it",
    )
    yield Feature(name="weekday_usual", unit=Unit.RATIO, meaning="share of the account's payments on this weekday")
    for many, windows in (
        ("counterparties", WINDOWS[1:]),
        ("countries", (WINDOWS[1], WINDOWS[3])),
        ("devices", (WINDOWS[1], WINDOWS[3])),
        ("channels", (WINDOWS[3],)),
    ):
        for window, _, words in windows:
            yield Feature(
                name=f"account_{many}_{window}",
                unit=Unit.COUNT,
                meaning=f"different {many} {whose} in the {words} before",
                when_new="0",
            )
    for one in ("counterparty", "country", "device", "category"):
        yield Feature(
            name=f"{one}_is_new", unit=Unit.YES, meaning=f"the account's first payment with this {one}", when_new="1"
        )
    yield Feature(
        name="account_since_counterparty",
        unit=Unit.SECONDS,
        meaning="time since the account's last payment at this counterparty",
    )
    yield Feature(
        name="account_speed",
        unit=Unit.KM_H,
        meaning="speed of the journey from the place of the account's last payment",
    )
    yield from _frauds("account", whose)


def _of_the_counterparty() -> Iterator[Feature]:
    whose = "at the counterparty"
    yield from _sums("counterparty", whose)
    yield Feature(
        name="counterparty_since_last",
        unit=Unit.SECONDS,
        meaning=f"time since the counterparty's last payment of the {REACH // DAY} days before",
    )
    yield Feature(
        name="counterparty_since_first", unit=Unit.SECONDS, meaning="time since the counterparty's first payment"
    )
    yield Feature(
        name="amount_to_counterparty_mean_30d",
        unit=Unit.RATIO,
        meaning="amount over the mean payment at the counterparty in the 30 days before",
    )
    for window, _, words in WINDOWS[1:]:
        yield Feature(
            name=f"counterparty_accounts_{window}",
            unit=Unit.COUNT,
            meaning=f"different accounts {whose} in the {words} before",
            when_new="0",
        )
        yield Feature(
            name=f"counterparty_payers_ratio_{window}",
            unit=Unit.RATIO,
            meaning=f"mean of the payments {whose} in the {words} before, each over what is typical of its payer",
        )
    yield from _frauds("counterparty", whose)


CATALOGUE: tuple[Feature, ...] = (*_of_the_transaction(), *_of_the_account(), *_of_the_counterparty())
FEATURES: tuple[str, ...] = tuple(feature.name for feature in CATALOGUE)
OF_THE_ACCOUNT = slice(len(tuple(_of_the_transaction())), len(FEATURES) - len(tuple(_of_the_counterparty())))
OF_THE_COUNTERPARTY = slice(len(FEATURES) - len(tuple(_of_the_counterparty())), len(FEATURES))
"""Columns that are missing where a transaction names no counterparty."""
_MEANT = (FEATURES, WINDOWS, FAR_WINDOWS, MATURED_WINDOWS, BURST, SETTLING, MATURITY, FAR, TYPICAL_OVER, NIGHT_ENDS,
          REACH, SEEN_BY_ACCOUNT, PAYER_BUCKETS)  # fmt: skip
DIGEST: str = hashlib.sha256(repr(_MEANT).encode()).hexdigest()[:16]
"""A bundle and a worker must agree on it: names, order, and what the windows' edges are."""


def column(name: str) -> int:
    """Where in a vector the feature stands; the kernel's constants are made of it."""
    return FEATURES.index(name)
