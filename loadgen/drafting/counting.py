"""Columns of whole numbers that are a part of a time: the hour of the day, and the number of the day."""

from __future__ import annotations

from typing import Final

import polars as pl

from loadgen.drafting.columns import Column, Kind
from loadgen.drafting.times import share

_MOST_OF: Final = {"hour": 24, "minute": 60, "second": 60}
_CALLED: Final = {
    "hour": frozenset({"h", "hour", "hours", "hr", "hrs", "hh", "stunde", "heure", "hora", "uur"}),
    "minute": frozenset({"minute", "minutes", "min", "mins", "mm"}),
    "second": frozenset({"second", "seconds", "sec", "secs", "ss"}),
}
_DAYS: Final = frozenset({"d", "day", "days", "dt", "date", "tag", "jour", "dia"})
_OTHER_DAYS: Final = frozenset({"week", "weekday", "wday", "dow", "month", "name", "last", "since", "previous"})
_LATE: Final = 20
"""An hour that some day of a table has."""
_NEARLY: Final = 0.9
_FEWEST: Final = 2
_MOST_DAYS: Final = 40_000


def wraps(numbers: pl.Series) -> bool:
    """Whether these numbers rise and begin again, and again, in the order of the rows: an hour of the day does, no time does."""
    there = numbers.drop_nulls()
    step = there.diff().drop_nulls()
    falls = step.filter(step < 0)
    reach = float(there.max() or 0) - float(there.min() or 0)  # type: ignore[arg-type]
    # Rows in no order fall back every other time, and by any amount.
    return (
        len(falls) >= _FEWEST
        and len(falls) <= len(step) / 3
        and share(falls <= -reach / 2) >= _NEARLY
        and int(there.n_unique()) < len(there)
    )


def clock_hand(column: Column) -> str | None:
    """`hour`, `minute` or `second` where the column is that of the time of day."""
    if column.kind is not Kind.NUMBER or not column.whole or column.smallest < 0 or column.distinct < _FEWEST:
        return None
    called = next((name for name, words in _CALLED.items() if set(column.words) & words), None)
    if called is not None:
        rises = column.numbers.drop_nulls().is_sorted()
        return called if column.largest <= _MOST_OF[called] and not rises else None
    # Whatever it is called: it goes around once a day.
    around = _LATE <= column.largest <= _MOST_OF["hour"] and wraps(column.numbers)
    return "hour" if around else None


def day_number(column: Column, hour: Column | None) -> bool:
    """Whether the column counts days: never back in the order of the rows, and on where the hour begins again."""
    if column.kind is not Kind.NUMBER or not column.whole or column.distinct < _FEWEST or hour is None:
        return False
    if column.smallest < 0 or column.largest > _MOST_DAYS:
        return False
    called = bool(set(column.words) & _DAYS) and not set(column.words) & _OTHER_DAYS
    if called and not wraps(column.numbers):
        return True
    both = pl.DataFrame({"day": column.numbers, "hour": hour.numbers}).drop_nulls()
    on, back = both["day"].diff().drop_nulls(), both["hour"].diff().drop_nulls() < 0
    return (
        share(on >= 0) >= 1
        and back.any()
        and share(on.filter(back) > 0) >= _NEARLY
        and share(on.filter(~back) == 0) >= _NEARLY
    )
