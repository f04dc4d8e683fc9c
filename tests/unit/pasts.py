"""Small pasts that can be learnt from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from schemas.tables import LABEL_COLUMNS, TRANSACTION_COLUMNS

START = datetime(2026, 3, 1, tzinfo=UTC)


def a_past(
    *, days: float = 40, per_day: int = 120, seed: int = 0, label_after: timedelta = timedelta(days=3)
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Transactions and labels: one in thirty is a fraud, of a large amount at night; its label comes after some days."""
    random = np.random.default_rng(seed)
    rows = int(days * per_day)
    seconds = np.sort(random.uniform(0, days * 86_400, rows))
    times = [START + timedelta(seconds=round(float(second), 6)) for second in seconds]
    is_fraud = random.random(rows) < 1 / 30
    amount = np.where(is_fraud, random.lognormal(9, 0.8, rows), random.lognormal(7, 1, rows)).astype(np.int64)
    account = random.integers(0, 80, rows)
    counterparty = random.integers(0, 40, rows)
    transactions = pl.DataFrame(
        {
            "transaction_id": [f"t{i}" for i in range(rows)],
            "account_id": [f"a{i}" for i in account],
            "counterparty_id": [f"c{i}" if i else None for i in counterparty],
            "amount": amount,
            "currency": ["EUR"] * rows,
            "occurred_at": times,
            "utc_offset": [60] * rows,
            "channel": random.choice(["card", "online"], rows),
            "category": [None] * rows,
            "country": ["BE"] * rows,
            "latitude": [None] * rows,
            "longitude": [None] * rows,
            "device_id": [None] * rows,
            "ip": [None] * rows,
        }
    ).cast(pl.Schema(TRANSACTION_COLUMNS))
    return transactions, labels_of(transactions.filter(is_fraud), label_after)


def labels_of(transactions: pl.DataFrame, after: timedelta, *, is_fraud: bool = True) -> pl.DataFrame:
    """A label of each, so long after it."""
    return (
        transactions.with_columns(
            ("l-" + pl.col("transaction_id")).alias("label_id"),
            (pl.col("occurred_at") + after).alias("known_at"),
            pl.lit(is_fraud).alias("is_fraud"),
            pl.lit("simulation").alias("source"),
        )
        .select(list(LABEL_COLUMNS))
        .cast(pl.Schema(LABEL_COLUMNS))
    )
