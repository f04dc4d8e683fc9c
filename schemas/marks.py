"""What travels with the committed offsets of the input topics, in their metadata: by it a log is known again."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from schemas.errors import WrongSettings


class Landmark(msgspec.Struct, frozen=True):
    """The last record that was taken from a partition: the log is still the same where it still holds that record.

    Not the record before the next offset: what lies there may be a transaction's marker, which nobody can read.
    """

    offset: int
    timestamp: int
    """Milliseconds since 1970 UTC, the record's own."""
    digest: str
    """xxh3-64 of key and value, in hex."""


class Trace(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one input topic and partition number: which log the committed offset counts on."""

    topic_id: str = ""
    """Kafka's id of the topic; empty: not known."""
    last: Landmark | None = None
    """The last record before the committed offset; None: there was none."""

    def text(self) -> str:
        """As Kafka carries it."""
        return msgspec.json.encode(self).decode()


class Marks(Trace, frozen=True, omit_defaults=True):
    """A Trace of `transactions`, and what else is to be known of the partition number."""

    judged_from: int = 0
    """Transactions before this offset were loaded as history: folded, never judged."""
    left_out: int = 0
    """Messages of this partition number that were dead-lettered for one of `LEFT_OUT`."""
    verdict: int = -1
    """Offset of the last transaction that got a verdict; -1: none did."""


ATrace = TypeVar("ATrace", bound=Trace)


def parse(kind: type[ATrace], text: str | None) -> ATrace:
    """What `text` says.  Raises WrongSettings where somebody else committed these offsets."""
    try:
        return msgspec.json.decode(text, type=kind) if text else kind()
    except msgspec.MsgspecError as error:
        raise WrongSettings(f"the group's committed offsets carry {text!r}, which no worker of ours wrote") from error
