"""A profile as bytes: little-endian, times as ages, whole numbers as short as they are, nothing that isn't used.

A varint is an unsigned LEB128: seven bits a byte, the lowest first, no more bytes than it needs.

head       total, age of the first: varints | newest i64 | offset + 1, events, tiles, labels, fraud days, seen: varints
  account  typical f64 | 0, or 1 + age of the place varint, latitude i32, longitude i32 | habits 31 u8
event      the newest first: age, less that of the one before, varint | amount varint | traits u8
  account  id u48 | content u40                                  20 bytes or so
  counterparty  ratio varint | payer u8                          12 bytes or so
tile       age varint | count, sum, max varints | squares f64 | far above, night, below round, ratios, ratio sum: varints
  counterparty  payers 128 bits
label      when the newest was known i64; the newest first: id u64 | but for the newest: age, less that of the one before, varint
           | from the transaction until it was known varint | 1 if a fraud, 2 if another of this transaction was known later u8
                                                                 20 bytes or so
fraud day  day i32 | frauds varint | age of when the last was known varint
                                                                 11 bytes or so
seen       key u32 | age in seconds varint                        7 bytes or so
check      u32: the lower half of the XXH64 of all bytes before it

What stands in a store may be anything.  Bytes whose check is wrong are no profile; those that pass it must also be sound, so
that nothing in them can lead the kernel out of its arrays or into a number that it can't divide by.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from features.catalogue import PAYER_BUCKETS, SECOND
from features.compiling import compiled

CHECK_BYTES = 4
_HEAD_MOST, _EVENT_MOST, _TILE_MOST, _SEEN_MOST, _LABEL_MOST, _FRAUD_DAY_MOST = 136, 44, 124, 14, 29, 19
"""No more bytes than this, whatever the numbers."""
_NOWHERE = -(1 << 62)
_FOREVER = (1 << 63) - 1
_FURTHEST = 1 << 60
"""Microseconds from 1970, either way: no time lies beyond."""
_MOST_EVENTS, _MOST_AMOUNT, _MOST_SUM = 1 << 48, (1 << 47) - 1, 1 << 61
_A_DAY = 86_400 * SECOND
_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(prime)
    for prime in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)
"""XXH64's."""

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


@compiled(inline="always")
def _turned(value: Any, bits: int) -> Any:  # an uint64
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@compiled(inline="always")
def _mixed(lane: Any, word: Any) -> Any:  # an uint64
    return _turned(lane + word * _P2, 31) * _P1


@compiled()
def check_of(data: Bytes, at: int, end: int) -> Any:  # an uint64
    """The XXH64 of these bytes, seed 0."""
    length = np.uint64(end - at)
    if end - at >= 32:
        a, b, c, d = _P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1
        while at + 32 <= end:
            a = _mixed(a, _get(data, at, 8))
            b = _mixed(b, _get(data, at + 8, 8))
            c = _mixed(c, _get(data, at + 16, 8))
            d = _mixed(d, _get(data, at + 24, 8))
            at += 32
        h = _turned(a, 1) + _turned(b, 7) + _turned(c, 12) + _turned(d, 18)
        for lane in (a, b, c, d):
            h = (h ^ _mixed(np.uint64(0), lane)) * _P1 + _P4
    else:
        h = _P5
    h += length
    while at + 8 <= end:
        h = _turned(h ^ _mixed(np.uint64(0), _get(data, at, 8)), 27) * _P1 + _P4
        at += 8
    if at + 4 <= end:
        h = _turned(h ^ (_get(data, at, 4) * _P1), 23) * _P2 + _P3
        at += 4
    while at < end:
        h = _turned(h ^ (_get(data, at, 1) * _P5), 11) * _P1
        at += 1
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> np.uint64(32))


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
            + CHECK_BYTES
        )
    return size


@compiled()
def pack(data: Bytes, rows: Ints, ends: Ints, p: Any) -> None:  # noqa: PLR0912 - one way through bytes
    """Write the blobs of these rows one after the other, not yet sealed; `ends`: where each does."""
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
                at = _put(data, at, 5, events.content[r, j])
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
        at += CHECK_BYTES  # `seal` fills them: here it would double what packing takes
        ends[i] = at


@compiled()
def seal(data: Bytes, ends: Ints) -> None:
    """Put the check behind each of the blobs that `pack` has written."""
    at: Any = np.int64(0)
    for i in range(len(ends)):
        end = ends[i] - CHECK_BYTES
        _put(data, end, CHECK_BYTES, check_of(data, at, end))
        at = ends[i]


