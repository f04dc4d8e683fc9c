"""The figures are what they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bundle import FORMAT, Calibration, Manifest, Thresholds
from training.costs import Costs
from training.evaluate import CARDS, Evaluation, Kept, card_precision_by_day, evaluate, lift
from training.judging import Judgement, Opinion, judge
from training.page import page
from training.thresholds import NEVER
from training.validating import Finding

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def kept(is_fraud: npt.NDArray[np.bool_], **parts: Any) -> Kept:
    rows = is_fraud.size
    usual: dict[str, Any] = {
        "account": pl.Series(["a"] * rows),
        "occurred_at": pl.Series([NOON] * rows),
        "amounts": np.full(rows, 1_000),
        "currency": "EUR",
        "days": 1.0,
        "segments": {},
    }
    return Kept(is_fraud=is_fraud, **(usual | parts))


def a_judgement(*, thresholds: Thresholds | None = None, rows: int = 3_000, beside: bool = False) -> Judgement:
    random = np.random.default_rng(0)
    scores = random.beta(0.3, 6, rows)
    is_fraud = random.random(rows) < scores
    those = kept(
        is_fraud,
        account=pl.Series([f"a{i}" for i in random.integers(0, 900, rows)]),
        occurred_at=pl.Series([NOON + timedelta(minutes=float(i)) for i in np.linspace(0, 4 * 1_440, rows)]),
        amounts=random.integers(100, 9_000, rows),
        currency="EUR",
        days=4.0,
        segments={"channel": pl.Series(["<b>card</b>", "online", None]).sample(rows, with_replacement=True, seed=0)},
    )
    model = Opinion(name="this model", scores=scores, thresholds=thresholds or Thresholds(review=0.2, decline=0.6))
    champion = Opinion(
        name="0123<b>", scores=random.random(rows), thresholds=Thresholds(review=0.9, decline=0.95), knew=True
    )
    return judge(those, model, champion if beside else None, costs=Costs(), seed=0)


def an_evaluation(*, thresholds: Thresholds | None = None) -> Evaluation:
    return a_judgement(thresholds=thresholds).model.evaluation


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
    evaluation = evaluate(kept(is_fraud), scores=scores, thresholds=Thresholds(review=0.5, decline=0.95), costs=Costs())

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


BY_CAPACITY: dict[str, str | float] = {"policy": "capacity", "review_per_day": 20.0}
BY_CHAMPION: dict[str, str | float] = {"policy": "champion", "champion": "0ld", "flagged_share": 0.01}


def a_page(judgement: Judgement, *, odd: Sequence[Finding] = (), by: Mapping[str, str | float] = BY_CAPACITY) -> str:
    evaluation = judgement.model.evaluation
    thresholds = Thresholds(review=evaluation.review.threshold, decline=evaluation.decline.threshold)
    manifest = Manifest(
        format=FORMAT, catalogue="c", features=("amount", "<count>"), thresholds=thresholds,
        thresholds_by=dict(by), calibration=Calibration(),
        learner={"name": "lightgbm"},
        trained={
            "rows": 10_000, "frauds": 99, "from": "2026-02-01", "until": "2026-02-20", "validation_rows": 3_000,
            "validation_frauds": 50, "validation_from": "2026-03-01", "validation_until": "2026-03-05",
            "test_rows": 2_000, "test_frauds": 40, "test_from": "2026-03-05", "test_until": "2026-03-09",
            "known_until": "2026-03-16", "currency": "EUR",
        },
        metrics={},
    )  # fmt: skip
    return page(manifest, judgement, importance=np.array([0.75, 0.25]), uncalibrated=0.1, odd=odd)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("decline", [0.6, NEVER])
def test_the_page_is_whole_and_needs_nothing_from_elsewhere(decline: float, beside: bool) -> None:
    html = a_page(a_judgement(thresholds=Thresholds(review=0.2, decline=decline), beside=beside))
    tags = _Tags()
    tags.feed(html)

    assert tags.open == []
    assert tags.counted["svg"] == 4
    assert tags.counted["polyline"] == 3 + 2 * beside
    assert tags.counted["table"] == 4 + beside
    assert not {"script", "link", "img", "iframe"} & set(tags.counted)
    assert not {"src", "href"} & tags.attributes
    assert "//" not in html
    assert "url(" not in html
    assert "nan" not in html.lower()
    assert "<b>card</b>" not in html
    assert "&lt;count&gt;" in html
    assert ("decline: never" in html) == (decline == NEVER)
    assert "prefers-color-scheme: dark" in html


def test_the_page_shows_the_champion_beside_and_whether_it_knew_the_rows() -> None:
    judgement = a_judgement(beside=True)
    html = a_page(judgement)

    assert "bundle 0123&lt;b&gt;" in html
    assert "had a part in the champion" in html
    assert judgement.champion is not None
    difference = judgement.model.evaluation.metrics["auc"] - judgement.champion.evaluation.metrics["auc"]
    between = judgement.differences["auc"]
    assert f"<td>{difference:.4f}</td><td>{between.low:.4f} to {between.high:.4f}</td>" in html
    assert between.low > 0
    assert "none to compare with" in a_page(a_judgement())


def test_the_page_says_what_was_odd_and_how_the_thresholds_were_chosen() -> None:
    html = a_page(a_judgement(), odd=[Finding(about="labels", says="only <12> frauds")])

    assert "What is odd about the data" in html
    assert "only &lt;12&gt; frauds" in html
    assert "Thresholds by capacity: as many alerts as somebody can look at (review per day 20)." in html
    like = a_page(a_judgement(), by=BY_CHAMPION)
    assert "as many of the transactions that chose them as the champion (champion 0ld, flagged share 0.01)." in like
    assert "EUR per 1,000" in html
    assert "What is odd" not in a_page(a_judgement())


def test_lift_is_how_many_times_more_frauds_the_best_fifth_holds() -> None:
    scores = np.linspace(1, 0, 10)

    assert lift(scores, np.array([True, False, True, *[False] * 7]), share=0.2) == pytest.approx(2.5)
    assert lift(scores, np.array([True, True, *[False] * 8]), share=0.2) == 5
    assert lift(np.zeros(10), np.array([True, True, *[False] * 8]), share=0.2) == 1


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_lift_is_the_mean_over_all_orders_of_ties(rows: list[tuple[int, bool]]) -> None:
    rows = [*rows, (3, True)]
    scores, is_fraud = np.array([score for score, _ in rows]) / 5, np.array([fraud for _, fraud in rows])
    left, caught = 0.2 * len(rows), 0.0
    for score in sorted(set(scores.tolist()), reverse=True):
        of = is_fraud[scores == score]
        taken = min(left, of.size)
        left, caught = left - taken, caught + taken * of.mean()

    assert lift(scores, is_fraud, share=0.2) == pytest.approx(caught / is_fraud.sum() / 0.2)


def test_costs_add_up_over_the_days() -> None:
    is_fraud = np.array([True, True, False, False])
    evaluation = evaluate(
        kept(is_fraud, amounts=np.array([4_000, 9_000, 50, 70]),
             occurred_at=pl.Series([NOON, NOON + DAY, NOON + DAY, NOON + DAY])),
        scores=np.array([0.1, 0.5, 0.4, 0.95]),
        thresholds=Thresholds(review=0.3, decline=0.9),
        costs=Costs(missed_share=0.5, missed_fixed=100, review=10, wrong_decline=700),
    )  # fmt: skip

    assert list(evaluation.costs) == [2_100, 10 + 10 + 700]
    assert evaluation.metrics["cost_per_1000"] == pytest.approx(1_000 * 2_820 / 4)
    assert evaluation.metrics["cost_per_1000_if_all_are_approved"] == pytest.approx(1_000 * 6_700 / 4)
