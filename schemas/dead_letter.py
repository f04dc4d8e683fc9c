"""A message that can't be judged: the bytes as they came, and headers that say why."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from schemas.errors import BadMessage, Fault
from schemas.wire import Moment

ERROR, DETAIL, TOPIC, PARTITION, OFFSET, ATTEMPT, AT, TOPIC_ID, TIMESTAMP, UNTIL = (
    "error",
    "detail",
    "topic",
    "partition",
    "offset",
    "attempt",
    "at",
    "topic_id",
    "timestamp",
    "until",
)
MOST_DETAIL = 1000
_CUT = re.compile(r" \(of (\d+) bytes the first (\d+) are kept, SHA-256 [0-9a-f]{64}\)$")
Headers = Any
"""As a Kafka client hands them over: pairs of name and bytes."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """What the headers of a dead letter say."""

    fault: Fault
    """The header `error`."""
    detail: str
    """What is wrong and where, in words; its first 1,000 characters."""
    topic: str
    """Where the message was: its topic,"""
    partition: int
    """its partition"""
    offset: int
    """and its offset."""
    attempt: int
    """1, and one more each time that it was sent again."""
    at: Moment
    """When it was found out, in UTC."""
    topic_id: str = ""
    """Kafka's id of that topic: one that was deleted and made anew has another."""
    timestamp: int = -1
    """The message's own, in milliseconds since 1970 UTC; -1: not known."""
    until: int = -1
    """Of records that the log has lost: the offset behind the last of them; -1: it is of one message."""

    def headers(self) -> list[tuple[str, str | bytes | None]]:
        """As Kafka carries them."""
        return [
            (ERROR, self.fault.value),
            (DETAIL, self.detail[:MOST_DETAIL]),
            (TOPIC, self.topic),
            (PARTITION, str(self.partition)),
            (OFFSET, str(self.offset)),
            (ATTEMPT, str(self.attempt)),
            (AT, self.at.astimezone(UTC).isoformat()),
            *([(TOPIC_ID, self.topic_id)] if self.topic_id else []),
            *([(TIMESTAMP, str(self.timestamp))] if self.timestamp >= 0 else []),
            *([(UNTIL, str(self.until))] if self.until >= 0 else []),
        ]

    @classmethod
    def from_headers(cls, headers: Headers | None) -> DeadLetter:
        """Raises BadMessage where they are not a dead letter's."""
        try:
            raw = {name: value.decode() if isinstance(value, bytes) else str(value) for name, value in headers or ()}
            return cls(
                fault=Fault(raw[ERROR]),
                detail=raw[DETAIL],
                topic=raw[TOPIC],
                partition=int(raw[PARTITION]),
                offset=int(raw[OFFSET]),
                attempt=int(raw[ATTEMPT]),
                at=datetime.fromisoformat(raw[AT]),
                topic_id=raw.get(TOPIC_ID, ""),
                timestamp=int(raw.get(TIMESTAMP, -1)),
                until=int(raw.get(UNTIL, -1)),
            )
        except (KeyError, ValueError) as error:
            raise BadMessage(Fault.MISSING_FIELD, f"not a dead letter's headers: {error!r}") from error


def cut_detail(detail: str, whole: bytes, kept: int) -> str:
    """The detail of a letter that holds only the first `kept` bytes; what says so is kept, however long the detail is.

    >>> cut_from(cut_detail("too long", b"x" * 5000, 1024)), cut_from(cut_detail("x" * 5000, b"x" * 5000, 1024)[:MOST_DETAIL])
    (5000, 5000)
    """
    said = f" (of {len(whole)} bytes the first {kept} are kept, SHA-256 {hashlib.sha256(whole).hexdigest()})"
    return detail[: MOST_DETAIL - len(said)] + said


def cut_from(detail: str) -> int | None:
    """How many bytes the message had, where a dead letter's detail says that it holds only the first of them.

    >>> cut_from("`$.amount` is no integer") is cut_from(cut_detail("small", b"whole", 5)) is None
    True
    """
    found = _CUT.search(detail)
    return None if found is None or found[1] == found[2] else int(found[1])
