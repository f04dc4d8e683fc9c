"""Profiles lie side by side in memory, and none has anything of another or of what lay there before."""

from __future__ import annotations

import numpy as np

from features.profile import ACCOUNT, COUNTERPARTY, HEAD, SPARE, Profiles
from tests.unit.lives import T0, account
from tests.unit.oracle import DAY, HOUR, Event

NEVER_SEEN = bytes(1 + 1 + 8 + 1 + 5 + 8 + 1 + 31) + bytes.fromhex("e51f0472")
"""No offset is folded: -1, and one more is written.  Behind it stands the check."""


def blob_of(*events: Event) -> bytes:
    (blob,) = account(list(events)).profiles.pack(np.zeros(1, np.int64))
    return blob


def test_an_account_never_seen_has_an_empty_profile() -> None:
    profiles = Profiles.room_for(3, ACCOUNT)

    assert len(profiles) == 3
    assert profiles.pack(np.arange(3)) == [NEVER_SEEN] * 3


def test_profiles_are_packed_in_the_order_asked_for() -> None:
    blobs = [blob_of(Event(T0, amount, 1)) for amount in (1, 2, 3)]
    profiles = Profiles.room_for(4, ACCOUNT)
    profiles.unpack([blobs[0], None, blobs[1], blobs[2]])

    assert profiles.pack(np.array([3, 0, 2, 0])) == [blobs[2], blobs[0], blobs[1], blobs[0]]
    assert profiles.pack(np.array([], np.int64)) == []


def test_what_lay_in_a_row_before_is_gone() -> None:
    profiles = Profiles.room_for(2, ACCOUNT)
    busy = blob_of(*(Event(T0 + HOUR * ident, 1, ident) for ident in range(ACCOUNT.events + 20)))

    profiles.unpack([busy, busy])
    profiles.unpack([None, blob_of(Event(T0, 5, 1))])
    assert profiles.pack(np.arange(2)) == [NEVER_SEEN, blob_of(Event(T0, 5, 1))]
    profiles.unpack([busy])
    profiles.clear(1)
    assert profiles.pack(np.arange(1)) == [NEVER_SEEN]


def test_equal_profiles_have_equal_bytes_however_they_came_about() -> None:
    events = [Event(T0 + DAY * ident, ident, ident) for ident in range(5)]

    late = blob_of(events[0], *events[2:], events[1])
    early = blob_of(*events)
    offset = slice(15, 16)
    assert late[: offset.start] + late[offset.stop :] == early[: offset.start] + early[offset.stop :]


def test_room_for_a_kind_is_what_its_shape_says() -> None:
    for shape in (ACCOUNT, COUNTERPARTY):
        profiles = Profiles.room_for(2, shape)
        assert profiles.rows.head.dtype == HEAD
        assert profiles.rows.events.time.shape == (2, shape.events + SPARE)
        assert profiles.rows.tiles.shape == (2, shape.tiles)
        assert profiles.rows.labels.shape == (2, shape.labels)
        assert profiles.rows.fraud_days.shape == (2, shape.fraud_days)
