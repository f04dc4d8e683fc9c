"""What travels with the committed offset of `transactions`, in its metadata."""

from __future__ import annotations

import msgspec

from schemas.errors import WrongSettings


class Marks(msgspec.Struct, frozen=True, omit_defaults=True):
    """Of one partition number."""

    judged_from: int = 0
    """Transactions before this offset were loaded as history: folded, never judged."""
    left_out: int = msgspec.field(default=0, name="bugs")
    """Messages of this partition number that were dead-lettered for one of `LEFT_OUT`.  In the metadata it is called `bugs`:
    the first of them, and offsets committed so are still to be read."""

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
