"""Moments and durations as people write them, in settings, options and mappings."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from schemas.errors import WrongSettings

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


def duration(text: str) -> timedelta:
    """
    >>> duration("7d")
    datetime.timedelta(days=7)
    >>> duration("36 h")
    datetime.timedelta(days=1, seconds=43200)

    Raises WrongSettings.
    """
    parts = re.fullmatch(r"\s*(\d{1,6}(?:\.\d+)?)\s*([dhms])\s*", text)
    if parts is None:
        raise WrongSettings(f"{text!r} is no duration; write a number and d, h, m or s, as in 7d or 36h")
    return timedelta(**{_UNITS[parts[2]]: float(parts[1])})


def moment(text: str) -> datetime:
    """
    >>> moment("2026-07-01T00:00:00Z").isoformat()
    '2026-07-01T00:00:00+00:00'

    Raises WrongSettings.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise WrongSettings(f"{text!r} is no moment with its offset from UTC; write 2026-07-01T00:00:00Z")
    return at
