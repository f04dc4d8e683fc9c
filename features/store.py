"""Where profiles are remembered: a view of the log that knows its position.  And one in memory, for tests and tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from schemas.errors import PositionMoved

MOST_AT_ONCE = 3_000
"""Profiles in one write: Lua's `unpack` fails near 4,000."""


class Wanted(NamedTuple):
    """What to read of one partition number: these keys, and the position they must be bound to."""

    partition: int
    position_key: str
    position: bytes | None
    """Where the reader believes it to be (empty: nothing was ever written); None: wherever it is."""
    keys: Sequence[str]


class Found(NamedTuple):
    """What one partition number held, in one instant."""

    position: bytes
    profiles: list[bytes | None]
    """In the order of the keys; None for a profile never written."""


class ProfileStore(Protocol):
    """Remembers profiles.  `tests/contract/` holds every implementation to this."""

    async def position(self, key: str) -> bytes:
        """The position under this key; empty if there is none.  Raises StoreUnavailable."""

    async def recall(self, wanted: Sequence[Wanted]) -> list[Found]:
        """What is found of each wanted, in order.

        Raises PositionMoved where a position is not where the reader believes it to be, StoreUnavailable.
        """

    async def remember(
        self, partition: int, position_key: str, profiles: Mapping[str, bytes], *, after: bytes, now: bytes
    ) -> None:
        """Write the profiles and move the position from `after` to `now`: all or nothing, in one instant.

        Finding the position at `now` already is success: an answer was lost.  At most MOST_AT_ONCE profiles.  Raises
        PositionMoved, StoreUnavailable.
        """


def check_positions(wanted: Sequence[Wanted], found: Sequence[Found]) -> None:
    """Raises PositionMoved where what was found is not what the reader believes."""
    for want, there in zip(wanted, found, strict=True):
        if want.position is not None and there.position != want.position:
            raise PositionMoved(want.partition, want.position, there.position)


class InMemoryProfiles:
    """A ProfileStore that forgets with its process."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    async def position(self, key: str) -> bytes:
        """See ProfileStore."""
        return self.values.get(key, b"")

    async def recall(self, wanted: Sequence[Wanted]) -> list[Found]:
        """See ProfileStore."""
        found = [
            Found(self.values.get(want.position_key, b""), [self.values.get(key) for key in want.keys])
            for want in wanted
        ]
        check_positions(wanted, found)
        return found

    async def remember(
        self, partition: int, position_key: str, profiles: Mapping[str, bytes], *, after: bytes, now: bytes
    ) -> None:
        """See ProfileStore."""
        assert len(profiles) <= MOST_AT_ONCE
        found = self.values.get(position_key, b"")
        if found == now:
            return
        if found != after:
            raise PositionMoved(partition, after, found)
        self.values.update(profiles)
        self.values[position_key] = now
