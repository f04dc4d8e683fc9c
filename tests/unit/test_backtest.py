"""A backtest knows what was known, judges what came after, and its scores say what its figures say."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.unit.pasts import START, a_past
from training import __main__ as command
from training.backtest import Backtested, Described, Window, backtest, unknown_accounts
from training.errors import UnusablePast
from training.settings import TrainingSettings

TRANSACTIONS, LABELS = a_past()
DAY = timedelta(days=1)
LAST: datetime = TRANSACTIONS["occurred_at"].to_list()[-1]
TEST_FROM = START + (LAST - START) * 0.75
WINDOW = Window(train_until=TEST_FROM - 7 * DAY, test_from=TEST_FROM, test_until=LAST)
SETTINGS = TrainingSettings(trees=15, leaves=7, smallest_leaf=5, threads=1)
PAST = Described.of(TRANSACTIONS, LABELS)


def judged(past: Described = PAST, window: Window = WINDOW) -> Backtested:
    return backtest(past, window, SETTINGS)


@pytest.fixture(scope="module")
def found() -> Backtested:
    return judged()


def test_it_judges_what_came_after_and_learns_from_what_had_matured(found: Backtested) -> None:
    when = TRANSACTIONS["occurred_at"]

    assert found.rows.tolist() == np.flatnonzero(((when >= TEST_FROM) & (when < LAST)).to_numpy()).tolist()
    assert found.fit_rows == int((when < TEST_FROM - 7 * DAY).sum())
    assert found.evaluation.metrics["auc"] > 0.75


def test_no_label_known_after_the_tests_beginning_teaches_anything(found: Backtested) -> None:
    """The vectors of the test's rows may hold them, as a worker's do; the model may not."""
    known = LABELS["known_at"] <= TEST_FROM
    fewer = LABELS.filter(known | (pl.Series(np.arange(LABELS.height)) % 2 == 0))
    other = judged(Described.of(TRANSACTIONS, fewer))
    assert fewer.height < LABELS.height

    asked = PAST.vectors[found.rows[:50]]
    encoded = np.zeros((50, len(other.fitted.importance()) - asked.shape[1]), np.float32)
    vectors = np.hstack([asked, encoded])
    assert other.fitted.margins(vectors).tobytes() == found.fitted.margins(vectors).tobytes()


def test_the_training_begins_where_it_is_told_to() -> None:
    since = START + 5 * DAY
    some = judged(
        window=Window(train_from=since, train_until=TEST_FROM - 7 * DAY, test_from=TEST_FROM, test_until=LAST)
    )
    when = TRANSACTIONS["occurred_at"]

    assert some.fit_rows == int(((when >= since) & (when < TEST_FROM - 7 * DAY)).sum())


def test_an_account_is_left_out_from_when_its_fraud_is_known() -> None:
    rows = np.flatnonzero((TRANSACTIONS["occurred_at"] >= TEST_FROM).to_numpy())
    midnight = TEST_FROM.replace(hour=0, minute=0, second=0, microsecond=0)
    asked = int(midnight.timestamp() * 1e6)
    told = unknown_accounts(PAST, rows, asked, 7 * DAY)

    frauds: dict[str, list[datetime]] = {}
    for account, when in TRANSACTIONS.filter(pl.Series(PAST.is_fraud)).select("account_id", "occurred_at").rows():
        frauds.setdefault(account, []).append(when)
    by_hand = []
    for account, when in TRANSACTIONS[rows].select("account_id", "occurred_at").rows():
        day = when.replace(hour=0, minute=0, second=0, microsecond=0)
        known = any(
            midnight - 14 * DAY <= fraud < midnight - 7 * DAY  # in the published training
            or midnight - 14 * DAY <= fraud < day - 7 * DAY  # by the end of the day that is a delay before yesterday
            for fraud in frauds.get(account, [])
        )
        by_hand.append(not known)
    assert told.tolist() == by_hand
    assert 0 < sum(told) < len(told)


@pytest.mark.parametrize(
    "window",
    [
        {"train_until": TEST_FROM, "test_from": TEST_FROM - DAY, "test_until": LAST},
        {"train_until": TEST_FROM - DAY, "test_from": TEST_FROM, "test_until": TEST_FROM},
        {"train_from": TEST_FROM, "train_until": TEST_FROM - DAY, "test_from": TEST_FROM, "test_until": LAST},
    ],
)
def test_a_window_in_another_order_is_refused(window: dict[str, Any]) -> None:
    with pytest.raises(UnusablePast, match="what would do is --train-from before"):
        Window(**window)


def test_a_training_without_frauds_is_refused() -> None:
    with pytest.raises(UnusablePast, match="an earlier --train-from"):
        judged(
            window=Window(
                train_from=START, train_until=START + timedelta(minutes=1), test_from=TEST_FROM, test_until=LAST
            )
        )


def test_anyone_can_compute_the_figures_again_from_the_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    TRANSACTIONS.write_parquet(tmp_path / "transactions.parquet")
    LABELS.write_parquet(tmp_path / "labels.parquet")
    out = tmp_path / "scores.parquet"
    until, begin = f"{TEST_FROM - 7 * DAY:%Y-%m-%d}", f"{TEST_FROM:%Y-%m-%d}"
    said = ["--train-until", until, "--test-from", begin, "--set", "lightgbm.num_iterations=15", "--threads", "1"]
    monkeypatch.setattr(
        "sys.argv", ["training", "backtest", "--file", str(tmp_path), *said, "--scores", str(out), "--json"]
    )
    with pytest.raises(SystemExit) as left:
        command.main()

    assert left.value.code == 0
    report = json.loads(capsys.readouterr().out)
    scores = pl.read_parquet(out)
    assert report["test"]["rows"] == scores.height == scores["transaction_id"].n_unique()
    assert report["metrics"]["auc"] == pytest.approx(roc_auc_score(scores["is_fraud"], scores["score"]))
    assert report["metrics"]["average_precision"] == pytest.approx(
        average_precision_score(scores["is_fraud"], scores["score"])
    )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
