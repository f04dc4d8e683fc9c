"""Who there is and how they pay: accounts, counterparties, habits; and a day of genuine payments.

Everything is drawn from generators keyed by the seed and the calendar day, never from one long stream: a world with a
later end has the same days, and a day can be made without those before it.  Amounts are in euro cents until they are
written down; times are microseconds since 1970 UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MINUTE: Final = 60_000_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

FAVOURITES: Final = 14
"""How many counterparties an account goes to again and again."""
NOBODY: Final = -1
NONE: Final = -1


class Stream(IntEnum):
    """What a generator is for: two purposes never share one."""

    ACCOUNTS = 1
    COUNTERPARTIES = 2
    HABITS = 3
    TRAVEL = 4
    GENUINE = 5
    FRAUD = 6
    COMPROMISES = 7
    LABELS = 8
    ENTRIES = 9


def generator(seed: int, stream: Stream, day: int = 0) -> np.random.Generator:
    """The generator of this purpose on this day (days since 1970)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, int(stream), day + 1_000_000])))


@dataclass(frozen=True)
class Land:
    """Where accounts live and counterparties are."""

    code: str
    currency: str
    utc_offset: int
    """Minutes east of UTC.  Standard time all the year: nothing here depends on a time zone database."""
    latitude: float
    longitude: float
    accounts: float
    """Share of the accounts, before normalising."""


LANDS: Final = (
    Land("DE", "EUR", 60, 51.0, 10.0, 26),
    Land("FR", "EUR", 60, 47.0, 2.5, 20),
    Land("ES", "EUR", 60, 40.2, -3.7, 13),
    Land("IT", "EUR", 60, 43.0, 12.0, 13),
    Land("NL", "EUR", 60, 52.2, 5.3, 7),
    Land("BE", "EUR", 60, 50.8, 4.4, 5),
    Land("PT", "EUR", 0, 39.6, -8.0, 4),
    Land("FI", "EUR", 120, 61.5, 24.8, 3),
    Land("GB", "GBP", 0, 52.3, -1.2, 6),
    Land("PL", "PLN", 60, 52.0, 19.4, 4),
    Land("CH", "CHF", 60, 46.9, 8.0, 3),
    Land("SE", "SEK", 60, 59.6, 15.6, 2),
    Land("DK", "DKK", 60, 55.8, 10.5, 1.5),
    Land("CZ", "CZK", 60, 49.8, 15.5, 1.5),
    Land("US", "USD", -300, 40.6, -76.0, 2),
    Land("SG", "SGD", 480, 1.35, 103.8, 0.5),
)


class Channel(IntEnum):
    """How it was paid."""

    POS = 0
    ONLINE = 1
    ATM = 2
    TRANSFER = 3


CHANNEL_NAMES: Final = tuple(channel.name.lower() for channel in Channel)


@dataclass(frozen=True)
class Category:
    """What a counterparty sells."""

    name: str
    share: float
    """Of the counterparties."""
    price: float
    """Typical price, as a multiple of what an account usually spends."""
    channel: Channel
    traffic: float
    """Payments at one of them, as a multiple of the average counterparty's."""


CATEGORIES: Final = (
    Category("groceries", 20, 1.0, Channel.POS, 2.6),
    Category("restaurant", 18, 0.9, Channel.POS, 1.1),
    Category("fuel", 8, 2.2, Channel.POS, 1.3),
    Category("fashion", 9, 2.6, Channel.POS, 0.6),
    Category("health", 7, 1.1, Channel.POS, 0.7),
    Category("electronics", 5, 6.0, Channel.POS, 0.35),
    Category("jewellery", 2, 9.0, Channel.POS, 0.12),
    Category("travel", 4, 7.0, Channel.ONLINE, 0.4),
    Category("marketplace", 8, 1.5, Channel.ONLINE, 2.0),
    Category("digital", 6, 0.35, Channel.ONLINE, 1.5),
    Category("gambling", 2, 1.4, Channel.ONLINE, 0.4),
    Category("online-electronics", 3, 5.0, Channel.ONLINE, 0.5),
    Category("cash", 4, 3.5, Channel.ATM, 1.6),
    Category("person", 4, 3.0, Channel.TRANSFER, 0.5),
)
CATEGORY: Final = {category.name: index for index, category in enumerate(CATEGORIES)}

