"""Turns transactions and profiles into vectors and new profiles: the one description that serving and training share.

Compiled by numba, called once a batch.  Two walks, because an account and a counterparty meet their events on different
topics:

* `walk_accounts` takes a batch's labels and transactions, in order, through the accounts' profiles;
* `walk_counterparties` takes payments, labels and questions ("what is known of you at this moment?") through theirs.

Every window is a sum of cells of age, a matured one a difference of two.  Where a cell begins is searched in the ring, whose
columns are summed from one end to the next as far as the longest window reaches; tiles follow.  Nothing is kept running
between transactions, so there is nothing that could drift, and an event that comes late is counted by the same lines as any
other.

There is no call of the machine's own mathematics but the square root: sine and the like differ from one to the next.
"""

from __future__ import annotations

from math import factorial, log
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from features.catalogue import (
    BURST,
    DAY,
    FAR_WINDOWS,
    FEATURES,
    MATURED_WINDOWS,
    MATURITY,
    NIGHT_ENDS,
    PAYER_BUCKETS,
    REACH,
    SECOND,
    SETTLING,
    WINDOWS,
    column,
)
from features.compiling import compiled
from features.facts import LABEL_STEP, NO_PLACE, PAYMENT_STEP, UNNAMED
from features.folding import CATEGORY, COUNTERPARTY, COUNTRY, DEVICE, MOST, fold_label, fold_payment, fold_transaction
from features.profile import BELOW_ROUND, FAR_ABOVE, KINDS, NIGHT, NOWHERE

TRANSACTION, LABEL = 0, 1
"""Steps of `walk_accounts`."""
PAYMENT, PAYMENT_LABEL, QUESTION = PAYMENT_STEP, LABEL_STEP, 2
"""Steps of `walk_counterparties`."""

NEW, DUPLICATE, ID_REUSED = 0, 1, 2
"""What became of a transaction."""
UNTOLD = -1
"""Instead of a row: fold this step, describe nothing."""

EDGES = tuple(
    sorted(
        {BURST}
        | {span for _, span, _ in WINDOWS + FAR_WINDOWS}
        | {MATURITY}
        | {MATURITY + span for _, span, _ in MATURED_WINDOWS}
    )
)
"""Cell c holds ages in [EDGES[c - 1], EDGES[c]), the first from 0 on."""
_CELLS = len(EDGES)
_EDGES = np.array(EDGES)
_EXACT = 2.0**52
"""Whole numbers that stay below it are added without rounding, in any order."""


def _cells(span: int) -> int:
    """How many cells a window of this width is made of."""
    return EDGES.index(span) + 1


_SPANS = tuple(_cells(span) for _, span, _ in WINDOWS)
_MATURITY = _cells(MATURITY)
_MATURED = tuple(_cells(MATURITY + span) for _, span, _ in MATURED_WINDOWS)
_FAR_SPANS = tuple(_cells(span) for _, span, _ in FAR_WINDOWS)
_BURST, _WEEK, _MONTH = _cells(BURST), _cells(7 * DAY), _cells(30 * DAY)
_ACCOUNT_ENDS = tuple(sorted({_BURST, *_SPANS, *_FAR_SPANS}))
_COUNTERPARTY_ENDS = _SPANS
"""Where windows end of which more is asked than the count: what lies between two is summed up at once."""

_AMOUNT, _HOUR, _WEEKDAY, _NIGHT = column("amount"), column("hour"), column("weekday"), column("night")
_BELOW_ROUND = column("amount_below_round")
_ACCOUNT_SUMS, _COUNTERPARTY_SUMS = column("account_count_1h"), column("counterparty_count_1h")
_ACCOUNT_FRAUDS, _COUNTERPARTY_FRAUDS = column("account_matured_count_1d"), column("counterparty_matured_count_1d")
_BURST_COUNT, _BURST_SUM = column("account_count_10m"), column("account_sum_10m")
_SINCE_LAST, _SINCE_FIRST = column("account_since_last"), column("account_since_first")
_TO_MEAN, _DEVIATION = column("amount_to_account_mean_30d"), column("amount_deviation_30d")
_TYPICAL, _TO_TYPICAL = column("account_typical"), column("amount_to_account_typical")
_FAR_ABOVE = column("account_far_above_7d")
_BELOW_ROUND_WEEK, _NIGHT_SHARE = column("account_below_round_7d"), column("account_night_share_30d")
_HOUR_USUAL, _WEEKDAY_USUAL = column("hour_usual"), column("weekday_usual")
_SINCE_COUNTERPARTY, _SPEED = column("account_since_counterparty"), column("account_speed")
_AT_SINCE_LAST, _AT_SINCE_FIRST = column("counterparty_since_last"), column("counterparty_since_first")
_TO_COUNTERPARTY_MEAN = column("amount_to_counterparty_mean_30d")
_PAYERS = column("counterparty_accounts_24h")

