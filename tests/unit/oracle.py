"""Every feature again, by hand: lists, sorting and sums, as slow as can be, sharing with the kernel nothing but the names.

What a profile promises is written down here a second time.  An event is in the ring, and counts at its own time; or it fell
off, and counts at the time of the newest event in its tile; or it is beyond the horizon, and gone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction

SECOND = 1_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
SETTLING = 2 * SECOND
MATURITY = 7 * DAY
REACH = 37 * DAY
FINEST = 2**26
WINDOWS = {"1h": HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
MATURED_WINDOWS = {"1d": DAY, "2d": 2 * DAY, "4d": 4 * DAY, "7d": 7 * DAY, "14d": 14 * DAY, "30d": 30 * DAY}
KINDS = ("counterparty", "country", "device", "channel", "category")
DIFFERENT = {
    "counterparties": ("counterparty", ("24h", "7d", "30d")),
    "countries": ("country", ("24h", "30d")),
    "devices": ("device", ("24h", "30d")),
    "channels": ("channel", ("30d",)),
}
BUCKETS = 128

Vector = dict[str, float]
NEW, DUPLICATE, ID_REUSED = 0, 1, 2


@dataclass(frozen=True)
class Event:
    time: int
    amount: int
    ident: int = 0
    content: int = 0
    """Of a payment at a counterparty, the account's name."""
    ratio: int = 0
    """Of a payment at a counterparty."""
    hour: int = 12
    weekday: int = 0
    below_round: bool = False
    counterparty: int | None = None
    country: int | None = None
    device: int | None = None
    channel: int | None = None
    category: int | None = None
    place: tuple[float, float] | None = None
    """Degrees north and east."""
    far_above: bool = False
    """Whether it was, as the account remembers it."""


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
    exact: int = 10**18
    """What is this much older than the newest goes to the tiles."""
    most_tiles: int = 128
    most_days: int = 64
    total: int = 0
    first: int = 0
    newest: int = 0
    ring: list[Event] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    labels: list[Told] = field(default_factory=list)
    fraud_days: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By day how many, and when the last of them was known."""

    def fold(self, event: Event) -> None:
        """Take an event in."""
        self.newest = max(self.newest, event.time) if self.total else event.time
        self.first = min(self.first, event.time) if self.total else event.time
        self.total += 1
        if self.tiles and self._gone(self.tiles[0].newest):
            self._coarsen()
        old = [one for one in self.ring if self.newest - one.time >= self.exact or self._gone(one.time)]
        self.ring = self.ring[len(old) :]
        for one in old:
            if not self._gone(one.time):
                self._into_tiles(one)
        if self._gone(event.time):
            return
        if self.newest - event.time >= self.exact:
            self._into_tiles(event)
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
        """Take a label in: one that is known when another of its transaction was takes its place."""
        for place, one in enumerate(self.labels):
            if (one.ident, one.known) == (label.ident, label.known):
                self.labels[place] = label
                return
        full = len(self.labels) == self.most_labels
        labels = sorted([*self.labels, label], key=lambda one: one.known)
        if full and label.known < self.labels[0].known:
            labels = [label, *self.labels]
        self.labels = labels[1:] if full else labels
        if full and labels[0].fraud and labels[0].ident not in {one.ident for one in self.labels}:
            self._remember_day(labels[0])

    def _remember_day(self, label: Told) -> None:
        day = label.occurred // DAY
        if day not in self.fraud_days and len(self.fraud_days) == self.most_days:
            first, second = sorted(self.fraud_days)[:2]
            (one, known), (other, other_known) = self.fraud_days.pop(first), self.fraud_days[second]
            self.fraud_days[second] = (one + other, max(known, other_known))
        count, known = self.fraud_days.get(day, (0, label.known))
        self.fraud_days[day] = (count + 1, max(known, label.known))

    def counted(self) -> list[Event]:
        """All events that still count, each at the time at which it does."""
        fallen = [replace(event, time=tile.newest) for tile in self.tiles for event in tile.events]
        return fallen + self.ring

    def frauds_known(self, time: int) -> list[Told]:
        """The labels in the ring that hold at this moment, and say fraud."""
        return frauds_known(self.labels, time)

    def _sums(self, side: str, events: list[Event], time: int) -> Vector:
        vector: Vector = {}
        for name, span in WINDOWS.items():
            amounts = [event.amount for event in events if time - event.time < span]
            vector[f"{side}_count_{name}"] = len(amounts)
            vector[f"{side}_sum_{name}"] = sum(amounts)
            vector[f"{side}_mean_{name}"] = _mean(amounts)
            vector[f"{side}_max_{name}"] = max(amounts) if amounts else math.nan
            vector[f"{side}_spread_{name}"] = _spread(amounts)
        return vector

    def _frauds(self, side: str, events: list[Event], time: int) -> Vector:
        known = [(max(time - one.occurred, 0), 1) for one in self.frauds_known(time)]
        known += [(max(time - (day + 1) * DAY, 0), count) for day, (count, at) in self.fraud_days.items() if at <= time]
        vector: Vector = {}
        for name, span in MATURED_WINDOWS.items():
            count = sum(MATURITY <= time - event.time < MATURITY + span for event in events)
            frauds = sum(n for age, n in known if MATURITY <= age < MATURITY + span)
            vector[f"{side}_matured_count_{name}"] = count
            vector[f"{side}_matured_frauds_{name}"] = frauds
            vector[f"{side}_fraud_rate_{name}"] = frauds / count if count else math.nan
        vector[f"{side}_known_frauds"] = sum(n for _, n in known)
        vector[f"{side}_since_fraud"] = min(age for age, _ in known) / SECOND if known else math.nan
        lately = [age for age, _ in known if age < REACH]
        vector[f"{side}_since_first_fraud"] = max(lately) / SECOND if lately else math.nan
        return vector


def frauds_known(heard: list[Told], time: int) -> list[Told]:
    """Of all that was heard: of each transaction the label known last until then; of two known at once the one heard last."""
    newest: dict[int, Told] = {}
    for label in heard:
        if label.known <= time and (label.ident not in newest or label.known >= newest[label.ident].known):
            newest[label.ident] = label
    return [label for label in newest.values() if label.fraud]


class Seen:
    """What was seen when last, the latest so many of a kind."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.last: dict[int, int] = {}

    def see(self, name: int, second: int) -> None:
        if name in self.last:
            self.last[name] = max(self.last[name], second)
            return
        if len(self.last) == self.most:
            # Of those seen longest ago at the same second the one with the smallest name.
            oldest = min(sorted(self.last), key=lambda one: self.last[one])
            if second < self.last[oldest]:
                return
            del self.last[oldest]
        self.last[name] = second