# Local hours, 0 to 23, of four ways to live; the second row of each is the weekend.
_HOURS: Final = np.array(
    [
        [
            [1, 1, 1, 1, 1, 3, 10, 24, 38, 46, 54, 62, 70, 62, 54, 52, 58, 72, 76, 62, 42, 26, 12, 4],
            [4, 2, 1, 1, 1, 1, 3, 8, 20, 42, 64, 74, 74, 68, 62, 60, 60, 58, 52, 44, 36, 28, 18, 10],
        ],
        [
            [1, 1, 1, 1, 1, 6, 26, 54, 40, 20, 18, 30, 62, 52, 22, 20, 34, 76, 96, 72, 40, 22, 10, 3],
            [4, 2, 1, 1, 1, 2, 4, 10, 26, 50, 70, 72, 66, 60, 56, 58, 60, 56, 50, 44, 38, 30, 18, 9],
        ],
        [
            [12, 6, 3, 1, 1, 1, 2, 6, 12, 20, 28, 36, 46, 46, 42, 44, 50, 60, 72, 80, 82, 70, 48, 26],
            [28, 20, 12, 6, 2, 1, 1, 2, 8, 18, 34, 48, 56, 58, 56, 56, 58, 62, 68, 74, 78, 74, 60, 44],
        ],
        [
            [46, 38, 32, 28, 30, 36, 44, 40, 20, 8, 5, 6, 10, 18, 30, 42, 50, 54, 50, 44, 40, 42, 46, 48],
            [50, 44, 36, 28, 22, 20, 22, 20, 16, 14, 18, 24, 32, 40, 46, 50, 52, 54, 52, 48, 46, 46, 48, 50],
        ],
    ],
    dtype=np.float64,
)
_HOURS_CUMULATED: Final = np.cumsum(_HOURS, axis=2) / _HOURS.sum(axis=2, keepdims=True)
_WEEKDAYS: Final = np.array([0.96, 0.95, 0.97, 1.0, 1.14, 1.22, 0.76])
"""Payments on Monday to Sunday, against the average day."""


@dataclass(frozen=True)
class Payments:
    """Columns of payments, in no order yet."""

    account: Ints
    counterparty: Ints
    """NOBODY where nobody is named."""
    at: Ints
    amount: Floats
    """Euro cents."""
    channel: Ints
    land: Ints
    """Where it was paid: an index into LANDS; online, where the account lives."""
    device: Ints
    """A device's number, NONE without one."""
    ip: Ints
    """An IPv4 address as a number, NONE without one."""
    pattern: Ints
    """The kind of fraud, GENUINE where it is none."""

    def __len__(self) -> int:
        return len(self.account)

    def where(self, rows: npt.NDArray[np.bool_] | Ints) -> Payments:
        """Only these rows."""
        return Payments(**{each.name: getattr(self, each.name)[rows] for each in fields(self)})


def together(parts: list[Payments]) -> Payments:
    """All of them, one part behind the other."""
    return Payments(
        **{each.name: np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Payments)}
    )


