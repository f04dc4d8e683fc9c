"""What stands in for Kafka and for a store that has a bad day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from features.store import Found, InMemoryProfiles, Wanted
from schemas.errors import StoreUnavailable


@dataclass(frozen=True)
class FakeMessage:
    """A message from Kafka, as far as the order of catching up looks at it."""

    at_offset: int
    at: int = 0
    """Milliseconds: the record's timestamp."""
    of_partition: int = 0
    size: int = 300
    of_key: bytes = b""
    of_headers: tuple[tuple[str, bytes], ...] = ()

    def key(self) -> bytes:
        return self.of_key

    def headers(self) -> tuple[tuple[str, bytes], ...]:
        return self.of_headers

    def partition(self) -> int:
        return self.of_partition

    def offset(self) -> int:
        return self.at_offset

    def timestamp(self) -> tuple[int, int]:
        return 0, self.at

    def __len__(self) -> int:
        return self.size


@dataclass
class CommittedInAList:
    """What a group has committed of the activity, by partition number; 0 of what isn't named."""

    by_number: dict[int, int] = field(default_factory=dict)
    asked: list[list[int]] = field(default_factory=list)

    async def activity(self, numbers: Sequence[int], topic_id: str) -> dict[int, int]:
        """See streaming.committed.Committed."""
        self.asked.append(list(numbers))
        return {number: self.by_number.get(number, 0) for number in numbers}


@dataclass
class ForgetfulAnswers(InMemoryProfiles):
    """A store that writes, and whose answer is lost as often as it is told to."""

    lost: int = 0
    asked: list[list[str]] = field(default_factory=list)
    """The keys of each partition that was recalled."""
    written: list[int] = field(default_factory=list)
    """How many profiles each write held."""

    def __post_init__(self) -> None:
        super().__init__()

    async def recall(self, wanted: Sequence[Wanted]) -> list[Found]:
        """See ProfileStore."""
        self.asked += [list(want.keys) for want in wanted]
        return await super().recall(wanted)

    async def remember(
        self, partition: int, position_key: str, profiles: Mapping[str, bytes], *, after: bytes, now: bytes
    ) -> None:
        """See ProfileStore."""
        self.written.append(len(profiles))
        await super().remember(partition, position_key, profiles, after=after, now=now)
        if self.lost:
            self.lost -= 1
            raise StoreUnavailable("Redis does not answer: time-out")
