"""The past through the worker's own kernel: each transaction as it would have been seen, in the order of the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from features import kernel
from features.accepting import MAX_PROFILE_AMOUNT
from features.catalogue import DAY, FEATURES, HOUR, SECOND
from features.compiling import compiled
from features.facts import (
    ID_BITS,
    LABEL,
    NO_PLACE,
    PAYMENT,
    TRANSACTION,
    Facts,
    are_below_round,
    names_of,
)
from features.hash_keys import PUBLIC, HashKey, HashKeys
from features.history import Steps, Walked, walk_accounts, walk_counterparties
from schemas.currencies import DEFAULT_RATES, MINOR_DIGITS, Rates
from training.errors import UnusablePast

Ints = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Replayed:
    """What a past looks like to the model, by row of its transactions."""

    vectors: npt.NDArray[np.float32]
    """[n, features]"""
    accepted: npt.NDArray[np.bool_]
    """[n]; False for a duplicate and for an id used again, which get no verdict."""


def vectors(
    transactions: pl.DataFrame, labels: pl.DataFrame, rates: Rates = DEFAULT_RATES, keys: HashKeys = PUBLIC
) -> Replayed:
    """Describe every transaction of a past (both frames as schemas.tables has them, in the order of the log).

    Equal to the bit to what workers say where `keys` are theirs; by other ones, different names may share a hash.

    A payment is known to its counterparty at once, a label from its `known_at` on; the kernel leaves out of a
    counterparty's windows what is younger than SETTLING, here as in a worker.  Raises UnusablePast for a currency
    without a rate, and where the vectors would not fit the memory that is free.
    """
    out = room_for(len(transactions))
    log = CodedLog.of(Log.of(transactions, labels), rates, keys)
    walked = by_account(log, out)
    by_counterparty(log, walked.status, walked.ratio, out)
    return Replayed(out, walked.status == kernel.NEW)


@dataclass(frozen=True)
class Log:
    """A past, or a part of it, in the order of the log."""

    transactions: pl.DataFrame
    labels: pl.DataFrame
    arrival: Ints
    """Of each transaction, in microseconds: nothing arrives before what stands before it."""
    heard: Ints
    """Of each label, likewise."""

    @classmethod
    def of(cls, transactions: pl.DataFrame, labels: pl.DataFrame) -> Log:
        """All of a past (frames as schemas.tables has them)."""
        return cls(transactions, labels, _growing(transactions["occurred_at"]), _growing(labels["known_at"]))

    def part(self, rows: Ints, told: Ints) -> Log:
        """These rows of the transactions and of the labels, which arrive when they did among all."""
        return Log(self.transactions[rows], self.labels[told], self.arrival[rows], self.heard[told])


def _growing(moments: pl.Series) -> Ints:
    micros = moments.dt.epoch("us").to_numpy()
    return np.maximum.accumulate(micros) if len(micros) else micros


@dataclass(frozen=True)
class CodedLog:
    """A log in numbers, as the kernel takes it."""

    transactions: Facts
    labels: Facts
    account: _Coded
    label_account: _Coded
    counterparty: _Coded
    label_counterparty: _Coded
    arrival: Ints
    heard: Ints
    keys: HashKeys

    @classmethod
    def of(cls, log: Log, rates: Rates, keys: HashKeys) -> CodedLog:
        """Raises UnusablePast for a currency without a rate."""
        account, label_account = _coded(log.transactions["account_id"], log.labels["account_id"])
        counterparty, label_counterparty = _coded(log.transactions["counterparty_id"], log.labels["counterparty_id"])
        return cls(
            transactions=_facts(log.transactions, counterparty, rates, keys),
            labels=_labels(log.labels, keys.ids),
            account=account,
            label_account=label_account,
            counterparty=counterparty,
            label_counterparty=label_counterparty,
            arrival=log.arrival,
            heard=log.heard,
            keys=keys,
        )


def by_account(log: CodedLog, out: Vectors) -> Walked:
    """Fills the columns of transaction and account in `out` [n, features], of new transactions.

    Profiles know nothing of each other: a part of a past will do that has all there is of its accounts.
    """
    here, which = np.arange(len(log.transactions), dtype=np.int64), np.arange(len(log.labels), dtype=np.int64)
    return walk_accounts(
        Steps.merged(
            Steps.of(kernel.LABEL, profile=log.label_account.code, at=log.heard, which=which),
            Steps.of(kernel.TRANSACTION, profile=log.account.code, at=log.arrival, which=here, told=here),
        ),
        log.transactions,
        log.labels,
        out,
    )


def by_counterparty(log: CodedLog, status: npt.NDArray[np.int8], ratio: npt.NDArray[np.int32], out: Vectors) -> None:
    """Fills the counterparty's columns of `out`, likewise of a part that has all there is of its counterparties.

    `status` and `ratio` [n] are what the walk by account said of the transactions.
    """
    counterparty, label_counterparty = log.counterparty.code, log.label_counterparty.code
    here = np.arange(len(log.transactions), dtype=np.int64)
    paid = np.flatnonzero((status == kernel.NEW) & (counterparty >= 0))
    named = np.flatnonzero(label_counterparty >= 0)
    payments = np.empty(len(here), PAYMENT)
    _fill_payments(payments, log.transactions, ratio, log.account.hashed(log.keys.accounts))
    walk_counterparties(
        Steps.merged(
            Steps.of(kernel.PAYMENT_LABEL, profile=label_counterparty[named], at=log.heard[named], which=named),
            Steps.of(kernel.QUESTION, profile=counterparty, at=log.arrival, which=here, told=here),
            Steps.of(kernel.PAYMENT, profile=counterparty[paid], at=log.arrival[paid], which=paid),
        ),
        payments,
        log.labels,
        log.transactions,
        out,
    )


def room_for(count: int) -> Vectors:
    """[count, features], to be filled.  Raises UnusablePast where there is no room."""
    require_room(count)
    return np.empty((count, len(FEATURES)), np.float32)


def require_room(count: int) -> None:
    """Raises UnusablePast where the vectors of so many would not fit the memory that is free.

    The system would let it begin, and end it half-way without a word.
    """
    needed, free = count * len(FEATURES) * np.dtype(np.float32).itemsize, _free_memory()
    if free is not None and needed > free:
        raise UnusablePast(
            f"{count:,} transactions need {needed / 1e9:,.1f} GB for their vectors, and {free / 1e9:,.1f} GB of memory are "
            "free: a file with the newer part of them, or a machine with more, would do"
        )


def _free_memory() -> int | None:
    """Bytes, of what may be had without swapping; None where the system doesn't say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return 1024 * int(kilobytes)