@dataclass(frozen=True)
class Population:
    """The accounts and counterparties of a world.  One seed, one population."""

    seed: int
    # accounts
    land: Ints
    rate: Floats
    """Share of all payments."""
    scale: Floats
    """What the account usually spends on groceries: euro cents, the median."""
    spread: Floats
    """Standard deviation of the logarithm of its amounts."""
    rhythm: Ints
    """Which of the ways to live."""
    loyalty: Floats
    """Probability that a payment goes to a favourite."""
    online: Floats
    """Probability that one that doesn't is made online."""
    devices: Ints
    """How many it has."""
    address: Ints
    """Its usual IPv4 address."""
    favourite: Ints
    """[accounts, FAVOURITES] counterparties."""
    favour: Floats
    """[accounts, FAVOURITES] cumulated weights."""
    latitude: Floats
    longitude: Floats
    # counterparties
    category: Ints
    price: Floats
    """Typical price, as a multiple of what an account usually spends."""
    counterparty_land: Ints
    counterparty_latitude: Floats
    counterparty_longitude: Floats
    popularity: Floats
    """Sums to 1."""
    shops: Shelf
    """Counterparties of a land where one pays in person."""
    web: Shelf
    """Online ones, the same for all."""
    wanted: Shelf
    """Where stolen money is spent, in person, by land."""
    wanted_online: Shelf

    @property
    def accounts(self) -> int:
        """How many."""
        return len(self.land)

    @property
    def counterparties(self) -> int:
        """How many."""
        return len(self.category)


@dataclass(frozen=True)
class Shelf:
    """Counterparties to choose from, by group, each with its probability."""

    members: Ints
    cumulated: Floats
    """Group k covers k to k + 1, so that one search serves all groups."""

    @classmethod
    def of(cls, members: Ints, groups: Ints, weights: Floats, count: int) -> Shelf:
        """Every one of the `count` groups has a member: an empty one may choose from all."""
        chosen, cumulated = [], []
        for group in range(count):
            inside = members[groups == group] if (groups == group).any() else members
            share = np.cumsum(weights[inside])
            chosen.append(inside)
            cumulated.append(group + share / share[-1])
        return cls(np.concatenate(chosen), np.concatenate(cumulated))

    def choose(self, rng: np.random.Generator, groups: Ints) -> Ints:
        """One for each group asked for."""
        place = np.searchsorted(self.cumulated, groups + rng.random(len(groups)), side="right")
        return self.members[np.minimum(place, len(self.members) - 1)]


def populate(seed: int, accounts: int, counterparties: int) -> Population:
    """The world's people and places.

    Raises ValueError where there is nobody.
    """
    if accounts < 1 or counterparties < len(CATEGORIES):
        raise ValueError(f"a world needs an account and {len(CATEGORIES)} counterparties, one a category")
    places = _counterparties(generator(seed, Stream.COUNTERPARTIES), counterparties)
    category, price, where, latitude, longitude, popularity = places
    channel = np.array([each.channel for each in CATEGORIES])[category]
    everyone = np.arange(counterparties)
    in_person, online = (channel == Channel.POS) | (channel == Channel.ATM), channel == Channel.ONLINE
    coveted = np.isin(category, [CATEGORY[name] for name in ("electronics", "jewellery", "fashion")])
    coveted_online = np.isin(
        category, [CATEGORY[name] for name in ("online-electronics", "travel", "gambling", "marketplace")]
    )
    # Thieves don't follow the crowd: the square root flattens the popularity.
    flat = np.sqrt(popularity)
    shops = Shelf.of(everyone[in_person], where[in_person], popularity, len(LANDS))
    web = Shelf.of(everyone[online], np.zeros(online.sum(), dtype=np.int64), popularity, 1)

    rng = generator(seed, Stream.ACCOUNTS)
    home = rng.choice(len(LANDS), accounts, p=_shares([land.accounts for land in LANDS])).astype(np.int64)
    rate = np.clip(rng.lognormal(0.0, 0.9, accounts), 0.05, 12.0)
    habits = generator(seed, Stream.HABITS)
    loyalty = habits.beta(7, 2.5, accounts)
    web_share = habits.beta(1.6, 4.0, accounts)
    homes = np.repeat(home, FAVOURITES)
    favourite = shops.choose(habits, homes)
    on_the_web = habits.random(len(homes)) < np.repeat(web_share, FAVOURITES)
    favourite[on_the_web] = web.choose(habits, np.zeros(int(on_the_web.sum()), dtype=np.int64))
    people = everyone[channel == Channel.TRANSFER]
    # The last favourite is a person or a firm that gets transfers: rent, a relative.
    favourite = favourite.reshape(accounts, FAVOURITES)
    favourite[:, -1] = people[habits.integers(0, len(people), accounts)]
    favour = np.cumsum(habits.gamma(0.7, 1.0, (accounts, FAVOURITES)) + 1e-3, axis=1)
    return Population(
        seed=seed,
        land=home,
        rate=rate / rate.sum(),
        scale=2_000 * rng.lognormal(0.0, 0.45, accounts),
        spread=rng.uniform(0.25, 0.6, accounts),
        rhythm=rng.choice(4, accounts, p=[0.46, 0.3, 0.2, 0.04]).astype(np.int64),
        loyalty=loyalty,
        online=web_share,
        devices=1 + rng.binomial(2, 0.3, accounts),
        address=_addresses(rng, accounts),
        favourite=favourite,
        favour=favour / favour[:, -1:],
        latitude=np.array([land.latitude for land in LANDS])[home] + rng.normal(0, 0.8, accounts),
        longitude=np.array([land.longitude for land in LANDS])[home] + rng.normal(0, 0.9, accounts),
        category=category,
        price=price,
        counterparty_land=where,
        counterparty_latitude=latitude,
        counterparty_longitude=longitude,
        popularity=popularity,
        shops=shops,
        web=web,
        wanted=Shelf.of(everyone[coveted], where[coveted], flat, len(LANDS)),
        wanted_online=Shelf.of(everyone[coveted_online], np.zeros(coveted_online.sum(), dtype=np.int64), flat, 1),
    )


