"""When it happened: one column of times, a date and a time of day, or numbers that count from somewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from loadgen.drafting.columns import Column, Kind
from loadgen.drafting.counting import clock_hand, day_number, wraps
from loadgen.drafting.times import NEARLY_ALL, TimeForm, share, time_form
from loadgen.drafting.toml import quoted
from loadgen.drafting.words import FIELDS, said
from schemas.times import ANY_EPOCH, COUNTS, UNITS, share_that_fits
from schemas.wire import LATEST

_START: Final = "2024-01-01T00:00:00"
_LONGEST: Final = (LATEST - datetime.fromisoformat(f"{_START}Z")).total_seconds()
_FEW: Final = 60
"""Instants: where many rows share so few, what counts is hardly a time."""
_SHARED: Final = 20
_MOST: Final = 0.5
_UNIT_WORDS: Final = {
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
        hands = _hands([each for each in columns if each is not column])
        if not form.clock and hands and _can_be_in_a_pattern(column, *hands):
            return _from_hands(column, form, hands, why, sure=sure)
        return _from_one(column, form, why, sure=sure)
    parts = _from_parts(columns)
    if parts is not None and parts.form.clock:
        return parts
    together = _day_and_hour(columns)
    counted = [count for column in columns if (count := _counted(column)) is not None]
    if together is not None:  # unless a column counts on over the days
        counted = [
            each for each in counted if each[1].columns[0] not in together.columns and not _shares_few(columns, each[1])
        ]
    if counted:
        return max(counted, key=lambda each: each[0])[1]
    return together or parts


def not_read(columns: list[Column]) -> str:
    """Of columns that are called as a time and aren't read as one: why not; empty where there are none."""
    said_so = []
    for column in columns:
        score = max(FIELDS["occurred_at"].score(column.words)[0], FIELDS["steps"].score(column.words)[0])
        if not score or not len(column.present):
            continue
        if column.kind is Kind.NUMBER and wraps(column.numbers):
            said_so.append(
                f"{column.named} begins again and again in the order of the rows, as an hour of the day does "
                f"({column.smallest:.0f} to {column.largest:.0f}), and no column was found that says the day"
            )
        elif column.kind in (Kind.TEXT, Kind.TIME):
            said_so.append(
                f"{column.named} is there, but {str(column.present[0])[:40]!r} can't be read as a time: "
                "`format` of [time] may say how it is written"
            )
        elif column.kind is Kind.NUMBER:
            said_so.append(
                f"{column.named} is there, but its numbers, {column.smallest:,.10g} to {column.largest:,.10g}, are no time"
            )
    return "; ".join(said_so[:3])


def _shares_few(columns: list[Column], found: Occurring) -> bool:
    (column,) = [each for each in columns if each.name == found.columns[0]]
    return column.distinct <= _FEW and len(column.present) >= _SHARED * column.distinct


_HANDS: Final = ("hour", "minute", "second")


def _hands(columns: list[Column]) -> list[Column]:
    """Columns of the hour of the day, and where there are any of its minute and second."""
    found: list[Column] = []
    for name in _HANDS:
        hand = next((each for each in columns if clock_hand(each) == name), None)
        if hand is None:
            break
        found.append(hand)
    return found


def _day_and_hour(columns: list[Column]) -> Occurring | None:
    """The number of the day in one column, and the hour of the day in another."""
    hands = _hands(columns)
    days = [each for each in columns if each not in hands and day_number(each, hands[0] if hands else None)]
    if not hands or not days:
        return None
    day = max(days, key=lambda each: bool(set(each.words) & {"day", "days"}))
    together = ", ".join(
        f"{key} = {quoted(each.name)}" for key, each in zip(("day", *_HANDS), (day, *hands), strict=False)
    )
    why = f"{day.named} has the number of the day, {day.smallest:.0f} to {day.largest:.0f}, and " + " and ".join(
        f"{each.named} the {name}" for each, name in zip(hands, _HANDS, strict=False)
    )
    settings = {
        "format": ('"days"', "the day's number counts them", True),
        "start": (_START, "the table doesn't say when day 0 began; weekdays depend on it", False),
        "zone": ('"UTC"', "with it the hours are those of the table", True),
    }
    return Occurring(
        value=f"{{ {together} }}",
        columns=(day.name, *(each.name for each in hands)),
        why=why,
        form=TimeForm("days"),
        settings=settings,
        sure=False,
    )


