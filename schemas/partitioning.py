"""Which partition a key belongs to: Java's default partitioner, murmur2 of the key modulo the partitions.

librdkafka's own default is another one (CRC32); producers in other languages set `partitioner=murmur2_random`.
"""

from __future__ import annotations

_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """The 32-bit murmur2 that Kafka's clients use (seed 0x9747b28c), unsigned.

    >>> murmur2(b"21") == 0xC5FD6BA6
    True
    """
    length = len(key)
    h = 0x9747B28C ^ length
    body = length & ~3
    for i in range(0, body, 4):
        k = int.from_bytes(key[i : i + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = h * _M & _MASK ^ k
    if tail := key[body:]:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition, of `partitions`, that this key's messages must lie in."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions
