"""A profile as bytes: little-endian, times as ages before the newest event, nothing that isn't used.

head       total u64 | first i64 | newest i64 | offset i64 | events u16 | tiles u16 | labels u16 | fraud days u16
event      age u48 | amount u48 | id u64 | content u32                     24 bytes
tile       age u48 | count u32 | sum u64 | max u48 | squares f64           32 bytes
label      id u64 | occurred i64 | known i64 | fraud u8                    25 bytes
fraud day  day i32 | frauds u32                                             8 bytes
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

HEAD_BYTES, EVENT_BYTES, TILE_BYTES, LABEL_BYTES, FRAUD_DAY_BYTES = 40, 24, 32, 25, 8

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Records = npt.NDArray[Any]


@njit(cache=True, nogil=True, inline="always")
def _get(data: Bytes, at: int, width: int) -> Any:  # an uint64
    value = np.uint64(0)
    first = np.uint64(at)  # unsigned: a signed index is checked for being negative, byte by byte
    for k in range(width):
        value |= np.uint64(data[first + np.uint64(k)]) << np.uint64(8 * k)
    return value


@njit(cache=True, nogil=True, inline="always")
def _put(data: Bytes, at: int, width: int, value: int) -> None:
    rest = np.uint64(value)
    first = np.uint64(at)
    for k in range(width):
        data[first + np.uint64(k)] = np.uint8((rest >> np.uint64(8 * k)) & np.uint64(0xFF))


@njit(cache=True, nogil=True)
def sizes(head: Records, rows: Ints) -> Ints:
    """Bytes of each row's blob."""
    size = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        h = head[rows[i]]
        size[i] = (
            HEAD_BYTES
            + h.events * EVENT_BYTES
            + h.tiles * TILE_BYTES
            + h.labels * LABEL_BYTES
            + h.fraud_days * FRAUD_DAY_BYTES
        )
    return size


@njit(cache=True, nogil=True)
def pack(
    data: Bytes,
    ends: Ints,
    rows: Ints,
    head: Records,
    events: Records,
    tiles: Records,
    labels: Records,
    fraud_days: Records,
) -> None:
    """Write each row's blob so that it ends where `ends` says."""
    scratch = np.empty(1, np.float64)
    bits = scratch.view(np.uint64)
    at = 0
    for i in range(len(rows)):
        r = rows[i]
        h = head[r]
        newest = h.newest
        _put(data, at, 8, h.total)
        _put(data, at + 8, 8, h.first)
        _put(data, at + 16, 8, newest)
        _put(data, at + 24, 8, h.offset)
        _put(data, at + 32, 2, h.events)
        _put(data, at + 34, 2, h.tiles)
        _put(data, at + 36, 2, h.labels)
        _put(data, at + 38, 2, h.fraud_days)
        at += HEAD_BYTES
        for j in range(h.events):
            e = events[r, j]
            _put(data, at, 6, newest - e.time)
            _put(data, at + 6, 6, e.amount)
            _put(data, at + 12, 8, e.id)
            _put(data, at + 20, 4, e.content)
            at += EVENT_BYTES
        for j in range(h.tiles):
            t = tiles[r, j]
            _put(data, at, 6, newest - t.newest)
            _put(data, at + 6, 4, t.count)
            _put(data, at + 10, 8, t.sum)
            _put(data, at + 18, 6, t.max)
            scratch[0] = t.squares
            _put(data, at + 24, 8, bits[0])
            at += TILE_BYTES
        for j in range(h.labels):
            lab = labels[r, j]
            _put(data, at, 8, lab.id)
            _put(data, at + 8, 8, lab.occurred)
            _put(data, at + 16, 8, lab.known)
            _put(data, at + 24, 1, lab.fraud)
            at += LABEL_BYTES
        for j in range(h.fraud_days):
            d = fraud_days[r, j]
            _put(data, at, 4, d.day)
            _put(data, at + 4, 4, d.frauds)
            at += FRAUD_DAY_BYTES
        assert at == ends[i]


@njit(cache=True, nogil=True)
def unpack(
    data: Bytes,
    starts: Ints,
    ends: Ints,
    head: Records,
    events: Records,
    tiles: Records,
    labels: Records,
    fraud_days: Records,
) -> int:
    """Fill the first rows; an empty blob leaves its row alone.  -1, or which blob is no profile."""
    scratch = np.empty(1, np.float64)
    bits = scratch.view(np.uint64)
    for r in range(len(starts)):
        at = starts[r]
        size = ends[r] - at
        if size == 0:
            continue
        if size < HEAD_BYTES:
            return r
        h = head[r]
        newest = np.int64(_get(data, at + 16, 8))
        n_events = np.int64(_get(data, at + 32, 2))
        n_tiles = np.int64(_get(data, at + 34, 2))
        n_labels = np.int64(_get(data, at + 36, 2))
        n_days = np.int64(_get(data, at + 38, 2))
        if (
            n_events > events.shape[1]
            or n_tiles > tiles.shape[1]
            or n_labels > labels.shape[1]
            or n_days > fraud_days.shape[1]
        ):
            return r
        if (
            size
            != HEAD_BYTES
            + n_events * EVENT_BYTES
            + n_tiles * TILE_BYTES
            + n_labels * LABEL_BYTES
            + n_days * FRAUD_DAY_BYTES
        ):
            return r
        h.total = np.int64(_get(data, at, 8))
        h.first = np.int64(_get(data, at + 8, 8))
        h.newest = newest
        h.offset = np.int64(_get(data, at + 24, 8))
        h.events = n_events
        h.tiles = n_tiles
        h.labels = n_labels
        h.fraud_days = n_days
        at += HEAD_BYTES
        for j in range(n_events):
            e = events[r, j]
            e.time = newest - np.int64(_get(data, at, 6))
            e.amount = np.int64(_get(data, at + 6, 6))
            e.id = _get(data, at + 12, 8)
            e.content = np.uint32(_get(data, at + 20, 4))
            at += EVENT_BYTES
        for j in range(n_tiles):
            t = tiles[r, j]
            t.newest = newest - np.int64(_get(data, at, 6))
            t.count = np.int64(_get(data, at + 6, 4))
            t.sum = np.int64(_get(data, at + 10, 8))
            t.max = np.int64(_get(data, at + 18, 6))
            bits[0] = _get(data, at + 24, 8)
            t.squares = scratch[0]
            at += TILE_BYTES
        for j in range(n_labels):
            lab = labels[r, j]
            lab.id = _get(data, at, 8)
            lab.occurred = np.int64(_get(data, at + 8, 8))
            lab.known = np.int64(_get(data, at + 16, 8))
            lab.fraud = np.int64(_get(data, at + 24, 1))
            at += LABEL_BYTES
        for j in range(n_days):
            d = fraud_days[r, j]
            d.day = np.int32(np.int64(_get(data, at, 4)))
            d.frauds = np.uint32(_get(data, at + 4, 4))
            at += FRAUD_DAY_BYTES
    return -1