def _from_hands(date: Column, form: TimeForm, hands: list[Column], why: str, *, sure: bool) -> Occurring:
    clock = ":".join(f"{{{each.name}}}" for each in hands) + (":00" if len(hands) == 1 else "")
    hours = "%H:%M:%S" if len(hands) == len(_HANDS) else "%H:%M"
    together = TimeForm(
        form.format if form.format == "timestamp" else f"{form.format} {hours}", ambiguous=form.ambiguous
    )
    return Occurring(
        value=_pattern(f"{{{date.name}}} {clock}"),
        columns=(date.name, *(each.name for each in hands)),
        why=f"{why}, and {' and '.join(each.named for each in hands)} say the time of day",
        form=together,
        date_form=form,
        sure=sure,
        settings=_read_by(together),
    )


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
    return Occurring(value=value, columns=(column.name,), why=why, form=form, sure=sure, settings=_read_by(form))


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
        settings=_read_by(together),
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
    hands = [each for each in _hands([c for c in columns if c not in used]) if _can_be_in_a_pattern(each)]
    if clock is not None:
        pattern, form, used = f"{pattern} {{{clock.name}}}", f"{form} {clock.clock}", [*used, clock]
    elif hands:
        pattern += " " + ":".join(f"{{{each.name}}}" for each in hands) + (":00" if len(hands) == 1 else "")
        form, used = f"{form} %H:%M{':%S' if len(hands) == len(_HANDS) else ''}", [*used, *hands]
    has_clock = clock is not None or bool(hands)
    times = TimeForm(form, clock=has_clock)
    return Occurring(
        value=_pattern(pattern),
        columns=tuple(column.name for column in used),
        why="year, month and day are columns of their own" + (", and so is the time of day" if has_clock else ""),
        form=times,
        sure=has_clock,
        settings=_read_by(times),
    )


def _read_by(form: TimeForm) -> dict[str, tuple[str, str, bool]]:
    settings: dict[str, tuple[str, str, bool]] = {}
    if form.format != "timestamp":
        why = "so the values are written"
        if form.ambiguous:
            why = f"it may as well be {form.ambiguous!r}, by which these are other times"
        settings["format"] = (quoted(form.format), why, form.ambiguous is None)
    if form.zoned < 1:
        says = f"{1 - form.zoned:.1%} of the times don't say" if form.zoned else "the table doesn't say"
        settings["zone"] = ('"UTC"', f"{says}; a place such as Europe/Brussels makes hours local ones", False)
    return settings


def _counted(column: Column) -> tuple[float, Occurring] | None:
    """Numbers that count from somewhere."""
    if column.kind is not Kind.NUMBER or column.distinct < 2:
        return None
    if (absolute := _since_a_known_moment(column)) is not None:
        return absolute
    score, word = FIELDS["steps"].score(column.words)
    if not score or column.smallest < 0 or wraps(column.numbers) or clock_hand(column) is not None:
        return None
    settings: dict[str, tuple[str, str, bool]]
    unit = next((unit for unit, words in _UNIT_WORDS.items() if set(column.words) & words), None)
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
    unit = settings["format"][0].strip('"')
    if share(column.numbers.drop_nulls() * UNITS.get(unit, UNITS["hours"]) < _LONGEST) <= _MOST:
        return None
    settings["start"] = (_START, "the table doesn't say when it began; hours and weekdays depend on it", False)
    settings["zone"] = ('"UTC"', "with it the hours are those of the table", True)
    return score, _numbers(column, word, settings)


def _since_a_known_moment(column: Column) -> tuple[float, Occurring] | None:
    """Seconds to nanoseconds since 1970, or what Excel, Windows or .NET count."""
    score, word = max(FIELDS[name].score(column.words) for name in ("steps", "occurred_at"))
    if not score:
        return None
    there = column.present
    fits = {name: part for name in COUNTS if (part := share_that_fits(there, name)) > 0}
    epochs = {name: part for name, part in fits.items() if name in ANY_EPOCH}
    if not fits or sum(fits.values()) <= _MOST:
        return None
    best = max(fits, key=lambda name: fits[name])
    zone = ('"UTC"', "a place such as Europe/Brussels makes hours local ones", False)
    ranged = f"{column.smallest:.16g} to {column.largest:.16g}"
    if len(epochs) > 1:
        shares = ", ".join(
            f"{part:.1%} are {COUNTS[name].words}" for name, part in sorted(epochs.items(), key=lambda each: -each[1])
        )
        why = f"two units or more, which their size tells apart: {shares}"
        return score + 1, _numbers(column, word, {"format": ('"epoch"', why, False), "zone": zone})
    if best == "excel-days" and not (column.type.is_float() or not column.whole) and not column.numbers.is_sorted():
        return None  # whole numbers of five digits are many things
    others = "" if fits[best] >= NEARLY_ALL else f"; {1 - fits[best]:.1%} of them are none"
    why = f"its values, {ranged}, are {COUNTS[best].words}{others}"
    sure = fits[best] >= NEARLY_ALL and best in ANY_EPOCH
    return score + 1, _numbers(column, word, {"format": (quoted(best), why, sure), "zone": zone})


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