_IN_DAY, _IN_WEEK, _IN_MONTH = (span // SECOND for _, span, _ in WINDOWS[1:])
_DAY_COLUMN, _WEEK_COLUMN, _MONTH_COLUMN = (
    np.array(
        [
            FEATURES.index(name) if (name := f"account_{many}_{window}") in FEATURES else -1
            for many in ("counterparties", "countries", "devices", "channels", "categories")
        ]
    )
    for window, _, _ in WINDOWS[1:]
)
"""By kind, the column that counts different ones in this window; -1: none does."""
_NAMED = np.array([FEATURES.index(name) if (name := f"{kind}_is_new") in FEATURES else -1 for kind in KINDS])
"""By kind, the column that says whether this one is new; -1: none does."""
_DIFFERENT = np.array(
    [round(PAYER_BUCKETS * log(PAYER_BUCKETS / max(PAYER_BUCKETS - k, 0.5)), 3) for k in range(PAYER_BUCKETS + 1)]
)
"""Accounts that fill so many buckets, on average (linear counting); rounded, so that it is the same everywhere."""

_EARTH = 6371.0088
"""Kilometres: its mean radius."""
_SINE = np.array([(-1.0) ** k / factorial(2 * k + 1) for k in range(14)])
_ARC = (
    1.5707963050,
    -0.2145988016,
    0.0889789874,
    -0.0501743046,
    0.0308918810,
    -0.0170881256,
    0.0066700901,
    -0.0012624911,
)
"""arccos(x) = sqrt(1 - x) * polynomial, to 2e-8 (Abramowitz and Stegun, 4.4.46)."""
_RADIANS = 3.141592653589793 / 180e6

Vectors = npt.NDArray[np.float32]
Facts = npt.NDArray[np.void]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.int8]
Bits = npt.NDArray[np.uint64]


@compiled()
def _sine(x: float) -> Any:  # a float
    """Of an angle in [-pi, pi]."""
    square = x * x
    total = 0.0
    for k in range(len(_SINE) - 1, -1, -1):
        total = total * square + _SINE[k]
    return total * x


@compiled()
def kilometres(latitude: int, longitude: int, other_latitude: int, other_longitude: int) -> Any:  # a float
    """Between two places, in millionths of a degree, along the surface: to a metre or a millionth."""
    half_pi = 1.5707963267948966
    up = _sine((other_latitude - latitude) * _RADIANS / 2.0)
    along = _sine((other_longitude - longitude) * _RADIANS / 2.0)
    shrunk = _sine(half_pi - latitude * _RADIANS) * _sine(half_pi - other_latitude * _RADIANS)
    x = np.sqrt(min(1.0, up * up + shrunk * along * along))
    if x < 0.1:  # the polynomial below is good to a metre, which is much for neighbours
        square = x * x
        return (
            2.0 * _EARTH * x * (1.0 + square * (1 / 6 + square * (3 / 40 + square * (15 / 336 + square * 105 / 3456))))
        )
    arc = 0.0
    for k in range(len(_ARC) - 1, -1, -1):
        arc = arc * x + _ARC[k]
    return 2.0 * _EARTH * (half_pi - np.sqrt(1.0 - x) * arc)


