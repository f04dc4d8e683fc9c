"""Messages as rows of the archive's tables: the bytes as they came, and beside them what they say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import polars as pl

from features.archive_tables import DAY, HEADERS, RECORD, SAID, columns_of
from schemas.activity import decode_activity
from schemas.avro_wire import Writers
from schemas.dead_letter import DeadLetter, Headers
from schemas.errors import BadMessage, RegistryUnavailable
from schemas.label import decode_label
from schemas.tables import UTC_TIME
from schemas.topics import ACTIVITY, DEAD_LETTERS, LABELS, TRANSACTIONS, VERDICTS, Topic
from schemas.transaction import decode_transaction
from schemas.verdict import decode_verdict
from schemas.wire import microseconds

_MINUTES = {timedelta(minutes=minutes): minutes for minutes in range(-24 * 60 + 1, 24 * 60)}
"""Of an offset from UTC, which RFC 3339 gives in minutes."""
_SIGN = 1 << 63
_LATEST = 253_402_300_800_000
"""Milliseconds: the end of the year 9999."""
_FAR = 1 << 32
"""Seconds: the year 2106."""


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """Messages of one topic, a column each, all of one length."""

    partitions: Sequence[int]
    offsets: Sequence[int]
    timestamps: Sequence[int]
    """Milliseconds since 1970 UTC, the records' own."""
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers | None] = ()
    """Of dead letters only."""


Odd = Callable[[int, Exception], None]
"""Hears of a message, by its place among those that arrived, that no reader was prepared for, and of what it raised."""


def rows_of(topic: Topic, arrived: Arrived, writers: Writers, odd: Odd = lambda *_: None) -> pl.DataFrame:
    """The rows, as features.archive_tables has them; what can't be read says nothing but its bytes.

    `odd` is told of what is stranger than a message that is none.  Raises RegistryUnavailable.
    """
    columns: dict[str, Sequence[Any]] = {
        "partition": arrived.partitions,
        "offset": arrived.offsets,
        # What no table can tell as a time is none.
        "timestamp": [at if 0 <= at < _LATEST else 0 for at in arrived.timestamps],
        "key": arrived.keys,
        "value": arrived.values,
    }
    if topic is DEAD_LETTERS:
        columns["headers"] = [_pairs(headers) for headers in arrived.headers]
    kinds = RECORD | HEADERS | {"timestamp": pl.Int64}
    time = pl.from_epoch("timestamp", "ms").dt.replace_time_zone("UTC")
    record = pl.DataFrame([pl.Series(name, values, kinds[name]) for name, values in columns.items()]).with_columns(
        time.cast(UTC_TIME), time.dt.date().alias(DAY)
    )
    reading = _READINGS[topic.name]
    values = arrived.headers if topic is DEAD_LETTERS else arrived.values
    try:
        said = _said(topic, reading, values, writers)
    except RegistryUnavailable:
        raise
    except Exception:  # one of them is to blame: it is found, and the others say what they say
        said = _said(topic, reading, values, writers, but=_odd(topic, reading, values, writers, odd))
    return record.hstack(said).select(list(columns_of(topic)))


class _Reading(NamedTuple):
    """How the columns of a topic come out of its messages."""

    decode: Callable[[Any, Writers], msgspec.Struct]
    """Of a message's value; of its headers, where it is a dead letter."""
    made: Mapping[str, Callable[[Any], Any]]
    """The columns that aren't simply a field of this name."""


def _odd(topic: Topic, reading: _Reading, values: Sequence[Any], writers: Writers, odd: Odd) -> set[int]:
    found = set()
    for number, value in enumerate(values):
        try:
            _said(topic, reading, [value], writers)
        except RegistryUnavailable:
            raise
        except Exception as error:
            odd(number, error)
            found.add(number)
    return found


def _said(
    topic: Topic, reading: _Reading, values: Sequence[Any], writers: Writers, but: Collection[int] = ()
) -> pl.DataFrame:
    messages: list[msgspec.Struct] = []
    unread: list[int] = []
    decode = reading.decode
    for number, value in enumerate(values):
        try:
            if number not in but:
                messages.append(decode(value, writers))
                continue
        except BadMessage:
            pass
        unread.append(number)
    said = pl.DataFrame([_column(name, kind, reading, messages) for name, kind in SAID[topic.name].items()])
    if not unread:
        return said
    readable = np.ones(len(values), bool)
    readable[unread] = False
    place = pl.select(pl.when(pl.lit(readable)).then(pl.lit(np.cumsum(readable) - 1))).to_series()
    return said.select(pl.all().gather(place))


def _column(name: str, kind: Any, reading: _Reading, messages: list[msgspec.Struct]) -> pl.Series:
    values = list(map(reading.made.get(name) or attrgetter(name), messages))
    if values and isinstance(values[0], datetime):
        return _times(name, values)
    return pl.Series(name, values, pl.Int64).cast(kind) if kind == UTC_TIME else pl.Series(name, values, kind)


def _times(name: str, moments: list[datetime]) -> pl.Series:
    """A third of the time that Polars takes.  A double has the microseconds of the years that are near, exactly."""
    seconds = np.array([moment.timestamp() for moment in moments])
    exactly = np.abs(seconds).max() < _FAR
    micros = np.rint(seconds * 1e6).astype(np.int64) if exactly else [microseconds(moment) for moment in moments]
    return pl.Series(name, micros, pl.Int64).cast(UTC_TIME)


def _pairs(headers: Headers | None) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in headers or ()]


def _signed(name: str) -> Callable[[Any], int]:
    """64 bits as a signed number."""
    field = attrgetter(name)
    return lambda message: (field(message) ^ _SIGN) - _SIGN


_SOURCE: Final = {
    "source_partition": attrgetter("source.partition"),
    "source_offset": attrgetter("source.offset"),
    "source_topic_id": attrgetter("source.topic_id"),
    "source_timestamp": attrgetter("source.timestamp"),
}
_READINGS: Final[Mapping[str, _Reading]] = {
    TRANSACTIONS.name: _Reading(
        decode_transaction,
        {
            "utc_offset": lambda message: _MINUTES[message.occurred_at.utcoffset()],
            "attributes": lambda message: (
                msgspec.json.encode(message.attributes).decode() if message.attributes else None
            ),
        },
    ),
    LABELS.name: _Reading(decode_label, {}),
    VERDICTS.name: _Reading(
        lambda value, _: decode_verdict(value),
        {
            "folded_labels": attrgetter("folded.labels"),
            "folded_activity": attrgetter("folded.activity"),
            "folded_labels_topic_id": attrgetter("folded.labels_topic_id"),
            "flags": lambda verdict: ",".join(verdict.flags) or None,
            "shadow_bundle": lambda verdict: verdict.shadow and verdict.shadow.bundle,
            "shadow_score": lambda verdict: verdict.shadow and verdict.shadow.score,
            **_SOURCE,
        },
    ),
    ACTIVITY.name: _Reading(
        lambda value, _: decode_activity(value),
        {"transaction": _signed("transaction"), "account": _signed("account"), **_SOURCE},
    ),
    DEAD_LETTERS.name: _Reading(
        lambda headers, _: DeadLetter.from_headers(headers),
        {
            "error": attrgetter("fault"),
            "source_topic": attrgetter("topic"),
            "source_partition": attrgetter("partition"),
            "source_offset": attrgetter("offset"),
            "source_topic_id": attrgetter("topic_id"),
            "source_timestamp": attrgetter("timestamp"),
            "found_at": attrgetter("at"),
        },
    ),
}
