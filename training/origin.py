"""Which past a model learnt from, so that another past can be told from it: marks of some of its transactions.

Dates alone can't: the model of another world, or of another bank's table, knows nothing of a transaction only because it
learnt at a later date.

A bundle goes to registries and to colleagues, and ids can be listed: marks are made by the installation's secret, and without
one there are none.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from features.hash_keys import PUBLIC, HashKeys

NEWEST, SPREAD = 64, 192
"""How many marks there are: of the last transactions, and of others at even steps before them, so that a stretch of the same
past that goes on to its end, or is longer than one step, has a marked one."""
_COLUMNS = ("transaction_id", "amount", "occurred_at")


def marks(transactions: pl.DataFrame, keys: HashKeys) -> tuple[str, ...]:
    """Of a past in the order of the log; the same past has the same marks by the same keys.  Empty where everybody knows them.

    A mark is the keys' fingerprint, a transaction's moment, in microseconds since 1970 UTC, and 16 hex digits of a keyed hash
    of its id and amount.
    """
    if keys == PUBLIC:
        return ()
    spread = np.linspace(0, transactions.height - 1, SPREAD).round().astype(np.int64)
    newest = np.arange(max(transactions.height - NEWEST, 0), transactions.height)
    rows = np.unique(np.concatenate([spread, newest])) if transactions.height else newest
    return tuple(dict.fromkeys(_marks_of(transactions.select(_COLUMNS)[rows.tolist()], keys)))


def disjoint(marked: tuple[str, ...], transactions: pl.DataFrame, keys: HashKeys) -> bool:
    """Whether it is known that none of the marked transactions is among these: not where other keys made the marks."""
    own = [mark for mark in marked if mark.startswith(f"{keys.fingerprint}-")]
    if not own or len(own) < len(marked):
        return False
    moments = pl.Series([int(mark.split("-", 1)[1].rpartition("-")[0]) for mark in own], dtype=pl.Int64)
    candidates = transactions.select(_COLUMNS).filter(pl.col("occurred_at").dt.epoch("us").is_in(moments.implode()))
    return set(own).isdisjoint(_marks_of(candidates, keys))


def _marks_of(transactions: pl.DataFrame, keys: HashKeys) -> list[str]:
    amounts, names = transactions["amount"].to_list(), transactions["transaction_id"].to_list()
    hashes = keys.contents.hashes_of_text([f"{amount} {name}" for amount, name in zip(amounts, names, strict=True)])
    moments = transactions["occurred_at"].dt.epoch("us").to_list()
    return [f"{keys.fingerprint}-{at}-{one:016x}" for at, one in zip(moments, hashes.tolist(), strict=True)]
