"""How far along the log a partition's profiles are, and what they were folded with.

    {p3}:position                     <format>|<epoch>|<topics>|<transactions>,<labels>,<activity>
    {p3}:<epoch>:a:<account_id>       an account's profile
    {p3}:<epoch>:c:<counterparty_id>  a counterparty's

The epoch is random and made anew wherever profiles are begun from nothing: what still lies under an older epoch can't be
seen.  All keys of a partition number share a hash tag, so that one script can move them together.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple


class Offsets(NamedTuple):
    """The next offset, of each input topic, that is not folded yet."""

    transactions: int
    labels: int
    activity: int


class Position(NamedTuple):
    """Of one partition number."""

    format: str
    """Digest of everything that the fold depends on besides the log."""
    epoch: str
    topics: str
    """Digest of the input topics' ids: a topic that was deleted and made again is another log."""
    next: Offsets

    def __bytes__(self) -> bytes:
        return f"{self.format}|{self.epoch}|{self.topics}|{self.next[0]},{self.next[1]},{self.next[2]}".encode()

    @classmethod
    def parse(cls, raw: bytes) -> Position:
        """Raises ValueError."""
        format_, epoch, topics, numbers = raw.decode().split("|")
        transactions, labels, activity = map(int, numbers.split(","))
        return cls(format_, epoch, topics, Offsets(transactions, labels, activity))


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