class Cells(NamedTuple):
    """What is summed up for one description, by cells of age; written anew for each."""

    begins: Ints
    """Where those of the ring begin."""
    counts: Ints
    total: Ints
    most: Ints
    squares: npt.NDArray[np.float64]
    far_above: Ints
    """Of an account."""
    ratios: Ints
    """Of a counterparty, as the two below."""
    ratio_sum: Ints
    payers_low: Bits
    """The buckets of accounts that paid, a bit each: 0 to 63."""
    payers_high: Bits
    """64 to 127."""
    frauds: Ints

    @classmethod
    def room(cls) -> Cells:
        """For a walk; what it holds doesn't matter."""
        return cls(
            begins=np.zeros(_CELLS, np.int64),
            counts=np.zeros(_CELLS, np.int64),
            total=np.zeros(_CELLS, np.int64),
            most=np.zeros(_CELLS, np.int64),
            squares=np.zeros(_CELLS, np.float64),
            far_above=np.zeros(_CELLS, np.int64),
            ratios=np.zeros(_CELLS, np.int64),
            ratio_sum=np.zeros(_CELLS, np.int64),
            payers_low=np.zeros(_CELLS, np.uint64),
            payers_high=np.zeros(_CELLS, np.uint64),
            frauds=np.zeros(_CELLS + 1, np.int64),
        )


@compiled(forceinline=True)
def _write_sums(at: int, cells: Any, vector: Any) -> None:
    """Of cumulated cells: count, sum, mean, maximum and spread by window."""
    for w in range(len(_SPANS)):
        c = _SPANS[w] - 1
        n, s = cells.counts[c], cells.total[c]
        here = at + 5 * w
        vector[here] = n
        vector[here + 1] = s
        vector[here + 2] = s / n if n > 0 else np.nan
        vector[here + 3] = cells.most[c] if n > 0 else np.nan
        vector[here + 4] = _spread(n, s, cells.squares[c])


@compiled()
def _spread(n: int, s: int, squares: float) -> Any:  # a float
    """The standard deviation of n numbers; 0 where it is what rounding leaves of equal ones."""
    if n == 0:
        return np.nan
    mean = s / n
    variance = squares / n - mean * mean
    return np.sqrt(variance) if variance > 1e-9 * mean * mean else 0.0


@compiled(forceinline=True)
def _cumulate(cells: Any) -> None:
    for c in range(1, _CELLS):
        cells.counts[c] += cells.counts[c - 1]
        cells.total[c] = min(cells.total[c] + cells.total[c - 1], MOST)
        cells.most[c] = max(cells.most[c], cells.most[c - 1])
        cells.squares[c] += cells.squares[c - 1]


@compiled()
def _cell(age: Any) -> int:
    c = 0
    while c < _CELLS and age >= _EDGES[c]:
        c += 1
    return c


@compiled(forceinline=True)
def _write_frauds(at: int, row: int, time: int, cells: Any, p: Any, vector: Any) -> None:
    """Matured counts, frauds and rates by window, of cumulated counts; known frauds, the time since the last and the first."""
    h = p.head[row]
    count, frauds = cells.counts, cells.frauds
    frauds[:] = 0
    known = np.int64(0)
    last: Any = np.int64(-1)
    first: Any = np.int64(-1)
    for j in range(h.labels):
        label = p.labels[row, j]
        if label.known > time:
            break
        if label.fraud and label.until > time:
            known += 1
            age: Any = max(time - label.occurred, 0)
            last = age if last < 0 else min(last, age)
            first = max(first, age) if age < REACH else first
            frauds[_cell(age)] += 1
    for j in range(h.fraud_days):
        day = p.fraud_days[row, j]
        if day.known > time:
            continue
        known += day.frauds
        age = max(time - (np.int64(day.day) + 1) * DAY, 0)
        last = age if last < 0 else min(last, age)
        first = max(first, age) if age < REACH else first
        frauds[_cell(age)] += day.frauds
    for c in range(1, _CELLS):
        frauds[c] += frauds[c - 1]
    for w in range(len(_MATURED)):
        n = count[_MATURED[w] - 1] - count[_MATURITY - 1]
        f = frauds[_MATURED[w] - 1] - frauds[_MATURITY - 1]
        here = at + 3 * w
        vector[here] = n
        vector[here + 1] = f
        vector[here + 2] = f / n if n > 0 else np.nan
    here = at + 3 * len(_MATURED)
    vector[here] = known
    vector[here + 1] = last / SECOND if last >= 0 else np.nan
    vector[here + 2] = first / SECOND if first >= 0 else np.nan