def _counterparties(rng: np.random.Generator, count: int) -> tuple[Ints, Floats, Ints, Floats, Floats, Floats]:
    # The first ones cover every category, so that the smallest world has them all.
    category = np.concatenate(
        [
            np.arange(len(CATEGORIES)),
            rng.choice(len(CATEGORIES), count - len(CATEGORIES), p=_shares([each.share for each in CATEGORIES])),
        ]
    ).astype(np.int64)
    where = rng.choice(len(LANDS), count, p=_shares([land.accounts for land in LANDS])).astype(np.int64)
    price = np.array([each.price for each in CATEGORIES])[category] * rng.lognormal(0.0, 0.35, count)
    popularity = np.array([each.traffic for each in CATEGORIES])[category] * np.minimum(
        rng.lognormal(0.0, 1.0, count), 20
    )
    latitude = np.array([land.latitude for land in LANDS])[where] + rng.normal(0, 0.8, count)
    longitude = np.array([land.longitude for land in LANDS])[where] + rng.normal(0, 0.9, count)
    return category, price, where, latitude, longitude, popularity / popularity.sum()


def _shares(weights: list[float]) -> Floats:
    array: Floats = np.array(weights, dtype=np.float64)
    shares: Floats = array / array.sum()
    return shares


def _addresses(rng: np.random.Generator, count: int) -> Ints:
    # 100.64.0.0/10, which nobody on the Internet has.
    return (100 << 24 | 64 << 16) + rng.integers(0, 1 << 22, count)


def genuine_day(population: Population, day: int, expected: float) -> Payments:
    """What honest people pay on this local day (days since 1970), about `expected` payments on an average day."""
    rng = generator(population.seed, Stream.GENUINE, day)
    abroad = _abroad(population, day)
    weekday = (day + 3) % 7  # 1970-01-01 was a Thursday
    parts = [_errands(population, rng, day, expected * _WEEKDAYS[weekday], abroad)]
    parts.append(_sprees(population, rng, day, expected, abroad))
    parts.append(_small_change(population, rng, day, expected))
    return together(parts)


