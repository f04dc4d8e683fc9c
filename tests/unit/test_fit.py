"""The same rows, settings and seed give the same booster; it stops where it was best."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import pytest

from schemas.errors import WrongSettings
from schemas.spans import duration, moment
from tests.unit.boosters import some_frauds, some_vectors
from training.learners.learner import Rows
from training.learners.lightgbm import FittedLightGBM, LightGBM
from training.settings import TrainingSettings

VECTORS = some_vectors(0, rows=4_000)
FRAUDS = some_frauds(VECTORS, 0).astype(bool)


def fitted(**settings: Any) -> FittedLightGBM:
    defaults: dict[str, Any] = {"trees": 40, "leaves": 15, "smallest_leaf": 5, "threads": 1}
    return LightGBM().fit(
        Rows(vectors=VECTORS[:3_000], is_fraud=FRAUDS[:3_000]),
        Rows(vectors=VECTORS[3_000:], is_fraud=FRAUDS[3_000:]),
        TrainingSettings(**(defaults | settings)),
        lambda _done, _most: None,
    )


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_threads() -> None:
    graphs = [fitted(threads=threads).exported().graph for threads in (1, 1, 2, 3)]

    assert all(graph == graphs[0] for graph in graphs)


def test_it_stops_where_the_average_precision_was_best() -> None:
    model = fitted(trees=300, learning_rate=0.5, patience=5)

    assert 0 < model.booster.best_iteration < 200
    assert model.card()["trees"] == model.booster.best_iteration
    assert model.exported().trees["tree"].max() == model.booster.best_iteration - 1


def test_what_brings_less_than_the_least_gain_ends_it() -> None:
    best, enough = (fitted(trees=300, patience=10, least_gain=gain).booster for gain in (0.0, 0.01))

    assert 0 < enough.best_iteration < best.best_iteration


def test_the_settings_reach_the_booster() -> None:
    trees = fitted(trees=3, leaves=4, smallest_leaf=100, feature_share=1.0).exported().trees

    assert trees["tree"].max() == 2
    assert trees.group_by("tree").len()["len"].max() == 7
    assert trees["cover"].min() >= 100  # type: ignore[operator]


def test_progress_is_told_tree_by_tree() -> None:
    told: list[tuple[int, int]] = []
    rows = Rows(vectors=VECTORS, is_fraud=FRAUDS)
    LightGBM().fit(rows, rows, TrainingSettings(trees=5, threads=1), lambda done, most: told.append((done, most)))

    assert told == [(i, 5) for i in range(1, 6)]


def test_importance_is_a_share_of_the_gain_and_margins_are_the_boosters() -> None:
    model = fitted()

    assert model.importance().sum() == pytest.approx(1)
    assert model.importance()[[0, 3]].sum() > 0.6  # what some_frauds is made of
    assert (model.margins(VECTORS) == model.booster.predict(VECTORS, raw_score=True)).all()


def test_the_card_names_what_makes_the_booster_and_nothing_that_does_not() -> None:
    one, two = (fitted(threads=n).card() for n in (1, 2))

    assert one == two
    assert one["name"] == "lightgbm"
    assert one["version"] == lgb.__version__
    assert one["num_leaves"] == 15


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("trees", 0), ("leaves", 1), ("learning_rate", 0.0), ("learning_rate", 1.5), ("feature_share", 0.0),
        ("review_share", 0.0), ("review_share", 1.1), ("review_per_day", -1.0), ("decline_precision", 2.0),
        ("seed", -1), ("threads", -1), ("patience", 0), ("smallest_leaf", 0), ("l2", -1.0),
        ("least_gain", -0.1), ("least_gain", 1.0),
        ("label_delay", -duration("1d")), ("validation", duration("0d")),
        ("train_until", moment("2026-01-01T00:00Z").replace(tzinfo=None)),
    ],
)  # fmt: skip
def test_a_setting_that_can_not_be_meant_is_named(setting: str, value: Any) -> None:
    with pytest.raises(WrongSettings, match=f"^{setting} (must|needs)"):
        TrainingSettings(**{setting: value})


@pytest.mark.parametrize("text", ["7", "d", "-3d", "7 weeks", "", "1e9d"])
def test_what_is_no_duration_says_how_to_write_one(text: str) -> None:
    with pytest.raises(WrongSettings, match="7d or 36h"):
        duration(text)


@pytest.mark.parametrize("text", ["yesterday", "2026-07-01", "2026-07-01T00:00:00", ""])
def test_a_moment_needs_its_offset(text: str) -> None:
    with pytest.raises(WrongSettings, match="2026-07-01T00:00:00Z"):
        moment(text)
