"""Recalling the profiles that a batch is about, and remembering the new ones: the worker's side of the store."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from features.describing import Described, Needed
from features.position import Keys, Position
from features.store import Found, ProfileStore, Wanted
from schemas.errors import CounterpartiesBehind, PositionMoved
from streaming.committed import Committed
from streaming.partition import Part

log = logging.getLogger(__name__)

Blobs = list[bytes | None]
SIGHT_HOLDS = 10.0
"""Seconds without a look at a partition number of another worker, after which it may have lost something unseen."""
NOTHING_HOLDS = 1.0
"""Seconds for which it is believed that nothing of such a number was ever told, or that as much was told as Kafka said."""


@dataclass(frozen=True)
class Recalled:
    """Profiles in the order of the rows of what was needed."""

    accounts: Blobs
    counterparties: Blobs
    unknown: frozenset[str] = frozenset()
    """Counterparties elsewhere whose profiles can't be used: their workers have not folded what was told."""


@dataclass
class _Elsewhere:
    """What is known of a partition number that another worker serves."""

    epoch: str = ""
    """Empty: it has no position."""
    activity: int = 0
    """Its next activity offset when it was whole last."""
    seen: float = -math.inf
    """When that was."""
    asked: float = -math.inf
    """When Kafka was asked last."""
    reach: int | None = None
    """Where its next activity offset must be before it is whole, as far as Kafka said when it was asked last; None: it is
    whole, or Kafka was not asked yet."""
    since: float | None = None
    """Since when it has not been; None: it is."""
    given_up: bool = False
    """It was waited for, and isn't any more until it is whole."""

    def doubt(self) -> None:
        self.seen = self.asked = -math.inf

    def is_known(self, epoch: str, activity: int, now: float) -> bool:
        """Nothing was lost since it was whole: that costs no question."""
        if self.since is not None or self.reach is not None or self.epoch != epoch or activity < self.activity:
            return False
        return now - self.seen < SIGHT_HOLDS and (epoch != "" or now - self.asked < NOTHING_HOLDS)

    def is_whole(self, epoch: str, activity: int, now: float) -> None:
        self.epoch, self.activity, self.seen = epoch, activity, now
        self.reach = self.since = None
        self.given_up = False


class Memory:
    """What this worker reads and writes of profiles.

    Those of its own numbers are bound to their positions: a profile read at another one is not this log's.  Those of
    counterparties elsewhere are read as they are; their last activity offset says what they had folded.  A number elsewhere
    that must be folded anew is waited for, and then done without (docs/decisions/0006).
    """

    def __init__(
        self, store: ProfileStore, committed: Committed, namespace: str, partitions: int, *, wait: float
    ) -> None:
        """`wait` in seconds: how long a number elsewhere is waited for."""
        self.store = store
        self.committed = committed
        self.wait = wait
        self._keys = [Keys(namespace, number) for number in range(partitions)]
        self._elsewhere: dict[int, _Elsewhere] = {}

    async def recall(self, need: Needed, parts: Mapping[int, Part]) -> Recalled:
        """Raises PositionMoved, StoreUnavailable, CounterpartiesBehind, TryAgain."""
        began = time.monotonic()
        while True:
            wanted, rows = self._wanted(need, parts)
            try:
                found = await self.store.recall(wanted)
            except PositionMoved:
                self._doubt_all()
                raise
            behind, questions, surprised = self._look(wanted, found, parts, began)
            if questions:
                now = time.monotonic()
                topic_id = next(iter(parts.values())).position.topics.activity
                for number, reach in (await self.committed.activity(questions, topic_id)).items():
                    elsewhere = self._elsewhere[number]
                    elsewhere.reach, elsewhere.asked = reach, now
                continue
            if surprised:
                continue  # an epoch that we didn't know: other keys
            unknown = self._given_up(behind, need)
            recalled = Recalled([None] * len(need.accounts), [None] * len(need.counterparties), unknown)
            for want, there, where in zip(wanted, found, rows, strict=True):
                if want.partition in behind:
                    continue
                for blob, (kind, row) in zip(there.profiles, where, strict=True):
                    (recalled.counterparties if kind else recalled.accounts)[row] = blob
            return recalled

    async def remember(
        self, described: Described, need: Needed, parts: Mapping[int, Part], after: Mapping[int, Position]
    ) -> None:
        """Write the new profiles of each number and move its position to `after`.  Raises PositionMoved, StoreUnavailable."""
        blobs: dict[int, dict[str, bytes]] = {number: {} for number in after}
        for account, blob in described.accounts.items():
            number = need.account_partitions[need.accounts[account]]
            blobs[number][self._keys[number].account(parts[number].position.epoch, account)] = blob
        for counterparty, blob in described.counterparties.items():
            number = need.counterparty_partitions[need.counterparties[counterparty]]
            blobs[number][self._keys[number].counterparty(parts[number].position.epoch, counterparty)] = blob
        # Side by side: one after the other each would wait for the one before.
        written = await asyncio.gather(
            *(self._write(parts[number], profiles, after[number]) for number, profiles in blobs.items()),
            return_exceptions=True,
        )
        for error in written:
            if isinstance(error, PositionMoved):
                self._doubt_all()
            if error is not None:
                raise error

    async def _write(self, part: Part, profiles: Mapping[str, bytes], now: Position) -> None:
        key = self._keys[part.number].position
        await self.store.remember(part.number, key, profiles, after=part.expected, now=bytes(now))
        part.position, part.written = now, True

    def _wanted(self, need: Needed, parts: Mapping[int, Part]) -> tuple[list[Wanted], list[list[tuple[int, int]]]]:
        keys: dict[int, list[str]] = {}
        rows: dict[int, list[tuple[int, int]]] = {}
        for (account, row), number in zip(need.accounts.items(), need.account_partitions, strict=True):
            keys.setdefault(number, []).append(self._keys[number].account(parts[number].position.epoch, account))
            rows.setdefault(number, []).append((0, row))
        for (counterparty, row), number in zip(need.counterparties.items(), need.counterparty_partitions, strict=True):
            epoch = self._epoch(number, parts)
            keys.setdefault(number, []).append(self._keys[number].counterparty(epoch, counterparty))
            rows.setdefault(number, []).append((1, row))
        wanted = [
            Wanted(number, self._keys[number].position, parts[number].expected if number in parts else None, names)
            for number, names in keys.items()
        ]
        return wanted, list(rows.values())

    def _epoch(self, number: int, parts: Mapping[int, Part]) -> str:
        if number in parts:
            return parts[number].position.epoch
        known = self._elsewhere.get(number)
        return known.epoch if known else ""

    def _look(
        self, wanted: Sequence[Wanted], found: Sequence[Found], parts: Mapping[int, Part], began: float
    ) -> tuple[dict[int, str], list[int], bool]:
        """Of the numbers of other workers: which are behind and why, which Kafka must be asked about, and whether one has an
        epoch unknown to us."""
        behind: dict[int, str] = {}
        questions: list[int] = []
        surprised = False
        now = time.monotonic()
        mine = next(iter(parts.values())).position if parts else None
        for want, there in zip(wanted, found, strict=True):
            number = want.partition
            if number in parts:
                continue
            known = self._elsewhere.setdefault(number, _Elsewhere())
            position, why = _usable(there.position, mine)
            if why is not None:
                behind[number] = why
                continue
            epoch, activity = (position.epoch, position.next.activity) if position else ("", 0)
            if known.is_known(epoch, activity, now):
                known.activity, known.seen = activity, now
            elif known.reach is None or (activity < known.reach and known.asked < min(began, now - NOTHING_HOLDS)):
                # Also while it is behind: its log may be another since, or its loss accepted.
                questions.append(number)
            elif activity < known.reach:
                what = f"has folded its activity up to {activity}" if position else "has no position"
                behind[number] = f"{what}, and was told up to {known.reach}"
            else:
                surprised |= known.epoch != epoch
                if known.given_up:
                    log.info("partition %d is whole again: its counterparties are known", number)
                known.is_whole(epoch, activity, now)
        return behind, questions, surprised

    def _given_up(self, behind: Mapping[int, str], need: Needed) -> frozenset[str]:
        """The counterparties that are done without.  Raises CounterpartiesBehind while their numbers are waited for.

        Not for ever: nobody may serve a number, or its log takes long to fold.  Once it was waited for, it is not waited for
        again before it was whole.
        """
        if not behind:
            return frozenset()
        now = time.monotonic()
        waited_for = []
        for number, why in behind.items():
            known = self._elsewhere[number]
            if known.since is None:
                known.since = now
            if known.given_up:
                continue
            if now - known.since < self.wait:
                waited_for.append(f"partition {number}, which another worker serves, {why}")
            else:
                known.given_up = True
                log.warning(
                    "partition %d, which another worker serves, %s: after %.0f s (FRAUD_COUNTERPARTY_WAIT) its counterparties "
                    "are done without, and verdicts that lack them are flagged `degraded`, until it is whole",
                    number, why, self.wait,
                )  # fmt: skip
        if waited_for:
            raise CounterpartiesBehind("; ".join(waited_for))
        homes = zip(need.counterparties, need.counterparty_partitions, strict=True)
        return frozenset(name for name, number in homes if number in behind)

    def _doubt_all(self) -> None:
        """The store has lost or changed something of ours: it may have of others as well."""
        for known in self._elsewhere.values():
            known.doubt()


def _usable(raw: bytes, mine: Position | None) -> tuple[Position | None, str | None]:
    """Another number's position (None: it has none), or why its profiles are none that we could read."""
    if not raw:
        return None, None
    try:
        position = Position.parse(raw)
    except ValueError:
        return None, "has a position that is none"
    if mine is not None and position.format != mine.format:
        return None, f"has profiles of format {position.format}, and ours are of {mine.format}"
    if mine is not None and position.topics != mine.topics:
        return None, "has profiles that were folded from other topics of the same names"
    return position, None
