"""Training describes a transaction as a worker does, to the bit; and where it didn't, these tests would say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate, groupby
from random import Random

import numpy as np
import polars as pl
import pytest

from features.accepting import Rules
from features.catalogue import FEATURES, OF_THE_COUNTERPARTY
from loadgen.simulate import World, simulate
from schemas.activity import CounterpartyActivity
from schemas.currencies import UNITS_PER_EURO, Rates
from schemas.encoding import encode_labels, encode_transactions
from schemas.label import decode_label
from schemas.transaction import decode_transaction
from schemas.wire import microseconds
from tests.builders import RULES, Shelf, a_record
from training.replay import vectors

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Past:
    """Frames as schemas.tables has them, in the order of the log."""

    transactions: pl.DataFrame
    labels: pl.DataFrame


@cache
def a_past() -> Past:
    """Seven weeks of forty accounts, in several currencies and time zones.

    Some transactions come twice, some late, some under a used id; labels are taken back, or come of nothing.
    """
    world = World(
        start=START, end=START + timedelta(days=48), accounts=40, counterparties=15, per_day=28, fraud_share=0.12
    )
    past = simulate(world)
    random = Random(5)
    rows = list(range(past.transactions.height))
    for _ in range(60):
        row = random.randrange(len(rows) - 20)
        rows.insert(row + random.randrange(1, 20), rows[row])  # again
    for _ in range(60):
        row = random.randrange(len(rows) - 20)
        rows.insert(row + random.randrange(1, 20), rows.pop(row))  # late
    transactions = past.transactions[rows]
    again = transactions["transaction_id"].is_duplicated() & (pl.Series(range(len(rows))) % 3 == 0)
    spoiled = transactions.with_columns(amount=pl.when(again).then(pl.col("amount") + 1).otherwise(pl.col("amount")))
    taken_back = past.labels.sample(20, seed=1).with_columns(
        is_fraud=pl.lit(value=False), known_at=pl.col("known_at") + timedelta(days=2)
    )
    of_nothing = past.labels.sample(5, seed=2).with_columns(transaction_id=pl.col("transaction_id") + "?")
    labels = pl.concat([past.labels, taken_back, of_nothing]).sort("known_at", maintain_order=True)
    return Past(spoiled, labels)


@dataclass(frozen=True)
class Described:
    """By offset: what each accepted transaction's vector is."""

    vectors: dict[int, bytes]

    @classmethod
    def by_training(cls, past: Past, rules: Rules = RULES) -> Described:
        replayed = vectors(past.transactions, past.labels, rules.rates)
        return cls({row: replayed.vectors[row].tobytes() for row in np.flatnonzero(replayed.accepted).tolist()})

    @classmethod
    def by_serving(cls, past: Past, rules: Rules = RULES, *, slow: int = 0) -> Described:
        """From the messages' bytes, one transaction at a time, each after what the replay takes to be known by then.

        With `slow` its counterparty hears of a transaction only so many moments later.
        """
        shelf, found = Shelf(rules), dict[int, bytes]()
        labels = [decode_label(value) for value in encode_labels(past.labels).values]
        transactions = [decode_transaction(value) for value in encode_transactions(past.transactions).values]
        arrivals = list(accumulate((microseconds(one.occurred_at) for one in transactions), max))
        underway: list[list[CounterpartyActivity]] = []
        heard = told = 0

        def hear(activity: list[CounterpartyActivity]) -> None:
            nonlocal told
            shelf.fold(activity=[(a_record(one, told + i), True) for i, one in enumerate(activity)])
            told += len(activity)

        for arrival, group in groupby(range(len(transactions)), key=arrivals.__getitem__):
            while heard < len(labels) and microseconds(labels[heard].known_at) <= arrival:
                hear(shelf.fold(labels=[(a_record(labels[heard], heard), True)]).activity)
                heard += 1
            activity: list[CounterpartyActivity] = []
            for offset in group:
                described = shelf.describe([(a_record(transactions[offset], offset), True)])
                activity += described.activity
                if described.transactions:
                    found[offset] = described.vectors[0].tobytes()
            underway.append(activity)
            if len(underway) > slow:
                hear(underway.pop(0))
        return cls(found)

    def differs_from(self, other: Described) -> dict[int, set[str]]:
        """By offset: which features; all, where only one of the two accepted the transaction."""
        return {
            offset: _unlike(self.vectors.get(offset), other.vectors.get(offset))
            for offset in sorted(self.vectors.keys() | other.vectors.keys())
            if self.vectors.get(offset) != other.vectors.get(offset)
        }


