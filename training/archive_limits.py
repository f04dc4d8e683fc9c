"""When the archiver writes (training/archive.py)."""

from __future__ import annotations

import msgspec

from schemas.errors import WrongSettings


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When what was read becomes a file: whichever comes first.  Raises WrongSettings where a value can't be meant."""

    rows: int = 200_000
    """Of one topic."""
    size: int = 96 << 20
    """Bytes of one topic's messages."""
    seconds: float = 60.0
    """That a message waits at most."""

    def __post_init__(self) -> None:
        if self.rows < 1 or self.seconds <= 0:
            raise WrongSettings("rows must be at least 1, and seconds above 0")
