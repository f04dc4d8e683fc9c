"""Which past a model learnt from, so that another past can be told from it: marks of some of its transactions.

Dates alone can't: the model of another world, or of another bank's table, knows nothing of a transaction only because it
learnt at a later date.
"""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl

NEWEST, SPREAD = 64, 192
"""How many marks there are: of the last transactions, and of others at even steps before them, so that a stretch of the same
past that goes on to its end, or is longer than one step, has a marked one."""
_COLUMNS = ("transaction_id", "amount", "occurred_at")


def marks(transactions: pl.DataFrame) -> tuple[str, ...]:
    """Of a past in the order of the log; the same past has the same marks.

    A mark is a transaction's moment, in microseconds since 1970 UTC, and 16 hex digits of a hash of its id and amount: no
    account can be found by it.
    """
    spread = np.linspace(0, transactions.height - 1, SPREAD).round().astype(np.int64)
    newest = np.arange(max(transactions.height - NEWEST, 0), transactions.height)
    rows = np.unique(np.concatenate([spread, newest])) if transactions.height else newest
    return tuple(dict.fromkeys(_marks_of(transactions.select(_COLUMNS)[rows.tolist()])))


def share(marked: tuple[str, ...], transactions: pl.DataFrame) -> bool:
    """Whether any of the marked transactions is among these."""
    moments = pl.Series([int(mark.partition("-")[0]) for mark in marked], dtype=pl.Int64)
    candidates = transactions.select(_COLUMNS).filter(pl.col("occurred_at").dt.epoch("us").is_in(moments.implode()))
    return not set(marked).isdisjoint(_marks_of(candidates))


def _marks_of(transactions: pl.DataFrame) -> list[str]:
    moments = transactions["occurred_at"].dt.epoch("us").to_list()
    return [
        f"{moment}-{hashlib.sha256(f'{amount} {name}'.encode()).hexdigest()[:16]}"
        for moment, name, amount in zip(
            moments, transactions["transaction_id"].to_list(), transactions["amount"].to_list(), strict=True
        )
    ]
