"""Which messages of a batch show a bug of ours, and how many of them may be dead-lettered for it.

One message that shows a bug costs itself, and so do a few.  Many are a broken build: then nothing more is dead-lettered,
and their partition is parked until another release, another model or somebody's decision mends it.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable

from features.accepting import Record
from schemas.errors import PartitionParked, PositionMoved, TryAgain
from schemas.topics import INPUTS

log = logging.getLogger(__name__)

AT_FIRST = 20
"""Messages of a partition number that may be dead-lettered as `bug`, whatever their share is."""
LOOKED_BACK = 1_000
"""Messages: what they have left unused of the share may be used up at once."""
NO_BUGS = (TryAgain, PositionMoved, PartitionParked)
"""What is raised on purpose, and is no message's fault."""
Item = tuple[int, Record, bool]
"""Index of the input topic, the record, whether it is to be told."""


class Allowance:
    """How many messages of each partition number may yet be dead-lettered as `bug`.

    It begins with AT_FIRST.  Each message that is told adds `share`, each that is dead-lettered as `bug` takes one.  A share
    of one bounds nothing.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._most = max(AT_FIRST, share * LOOKED_BACK)
        self._left: dict[int, float] = {}

    def of(self, number: int) -> int:
        """Messages of this partition number that may be dead-lettered as `bug` now."""
        if self.share >= 1:  # somebody has asked for all of them
            return sys.maxsize
        return int(self._left.get(number, AT_FIRST))

    def used(self, told: Iterable[int], bugs: Iterable[int]) -> None:
        """A batch was told: the partition numbers of its messages, and of those that were dead-lettered as `bug`."""
        taken = Counter(bugs)
        for number, count in Counter(told).items():
            left = self._left.get(number, AT_FIRST) + self.share * count - taken[number]
            self._left[number] = min(max(left, 0.0), self._most)


def find(
    items: list[Item], attempt: Callable[[list[Item]], object], error: Exception, allowance: Allowance
) -> list[Item]:
    """Halve until each message is found that `attempt` fails on by itself; what failed on all of them raised `error`.

    Raises PartitionParked where one of them was told before, which is left out of no fold; where a partition number has
    more of them than may be dead-lettered; and, without a number, where none fails by itself.
    """
    log.error("a batch can't be settled: looking for the message that shows it", exc_info=error)
    found: list[Item] = []
    counts: Counter[int] = Counter()

    def search(some: list[Item]) -> None:
        failure = _failure(some, attempt)
        if failure is None:
            return
        if len(some) > 1:
            middle = len(some) // 2
            search(some[:middle])
            search(some[middle:])
            return
        topic, record, told = some[0]
        place = f"{INPUTS[topic].name} [{record.partition}] at offset {record.offset}"
        if not told:
            raise PartitionParked(
                f"partition {record.partition}: {place} was told before and can't be folded now "
                f"({type(failure).__name__}): a bug, the log has its trace; going on without it would make other profiles "
                "than the log's; go back to the release before, or take one that mends it",
                partition=record.partition,
            )
        counts[record.partition] += 1
        if counts[record.partition] > allowance.of(record.partition):
            raise PartitionParked(
                f"partition {record.partition}: too many messages show a bug ({type(failure).__name__}), the last one is "
                f"{place}; the log has its trace; another release or another model mends it, or FRAUD_BUG_SHARE=1 has them "
                f"all dead-lettered as `bug`",
                partition=record.partition,
            )
        found.append(some[0])

    search(items)
    if not found:
        raise as_a_whole(error)
    for topic, record, _ in found:
        log.error(
            "%s [%d] at offset %d shows a bug: dead-lettered", INPUTS[topic].name, record.partition, record.offset
        )
    return found


def as_a_whole(error: Exception) -> PartitionParked:
    """What is said of a batch that fails, and none of its messages by itself."""
    return PartitionParked(
        f"a batch failed as a whole, and none of its messages alone ({type(error).__name__}): a bug, the log has its trace; "
        "another release or another model mends it, or going back to the one before"
    )


def _failure(items: list[Item], attempt: Callable[[list[Item]], object]) -> Exception | None:
    if not items:
        return None
    try:
        attempt(items)
    except NO_BUGS:
        raise
    except Exception as failure:
        return failure
    return None
