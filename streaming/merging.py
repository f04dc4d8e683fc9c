"""The order of catching up: a transaction waits until the labels and the activity of its time have come.

While a worker keeps up there is nothing to wait for.  Behind by hours, it would otherwise race through the transactions
and judge them without the frauds that were known by then.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from features.position import Offsets


class Message(Protocol):
    """What is needed of a message from Kafka."""

    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def timestamp(self) -> tuple[int, int]: ...


AMessage = TypeVar("AMessage", bound=Message)


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
    held: deque[AMessage] = field(default_factory=deque)
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

    def rebuilding(self) -> list[int]:
        """The numbers whose transactions wait for labels or activity that were folded before."""
        return [n for n, number in list(self._numbers.items()) if self._behind(number)]  # asked from another thread

    def held(self, number: int) -> int:
        """How many transactions of this number wait."""
        return len(self._numbers[number].held) if number in self._numbers else 0

    def hold(self, message: AMessage) -> None:
        """A transaction came."""
        number = self._numbers.get(message.partition() or 0)
        if number is not None:
            number.held.append(message)

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

    def take(self, most: int, *, now: float, wall: int) -> list[AMessage]:
        """At most `most` transactions that wait for nothing any more; `wall` is the time of day in milliseconds."""
        taken: list[AMessage] = []
        for number in self._numbers.values():
            if not number.held:
                number.since = None
                continue
            while number.held and len(taken) < most and self._may_go(number, number.held[0], now, wall):
                taken.append(number.held.popleft())
        return taken

    def _behind(self, number: _Number[AMessage]) -> bool:
        labels, activity = number.others
        return labels.next < number.until.labels or activity.next < number.until.activity

    def _may_go(self, number: _Number[AMessage], message: AMessage, now: float, wall: int) -> bool:
        if (message.offset() or 0) < number.until.transactions:
            return True  # told before: it is only folded, and folding commutes
        if self._behind(number):
            return False
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