def _facts(transactions: pl.DataFrame, counterparty: _Coded, rates: Rates, keys: HashKeys) -> Facts:
    placed = (transactions["latitude"].is_not_null() & transactions["longitude"].is_not_null()).to_numpy()
    names = (_coded(transactions[column])[0] for column in ("country", "device_id", "channel", "category"))
    (currency,) = _coded(transactions["currency"])
    amount = transactions["amount"].to_numpy()
    below_round = np.empty(len(transactions), np.int8)
    digits = currency.each(lambda name: MINOR_DIGITS.get(name, 2), np.int8)
    are_below_round(amount, digits, below_round)
    rows = np.empty(len(transactions), TRANSACTION)
    _fill(
        rows,
        transactions["occurred_at"].dt.epoch("us").to_numpy(),
        _converted(amount, currency, rates),
        _idents(transactions, keys.ids),
        tuple(one.named(keys.names) for one in (counterparty, *names)),
        tuple(
            np.where(placed, np.rint(transactions[field].fill_null(0.0).to_numpy() * 1e6), NO_PLACE).astype(np.int32)
            for field in ("latitude", "longitude")
        ),
        transactions["utc_offset"].to_numpy(),
        below_round,
    )
    return rows


@compiled()
def _fill(
    rows: Any, time: Ints, amount: Ints, ident: Any, names: Any, places: Any, utc_offset: Any, below_round: Any
) -> None:  # fmt: skip
    """Row by row: column by column the whole of them would go through the caches a dozen times.

    Without content: an id met again is left out, whatever it says then.
    """
    counterparty, country, device, channel, category = names
    latitude, longitude = places
    for i in range(len(rows)):
        row = rows[i]
        row.time, row.amount, row.offset = time[i], amount[i], i
        row.id, row.content = ident[i] & ID_BITS, 0
        row.counterparty, row.country, row.device = counterparty[i], country[i], device[i]
        row.channel, row.category = channel[i], category[i]
        row.latitude, row.longitude = latitude[i], longitude[i]
        local = time[i] + utc_offset[i] * (60 * SECOND)
        row.hour, row.weekday = local % DAY // HOUR, (local // DAY + _THURSDAY) % 7
        row.below_round = below_round[i]


@compiled()
def _fill_payments(rows: Any, transactions: Any, ratio: Any, account: Any) -> None:
    for i in range(len(rows)):
        row, t = rows[i], transactions[i]
        row.time, row.amount, row.offset = t.time, t.amount, 0
        row.account, row.ratio = account[i], ratio[i]


_THURSDAY = 3
"""The first of January 1970."""


def _labels(labels: pl.DataFrame, key: HashKey) -> Facts:
    rows = np.zeros(len(labels), LABEL)
    rows["id"] = _idents(labels, key)
    rows["occurred"] = labels["occurred_at"].dt.epoch("us").to_numpy()
    rows["known"] = labels["known_at"].dt.epoch("us").to_numpy()
    rows["fraud"] = labels["is_fraud"].to_numpy()
    return rows


