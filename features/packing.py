"""A profile as bytes: little-endian, times as ages, whole numbers as short as they are, nothing that isn't used.

A varint is an unsigned LEB128: seven bits a byte, the lowest first, no more bytes than it needs.

head       total, age of the first: varints | newest i64 | offset + 1, events, tiles, labels, fraud days, seen: varints
  account  typical f64 | 0, or 1 + age of the place varint, latitude i32, longitude i32 | habits 31 u8
event      the newest first: age, less that of the one before, varint | amount varint | traits u8
  account  id u48 | content u24                                  18 bytes or so
  counterparty  ratio varint | payer u8                          12 bytes or so
tile       age varint | count, sum, max varints | squares f64 | far above, night, below round, ratios, ratio sum: varints
  counterparty  payers 128 bits
label      when the newest was known i64; the newest first: id u64 | but for the newest: age, less that of the one before, varint
           | from the transaction until it was known varint | 1 if a fraud, 2 if another of this transaction was known later u8
                                                                 20 bytes or so
fraud day  day i32 | frauds varint | age of when the last was known varint
                                                                 11 bytes or so
seen       key u32 | age in seconds varint                        7 bytes or so
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from features.catalogue import SECOND
from features.compiling import compiled

_HEAD_MOST, _EVENT_MOST, _TILE_MOST, _SEEN_MOST, _LABEL_MOST, _FRAUD_DAY_MOST = 136, 42, 124, 14, 29, 19
"""No more bytes than this, whatever the numbers."""
_NOWHERE = -(1 << 62)
_FOREVER = (1 << 63) - 1

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


@compiled(inline="always")
def _get(data: Bytes, at: int, width: int) -> Any:  # an uint64
    value = np.uint64(0)
    first = np.uint64(at)  # unsigned: a signed index is checked for being negative, byte by byte
    for k in range(width):
        value |= np.uint64(data[first + np.uint64(k)]) << np.uint64(8 * k)
    return value


@compiled(inline="always")
def _put(data: Bytes, at: int, width: int, value: int) -> int:
    rest = np.uint64(value)
    first = np.uint64(at)
    for k in range(width):
        data[first + np.uint64(k)] = np.uint8((rest >> np.uint64(8 * k)) & np.uint64(0xFF))
    return at + width


@compiled(inline="always")
def _put_varint(data: Bytes, at: int, value: int) -> Any:  # an int64
    rest = np.uint64(value)
    here = np.uint64(at)
    while rest >= np.uint64(0x80):
        data[here] = np.uint8((rest & np.uint64(0x7F)) | np.uint64(0x80))
        rest >>= np.uint64(7)
        here += np.uint64(1)
    data[here] = np.uint8(rest)
    return np.int64(here) + 1


@compiled()
def _bits(value: float) -> Any:  # an uint64
    return np.float64(value).view(np.uint64)


@compiled()
def _float(bits: Any) -> Any:  # a float
    return np.uint64(bits).view(np.float64)


@compiled()
def _get_varint(data: Bytes, at: int, end: int) -> Any:  # two int64
    """The number, and where it ends; -1 where there is none, or one written longer than it needs."""
    value = np.uint64(0)
    shift = np.uint64(0)
    while 0 <= at < end:
        byte = np.uint64(data[np.uint64(at)])
        at += 1
        value |= (byte & np.uint64(0x7F)) << shift
        if byte < np.uint64(0x80):
            if (shift > np.uint64(0) and byte == np.uint64(0)) or (shift == np.uint64(63) and byte > np.uint64(1)):
                return np.int64(0), np.int64(-1)
            return np.int64(value), np.int64(at)
        shift += np.uint64(7)
        if shift > np.uint64(63):
            break
    return np.int64(0), np.int64(-1)


@compiled()
def room(rows: Ints, p: Any) -> int:
    """Bytes that the blobs of these rows need at most."""
    size = 0
    for i in range(len(rows)):
        h = p.head[rows[i]]
        size += (
            _HEAD_MOST
            + p.habits.shape[1]
            + h.events * _EVENT_MOST
            + h.tiles * _TILE_MOST
            + h.labels * _LABEL_MOST
            + h.fraud_days * _FRAUD_DAY_MOST
            + h.seen * _SEEN_MOST
        )
    return size


@compiled()
def pack(data: Bytes, rows: Ints, ends: Ints, p: Any) -> None:  # noqa: PLR0912 - one way through bytes
    """Write the blobs of these rows one after the other; `ends`: where each does."""
    of_account = p.habits.shape[1] > 0
    events = p.events
    at = 0
    for i in range(len(rows)):
        r = rows[i]
        h = p.head[r]
        newest = h.newest
        at = _put_varint(data, at, h.total)
        at = _put_varint(data, at, newest - h.first)
        at = _put(data, at, 8, newest)
        at = _put_varint(data, at, h.offset + 1)
        at = _put_varint(data, at, h.events)
        at = _put_varint(data, at, h.tiles)
        at = _put_varint(data, at, h.labels)
        at = _put_varint(data, at, h.fraud_days)
        at = _put_varint(data, at, h.seen)
        if of_account:
            at = _put(data, at, 8, _bits(h.typical))
            if h.place_time == _NOWHERE:
                at = _put_varint(data, at, 0)
            else:
                at = _put_varint(data, at, newest - h.place_time + 1)
                at = _put(data, at, 4, h.latitude)
                at = _put(data, at, 4, h.longitude)
            for k in range(p.habits.shape[1]):
                data[at + k] = p.habits[r, k]
            at += p.habits.shape[1]
        before = newest
        for j in range(h.begin + h.events - 1, h.begin - 1, -1):
            time = events.time[r, j]
            at = _put_varint(data, at, before - time)
            before = time
            at = _put_varint(data, at, events.amount[r, j])
            if of_account:
                data[at] = events.traits[r, j]
                at = _put(data, at + 1, 6, events.id[r, j])
                at = _put(data, at, 3, events.content[r, j])
            else:
                data[at] = 0
                at = _put_varint(data, at + 1, events.ratio[r, j])
                data[at] = events.payer[r, j]
                at += 1
        for j in range(h.tiles):
            t = p.tiles[r, j]
            at = _put_varint(data, at, newest - t.newest)
            at = _put_varint(data, at, t.count)
            at = _put_varint(data, at, t.sum)
            at = _put_varint(data, at, t.max)
            at = _put(data, at, 8, _bits(t.squares))
            at = _put_varint(data, at, t.far_above)
            at = _put_varint(data, at, t.night)
            at = _put_varint(data, at, t.below_round)
            at = _put_varint(data, at, t.ratios)
            at = _put_varint(data, at, t.ratio_sum)
            if not of_account:
                at = _put(data, at, 8, t.payers_low)
                at = _put(data, at, 8, t.payers_high)
        last = np.int64(0)
        if h.labels > 0:
            last = p.labels[r, h.labels - 1].known
            at = _put(data, at, 8, last)
        before = last
        for j in range(h.labels - 1, -1, -1):
            lab = p.labels[r, j]
            at = _put(data, at, 8, lab.id)
            if j < h.labels - 1:
                at = _put_varint(data, at, before - lab.known)
                before = lab.known
            at = _put_varint(data, at, lab.known - lab.occurred)
            data[at] = (1 if lab.fraud else 0) + (2 if lab.until != _FOREVER else 0)
            at += 1
        for j in range(h.fraud_days):
            d = p.fraud_days[r, j]
            at = _put(data, at, 4, d.day)
            at = _put_varint(data, at, d.frauds)
            at = _put_varint(data, at, last - d.known)
        second = newest // SECOND
        for j in range(h.seen):
            s = p.seen[r, j]
            at = _put(data, at, 4, s.key)
            at = _put_varint(data, at, second - s.last)
        ends[i] = at


@compiled()
def unpack(data: Bytes, starts: Ints, ends: Ints, most: int, p: Any) -> int:
    """Fill the first rows, with at most so many events each; an empty blob leaves its row alone.  -1, or which is no profile."""
    for r in range(len(starts)):
        if ends[r] > starts[r] and _unpack(data, starts[r], ends[r], r, most, p) != ends[r]:
            return r
    return -1


@compiled()
def _unpack(data: Bytes, at: int, end: int, r: int, most: int, p: Any) -> int:  # noqa: PLR0911, PLR0912 - one way through bytes
    """Where the profile ends; -1 where there is none."""
    of_account = p.habits.shape[1] > 0
    h = p.head[r]
    h.total, at = _get_varint(data, at, end)
    age, at = _get_varint(data, at, end)
    if at < 0 or at + 8 > end:
        return -1
    newest = np.int64(_get(data, at, 8))
    h.newest = newest
    h.first = newest - age
    offset, at = _get_varint(data, at + 8, end)
    h.offset = offset - 1
    n_events, at = _get_varint(data, at, end)
    n_tiles, at = _get_varint(data, at, end)
    n_labels, at = _get_varint(data, at, end)
    n_days, at = _get_varint(data, at, end)
    n_seen, at = _get_varint(data, at, end)
    if (
        at < 0
        or not 0 <= n_events <= most
        or not 0 <= n_tiles <= p.tiles.shape[1]
        or not 0 <= n_labels <= p.labels.shape[1]
        or not 0 <= n_days <= p.fraud_days.shape[1]
        or not 0 <= n_seen <= p.seen.shape[1]
    ):
        return -1
    if of_account:
        if at + 8 > end:
            return -1
        h.typical = _float(_get(data, at, 8))
        age, at = _get_varint(data, at + 8, end)
        if at < 0:
            return -1
        if age != 0:
            if at + 8 > end:
                return -1
            h.place_time = newest - (age - 1)
            h.latitude = np.int32(np.int64(_get(data, at, 4)))
            h.longitude = np.int32(np.int64(_get(data, at + 4, 4)))
            at += 8
        if at + p.habits.shape[1] > end:
            return -1
        for k in range(p.habits.shape[1]):
            p.habits[r, k] = data[at + k]
        at += p.habits.shape[1]
    events = p.events
    before = newest
    for j in range(n_events - 1, -1, -1):
        age, at = _get_varint(data, at, end)
        before -= age
        events.time[r, j] = before
        events.amount[r, j], at = _get_varint(data, at, end)
        if at < 0 or at + (10 if of_account else 1) > end:
            return -1
        if of_account:
            events.traits[r, j] = data[at]
            events.id[r, j] = _get(data, at + 1, 6)
            events.content[r, j] = np.uint32(_get(data, at + 7, 3))
            at += 10
        elif data[at] != 0:  # a payment at a counterparty has no traits
            return -1
        else:
            ratio, at = _get_varint(data, at + 1, end)
            if not 0 <= ratio < 1 << 31 or at < 0 or at >= end:
                return -1
            events.ratio[r, j] = ratio
            events.payer[r, j] = data[at]
            at += 1
    for j in range(n_tiles):
        t = p.tiles[r, j]
        age, at = _get_varint(data, at, end)
        t.newest = newest - age
        t.count, at = _get_varint(data, at, end)
        t.sum, at = _get_varint(data, at, end)
        t.max, at = _get_varint(data, at, end)
        if at < 0 or at + 8 > end:
            return -1
        t.squares = _float(_get(data, at, 8))
        t.far_above, at = _get_varint(data, at + 8, end)
        t.night, at = _get_varint(data, at, end)
        t.below_round, at = _get_varint(data, at, end)
        t.ratios, at = _get_varint(data, at, end)
        t.ratio_sum, at = _get_varint(data, at, end)
        t.payers_low = 0
        t.payers_high = 0
        if not of_account:
            if at < 0 or at + 16 > end:
                return -1
            t.payers_low = _get(data, at, 8)
            t.payers_high = _get(data, at + 8, 8)
            at += 16
    last = np.int64(0)
    if n_labels > 0:
        at = _unpack_labels(data, at, end, r, n_labels, p)
        last = p.labels[r, n_labels - 1].known
    for j in range(n_days):
        d = p.fraud_days[r, j]
        if at < 0 or at + 4 > end:
            return -1
        d.day = np.int32(np.int64(_get(data, at, 4)))
        frauds, at = _get_varint(data, at + 4, end)
        if not 0 <= frauds < 1 << 32:
            return -1
        d.frauds = np.uint32(frauds)
        age, at = _get_varint(data, at, end)
        d.known = last - age
    second = newest // SECOND
    for j in range(n_seen):
        s = p.seen[r, j]
        if at < 0 or at + 4 > end:
            return -1
        s.key = np.uint32(_get(data, at, 4))
        age, at = _get_varint(data, at + 4, end)
        s.last = second - age
    h.begin = 0
    h.events = n_events
    h.tiles = n_tiles
    h.labels = n_labels
    h.fraud_days = n_days
    h.seen = n_seen
    return at


@compiled()
def _unpack_labels(data: Bytes, at: int, end: int, r: int, count: int, p: Any) -> int:
    """Where they end; -1 where there are none."""
    ring = p.labels[r]
    if at < 0 or at + 8 > end:
        return -1
    known = np.int64(_get(data, at, 8))
    at += 8
    for j in range(count - 1, -1, -1):
        lab = ring[j]
        if at < 0 or at + 8 > end:
            return -1
        lab.id = _get(data, at, 8)
        at += 8
        if j < count - 1:
            age, at = _get_varint(data, at, end)
            known -= age
        lab.known = known
        delay, at = _get_varint(data, at, end)
        lab.occurred = known - delay
        if at < 0 or at >= end or data[at] > 3:
            return -1
        lab.fraud = np.int64(data[at] & 1)
        lab.until = _FOREVER
        if data[at] & 2:
            k = j + 1
            while k < count and ring[k].id != lab.id:
                k += 1
            if k == count or ring[k].known == _FOREVER:
                return -1
            lab.until = ring[k].known
        at += 1
    return at
