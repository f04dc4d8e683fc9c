"""A past that never happened: transactions, what became known of them, and the truth.  One seed, one world."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from loadgen.fraud_patterns import (
    LONGEST,
    PATTERN_NAMES,
    SHARES,
    Compromise,
    Pattern,
    compromised,
    compromises,
    fraud_day,
)
from loadgen.population import (
    CATEGORIES,
    CHANNEL_NAMES,
    DAY,
    HOUR,
    LANDS,
    NOBODY,
    Channel,
    Ints,
    Payments,
    Population,
    Stream,
    generator,
    genuine_day,
    populate,
    together,
)
from schemas.currencies import MINOR_DIGITS, UNITS_PER_EURO
from schemas.errors import WrongSettings
from schemas.label import LabelSource
from schemas.tables import ATTRIBUTE, LABEL_COLUMNS, TRANSACTION_COLUMNS, UTC_TIME
from schemas.wire import microseconds

TRANSACTIONS, LABELS, TRUTH, WORLD = "transactions.parquet", "labels.parquet", "truth.parquet", "world.json"


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to know before a world is made.

    A world with a later `end` begins with the same transactions and labels, to the bit.
    """

    start: datetime
    end: datetime
    """The first moment that is no longer part of it; what becomes known later stays unknown."""
    seed: Annotated[int, msgspec.Meta(ge=0)] = 7
    accounts: Annotated[int, msgspec.Meta(ge=1, le=999_999_999)] = 8_000
    counterparties: Annotated[int, msgspec.Meta(ge=len(CATEGORIES), le=999_999_999)] = 2_000
    per_day: Annotated[float, msgspec.Meta(gt=0)] = 24_000
    """Transactions on an average day, of all accounts."""
    fraud_share: Annotated[float, msgspec.Meta(ge=0, le=0.2)] = 0.01
    """Of the transactions."""

    def __post_init__(self) -> None:
        if self.start.tzinfo is None or self.end.tzinfo is None or self.start >= self.end:
            raise WrongSettings(f"a world starts before it ends, with time zones; not {self.start} to {self.end}")


@dataclass(frozen=True)
class Past:
    """Frames with the columns of schemas.tables, in the order of the log.

    `truth` has `transaction_id`, `is_fraud` and `pattern` (null where genuine), in the order of `transactions`.
    """

    transactions: pl.DataFrame
    labels: pl.DataFrame
    truth: pl.DataFrame


Progress = Callable[[int, int], None]
"""Told how many days of how many are made."""


def simulate(world: World, progress: Progress = lambda _done, _all: None) -> Past:
    """What happened in this world, and what became known of it before its end."""
    population = populate(world.seed, world.accounts, world.counterparties)
    start, end = microseconds(world.start), microseconds(world.end)
    # Local days reach into the UTC days beside them, and the campaigns of the month before are still going on.
    first, last = start // DAY - 2, (end - 1) // DAY + 1
    frauds = world.per_day * world.fraud_share
    begun = {
        day: compromises(population, day, frauds * SHARES[Pattern.COMPROMISED_COUNTERPARTY], world.per_day)
        for day in range(first - LONGEST, last + 2)
    }
    days: list[tuple[Payments, Knowledge, Ints]] = []
    for done, day in enumerate(range(first - LONGEST, last + 1)):
        made = fraud_day(population, day, frauds)
        if day >= first:
            honest = genuine_day(population, day, world.per_day * (1 - world.fraud_share * 0.78))
            made = together([compromised(population, day, honest, _active(begun, day)), made])
        known, entry = _knowledge(population, day, made), _entries(population, day, made)
        inside = (made.at >= start) & (made.at < end)
        days.append((made.where(inside), known.where(inside), entry[inside]))
        progress(done + 1, last + 1 - first + LONGEST)
    made = together([part for part, _, _ in days])
    known = Knowledge(
        *(np.concatenate([getattr(part, name) for _, part, _ in days]) for name in Knowledge.__annotations__)
    )
    entry = np.concatenate([part for _, _, part in days])
    order = np.argsort(made.at, kind="stable")
    return _written(world, population, made.where(order), known.where(order), entry[order])


def _active(begun: dict[int, list[Compromise]], day: int) -> list[Compromise]:
    return [each for since in range(day - LONGEST, day + 2) for each in begun.get(since, ())]


