"""The names of ids and contents in a profile, by a keyed hash; and the partitions of a batch's keys.

SipHash-2-4, compiled, over a whole batch.  Without the key nobody can say which ids or contents share a hash, so that no
payment can be chosen to pass for another; and nobody can find an account by hashing all the ids there may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from features.compiling import compiled

Hashes64 = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


def siphash(values: Sequence[bytes], low: int, high: int) -> Hashes64:
    """SipHash-2-4 of each, [n] of 64 bits; `low` and `high`: the key's halves."""
    ends = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
    return siphash_within(np.frombuffer(b"".join(values), np.uint8), ends, low, high)


def siphash_of_text(values: Sequence[str], low: int, high: int) -> Hashes64:
    """Of the UTF-8 of each."""
    data = "".join(values)
    if not data.isascii():
        return siphash([value.encode() for value in values], low, high)
    ends = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
    return siphash_within(np.frombuffer(data.encode(), np.uint8), ends, low, high)


def siphash_within(data: Bytes, ends: Ints, low: int, high: int) -> Hashes64:
    """Of values that stand one after the other in `data` and end at `ends` [n]."""
    out = np.empty(len(ends), np.uint64)
    _siphash_each(data, ends, np.uint64(low), np.uint64(high), out)
    return out


@compiled(forceinline=True)
def _round(a: Any, b: Any, c: Any, d: Any) -> Any:  # four uint64
    """SipRound."""
    a += b
    b = (b << np.uint64(13)) | (b >> np.uint64(51))
    b ^= a
    a = (a << np.uint64(32)) | (a >> np.uint64(32))
    c += d
    d = (d << np.uint64(16)) | (d >> np.uint64(48))
    d ^= c
    a += d
    d = (d << np.uint64(21)) | (d >> np.uint64(43))
    d ^= a
    c += b
    b = (b << np.uint64(17)) | (b >> np.uint64(47))
    b ^= c
    c = (c << np.uint64(32)) | (c >> np.uint64(32))
    return a, b, c, d


@compiled()
def _siphash_each(data: Bytes, ends: Ints, low: Any, high: Any, out: Hashes64) -> None:
    start = np.uint64(0)
    for i in range(len(ends)):
        end = np.uint64(ends[i])
        a = low ^ np.uint64(0x736F6D6570736575)
        b = high ^ np.uint64(0x646F72616E646F6D)
        c = low ^ np.uint64(0x6C7967656E657261)
        d = high ^ np.uint64(0x7465646279746573)
        length = end - start
        at = start
        while at + np.uint64(8) <= end:
            word = np.uint64(0)
            for k in range(8):
                word |= np.uint64(data[at + np.uint64(k)]) << np.uint64(8 * k)
            d ^= word
            a, b, c, d = _round(a, b, c, d)
            a, b, c, d = _round(a, b, c, d)
            a ^= word
            at += np.uint64(8)
        word = (length & np.uint64(0xFF)) << np.uint64(56)
        shift = np.uint64(0)
        while at < end:
            word |= np.uint64(data[at]) << shift
            shift += np.uint64(8)
            at += np.uint64(1)
        d ^= word
        a, b, c, d = _round(a, b, c, d)
        a, b, c, d = _round(a, b, c, d)
        a ^= word
        c ^= np.uint64(0xFF)
        for _ in range(4):
            a, b, c, d = _round(a, b, c, d)
        out[i] = a ^ b ^ c ^ d
        start = end


def partitions_of(keys: Sequence[bytes], partitions: int) -> npt.NDArray[np.int64]:
    """What schemas.partitioning.partition_of gives for each key, compiled (0.05 instead of 5 µs a key)."""
    ends = np.cumsum(np.fromiter(map(len, keys), np.int64, len(keys)))
    return _partitions(np.frombuffer(b"".join(keys), np.uint8), ends, partitions)


@njit(cache=True, nogil=True)
def _partitions(data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64], partitions: int) -> npt.NDArray[np.int64]:
    m = np.uint32(0x5BD1E995)
    out = np.empty(len(ends), np.int64)
    start = 0
    for i in range(len(ends)):
        length = ends[i] - start
        h = np.uint32(np.uint32(0x9747B28C) ^ np.uint32(length))
        body = start + (length & ~3)
        for at in range(start, body, 4):
            k = (
                np.uint32(data[at])
                | np.uint32(data[at + 1]) << 8
                | np.uint32(data[at + 2]) << 16
                | np.uint32(data[at + 3]) << 24
            )
            k = np.uint32(np.uint32(k) * m)
            k = np.uint32(np.uint32(k ^ (k >> np.uint32(24))) * m)
            h = np.uint32(np.uint32(h * m) ^ k)
        if length & 3:
            tail = np.uint32(0)
            for j in range(length & 3):
                tail |= np.uint32(np.uint32(data[body + j]) << np.uint32(8 * j))
            h = np.uint32(np.uint32(h ^ tail) * m)
        h = np.uint32(np.uint32(h ^ (h >> np.uint32(13))) * m)
        h = np.uint32(h ^ (h >> np.uint32(15)))
        out[i] = np.int64(h & np.uint32(0x7FFFFFFF)) % partitions
        start = ends[i]
    return out
