"""Every feature again, by hand: lists, sorting and sums, as slow as can be, sharing with the kernel nothing but the names.

What a profile promises is written down here a second time.  An event is in the ring, and counts at its own time; or it fell
off, and counts at the time of the newest event in its tile; or it is beyond the horizon, and gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
SETTLING = 2 * SECOND
MATURITY = 7 * DAY
FINEST = 2**26
ACCOUNT_WINDOWS = {"1h": HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
COUNTERPARTY_WINDOWS = {"1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY}

Vector = dict[str, float]
NEW, DUPLICATE, ID_REUSED = 0, 1, 2


@dataclass(frozen=True)
class Event:
    time: int
    amount: int
    ident: int = 0
    content: int = 0


class Tile:
    """Events that are told apart no more."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.newest = max(event.time for event in events)

    def add(self, *events: Event) -> None:
        self.events.extend(events)
        self.newest = max(self.newest, *(event.time for event in events))


@dataclass(frozen=True)
class Told:
    """A label."""

    ident: int
    occurred: int
    known: int
    fraud: bool


@dataclass
class Profile:
    """What is kept of an account or a counterparty, of which at most so much."""

    most_events: int
    most_labels: int
    horizon: int
    most_tiles: int = 128
    most_days: int = 64
    total: int = 0
    newest: int = 0
    ring: list[Event] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    labels: list[Told] = field(default_factory=list)
    fraud_days: dict[int, int] = field(default_factory=dict)

    def fold(self, event: Event) -> None:
        """Take an event in."""
        self.newest = max(self.newest, event.time) if self.total else event.time
        self.total += 1
        if self.tiles and self._gone(self.tiles[0].newest):
            self._coarsen()
        self.ring = [one for one in self.ring if not self._gone(one.time)]
        if self._gone(event.time):
            return
        self.ring = sorted([*self.ring, event], key=lambda one: one.time)
        if len(self.ring) > self.most_events:
            self._into_tiles(self.ring.pop(0))

    def _gone(self, time: int) -> bool:
        return self.newest - time >= self.horizon

    def _into_tiles(self, event: Event) -> None:
        before = [tile for tile in self.tiles if tile.newest <= event.time]
        after = self.tiles[len(before) :]
        for tile in before[-1:] + after[:1]:
            if tile.newest // FINEST == event.time // FINEST:
                tile.add(event)
                return
        if len(self.tiles) == self.most_tiles:
            self.tiles[:2] = [Tile(self.tiles[0].events + self.tiles[1].events)]
        self.tiles = sorted([*self.tiles, Tile([event])], key=lambda tile: tile.newest)
        self._coarsen()

    def _coarsen(self) -> None:
        kept: list[Tile] = []
        for tile in self.tiles:
            if self._gone(tile.newest):
                continue
            width = FINEST
            while 2 * width <= (self.newest - tile.newest) // 8:
                width *= 2
            if kept and kept[-1].newest // width == tile.newest // width:
                kept[-1].add(*tile.events)
            else:
                kept.append(tile)
        self.tiles = kept

    def hear(self, label: Told) -> None:
        """Take a label in: of a transaction the newest holds; of two known at once the one heard last."""
        for one in self.labels:
            if one.ident == label.ident:
                if label.known < one.known:
                    return
                self.labels.remove(one)
                break
        self.labels = sorted([*self.labels, label], key=lambda one: one.known)
        if len(self.labels) > self.most_labels:
            oldest = self.labels.pop(0)
            if oldest.fraud:
                self._remember_day(oldest.occurred // DAY)

    def _remember_day(self, day: int) -> None:
        if day not in self.fraud_days and len(self.fraud_days) == self.most_days:
            first, second = sorted(self.fraud_days)[:2]
            self.fraud_days[second] += self.fraud_days.pop(first)
        self.fraud_days[day] = self.fraud_days.get(day, 0) + 1

    def counted(self) -> list[Event]:
        """All events that still count, each at the time at which it does."""
        fallen = [Event(tile.newest, event.amount) for tile in self.tiles for event in tile.events]
        return fallen + self.ring


@dataclass
class Account(Profile):
    """What the model is told of an account."""

    def meet(self, event: Event) -> int:
        """What became of a transaction; it is folded where it is new."""
        for one in self.ring:
            if one.ident == event.ident:
                return DUPLICATE if one.content == event.content else ID_REUSED
        self.fold(event)
        return NEW

    def is_late(self, time: int) -> bool:
        return bool(self.ring) and time < self.ring[0].time

    def describe(self, time: int, amount: int) -> Vector:
        """The account's features of a transaction that it has not met yet."""
        before = [event for event in self.counted() if event.time <= time]
        vector: Vector = {}
        for name, span in ACCOUNT_WINDOWS.items():
            amounts = [event.amount for event in before if time - event.time < span]
            vector[f"account_count_{name}"] = len(amounts)
            vector[f"account_sum_{name}"] = sum(amounts)
            vector[f"account_mean_{name}"] = _mean(amounts)
            vector[f"account_max_{name}"] = max(amounts) if amounts else math.nan
        ages = [time - event.time for event in before]
        vector["account_since_last"] = min(ages) / SECOND if ages else math.nan
        month = [event.amount for event in before if time - event.time < 30 * DAY]
        mean = _mean(month)
        vector["amount_to_account_mean_30d"] = amount / mean if month and mean > 0 else math.nan
        vector["amount_deviation_30d"] = _deviation(amount, month)
        vector["account_known_frauds"] = sum(one.fraud and one.known <= time for one in self.labels) + sum(
            self.fraud_days.values()
        )
        return vector


@dataclass
class Counterparty(Profile):
    """What the model is told of a counterparty."""

    def describe(self, time: int) -> Vector:
        """The counterparty's features, as known at that moment."""
        settled = [event for event in self.counted() if time - event.time >= SETTLING]
        matured = [event for event in settled if time - event.time >= MATURITY]
        frauds = [(one.occurred, 1) for one in self.labels if one.fraud and one.known <= time]
        frauds += [((day + 1) * DAY, count) for day, count in self.fraud_days.items()]
        vector: Vector = {}
        for name, span in COUNTERPARTY_WINDOWS.items():
            amounts = [event.amount for event in settled if time - event.time < span]
            vector[f"counterparty_count_{name}"] = len(amounts)
            vector[f"counterparty_mean_{name}"] = _mean(amounts)
            count = sum(time - event.time < MATURITY + span for event in matured)
            known = sum(n for at, n in frauds if MATURITY <= time - at < MATURITY + span)
            vector[f"counterparty_matured_count_{name}"] = count
            vector[f"counterparty_matured_frauds_{name}"] = known
            vector[f"counterparty_fraud_rate_{name}"] = known / count if count else math.nan
        return vector


def of_nobody() -> Vector:
    """The counterparty's features of a transaction that names none."""
    return dict.fromkeys(Counterparty(1, 1, DAY).describe(0), math.nan)


def _mean(amounts: list[int]) -> float:
    return float(sum(amounts)) / float(len(amounts)) if amounts else math.nan


def _deviation(amount: int, amounts: Iterable[int]) -> float:
    """Exactly, in fractions, up to the root."""
    amounts = list(amounts)
    if not amounts or not sum(amounts):
        return math.nan
    mean = Fraction(sum(amounts), len(amounts))
    variance = Fraction(sum(one * one for one in amounts), len(amounts)) - mean * mean
    if variance <= mean * mean / 10**9:  # all but equal: how far another one is from them can't be said in their spread
        return math.nan
    return float(amount - mean) / math.sqrt(variance)
