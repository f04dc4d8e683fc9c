"""When it happened: one column of times, a date and a time of day, or numbers that count from somewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from loadgen.drafting.columns import Column, Kind
from loadgen.drafting.times import TimeForm, time_form
from loadgen.drafting.toml import quoted
from loadgen.drafting.words import FIELDS, said

_START: Final = "2024-01-01T00:00:00"
_EPOCHS: Final = {"epoch-s": 1, "epoch-ms": 1_000, "epoch-us": 1_000_000}
_FIRST_YEAR, _LAST_YEAR = 631_152_000, 2_524_608_000  # 1990 and 2050, in seconds since 1970
_UNITS: Final = {
    "seconds": frozenset({"seconds", "secs", "sec", "second"}),
    "minutes": frozenset({"minutes", "minute", "mins"}),
    "hours": frozenset({"hours", "hour"}),
    "days": frozenset({"days", "day"}),
}


@dataclass(frozen=True, kw_only=True)
class Occurring:
    """`transaction.occurred_at` and `[time]`."""

    value: str
    """In TOML."""
    columns: tuple[str, ...]
    why: str
    form: TimeForm
    date_form: TimeForm | None = None
    """Of the date, where the time of day stands in a column of its own."""
    sure: bool = True
    settings: dict[str, tuple[str, str, bool]] = field(default_factory=dict)
    """Keys of `[time]`: value in TOML, why, and whether that is sure."""


def occurring(columns: list[Column]) -> Occurring | None:
    """The column that speaks most for being the time; None: none does."""
    dated = [found for column in columns if (found := _dated(column)) is not None]
    if dated:
        score, column, form, why = max(dated, key=lambda each: each[0])
        if score < _NAMED and len(dated) > 1:
            why += f"; there are {len(dated)} columns of times, and none is called time or date"
        sure = score >= _NAMED
        clocks = [each for each in columns if each.kind is Kind.CLOCK]
        if not form.clock and clocks and _can_be_in_a_pattern(column, clocks[0]):
            return _from_two(column, form, clocks[0], why, sure=sure)
        return _from_one(column, form, why, sure=sure)
    counted = [count for column in columns if (count := _counted(column)) is not None]
    if counted:
        return max(counted, key=lambda each: each[0])[1]
    return _from_parts(columns)


_NAMED: Final = 4.0


def _dated(column: Column) -> tuple[float, Column, TimeForm, str] | None:
    """Score, and how to read it."""
    score, word = FIELDS["occurred_at"].score(column.words)
    if said(column.words, FIELDS["occurred_at"].against):
        return None
    form = column.time
    if column.kind is Kind.NUMBER and column.whole and not column.zero_padded and score and column.type.is_integer():
        form = time_form(column.present.cast(str).unique(maintain_order=True).head(20_000))
    if form is None or (column.kind is not Kind.TIME and not score):
        return None
    why = (
        f"{word!r} in its name, and " if word else ""
    ) + f"its values are times, such as {str(column.present[0])[:40]!r}"
    return score + (3.0 if form.clock else 2.5), column, form, why


def _from_one(column: Column, form: TimeForm, why: str, *, sure: bool) -> Occurring:
    value = quoted(column.name)
    if column.kind is Kind.NUMBER:  # a format reads text, and a pattern makes it
        if not _can_be_in_a_pattern(column):
            sure = False
        else:
            value = _pattern(f"{{{column.name}}}")
    if not form.clock:
        why, sure = f"{why}; it has no time of day, so that all payments of a day are at midnight", False
    return Occurring(
        value=value, columns=(column.name,), why=why, form=form, sure=sure, settings=_read_by(form, column)
    )


def _from_two(date: Column, form: TimeForm, clock: Column, why: str, *, sure: bool) -> Occurring:
    together = TimeForm(
        form.format if form.format == "timestamp" else f"{form.format} {clock.clock}", ambiguous=form.ambiguous
    )
    return Occurring(
        value=_pattern(f"{{{date.name}}} {{{clock.name}}}"),
        columns=(date.name, clock.name),
        why=f"{why}, and {clock.named} has the time of day",
        form=together,
        date_form=form,
        sure=sure,
        settings=_read_by(together, date),
    )


def _from_parts(columns: list[Column]) -> Occurring | None:
    """Year, month, day, and where there is one the time of day."""
    parts = {
        word: next((c for c in columns if c.words == (word,) and c.whole and _can_be_in_a_pattern(c)), None)
        for word in ("year", "month", "day")
    }
    if not all(parts.values()):
        return None
    used = [column for column in parts.values() if column is not None]
    pattern, form = "-".join(f"{{{column.name}}}" for column in used), "%Y-%m-%d"
    clock = next((c for c in columns if c.kind is Kind.CLOCK and _can_be_in_a_pattern(c)), None)
    if clock is not None:
        pattern, form, used = f"{pattern} {{{clock.name}}}", f"{form} {clock.clock}", [*used, clock]
    times = TimeForm(form, clock=clock is not None)
    return Occurring(
        value=_pattern(pattern),
        columns=tuple(column.name for column in used),
        why="year, month and day are columns of their own" + (", and so is the time of day" if clock else ""),
        form=times,
        sure=clock is not None,
        settings=_read_by(times, used[0]),
    )


def _read_by(form: TimeForm, column: Column) -> dict[str, tuple[str, str, bool]]:
    settings: dict[str, tuple[str, str, bool]] = {}
    if form.format != "timestamp":
        why = "so the values are written"
        if form.ambiguous:
            why = f"no day is above 12: it may as well be {form.ambiguous!r}"
        settings["format"] = (quoted(form.format), why, form.ambiguous is None)
    if not form.zoned and getattr(column.type, "time_zone", None) is None:
        settings["zone"] = (
            '"UTC"',
            "the table doesn't say; a place such as Europe/Brussels makes hours local ones",
            False,
        )
    return settings


def _counted(column: Column) -> tuple[float, Occurring] | None:
    """Numbers that count from somewhere."""
    score, word = FIELDS["steps"].score(column.words)
    if not score or column.kind is not Kind.NUMBER or column.smallest < 0 or column.distinct < 2:
        return None
    for name, factor in _EPOCHS.items():
        if _FIRST_YEAR * factor <= column.smallest and column.largest <= _LAST_YEAR * factor:
            settings = {
                "format": (
                    quoted(name),
                    f"its values, {column.smallest:.0f} to {column.largest:.0f}, are since 1970",
                    True,
                ),
                "zone": ('"UTC"', "a place such as Europe/Brussels makes hours local ones", False),
            }
            return score + 1, _numbers(column, word, settings)
    cyclic = column.words[-1] in {"hour", "day", "minute", "second"} and column.largest <= 60
    if cyclic and not column.numbers.drop_nulls().is_sorted():
        return None  # an hour of the day, or a day of the month
    unit = next((unit for unit, words in _UNITS.items() if set(column.words) & words), None)
    if unit is not None:
        settings = {"format": (quoted(unit), f"{unit} in its name", True)}
    elif (
        "step" in column.words
        or "steps" in column.words
        or (column.whole and column.largest <= 10_000 < 10 * len(column.values))
    ):
        settings = {
            "format": ('"steps"', f"whole numbers from {column.smallest:,.0f} to {column.largest:,.0f}", True),
            "step": ('"1h"', "the table doesn't say how long a step is: an hour is taken", False),
        }
    else:
        settings = {
            "format": ('"seconds"', "it counts from a start; the table doesn't say what: seconds are taken", False)
        }
    settings["start"] = (_START, "the table doesn't say when it began; hours and weekdays depend on it", False)
    settings["zone"] = ('"UTC"', "with it the hours are those of the table", True)
    return score, _numbers(column, word, settings)


def counts_time(column: Column) -> bool:
    """Whether it looks like the time, counted from somewhere."""
    return _counted(column) is not None


def _numbers(column: Column, word: str, settings: dict[str, tuple[str, str, bool]]) -> Occurring:
    form = TimeForm(settings["format"][0].strip('"'))
    why = f"{word!r} in its name; numbers from {column.smallest:,.10g} to {column.largest:,.10g}"
    return Occurring(value=quoted(column.name), columns=(column.name,), why=why, form=form, settings=settings)


def known_at(column: Column, time: Occurring) -> str | None:
    """`label.known_at` in TOML, written as `occurred_at` is; None: it can't be."""
    form = column.time
    if form is None:
        return None
    if form.format == time.form.format:
        return quoted(column.name)
    if time.date_form is not None and form.format == time.date_form.format and _can_be_in_a_pattern(column):
        # The day's end: nothing is known before it was.
        end = "23:59" if time.form.format.endswith("%H:%M") else "23:59:59"
        return _pattern(f"{{{column.name}}} {end}")
    return None


def _pattern(text: str) -> str:
    return f"{{ pattern = {quoted(text)} }}"


def _can_be_in_a_pattern(*columns: Column) -> bool:
    return not any(set("{}:!") & set(column.name) or column.name in ("", "#") for column in columns)