class Habit:
    """Payments by something, halved when one would pass 255."""

    def __init__(self, size: int) -> None:
        self.counts = [0] * size

    def add(self, at: int) -> None:
        if self.counts[at] == 255:
            self.counts = [count // 2 for count in self.counts]
        self.counts[at] += 1


@dataclass
class Account(Profile):
    """What the model is told of an account."""

    most_seen: dict[str, int] = field(
        default_factory=lambda: {"counterparty": 64, "country": 8, "device": 12, "channel": 6, "category": 16}
    )
    typical: float = 0.0
    place: tuple[float, float] | None = None
    placed_at: int = 0

    def __post_init__(self) -> None:
        self.seen = {kind: Seen(most) for kind, most in self.most_seen.items()}
        self.hours, self.weekdays = Habit(24), Habit(7)

    def meet(self, event: Event) -> int:
        """What became of a transaction; it is folded where it is new."""
        for one in self.ring:
            if one.ident == event.ident:
                return DUPLICATE if one.content == event.content else ID_REUSED
        self.take(event)
        return NEW

    def take(self, event: Event) -> None:
        """Fold a transaction."""
        far_above = self.typical >= 1 and event.amount > 3 * self.typical
        self.fold(replace(event, far_above=far_above))
        counted = min(event.amount, 3 * self.typical) if self.typical >= 1 else event.amount
        self.typical += (counted - self.typical) / min(self.total, 100)
        self.hours.add(event.hour)
        self.weekdays.add(event.weekday)
        for kind in KINDS:
            if (name := getattr(event, kind)) is not None:
                self.seen[kind].see(name, event.time // SECOND)
        if event.place is not None and (self.place is None or event.time >= self.placed_at):
            self.place, self.placed_at = event.place, event.time

    def is_late(self, time: int) -> bool:
        return bool(self.ring) and time < self.ring[0].time

    def describe(self, now: Event) -> Vector:
        """The account's features of a transaction that it has not met yet."""
        time, amount = now.time, now.amount
        before = [event for event in self.counted() if event.time <= time]

        def within(span: int) -> list[Event]:
            return [event for event in before if time - event.time < span]

        vector = self._sums("account", before, time)
        vector["account_count_10m"] = len(within(600 * SECOND))
        vector["account_sum_10m"] = sum(event.amount for event in within(600 * SECOND))
        ages = [time - event.time for event in before]
        vector["account_since_last"] = min(ages) / SECOND if ages else math.nan
        vector["account_since_first"] = max(time - self.first, 0) / SECOND if self.total else math.nan
        month = [event.amount for event in within(30 * DAY)]
        mean = _mean(month)
        vector["amount_to_account_mean_30d"] = amount / mean if month and mean > 0 else math.nan
        spread = _spread(month)
        vector["amount_deviation_30d"] = (amount - mean) / spread if month and spread > 0 else math.nan
        vector["account_typical"] = self.typical if self.total else math.nan
        vector["amount_to_account_typical"] = amount / self.typical if self.typical > 0 else math.nan
        vector["account_far_above_7d"] = sum(event.far_above for event in within(7 * DAY))
        vector["account_far_above_14d"] = sum(event.far_above for event in within(14 * DAY))
        vector["account_below_round_7d"] = sum(event.below_round for event in within(7 * DAY))
        nights = sum(event.hour <= 6 for event in within(30 * DAY))
        vector["account_night_share_30d"] = nights / len(month) if month else math.nan
        near = {(now.hour + step) % 24 for step in (-1, 0, 1)}
        vector["hour_usual"] = _share(sum(self.hours.counts[hour] for hour in near), self.hours.counts)
        vector["weekday_usual"] = _share(self.weekdays.counts[now.weekday], self.weekdays.counts)
        second = time // SECOND
        for many, (kind, windows) in DIFFERENT.items():
            since = [max(second - last, 0) for last in self.seen[kind].last.values()]
            for name in windows:
                vector[f"account_{many}_{name}"] = sum(age < WINDOWS[name] // SECOND for age in since)
        for kind in ("counterparty", "country", "device", "category"):
            name_now = getattr(now, kind)
            vector[f"{kind}_is_new"] = math.nan if name_now is None else name_now not in self.seen[kind].last
        last = self.seen["counterparty"].last.get(now.counterparty) if now.counterparty is not None else None
        vector["account_since_counterparty"] = math.nan if last is None else max(second - last, 0)
        vector["account_speed"] = math.nan
        if now.place is not None and self.place is not None:
            hours = max(abs(time - self.placed_at) / SECOND, 60) / 3600
            vector["account_speed"] = _kilometres(self.place, now.place) / hours
        return vector | self._frauds("account", before, time)


@dataclass
class Counterparty(Profile):
    """What the model is told of a counterparty."""

    def describe(self, time: int, amount: int = 0) -> Vector:
        """The counterparty's features, as known at that moment."""
        settled = [event for event in self.counted() if time - event.time >= SETTLING]
        vector = self._sums("counterparty", settled, time)
        ages = [time - event.time for event in settled if time - event.time < REACH]
        vector["counterparty_since_last"] = min(ages) / SECOND if ages else math.nan
        age = time - self.first
        vector["counterparty_since_first"] = age / SECOND if self.total and age >= SETTLING else math.nan
        mean = _mean([event.amount for event in settled if time - event.time < 30 * DAY])
        vector["amount_to_counterparty_mean_30d"] = amount / mean if mean > 0 else math.nan
        for name, span in list(WINDOWS.items())[1:]:
            filled = len({event.content % BUCKETS for event in settled if time - event.time < span})
            empty = max(BUCKETS - filled, 0.5)  # all are full: more than can be told
            vector[f"counterparty_accounts_{name}"] = round(BUCKETS * math.log(BUCKETS / empty), 3)
            ratios = [event.ratio for event in settled if time - event.time < span and event.ratio]
            vector[f"counterparty_payers_ratio_{name}"] = _mean(ratios) / 1000
        return vector | self._frauds("counterparty", settled, time)


def of_nobody() -> Vector:
    """The counterparty's features of a transaction that names none."""
    return dict.fromkeys(Counterparty(1, 1, DAY).describe(0), math.nan)


def _mean(amounts: list[int]) -> float:
    return float(sum(amounts)) / float(len(amounts)) if amounts else math.nan


def _share(count: int, counts: list[int]) -> float:
    return count / sum(counts) if sum(counts) else math.nan


def _spread(amounts: list[int]) -> float:
    """Exactly, in fractions, up to the root."""
    if not amounts:
        return math.nan
    mean = Fraction(sum(amounts), len(amounts))
    variance = Fraction(sum(one * one for one in amounts), len(amounts)) - mean * mean
    return math.sqrt(variance) if variance > mean * mean / 10**9 else 0.0


def _kilometres(here: tuple[float, float], there: tuple[float, float]) -> float:
    """By the chord between two points of a sphere."""

    def point(place: tuple[float, float]) -> tuple[float, float, float]:
        north, east = map(math.radians, place)
        return math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)

    return 2 * 6371.0088 * math.asin(min(1.0, math.dist(point(here), point(there)) / 2))
