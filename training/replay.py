"""The past through the worker's own kernel: each transaction as it would have been seen, in the order of the log."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from features import kernel
from features.accepting import MAX_PROFILE_AMOUNT
from features.catalogue import FEATURES
from features.hashing import hash64
from features.history import Steps, walk_accounts, walk_counterparties
from schemas.currencies import DEFAULT_RATES, Rates

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
    counterparty's windows what is younger than SETTLING, here as in a worker.  Raises ValueError for a currency without
    a rate.
    """
    n = len(transactions)
    time = transactions["occurred_at"].dt.epoch("us").to_numpy().astype(np.int64)
    arrival = np.maximum.accumulate(time) if n else time
    amount = _amounts(transactions, rates)
    ident = _hashes(transactions["transaction_id"])
    offset = np.arange(n, dtype=np.int64)
    out = np.empty((n, len(FEATURES)), np.float32)
    local = transactions.select(
        pl.col("occurred_at") + pl.duration(minutes=pl.col("utc_offset").cast(pl.Int64))
    ).to_series()
    kernel.describe_transactions(
        out, amount, local.dt.hour().to_numpy().astype(np.int8), (local.dt.weekday() - 1).to_numpy().astype(np.int8)
    )

    label_time = labels["occurred_at"].dt.epoch("us").to_numpy().astype(np.int64)
    known = labels["known_at"].dt.epoch("us").to_numpy().astype(np.int64)
    heard = np.maximum.accumulate(known) if len(known) else known
    label_ident = _hashes(labels["transaction_id"])
    fraud = labels["is_fraud"].to_numpy().astype(np.int8)

    account, label_account = _codes(transactions["account_id"], labels["account_id"])
    content = transactions.hash_rows(seed=0).to_numpy()
    status, _ = walk_accounts(
        Steps.merged(
            Steps.of(
                kernel.LABEL,
                profile=label_account,
                at=heard,
                time=label_time,
                ident=label_ident,
                known=known,
                fraud=fraud,
            ),
            Steps.of(
                kernel.TRANSACTION,
                profile=account,
                at=arrival,
                time=time,
                amount=amount,
                ident=ident,
                extra=content,
                offset=offset,
                told=offset,
            ),
        ),
        out,
    )
    accepted = status == kernel.NEW

    counterparty, label_counterparty = _codes(transactions["counterparty_id"], labels["counterparty_id"])
    paid = accepted & (counterparty >= 0)
    named = label_counterparty >= 0
    walk_counterparties(
        Steps.merged(
            Steps.of(
                kernel.PAYMENT_LABEL, profile=label_counterparty[named], at=heard[named], time=label_time[named],
                ident=label_ident[named], known=known[named], fraud=fraud[named],
            ),
            Steps.of(kernel.QUESTION, profile=counterparty, at=arrival, time=time, told=offset),
            Steps.of(
                kernel.PAYMENT, profile=counterparty[paid], at=arrival[paid], time=time[paid], amount=amount[paid],
                ident=ident[paid],
            ),
        ),
        out,
    )  # fmt: skip
    return Replayed(out, accepted)


def _hashes(ids: pl.Series) -> npt.NDArray[np.uint64]:
    return np.fromiter((hash64(ident) for ident in ids), np.uint64, len(ids))


def _codes(ids: pl.Series, others: pl.Series) -> tuple[Ints, Ints]:
    """The same number for the same id in both; -1 for null."""
    codes = pl.concat([ids, others]).cast(pl.Categorical).to_physical()
    both = codes.cast(pl.Int64).fill_null(-1).to_numpy()
    _, dense = np.unique(both[both >= 0], return_inverse=True)
    numbers = np.full(len(both), -1, np.int64)
    numbers[both >= 0] = dense
    return numbers[: len(ids)], numbers[len(ids) :]


def _amounts(transactions: pl.DataFrame, rates: Rates) -> Ints:
    amounts: Ints = np.array(transactions["amount"].to_numpy(), np.int64)
    for currency in transactions["currency"].unique():
        if currency == rates.currency:
            continue
        if currency not in rates.factors:
            raise ValueError(f"no rate for {currency!r}: known are {', '.join(sorted(rates.factors))}")
        rows = np.flatnonzero((transactions["currency"] == currency).to_numpy())
        amounts[rows] = [min(rates.convert(int(amount), currency), MAX_PROFILE_AMOUNT) for amount in amounts[rows]]
    amounts[amounts > MAX_PROFILE_AMOUNT] = MAX_PROFILE_AMOUNT
    return amounts
