"""How far along the log a partition's profiles are, what they were folded with, and by what the log is known again.

    {p3}:position                     <format>|<epoch>|<topic ids>|<next offsets>|<last records>|<resumption>
    {p3}:<epoch>:a:<account_id>       an account's profile
    {p3}:<epoch>:c:<counterparty_id>  a counterparty's

Topic ids, offsets and records are three each, of transactions, labels and activity, with commas between.  A record is
<offset>:<timestamp>:<digest>, or nothing.  The epoch is random and made anew wherever profiles are begun from nothing: what
still lies under an older epoch can't be seen.  All keys of a partition number share a hash tag, so that one script can move
them together.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import NamedTuple

from schemas.marks import Landmark


class Offsets(NamedTuple):
    """The next offset, of each input topic, that is not folded yet."""

    transactions: int
    labels: int
    activity: int


class TopicIds(NamedTuple):
    """Kafka's ids of the input topics: one that was deleted and made anew has another, and is another log."""

    transactions: str = ""
    labels: str = ""
    activity: str = ""


class Last(NamedTuple):
    """Of each input topic the last record that was folded; None: there was none."""

    transactions: Landmark | None = None
    labels: Landmark | None = None
    activity: Landmark | None = None


class Resumption(NamedTuple):
    """Somebody has accepted that records are gone: where to go on, whatever the group has committed."""

    told: Offsets
    """What counts as told: messages below are folded, telling nothing."""
    instead_of: str
    """Names the committed offsets that this was decided against: once others are committed, it is over."""


class Position(NamedTuple):
    """Of one partition number."""

    format: str
    """Digest of everything that the fold depends on besides the log."""
    epoch: str
    topics: TopicIds
    next: Offsets
    last: Last = Last()
    resumption: Resumption | None = None

    def __bytes__(self) -> bytes:
        resumption = "" if self.resumption is None else f"{self.resumption.instead_of}:{_joined(self.resumption.told)}"
        parts = (self.format, self.epoch, _joined(self.topics), _joined(self.next), _records(self.last), resumption)
        return "|".join(parts).encode()

    @classmethod
    def parse(cls, raw: bytes) -> Position:
        """Raises ValueError."""
        format_, epoch, topics, numbers, last, resumption = raw.decode().split("|")
        return cls(
            format_,
            epoch,
            TopicIds(*_three(topics)),
            Offsets(*map(int, _three(numbers))),
            Last(*(_record(text) if text else None for text in _three(last))),
            _resumption(resumption) if resumption else None,
        )

    def moved(self, to: Offsets, last: Mapping[int, Landmark]) -> Position:
        """The same further on; `last` are, by index of the input topic, the last records that were folded on the way."""
        if not last:
            return self._replace(next=to)
        return self._replace(next=to, last=Last(*(last.get(i, before) for i, before in enumerate(self.last))))


def _joined(parts: tuple[object, ...]) -> str:
    return ",".join(map(str, parts))


def _three(text: str) -> list[str]:
    parts = text.split(",")
    if len(parts) != 3:
        raise ValueError(f"{text!r} is not of three parts")
    return parts


def _records(last: Last) -> str:
    return ",".join("" if one is None else f"{one.offset}:{one.timestamp}:{one.digest}" for one in last)


def _record(text: str) -> Landmark:
    offset, timestamp, digest = text.split(":")
    return Landmark(int(offset), int(timestamp), digest)


def _resumption(text: str) -> Resumption:
    instead_of, told = text.split(":")
    return Resumption(Offsets(*map(int, _three(told))), instead_of)


def new_epoch() -> str:
    """Names profiles begun from nothing."""
    return secrets.token_hex(4)


class Keys:
    """The names in the store of one partition number's things."""

    def __init__(self, namespace: str, partition: int) -> None:
        self._tag = f"{{{namespace}p{partition}}}:"
        self.position = f"{self._tag}position"

    def account(self, epoch: str, account_id: str) -> str:
        """The key of an account's profile."""
        return f"{self._tag}{epoch}:a:{account_id}"

    def counterparty(self, epoch: str, counterparty_id: str) -> str:
        """The key of a counterparty's profile."""
        return f"{self._tag}{epoch}:c:{counterparty_id}"

    def of_epoch(self, epoch: str) -> str:
        """A pattern that matches every profile of this epoch."""
        return f"{self._tag.replace('[', chr(92) + '[')}{epoch}:[ac]:*"