ENTRY_MODES: Final = ("chip", "contactless", "stripe", "keyed", "app", "password")
"""How a payment was authorised: the first three in person, `keyed` online with a card's number alone, the others otherwise."""
_MODES_IN_PERSON: Final = (("chip", 0.38), ("contactless", 0.585), ("stripe", 0.035))
_MODES_IN_PERSON_BY_THIEVES: Final = (("chip", 0.25), ("contactless", 0.45), ("stripe", 0.3))
_MODES_REMOTE: Final = (("keyed", 0.2), ("app", 0.5), ("password", 0.3))
_MODES_REMOTE_BY_THIEVES: Final = (("keyed", 0.6), ("app", 0.1), ("password", 0.3))
_OWN_CARD: Final = (Pattern.GENUINE, Pattern.HIGH_AMOUNT, Pattern.BUST_OUT)
"""Who pays so has all that the holder has: the card, its chip, the telephone."""


def _entries(population: Population, day: int, made: Payments) -> Ints:
    """Of each payment, which of ENTRY_MODES."""
    die = generator(population.seed, Stream.ENTRIES, day).random(len(made))
    in_person, own = _in_person(made), np.isin(made.pattern, _OWN_CARD)
    entry = np.empty(len(made), np.int64)
    for rows, modes in (
        (in_person & own, _MODES_IN_PERSON),
        (in_person & ~own, _MODES_IN_PERSON_BY_THIEVES),
        (~in_person & own, _MODES_REMOTE),
        (~in_person & ~own, _MODES_REMOTE_BY_THIEVES),
    ):
        edges = np.cumsum([share for _, share in modes])[:-1]
        entry[rows] = np.array([ENTRY_MODES.index(mode) for mode, _ in modes])[np.searchsorted(edges, die[rows])]
    return entry


def _in_person(made: Payments) -> npt.NDArray[np.bool_]:
    there: npt.NDArray[np.bool_] = (made.channel == Channel.POS) | (made.channel == Channel.ATM)
    return there


CHARGEBACK, ANALYST = 0, 1
_SOURCES: Final = (LabelSource.CHARGEBACK.value, LabelSource.ANALYST.value)
NEVER: Final = -1


@dataclass(frozen=True)
class Knowledge:
    """What becomes known of each payment: a first and a second label, each NEVER or microseconds after the payment."""

    first: Ints
    first_says: npt.NDArray[np.bool_]
    first_source: Ints
    second: Ints
    """The opposite of the first, which was wrong."""

    def where(self, rows: npt.NDArray[np.bool_] | Ints) -> Knowledge:
        """Only these rows."""
        return Knowledge(self.first[rows], self.first_says[rows], self.first_source[rows], self.second[rows])


def _knowledge(population: Population, day: int, made: Payments) -> Knowledge:
    rng = generator(population.seed, Stream.LABELS, day)
    count = len(made)
    fraud = made.pattern != Pattern.GENUINE
    delay = _chargeback_delays(rng, count)
    soon = (rng.uniform(0.1, 1.5, count) * DAY).astype(np.int64)
    chance = rng.random(count)
    # Of the frauds 2 % are never found, 6 % are found by an analyst (a day or more later), 1 % an analyst clears first.
    lost, found, cleared = fraud & (chance < 0.02), fraud & (chance > 0.94), fraud & (chance > 0.02) & (chance < 0.03)
    # Analysts look at what is dear for its account and find most of it genuine; a few buyers complain and take it back.
    dear = ~fraud & (made.amount > 5 * population.scale[made.account])
    alarm, complaint = dear & (chance < 0.012), ~fraud & (chance > 0.9998)
    first = np.full(count, NEVER)
    first[fraud] = delay[fraud]
    first[found] = np.minimum(DAY + soon[found], delay[found])
    first[lost] = NEVER
    first[cleared | alarm] = soon[cleared | alarm]
    first[complaint] = delay[complaint]
    second = np.full(count, NEVER)
    second[cleared] = np.maximum(soon + HOUR, delay)[cleared]
    second[complaint] = (delay + soon + 2 * DAY)[complaint]
    return Knowledge(
        first=first,
        first_says=(fraud & ~cleared) | complaint,
        first_source=np.where(found | cleared | alarm, ANALYST, CHARGEBACK),
        second=second,
    )


def _chargeback_delays(rng: np.random.Generator, count: int) -> Ints:
    """One to seven days, mostly three to six."""
    return np.clip(rng.normal(4.5, 1.25, count) * DAY, DAY, 7 * DAY).astype(np.int64)


