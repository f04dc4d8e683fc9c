"""What is kept of an account or a counterparty: a ring of its last events, tiles for what fell off it, its labels.

In memory profiles lie side by side in arrays, one row each, as the kernel works on them; in Redis each is one packed
blob.  A profile is a function of the events and of the labels folded, each in the order of its topic, and of nothing
else: not of how the two interleaved, nor of where batches began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from features import packing
from features.catalogue import DAY, MATURITY

HEAD = np.dtype(
    [
        ("total", "<i8"),  # events ever folded
        ("first", "<i8"),  # time of the earliest
        ("newest", "<i8"),  # time of the latest
        ("offset", "<i8"),  # last offset folded of the topic its events come from; -1: none
        ("events", "<i4"),
        ("tiles", "<i4"),
        ("labels", "<i4"),
        ("fraud_days", "<i4"),
    ]
)
EVENT = np.dtype(
    [
        ("time", "<i8"),
        ("amount", "<i8"),
        ("id", "<u8"),  # hash of the transaction_id; in a counterparty's profile, of the account_id
        ("content", "<u4"),  # hash of the whole transaction
    ],
    align=True,
)
TILE = np.dtype([("newest", "<i8"), ("count", "<i8"), ("sum", "<i8"), ("max", "<i8"), ("squares", "<f8")])
LABEL = np.dtype([("id", "<u8"), ("occurred", "<i8"), ("known", "<i8"), ("fraud", "<i8")])
FRAUD_DAY = np.dtype([("day", "<i4"), ("frauds", "<u4")])


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How much of a kind is kept.  Part of the profile format: another shape is another epoch."""

    events: int
    """The ring: this many events exactly."""
    labels: int
    horizon: int
    """Events this much older than the newest are in no window any more, and are dropped (microseconds)."""
    tiles: int = 128
    fraud_days: int = 64


LATENESS = DAY
"""Kept beyond the longest window, so that a transaction up to this late still has exact windows."""
ACCOUNT = Shape(events=192, labels=32, horizon=30 * DAY + LATENESS)
COUNTERPARTY = Shape(events=512, labels=128, horizon=MATURITY + 30 * DAY + LATENESS)


@dataclass(frozen=True)
class Profiles:
    """Profiles of one kind, one row each."""

    shape: Shape
    head: npt.NDArray[np.void]
    events: npt.NDArray[np.void]
    tiles: npt.NDArray[np.void]
    labels: npt.NDArray[np.void]
    fraud_days: npt.NDArray[np.void]

    def __len__(self) -> int:
        return len(self.head)

    @classmethod
    def room_for(cls, count: int, shape: Shape) -> Profiles:
        """`count` empty profiles.  Only the heads are written: the rest is memory nobody has touched yet."""
        head = np.zeros(count, HEAD)
        head["offset"] = -1
        return cls(
            shape,
            head,
            np.empty((count, shape.events), EVENT),
            np.empty((count, shape.tiles), TILE),
            np.empty((count, shape.labels), LABEL),
            np.empty((count, shape.fraud_days), FRAUD_DAY),
        )

    def clear(self, count: int) -> None:
        """Make the first `count` empty again."""
        self.head[:count] = 0
        self.head["offset"][:count] = -1

    def unpack(self, blobs: Sequence[bytes | None]) -> None:
        """Let the first rows hold what `blobs` say; None is a profile never seen.

        Raises ValueError where one is no packed profile of this shape.
        """
        self.clear(len(blobs))
        lengths = np.fromiter((len(blob) if blob else 0 for blob in blobs), np.int64, len(blobs))
        ends = np.cumsum(lengths)
        data = np.frombuffer(b"".join([blob for blob in blobs if blob]), np.uint8)
        bad = packing.unpack(
            data, ends - lengths, ends, self.head, self.events, self.tiles, self.labels, self.fraud_days
        )
        if bad >= 0:
            raise ValueError(f"blob {bad} of {lengths[bad]} bytes is no profile of {self.shape}")

    def pack(self, rows: npt.NDArray[np.int64]) -> list[bytes]:
        """The blobs of these rows; equal profiles have equal blobs."""
        ends = np.cumsum(packing.sizes(self.head, rows))
        data = np.empty(ends[-1] if len(ends) else 0, np.uint8)
        packing.pack(data, ends, rows, self.head, self.events, self.tiles, self.labels, self.fraud_days)
        whole = data.tobytes()
        starts = [0, *ends[:-1].tolist()] if len(ends) else []
        return [whole[start:end] for start, end in zip(starts, ends.tolist(), strict=True)]
