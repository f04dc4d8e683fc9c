"""A feature's value in an analyst's words, made of its unit and its meaning: a new feature gets its words without code."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from features.catalogue import CATALOGUE, Feature, Unit
from schemas.currencies import MINOR_DIGITS

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_LENGTHS = ((2 * 86_400, 86_400, "days"), (2 * 3_600, 3_600, "h"), (120, 60, "min"), (0, 1, "s"))
"""From so many seconds on a duration is told in units of so many seconds."""
_TIMES = 2
"""From so many times the usual amount on it is told how many."""
_MOST_IN_DIGITS = 1e15
"""Attributes may be any number."""
_CATALOGUE = {feature.name: feature for feature in CATALOGUE}


@dataclass(frozen=True)
class Phrasing:
    """Words for vectors of these features."""

    features: tuple[Feature, ...]
    """In the order of the vector."""
    usual: Mapping[str, float | None]
    """schemas.bundle.Manifest.usual."""
    currency: str
    """Of features in minor units."""

    @classmethod
    def of(cls, names: Sequence[str], usual: Mapping[str, float | None], currency: str) -> Phrasing:
        """A name that this catalogue doesn't have, of a bundle made for another, means itself."""
        features = (
            _CATALOGUE.get(name) or Feature(name=name, unit=Unit.RATIO, meaning=name.replace("_", " "))
            for name in names
        )
        return cls(tuple(features), usual, currency)

    def followed_by(self, more: Sequence[Feature]) -> Phrasing:
        """For vectors that carry these as well, behind the others: what attributes were is another of each transaction."""
        return replace(self, features=(*self.features, *more)) if more else self

    def text(self, column: int, value: float | None) -> str:
        """What the feature is, and what is usual where the bundle says so.

        >>> said = Phrasing.of(["account_count_1h", "amount"], {"account_count_1h": 0.0, "amount": 5800.0}, "EUR")
        >>> said.text(0, 7.0)
        '7 payments of the account in the hour before, usually 0'
        >>> said.text(1, 81_240.0)
        'amount of the transaction: 812.40 EUR, 14 times the usual 58.00 EUR'
        """
        feature = self.features[column]
        return self._said(feature, value) + self._compared(feature, value)

    def _said(self, feature: Feature, value: float | None) -> str:
        shown = self._shown(feature.unit, value)
        if feature.unit is Unit.YES and value is not None and value > 0:
            return feature.meaning
        if feature.unit is Unit.COUNT and value is not None and value != 1:
            return f"{shown} {feature.meaning}"  # a meaning is a plural: one of them is told the other way
        return f"{feature.meaning}: {shown}"

    def _compared(self, feature: Feature, value: float | None) -> str:
        if feature.name not in self.usual or feature.unit is Unit.WEEKDAY:
            return ""
        usual = self.usual[feature.name]
        shown, usually = self._shown(feature.unit, value), self._shown(feature.unit, usual)
        if shown == usually:
            return ", as usual"
        if feature.unit is Unit.MINOR and value is not None and usual and value >= _TIMES * usual > 0:
            return f", {_number(round(value / usual))} times the usual {usually}"
        return f", usually {usually}"

    def _shown(self, unit: Unit, value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return "unknown"
        if unit is Unit.MINOR:
            return self._money(value)
        shown = _SHOWN.get(unit)
        return f"{_number(value)} {unit.value}" if shown is None else shown(value)

    def _money(self, minor: float) -> str:
        digits = MINOR_DIGITS.get(self.currency, 2)
        return f"{minor / 10**digits:,.{digits}f} {self.currency}"


def _number(value: float) -> str:
    """
    >>> _number(1234.0), _number(0.03125), _number(14.26), _number(1e30)
    ('1,234', '0.0312', '14.3', '1e+30')
    """
    whole = value == round(value) or abs(value) >= 1_000
    return f"{value:,.0f}" if whole and abs(value) < _MOST_IN_DIGITS else f"{value:.3g}"


def _duration(seconds: float) -> str:
    """
    >>> _duration(45), _duration(7_200), _duration(12 * 86_400)
    ('45 s', '2 h', '12 days')
    """
    size, name = next((size, name) for least, size, name in _LENGTHS if seconds >= least or size == 1)
    return f"{_number(round(seconds / size))} {name}"


def _day(number: float) -> str:
    return _DAYS[int(number) % len(_DAYS)]


def _yes(value: float) -> str:
    return "yes" if value > 0 else "no"


_SHOWN: Mapping[Unit, Callable[[float], str]] = {
    Unit.COUNT: _number,
    Unit.RATIO: _number,
    Unit.NUMBER: _number,
    Unit.HOUR: _number,
    Unit.SECONDS: _duration,
    Unit.WEEKDAY: _day,
    Unit.YES: _yes,
}
"""A unit that isn't here stands behind its number."""
