"""A key lies where Java's producers put it, whoever works it out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.hashing import partitions_of
from schemas.partitioning import murmur2, partition_of
from tests.examples import examples

KAFKAS_OWN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""From the tests of Apache Kafka's Utils.murmur2: signed, as Java has them."""


@pytest.mark.parametrize(("key", "signed"), KAFKAS_OWN.items())
def test_murmur2_is_kafkas(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32


@pytest.mark.parametrize(("key", "signed"), KAFKAS_OWN.items())
def test_a_partition_is_the_hash_without_its_sign_modulo_the_partitions(key: bytes, signed: int) -> None:
    for partitions in (1, 4, 7, 10_000):
        assert partition_of(key, partitions) == (signed & 0x7FFFFFFF) % partitions
        assert partitions_of([key], partitions).tolist() == [(signed & 0x7FFFFFFF) % partitions]


@examples(200)
@given(st.lists(st.binary(max_size=40)), st.integers(1, 10_000))
def test_a_batch_of_keys_lies_where_each_of_them_does(keys: list[bytes], partitions: int) -> None:
    assert partitions_of(keys, partitions).tolist() == [partition_of(key, partitions) for key in keys]


def test_keys_of_every_length_are_hashed_to_their_last_byte() -> None:
    keys = [bytes(range(n)) for n in range(130)] + [b"\xff" * n for n in range(1, 130)]

    assert len({murmur2(key) for key in keys}) == len(keys)
    assert partitions_of(keys, 997).tolist() == [partition_of(key, 997) for key in keys]


def test_no_keys_lie_nowhere() -> None:
    assert partitions_of([], 4).tolist() == []
