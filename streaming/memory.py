"""Recalling the profiles that a batch is about, and remembering the new ones: the worker's side of the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass

from features.describing import Described, Needed
from features.position import Keys, Offsets, Position
from features.store import ProfileStore, Wanted
from schemas.errors import PositionMoved, StoreUnavailable
from streaming.partition import Part

Blobs = list[bytes | None]
PATIENCE = 10.0
"""Seconds that a rebuild elsewhere is waited for."""


@dataclass(frozen=True)
class Recalled:
    """Profiles in the order of the rows of what was needed."""

    accounts: Blobs
    counterparties: Blobs


class Memory:
    """What this worker reads and writes of profiles.

    Those of its own numbers are bound to their positions: a profile read at another one is not this log's.  Those of
    counterparties elsewhere are read as they are; their last activity offset says what they had folded.
    """

    def __init__(self, store: ProfileStore, namespace: str, partitions: int) -> None:
        self.store = store
        self._keys = [Keys(namespace, number) for number in range(partitions)]
        self._elsewhere: dict[int, Position] = {}
        self._behind: dict[int, float] = {}

    async def recall(self, need: Needed, parts: Mapping[int, Part]) -> Recalled:
        """Raises PositionMoved, StoreUnavailable."""
        while True:
            wanted, rows = self._wanted(need, parts)
            found = await self.store.recall(wanted)
            if self._learn(wanted, [there.position for there in found], parts):
                continue  # an epoch that we didn't know: other keys
            recalled = Recalled([None] * len(need.accounts), [None] * len(need.counterparties))
            for there, where in zip(found, rows, strict=True):
                for blob, (kind, row) in zip(there.profiles, where, strict=True):
                    (recalled.counterparties if kind else recalled.accounts)[row] = blob
            return recalled

    async def remember(
        self, described: Described, need: Needed, parts: Mapping[int, Part], after: Mapping[int, Offsets]
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
            if error is not None:
                raise error

    async def _write(self, part: Part, profiles: Mapping[str, bytes], after: Offsets) -> None:
        now = part.position._replace(next=after)
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

    def _learn(self, wanted: list[Wanted], positions: list[bytes], parts: Mapping[int, Part]) -> bool:
        """Note where the numbers of other workers are; True: one has an epoch unknown to us."""
        surprised = False
        for want, raw in zip(wanted, positions, strict=True):
            number = want.partition
            if number in parts:
                continue
            known = self._elsewhere.get(number)
            if not raw:
                if known:
                    self._wait_for(number)
                continue
            try:
                position = Position.parse(raw)
            except ValueError as error:
                raise PositionMoved(number, b"a position", raw) from error
            if known and position.next.activity < known.next.activity:
                self._wait_for(number)
            self._behind.pop(number, None)
            surprised |= known is None or known.epoch != position.epoch
            self._elsewhere[number] = position
        return surprised

    def _wait_for(self, number: int) -> None:
        """Redis lost something of another worker's number, and that one is folding it again: what is there is too little.

        But not for ever: without traffic it may not have noticed, or nobody may serve it.
        """
        since = self._behind.setdefault(number, time.monotonic())
        if time.monotonic() - since < PATIENCE:
            raise StoreUnavailable(f"partition {number} is being rebuilt by its worker")
        del self._behind[number]
        self._elsewhere.pop(number, None)
