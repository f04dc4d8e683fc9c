"""`training backtest` on tables it has never seen: their recipe is nobody's, and plain LightGBM must not do better.

What a row's fraud was drawn by is known (tests/unit/tables.py), so it is known too what there is to be found.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from tests.unit.tables import Table, applications, cards, components, orders, wallets
from training import __main__ as command

NOISE = 2.0
"""Standard errors, by which one that learns as well may be behind on so few frauds."""


class Judged:
    """What a backtest reports of a table, and the scores that it leaves."""

    def __init__(self, table: Table, report: dict[str, Any], scores: pl.DataFrame) -> None:
        self.table, self.report, self.scores = table, report, scores

    @property
    def average_precision(self) -> float:
        return float(self.report["metrics"]["average_precision"])

    def behind_plain(self) -> float:
        """By how many standard errors plain LightGBM's average precision is higher."""
        is_fraud, ours = self.scores["is_fraud"].to_numpy(), self.scores["score"].to_numpy()
        plain, random = self.table.plainly_scored(), np.random.default_rng(0)

        def difference(weights: Any) -> float:
            return float(
                average_precision_score(is_fraud, plain, sample_weight=weights)
                - average_precision_score(is_fraud, ours, sample_weight=weights)
            )

        drawn = [difference(random.poisson(1, len(ours))) for _ in range(30)]
        return difference(None) / float(np.std(drawn))

    @property
    def knowing(self) -> float:
        """By what the frauds were drawn by."""
        judged = self.table.judged
        return float(average_precision_score(self.table.fraud()[judged], self.table.truth[judged]))


Judge = Callable[..., Judged]


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Judge:
    """The command, end to end."""

    def judged(table: Table, *more: str, file: Path | None = None) -> Judged:
        written, mapping = table.write(tmp_path)
        scores = tmp_path / "scores.parquet"
        given: Sequence[object] = (
            *(file or written, "--mapping", mapping, *table.command, "--scores", scores, "--json"),
            *("--threads", "1", *more),
        )
        monkeypatch.setattr("sys.argv", ["training", "backtest", *map(str, given)])
        with pytest.raises(SystemExit) as left:
            command.main()
        out, err = capsys.readouterr()
        assert left.value.code == 0, err
        return Judged(table, json.loads(out), pl.read_parquet(scores))

    return judged


@pytest.mark.parametrize(
    ("make", "share"),
    [
        pytest.param(wallets, 0.4, id="steps of an hour"),
        pytest.param(components, 0.4, id="nobody is named, 0.2 % frauds", marks=pytest.mark.slow),
        pytest.param(orders, 0.5, id="hundreds of columns", marks=pytest.mark.slow),
        pytest.param(cards, 0.35, id="places and categories"),
        pytest.param(applications, 0.85, id="months, 12 % frauds"),
    ],
)
def test_it_finds_what_there_is_to_be_found(make: Callable[[], Table], share: float, judge: Judge) -> None:
    found = judge(make())

    assert found.behind_plain() <= NOISE
    assert found.average_precision >= share * found.knowing


def test_the_scores_are_of_the_tables_own_rows_also_where_these_have_no_ids(judge: Judge) -> None:
    """`row-17` is the seventeenth below the header and the first: numbers begin at 0."""
    table = components(rows=6_000, share=0.03)
    found = judge(table, "--set", "lightgbm.num_iterations=20")

    rows = found.scores["transaction_id"].str.strip_prefix("row-").cast(pl.Int64).to_numpy()
    assert rows.tolist() == list(range(len(table.fraud())))[table.judged]
    assert found.scores["is_fraud"].to_list() == table.fraud()[rows].tolist()
    again = average_precision_score(table.fraud()[rows], found.scores["score"])
    assert found.average_precision == pytest.approx(again)


@pytest.mark.parametrize("once", [pytest.param(0.3, marks=pytest.mark.slow), 0.7])
def test_history_makes_the_first_transactions_of_accounts_no_worse(once: float, judge: Judge) -> None:
    found = judge(cards(once=once))
    first = found.report["first_transactions"]
    alone = found.scores.drop_nulls("score_alone")

    assert first["rows"] == alone.height > once / 2 * found.scores.height
    assert first["average_precision"] >= first["average_precision_alone"]
    assert first["average_precision"] == pytest.approx(average_precision_score(alone["is_fraud"], alone["score"]))
    assert first["average_precision_alone"] == pytest.approx(
        average_precision_score(alone["is_fraud"], alone["score_alone"])
    )