def _written(world: World, population: Population, made: Payments, known: Knowledge, entry: Ints) -> Past:
    count = len(made)
    names = _Names(world)
    transaction = names.transactions(count)
    account = names.accounts.gather(made.account)
    counterparty = _gather(names.counterparties, made.counterparty)
    named = made.counterparty != NOBODY
    category = np.where(named, population.category[made.counterparty], _CASH)
    currency = np.array([_CURRENCIES.index(land.currency) for land in LANDS])[population.land[made.account]]
    amount = _minor_units(world.seed, made, currency)
    on_site = _in_person(made)
    latitude = np.where(named, population.counterparty_latitude[made.counterparty], population.latitude[made.account])
    longitude = np.where(
        named, population.counterparty_longitude[made.counterparty], population.longitude[made.account]
    )
    transactions = pl.DataFrame(
        {
            "transaction_id": transaction,
            "account_id": account,
            "counterparty_id": counterparty,
            "amount": amount,
            "currency": pl.Series(_CURRENCIES).gather(currency),
            "occurred_at": pl.Series(made.at).cast(UTC_TIME),
            "utc_offset": np.array([land.utc_offset for land in LANDS], dtype=np.int16)[made.land],
            "channel": pl.Series(CHANNEL_NAMES).gather(made.channel),
            "category": pl.Series([each.name for each in CATEGORIES]).gather(category),
            "country": pl.Series([land.code for land in LANDS]).gather(made.land),
            "latitude": _where(on_site, np.round(latitude, 4)),
            "longitude": _where(on_site, np.round(longitude, 4)),
            "device_id": _devices(made.device),
            "ip": _dotted(made.ip),
            ATTRIBUTE + "card_present": on_site,
            ATTRIBUTE + "entry_mode": pl.Series(ENTRY_MODES).gather(entry),
        }
    )
    transactions = transactions.cast(pl.Schema(TRANSACTION_COLUMNS))
    fraud = made.pattern != Pattern.GENUINE
    truth = pl.DataFrame(
        {
            "transaction_id": transaction,
            "is_fraud": fraud,
            "pattern": pl.Series(PATTERN_NAMES, dtype=pl.String).gather(made.pattern),
        }
    )
    return Past(transactions, _labels(world, transactions, made, known), truth)


_CURRENCIES: Final = tuple(dict.fromkeys(land.currency for land in LANDS))
_CASH: Final = next(index for index, each in enumerate(CATEGORIES) if each.name == "cash")


class _Names:
    """Readable ids, all of one width, so that they sort."""

    def __init__(self, world: World) -> None:
        self._seed = world.seed
        self.accounts = _numbered("acct-", world.accounts, 6)
        self.counterparties = _numbered("cp-", world.counterparties, 5)

    def transactions(self, count: int) -> pl.Series:
        return _numbered(f"tx-{self._seed}-", count, 9)


def _numbered(prefix: str, count: int, digits: int) -> pl.Series:
    frame = pl.select(pl.int_range(count).cast(pl.String).str.zfill(digits).alias("n"))
    return frame.select(pl.lit(prefix) + pl.col("n")).to_series()


def _gather(names: pl.Series, index: Ints) -> pl.Series:
    chosen = pl.DataFrame({"i": index}).select(pl.when(pl.col("i") >= 0).then(pl.col("i"))).to_series()
    return names.gather(chosen)


def _where(known: npt.NDArray[np.bool_], values: npt.NDArray[np.floating]) -> pl.Series:
    return pl.DataFrame({"k": known, "v": values}).select(pl.when("k").then("v")).to_series()


def _devices(number: Ints) -> pl.Series:
    column = pl.col("d")
    return (
        pl.DataFrame({"d": number})
        .select(pl.when(column >= 0).then(pl.lit("dev-") + column.cast(pl.String)))
        .to_series()
    )


