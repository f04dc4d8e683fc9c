"""`features show`: whatever a profile holds can be shown."""

from __future__ import annotations

import msgspec
import pytest

from features.__main__ import _shown
from schemas.wire import EPOCH, microseconds
from tests.unit.lives import T0, account
from tests.unit.oracle import DAY, HOUR, Event, Told

YEAR_0, YEAR_10000 = -62_135_640_000_000_000, 253_402_300_800_000_000 + 14 * HOUR
"""What the year 1 was where clocks are ahead of UTC, and the year 9999 where they are behind."""


@pytest.mark.parametrize("time", [YEAR_0, YEAR_10000, 0, -1, microseconds(EPOCH)])
def test_a_time_of_any_year_is_shown(time: int) -> None:
    shown = _shown(account([Event(time, 100, 1), Told(1, time, time, True)]).profiles)

    assert shown["first"] == shown["newest"] == shown["events"][0]["at"] == shown["labels"][0]["known_at"]
    assert msgspec.json.decode(msgspec.json.encode(shown))["transactions"] == 1


def test_a_time_is_shown_as_it_always_was() -> None:
    shown = _shown(account([Event(T0, 100, 1), Event(T0 + DAY + 5, 100, 2)]).profiles)

    assert (shown["first"], shown["newest"]) == ("2026-03-02T12:00:00+00:00", "2026-03-03T12:00:00.000005+00:00")