def _idents(rows: pl.DataFrame, key: HashKey) -> npt.NDArray[np.uint64]:
    found = np.empty(len(rows), np.uint64)
    for begin in range(0, len(rows), _AT_ONCE):
        ids = rows["transaction_id"][begin : begin + _AT_ONCE]
        data = np.frombuffer(ids.str.join("").item().encode(), np.uint8)
        found[begin : begin + _AT_ONCE] = key.hashes_within(
            data, ids.str.len_bytes().cast(pl.Int64).cum_sum().to_numpy()
        )
    return found


_AT_ONCE = 1 << 17
"""Ids whose text is put together for the hash: what is larger leaves the caches."""


class _Coded(NamedTuple):
    """Names as numbers from 0 up, one for each different name; -1 for null."""

    code: Ints
    """[n]"""
    names: list[str]
    """By number."""

    def each(self, value: Callable[[str], int], dtype: type[np.generic]) -> npt.NDArray[Any]:
        """The value of each row's name, asked once for each different one."""
        return np.array([*map(value, self.names), 0], dtype)[self.code]

    def named(self, key: HashKey) -> npt.NDArray[np.uint32]:
        """What each row's name is called in a profile."""
        return names_of([*self.names, None], key)[self.code]

    def hashed(self, key: HashKey) -> npt.NDArray[np.uint64]:
        """The hash of each row's name."""
        return key.hashes_of_text([*self.names, ""])[self.code]


def _coded(*columns: pl.Series) -> list[_Coded]:
    """The same number for the same name in all of them.

    Names are told apart by 64 bits of a hash: of a million two are the same once in 37 million pasts.
    """
    whole = pl.concat(columns)
    null = pl.Series([None], dtype=whole.dtype).hash()[0]
    code = np.empty(len(whole), np.int64)
    names = whole.gather(_number(whole.hash().to_numpy(), np.uint64(null), code)).to_list()
    ends = np.cumsum([len(column) for column in columns])
    return [_Coded(part, names) for part in np.split(code, ends[:-1])]


@njit(cache=True, nogil=True)
def _number(names: Any, null: Any, code: Ints) -> Ints:
    """Fills `code` with numbers in the order in which hashes are met first, -1 for that of null; the row where each was first."""
    first = np.empty(len(names), np.int64)
    held = np.empty(1_024, np.uint64)
    done = count = 0
    while done < len(names):
        slots = np.full(len(held), -1, np.int64)
        for number in range(count):
            at = _slot(names[first[number]], slots, held)
            slots[at], held[at] = number, names[first[number]]
        done, count = _number_on(names, null, done, count, slots, held, code, first)
        held = np.empty(4 * len(held), np.uint64)
    return first[:count]


@compiled()
def _number_on(
    names: Any, null: Any, done: int, count: int, slots: Ints, held: Any, code: Ints, first: Ints
) -> tuple[int, int]:
    """Until half of the slots are taken: how many rows are done then, and how many numbers given."""
    for i in range(done, len(names)):
        name = names[i]
        if name == null:
            code[i] = -1
            continue
        at = _slot(name, slots, held)
        if slots[at] < 0:
            if 2 * count == len(slots):
                return i, count
            slots[at], held[at], first[count] = count, name, i
            count += 1
        code[i] = slots[at]
    return len(names), count


@compiled(forceinline=True)
def _slot(name: Any, slots: Ints, held: Any) -> Any:  # an int64
    """Where a hash stands, or would."""
    last = np.uint64(len(slots) - 1)
    at = name & last
    while slots[at] >= 0 and held[at] != name:
        at = (at + np.uint64(1)) & last
    return at


def amounts(transactions: pl.DataFrame, rates: Rates) -> Ints:
    """[n] in minor units of the currency that profiles are kept in.  Raises UnusablePast for a currency without a rate."""
    (currency,) = _coded(transactions["currency"])
    return _converted(transactions["amount"].to_numpy(), currency, rates)


def _converted(amount: Ints, currency: _Coded, rates: Rates) -> Ints:
    if (currency.code < 0).any():
        raise UnusablePast("a transaction without a currency: its amount says nothing")
    converted = np.minimum(amount, MAX_PROFILE_AMOUNT)
    for number, name in enumerate(currency.names):
        if name == rates.currency:
            continue
        if name not in rates.factors:
            raise UnusablePast(no_rate(name, rates))
        rows = np.flatnonzero(currency.code == number)
        numerator, denominator = rates.factors[name]
        whole: Any = amount[rows]
        if 2 * (max(int(whole.max()), 1) * numerator + denominator) > _LARGEST:
            whole = whole.astype(object)
        converted[rows] = np.minimum(rates.convert(whole, name), MAX_PROFILE_AMOUNT)
    return converted


def no_rate(currency: str, rates: Rates) -> str:
    """What is said of a currency that has none."""
    return (
        f"no rate for {currency!r}: known are {', '.join(sorted(rates.factors))}; FRAUD_RATES__{currency} says how many "
        f"{currency} are one {rates.currency}, here and to the workers"
    )


_LARGEST = np.iinfo(np.int64).max
"""What is larger on the way takes Python's own numbers."""
