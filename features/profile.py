"""What is kept of an account or a counterparty: a ring of its last events, tiles for what fell off it, its labels.

In memory profiles lie side by side in arrays, one row each, as the kernel works on them; in Redis each is one packed
blob.  A profile is a function of the events and of the labels folded, each in the order of its topic, and of nothing
else: not of how the two interleaved, nor of where batches began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from features.catalogue import DAY, REACH, SEEN_BY_ACCOUNT, WINDOWS
from schemas.errors import FraudScorerError

HEAD = np.dtype(
    [
        ("total", "<i8"),  # events ever folded
        ("first", "<i8"),  # time of the earliest
        ("newest", "<i8"),  # time of the latest
        ("offset", "<i8"),  # last offset folded of the topic its events come from; -1: none
        ("typical", "<f8"),  # of an account: see catalogue
        ("place_time", "<i8"),  # of the newest event that has a place; NOWHERE: none has
        ("latitude", "<i4"),  # in millionths of a degree
        ("longitude", "<i4"),
        ("begin", "<i4"),  # where in the ring's columns its oldest event stands
        ("events", "<i4"),
        ("tiles", "<i4"),
        ("labels", "<i4"),
        ("fraud_days", "<i4"),
        ("seen", "<i4"),
    ],
    align=True,
)
NOWHERE = -(1 << 62)
FAR_ABOVE, NIGHT, BELOW_ROUND = 1, 2, 4
TILE = np.dtype(
    [
        ("newest", "<i8"),
        ("count", "<i8"),
        ("sum", "<i8"),
        ("max", "<i8"),
        ("squares", "<f8"),
        ("far_above", "<i8"),  # how many had each trait
        ("night", "<i8"),
        ("below_round", "<i8"),
        ("ratios", "<i8"),  # how many had a ratio, and their sum
        ("ratio_sum", "<i8"),
        ("payers_low", "<u8"),  # buckets of accounts, a bit each: 0 to 63, 64 to 127
        ("payers_high", "<u8"),
    ]
)
LABEL = np.dtype(
    [
        ("id", "<u8"),
        ("occurred", "<i8"),
        ("known", "<i8"),
        (
            "until",
            "<i8",
        ),  # when the next label of this transaction was known, and this one held no more; FOREVER: none was
        ("fraud", "<i8"),
    ]
)
"""Of a transaction there may be several: each held from when it was known."""
FOREVER = (1 << 63) - 1
FRAUD_DAY = np.dtype([("day", "<i4"), ("frauds", "<u4"), ("known", "<i8")])
"""Frauds whose labels fell off the ring, and when the last of these was known."""
SEEN = np.dtype([("last", "<i8"), ("key", "<u4")], align=True)
"""Something seen with an account, and the second it was last seen: the key is a kind and 24 bits of a hash."""
KINDS = tuple(kind for kind, _ in SEEN_BY_ACCOUNT)
HABITS = 24 + 7
"""Payments of an account by local hour, then by weekday; all of them are halved when one would pass 255."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How much of a kind is kept.  Part of the profile format: another shape is another epoch."""

    events: int
    """The ring: at most this many events exactly."""
    labels: int
    seen: tuple[int, ...]
    """Of each kind so many, the last seen."""
    exact: int
    """Events this much older than the newest go to the tiles (microseconds)."""
    horizon: int
    """Events this much older than the newest are in no window any more, and are dropped (microseconds)."""
    habits: int = 0
    tiles: int = 128
    fraud_days: int = 64

    @property
    def all_seen(self) -> int:
        """Of all kinds together."""
        return sum(self.seen)


LATENESS = DAY
"""Kept beyond the longest window, so that a transaction up to this late still has exact windows."""
_HORIZON = REACH + LATENESS
ACCOUNT = Shape(
    events=192,
    labels=128,
    seen=tuple(most for _, most in SEEN_BY_ACCOUNT),
    exact=WINDOWS[-1][1] + LATENESS,
    horizon=_HORIZON,
    habits=HABITS,
)
COUNTERPARTY = Shape(events=512, labels=512, seen=(), exact=_HORIZON, horizon=_HORIZON)


class Limits(NamedTuple):
    """How much of a kind is kept, as the kernel takes it; what is not here it sees from the arrays."""

    events: int
    exact: int
    horizon: int
    seen: npt.NDArray[np.int64]


SPARE = 64
"""A ring moves on by one with most events that are folded, and back to the beginning of its room once in so many."""