def _dotted(address: Ints) -> pl.Series:
    column = pl.col("a")
    octets = [((column // (1 << shift)) % 256).cast(pl.String) for shift in (24, 16, 8, 0)]
    return (
        pl.DataFrame({"a": address}).select(pl.when(column >= 0).then(pl.concat_str(octets, separator="."))).to_series()
    )


def _minor_units(seed: int, made: Payments, currency: Ints) -> Ints:
    """In the account's own currency: what its statement says, wherever it was paid."""
    digits = np.array([MINOR_DIGITS.get(code, 2) for code in _CURRENCIES])[currency]
    rate = np.array([float(UNITS_PER_EURO[code]) for code in _CURRENCIES])[currency]
    unit = 10**digits
    amount = made.amount / 100 * rate * unit
    # Cash comes in tens; of the other prices every fifth is round.  The time's last digits are as good as a die.
    die = (made.at // 1000 + seed) % 5 == 0
    step = np.where(made.channel == Channel.ATM, 10 * unit, np.where(die & (amount >= 5 * unit), unit, 1))
    units: Ints = np.maximum(np.rint(amount / step) * step, step).astype(np.int64)
    return units


def _labels(world: World, transactions: pl.DataFrame, made: Payments, known: Knowledge) -> pl.DataFrame:
    end = microseconds(world.end)
    row = np.concatenate([np.flatnonzero(known.first >= 0), np.flatnonzero(known.second >= 0)])
    firsts = int((known.first >= 0).sum())
    at = made.at[row] + np.concatenate([known.first[row[:firsts]], known.second[row[firsts:]]])
    says = np.concatenate([known.first_says[row[:firsts]], ~known.first_says[row[firsts:]]])
    source = np.concatenate([known.first_source[row[:firsts]], np.full(len(row) - firsts, CHARGEBACK)])
    heard = at < end
    row, at, says, source = row[heard], at[heard], says[heard], source[heard]
    order = np.lexsort((row, at))
    row, at, says, source = row[order], at[order], says[order], source[order]
    shared = [name for name in LABEL_COLUMNS if name in TRANSACTION_COLUMNS]
    what: pl.DataFrame = transactions.select(shared)[row]
    labels = what.with_columns(
        _numbered(f"label-{world.seed}-", len(row), 7).alias("label_id"),
        pl.Series("is_fraud", says),
        pl.Series("known_at", at).cast(UTC_TIME),
        pl.Series(_SOURCES).gather(source).alias("source"),
    )
    ordered = labels.select(list(LABEL_COLUMNS))
    return ordered.cast(pl.Schema(LABEL_COLUMNS))


def summary(past: Past) -> dict[str, int | float | dict[str, int]]:
    """Counts, for `world.json` and for people."""
    frauds = past.truth.filter("is_fraud")
    by_pattern = frauds.group_by("pattern").len().sort("pattern")
    count = past.transactions.height
    return {
        "transactions": count,
        "frauds": frauds.height,
        "fraud_share": round(frauds.height / count, 6) if count else 0.0,
        "labels": past.labels.height,
        "labels_saying_fraud": int(past.labels["is_fraud"].sum()),
        "accounts": past.transactions["account_id"].n_unique(),
        "counterparties": past.transactions["counterparty_id"].drop_nulls().n_unique(),
        "patterns": dict(by_pattern.iter_rows()),
    }


def write_past(folder: Path, world: World, past: Past) -> None:
    """The three tables and `world.json`, all or none: a folder that is there is complete.

    Raises WrongSettings where it can't be written to, or holds something else.
    """
    if folder.exists() and not (folder / WORLD).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise WrongSettings(
            f"{folder} holds something else than a past, which would be replaced; a new folder would do"
        )
    folder = folder.resolve()
    partial = folder.with_name(f"{folder.name}.partial")
    said = {"world": world, "counts": summary(past)}
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        past.transactions.write_parquet(partial / TRANSACTIONS)
        past.labels.write_parquet(partial / LABELS)
        past.truth.write_parquet(partial / TRUTH)
        (partial / WORLD).write_bytes(msgspec.json.format(msgspec.json.encode(said), indent=2) + b"\n")
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except (OSError, pl.exceptions.PolarsError) as error:  # the latter is what Polars makes of a full disk
        raise WrongSettings(f"{folder} can't be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def world_of(folder: Path) -> World:
    """The parameters of a written world: `simulate(world_of(folder))` makes it again."""

    class _Said(msgspec.Struct):
        world: World

    return msgspec.json.decode((folder / WORLD).read_bytes(), type=_Said).world


def world_ending(end: datetime, days: float, **parameters: int | float) -> World:
    """A world of so many days, up to `end` (whole seconds)."""
    end = end.astimezone(UTC).replace(microsecond=0)
    try:
        return msgspec.convert({"start": end - timedelta(days=days), "end": end, **parameters}, World)
    except OverflowError as error:
        raise WrongSettings(f"a world of {days:g} days up to {end} would begin before there is a calendar") from error
    except msgspec.ValidationError as error:
        raise WrongSettings(str(error)) from error
