"""What travels with the committed offset of `transactions`, in its metadata."""

from __future__ import annotations

import msgspec

from schemas.errors import WrongSettings


class Marks(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one partition number."""

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
