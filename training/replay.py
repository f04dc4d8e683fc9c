"""The past through the worker's own kernel: each transaction as it would have been seen, in the order of the log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from features import kernel
from features.accepting import MAX_PROFILE_AMOUNT
from features.catalogue import FEATURES
from features.facts import (
    CONTENT_BITS,
    ID_BITS,
    LABEL,
    NO_PLACE,
    PAYMENT,
    TRANSACTION,
    Facts,
    are_below_round,
    name24,
)
from features.hashing import hash64
from features.history import Steps, walk_accounts, walk_counterparties
from schemas.currencies import DEFAULT_RATES, MINOR_DIGITS, Rates
from training.errors import UnusablePast

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Replayed:
    """What a past looks like to the model, by row of its transactions."""

    vectors: npt.NDArray[np.float32]
    """[n, features]"""
    accepted: npt.NDArray[np.bool_]
    """[n]; False for a duplicate and for an id used again, which get no verdict."""


def vectors(transactions: pl.DataFrame, labels: pl.DataFrame, rates: Rates = DEFAULT_RATES) -> Replayed:
    """Describe every transaction of a past (both frames as schemas.tables has them, in the order of the log).

    A payment is known to its counterparty at once, a label from its `known_at` on; the kernel leaves out of a
    counterparty's windows what is younger than SETTLING, here as in a worker.  Raises UnusablePast for a currency
    without a rate.
    """
    n = len(transactions)
    rows = _facts(transactions, rates)
    time = rows["time"]
    arrival = np.maximum.accumulate(time) if n else time
    here = np.arange(n, dtype=np.int64)
    out = np.empty((n, len(FEATURES)), np.float32)
    kernel.describe_transactions(out, rows)

    told = _labels(labels)
    known = told["known"]
    heard = np.maximum.accumulate(known) if len(known) else known
    which = np.arange(len(told), dtype=np.int64)

    account, label_account = _codes(transactions["account_id"], labels["account_id"])
    walked = walk_accounts(
        Steps.merged(
            Steps.of(kernel.LABEL, profile=label_account, at=heard, which=which),
            Steps.of(kernel.TRANSACTION, profile=account, at=arrival, which=here, told=here),
        ),
        rows,
        told,
        out,
    )
    accepted = walked.status == kernel.NEW

    counterparty, label_counterparty = _codes(transactions["counterparty_id"], labels["counterparty_id"])
    paid = accepted & (counterparty >= 0)
    named = label_counterparty >= 0
    payments = np.zeros(n, PAYMENT)
    payments["time"], payments["amount"], payments["ratio"] = time, rows["amount"], walked.ratio
    payments["account"] = _each(transactions["account_id"], _named, np.uint64)
    walk_counterparties(
        Steps.merged(
            Steps.of(kernel.PAYMENT_LABEL, profile=label_counterparty[named], at=heard[named], which=which[named]),
            Steps.of(kernel.QUESTION, profile=counterparty, at=arrival, which=here, told=here),
            Steps.of(kernel.PAYMENT, profile=counterparty[paid], at=arrival[paid], which=here[paid]),
        ),
        payments,
        told,
        rows,
        out,
    )
    return Replayed(out, accepted)


def _facts(transactions: pl.DataFrame, rates: Rates) -> Facts:
    rows = np.empty(len(transactions), TRANSACTION)
    rows["time"] = transactions["occurred_at"].dt.epoch("us").to_numpy()
    rows["amount"] = amounts(transactions, rates)
    rows["offset"] = np.arange(len(transactions))
    rows["id"] = _hashes(transactions["transaction_id"]) & np.uint64(ID_BITS)
    rows["content"] = transactions.hash_rows(seed=0).to_numpy() & np.uint64(CONTENT_BITS)
    for field, column in (
        ("counterparty", "counterparty_id"),
        ("country", "country"),
        ("device", "device_id"),
        ("channel", "channel"),
        ("category", "category"),
    ):
        rows[field] = _each(transactions[column], name24, np.uint32)
    placed = (transactions["latitude"].is_not_null() & transactions["longitude"].is_not_null()).to_numpy()
    for field in ("latitude", "longitude"):
        degrees = transactions[field].fill_null(0.0).to_numpy()
        rows[field] = np.where(placed, np.rint(degrees * 1e6), NO_PLACE)
    local = transactions.select(
        pl.col("occurred_at") + pl.duration(minutes=pl.col("utc_offset").cast(pl.Int64))
    ).to_series()
    rows["hour"] = local.dt.hour().to_numpy()
    rows["weekday"] = local.dt.weekday().to_numpy() - 1
    digits = _each(transactions["currency"], lambda currency: MINOR_DIGITS.get(str(currency), 2), np.int8)
    are_below_round(transactions["amount"].to_numpy(), digits, rows["below_round"])
    return rows


def _labels(labels: pl.DataFrame) -> Facts:
    rows = np.zeros(len(labels), LABEL)
    rows["id"] = _hashes(labels["transaction_id"])
    rows["occurred"] = labels["occurred_at"].dt.epoch("us").to_numpy()
    rows["known"] = labels["known_at"].dt.epoch("us").to_numpy()
    rows["fraud"] = labels["is_fraud"].to_numpy()
    return rows


def _each(names: pl.Series, value: Callable[[str | None], int], dtype: type[np.generic]) -> npt.NDArray[Any]:
    """A number for each name, asked once for each different one."""
    different = names.unique(maintain_order=True)
    numbers = pl.Series([value(name) for name in different], dtype=pl.UInt64)
    return names.replace_strict(different, numbers, return_dtype=pl.UInt64).to_numpy().astype(dtype)


def _named(ident: str | None) -> int:
    return 0 if ident is None else hash64(ident)


def _hashes(ids: pl.Series) -> npt.NDArray[np.uint64]:
    return np.fromiter((hash64(ident) for ident in ids), np.uint64, len(ids))


def _codes(ids: pl.Series, others: pl.Series) -> tuple[Ints, Ints]:
    """The same number for the same id in both; -1 for null."""
    codes = pl.concat([ids, others]).cast(pl.Categorical).to_physical()
    both = codes.cast(pl.Int64).fill_null(-1).to_numpy()
    there = np.zeros(both.max(initial=-1) + 2, np.int64)
    there[both] = 1
    there[-1] = 0  # null
    numbers = np.cumsum(there) - 1
    numbers[-1] = -1
    dense: Ints = numbers[both]
    return dense[: len(ids)], dense[len(ids) :]


def amounts(transactions: pl.DataFrame, rates: Rates) -> Ints:
    """[n] in minor units of the currency that profiles are kept in.  Raises UnusablePast for a currency without a rate."""
    converted: Ints = np.array(transactions["amount"].to_numpy(), np.int64)
    for currency in transactions["currency"].unique():
        if currency == rates.currency:
            continue
        if currency not in rates.factors:
            raise UnusablePast(
                f"no rate for {currency!r}: known are {', '.join(sorted(rates.factors))}; FRAUD_RATES__XYZ says how many "
                "XYZ are one euro, here and to the workers"
            )
        rows = np.flatnonzero((transactions["currency"] == currency).to_numpy())
        converted[rows] = [min(rates.convert(int(amount), currency), MAX_PROFILE_AMOUNT) for amount in converted[rows]]
    converted[converted > MAX_PROFILE_AMOUNT] = MAX_PROFILE_AMOUNT
    return converted
