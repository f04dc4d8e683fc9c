"""The keys that ids, contents and names are hashed by, all derived from one secret.

Known without numba, for settings and commands that hash nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from features.hashing import Bytes, Hashes64, Ints

KEY_DIGITS = 64
"""Of the secret, in hex."""


class HashKey(NamedTuple):
    """128 bits of key, for one kind of what is hashed."""

    low: int
    high: int

    def hashes(self, values: Sequence[bytes]) -> Hashes64:
        """SipHash-2-4 of each, [n] of 64 bits."""
        from features.hashing import siphash  # noqa: PLC0415 - numba, which settings can spare

        return siphash(values, self.low, self.high)

    def hashes_of_text(self, values: Sequence[str]) -> Hashes64:
        """Of the UTF-8 of each, [n] of 64 bits."""
        from features.hashing import siphash_of_text  # noqa: PLC0415

        return siphash_of_text(values, self.low, self.high)

    def hashes_within(self, data: Bytes, ends: Ints) -> Hashes64:
        """Of values that stand one after the other in `data` and end at `ends` [n]: [n] of 64 bits."""
        from features.hashing import siphash_within  # noqa: PLC0415

        return siphash_within(data, ends, self.low, self.high)

    def hash_of_text(self, value: str) -> int:
        """Of one."""
        return int(self.hashes((value.encode(),))[0])


class HashKeys(NamedTuple):
    """What profiles and the activity topic hash by: a key for each kind, all derived from one secret."""

    fingerprint: str
    """Names the secret, and tells nothing of it: 8 hex digits."""
    ids: HashKey
    """Of transactions."""
    contents: HashKey
    """Of whole transactions."""
    names: HashKey
    """Of what an account has seen: counterparties, countries, devices, channels, categories."""
    accounts: HashKey
    """As a counterparty hears of them."""

    @classmethod
    def of(cls, secret: str) -> HashKeys:
        """Derived from KEY_DIGITS hex digits.  Raises ValueError, which doesn't quote them, where it is something else."""
        if not re.fullmatch(f"[0-9a-fA-F]{{{KEY_DIGITS}}}", secret):
            raise ValueError(f"it must be {KEY_DIGITS} hex digits, and has {len(secret)} characters")
        return _derived(secret.lower())


@lru_cache(maxsize=8)
def _derived(secret: str) -> HashKeys:
    key = bytes.fromhex(secret)

    def part(name: str) -> bytes:
        return hmac.digest(key, f"fraud-scorer {name}".encode(), hashlib.sha256)

    def key_of(name: str) -> HashKey:
        whole = part(name)
        return HashKey(int.from_bytes(whole[:8], "little"), int.from_bytes(whole[8:16], "little"))

    return HashKeys(part("fingerprint").hex()[:8], *(key_of(name) for name in HashKeys._fields[1:]))


PUBLIC = HashKeys.of("00" * (KEY_DIGITS // 2))
"""By a key that everybody knows: for what leaves no process, such as a training from a table where no secret is set."""