def _errands(population: Population, rng: np.random.Generator, day: int, expected: float, abroad: Ints) -> Payments:
    """The ordinary: a few errands a day, some with a second and third payment close behind."""
    again = 0.24
    outings = int(rng.poisson(expected * 0.978 * (1 - again)))
    account = pick_accounts(population, rng, outings)
    at = local_times(population, rng, account, day)
    stops = rng.geometric(1 - again, outings)
    first = np.repeat(np.arange(outings), stops)
    stop = np.arange(len(first)) - np.repeat(np.cumsum(stops) - stops, stops)
    account = account[first]
    at = at[first] + (stop * rng.exponential(14 * MINUTE, len(first))).astype(np.int64)
    counterparty = choose_counterparties(population, rng, account, abroad[account])
    # One in three hundred is the washing machine, the flight, the ring.
    large = np.where(rng.random(len(account)) < 0.003, rng.lognormal(1.5, 0.5, len(account)), 1.0)
    return payments(population, rng, account, counterparty, at, factor=large, abroad=abroad)


def _sprees(population: Population, rng: np.random.Generator, day: int, expected: float, abroad: Ints) -> Payments:
    """An afternoon of shopping: many payments in a few hours, dearer than usual, at places never seen before."""
    sprees = int(rng.poisson(expected * 0.012 / 6))
    account = pick_accounts(population, rng, sprees)
    begin = local_times(population, rng, account, day)
    size = rng.integers(3, 10, sprees)
    spree = np.repeat(np.arange(sprees), size)
    at = begin[spree] + (rng.random(len(spree)) * rng.uniform(1, 5, sprees)[spree] * HOUR).astype(np.int64)
    account = account[spree]
    where = np.where(abroad[account] >= 0, abroad[account], population.land[account])
    counterparty = population.wanted.choose(rng, where)
    online = rng.random(len(account)) < 0.35
    counterparty[online] = population.web.choose(rng, np.zeros(int(online.sum()), dtype=np.int64))
    return payments(
        population, rng, account, counterparty, at, factor=rng.uniform(0.5, 1.3, sprees)[spree], abroad=abroad
    )


def _small_change(population: Population, rng: np.random.Generator, day: int, expected: float) -> Payments:
    """Games, parking, songs: tiny amounts, one after the other."""
    bursts = int(rng.poisson(expected * 0.01 / 5))
    account = pick_accounts(population, rng, bursts)
    begin = local_times(population, rng, account, day)
    size = rng.integers(3, 9, bursts)
    burst = np.repeat(np.arange(bursts), size)
    at = begin[burst] + (rng.random(len(burst)) * rng.uniform(5, 60, bursts)[burst] * MINUTE).astype(np.int64)
    web = population.web.choose(rng, np.zeros(bursts, dtype=np.int64))[burst]
    made = payments(population, rng, account[burst], web, at)
    return replaced(made, amount=rng.uniform(79, 699, len(burst)))


def pick_accounts(population: Population, rng: np.random.Generator, count: int) -> Ints:
    """Accounts, the active ones more often."""
    place = np.searchsorted(np.cumsum(population.rate), rng.random(count), side="right")
    return np.minimum(place, population.accounts - 1).astype(np.int64)


def local_times(population: Population, rng: np.random.Generator, account: Ints, day: int) -> Ints:
    """When on this local day each of them pays, in UTC."""
    weekend = int((day + 3) % 7 >= 5)
    hour = np.empty(len(account), dtype=np.int64)
    rhythm = population.rhythm[account]
    chance = rng.random(len(account))
    for kind in range(len(_HOURS)):
        mine = rhythm == kind
        hour[mine] = np.searchsorted(_HOURS_CUMULATED[kind, weekend], chance[mine], side="right")
    return local_instants(population, account, day, np.minimum(hour, 23) * HOUR + rng.integers(0, HOUR, len(account)))


def local_instants(population: Population, account: Ints, day: int, since_midnight: Ints) -> Ints:
    """A local time of day at the account's home, in UTC."""
    instants: Ints = day * DAY + since_midnight - _OFFSETS[population.land[account]] * MINUTE
    return instants


_OFFSETS: Final[Ints] = np.array([land.utc_offset for land in LANDS], dtype=np.int64)


