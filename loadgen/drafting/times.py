"""How a text column writes its times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import polars as pl

NEARLY_ALL: Final = 0.98
"""So many of the values must be numbers or times for a text column to be one: tables have a few slips."""
_ISO: Final = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?)?\s?(Z|[+-]\d\d:?\d\d)?$"
_LIKE_A_DATE: Final = (
    r"^\d{1,4}[-/.]\d{1,2}[-/.]\d{2,4}|^\d{1,2}[- ]?[A-Za-z]{3}[- ]?\d{4}|^[A-Z][a-z]{2} \d{1,2}, \d{4}"
    r"|^(19|20)\d{6}([ T]?\d{4,6})?$"
)
_CLOCK: Final = r"^\d{1,2}:\d\d(:\d\d(\.\d+)?)?$"
_DATES: Final = (
    "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d", "%Y%m%d",
    "%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%b-%Y", "%d %b %Y", "%d%b%Y", "%b %d, %Y",
)  # fmt: skip
_CLOCKS: Final = ("", "%H:%M:%S", "%H:%M:%S%.f", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H%M%S", "%H%M")
_BETWEEN: Final = ("", " ", "T", ", ")
_SWAPPED: Final = {"%d/%m": "%m/%d", "%m/%d": "%d/%m", "%d-%m-": "%m-%d-", "%m-%d-": "%d-%m-"}


@dataclass(frozen=True)
class TimeForm:
    """A `time.format` of a mapping."""

    format: str
    clock: bool = True
    """Whether it has the time of day."""
    zoned: bool = False
    """Whether the values say their offset from UTC."""
    ambiguous: str | None = None
    """Another format that would read them all as well: no day is above 12."""


def clock_form(text: pl.Series) -> str | None:
    """How these times of day are written; None: they are none."""
    if not _nearly_all(text.str.contains(_CLOCK)):
        return None
    if not _nearly_all(text.str.contains(r"^\d{1,2}:\d\d:\d\d")):
        return "%H:%M"
    return "%H:%M:%S%.f" if text.str.contains(".", literal=True).any() else "%H:%M:%S"


def time_form(text: pl.Series) -> TimeForm | None:
    """How these times are written; None: they are none."""
    text = text.str.strip_chars()
    if _nearly_all(text.str.contains(_ISO)):
        return TimeForm(
            "timestamp",
            clock=bool(text.str.contains(":").any()),
            zoned=bool(text.str.contains(r":.*(Z|[+-]\d\d:?\d\d)$").any()),
        )
    if not _nearly_all(text.str.contains(_LIKE_A_DATE)):
        return None
    fit = [form for form in _forms(text.head(3)) if _reads(text, form)]
    if not fit:
        return None
    best = fit[0]
    swapped = next((best.replace(ours, other) for ours, other in _SWAPPED.items() if ours in best), None)
    if swapped in fit and "%p" in best and best.startswith("%d"):  # who writes PM writes the month first
        best, swapped = swapped, best
    return TimeForm(best, clock="%H" in best or "%I" in best, ambiguous=swapped if swapped in fit else None)


def _forms(first: pl.Series) -> list[str]:
    """Those that read the first few."""
    forms = [
        date + (between + clock if clock else "")
        for date in _DATES
        for clock in _CLOCKS
        for between in (_BETWEEN if clock else ("",))
        if between or not clock or date == "%Y%m%d"
    ]
    return [form for form in forms if _reads(first, form)]


def _reads(text: pl.Series, form: str) -> bool:
    read = text.str.to_datetime(form, time_unit="us", strict=False)
    return _nearly_all(read.dt.year().is_between(1970, 2100).fill_null(value=False))


def share(holds: pl.Series) -> float:
    """Of the values, how many it holds for; 0 of none."""
    return float(holds.sum()) / len(holds) if len(holds) else 0.0


def _nearly_all(holds: pl.Series) -> bool:
    return share(holds) >= NEARLY_ALL
