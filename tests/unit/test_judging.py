"""How sure the figures are: what a draw of accounts gives, held to the plain figures of a table with those rows copied."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import metrics

from schemas.bundle import Thresholds
from tests.unit.effort import least_work
from training.costs import Costs
from training.evaluate import Kept, card_precision_by_day
from training.judging import DRAWN, Opinion, drawn, judge

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
THRESHOLDS = Thresholds(review=0.5, decline=0.8)
COSTS = Costs(review=300, wrong_decline=900)


def some_rows(*, rows: int, accounts: int, days: int = 3, fraud: float = 0.3, seed: int = 0) -> Kept:
    random = np.random.default_rng(seed)
    return Kept(
        is_fraud=random.random(rows) < fraud,
        account=pl.Series([f"a{i:07d}" for i in random.integers(0, accounts, rows)]),
        occurred_at=pl.Series([NOON + timedelta(days=int(day)) for day in random.integers(0, days, rows)]),
        amounts=random.integers(0, 9_000, rows),
        currency="EUR",
        days=float(days),
        segments={},
    )


def an_opinion(kept: Kept, *, seed: int = 1, help_of: float = 0.2) -> Opinion:
    """Of few different scores, so that there are ties."""
    random = np.random.default_rng(seed)
    scores = np.asarray((1 - help_of) * random.random(kept.is_fraud.size) + help_of * kept.is_fraud, np.float64)
    return Opinion(name="m", scores=scores.round(2), thresholds=THRESHOLDS)


def plainly(kept: Kept, opinion: Opinion, accounts: list[str]) -> list[float]:
    """DRAWN of a table that holds each drawn account's rows once for each time it was drawn, under a name of its own."""
    rows, names = [], []
    for name in sorted(set(accounts)):
        own = np.flatnonzero((kept.account == name).to_numpy())
        for copy in range(accounts.count(name)):
            rows += own.tolist()
            names += [f"{name}#{copy:03d}"] * own.size
    is_fraud, scores = kept.is_fraud[rows], opinion.scores[rows]
    days = card_precision_by_day(scores, is_fraud, pl.Series(names), kept.occurred_at.gather(rows), review=0.5)
    cost = COSTS.of(scores, kept.amounts[rows], is_fraud, opinion.thresholds)
    return [
        float(metrics.roc_auc_score(is_fraud, scores)),
        float(metrics.average_precision_score(is_fraud, scores)),
        float(np.mean([day.card_precision for day in days])),
        1_000 * float(cost.mean()),
    ]


def test_a_draw_is_a_table_with_the_rows_of_the_drawn_accounts_copied() -> None:
    kept = some_rows(rows=900, accounts=170)
    models = [an_opinion(kept), an_opinion(kept, seed=2, help_of=0.4)]
    found = drawn(kept, models, costs=COSTS, seed=5, rounds=8)

    random = np.random.default_rng(5)
    names = sorted(set(kept.account))
    for number in range(8):
        accounts = [names[i] for i in random.integers(0, len(names), len(names))]
        for which, model in enumerate(models):  # both see the same accounts
            assert found[which, number] == pytest.approx(plainly(kept, model, accounts))


def test_the_model_against_itself_differs_in_no_draw() -> None:
    kept = some_rows(rows=400, accounts=60)
    model = an_opinion(kept)
    judgement = judge(kept, model, model, costs=COSTS, seed=0)

    assert all((between.low, between.high) == (0, 0) for between in judgement.differences.values())
    assert judgement.champion is not None
    assert judgement.model.intervals == judgement.champion.intervals


def test_drawn_in_pairs_a_small_difference_is_seen_where_the_intervals_overlap() -> None:
    kept = some_rows(rows=4_000, accounts=400, fraud=0.05)
    better = an_opinion(kept, help_of=0.30)
    worse = Opinion(name="w", scores=better.scores - 0.03 * kept.is_fraud, thresholds=THRESHOLDS)
    judgement = judge(kept, better, worse, costs=COSTS, seed=0)

    assert judgement.champion is not None
    assert judgement.champion.intervals["auc"].high > judgement.model.intervals["auc"].low
    assert judgement.differences["auc"].low > 0


def test_the_interval_covers_the_figure_and_shrinks_with_more_accounts() -> None:
    wide: list[float] = []
    for accounts in (40, 4_000):
        kept = some_rows(rows=5 * accounts, accounts=accounts)
        judged = judge(kept, an_opinion(kept), None, costs=COSTS, seed=0).model
        for name in ("auc", "average_precision", "cost_per_1000"):
            assert judged.intervals[name].low < judged.evaluation.metrics[name] < judged.intervals[name].high
        wide.append(judged.intervals["auc"].high - judged.intervals["auc"].low)

    assert wide[1] < wide[0] / 5


def test_the_same_seed_gives_the_same_intervals() -> None:
    kept = some_rows(rows=400, accounts=60)

    def between(seed: int) -> Any:
        return judge(kept, an_opinion(kept), None, costs=COSTS, seed=seed).model.intervals

    assert between(3) == between(3) != between(4)
    assert set(between(3)) == set(DRAWN)


def test_draws_of_one_class_say_nothing_of_the_curves() -> None:
    is_fraud = np.array([True, False, False])
    kept = Kept(
        is_fraud=is_fraud,
        account=pl.Series(["a", "b", "b"]),
        occurred_at=pl.Series([NOON] * 3),
        amounts=np.array([100, 200, 300]),
        currency="EUR",
        days=1.0,
        segments={},
    )
    figures = drawn(kept, [an_opinion(kept)], costs=COSTS, seed=0, rounds=40)[0]

    one_class = np.isnan(figures[:, 0])
    assert 0 < one_class.sum() < 40
    assert np.isnan(figures[one_class, 1]).all()
    assert not np.isnan(figures[:, 2:]).any()


def test_eight_times_as_many_rows_are_drawn_in_eight_times_the_time_or_so() -> None:
    def seconds(rows: int) -> float:
        kept = some_rows(rows=rows, accounts=3_000, fraud=0.01, days=14)
        models = [an_opinion(kept), an_opinion(kept, seed=2)]
        drawn(kept, models, costs=COSTS, seed=0, rounds=1)  # compiled before the clock runs
        return least_work(lambda: drawn(kept, models, costs=COSTS, seed=0, rounds=20))

    assert seconds(200_000) < 24 * seconds(25_000)  # 64 times, were it with the square
