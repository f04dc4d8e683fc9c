"""The published features, which nobody here computed, follow from what the worker judged by.

A sample of what `make oracle` does with all of August: two days of forty customers, of whom everything is there, and of
forty terminals, half of which had frauds, of which everything is there as well.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.oracle import PUBLISHED_FILE, TRANSACTIONS_FILE, Part, Road, in_steps, read
from benchmarks.published import OF_THE_CUSTOMER, OF_THE_TERMINAL, OF_THE_TIME, Seen, compare
from deploy.local.jars import PROJECT
from deploy.local.stack import LocalStack
from features.load import load
from tests.fleet.fleet import Fleet

DATA = (PROJECT / os.environ.get("DATA", "../shared/data/handbook")).resolve()
BEGIN, DAYS = datetime(2018, 8, 14, tzinfo=UTC), 2
MANY = 40

needs_the_data = pytest.mark.skipif(
    not all((DATA / name).exists() for name in (TRANSACTIONS_FILE, PUBLISHED_FILE)),
    reason=f"{DATA} has no {TRANSACTIONS_FILE} and {PUBLISHED_FILE}: set DATA to the folder of the handbook's data",
)


@needs_the_data
def test_two_days_of_the_published_features_follow_from_the_verdicts(
    stack: LocalStack, prefix: str, bundle: Path
) -> None:
    past, live, published = read(DATA, BEGIN, DAYS)
    customers = live.transactions["account_id"].unique().sort().head(MANY)
    terminals = some_terminals(past, live)
    past, live = (only(part, customers, terminals) for part in (past, live))
    published = published.filter(pl.col("transaction_id").is_in(live.transactions["transaction_id"].implode()))
    with Fleet(stack, prefix, bundle) as fleet:
        load(fleet.settings, past.transactions, past.labels)
        fleet.start()
        with Road(fleet.settings) as road:
            seen = Seen(live.transactions, road.take(live))
        report = fleet.check(verdicts=live.transactions.height, dead_lettered={})
        assert (report.activity_late, report.vectors_different_if_instant) == (0, 0)

    for names, ids, derivations in (
        ("account_id", customers, (*OF_THE_TIME, *OF_THE_CUSTOMER)),
        ("counterparty_id", terminals, OF_THE_TERMINAL),
    ):
        rows = live.transactions[names].is_in(ids.implode()).to_numpy()
        compared, odd = compare(seen.of(rows), published.filter(pl.Series(rows)), derivations)
        assert odd == []
        assert all(line.equal == line.values >= MANY for line in compared)
    assert (seen["counterparty_matured_frauds_30d"] > 0).any(), "or the risks would say little"
    assert len(np.unique(seen["account_count_30d"])) > 10


def some_terminals(past: Part, live: Part) -> pl.Series:
    """Asked in these days, and half of them with a fraud before."""
    asked = live.transactions["counterparty_id"].unique().sort()
    defrauded = asked.filter(asked.is_in(past.labels["counterparty_id"].implode()))
    return pl.concat([asked.head(MANY // 2), defrauded.head(MANY // 2)]).unique()


def only(part: Part, customers: pl.Series, terminals: pl.Series) -> Part:
    """All that these paid and all that was paid there."""
    theirs = pl.col("account_id").is_in(customers.implode()) | pl.col("counterparty_id").is_in(terminals.implode())
    return Part(part.transactions.filter(theirs), part.labels.filter(theirs))


def test_no_counterparty_is_asked_in_the_step_in_which_it_was_paid() -> None:
    seconds = [0, 1, 5, 6, 8, 9]
    shops = ["a", "a", "b", "c", "b", "a"]
    transactions = pl.DataFrame(
        {"counterparty_id": shops, "occurred_at": [datetime(2018, 8, 1, 0, 0, s, tzinfo=UTC) for s in seconds]}
    )
    labels = pl.DataFrame({"known_at": [datetime(2018, 8, 1, 0, 0, s, tzinfo=UTC) for s in (5, 7, 59)]})
    # "a" twice within the settling time is as good as once; "b" after three seconds is not.
    assert list(in_steps(Part(transactions, labels))) == [(range(1), range(4)), (range(1, 3), range(4, 6))]
