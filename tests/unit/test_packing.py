"""A profile's bytes: nothing is lost in them, and none of them changes without a new format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.accepting import FORMAT_VERSION
from features.packing import EVENT_BYTES, FRAUD_DAY_BYTES, HEAD_BYTES, LABEL_BYTES, TILE_BYTES
from features.profile import ACCOUNT, COUNTERPARTY, Profiles, Shape
from tests.examples import examples
from tests.unit.lives import (
    LARGEST,
    SMALL_ACCOUNT,
    SMALL_COUNTERPARTY,
    T0,
    Step,
    Walked,
    account,
    counterparty,
    lives_of_accounts,
    lives_of_counterparties,
)
from tests.unit.oracle import DAY, HOUR, Event, Told

FIRST = np.zeros(1, np.int64)


def packed(walked: Walked) -> bytes:
    (blob,) = walked.profiles.pack(FIRST)
    return blob


def packed_again(blob: bytes, shape: Shape) -> bytes:
    profiles = Profiles.room_for(1, shape)
    profiles.unpack([blob])
    (again,) = profiles.pack(FIRST)
    return again


@examples(80)
@given(lives_of_accounts())
def test_an_accounts_profile_is_the_same_after_a_night_in_the_store(life: Sequence[Event | Told]) -> None:
    blob = packed(account(life, SMALL_ACCOUNT))

    assert packed_again(blob, SMALL_ACCOUNT) == blob


@examples(80)
@given(lives_of_counterparties())
def test_a_counterpartys_profile_is_the_same_after_a_night_in_the_store(life: Sequence[Step]) -> None:
    blob = packed(counterparty(life, SMALL_COUNTERPARTY))

    assert packed_again(blob, SMALL_COUNTERPARTY) == blob


@pytest.mark.parametrize(
    "life",
    [
        [],
        [Told(1, -(10**17), 10**17, True)],
        [Event(-62_135_596_800_000_000, LARGEST, 2**64 - 1, 2**32 - 1)],  # the year 1
        [Event(-62_135_596_800_000_000, 1, 1), Event(253_402_300_799_999_999, LARGEST, 2)],  # and the year 9999
        [Event(T0 + ident, 1, ident) for ident in range(ACCOUNT.events + 9)] + [Event(T0 + 3_000 * DAY, 1, 10**6)],
        [Event(T0, LARGEST, ident) for ident in range(70_000)],
    ],
)
def test_the_ends_of_what_a_profile_can_hold_are_the_same_too(life: list[Event | Told]) -> None:
    blob = packed(account(life))

    assert packed_again(blob, ACCOUNT) == blob


def test_a_blob_holds_what_is_used_and_no_more() -> None:
    events = [Event(T0 + HOUR * ident, 1, ident) for ident in range(ACCOUNT.events)]
    labels = [Told(ident, T0, T0, True) for ident in range(ACCOUNT.labels)]

    assert len(packed(account([]))) == HEAD_BYTES
    assert len(packed(account(events[:1]))) == HEAD_BYTES + EVENT_BYTES
    assert len(packed(account(events))) == HEAD_BYTES + ACCOUNT.events * EVENT_BYTES
    assert len(packed(account(labels))) == HEAD_BYTES + ACCOUNT.labels * LABEL_BYTES
    one_more: list[Event | Told] = [*events, Event(T0 + DAY * 9, 1, 999), *labels, Told(999, T0, T0, True)]
    full = HEAD_BYTES + ACCOUNT.events * EVENT_BYTES + ACCOUNT.labels * LABEL_BYTES
    assert len(packed(account(one_more))) == full + TILE_BYTES + FRAUD_DAY_BYTES


def test_a_blob_that_was_cut_or_is_another_shapes_is_refused() -> None:
    blob = packed(account([Event(T0 + HOUR * ident, 1, ident) for ident in range(20)]))

    for cut in (1, HEAD_BYTES - 1, HEAD_BYTES, len(blob) - 1):
        with pytest.raises(ValueError, match=f"blob 1 of {cut} bytes is no profile"):
            Profiles.room_for(2, ACCOUNT).unpack([blob, blob[:cut]])
    with pytest.raises(ValueError, match="is no profile"):
        Profiles.room_for(1, ACCOUNT).unpack([blob + b"\x00"])
    with pytest.raises(ValueError, match="is no profile"):
        Profiles.room_for(1, SMALL_ACCOUNT).unpack([blob])


counts = st.tuples(*(st.integers(0, most) for most in (SMALL_ACCOUNT.events, 6, SMALL_ACCOUNT.labels, 3)))


@examples(80)
@given(st.data(), counts)
def test_no_bytes_break_what_reads_them(data: st.DataObject, counts: tuple[int, ...]) -> None:
    """Noise is refused, or it is a profile, and then packed it is the same noise again."""
    size = sum(
        n * each for n, each in zip(counts, (EVENT_BYTES, TILE_BYTES, LABEL_BYTES, FRAUD_DAY_BYTES), strict=True)
    )
    body = np.random.default_rng(data.draw(st.integers(0, 2**32))).bytes(size)
    head = data.draw(st.binary(min_size=32, max_size=32)) + np.array(counts, "<u2").tobytes()
    blob = head + body

    assert packed_again(blob, SMALL_ACCOUNT) == blob
    for noise in (blob[: data.draw(st.integers(1, len(blob)))], blob[32:]):
        try:
            again = packed_again(noise, SMALL_ACCOUNT)
        except ValueError:
            continue
        assert again == noise


# Bytes that lie in stores.

LIFE_OF_AN_ACCOUNT: list[Event | Told] = [
    *(Event(T0 + HOUR * 7 * ident, 100 + ident, 2**63 + ident, ident) for ident in range(8)),
    Event(T0 - 9 * DAY, LARGEST, 1, 1),
    *(Told(ident, T0 + HOUR * ident, T0 + DAY * ident, ident % 3 > 0) for ident in range(5)),
]
LIFE_OF_A_COUNTERPARTY: list[Step] = [
    *(Event(T0 + DAY * 2 * ident, 1_000_000 * ident, 7) for ident in range(9)),
    *(Told(ident, T0 + DAY * ident, T0 + DAY * 8, True) for ident in range(7)),
]
GOLDEN = {
    1: (
        "09000000000000000010f446544b060000d4c865324c06000800000000000000050004000300010000f02578170067000000000003000000"
        "000000800300000000741c9a110068000000000004000000000000800400000000f812bc0b00690000000000050000000000008005000000"
        "007c09de05006a00000000000600000000000080060000000000000000006b000000000007000000000000800700000000c4d41ede000100"
        "0000ffffffffff7f0000ffffffffff7f80ffffffffffcf45006442122900010000006400000000000000640000000000000000000088c340"
        "00e8383423000100000065000000000000006500000000000000000080ecc340006c2f561d00010000006600000000000000660000000000"
        "000000000052c440020000000000000000b8ad000b4c06000030358f314c0600010300000000000000005c41d70b4c060000900cad454c06"
        "000004000000000000000000d5ad0c4c060000f0e3ca594c0600012250000001000000",
        "090000000000000000708653094c06000070fc304b4d06000f0000000000000005000400030003000000bbeea00000093d00000007000000"
        "000000000000000000400cb37800404b4c00000007000000000000000000000000805d775000808d5b000000070000000000000000000000"
        "00c0ae3b2800c0cf6a00000007000000000000000000000000000000000000127a000000070000000000000000000000000076dd41010100"
        "0000000000000000000000000000000000000000000000000040c7a119010100000040420f000000000040420f000000000000a2941a6d42"
        "00801866f1000100000080841e000000000080841e000000000000a2941a8d4200c0692ac90001000000c0c62d0000000000c0c62d000000"
        "0000209bf35ea042040000000000000000f0e3ca594c060000704142aa4c06000105000000000000000050bbe86d4c060000704142aa4c06"
        "0001060000000000000000b09206824c060000704142aa4c060001235000000200000024500000010000002550000001000000",
    ),
}
"""By FORMAT_VERSION: an account's profile and a counterparty's.  Never change one: add the next version's."""


def test_a_profile_has_the_bytes_that_its_format_version_says() -> None:
    """Another fold or another packing is another FORMAT_VERSION, or workers take old profiles for their own."""
    assert max(GOLDEN) == FORMAT_VERSION, "add the new version's bytes"
    an_account, a_counterparty = GOLDEN[FORMAT_VERSION]

    assert packed(account(LIFE_OF_AN_ACCOUNT, SMALL_ACCOUNT)).hex() == an_account
    assert packed(counterparty(LIFE_OF_A_COUNTERPARTY, SMALL_COUNTERPARTY)).hex() == a_counterparty


def test_how_much_a_profile_holds_is_part_of_its_format() -> None:
    """`Rules.format` names the shapes: a worker that keeps more or less parks the partition instead of misreading it."""
    assert (ACCOUNT.events, ACCOUNT.labels, ACCOUNT.tiles, ACCOUNT.fraud_days) == (192, 32, 128, 64)
    assert (COUNTERPARTY.events, COUNTERPARTY.labels, COUNTERPARTY.tiles, COUNTERPARTY.fraud_days) == (
        512,
        128,
        128,
        64,
    )
    assert (ACCOUNT.horizon, COUNTERPARTY.horizon) == (31 * DAY, 38 * DAY)