@compiled(forceinline=True)
def _settled(times: Ints, row: int, begin: int, end: int, moment: int) -> Any:  # an int64
    """Where those of a row, in order, end that are not after a moment; most often all but the last few are not."""
    while end > begin and times[row, end - 1] > moment:
        end -= 1
    return end


@compiled(forceinline=True)
def _first_after(times: Ints, row: int, begin: int, end: int, moment: int) -> Any:  # an int64
    """The same, wherever it may be."""
    left = end - begin
    while left > 0:
        half = left >> 1
        if times[row, np.uint64(begin + half)] > moment:
            left = half
        else:
            begin += half + 1
            left -= half + 1
    return begin


@compiled(forceinline=True)
def _count(times: Ints, row: int, first: int, end: int, time: int, cells: Any) -> None:
    """How many of a row each cell holds, and where they begin."""
    for c in range(_CELLS):
        begin: Any = first
        if end > first:
            begin = _first_after(times, row, first, end, time - _EDGES[c])
        cells.begins[c] = begin
        cells.counts[c] = end - begin
        end = begin


@compiled(forceinline=True)
def _sum_amounts(amounts: Ints, row: int, begin: int, end: int) -> Any:  # two int64, a float
    """The sum, the largest, and the sum of squares; at least _EXACT instead of one that floats might round."""
    total = most = squares = np.int64(0)
    for j in range(np.uint64(begin), np.uint64(end)):
        amount = amounts[row, j]
        total += amount
        most = max(most, amount)
        squares += amount * amount
    limit = float(end - begin) * float(most) * float(most)
    return min(total, MOST), most, float(squares) if limit < _EXACT else limit


@compiled()
def _sum_rounded(amounts: Ints, tiles: Any, end: int, time: int, youngest: int, cells: Any) -> None:
    """The sums of squares where floats round: of each cell from the last to the first, then of tiles, cumulated."""
    squares = cells.squares
    squares[:] = 0.0
    for c in range(_CELLS):
        for j in range(end - 1, cells.begins[c] - 1, -1):
            squares[c] += float(amounts[j]) * float(amounts[j])
        end = cells.begins[c]
    for j in range(len(tiles) - 1, -1, -1):
        age = time - tiles[j].newest
        c = _cell(age)
        if age >= youngest and c < _CELLS:
            squares[c] += tiles[j].squares
    for c in range(1, _CELLS):
        squares[c] += squares[c - 1]


