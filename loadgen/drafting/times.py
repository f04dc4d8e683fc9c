"""How a text column writes its times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time
from typing import Final

import polars as pl

from schemas.times import Why, Zone, formatted, stamped, written
from schemas.wire import EARLIEST, LATEST

NEARLY_ALL: Final = 0.98
"""So many of the values must be numbers or times for a text column to be one: tables have a few slips."""
_YEAR_FIRST: Final = r"^\d{4}-\d\d?-\d\d?(\D|$)"
_LIKE_A_DATE: Final = (
    r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{2,4}|^\d{1,2}[-/ ]?[A-Za-z]{3}[-/ ]?\d{2,4}|^[A-Z][a-z]{2} \d{1,2}, \d{4}"
    r"|^(19|20)\d{6}([ T]?\d{4,6})?$"
)
_CLOCK: Final = r"^\d{1,2}:\d\d(:\d\d(\.\d+)?)?$"
_DATES: Final = (
    "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d",
    "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%y-%m-%d", "%y/%m/%d", "%y.%m.%d",
    "%d-%b-%Y", "%d %b %Y", "%d%b%Y", "%b %d, %Y",
)  # fmt: skip
_CLOCKS: Final = ("", "%H:%M:%S", "%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H%M%S", "%H%M")
_BETWEEN: Final = ("", " ", "T", ", ")
_SWAPPED: Final = {"%d/%m": "%m/%d", "%d-%m-": "%m-%d-"}
_UTC, _ELSEWHERE = Zone.of("UTC"), Zone.of("+01:00")


@dataclass(frozen=True)
class TimeForm:
    """A `time.format` of a mapping."""

    format: str
    clock: bool = True
    """Whether it has the time of day."""
    zoned: float = 0.0
    """The share of the values that say their offset from UTC."""
    ambiguous: str | None = None
    """Another format that would read them all as well, as other times: no day is above 12, or the year has two digits."""


def clock_form(text: pl.Series) -> str | None:
    """How these times of day are written; None: they are none."""
    if not _nearly_all(text.str.contains(_CLOCK)):
        return None
    if not _nearly_all(text.str.contains(r"^\d{1,2}:\d\d:\d\d")):
        return "%H:%M"
    return "%H:%M:%S%.f" if text.str.contains(".", literal=True).any() else "%H:%M:%S"


def stamp_form(values: pl.Series) -> TimeForm | None:
    """Of a column of timestamps or dates; None: most are no times at which a transaction may have occurred."""
    if not len(values) or not _mostly_there(stamped(values, _UTC).struct.field("moment")):
        return None
    zoned = isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is not None
    return TimeForm("timestamp", clock=values.dtype != pl.Date, zoned=float(zoned))


def moments_of(values: pl.Series, form: TimeForm | None) -> pl.Series | None:
    """What is read of them, without regard to the zone; None: they are no times."""
    if form is None:
        return None
    if values.dtype != pl.String:
        return stamped(values, _UTC).struct.field("moment")
    read = written(values, _UTC) if form.format == "timestamp" else formatted(values, form.format, _UTC)
    return read.struct.field("moment")


def time_form(text: pl.Series) -> TimeForm | None:
    """How these times are written; None: they are none.  A word for never, such as 9999-12-31, is as good as any other."""
    text = text.str.strip_chars()
    if _nearly_all(text.str.contains(_YEAR_FIRST)):
        return _plainly(text)
    if _nearly_all(text.str.contains(_LIKE_A_DATE)) and (form := _by_format(text)) is not None:
        return form
    # Of most columns of text a few values tell that they are no times; words take their time.
    return _plainly(text) if _plainly(text.head(_FIRST_FEW)) is not None else None


def _plainly(text: pl.Series) -> TimeForm | None:
    read = written(text, _UTC).struct.unnest()
    if not _nearly_all(read["why"].is_null() | (read["why"] == Why.BEYOND)) or not _mostly_there(read["moment"]):
        return None
    there = read["moment"].drop_nulls()
    clock = text.str.contains(":", literal=True).any() or (there.dt.time() != _MIDNIGHT).any()
    zoned = (written(text, _ELSEWHERE).struct.field("moment") == read["moment"]).drop_nulls()
    return TimeForm("timestamp", clock=bool(clock), zoned=share(zoned))


def _by_format(text: pl.Series) -> TimeForm | None:
    read = {form: one for form in _forms(text.head(3)) if _fits(one := _read_by(text, form))}
    if not read:
        return None
    best, *rest = read
    swapped = next((best.replace(ours, other) for ours, other in _SWAPPED.items() if ours in best), "")
    if swapped in read and "%p" in best:  # who writes PM writes the month first
        best, rest = swapped, [best]
    other = next((form for form in rest if not read[form].equals(read[best])), None)
    return TimeForm(best, clock="%H" in best or "%I" in best, ambiguous=other)


def _forms(first: pl.Series) -> list[str]:
    """Those that read the first few."""
    forms = [
        date + (between + clock if clock else "")
        for date in _DATES
        for clock in _CLOCKS
        for between in (_BETWEEN if clock else ("",))
        if between or not clock or date == "%Y%m%d"
    ]
    return [form for form in forms if not _read_by(first, form).null_count()]


def _read_by(text: pl.Series, form: str) -> pl.Series:
    return text.str.to_datetime(form, time_unit="us", strict=False)


def _fits(read: pl.Series) -> bool:
    return _nearly_all(read.is_not_null()) and _mostly_there(read.dt.replace_time_zone("UTC"))


def _mostly_there(moments: pl.Series) -> bool:
    """Whether most are moments at which a transaction may have occurred."""
    return share(moments.is_between(EARLIEST, LATEST, closed="left").fill_null(value=False)) > _MOST


_MIDNIGHT: Final = time()
_MOST: Final = 0.5
_FIRST_FEW: Final = 20


def share(holds: pl.Series) -> float:
    """Of the values, how many it holds for; 0 of none."""
    return float(holds.sum()) / len(holds) if len(holds) else 0.0


def _nearly_all(holds: pl.Series) -> bool:
    return share(holds) >= NEARLY_ALL
