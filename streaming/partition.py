"""A partition number that this worker serves: where its profiles are, and what was told of it before."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from features.position import Keys, Offsets, Position
from schemas.errors import WrongSettings


class Marks(msgspec.Struct, frozen=True, omit_defaults=True):
    """What travels with the committed offset of `transactions`, in its metadata."""

    judged_from: int = 0
    """Transactions before this offset were loaded as history: folded, never judged."""
    bugs: int = 0
    """Messages of this partition number that were dead-lettered as `bug`, and are left out of every fold."""

    def text(self) -> str:
        """As Kafka carries it."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def parse(cls, text: str | None) -> Marks:
        """Raises WrongSettings where somebody else committed these offsets."""
        try:
            return msgspec.json.decode(text, type=cls) if text else cls()
        except msgspec.MsgspecError as error:
            raise WrongSettings(
                f"the group's committed offsets carry {text!r}, which no worker of ours wrote"
            ) from error


@dataclass
class Part:
    """What a worker knows of a partition number that it has taken over."""

    number: int
    position: Position
    until: Offsets
    """What was told before: messages below are folded, telling nothing."""
    marks: Marks
    keys: Keys
    written: bool
    """False: the store has no position yet."""
    skipped: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    """(index of the input topic, offset) of messages dead-lettered as `bug`."""

    @property
    def expected(self) -> bytes:
        """What the store must hold as this number's position."""
        return bytes(self.position) if self.written else b""
