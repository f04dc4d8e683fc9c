"""Turns transactions and profiles into vectors and new profiles: the one description that serving and training share.

Compiled by numba, called once a batch.  Two walks, because an account and a counterparty meet their events on different
topics:

* `walk_accounts` takes a batch's labels and transactions, in order, through the accounts' profiles;
* `walk_counterparties` takes payments, labels and questions ("what is known of you at this moment?") through theirs.

Every sum over a window is one pass over the ring (newest first, it stops where the longest window ends) and over the
tiles.  Nothing is kept running between transactions, so there is nothing that could drift, and an event that comes late
is counted by the same lines as any other.

A tile's events count as of the time of its newest: what fell off the ring is at most an eighth of its age too young.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from features.catalogue import ACCOUNT_WINDOWS, COUNTERPARTY_WINDOWS, DAY, DIGEST, MATURITY, SECOND, SETTLING, column
from features.compiling import compiled_apart

compiled_apart(DIGEST)  # numba freezes the catalogue's numbers into the code, and looks only at this file's age

TRANSACTION, LABEL = 0, 1
"""Steps of `walk_accounts`."""
PAYMENT, PAYMENT_LABEL, QUESTION = 0, 1, 2
"""Steps of `walk_counterparties`."""

NEW, DUPLICATE, ID_REUSED = 0, 1, 2
"""What became of a transaction."""
UNTOLD = -1
"""Instead of a row: fold this step, describe nothing."""

_AMOUNT, _HOUR, _WEEKDAY, _NIGHT = column("amount"), column("hour"), column("weekday"), column("night")
_ACCOUNT = column("account_count_1h")
_SINCE_LAST = column("account_since_last")
_TO_MEAN = column("amount_to_account_mean_30d")
_DEVIATION = column("amount_deviation_30d")
_KNOWN_FRAUDS = column("account_known_frauds")
_COUNTERPARTY = column("counterparty_count_1d")
_MATURED = column("counterparty_matured_count_1d")
_COUNTERPARTY_END = _MATURED + 3 * len(COUNTERPARTY_WINDOWS)

_ACCOUNT_SPANS = tuple(span for _, span, _ in ACCOUNT_WINDOWS)
_COUNTERPARTY_SPANS = tuple(span for _, span, _ in COUNTERPARTY_WINDOWS)
_FINEST = 26
"""Tiles are powers of two of microseconds wide, the finest 2**26 (67 s), and at most an eighth of their age."""
_MOST = np.int64(1) << np.int64(61)

Records = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]


@njit(cache=True, nogil=True)
def _into_tiles(row: int, time: int, amount: int, horizon: int, head: Records, tiles: Records) -> None:
    """Let an event that fell off the ring into the tile of its time."""
    h = head[row]
    tile = tiles[row]
    n = h.tiles
    k = n
    while k > 0 and tile[k - 1].newest > time:
        k -= 1
    # The neighbours on either side of `time` may hold it, if it lies in the cell that they cover.
    for near in (k - 1, k):
        if 0 <= near < n and (tile[near].newest >> _FINEST) == (time >> _FINEST):
            t = tile[near]
            t.newest = max(t.newest, time)
            t.count += 1
            t.sum = min(t.sum + amount, _MOST)
            t.max = max(t.max, amount)
            t.squares += float(amount) * float(amount)
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
    t.count = 1
    t.sum = amount
    t.max = amount
    t.squares = float(amount) * float(amount)
    h.tiles = _coarsen(tile, n + 1, h.newest, horizon)


@njit(cache=True, nogil=True)
def _merge(tile: Records, into: int, other: int) -> None:
    a, b = tile[into], tile[other]
    a.newest = max(a.newest, b.newest)
    a.count += b.count
    a.sum = min(a.sum + b.sum, _MOST)
    a.max = max(a.max, b.max)
    a.squares += b.squares


@njit(cache=True, nogil=True)
def _coarsen(tile: Records, n: int, newest: int, horizon: int) -> int:
    """Drop tiles beyond the horizon and merge neighbours that, at their age, fit into one cell.  How many are left."""
    kept = 0
    for j in range(n):
        if newest - tile[j].newest >= horizon:
            continue
        if kept > 0:
            age = newest - tile[j].newest
            level = _FINEST
            while (np.int64(1) << np.int64(level + 1)) <= age // 8:
                level += 1
            if (tile[kept - 1].newest >> level) == (tile[j].newest >> level):
                _merge(tile, kept - 1, j)
                continue
        if kept != j:
            tile[kept] = tile[j]
        kept += 1
    return kept


@njit(cache=True, nogil=True)
def _fold_event(
    row: int,
    time: int,
    amount: int,
    ident: int,
    content: int,
    horizon: int,
    head: Records,
    events: Records,
    tiles: Records,
) -> None:
    """Add an event to the ring, in the order of time; what no longer fits goes to the tiles, what is too old is dropped."""
    h = head[row]
    ring = events[row]
    n = h.events
    if h.total == 0:
        h.first = time
        h.newest = time
    h.total += 1
    h.first = min(h.first, time)
    h.newest = max(h.newest, time)
    newest = h.newest
    if h.tiles > 0 and newest - tiles[row, 0].newest >= horizon:
        h.tiles = _coarsen(tiles[row], h.tiles, newest, horizon)
    old = 0
    while old < n and newest - ring[old].time >= horizon:
        old += 1
    if old > 0:
        for j in range(old, n):
            ring[j - old] = ring[j]
        n -= old
    if newest - time < horizon:
        if n == ring.shape[0]:
            if time < ring[0].time:
                h.events = n
                _into_tiles(row, time, amount, horizon, head, tiles)
                return
            _into_tiles(row, ring[0].time, ring[0].amount, horizon, head, tiles)
            for j in range(1, n):
                ring[j - 1] = ring[j]
            n -= 1
        k = n
        while k > 0 and ring[k - 1].time > time:
            ring[k] = ring[k - 1]
            k -= 1
        e = ring[k]
        e.time = time
        e.amount = amount
        e.id = ident
        e.content = content
        n += 1
    h.events = n


@njit(cache=True, nogil=True)
def _fold_label(
    row: int, ident: int, occurred: int, known: int, fraud: int, head: Records, labels: Records, fraud_days: Records
) -> None:
    """One state a transaction; the newest `known` wins.  What falls off the ring stays as a fraud of its day."""
    h = head[row]
    ring = labels[row]
    n = h.labels
    for j in range(n):
        if ring[j].id == ident:
            if known < ring[j].known:
                return
            for i in range(j, n - 1):
                ring[i] = ring[i + 1]
            n -= 1
            break
    if n == ring.shape[0]:
        if known < ring[0].known:
            h.labels = n
            if fraud:
                _fold_fraud_day(row, occurred, head, fraud_days)
            return
        if ring[0].fraud:
            _fold_fraud_day(row, ring[0].occurred, head, fraud_days)
        for j in range(1, n):
            ring[j - 1] = ring[j]
        n -= 1
    k = n
    while k > 0 and ring[k - 1].known > known:
        ring[k] = ring[k - 1]
        k -= 1
    lab = ring[k]
    lab.id = ident
    lab.occurred = occurred
    lab.known = known
    lab.fraud = fraud
    h.labels = n + 1


@njit(cache=True, nogil=True)
def _fold_fraud_day(row: int, occurred: int, head: Records, fraud_days: Records) -> None:
    h = head[row]
    days = fraud_days[row]
    n = h.fraud_days
    day = occurred // DAY
    k = n
    while k > 0 and days[k - 1].day > day:
        k -= 1
    if k > 0 and days[k - 1].day == day:
        days[k - 1].frauds += np.uint32(1)
        return
    if n == days.shape[0]:  # the oldest two become one
        days[1].frauds += days[0].frauds
        for j in range(1, n):
            days[j - 1] = days[j]
        n -= 1
        k = max(k - 1, 0)
    for j in range(n, k, -1):
        days[j] = days[j - 1]
    days[k].day = day
    days[k].frauds = np.uint32(1)
    h.fraud_days = n + 1


@njit(cache=True, nogil=True)
def _describe_account(
    row: int,
    time: int,
    amount: int,
    head: Records,
    events: Records,
    tiles: Records,
    labels: Records,
    fraud_days: Records,
    vector: npt.NDArray[np.float32],
) -> None:
    windows = len(_ACCOUNT_SPANS)
    count = np.zeros(windows, np.int64)
    total = np.zeros(windows, np.int64)
    most = np.zeros(windows, np.int64)
    longest = _ACCOUNT_SPANS[windows - 1]
    squares = 0.0
    last = np.int64(-1)
    h = head[row]
    first_window = 0  # the narrowest that the events looked at now are in; they come by growing age
    for j in range(h.events - 1, -1, -1):
        age = time - events[row, j].time
        if age < 0:
            continue
        if last < 0:
            last = age
        if age >= longest:
            break
        while age >= _ACCOUNT_SPANS[first_window]:
            first_window += 1
        value = events[row, j].amount
        count[first_window] += 1
        total[first_window] += value
        most[first_window] = max(most[first_window], value)
        squares += float(value) * float(value)
    for j in range(h.tiles - 1, -1, -1):
        tile = tiles[row, j]
        age = time - tile.newest
        if age < 0:
            continue
        if last < 0 or age < last:
            last = age
        for w in range(windows):
            if age < _ACCOUNT_SPANS[w]:
                count[w] += tile.count
                total[w] = min(total[w] + tile.sum, _MOST)
                most[w] = max(most[w], tile.max)
                squares += tile.squares
                break
    n = np.int64(0)
    s = np.int64(0)
    m = np.int64(0)
    for w in range(windows):
        n += count[w]
        s = min(s + total[w], _MOST)
        m = max(m, most[w])
        at = _ACCOUNT + 4 * w
        vector[at] = n
        vector[at + 1] = s
        vector[at + 2] = s / n if n > 0 else np.nan
        vector[at + 3] = m if n > 0 else np.nan
    vector[_SINCE_LAST] = last / SECOND if last >= 0 else np.nan
    vector[_TO_MEAN] = np.nan
    vector[_DEVIATION] = np.nan
    if n > 0 and s > 0:
        mean = s / n
        vector[_TO_MEAN] = amount / mean
        variance = squares / n - mean * mean
        if variance > 1e-9 * mean * mean:  # below, it is what rounding leaves of equal amounts
            vector[_DEVIATION] = (amount - mean) / np.sqrt(variance)
    frauds = np.int64(0)
    for j in range(h.labels):
        if labels[row, j].fraud and labels[row, j].known <= time:
            frauds += 1
    for j in range(h.fraud_days):
        frauds += fraud_days[row, j].frauds
    vector[_KNOWN_FRAUDS] = frauds


@njit(cache=True, nogil=True)
def walk_accounts(
    step: npt.NDArray[np.int8],
    row: npt.NDArray[np.int64],
    time: Ints,
    amount: Ints,
    ident: npt.NDArray[np.uint64],
    content: npt.NDArray[np.uint32],
    known: Ints,
    fraud: npt.NDArray[np.int8],
    offset: Ints,
    told: Ints,
    horizon: int,
    head: Records,
    events: Records,
    tiles: Records,
    labels: Records,
    fraud_days: Records,
    vectors: npt.NDArray[np.float32],
    status: npt.NDArray[np.int8],
    late: npt.NDArray[np.int8],
) -> None:
    """Take labels and transactions through their accounts' profiles, in order.

    Columns of n steps: `row` the profile; `time` when the transaction occurred (of a label: its transaction); `amount` in
    minor units of the profiles' currency; `known` and `fraud` for labels; `told` the row of `vectors` [m, features] that
    a transaction's description goes to, or UNTOLD.  Fills the account's columns, `status` [n] and `late` [n].
    """
    for i in range(len(step)):
        r = row[i]
        h = head[r]
        if step[i] == LABEL:
            _fold_label(r, ident[i], time[i], known[i], fraud[i], head, labels, fraud_days)
            continue
        h.offset = offset[i]
        status[i] = NEW
        for j in range(h.events):
            if events[r, j].id == ident[i]:
                status[i] = DUPLICATE if events[r, j].content == content[i] else ID_REUSED
                break
        if status[i] != NEW:
            continue
        late[i] = h.events > 0 and time[i] < events[r, 0].time
        if told[i] != UNTOLD:
            _describe_account(r, time[i], amount[i], head, events, tiles, labels, fraud_days, vectors[told[i]])
        _fold_event(r, time[i], amount[i], ident[i], content[i], horizon, head, events, tiles)


@njit(cache=True, nogil=True)
def _describe_counterparty(
    row: int,
    time: int,
    head: Records,
    events: Records,
    tiles: Records,
    labels: Records,
    fraud_days: Records,
    vector: npt.NDArray[np.float32],
) -> None:
    windows = len(_COUNTERPARTY_SPANS)
    count = np.zeros(windows, np.int64)
    total = np.zeros(windows, np.int64)
    matured = np.zeros(windows, np.int64)
    frauds = np.zeros(windows, np.int64)
    longest = _COUNTERPARTY_SPANS[windows - 1]
    h = head[row]
    for j in range(h.events - 1, -1, -1):
        age = time - events[row, j].time
        if age < SETTLING:
            continue
        if age >= MATURITY + longest:
            break
        if age < longest:
            for w in range(windows):
                if age < _COUNTERPARTY_SPANS[w]:
                    count[w] += 1
                    total[w] += events[row, j].amount
                    break
        if age >= MATURITY:
            for w in range(windows):
                if age - MATURITY < _COUNTERPARTY_SPANS[w]:
                    matured[w] += 1
                    break
    for j in range(h.tiles):
        tile = tiles[row, j]
        age = time - tile.newest
        if age < SETTLING:
            continue
        for w in range(windows):
            if age < _COUNTERPARTY_SPANS[w]:
                count[w] += tile.count
                total[w] = min(total[w] + tile.sum, _MOST)
                break
        if age >= MATURITY:
            for w in range(windows):
                if age - MATURITY < _COUNTERPARTY_SPANS[w]:
                    matured[w] += tile.count
                    break
    for j in range(h.labels):
        label = labels[row, j]
        age = time - label.occurred
        if label.fraud and label.known <= time and age >= MATURITY:
            for w in range(windows):
                if age - MATURITY < _COUNTERPARTY_SPANS[w]:
                    frauds[w] += 1
                    break
    for j in range(h.fraud_days):
        age = time - (np.int64(fraud_days[row, j].day) + 1) * DAY
        if age >= MATURITY:
            for w in range(windows):
                if age - MATURITY < _COUNTERPARTY_SPANS[w]:
                    frauds[w] += fraud_days[row, j].frauds
                    break
    n = np.int64(0)
    s = np.int64(0)
    c = np.int64(0)
    f = np.int64(0)
    for w in range(windows):
        n += count[w]
        s = min(s + total[w], _MOST)
        c += matured[w]
        f += frauds[w]
        at = _COUNTERPARTY + 2 * w
        vector[at] = n
        vector[at + 1] = s / n if n > 0 else np.nan
        at = _MATURED + 3 * w
        vector[at] = c
        vector[at + 1] = f
        vector[at + 2] = f / c if c > 0 else np.nan


@njit(cache=True, nogil=True)
def walk_counterparties(
    step: npt.NDArray[np.int8],
    row: npt.NDArray[np.int64],
    time: Ints,
    amount: Ints,
    ident: npt.NDArray[np.uint64],
    account: npt.NDArray[np.uint64],
    known: Ints,
    fraud: npt.NDArray[np.int8],
    offset: Ints,
    told: Ints,
    horizon: int,
    head: Records,
    events: Records,
    tiles: Records,
    labels: Records,
    fraud_days: Records,
    vectors: npt.NDArray[np.float32],
) -> None:
    """Take payments, labels and questions through the counterparties' profiles, in order.

    A QUESTION fills the counterparty's columns of `vectors[told]`, as known at `time`, and changes nothing; with row -1
    (a transaction that names no counterparty) they are missing.
    """
    for i in range(len(step)):
        r = row[i]
        if step[i] == QUESTION:
            if r < 0:
                vectors[told[i], _COUNTERPARTY:_COUNTERPARTY_END] = np.nan
            else:
                _describe_counterparty(r, time[i], head, events, tiles, labels, fraud_days, vectors[told[i]])
            continue
        head[r].offset = offset[i]
        if step[i] == PAYMENT_LABEL:
            _fold_label(r, ident[i], time[i], known[i], fraud[i], head, labels, fraud_days)
        else:
            _fold_event(r, time[i], amount[i], account[i], 0, horizon, head, events, tiles)


def describe_transactions(
    vectors: npt.NDArray[np.float32],
    amount: Ints,
    hour: npt.NDArray[np.int8],
    weekday: npt.NDArray[np.int8],
) -> None:
    """Fill the columns that need no profile: of n transactions, `amount` in the profiles' currency, local `hour`, `weekday`."""
    vectors[:, _AMOUNT] = amount
    vectors[:, _HOUR] = hour
    vectors[:, _WEEKDAY] = weekday
    vectors[:, _NIGHT] = hour <= 6
