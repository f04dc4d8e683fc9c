"""Times as tables write them: text, timestamps, and numbers that count from somewhere.

Whatever is written, what is read of it lies from EARLIEST until before LATEST, or is none, and then it is said why: a table's
9999-12-31 means "never", its 1970-01-01 "unknown", and milliseconds that are taken for seconds lie far beyond both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import polars as pl

from schemas.tables import UTC_TIME
from schemas.wire import EARLIEST, LATEST
from schemas.written_times import Tail, worded, zone_of

_DAY: Final = 86_400_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


_FIRST, _END = _micros(EARLIEST) - _DAY, _micros(LATEST) + _DAY
"""A day more on both sides: what a clock shows may be a day's part away from UTC."""


class Why(IntEnum):
    """Why no moment was read of a value."""

    MISSING = 1
    UNREADABLE = 2
    LEFT_OUT = 3
    """An hour that the clock left out, in spring."""
    BEYOND = 4
    """Before EARLIEST, or not before LATEST."""


WHY: Final = {
    Why.MISSING: "is missing",
    Why.UNREADABLE: "can't be read",
    Why.LEFT_OUT: "is in an hour that the clock left out",
    Why.BEYOND: f"is before {EARLIEST.year} or after {LATEST.year - 1}",
}
"""As words behind a column's name."""
READ: Final = pl.Struct({"moment": UTC_TIME, "offset": pl.Int16, "why": pl.Int8})
"""What is read of a value: the moment, the minutes east of UTC where it was said, or why not (Why); null where it was read."""


class Count(NamedTuple):
    """Numbers that count from a moment."""

    per_second: float
    since: datetime
    words: str
    local: bool = False
    """It counts what a clock showed, in the table's zone."""


_TICK: Final = "tenths of a microsecond"
_NET: Final = datetime(1, 1, 1, tzinfo=UTC)
COUNTS: Final = {
    "epoch-s": Count(1, _EPOCH, "seconds since 1970"),
    "epoch-ms": Count(1e3, _EPOCH, "milliseconds since 1970"),
    "epoch-us": Count(1e6, _EPOCH, "microseconds since 1970"),
    "dotnet-ticks": Count(1e7, _NET, f"{_TICK} since the year 1, as .NET counts them", local=True),
    "epoch-ns": Count(1e9, _EPOCH, "nanoseconds since 1970"),
    "excel-days": Count(
        1 / 86_400, datetime(1899, 12, 30, tzinfo=UTC), "days as Excel counts them, since 1900", local=True
    ),
    "filetime": Count(1e7, datetime(1601, 1, 1, tzinfo=UTC), f"{_TICK} since 1601, as Windows counts them"),
}
"""By the name of the format.  Hardly a number is a moment from EARLIEST to LATEST by two of them: nanoseconds of 1990 are
.NET's of any year, which are taken for the likelier and stand first."""
ANY_EPOCH: Final = ("epoch-s", "epoch-ms", "epoch-us", "epoch-ns")
"""What `epoch` tells apart by the number's size."""
UNITS: Final = {"seconds": 1, "minutes": 60, "hours": 3_600, "days": 86_400}
"""What counts from `start`, and how many seconds each is."""
NUMBERS: Final = ("epoch", *COUNTS, *UNITS, "steps")
"""Formats that read numbers."""


