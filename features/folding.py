"""How a profile takes in an event or a label.

A tile's events count as of the time of its newest: what fell off the ring is at most an eighth of its age too young.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from features.catalogue import DAY, FAR, NIGHT_ENDS, PAYER_BUCKETS, SECOND, TYPICAL_OVER
from features.compiling import compiled, move
from features.facts import MOST_RATIO, NO_PLACE, UNNAMED
from features.profile import BELOW_ROUND, FAR_ABOVE, FOREVER, KINDS, NIGHT, NOWHERE

FINEST = 26
"""Tiles are powers of two of microseconds wide, the finest 2**26 (67 s), and at most an eighth of their age."""
MOST = np.int64(1) << np.int64(61)
"""Sums end here."""
COUNTERPARTY, COUNTRY, DEVICE, CATEGORY = (
    KINDS.index(kind) for kind in ("counterparty", "country", "device", "category")
)
"""Kinds of what an account has seen."""
assert KINDS == ("counterparty", "country", "device", "channel", "category"), (
    "fold_transaction takes them in this order"
)


@compiled()
def _add(t: Any, amount: int, traits: int, ratio: int, payer: int) -> None:
    """Let a tile hold one more event."""
    t.count += 1
    t.sum = min(t.sum + amount, MOST)
    t.max = max(t.max, amount)
    t.squares += float(amount) * float(amount)
    t.far_above += (traits & FAR_ABOVE) != 0
    t.night += (traits & NIGHT) != 0
    t.below_round += (traits & BELOW_ROUND) != 0
    t.ratios += ratio > 0
    t.ratio_sum += ratio
    if payer < 64:
        t.payers_low |= np.uint64(1) << np.uint64(payer)
    else:
        t.payers_high |= np.uint64(1) << np.uint64(payer - 64)


@compiled()
def _into_tiles(row: int, time: int, amount: int, traits: int, ratio: int, payer: int, horizon: int, p: Any) -> None:
    """Let an event that fell off the ring into the tile of its time."""
    h = p.head[row]
    tile = p.tiles[row]
    n = h.tiles
    k = n
    while k > 0 and tile[k - 1].newest > time:
        k -= 1
    # The neighbours on either side of `time` may hold it, if it lies in the cell that they cover.
    for near in (k - 1, k):
        if 0 <= near < n and (tile[near].newest >> FINEST) == (time >> FINEST):
            t = tile[near]
            t.newest = max(t.newest, time)
            _add(t, amount, traits, ratio, payer)
            return
    if n == tile.shape[0]:
        # Never met by ages within the horizon (8 tiles an octave); the oldest two give way so that it can't break.
        _merge(tile, 0, 1)
        for j in range(1, n - 1):
            tile[j] = tile[j + 1]
        n -= 1
        k = max(k - 1, 0)
    for j in range(n, k, -1):
        tile[j] = tile[j - 1]
    t = tile[k]
    t.newest = time
    t.count = 0
    t.sum = 0
    t.max = 0
    t.squares = 0.0
    t.far_above = 0
    t.night = 0
    t.below_round = 0
    t.ratios = 0
    t.ratio_sum = 0
    t.payers_low = 0
    t.payers_high = 0
    _add(t, amount, traits, ratio, payer)
    h.tiles = _coarsen(tile, n + 1, h.newest, horizon)


@compiled()
def _merge(tile: Any, into: int, other: int) -> None:
    a, b = tile[into], tile[other]
    a.newest = max(a.newest, b.newest)
    a.count += b.count
    a.sum = min(a.sum + b.sum, MOST)
    a.max = max(a.max, b.max)
    a.squares += b.squares
    a.far_above += b.far_above
    a.night += b.night
    a.below_round += b.below_round
    a.ratios += b.ratios
    a.ratio_sum += b.ratio_sum
    a.payers_low |= b.payers_low
    a.payers_high |= b.payers_high


@compiled()
def _coarsen(tile: Any, n: int, newest: int, horizon: int) -> int:
    """Drop tiles beyond the horizon and merge neighbours that, at their age, fit into one cell.  How many are left."""
    kept = 0
    for j in range(n):
        if newest - tile[j].newest >= horizon:
            continue
        if kept > 0:
            age = newest - tile[j].newest
            level = FINEST
            while (np.int64(1) << np.int64(level + 1)) <= age // 8:
                level += 1
            if (tile[kept - 1].newest >> level) == (tile[j].newest >> level):
                _merge(tile, kept - 1, j)
                continue
        if kept != j:
            tile[kept] = tile[j]
        kept += 1
    return kept


@compiled()
def _fall(row: int, j: int, horizon: int, p: Any) -> None:
    """Let an event of the ring into the tile of its time."""
    ring = p.events
    time, amount = ring.time[row, j], ring.amount[row, j]
    traits: Any = np.int64(0)
    ratio: Any = np.int64(0)
    payer: Any = np.int64(0)
    if ring.traits.shape[1] > 0:
        traits = np.int64(ring.traits[row, j])
    else:
        ratio, payer = np.int64(ring.ratio[row, j]), np.int64(ring.payer[row, j])
    _into_tiles(row, time, amount, traits, ratio, payer, horizon, p)


@compiled()
def _move_events(row: int, to: int, of: int, count: int, p: Any) -> None:
    ring = p.events
    here = row * ring.time.shape[1]
    to, of = here + to, here + of
    move(ring.time, to, of, count)
    move(ring.amount, to, of, count)
    if ring.traits.shape[1] > 0:
        move(ring.id, to, of, count)
        move(ring.content, to, of, count)
        move(ring.traits, to, of, count)
    else:
        move(ring.ratio, to, of, count)
        move(ring.payer, to, of, count)


@compiled(forceinline=True)
def fold_event(
    row: int,
    time: int,
    amount: int,
    ident: int,
    content: int,
    traits: int,
    ratio: int,
    payer: int,
    limits: Any,
    p: Any,
) -> None:
    """Add an event to the ring, in the order of time; what no longer fits goes to the tiles, what is too old is dropped."""
    h = p.head[row]
    ring = p.events
    begin: Any = np.int64(h.begin)
    end: Any = begin + h.events
    if h.total == 0:
        h.first = time
        h.newest = time
    h.total += 1
    h.first = min(h.first, time)
    h.newest = max(h.newest, time)
    newest = h.newest
    if h.tiles > 0 and newest - p.tiles[row, 0].newest >= limits.horizon:
        h.tiles = _coarsen(p.tiles[row], h.tiles, newest, limits.horizon)
    while begin < end and newest - ring.time[row, begin] >= limits.exact:
        if newest - ring.time[row, begin] < limits.horizon:
            _fall(row, begin, limits.horizon, p)
        begin += 1
    h.begin, h.events = begin, end - begin
    if newest - time >= limits.horizon:
        return
    is_full = end - begin == limits.events
    if newest - time >= limits.exact or (is_full and time < ring.time[row, begin]):
        _into_tiles(row, time, amount, traits, ratio, payer, limits.horizon, p)
        return
    if is_full:
        _fall(row, begin, limits.horizon, p)
        begin += 1
    if end == ring.time.shape[1]:
        _move_events(row, 0, begin, end - begin, p)
        end -= begin
        begin = np.int64(0)
    k = end
    while k > begin and ring.time[row, k - 1] > time:
        k -= 1
    if k < end:
        _move_events(row, k + 1, k, end - k, p)
    ring.time[row, k] = time
    ring.amount[row, k] = amount
    if ring.traits.shape[1] > 0:
        ring.id[row, k] = ident
        ring.content[row, k] = content
        ring.traits[row, k] = traits
    else:
        ring.ratio[row, k] = ratio
        ring.payer[row, k] = payer
    h.begin, h.events = begin, end + 1 - begin


@compiled()
def fold_label(row: int, ident: int, occurred: int, known: int, fraud: int, p: Any) -> None:
    """Add a label to the ring, by growing `known`; of a transaction each holds from when it is known until the next one is.

    One that is known when another of its transaction was takes its place: it was told again, or corrected at once.  What
    falls off stays as a fraud of its day if it held when it fell.
    """
    h = p.head[row]
    ring = p.labels[row]
    n = h.labels
    older = -1
    until: Any = np.int64(FOREVER)
    for j in range(n):
        if ring[j].id != ident:
            continue
        if ring[j].known == known:
            ring[j].occurred = occurred
            ring[j].fraud = fraud
            return
        if ring[j].known > known:
            until = ring[j].known
            break
        older = j
    if n == ring.shape[0]:
        if known < ring[0].known:
            if fraud and until == FOREVER:
                _fold_fraud_day(row, occurred, known, p)
            return
        if ring[0].fraud and ring[0].until == FOREVER and older != 0:
            _fold_fraud_day(row, ring[0].occurred, ring[0].known, p)
        for j in range(1, n):
            ring[j - 1] = ring[j]
        n -= 1
        older -= 1
    if older >= 0:
        ring[older].until = known
    k = n
    while k > 0 and ring[k - 1].known > known:
        ring[k] = ring[k - 1]
        k -= 1
    lab = ring[k]
    lab.id = ident
    lab.occurred = occurred
    lab.known = known
    lab.until = until
    lab.fraud = fraud
    h.labels = n + 1


@compiled()
def _fold_fraud_day(row: int, occurred: int, known: int, p: Any) -> None:
    h = p.head[row]
    days = p.fraud_days[row]
    n = h.fraud_days
    day = occurred // DAY
    k = n
    while k > 0 and days[k - 1].day > day:
        k -= 1
    if k > 0 and days[k - 1].day == day:
        days[k - 1].frauds += np.uint32(1)
        days[k - 1].known = max(days[k - 1].known, known)
        return
    if n == days.shape[0]:  # the oldest two become one
        days[1].frauds += days[0].frauds
        days[1].known = max(days[1].known, days[0].known)
        for j in range(1, n):
            days[j - 1] = days[j]
        n -= 1
        k = max(k - 1, 0)
    for j in range(n, k, -1):
        days[j] = days[j - 1]
    days[k].day = day
    days[k].frauds = np.uint32(1)
    days[k].known = known
    h.fraud_days = n + 1


@compiled(forceinline=True)
def fold_seen(row: int, kind: int, name: int, time: int, k: int, limits: Any, p: Any) -> int:
    """Remember when something was seen last; of a kind the one seen longest ago gives way.

    It stands at k or behind; where what comes after it does.
    """
    h = p.head[row]
    seen = p.seen[row]
    key = np.uint32((kind << 24) | name)
    second = time // SECOND
    n = h.seen
    while k < n and seen[k].key < key:
        k += 1
    if k < n and seen[k].key == key:
        seen[k].last = max(seen[k].last, second)
        return k
    count = 0
    oldest = -1
    for j in range(n):
        if (seen[j].key >> 24) == kind:
            count += 1
            if oldest < 0 or seen[j].last < seen[oldest].last:
                oldest = j
    if count == limits.seen[kind]:
        if second < seen[oldest].last:
            return k  # it is the one seen longest ago
        move(seen, oldest, oldest + 1, n - 1 - oldest)
        n -= 1
        if oldest < k:
            k -= 1
    move(seen, k + 1, k, n - k)
    seen[k].key = key
    seen[k].last = second
    h.seen = n + 1
    return k


@compiled(forceinline=True)
def _fold_habit(row: int, begin: int, end: int, at: int, p: Any) -> None:
    if p.habits[row, at] == 255:
        for k in range(begin, end):
            p.habits[row, k] >>= 1
    p.habits[row, at] += 1


@compiled()
def ratio_to_typical(amount: int, typical: float) -> int:
    """In thousandths, at least one; 0 where nothing is typical."""
    if typical <= 0.0:
        return 0
    return int(max(1.0, min(1000.0 * amount / typical, float(MOST_RATIO))))


@compiled(forceinline=True)
def fold_transaction(row: int, t: Any, limits: Any, p: Any) -> int:
    """Take a transaction into its account's profile; its ratio to what was typical."""
    h = p.head[row]
    typical = h.typical
    far_above = typical >= 1.0 and t.amount > FAR * typical
    traits = 0
    if far_above:
        traits |= FAR_ABOVE
    if t.hour <= NIGHT_ENDS:
        traits |= NIGHT
    if t.below_round:
        traits |= BELOW_ROUND
    ratio = ratio_to_typical(t.amount, typical)
    fold_event(row, t.time, t.amount, t.id, t.content, traits, 0, 0, limits, p)
    counted = float(t.amount)
    if typical >= 1.0:
        counted = min(counted, FAR * typical)
    h.typical = typical + (counted - typical) / min(h.total, TYPICAL_OVER)
    _fold_habit(row, 0, 24, t.hour, p)
    _fold_habit(row, 24, 31, 24 + t.weekday, p)
    k: Any = np.int64(0)
    for kind, name in enumerate((t.counterparty, t.country, t.device, t.channel, t.category)):
        if name != UNNAMED:
            k = fold_seen(row, kind, name, t.time, k, limits, p)
    if t.latitude != NO_PLACE and (h.place_time == NOWHERE or t.time >= h.place_time):
        h.place_time = t.time
        h.latitude = t.latitude
        h.longitude = t.longitude
    return ratio


@compiled(forceinline=True)
def fold_payment(row: int, t: Any, limits: Any, p: Any) -> None:
    """Take a payment into its counterparty's profile."""
    fold_event(row, t.time, t.amount, 0, 0, 0, t.ratio, int(t.account % np.uint64(PAYER_BUCKETS)), limits, p)