@compiled()
def unpack(data: Bytes, starts: Ints, ends: Ints, limits: Any, p: Any, damaged: npt.NDArray[np.bool_]) -> None:
    """Fill the first rows; an empty blob leaves its row alone.  Of each, `damaged`: it is no profile."""
    for r in range(len(starts)):
        damaged[r] = ends[r] > starts[r] and not _unpack_checked(data, starts[r], ends[r], r, limits, p)


@compiled()
def _unpack_checked(data: Bytes, at: int, end: int, r: int, limits: Any, p: Any) -> bool:
    end -= CHECK_BYTES
    if end < at or (check_of(data, at, end) & np.uint64(0xFFFFFFFF)) != _get(data, end, CHECK_BYTES):
        return False
    return _unpack(data, at, end, r, limits.events, p) == end and _is_sound(r, limits, p)


@compiled()
def _is_sound(r: int, limits: Any, p: Any) -> bool:  # noqa: PLR0911, PLR0912 - one bound after the other
    """Whether a profile that was unpacked is one that a fold could have left."""
    h = p.head[r]
    of_account = p.habits.shape[1] > 0
    newest = h.newest
    if not -_FURTHEST <= h.first <= newest <= _FURTHEST or not -1 <= h.offset < _MOST_SUM:
        return False
    if not h.events <= h.total < _MOST_EVENTS:
        return False
    if of_account:
        if not 0.0 <= h.typical <= 2.0 * _MOST_AMOUNT:  # NaN is neither
            return False
        if h.place_time != _NOWHERE and not (
            -_FURTHEST <= h.place_time <= newest and abs(h.latitude) <= 90_000_000 and abs(h.longitude) <= 180_000_000
        ):
            return False
    ring = p.events
    before = np.int64(-_FURTHEST)
    good = True
    for j in range(h.begin, h.begin + h.events):
        time, amount = ring.time[r, j], ring.amount[r, j]
        good &= (before <= time) & (amount >= 0) & (amount <= _MOST_AMOUNT)
        before = time
    if not good or (h.events > 0 and before > newest):
        return False
    if of_account:
        for j in range(h.begin, h.begin + h.events):
            good &= ring.traits[r, j] < 8
    else:
        for j in range(h.begin, h.begin + h.events):
            good &= ring.payer[r, j] < PAYER_BUCKETS
    if not good:
        return False
    for j in range(h.tiles):
        t = p.tiles[r, j]
        if not (-_FURTHEST <= t.newest <= newest and 0 < t.count <= h.total):
            return False
        if not (0 <= t.sum <= _MOST_SUM and 0 <= t.max <= _MOST_AMOUNT and 0.0 <= t.squares < np.inf):
            return False
        if not (0 <= t.far_above <= t.count and 0 <= t.night <= t.count and 0 <= t.below_round <= t.count):
            return False
        if not (0 <= t.ratios <= t.count and t.ratio_sum >= 0):
            return False
    for j in range(h.labels):
        lab = p.labels[r, j]
        if not (-_FURTHEST <= lab.occurred <= _FURTHEST and -_FURTHEST <= lab.known <= _FURTHEST and lab.fraud <= 1):
            return False
    for j in range(h.fraud_days):
        d = p.fraud_days[r, j]
        if abs(np.int64(d.day)) > _FURTHEST // _A_DAY or not -_FURTHEST <= d.known <= _FURTHEST:
            return False
    return _is_seen_sound(r, newest // SECOND, limits, p)


@compiled()
def _is_seen_sound(r: int, second: int, limits: Any, p: Any) -> bool:
    """By growing key, and of no kind more than there may be: there is room for those alone."""
    kind = np.int64(-1)
    count = np.int64(0)
    before = np.int64(-1)
    for j in range(p.head[r].seen):
        s = p.seen[r, j]
        key = np.int64(s.key)
        if key <= before or (key >> 24) >= len(limits.seen) or not -_FURTHEST <= s.last <= second:
            return False
        count = count + 1 if (key >> 24) == kind else np.int64(1)
        kind, before = key >> 24, key
        if count > limits.seen[kind]:
            return False
    return True


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
        if at < 0 or at + (12 if of_account else 1) > end:
            return -1
        if of_account:
            events.traits[r, j] = data[at]
            events.id[r, j] = _get(data, at + 1, 6)
            events.content[r, j] = _get(data, at + 7, 5)
            at += 12
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