def _unlike(one: bytes | None, other: bytes | None) -> set[str]:
    if one is None or other is None:
        return set(FEATURES)
    bits, others = np.frombuffer(one, "<u4"), np.frombuffer(other, "<u4")
    return {FEATURES[i] for i in np.flatnonzero(bits != others)}


@pytest.fixture(scope="module")
def training() -> Described:
    return Described.by_training(a_past())


@pytest.fixture(scope="module")
def serving() -> Described:
    return Described.by_serving(a_past())


def test_training_and_serving_describe_a_transaction_alike(training: Described, serving: Described) -> None:
    assert training.differs_from(serving) == {}
    assert 1_200 < len(training.vectors) < a_past().transactions.height - 50  # duplicates and used ids get none


def test_they_do_so_in_any_currency() -> None:
    rules = Rules(rates=Rates.of("JPY", dict(UNITS_PER_EURO) | {"PLN": "9.99"}))

    assert Described.by_training(a_past(), rules).differs_from(Described.by_serving(a_past(), rules)) == {}


def test_the_past_has_everything_in_it_that_could_differ(training: Described) -> None:
    vectors = np.stack([np.frombuffer(raw, np.float32) for raw in training.vectors.values()])

    for name, values in zip(FEATURES, vectors.T, strict=True):
        assert len(np.unique(values[~np.isnan(values)])) > 1, name


# A difference, planted in either: it is found, and where it is.


def test_a_single_bit_is_a_difference(training: Described) -> None:
    offset = sorted(training.vectors)[1_000]
    bits = np.frombuffer(training.vectors[offset], "<u4").copy()
    bits[FEATURES.index("account_mean_7d")] ^= 1

    assert training.differs_from(Described(training.vectors | {offset: bits.tobytes()})) == {
        offset: {"account_mean_7d"}
    }


def with_rows(frame: pl.DataFrame, where: pl.Expr, **changed: pl.Expr) -> pl.DataFrame:
    return frame.with_columns(
        pl.when(where).then(value).otherwise(pl.col(name)).alias(name) for name, value in changed.items()
    )


ONE = pl.int_range(pl.len()) == 1_200
LAST_FRAUD = pl.int_range(pl.len()) == 40
PLANTED: dict[str, Callable[[Past], Past]] = {
    "one cent": lambda past: Past(with_rows(past.transactions, ONE, amount=pl.col("amount") + 1), past.labels),
    "one second": lambda past: Past(
        with_rows(past.transactions, ONE, occurred_at=pl.col("occurred_at") + timedelta(seconds=1)), past.labels
    ),
    "local time": lambda past: Past(past.transactions.with_columns(utc_offset=pl.lit(0, pl.Int16)), past.labels),
    "another account": lambda past: Past(with_rows(past.transactions, ONE, account_id=pl.lit("acct-000001")), past.labels),
    "no counterparty": lambda past: Past(with_rows(past.transactions, ONE, counterparty_id=pl.lit(None)), past.labels),
    "another currency": lambda past: Past(with_rows(past.transactions, ONE, currency=pl.lit("JPY")), past.labels),
    "a label less": lambda past: Past(past.transactions, past.labels.filter(~LAST_FRAUD)),
    "a label known sooner": lambda past: Past(
        past.transactions,
        with_rows(past.labels, LAST_FRAUD, known_at=pl.col("known_at") - timedelta(days=3)).sort("known_at"),
    ),
    "labels known at once": lambda past: Past(
        past.transactions, past.labels.with_columns(known_at=pl.col("occurred_at")).sort("known_at")
    ),
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_difference_is_found(planted: str, training: Described, serving: Described) -> None:
    wrong = PLANTED[planted](a_past())
    trained, served = Described.by_training(wrong), Described.by_serving(wrong)

    assert training.differs_from(served), "planted in serving"
    assert trained.differs_from(serving), "planted in training"
    assert trained.differs_from(served) == {}, "in both it is none"


def test_other_rates_are_found(training: Described) -> None:
    rules = Rules(rates=Rates.of("EUR", dict(UNITS_PER_EURO) | {"PLN": "4.25"}))
    found = training.differs_from(Described.by_serving(a_past(), rules))

    assert any("amount" in names for names in found.values())
    assert any("counterparty_mean_30d" in names for names in found.values())


def test_activity_that_comes_later_than_a_replay_has_it_is_found_where_it_matters(training: Described) -> None:
    """In the counterparty's features only; how many that is in a running system is what the checker counts."""
    found = training.differs_from(Described.by_serving(a_past(), slow=5))

    assert found
    assert {name for names in found.values() for name in names} <= set(FEATURES[OF_THE_COUNTERPARTY])