@compiled(forceinline=True)
def _describe_account(row: int, t: Any, p: Any, cells: Any, vector: Any) -> None:
    h = p.head[row]
    time, amount = t.time, t.amount
    for sums in (cells.total, cells.most, cells.far_above):
        sums[:] = 0
    cells.squares[:] = 0.0
    night = np.int64(0)
    below_round = np.int64(0)
    ring = p.events
    first: Any = np.int64(h.begin)
    end = _settled(ring.time, row, first, first + h.events, time)
    last = time - ring.time[row, end - 1] if end > first else np.int64(-1)
    _count(ring.time, row, first, end, time, cells)
    until = end
    for w in range(len(_ACCOUNT_ENDS)):
        c = _ACCOUNT_ENDS[w] - 1
        begin = cells.begins[c]
        if begin == until:
            continue
        cells.total[c], cells.most[c], cells.squares[c] = _sum_amounts(ring.amount, row, begin, until)
        far = dark = near = np.int64(0)
        for j in range(np.uint64(begin), np.uint64(until)):
            traits = np.int64(ring.traits[row, j])
            far += traits & FAR_ABOVE
            dark += (traits & NIGHT) // NIGHT
            near += (traits & BELOW_ROUND) // BELOW_ROUND
        cells.far_above[c] = far
        night += dark
        below_round += near if c < _WEEK else 0
        until = begin
    for j in range(h.tiles - 1, -1, -1):
        tile = p.tiles[row, j]
        age = time - tile.newest
        if age < 0:
            continue
        if last < 0 or age < last:
            last = age
        c = _cell(age)
        if c < _CELLS:
            cells.counts[c] += tile.count
            cells.total[c] = min(cells.total[c] + tile.sum, MOST)
            cells.most[c] = max(cells.most[c], tile.max)
            cells.squares[c] += tile.squares
            cells.far_above[c] += tile.far_above
            night += tile.night if c < _MONTH else 0
            below_round += tile.below_round if c < _WEEK else 0
    _cumulate(cells)
    if cells.squares[_MONTH - 1] >= _EXACT:
        _sum_rounded(ring.amount[row], p.tiles[row, : h.tiles], end, time, 0, cells)
    _write_sums(_ACCOUNT_SUMS, cells, vector)
    vector[_BURST_COUNT] = cells.counts[_BURST - 1]
    vector[_BURST_SUM] = cells.total[_BURST - 1]
    vector[_SINCE_LAST] = last / SECOND if last >= 0 else np.nan
    vector[_SINCE_FIRST] = max(time - h.first, 0) / SECOND if h.total > 0 else np.nan
    n, s = cells.counts[_MONTH - 1], cells.total[_MONTH - 1]
    vector[_TO_MEAN] = np.nan
    vector[_DEVIATION] = np.nan
    if n > 0 and s > 0:
        mean = s / n
        vector[_TO_MEAN] = amount / mean
        spread = _spread(n, s, cells.squares[_MONTH - 1])
        if spread > 0.0:
            vector[_DEVIATION] = (amount - mean) / spread
    vector[_TYPICAL] = h.typical if h.total > 0 else np.nan
    vector[_TO_TYPICAL] = amount / h.typical if h.typical > 0.0 else np.nan
    far = np.int64(0)
    c = 0
    for w in range(len(_FAR_SPANS)):
        while c < _FAR_SPANS[w]:
            far += cells.far_above[c]
            c += 1
        vector[_FAR_ABOVE + w] = far
    vector[_BELOW_ROUND_WEEK] = below_round
    vector[_NIGHT_SHARE] = night / n if n > 0 else np.nan
    _write_habits(row, t.hour, t.weekday, p, vector)
    _write_seen(row, t, p, vector)
    vector[_SPEED] = np.nan
    if t.latitude != NO_PLACE and h.place_time != NOWHERE:
        hours = max(abs(time - h.place_time) / SECOND, 60.0) / 3600.0
        vector[_SPEED] = kilometres(h.latitude, h.longitude, t.latitude, t.longitude) / hours
    _write_frauds(_ACCOUNT_FRAUDS, row, time, cells, p, vector)


@compiled(forceinline=True)
def _write_habits(row: int, hour: int, weekday: int, p: Any, vector: Any) -> None:
    hours = np.int64(0)
    for k in range(24):
        hours += p.habits[row, k]
    near = (
        np.int64(p.habits[row, (hour + 23) % 24])
        + np.int64(p.habits[row, hour])
        + np.int64(p.habits[row, (hour + 1) % 24])
    )
    vector[_HOUR_USUAL] = near / hours if hours > 0 else np.nan
    days = np.int64(0)
    for k in range(24, 31):
        days += p.habits[row, k]
    vector[_WEEKDAY_USUAL] = np.int64(p.habits[row, 24 + weekday]) / days if days > 0 else np.nan


@compiled(forceinline=True)
def _write_seen(row: int, t: Any, p: Any, vector: Any) -> None:
    """How many different ones were seen, and whether these were before."""
    second = t.time // SECOND
    n = p.head[row].seen
    j = 0
    for kind in range(len(KINDS)):  # they stand together
        within_day = within_week = within_month = np.int64(0)
        named = _NAMED[kind]
        name = np.uint32(UNNAMED)
        if kind == COUNTERPARTY:
            name = t.counterparty
        elif kind == COUNTRY:
            name = t.country
        elif kind == DEVICE:
            name = t.device
        elif kind == CATEGORY:
            name = t.category
        end = np.uint32((kind + 1) << 24)
        key = np.uint32((kind << 24) | (name & 0xFFFFFF))
        since = np.int64(-1)
        while j < n:
            s = p.seen[row, j]
            if s.key >= end:
                break
            age = max(second - s.last, 0)
            within_day += age < _IN_DAY
            within_week += age < _IN_WEEK
            within_month += age < _IN_MONTH
            if s.key == key:
                since = age
            j += 1
        if _DAY_COLUMN[kind] >= 0:
            vector[_DAY_COLUMN[kind]] = within_day
        if _WEEK_COLUMN[kind] >= 0:
            vector[_WEEK_COLUMN[kind]] = within_week
        if _MONTH_COLUMN[kind] >= 0:
            vector[_MONTH_COLUMN[kind]] = within_month
        if named >= 0:
            vector[named] = np.nan if name == UNNAMED else 1.0 if since < 0 else 0.0
        if kind == COUNTERPARTY:
            vector[_SINCE_COUNTERPARTY] = since if since >= 0 and name != UNNAMED else np.nan


