"""A profile's bytes: nothing is lost in them, and none of them changes without a new format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh64_intdigest

from features import kernel
from features.accepting import FORMAT_VERSION
from features.catalogue import FEATURES
from features.packing import CHECK_BYTES
from features.profile import ACCOUNT, COUNTERPARTY, DamagedProfiles, Profiles, Shape
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
    labels_of,
    lives_of_accounts,
    lives_of_counterparties,
    payments_of,
    transactions_of,
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
        [Event(-62_135_596_800_000_000, LARGEST, 2**48 - 1, 2**24 - 1)],  # the year 1
        [Event(-62_135_596_800_000_000, 1, 1), Event(253_402_300_799_999_999, LARGEST, 2)],  # and the year 9999
        [Event(T0 + ident, 1, ident) for ident in range(ACCOUNT.events + 9)] + [Event(T0 + 3_000 * DAY, 1, 10**6)],
        [Event(T0, LARGEST, ident) for ident in range(70_000)],
    ],
)
def test_the_ends_of_what_a_profile_can_hold_are_the_same_too(life: list[Event | Told]) -> None:
    blob = packed(account(life))

    assert packed_again(blob, ACCOUNT) == blob


def test_a_blob_holds_what_is_used_and_no_more() -> None:
    """As many bytes as the table in features/packing.py says."""
    events = [Event(T0 + HOUR * ident, 350, ident) for ident in range(ACCOUNT.events)]
    labels = [Told(ident, T0, T0 + 7 * DAY + HOUR * ident, True) for ident in range(ACCOUNT.labels)]
    nothing, event = 1 + 1 + 8 + 1 + 5 + 8 + 1 + 31 + CHECK_BYTES, 5 + 2 + 1 + 6 + 5
    count, of_labels = 1, 8 - 5 + ACCOUNT.labels * (8 + 5 + 6 + 1)  # a count of 128 takes another byte

    assert len(packed(account([]))) == nothing
    assert len(packed(account(events[:1]))) == nothing + event - 4  # its age is that of the newest: nothing
    assert len(packed(account(events[:2]))) == nothing + 2 * event - 4 + 4  # the first is an hour old
    assert len(packed(account(labels))) == nothing + count + of_labels
    seen = replace(events[0], counterparty=7, country=7)
    assert len(packed(account([seen]))) == nothing + event - 4 + 2 * 5
    placed = replace(events[0], place=(52.5, 13.4))
    assert len(packed(account([placed]))) == nothing + event - 4 + 8
    one_more = Told(999, T0, T0 + DAY, True)
    assert len(packed(account([one_more, *labels]))) == nothing + count + of_labels + 4 + 1 + 6


def test_a_blob_that_was_cut_or_is_another_shapes_is_refused() -> None:
    blob = packed(account([Event(T0 + HOUR * ident, 1, ident) for ident in range(20)]))

    for cut in (1, 9, 55, 56, 200, len(blob) - 1):
        with pytest.raises(DamagedProfiles, match=f"blob 1 of {cut} bytes is no profile"):
            Profiles.room_for(2, ACCOUNT).unpack([blob, blob[:cut]])
    with pytest.raises(DamagedProfiles, match="is no profile"):
        Profiles.room_for(1, ACCOUNT).unpack([blob + b"\x00"])
    with pytest.raises(DamagedProfiles, match="is no profile"):
        Profiles.room_for(1, SMALL_ACCOUNT).unpack([blob])


mutations = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4)


@examples(100)
@given(lives_of_accounts(), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_one_byte_that_is_another_makes_it_no_profile(life: list[Event | Told], place: float, turned: int) -> None:
    noise = bytearray(packed(account(life, SMALL_ACCOUNT)))
    noise[int(place * len(noise))] ^= turned

    with pytest.raises(DamagedProfiles):
        packed_again(bytes(noise), SMALL_ACCOUNT)


def test_the_check_is_the_lower_half_of_the_xxh64_of_all_before_it() -> None:
    for count in range(40):
        blob = packed(account([Event(T0 + HOUR * ident, 1, ident) for ident in range(count)]))
        assert blob == sealed(blob[:-CHECK_BYTES])


def sealed(body: bytes) -> bytes:
    """With the check that belongs to it."""
    return body + (xxh64_intdigest(body) & 0xFFFFFFFF).to_bytes(CHECK_BYTES, "little")


@examples(200)
@given(lives_of_accounts(), mutations, st.integers(0, 30))
def test_no_bytes_break_what_reads_an_account(
    life: list[Event | Told], changed: list[tuple[float, int]], cut: int
) -> None:
    """Noise, even with the check that belongs to it, is refused, or it is a profile that the kernel can go on from."""
    check_noise(packed(account(life, SMALL_ACCOUNT)), changed, cut, SMALL_ACCOUNT)


@examples(200)
@given(lives_of_counterparties(), mutations, st.integers(0, 30))
def test_no_bytes_break_what_reads_a_counterparty(life: list[Step], changed: list[tuple[float, int]], cut: int) -> None:
    check_noise(packed(counterparty(life, SMALL_COUNTERPARTY)), changed, cut, SMALL_COUNTERPARTY)


def check_noise(blob: bytes, changed: list[tuple[float, int]], cut: int, shape: Shape) -> None:
    body = blob[:-CHECK_BYTES]
    noise = bytearray(body[: len(body) - cut] if cut % 3 == 0 else body)
    for place, value in changed:
        noise[int(place * len(noise))] = value
    try:
        again = packed_again(sealed(bytes(noise)), shape)
    except DamagedProfiles:
        return
    assert again == sealed(bytes(noise))
    goes_on_from(again, shape)


def goes_on_from(blob: bytes, shape: Shape) -> None:
    """Folds and describes with a profile between two others, which stay as they are."""
    profiles = Profiles.room_for(3, shape)
    profiles.unpack([None, blob, None])
    neighbours = np.array([0, 2])
    before = profiles.pack(neighbours)
    seen = [rows.tobytes() for rows in (profiles.rows.seen[2], profiles.rows.tiles[2], profiles.rows.labels[2])]
    step, here = np.arange(6, dtype=np.int8) % 2, np.ones(6, np.int64)
    events = [Event(T0 + DAY * ident, 350, 10**9 + ident, counterparty=ident, device=ident) for ident in range(6)]
    labels = labels_of([Told(10**9 + ident, T0, T0 + DAY * ident, True) for ident in range(6)])
    vectors, which = np.empty((6, len(FEATURES)), np.float32), np.arange(6)
    if shape.habits:
        kernel.walk_accounts(
            step, here, which, which, transactions_of(events), labels, profiles.limits, profiles.rows, kernel.Cells.room(),
            vectors, np.empty(6, np.int8), np.empty(6, np.int8), np.empty(6, np.int32),
        )  # fmt: skip
    else:
        step = np.arange(6, dtype=np.int8) % 3
        kernel.walk_counterparties(
            step, here, which, which, payments_of(events), labels, transactions_of(events), profiles.limits,
            profiles.rows, kernel.Cells.room(), vectors,
        )  # fmt: skip
    (after,) = profiles.pack(np.array([1]))
    assert packed_again(after, shape) == after, "what was folded is a profile again"
    assert profiles.pack(neighbours) == before
    assert seen == [rows.tobytes() for rows in (profiles.rows.seen[2], profiles.rows.tiles[2], profiles.rows.labels[2])]


UNSOUND: dict[str, tuple[str, str, float]] = {
    "what is typical is no number": ("head", "typical", np.nan),
    "what is typical is without end": ("head", "typical", np.inf),
    "what is typical is negative": ("head", "typical", -1.0),
    "fewer were ever folded than it holds": ("head", "total", 1),
    "more were ever folded than can be": ("head", "total", 1 << 60),
    "its first is after its newest": ("head", "first", T0 + 10**12),
    "its newest is far off": ("head", "newest", 1 << 62),
    "a place beyond the poles": ("head", "latitude", 90_000_001),
    "a place beyond the date line": ("head", "longitude", -180_000_001),
    "an offset before the first": ("head", "offset", -2),
    "a tile of nothing": ("tiles", "count", 0),
    "a tile of more than there were": ("tiles", "count", 10**6),
    "a tile of negative sums": ("tiles", "sum", -1),
    "a tile of squares that are no number": ("tiles", "squares", np.nan),
    "a tile newer than the newest": ("tiles", "newest", T0 + 10**15),
    "more nights than payments in a tile": ("tiles", "night", 99),
    "a label known in no time": ("labels", "known", -(1 << 62)),
    "frauds on no day": ("fraud_days", "day", (1 << 31) - 1),
    "something seen after the newest": ("seen", "last", 1 << 50),
    "something seen of no kind": ("seen", "key", 0xFF000000),
}


@pytest.mark.parametrize(("where", "field", "value"), UNSOUND.values(), ids=UNSOUND)
def test_a_profile_that_no_fold_could_leave_is_refused_whatever_its_check_says(
    where: str, field: str, value: float
) -> None:
    walked = account([*LIFE_OF_AN_ACCOUNT], SMALL_ACCOUNT)
    rows = getattr(walked.profiles.rows, where)
    (rows if where == "head" else rows[0])[field][0] = value

    with pytest.raises(DamagedProfiles):
        packed_again(packed(walked), SMALL_ACCOUNT)


def test_more_of_a_kind_than_there_is_room_for_is_refused() -> None:
    """All of the room taken by one kind would have the next one of another kind written behind it."""
    walked = account([Event(T0, 1, 1, counterparty=1)], SMALL_ACCOUNT)
    count = SMALL_ACCOUNT.all_seen
    walked.profiles.rows.head["seen"][0] = count
    walked.profiles.rows.seen[0, :count]["key"] = np.arange(count)
    walked.profiles.rows.seen[0, :count]["last"] = 0

    with pytest.raises(DamagedProfiles):
        packed_again(packed(walked), SMALL_ACCOUNT)


def test_all_that_are_damaged_are_named_and_no_other() -> None:
    good = packed(account([Event(T0, 1, 1)]))

    with pytest.raises(
        DamagedProfiles, match="blob 1 of 9 bytes is no profile of an account, and 1 others are none"
    ) as damaged:
        Profiles.room_for(4, ACCOUNT).unpack([good, good[:9], None, good[1:]])
    assert damaged.value.rows == [1, 3]
    assert damaged.value.of_accounts


# Bytes that lie in stores.

LIFE_OF_AN_ACCOUNT: list[Event | Told] = [
    *(
        Event(
            T0 + HOUR * 7 * ident,
            100 + 90 * ident,
            2**47 + ident,
            ident,
            hour=ident,
            weekday=ident % 7,
            below_round=ident == 2,
            counterparty=ident % 5,
            country=3,
            device=ident,
            category=9,
            place=(50.0 + ident, -0.5),
        )
        for ident in range(8)
    ),
    Event(T0 - 9 * DAY, LARGEST, 1, 1),
    *(Told(ident, T0 + HOUR * ident, T0 + DAY * ident, ident % 3 > 0) for ident in range(5)),
]
LIFE_OF_A_COUNTERPARTY: list[Step] = [
    *(Event(T0 + DAY * 2 * ident, 1_000_000 * ident, content=7 + ident, ratio=500 * ident) for ident in range(9)),
    *(Told(ident, T0 + DAY * ident, T0 + DAY * 8, True) for ident in range(7)),
]
GOLDEN = {
    3: (
        "098088d3f6e11b00d4c865324c0600090504030107398ee3388eb37f400140c06503e05ef8ff010101010101010100000000010000000000"
        "0000000000000301010101010100da050007000000008007000080f8a5f05d80050206000000008006000080f8a5f05da604020500000000"
        "8005000080f8a5f05dcc030204000000008004000080f8a5f05df202020300000000800300008088d3f6e11b01ffffffffffff1fffffffff"
        "ffff1f80ffffffffffcf45010000000080c889929105016464000000000088c340000100000080d0e3a1b30401be01be010000000080a0e1"
        "40000100000080d8bdb1d5030198029802000000000024f340000101000000f0e3ca594c0600040000000000000080e0bbe8d10901030000"
        "000000000080c0ddeec10280e8acae9d0700020000000000000080c0ddeec10280f09df4e80401225000000180c098ccc50700000000e089"
        "0301000000f0c4010200000000030000010006000002f0c4010700000200090000040031306283",
        "098080d8eb9d280070fc304b4d06000105040303000080a4e80300a01f0f8080bbdd8305c09fab0300ac1b0e8080bbdd8305809bee0200b8"
        "170d8080bbdd8305c096b10200c4130c8080bbdd83058092f40100d00f0b8080d8eb9d280100000000000000000000000000000080000000"
        "00000000000000000000000080809d8e9a2301c0843dc0843d000000a2941a6d4200000001f4030001000000000000000000000000000080"
        "80e2b0961e0180897a80897a000000a2941a8d4200000001e807000200000000000000000000000000008080a7d3921901c08db701c08db7"
        "010000209bf35ea04200000001dc0b0004000000000000000000000000000000704142aa4c060006000000000000008080bbdd8305010500"
        "0000000000000080c098ccc507010400000000000000008080f6ba870a01235000000200245000000100255000000100"
        "db8440a4",
    ),
    4: (
        "098088d3f6e11b00d4c865324c0600090504030107398ee3388eb37f400140c06503e05ef8ff010101010101010100000000010000000000"
        "0000000000000301010101010100da0500070000000080070000000080f8a5f05d800502060000000080060000000080f8a5f05da6040205"
        "0000000080050000000080f8a5f05dcc0302040000000080040000000080f8a5f05df2020203000000008003000000008088d3f6e11b01ff"
        "ffffffffff1fffffffffffff1f80ffffffffffcf45010000000080c889929105016464000000000088c340000100000080d0e3a1b30401be"
        "01be010000000080a0e140000100000080d8bdb1d5030198029802000000000024f340000101000000f0e3ca594c06000400000000000000"
        "80e0bbe8d10901030000000000000080c0ddeec10280e8acae9d0700020000000000000080c0ddeec10280f09df4e80401225000000180c0"
        "98ccc50700000000e0890301000000f0c4010200000000030000010006000002f0c4010700000200090000040007062188",
        "098080d8eb9d280070fc304b4d06000105040303000080a4e80300a01f0f8080bbdd8305c09fab0300ac1b0e8080bbdd8305809bee0200b8"
        "170d8080bbdd8305c096b10200c4130c8080bbdd83058092f40100d00f0b8080d8eb9d280100000000000000000000000000000080000000"
        "00000000000000000000000080809d8e9a2301c0843dc0843d000000a2941a6d4200000001f4030001000000000000000000000000000080"
        "80e2b0961e0180897a80897a000000a2941a8d4200000001e807000200000000000000000000000000008080a7d3921901c08db701c08db7"
        "010000209bf35ea04200000001dc0b0004000000000000000000000000000000704142aa4c060006000000000000008080bbdd8305010500"
        "0000000000000080c098ccc507010400000000000000008080f6ba870a01235000000200245000000100255000000100db8440a4",
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
    assert (ACCOUNT.events, ACCOUNT.labels, ACCOUNT.tiles, ACCOUNT.fraud_days, ACCOUNT.seen, ACCOUNT.habits) == (
        192, 128, 128, 64, (64, 8, 12, 6, 16), 31,
    )  # fmt: skip
    assert (COUNTERPARTY.events, COUNTERPARTY.labels, COUNTERPARTY.tiles, COUNTERPARTY.fraud_days, COUNTERPARTY.all_seen) == (
        512, 512, 128, 64, 0,
    )  # fmt: skip
    assert (ACCOUNT.exact, ACCOUNT.horizon, COUNTERPARTY.exact, COUNTERPARTY.horizon) == (
        31 * DAY, 38 * DAY, 38 * DAY, 38 * DAY,
    )  # fmt: skip
