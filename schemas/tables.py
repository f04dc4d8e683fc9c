"""The two tables that a past is: what `loadgen simulate` writes, what a mapping makes of a foreign table, what training reads."""

from __future__ import annotations

from datetime import datetime

import polars as pl

UTC_TIME = pl.Datetime("us", "UTC")

TRANSACTION_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "transaction_id": pl.String,
    "account_id": pl.String,
    "counterparty_id": pl.String,  # null: nobody is named
    "amount": pl.Int64,  # minor units
    "currency": pl.String,
    "occurred_at": UTC_TIME,
    "utc_offset": pl.Int16,  # minutes east of UTC where it occurred: local hour and weekday come from it
    "channel": pl.String,
    "category": pl.String,
    "country": pl.String,
    "latitude": pl.Float64,
    "longitude": pl.Float64,
    "device_id": pl.String,
    "ip": pl.String,
}
"""Further columns are attributes, named `attributes.<name>`.  Rows stand in the order of the log."""

LABEL_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "label_id": pl.String,
    "transaction_id": pl.String,
    "account_id": pl.String,
    "counterparty_id": pl.String,
    "occurred_at": UTC_TIME,  # of the transaction
    "amount": pl.Int64,
    "is_fraud": pl.Boolean,
    "known_at": UTC_TIME,
    "source": pl.String,
}
"""Rows stand in the order of `known_at`."""
ATTRIBUTE = "attributes."


def part_of(
    transactions: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The transactions from `since` until before `until`, at most `limit`, and what becomes known in that time.

    Labels of earlier transactions that become known within it belong to it.
    """
    if since is not None:
        transactions = transactions.filter(pl.col("occurred_at") >= since)
        labels = labels.filter(pl.col("known_at") >= since)
    if until is not None:
        transactions = transactions.filter(pl.col("occurred_at") < until)
        labels = labels.filter(pl.col("known_at") < until)
    if limit is not None and limit < transactions.height:
        transactions = transactions.head(limit)
        labels = labels.filter(pl.col("known_at") <= transactions["occurred_at"].max()) if limit else labels.head(0)
    return transactions, labels