class Events(NamedTuple):
    """The rings, by growing time: [n, events + SPARE] of each column, [n, 0] where profiles of the kind have none.

    A column each: a window reads little of an event, and a loop over a column takes several at a time.
    """

    time: npt.NDArray[np.int64]
    amount: npt.NDArray[np.int64]
    id: npt.NDArray[np.uint64]
    """Of an account: the hash of the transaction_id, 48 bits of it."""
    content: npt.NDArray[np.uint64]
    """Of an account: the hash of the whole transaction, 40 bits of it."""
    traits: npt.NDArray[np.uint8]
    """Of an account: the bits FAR_ABOVE, NIGHT, BELOW_ROUND."""
    ratio: npt.NDArray[np.int32]
    """Of a counterparty: thousandths of what is typical of the payer; 0: not known."""
    payer: npt.NDArray[np.uint8]
    """Of a counterparty: the bucket of the payer."""

    @classmethod
    def room_for(cls, count: int, shape: Shape) -> Events:
        """`count` rings that nothing was written to."""
        room = shape.events + SPARE
        of_account, of_counterparty = (room, 0) if shape.habits else (0, room)
        return cls(
            np.empty((count, room), np.int64),
            np.empty((count, room), np.int64),
            np.empty((count, of_account), np.uint64),
            np.empty((count, of_account), np.uint64),
            np.empty((count, of_account), np.uint8),
            np.empty((count, of_counterparty), np.int32),
            np.empty((count, of_counterparty), np.uint8),
        )


class Rows(NamedTuple):
    """Profiles of one kind, one row each, as the kernel takes them."""

    head: npt.NDArray[np.void]
    events: Events
    tiles: npt.NDArray[np.void]
    labels: npt.NDArray[np.void]
    fraud_days: npt.NDArray[np.void]
    seen: npt.NDArray[np.void]
    """By growing key."""
    habits: npt.NDArray[np.uint8]
    """[n, HABITS], or [n, 0] where none are kept."""


class DamagedProfiles(FraudScorerError):
    """Bytes that are no packed profile: somebody else wrote there, or Redis did not keep what it was given."""

    def __init__(self, shape: Shape, lengths: Sequence[int], rows: Sequence[int]) -> None:
        """`rows`: which of those that were to be unpacked, and of how many bytes."""
        kind = "an account" if shape.habits else "a counterparty"
        super().__init__(
            f"blob {rows[0]} of {lengths[0]} bytes is no profile of {kind}"
            + (f", and {len(rows) - 1} others are none" if len(rows) > 1 else "")
        )
        self.of_accounts = bool(shape.habits)
        self.rows = rows


@dataclass(frozen=True)
class Profiles:
    """Profiles of one kind, one row each."""

    shape: Shape
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows.head)

    @property
    def limits(self) -> Limits:
        """What the kernel must know of the shape."""
        return Limits(self.shape.events, self.shape.exact, self.shape.horizon, np.array(self.shape.seen, np.int64))

    @classmethod
    def room_for(cls, count: int, shape: Shape) -> Profiles:
        """`count` empty profiles.  Only the heads are written: the rest is memory nobody has touched yet."""
        rows = Rows(
            np.zeros(count, HEAD),
            Events.room_for(count, shape),
            np.empty((count, shape.tiles), TILE),
            np.empty((count, shape.labels), LABEL),
            np.empty((count, shape.fraud_days), FRAUD_DAY),
            np.empty((count, shape.all_seen), SEEN),
            np.empty((count, shape.habits), np.uint8),
        )
        profiles = cls(shape, rows)
        profiles.clear(count)
        return profiles

    def clear(self, count: int) -> None:
        """Make the first `count` empty again."""
        self.rows.head[:count] = 0
        self.rows.head["offset"][:count] = -1
        self.rows.head["place_time"][:count] = NOWHERE
        self.rows.habits[:count] = 0

    def unpack(self, blobs: Sequence[bytes | None]) -> None:
        """Let the first rows hold what `blobs` say; None is a profile never seen.

        Raises DamagedProfiles where some are no packed profiles of this shape.
        """
        from features import packing  # noqa: PLC0415 - compiled: whoever asks for shapes only need not wait for numba

        self.clear(len(blobs))
        lengths = np.fromiter((-1 if blob is None else len(blob) for blob in blobs), np.int64, len(blobs))
        sizes = np.maximum(lengths, 0)
        ends = np.cumsum(sizes)
        data = np.frombuffer(b"".join([blob for blob in blobs if blob]), np.uint8)
        damaged = np.empty(len(blobs), np.bool_)
        packing.unpack(data, ends - sizes, ends, self.limits, self.rows, damaged)
        damaged |= lengths == 0  # somebody's empty text is no profile, unlike none at all
        if damaged.any():
            raise DamagedProfiles(self.shape, lengths[damaged].tolist(), np.flatnonzero(damaged).tolist())

    def pack(self, rows: npt.NDArray[np.int64]) -> list[bytes]:
        """The blobs of these rows; equal profiles have equal blobs."""
        from features import packing  # noqa: PLC0415 - as above

        data = np.empty(packing.room(rows, self.rows), np.uint8)
        ends = np.empty(len(rows), np.int64)
        packing.pack(data, rows, ends, self.rows)
        packing.seal(data, ends)
        return [data[start:end].tobytes() for start, end in pairwise((0, *ends.tolist()))]
