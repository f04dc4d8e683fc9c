"""The order of catching up: a transaction waits until the labels and the activity of its time have come.

While a worker keeps up there is nothing to wait for.  Behind by hours, it would otherwise race through the transactions
and judge them without the frauds that were known by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from features.position import Offsets


class Message(Protocol):
    """What is needed of a message from Kafka."""

    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def timestamp(self) -> tuple[int, int]: ...
    def key(self) -> bytes | None: ...
    def headers(self) -> Any: ...
    def __len__(self) -> int:
        """Bytes of its value."""


BESIDE = 400
"""Bytes that a message takes in memory beside what it carries, about."""
MOST_BYTES = 8 << 20
"""Of transactions in a batch: a Kafka transaction must reach the broker before it times out."""
AMessage = TypeVar("AMessage", bound=Message)


def size_of(message: Message) -> int:
    """Bytes of memory that it takes, about."""
    size = BESIDE + len(message) + len(message.key() or b"")
    with suppress(Exception):  # a name that isn't UTF-8: the client can't tell it
        size += sum(len(name) + len(value or b"") for name, value in message.headers() or ())
    return size


@dataclass
class _Stream:
    """One of the other topics, of one number."""

    next: int
    seen: int = -1
    """Timestamp of the last record that came, in milliseconds."""
    at_end: bool = False


@dataclass
class _Number(Generic[AMessage]):
    until: Offsets
    others: tuple[_Stream, _Stream]
    held: deque[tuple[AMessage, int]] = field(default_factory=deque)
    """With its size in bytes."""
    bytes_held: int = 0
    since: float | None = None
    waived_until: float = 0.0


class Merger(Generic[AMessage]):
    """Takes what was polled, gives what may be judged.  Times are handed in: seconds of any steady clock."""

    LIVE = 5_000
    """Milliseconds: a transaction younger than this is live, and nothing is waited for."""
    WAIVED = 5.0
    """Seconds for which a number that waited in vain waits no more."""

    def __init__(self, wait: float) -> None:
        """`wait`: seconds at most for labels and activity that may yet come."""
        self.wait = wait
        self.waived = 0
        """How often that wait was in vain."""
        self._numbers: dict[int, _Number[AMessage]] = {}

    def place(self, number: int, begin: Offsets, until: Offsets) -> None:
        """A number begins at `begin`; labels and activity up to `until` were folded when its last verdicts were given."""
        self._numbers[number] = _Number(until, (_Stream(begin.labels), _Stream(begin.activity)))

    def clear(self) -> None:
        """Forget all: the positions are to be set anew."""
        self._numbers.clear()

    def behind(self, number: int, folded: Offsets) -> bool:
        """Are labels or activity still to be folded that were folded when the last verdicts of this number were given?

        `folded` is where its profiles are.  An end of the log before that counts too: its last records may be gone.
        """
        known = self._numbers.get(number)
        if known is None:
            return False
        return any(
            at < until and not (stream.at_end and at >= stream.next)
            for at, until, stream in zip(folded[1:], known.until[1:], known.others, strict=True)
        )

    def held(self, number: int) -> int:
        """How many transactions of this number wait."""
        return len(self._numbers[number].held) if number in self._numbers else 0

    def bytes_held(self, number: int) -> int:
        """How much memory they take."""
        return self._numbers[number].bytes_held if number in self._numbers else 0

    def hold(self, message: AMessage) -> None:
        """A transaction came."""
        number = self._numbers.get(message.partition() or 0)
        if number is not None:
            size = size_of(message)
            number.held.append((message, size))
            number.bytes_held += size

    def saw(self, topic: int, message: Message) -> None:
        """A label (topic 1) or an activity (2) came."""
        number = self._numbers.get(message.partition() or 0)
        if number is not None:
            stream = number.others[topic - 1]
            stream.next = (message.offset() or 0) + 1
            stream.seen = message.timestamp()[1]
            stream.at_end = False

    def ended(self, topic: int, partition: int, offset: int) -> None:
        """All of this topic's log was seen, up to `offset`."""
        if topic > 0 and partition in self._numbers:
            stream = self._numbers[partition].others[topic - 1]
            stream.next = max(stream.next, offset)
            stream.at_end = True

    def take(self, most: int, folded: Mapping[int, Offsets], *, judge: bool, now: float, wall: int) -> list[AMessage]:
        """At most `most` transactions that wait for nothing any more, and no more than MOST_BYTES of them.

        `folded` is where each number's profiles are; without `judge` only those told before go, to be folded.  Those and
        others of one number never go together: what a batch is judged on must not wait for that batch's own folding.
        `wall` is the time of day in milliseconds.
        """
        taken: list[AMessage] = []
        size = 0
        for n, number in self._numbers.items():
            if not number.held:
                number.since = None
                continue
            told_before = (number.held[0][0].offset() or 0) < number.until.transactions
            free = told_before or (judge and not self.behind(n, folded[n]))
            while free and number.held and len(taken) < most and size < MOST_BYTES:
                message, its_size = number.held[0]
                if ((message.offset() or 0) < number.until.transactions) is not told_before:
                    break
                if not told_before and not self._may_go(number, message, now, wall):
                    break
                number.held.popleft()
                number.bytes_held -= its_size
                taken.append(message)
                size += its_size
        return taken

    def _may_go(self, number: _Number[AMessage], message: AMessage, now: float, wall: int) -> bool:
        at = message.timestamp()[1]
        if at > wall - self.LIVE or now < number.waived_until or all(s.at_end or s.seen >= at for s in number.others):
            number.since = None
            return True
        if number.since is None:
            number.since = now
        if now - number.since < self.wait:
            return False
        number.since = None
        number.waived_until = now + self.WAIVED
        self.waived += 1
        return True
