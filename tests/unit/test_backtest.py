"""A backtest knows what was known, judges what came after, and its scores say what its figures say."""

from __future__ import annotations

import json
import re
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


def test_a_remedy_is_named_only_where_it_helps() -> None:
    def refusal(**window: Any) -> str:
        with pytest.raises(UnusablePast) as refused:
            judged(window=Window(**({"test_from": TEST_FROM, "test_until": LAST} | window)))
        return str(refused.value)

    minute = START + timedelta(minutes=1)
    early = refusal(train_until=minute)
    assert "a later --train-until would do" in early
    assert "--train-from" not in early
    assert "an earlier --train-from, or a later --train-until would do" in refusal(train_from=START, train_until=minute)
    no_test = refusal(train_until=TEST_FROM - 7 * DAY, test_from=LAST, test_until=LAST + timedelta(seconds=1))
    assert no_test.endswith("an earlier --test-from would do")
    assert "or a later --test-until, would do" in refusal(
        train_until=TEST_FROM - 7 * DAY, test_until=TEST_FROM + timedelta(seconds=1)
    )


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
    monkeypatch.setattr("sys.argv", ["training", "backtest", str(tmp_path), *said, "--scores", str(out), "--json"])
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


@pytest.fixture
def past(tmp_path: Path) -> Path:
    TRANSACTIONS.write_parquet(tmp_path / "transactions.parquet")
    LABELS.write_parquet(tmp_path / "labels.parquet")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["training", "backtest", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        command.main()
    return left.value.code


QUICK = ("--train-until", f"{TEST_FROM - 7 * DAY:%Y-%m-%d}", "--test-from", f"{TEST_FROM:%Y-%m-%d}", "--threads", "1")


def test_people_read_thresholds_money_and_what_was_attainable(
    past: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRAUD_CURRENCY", "GBP")
    few = ("--set", "lightgbm.num_iterations=15", "--set", "random-forest.n_estimators=5")
    several = ("--learner", "lightgbm,random-forest", "--thresholds-by", "cost", "--cost-review", "100")
    assert run(monkeypatch, past, *QUICK, *few, *several) == 0

    lines = {line[:36].strip(): line[37:] for line in capsys.readouterr().out.splitlines()}
    assert "average precision alone, on the rows that chose it: lightgbm" in lines[""]
    assert lines["cost_per_1000"].endswith(" GBP per 1,000 transactions")
    assert re.fullmatch(
        r"review from [\d.e-]+ \(\d+ transactions, \d+ of them frauds\), decline .*, by cost", lines["thresholds"]
    )
    precision, most = map(float, re.findall(r"\d\.\d+", lines["card_precision_100"]))
    by_day = TRANSACTIONS.filter(pl.Series(PAST.is_fraud) & (pl.col("occurred_at") >= day_of(TEST_FROM)))
    accounts = by_day.unique(["account_id"]).height
    days = TRANSACTIONS.filter(pl.col("occurred_at") >= day_of(TEST_FROM))["occurred_at"].dt.date().n_unique()
    assert 0 < precision <= most == pytest.approx(accounts / 100 / days, abs=1e-4)


def day_of(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--train-until", "soon", "--test-from", "2026-03-20"), "soon"),
        (("--train-until", "2026-03-20", "--test-from", "2026-03-19"), "what would do is --train-from before"),
        ((*QUICK, "--set", "lightgbm.leafs=3"), "[learners.lightgbm]"),
        ((*QUICK, "--thresholds-by", "champion"), "a backtest has no champion"),
        ((*QUICK, "--scores", "no/folder/scores.parquet"), "does not exist"),
    ],
)
def test_arguments_are_checked_before_anything_is_read(
    arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "nowhere", *arguments) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert said in told
    assert "nowhere" not in told


def test_the_scores_do_not_take_the_place_of_the_past(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "payments.csv"
    table.write_text("mine", encoding="utf-8")

    assert run(monkeypatch, table, *QUICK, "--scores", table) == 2
    assert "is the past itself" in " ".join(capsys.readouterr().err.split())
    assert table.read_text(encoding="utf-8") == "mine"