@compiled(forceinline=True)
def _place_of(ident: Any, idents: Any, row: int, begin: int, end: int) -> Any:  # an int64
    """The first of a row that is this one; -1: none is."""
    found = False
    for j in range(np.uint64(begin), np.uint64(end)):  # without a way out it takes several at once
        found |= idents[row, j] == ident
    if found:
        for j in range(begin, end):
            if idents[row, j] == ident:
                return np.int64(j)
    return np.int64(-1)


@compiled()
def walk_accounts(
    step: Flags,
    row: Ints,
    which: Ints,
    told: Ints,
    transactions: Facts,
    labels: Facts,
    limits: Any,
    p: Any,
    cells: Any,
    vectors: Vectors,
    status: Flags,
    late: Flags,
    ratio: npt.NDArray[np.int32],
) -> None:
    """Take labels and transactions through their accounts' profiles, in order.

    Of n steps: `row` the profile; `which` the row of `transactions` or `labels` (features.facts); `told` the row of
    `vectors` [m, features] that a transaction's description goes to, or UNTOLD.  Fills the account's columns, and of each
    transaction, by its row, `status`, `late` and its `ratio` to what was typical of the account.  `cells`: room (Cells).
    """
    for i in range(len(step)):
        r = row[i]
        w = which[i]
        if step[i] == LABEL:
            lab = labels[w]
            fold_label(r, lab.id, lab.occurred, lab.known, lab.fraud, p)
            continue
        t = transactions[w]
        h = p.head[r]
        h.offset = t.offset
        status[w] = NEW
        late[w] = 0
        ratio[w] = 0
        again = _place_of(t.id, p.events.id, r, h.begin, h.begin + h.events)
        if again >= 0:
            status[w] = DUPLICATE if p.events.content[r, again] == t.content else ID_REUSED
        if status[w] != NEW:
            continue
        late[w] = h.events > 0 and t.time < p.events.time[r, h.begin]
        if told[i] != UNTOLD:
            _describe_account(r, t, p, cells, vectors[told[i]])
        ratio[w] = fold_transaction(r, t, limits, p)


@compiled()
def _set(bits: Any) -> Any:  # an int64
    """How many bits are."""
    bits -= (bits >> np.uint64(1)) & np.uint64(0x5555555555555555)
    bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((bits * np.uint64(0x0101010101010101)) >> np.uint64(56))


