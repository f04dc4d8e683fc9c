"""The figures are what they are called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from schemas.bundle import FORMAT, Calibration, Manifest, Thresholds
from training.evaluate import CARDS, Evaluation, card_precision_by_day, evaluate
from training.page import page
from training.thresholds import NEVER

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def an_evaluation(*, thresholds: Thresholds | None = None, rows: int = 3_000) -> Evaluation:
    random = np.random.default_rng(0)
    scores = random.beta(0.3, 6, rows)
    is_fraud = random.random(rows) < scores
    return evaluate(
        scores=scores,
        is_fraud=is_fraud,
        account=pl.Series([f"a{i}" for i in random.integers(0, 900, rows)]),
        occurred_at=pl.Series([NOON + timedelta(minutes=float(i)) for i in np.linspace(0, 4 * 1_440, rows)]),
        thresholds=thresholds or Thresholds(review=0.2, decline=0.6),
        days=4.0,
        segments={"channel": pl.Series(["<b>card</b>", "online", None]).sample(rows, with_replacement=True, seed=0)},
    )


def test_card_precision_leaves_out_accounts_that_were_found_before() -> None:
    accounts = [f"a{i}" for i in range(150)]
    frauds = {"a0", "a1", "a120"}
    scores = [1 - i / 150 for i in range(150)]
    days = card_precision_by_day(
        np.array(scores * 2),
        np.array([name in frauds for name in accounts] * 2),
        pl.Series(accounts * 2),
        pl.Series([NOON] * 150 + [NOON + DAY] * 150),
        review=scores[0],
    )

    # On the second day a0 and a1 are gone, but a120 is not among the first hundred of the others.
    assert [day.card_precision for day in days] == [2 / CARDS, 0]
    assert [(day.day, day.rows, day.frauds, day.alerts, day.caught) for day in days] == [
        ("2026-03-01", 150, 3, 1, 1),
        ("2026-03-02", 150, 3, 1, 1),
    ]


def test_an_account_counts_by_its_highest_score_and_any_fraud_of_the_day() -> None:
    accounts = ["quiet", *(f"a{i}" for i in range(100)), "quiet"]
    scores = np.array([0.0, *np.linspace(0.5, 0.9, 100), 0.95])
    is_fraud = np.zeros(102, bool)
    is_fraud[0] = True
    (day,) = card_precision_by_day(scores, is_fraud, pl.Series(accounts), pl.Series([NOON] * 102), review=2.0)

    assert day.card_precision == 1 / CARDS


def test_the_confusion_adds_up_and_the_metrics_follow_from_it() -> None:
    evaluation = an_evaluation()
    metrics = evaluation.metrics

    for at in (evaluation.review, evaluation.decline):
        assert at.caught + at.wrong + at.missed + at.passed == 3_000
    assert metrics["review_precision"] == evaluation.review.caught / (
        evaluation.review.caught + evaluation.review.wrong
    )
    assert metrics["alerts_per_day"] == (evaluation.review.caught + evaluation.review.wrong) / 4
    assert metrics["review_recall"] > metrics["decline_recall"]
    assert sum(part.rows for part in evaluation.segments) == 3_000
    assert {part.value for part in evaluation.segments} == {"<b>card</b>", "online", "not said"}
    assert sum(day.frauds for day in evaluation.days) == evaluation.review.caught + evaluation.review.missed


def test_recall_at_one_percent_false_positives() -> None:
    is_fraud = np.array([True] * 4 + [False] * 100)
    scores = np.array([0.9, 0.8, 0.4, 0.1, 0.85, *np.linspace(0.3, 0.2, 99)])
    evaluation = evaluate(
        scores=scores, is_fraud=is_fraud, account=pl.Series(["a"] * 104), occurred_at=pl.Series([NOON] * 104),
        thresholds=Thresholds(review=0.5, decline=0.95), days=1.0, segments={},
    )  # fmt: skip

    assert evaluation.metrics["recall_at_1_percent_false_positives"] == 0.75
    assert evaluation.metrics["brier"] == pytest.approx(np.mean((scores - is_fraud) ** 2))


def test_a_threshold_that_nothing_reaches_has_no_precision() -> None:
    evaluation = an_evaluation(thresholds=Thresholds(review=0.2, decline=NEVER))

    assert "decline_precision" not in evaluation.metrics
    assert evaluation.metrics["decline_recall"] == 0


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.counted: dict[str, int] = {}
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counted[tag] = self.counted.get(tag, 0) + 1
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counted[tag] = self.counted.get(tag, 0) + 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("decline", [0.6, NEVER])
def test_the_page_is_whole_and_needs_nothing_from_elsewhere(decline: float) -> None:
    thresholds = Thresholds(review=0.2, decline=decline)
    manifest = Manifest(
        format=FORMAT, catalogue="c", features=("amount", "<count>"), thresholds=thresholds,
        calibration=Calibration(), learner={"name": "lightgbm"},
        trained={
            "rows": 10_000, "frauds": 99, "from": "2026-02-01", "until": "2026-02-20", "validation_rows": 3_000,
            "validation_frauds": 50, "validation_from": "2026-03-01", "validation_until": "2026-03-05",
            "known_until": "2026-03-12",
        },
        metrics={},
    )  # fmt: skip
    html = page(manifest, an_evaluation(thresholds=thresholds), importance=np.array([0.75, 0.25]), uncalibrated=0.1)
    tags = _Tags()
    tags.feed(html)

    assert tags.open == []
    assert tags.counted["svg"] == 4
    assert tags.counted["polyline"] == 3
    assert tags.counted["table"] == 4
    assert not {"script", "link", "img", "iframe"} & set(tags.counted)
    assert not {"src", "href"} & tags.attributes
    assert "//" not in html
    assert "url(" not in html
    assert "nan" not in html.lower()
    assert "<b>card</b>" not in html
    assert "&lt;count&gt;" in html
    assert ("decline: never" in html) == (decline == NEVER)