def choose_counterparties(population: Population, rng: np.random.Generator, account: Ints, abroad: Ints) -> Ints:
    """Where each of them goes: mostly to a favourite, else to a shop nearby or on the web; some name nobody."""
    count = len(account)
    place = np.minimum((rng.random(count)[:, None] > population.favour[account]).sum(axis=1), FAVOURITES - 1)
    counterparty: Ints = population.favourite[account, place]
    travelling = abroad >= 0
    elsewhere = (rng.random(count) > population.loyalty[account]) | (travelling & (rng.random(count) < 0.85))
    on_the_web = elsewhere & (rng.random(count) < population.online[account])
    nearby = elsewhere & ~on_the_web
    counterparty[on_the_web] = population.web.choose(rng, np.zeros(int(on_the_web.sum()), dtype=np.int64))
    where = np.where(travelling, abroad, population.land[account])
    counterparty[nearby] = population.shops.choose(rng, where[nearby])
    counterparty[rng.random(count) < 0.02] = NOBODY
    return counterparty


def payments(
    population: Population,
    rng: np.random.Generator,
    account: Ints,
    counterparty: Ints,
    at: Ints,
    *,
    factor: Floats | float = 1.0,
    abroad: Ints | None = None,
    pattern: int = 0,
) -> Payments:
    """Payments with the amounts that these accounts pay at these counterparties, times `factor`."""
    named = counterparty != NOBODY
    kind = np.where(named, population.category[counterparty], CATEGORY["cash"])
    price = np.where(named, population.price[counterparty], 3.0)
    channel = _CHANNELS[kind]
    noise = np.exp(rng.normal(0.0, 1.0, len(account)) * population.spread[account])
    # People with more to spend don't pay in proportion for a litre of milk: the price counts for less than itself.
    amount = population.scale[account] * price**0.75 * noise * factor
    home = population.land[account]
    place = np.where(
        named & (channel != Channel.ONLINE) & (channel != Channel.TRANSFER),
        population.counterparty_land[counterparty],
        home,
    )
    if abroad is not None:
        place = np.where(~named & (abroad[account] >= 0), abroad[account], place)
    connected = (channel == Channel.ONLINE) | (channel == Channel.TRANSFER)
    device = account * 8 + np.floor(rng.random(len(account)) ** 2 * population.devices[account]).astype(np.int64)
    roaming = rng.random(len(account)) < 0.15
    address = np.where(roaming, _addresses(rng, len(account)), population.address[account])
    return Payments(
        account=account,
        counterparty=counterparty,
        at=at,
        amount=amount,
        channel=channel,
        land=place,
        device=np.where(connected, device, NONE),
        ip=np.where(connected, address, NONE),
        pattern=np.full(len(account), pattern, dtype=np.int64),
    )


_CHANNELS: Final = np.array([int(category.channel) for category in CATEGORIES])


def replaced(made: Payments, **columns: npt.NDArray[np.generic]) -> Payments:
    """The same payments with other columns."""
    return Payments(**{each.name: columns.get(each.name, getattr(made, each.name)) for each in fields(Payments)})


BLOCK: Final = 56
"""Days in which an account travels at most once."""


def _abroad(population: Population, day: int) -> Ints:
    """The land each account is visiting that day, NOBODY at home."""
    begin, length, land = _travels(population.seed, population.accounts, day // BLOCK)
    away = (day % BLOCK >= begin) & (day % BLOCK < begin + length) & (land != population.land)
    return np.where(away, land, NOBODY)


@lru_cache(maxsize=8)
def _travels(seed: int, accounts: int, block: int) -> tuple[Ints, Ints, Ints]:
    rng = generator(seed, Stream.TRAVEL, block)
    begin = rng.integers(0, BLOCK, accounts)
    length = np.where(rng.random(accounts) < 0.22, rng.integers(2, 12, accounts), 0)
    return begin, length, rng.integers(0, len(LANDS), accounts)
