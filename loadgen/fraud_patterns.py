"""How it goes wrong: the kinds of fraud, and what each of them pays.

A campaign begins on a day and pays on that day and the following ones; what lies beyond the end of a world is cut off.
Each kind has honest look-alikes in `population`: sprees, small change, journeys, the washing machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final

import numpy as np

from loadgen.population import (
    CATEGORIES,
    DAY,
    HOUR,
    LANDS,
    NOBODY,
    Channel,
    Ints,
    Payments,
    Population,
    Stream,
    choose_counterparties,
    generator,
    local_instants,
    local_times,
    payments,
    pick_accounts,
    replaced,
    together,
)


class Pattern(IntEnum):
    """The kinds of fraud, as the truth names them."""

    GENUINE = 0
    STOLEN_CARD = 1
    ACCOUNT_TAKEOVER = 2
    COMPROMISED_COUNTERPARTY = 3
    CARD_TESTING = 4
    HIGH_AMOUNT = 5
    BUST_OUT = 6


PATTERN_NAMES: Final = tuple(
    None if kind is Pattern.GENUINE else kind.name.lower().replace("_", "-") for kind in Pattern
)
"""By number; None for genuine."""

SHARES: Final[Mapping[Pattern, float]] = MappingProxyType(
    {
        Pattern.STOLEN_CARD: 0.27,
        Pattern.ACCOUNT_TAKEOVER: 0.14,
        Pattern.COMPROMISED_COUNTERPARTY: 0.22,
        Pattern.CARD_TESTING: 0.15,
        Pattern.HIGH_AMOUNT: 0.07,
        Pattern.BUST_OUT: 0.15,
    }
)
"""Of all frauds."""
LONGEST: Final = 30
"""Days: no campaign lasts longer.  A world begins with those that began before it still going on."""


def fraud_day(population: Population, day: int, expected: float) -> Payments:
    """What the campaigns that begin on this local day pay; `expected` frauds a day of all kinds."""
    rng = generator(population.seed, Stream.FRAUD, day)
    parts = []
    for pattern, (campaign, size) in _CAMPAIGNS.items():
        begun = int(rng.poisson(expected * SHARES[pattern] / size))
        parts.append(campaign(population, rng, day, begun))
    return together(parts)


def _burst(
    rng: np.random.Generator, victims: Ints, begin: Ints, size: Ints, hours: tuple[float, float]
) -> tuple[Ints, Ints, Ints]:
    """Each victim repeated `size` times within its own span of hours: campaign, account, time."""
    campaign = np.repeat(np.arange(len(victims)), size)
    span = rng.uniform(*hours, len(victims)) * HOUR
    return campaign, victims[campaign], begin[campaign] + (rng.random(len(campaign)) * span[campaign]).astype(np.int64)


def _any_time(population: Population, rng: np.random.Generator, victims: Ints, day: int) -> Ints:
    """A thief keeps no hours, but half of them blend in."""
    awake = local_times(population, rng, victims, day)
    asleep = local_instants(population, victims, day, rng.integers(0, 24 * HOUR, len(victims)))
    return np.where(rng.random(len(victims)) < 0.5, awake, asleep)


def _stolen_card(population: Population, rng: np.random.Generator, day: int, begun: int) -> Payments:
    """Higher amounts than usual at unusual places, in a burst before the card is blocked."""
    victims = rng.integers(0, population.accounts, begun)
    campaign, account, at = _burst(
        rng, victims, _any_time(population, rng, victims, day), rng.integers(4, 12, begun), (0.4, 5)
    )
    where = np.where(rng.random(begun) < 0.5, population.land[victims], rng.integers(0, len(LANDS), begun))[campaign]
    counterparty = population.wanted.choose(rng, where)
    online = (rng.random(begun) < 0.45)[campaign]
    counterparty[online] = population.wanted_online.choose(rng, np.zeros(int(online.sum()), dtype=np.int64))
    greed = rng.uniform(1.3, 4.2, begun)[campaign]
    made = payments(population, rng, account, counterparty, at, factor=greed, pattern=Pattern.STOLEN_CARD)
    return _from_elsewhere(rng, made, campaign)


def _account_takeover(population: Population, rng: np.random.Generator, day: int, begun: int) -> Payments:
    """Somebody logs in from a new device and empties the account to others."""
    victims = rng.integers(0, population.accounts, begun)
    campaign, account, at = _burst(
        rng, victims, _any_time(population, rng, victims, day), rng.integers(2, 6, begun), (0.2, 5)
    )
    mules = np.flatnonzero(_CHANNEL_OF_CATEGORY[population.category] == Channel.TRANSFER)
    counterparty = mules[rng.integers(0, len(mules), begun)][campaign]
    greed = rng.uniform(2.0, 8.0, begun)[campaign]
    made = payments(population, rng, account, counterparty, at, factor=greed, pattern=Pattern.ACCOUNT_TAKEOVER)
    return _from_elsewhere(rng, made, campaign)


def _card_testing(population: Population, rng: np.random.Generator, day: int, begun: int) -> Payments:
    """Does the number work?  Tiny amounts in a row, then the real one."""
    victims = rng.integers(0, population.accounts, begun)
    size = rng.integers(5, 13, begun)
    begin = _any_time(population, rng, victims, day)
    campaign, account, at = _burst(rng, victims, begin, size, (0.03, 0.5))
    shop = population.wanted_online.choose(rng, np.zeros(begun, dtype=np.int64))[campaign]
    tests = payments(population, rng, account, shop, at, pattern=Pattern.CARD_TESTING)
    tests = replaced(tests, amount=rng.uniform(10, 250, len(account)))
    # Nine in ten numbers are found alive and used for one large payment soon after.
    alive = np.flatnonzero(rng.random(begun) < 0.9)
    later = begin[alive] + (rng.uniform(0.5, 2.5, len(alive)) * HOUR).astype(np.int64)
    loot = population.wanted_online.choose(rng, np.zeros(len(alive), dtype=np.int64))
    large = payments(
        population,
        rng,
        victims[alive],
        loot,
        later,
        factor=rng.uniform(1.5, 5.0, len(alive)),
        pattern=Pattern.CARD_TESTING,
    )
    return together([_from_elsewhere(rng, tests, campaign), _from_elsewhere(rng, large, np.arange(len(alive)))])


def _high_amount(population: Population, rng: np.random.Generator, day: int, begun: int) -> Payments:
    """One payment far above what this account ever pays."""
    account = pick_accounts(population, rng, begun)
    at = local_times(population, rng, account, day)
    counterparty = choose_counterparties(population, rng, account, np.full(begun, -1))
    return payments(
        population, rng, account, counterparty, at, factor=rng.uniform(8, 30, begun), pattern=Pattern.HIGH_AMOUNT
    )


def _bust_out(population: Population, rng: np.random.Generator, day: int, begun: int) -> Payments:
    """The holder takes all the credit there is, more and dearer from day to day, and is gone."""
    accounts = rng.integers(0, population.accounts, begun)
    campaign = np.repeat(np.arange(begun), rng.integers(14, 41, begun))
    days = rng.integers(2, 6, begun)[campaign]
    account = accounts[campaign]
    progress = np.sqrt(rng.random(len(campaign)))
    at = local_times(population, rng, account, day) + np.floor(progress * days).astype(np.int64) * DAY
    counterparty = population.wanted.choose(rng, population.land[account])
    greed = 1.2 + 2.2 * progress
    return payments(population, rng, account, counterparty, at, factor=greed, pattern=Pattern.BUST_OUT)


def _from_elsewhere(rng: np.random.Generator, made: Payments, campaign: Ints) -> Payments:
    """The thief's device and address instead of the holder's."""
    campaigns = int(campaign.max()) + 1 if len(campaign) else 0
    device = ((1 << 40) + rng.integers(0, 1 << 32, campaigns))[campaign]
    # 198.18.0.0/15, set aside for tests of networks.
    address = ((198 << 24 | 18 << 16) + rng.integers(0, 1 << 17, campaigns))[campaign]
    return replaced(made, device=np.where(made.device >= 0, device, -1), ip=np.where(made.ip >= 0, address, -1))


_CHANNEL_OF_CATEGORY: Final = np.array([int(category.channel) for category in CATEGORIES])

_Campaign = Callable[[Population, np.random.Generator, int, int], Payments]
_CAMPAIGNS: Final[Mapping[Pattern, tuple[_Campaign, float]]] = MappingProxyType(
    {
        Pattern.STOLEN_CARD: (_stolen_card, 7.5),
        Pattern.ACCOUNT_TAKEOVER: (_account_takeover, 3.5),
        Pattern.CARD_TESTING: (_card_testing, 9.4),
        Pattern.HIGH_AMOUNT: (_high_amount, 1.0),
        Pattern.BUST_OUT: (_bust_out, 27.0),
    }
)
"""Each with the payments of an average campaign."""


@dataclass(frozen=True)
class Compromise:
    """A counterparty whose terminal copies cards: of its payments, `share` are fraud from `begin` until `end`."""

    counterparty: int
    begin: int
    """Microseconds since 1970 UTC."""
    end: int
    share: float


def compromises(population: Population, day: int, expected: float, traffic: float) -> list[Compromise]:
    """Those that begin on this day; `expected` frauds a day of this kind, `traffic` payments a day in all."""
    rng = generator(population.seed, Stream.COMPROMISES, day)
    # The largest would drown every other kind of fraud, and the smallest are seen by nobody.
    order = np.argsort(population.popularity)
    eligible = order[len(order) // 3 : len(order) * 4 // 5]
    eligible = eligible[_CHANNEL_OF_CATEGORY[population.category[eligible]] != Channel.TRANSFER]
    if not len(eligible):
        return []
    mean_share, mean_days = 0.775, 24.5
    frauds_of_one = float(population.popularity[eligible].mean()) * traffic * mean_share * mean_days
    begun = int(rng.poisson(expected / frauds_of_one))
    chosen = eligible[rng.integers(0, len(eligible), begun)]
    begin = day * DAY + rng.integers(0, DAY, begun)
    length = rng.integers(20, 30, begun)
    share = rng.uniform(0.6, 0.95, begun)
    return [
        Compromise(int(who), int(since), int(since) + int(days) * DAY, float(part))
        for who, since, days, part in zip(chosen, begin, length, share, strict=True)
    ]


def compromised(population: Population, day: int, made: Payments, active: list[Compromise]) -> Payments:
    """The same payments, those that a compromised counterparty turned into fraud marked, and somewhat dearer."""
    rng = generator(population.seed, Stream.COMPROMISES, day + 10_000_000)
    chance, dearer = rng.random(len(made)), rng.uniform(1.0, 3.0, len(made))
    share = np.zeros(population.counterparties)
    begin, end = np.zeros((2, population.counterparties), dtype=np.int64)
    for each in active:
        share[each.counterparty], begin[each.counterparty], end[each.counterparty] = each.share, each.begin, each.end
    who = made.counterparty
    hit = (who != NOBODY) & (chance < share[who]) & (made.at >= begin[who]) & (made.at < end[who])
    return replaced(
        made,
        amount=np.where(hit, made.amount * dearer, made.amount),
        pattern=np.where(hit, int(Pattern.COMPROMISED_COUNTERPARTY), made.pattern),
    )