@compiled(forceinline=True)
def _describe_counterparty(row: int, t: Any, p: Any, cells: Any, vector: Any) -> None:
    h = p.head[row]
    time = t.time
    for sums in (cells.total, cells.most, cells.ratios, cells.ratio_sum):
        sums[:] = 0
    cells.squares[:] = 0.0
    cells.payers_low[:] = 0
    cells.payers_high[:] = 0
    ring = p.events
    first: Any = np.int64(h.begin)
    end = _settled(ring.time, row, first, first + h.events, time - SETTLING)
    last = time - ring.time[row, end - 1] if end > first else np.int64(-1)
    if last >= REACH:
        last = np.int64(-1)
    _count(ring.time, row, first, end, time, cells)
    until = end
    for w in range(len(_COUNTERPARTY_ENDS)):
        c = _COUNTERPARTY_ENDS[w] - 1
        begin = cells.begins[c]
        if begin == until:
            continue
        cells.total[c], cells.most[c], cells.squares[c] = _sum_amounts(ring.amount, row, begin, until)
        ratios = ratio_sum = np.int64(0)
        low = high = np.uint64(0)
        for j in range(np.uint64(begin), np.uint64(until)):
            ratio = ring.ratio[row, j]
            ratios += ratio > 0
            ratio_sum += ratio
            payer = np.uint64(ring.payer[row, j])
            bit = np.uint64(1) << (payer & np.uint64(63))
            is_high = np.uint64(0) - ((payer >> np.uint64(6)) & np.uint64(1))
            high |= bit & is_high
            low |= bit & ~is_high
        cells.ratios[c], cells.ratio_sum[c] = ratios, ratio_sum
        cells.payers_low[c], cells.payers_high[c] = low, high
        until = begin
    for j in range(h.tiles - 1, -1, -1):
        tile = p.tiles[row, j]
        age = time - tile.newest
        if age < SETTLING:
            continue
        c = _cell(age)
        if c < _CELLS:
            if last < 0 or age < last:
                last = age
            cells.counts[c] += tile.count
            cells.total[c] = min(cells.total[c] + tile.sum, MOST)
            cells.most[c] = max(cells.most[c], tile.max)
            cells.squares[c] += tile.squares
            cells.ratios[c] += tile.ratios
            cells.ratio_sum[c] += tile.ratio_sum
            cells.payers_low[c] |= tile.payers_low
            cells.payers_high[c] |= tile.payers_high
    _cumulate(cells)
    if cells.squares[_MONTH - 1] >= _EXACT:
        _sum_rounded(ring.amount[row], p.tiles[row, : h.tiles], end, time, SETTLING, cells)
    _write_sums(_COUNTERPARTY_SUMS, cells, vector)
    vector[_AT_SINCE_LAST] = last / SECOND if last >= 0 else np.nan
    vector[_AT_SINCE_FIRST] = (time - h.first) / SECOND if h.total > 0 and time - h.first >= SETTLING else np.nan
    n, s = cells.counts[_MONTH - 1], cells.total[_MONTH - 1]
    vector[_TO_COUNTERPARTY_MEAN] = t.amount / (s / n) if s > 0 else np.nan
    with_ratio = np.int64(0)
    of_ratios = np.int64(0)
    low = high = np.uint64(0)
    c = 0
    for w in range(len(_SPANS) - 1):
        while c < _SPANS[w + 1]:
            with_ratio += cells.ratios[c]
            of_ratios += cells.ratio_sum[c]
            low |= cells.payers_low[c]
            high |= cells.payers_high[c]
            c += 1
        vector[_PAYERS + 2 * w] = _DIFFERENT[_set(low) + _set(high)]
        vector[_PAYERS + 2 * w + 1] = of_ratios / (1000.0 * with_ratio) if with_ratio > 0 else np.nan
    _write_frauds(_COUNTERPARTY_FRAUDS, row, time, cells, p, vector)


@compiled()
def walk_counterparties(
    step: Flags,
    row: Ints,
    which: Ints,
    told: Ints,
    payments: Facts,
    labels: Facts,
    transactions: Facts,
    limits: Any,
    p: Any,
    cells: Any,
    vectors: Vectors,
) -> None:
    """Take payments, labels and questions through the counterparties' profiles, in order.

    Of n steps: `which` is the row of `payments`, `labels` or, of a QUESTION, of `transactions` (features.facts).  A question
    fills the counterparty's columns of `vectors[told]`, as known at the transaction's time, and changes nothing; with
    row -1 (a transaction that names no counterparty) they are missing.  `cells`: room (Cells).
    """
    for i in range(len(step)):
        r = row[i]
        w = which[i]
        if step[i] == QUESTION:
            if r < 0:
                vectors[told[i], _COUNTERPARTY_SUMS:] = np.nan
            else:
                _describe_counterparty(r, transactions[w], p, cells, vectors[told[i]])
        elif step[i] == PAYMENT_LABEL:
            lab = labels[w]
            p.head[r].offset = lab.offset
            fold_label(r, lab.id, lab.occurred, lab.known, lab.fraud, p)
        else:
            p.head[r].offset = payments[w].offset
            fold_payment(r, payments[w], limits, p)


@compiled()
def describe_alone(t: Any, vector: Any) -> None:
    """Fill the columns that need no profile."""
    vector[_AMOUNT] = t.amount
    vector[_BELOW_ROUND] = t.below_round
    vector[_HOUR] = t.hour
    vector[_WEEKDAY] = t.weekday
    vector[_NIGHT] = t.hour <= NIGHT_ENDS


@compiled()
def describe_transactions(vectors: Vectors, transactions: Facts) -> None:
    """The same of many."""
    for i in range(len(transactions)):
        describe_alone(transactions[i], vectors[i])
