"""A time as people and programs write it whose month is a word, and what stands behind a time: its zone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        (
            "jan ene gen", "feb fév fev", "mar mär mrz maa maerz", "apr avr abr", "may mai mei mag", "jun jui giu", "jul lug",
            "aug aoû aou ago", "sep set", "oct okt ott out", "nov", "dec dez déc dic",
        ),
        1,
    )
    for name in names.split()
}  # fmt: skip
"""By their first letters, in English and its neighbours."""
_JULY: Final = "juil"
"""Which begins like June."""
_ZONES: Final = {
    "WET": 0, "WEST": 60, "BST": 60, "CET": 60, "MEZ": 60, "CEST": 120, "MESZ": 120, "EET": 120, "EEST": 180, "MSK": 180,
    "AST": -240, "ADT": -180, "EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480,
    "PDT": -420, "JST": 540, "KST": 540, "AEST": 600, "AEDT": 660, "NZST": 720, "NZDT": 780, "SGT": 480, "HKT": 480,
}  # fmt: skip
"""Minutes east of UTC of letters that stand for one zone where they are met in tables; IST, which is three, is none of them."""
_NONE: Final = re.compile(r"\[?(?:Z|Zulu|UTC|GMT|UT)\]?(?:\[[^\]]*\])?", re.I)
_OFFSET: Final = re.compile(
    r"(?:UTC|GMT)?\s*([+\-−])(\d{1,2})(?::?(\d{2}))?(?::?\d{2})?\s*(?:\[[^\]]*\]|\([^)]*\)|[A-Z]{3,5})?"
)
_PLACE: Final = re.compile(r"\[?([A-Za-z_]+(?:/[A-Za-z0-9_+\-]+)+)\]?")
_MOST_MINUTES: Final = 18 * 60

_MONTH: Final = r"(?P<month>[^\W\d_]{3,9})\.?"
_CLOCK: Final = (
    r"(?P<hour>\d{1,2})[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2})(?:[.,:](?P<fraction>\d{1,12}))?)?"
    r"\s*(?P<half>[ap]\.?m\b\.?)?"
)
_WEEKDAY: Final = re.compile(r"^[^\W\d_]{2,9}\.?,?\s+(?=\d|[^\W\d_]{3})", re.I)
_FORMS: Final = tuple(
    re.compile(form, re.I)
    for form in (
        # Mon Jan 01 10:00:00 CET 2024, as Java and Unix say it
        rf"{_MONTH}\s+(?P<day>\d{{1,2}})\s+{_CLOCK}\s*(?P<tail>\S*)\s+(?P<year>\d{{4}})",
        # Jan 1, 2024 10:00:00 AM; Mon Jan 01 2024 10:00:00 GMT+0100 (Central European Standard Time)
        rf"{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<year>\d{{4}}),?(?:\s+(?:at\s+)?{_CLOCK}\s*(?P<tail>.*))?",
        # Mon, 01 Jan 2024 10:00:00 +0100; 01-JAN-24 10.00.00.123456 AM; 01/Jan/2024:10:00:00 +0100
        rf"(?P<day>\d{{1,2}})\.?[-\s/.]*{_MONTH}[-\s/.,]*(?P<year>\d{{4}}|\d{{2}}),?(?:[\sT:]+{_CLOCK}\s*(?P<tail>.*))?",
        # 2024-01-01 10:00:00 AM; 2024-Jan-01 10:00
        rf"(?P<year>\d{{4}})[-/.\s](?:{_MONTH}|(?P<number>\d{{1,2}}))[-/.\s](?P<day>\d{{1,2}})(?:[\sT]+{_CLOCK}\s*(?P<tail>.*))?",
    )
)


class Tail(NamedTuple):
    """What stands behind a time."""

    known: bool
    """Otherwise it can't be told what it means."""
    minutes: int | None = None
    """East of UTC."""
    place: str | None = None
    """Both None: it says nothing of the zone."""


@lru_cache(maxsize=4_096)
def zone_of(tail: str) -> Tail:  # noqa: PLR0911 - a table, read top to bottom
    """
    >>> zone_of("Z").minutes, zone_of("+0530").minutes, zone_of("+01:00[Europe/Berlin]").minutes, zone_of("CET").minutes
    (0, 330, 60, 60)
    >>> zone_of("Europe/Berlin").place, zone_of("").minutes, zone_of("nonsense").known
    ('Europe/Berlin', None, False)
    """
    text = tail.strip()
    if not text:
        return Tail(known=True)
    if _NONE.fullmatch(text):
        return Tail(known=True, minutes=0)
    if found := _OFFSET.fullmatch(text):
        minutes = int(found[2]) * 60 + int(found[3] or 0)
        told = minutes if found[1] == "+" else -minutes
        return Tail(known=True, minutes=told) if minutes <= _MOST_MINUTES else Tail(known=False)
    if (minutes_east := _ZONES.get(text.upper())) is not None:
        return Tail(known=True, minutes=minutes_east)
    if found := _PLACE.fullmatch(text):
        try:
            ZoneInfo(found[1])
        except (ValueError, OSError, KeyError):
            return Tail(known=False)
        return Tail(known=True, place=found[1])
    return Tail(known=False)


def worded(text: str) -> tuple[int, str] | None:
    """What the clock showed, in microseconds since 1970, and what stood behind it; None: it can't be read.

    A year of two digits is of this century up to 68.

    >>> worded("01-JAN-24 10.00.00.5 AM") == worded("Mon Jan 01 10:00:00.5 2024")
    True
    """
    for stem in (text, _WEEKDAY.sub("", text)):
        for form in _FORMS:
            if (found := form.fullmatch(stem)) and (micros := _naive(found)) is not None:
                tail = (found["tail"] or "").strip()
                if zone_of(tail).known:
                    return micros, tail
    return None


def _naive(found: re.Match[str]) -> int | None:
    said = found.groupdict()
    month = int(said["number"]) if said.get("number") else _month(said["month"])
    year = int(said["year"])
    if len(said["year"]) == 2:
        year += 2_000 if year < 69 else 1_900
    hour, minute, second = (int(said[name] or 0) for name in ("hour", "minute", "second"))
    if said["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if said["half"][0] in "pP" else 0)
    fraction = int((said["fraction"] or "0").ljust(6, "0")[:6])
    whole_day = hour == 24 and not (minute or second or fraction)
    if month is None or minute > 59 or second > 60 or (hour > 23 and not whole_day):
        return None
    try:
        day = datetime(year, month, int(said["day"]), tzinfo=UTC)
    except ValueError:
        return None
    clock = timedelta(hours=hour, minutes=minute, seconds=second, microseconds=fraction)
    return (day - _EPOCH + clock) // timedelta(microseconds=1)


def _month(word: str) -> int | None:
    small = word.lower()
    return 7 if small.startswith(_JULY) else _MONTHS.get(small[:3])