class Times(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[time]`: how times are written."""

    format: str = "timestamp"
    """`timestamp` (a column of timestamps, or text that can be read in one way only, ISO 8601 before all), a format with `%`,
    one of COUNTS, `epoch` (seconds to nanoseconds since 1970, by the number's size), or `seconds`, `minutes`, `hours`, `days`,
    `steps` since `start`."""
    zone: str = "UTC"
    """Of times that don't say: a name such as `Europe/Brussels`, or `+01:00`."""
    start: datetime | None = None
    """When the first second, hour or step begins; in `zone` where it doesn't say."""
    step: str | None = None
    """How long a step is: `1h`."""


_FIXED: Final = re.compile(r"([+-])(\d\d):?(\d\d)")


@dataclass(frozen=True)
class Zone:
    """Of times that don't say."""

    name: str
    minutes: int | None
    """East of UTC; None: it is a place."""

    @classmethod
    def of(cls, name: str) -> Zone:
        """Raises ValueError where it is neither a place nor +01:00."""
        if name in ("UTC", "Z"):
            return cls(name, 0)
        if found := _FIXED.fullmatch(name):
            return cls(name, (1 if found[1] == "+" else -1) * (int(found[2]) * 60 + int(found[3])))
        try:
            ZoneInfo(name)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"is {name!r}, neither a place such as Europe/Brussels nor +01:00") from error
        return cls(name, None)

    def placed(self, naive: pl.Series) -> pl.Series:
        """The moments of what its clock showed; null for an hour that it left out, the first for one that it showed twice."""
        if self.minutes is not None:
            return (naive - timedelta(minutes=self.minutes)).dt.replace_time_zone("UTC")
        placed = naive.dt.replace_time_zone(self.name, ambiguous="earliest", non_existent="null")
        return placed.dt.convert_time_zone("UTC")

    def offsets(self, moments: pl.Series) -> pl.Series:
        """Minutes east of UTC at these moments."""
        if self.minutes is not None:
            return pl.Series([self.minutes], dtype=pl.Int16).new_from_index(0, len(moments))
        there = moments.dt.convert_time_zone(self.name)
        return (there.dt.base_utc_offset() + there.dt.dst_offset()).dt.total_minutes().cast(pl.Int16)


def counted(values: pl.Series, form: str, zone: Zone) -> pl.Series:
    """Numbers, or text of them, by a format of COUNTS or by `epoch`, as READ."""
    moments = pl.Series("moment", [None], pl.Int64).new_from_index(0, len(values))
    local = pl.Series([False]).new_from_index(0, len(values))
    for name in ANY_EPOCH if form == "epoch" else (form,):
        micros = _of_count(values, COUNTS[name])
        if form == "epoch" and name == "epoch-ns":
            ticks = _of_count(values, COUNTS["dotnet-ticks"])
            micros = pl.select(pl.when(ticks.is_null()).then(micros)).to_series()
        moments = moments.fill_null(micros)
        local |= micros.is_not_null() & COUNTS[name].local
    return _read(values, _numbers(values), moments, zone, local=bool(local.any()))


def since(values: pl.Series, start: int, step: float, zone: Zone) -> pl.Series:
    """Numbers, or text of them, that count steps of so many microseconds since `start` (microseconds of 1970 UTC), as READ."""
    numbers = _numbers(values)
    return _read(values, numbers, _within((numbers * step + start).round()).cast(pl.Int64), zone)


def share_that_fits(values: pl.Series, form: str) -> float:
    """Of numbers: which share lies from EARLIEST to LATEST by this format of COUNTS; 0 of none."""
    there = _numbers(values).drop_nulls()
    return _of_count(there, COUNTS[form]).count() / len(there) if len(there) else 0.0


def better_format(values: pl.Series, times: Times) -> str:
    """Of values that were not read by `times`: what they may be, as a hint for people; empty where nobody can tell."""
    if not len(values):
        return ""
    others = [name for name in COUNTS if name != times.format and share_that_fits(values, name) > _MOST]
    if others:
        return _or(times, others[0])
    if values.dtype != pl.String or times.format == "timestamp":
        return ""
    read = written(values, Zone.of("UTC")).struct.field("moment").count()
    return "`timestamp` would read them" if read > _MOST * len(values) else ""


def _or(times: Times, other: str) -> str:
    words = COUNTS[other].words
    if times.format in COUNTS:
        ours = COUNTS[times.format].words
        if times.format in ANY_EPOCH and other in ANY_EPOCH:
            short = [each.removesuffix(" since 1970") for each in (ours, words)]
            return f"are they {short[0]}, or {short[1]}?  `{other}` reads {short[1]}, and `epoch` both, by their size"
        return f"are they {ours}, or {words}?  `{other}` reads these"
    if times.format in UNITS or times.format == "steps":
        return f"are they {times.format} since `start`, or {words}?  `{other}` reads these"
    return f"are they {words}?  `{other}` reads these"


_MOST: Final = 0.5


def _numbers(values: pl.Series) -> pl.Series:
    """As floats: enough to see whether they are in range."""
    number = values.cast(pl.Float64, strict=False)
    return pl.select(pl.when(number.is_finite()).then(number)).to_series()


def _of_count(values: pl.Series, count: Count) -> pl.Series:
    """Microseconds since 1970; null where they would be out of range.  Whole numbers are read to the microsecond."""
    begins = _micros(count.since)
    least, most = ((edge - begins) / 1e6 * count.per_second for edge in (_FIRST, _END))
    number = _numbers(values)
    inside = number.is_between(least, most, closed="left")
    exactly = pl.lit(None, pl.Int64) if values.dtype.is_float() else values.cast(pl.Int64, strict=False)
    whole = pl.select(pl.when(inside).then(exactly)).to_series()
    if count.per_second > 1e6:
        exact = whole // round(count.per_second / 1e6)
    else:
        exact = whole * round(1e6 / count.per_second)
    rough = pl.select(pl.when(inside).then((number * (1e6 / count.per_second)).round())).to_series()
    return exact.fill_null(rough.cast(pl.Int64, strict=False)) + begins


def stamped(values: pl.Series, zone: Zone) -> pl.Series:
    """A column of timestamps or dates, as READ."""
    kind = values.dtype
    per = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
    unit = per[kind.time_unit] if isinstance(kind, pl.Datetime) else 1 / 86_400
    physical = values.to_physical().cast(pl.Int64)
    inside = physical.is_between(_FIRST / 1e6 * unit, _END / 1e6 * unit, closed="left")
    kept = pl.select(pl.when(inside).then(values)).to_series()
    told = isinstance(kind, pl.Datetime) and kind.time_zone is not None
    if told:
        return _read(values, values, kept.cast(UTC_TIME).dt.epoch("us"), zone)
    return _read(values, values, kept.cast(pl.Datetime("us")).dt.epoch("us"), zone, local=True)


_CLOCK: Final = r"[Tt_]?\s*(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,12}))?)?"
_BARE_CLOCK: Final = r"[Tt ]?(\d{2})(\d{2})(\d{2})(?:[.,](\d{1,12}))?|[Tt ]?(\d{2})(\d{2})"
_YEAR_FIRST: Final = (
    rf"^\s*(\d{{4}})(?:[-/.](\d{{1,2}})[-/.](\d{{1,2}})|(\d{{2}})(\d{{2}}))(?:{_CLOCK}|{_BARE_CLOCK})?\s*(.*?)\s*$"
)
_PLAIN: Final = len("2024-01-31 10:00:00")


def written(values: pl.Series, zone: Zone) -> pl.Series:
    """Text that can be read in one way only, as READ: the year is first (ISO 8601, databases), or the month is a word.

    With an offset from UTC, a zone's usual letters, or a place behind it; else in `zone`.
    """
    lengths = values.str.len_bytes()
    if lengths.min() == lengths.max() == _PLAIN and not values.null_count():  # most tables, four times faster
        stamps = values.str.replace("T", " ", literal=True).str.to_datetime(
            "%Y-%m-%d %H:%M:%S", time_unit="us", strict=False
        )
        if not stamps.null_count():
            return _read(values, stamps, _within(stamps.dt.epoch("us")), zone, local=True)
    parts = values.str.extract_groups(_YEAR_FIRST).struct.unnest()
    parts.columns = [f"p{number}" for number in range(len(parts.columns))]

    def number(*names: str) -> pl.Expr:
        return pl.coalesce([pl.col(name).cast(pl.Int64, strict=False) for name in names])

    hour, minute, second = number("p5", "p9", "p13"), number("p6", "p10", "p14"), number("p7", "p11")
    fraction = pl.coalesce("p8", "p12").str.pad_end(12, "0").str.head(6).cast(pl.Int64)
    in_day = hour.fill_null(0) * 3_600_000_000 + minute.fill_null(0) * 60_000_000 + second.fill_null(0) * 1_000_000
    whole_day = (hour == 24) & (minute == 0) & (second.fill_null(0) == 0) & (fraction.fill_null(0) == 0)
    right = hour.is_null() | (hour < 24) | whole_day
    right &= (minute.fill_null(0) < 60) & (second.fill_null(0) <= 60)
    day = pl.concat_str(pl.col("p0"), pl.lit("-"), pl.coalesce("p1", "p3"), pl.lit("-"), pl.coalesce("p2", "p4"))
    days = day.str.to_date("%Y-%m-%d", strict=False).cast(pl.Int64)
    read = parts.select(
        pl.when(right).then(days * _DAY + in_day + fraction.fill_null(0)).alias("naive"), pl.col("p15").alias("tail")
    )
    return _zoned(values, read["naive"], read["tail"], zone, worded)


def formatted(values: pl.Series, form: str, zone: Zone) -> pl.Series:
    """Text in a format with `%`, as READ."""
    stamps = values.str.to_datetime(form, time_unit="us", strict=False)
    if "%z" in form:
        naive = stamps.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        tail = values.str.extract(r"([+-]\d\d:?\d\d)\s*$").fill_null("Z")
        stated = _minutes(tail)
        return _zoned(values, naive.dt.epoch("us") + stated.cast(pl.Int64) * 60_000_000, tail, zone)
    midnight = values.str.contains(r"\b24:00(:00)?\b")
    if midnight.any():  # the end of a day, which is the beginning of the next one
        again = values.str.replace(r"\b24:00", "00:00").str.to_datetime(form, time_unit="us", strict=False)
        stamps = pl.select(pl.when(midnight).then(again + timedelta(days=1)).otherwise(stamps)).to_series()
    return _zoned(values, stamps.dt.epoch("us"), pl.Series([""]).new_from_index(0, len(values)), zone)


def _minutes(tails: pl.Series) -> pl.Series:
    told = {tail: zone_of(tail).minutes for tail in tails.unique().drop_nulls().to_list()}
    return tails.replace_strict(told, default=None, return_dtype=pl.Int16)


def _zoned(
    values: pl.Series,
    naive: pl.Series,
    tail: pl.Series,
    zone: Zone,
    otherwise: Callable[[str], tuple[int, str] | None] | None = None,
) -> pl.Series:
    """Clocks' times (microseconds since 1970) with what stood behind each of them, as READ.

    `otherwise` reads what isn't read yet: the clock's time, and what stood behind it.
    """
    known: dict[str, Tail] = {each: zone_of(each) for each in tail.unique().drop_nulls().to_list()}
    good = [each for each, said in known.items() if said.known]
    frame = pl.DataFrame({"text": values.str.strip_chars(), "naive": naive, "tail": tail}).with_columns(
        pl.when(pl.col("tail").is_in(good)).then(pl.col("naive")).alias("naive")
    )
    if otherwise is not None:
        rest = frame.with_row_index("row").filter(pl.col("naive").is_null() & (pl.col("text").str.len_bytes() > 0))
        again = [(row, *found) for row, text in rest.select("row", "text").iter_rows() if (found := otherwise(text))]
        if again:
            rows = pl.Series([row for row, _, _ in again])
            known |= {each: zone_of(each) for _, _, each in again}
            frame = frame.with_columns(
                frame["naive"].scatter(rows, [micros for _, micros, _ in again]),
                frame["tail"].scatter(rows, [each for _, _, each in again]),
            )
    stated = {each: said.minutes for each, said in known.items() if said.minutes is not None}
    places = {each: said.place for each, said in known.items() if said.place is not None}
    offset = frame["tail"].replace_strict(stated, default=None, return_dtype=pl.Int16)
    kept = _within(frame["naive"])
    clock = kept.cast(pl.Datetime("us"))
    moment = zone.placed(clock)
    for each, place in places.items():
        there = Zone(place, None).placed(clock)
        at = frame["tail"] == each
        moment = pl.select(pl.when(at).then(there).otherwise(moment)).to_series()
        offset = pl.select(pl.when(at).then(Zone(place, None).offsets(there)).otherwise(offset)).to_series()
    absolute = (clock - (offset.cast(pl.Int64) * 60_000_000).cast(pl.Duration("us"))).dt.replace_time_zone("UTC")
    plain = offset.is_not_null() & ~frame["tail"].is_in(list(places))
    moment = pl.select(pl.when(plain).then(absolute).otherwise(moment)).to_series()
    return _as_read(
        _missing(values), frame["naive"], kept.is_not_null(), moment, offset.fill_null(zone.offsets(moment))
    )


def _within(micros: pl.Series) -> pl.Series:
    """Null where they are out of range."""
    return pl.select(pl.when(micros.is_between(_FIRST, _END, closed="left")).then(micros)).to_series()


def _read(values: pl.Series, there: pl.Series, micros: pl.Series, zone: Zone, *, local: bool = False) -> pl.Series:
    """`micros` since 1970, null where `there` is out of range; by the zone's clock where they are `local`."""
    stamps = micros.cast(pl.Datetime("us"))
    moment = zone.placed(stamps) if local else stamps.dt.replace_time_zone("UTC")
    return _as_read(_missing(values), there, micros.is_not_null(), moment, zone.offsets(moment))


def _missing(values: pl.Series) -> pl.Series:
    if values.dtype == pl.String:
        return values.str.strip_chars().fill_null("") == ""
    return (values.is_null() | values.is_nan()) if values.dtype.is_float() else values.is_null()


def _as_read(missing: pl.Series, read: pl.Series, inside: pl.Series, moment: pl.Series, offset: pl.Series) -> pl.Series:
    why = (
        pl.when(missing)
        .then(Why.MISSING.value)
        .when(read.is_null())
        .then(Why.UNREADABLE.value)
        .when(~inside | ~moment.is_between(EARLIEST, LATEST, closed="left").fill_null(value=True))
        .then(Why.BEYOND.value)
        .when(moment.is_null())
        .then(Why.LEFT_OUT.value)
    )
    frame = pl.select(moment=moment.cast(UTC_TIME), offset=offset.cast(pl.Int16), why=why.cast(pl.Int8))
    return frame.select(
        pl.when(pl.col("why").is_null()).then(pl.col("moment")).alias("moment"), "offset", "why"
    ).to_struct("read")
