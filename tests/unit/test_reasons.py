"""What an alert says it is about is exactly what the booster's own contributions say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
import pytest

from features.catalogue import Feature, Unit
from schemas.bundle import FORMAT, TREES, Calibration, Manifest, Thresholds, digest_of
from schemas.errors import UnusableModel
from streaming.budget import Budget
from streaming.bundle import LoadedBundle
from streaming.phrases import Phrasing
from streaming.reasons import AT_ONCE, Explainer, reasons
from streaming.treeshap import explain, forest_of, quadrature
from tests.fleet.messages import a_transaction
from tests.unit.boosters import Vectors, a_booster, hard_vectors, some_vectors
from training.bundle import write
from training.learners.lightgbm import export, trees_of

Floats = np.ndarray[Any, np.dtype[np.float64]]


def contributions_of(booster: lgb.Booster, vectors: Vectors) -> Floats:
    forest = forest_of(trees_of(booster))
    out = np.full((len(vectors), booster.num_feature()), np.nan)
    explain(vectors, forest, *quadrature(forest.longest), out)
    return out


def lightgbms(booster: lgb.Booster, vectors: Vectors) -> Floats:
    return np.asarray(booster.predict(vectors, pred_contrib=True), np.float64)


def require_alike(booster: lgb.Booster, vectors: Vectors) -> None:
    told, expected = contributions_of(booster, vectors), lightgbms(booster, vectors)[:, :-1]
    largest = np.abs(expected).max(axis=1, keepdims=True)

    assert (np.abs(told - expected) <= 1e-9 * np.maximum(np.abs(expected), 1e-3 * largest)).all()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"use_missing": False},
        {"zero_as_missing": True},
        {"num_leaves": 2},
        {"num_leaves": 63, "min_data_in_leaf": 1},
        {"boosting": "dart"},
        {"extra_trees": True, "feature_fraction": 0.5},
    ],
    ids=lambda params: ",".join(params) or "defaults",
)
@pytest.mark.parametrize("seed", range(3))
def test_contributions_are_lightgbms(params: dict[str, Any], seed: int) -> None:
    booster = a_booster(some_vectors(seed), seed=seed, **params)

    require_alike(booster, hard_vectors(booster, trees_of(booster), seed, rows=200))


def test_ways_of_more_features_than_one_pass_is_exact_for() -> None:
    random = np.random.default_rng(4)
    vectors = random.normal(size=(4_000, 48)).astype(np.float32)
    target = sum((i + 1) ** 0.5 * (vectors[:, i] > 0.8) * (vectors[:, i - 1] > -1) for i in range(48))
    booster = lgb.train(
        {"objective": "regression", "num_leaves": 400, "min_data_in_leaf": 1, "verbose": -1, "num_threads": 1},
        lgb.Dataset(vectors, target),
        10,
    )
    forest = forest_of(trees_of(booster))

    assert forest.longest > 16
    assert quadrature(forest.longest)[0].shape == (-(-forest.longest // 16), 8)
    require_alike(booster, vectors[:50])


@pytest.mark.parametrize("longest", [1, 8, 16, 17, 40])
def test_the_quadrature_is_exact_for_so_many_features(longest: int) -> None:
    points, weights = quadrature(longest)

    for power in range(longest):
        assert (weights * points**power).sum() == pytest.approx(1 / (power + 1), rel=1e-13)


def test_a_feature_that_no_tree_asks_contributes_nothing() -> None:
    vectors = some_vectors(1)
    vectors[:, 2] = 7
    booster = a_booster(vectors)

    assert (contributions_of(booster, vectors)[:, 2] == 0).all()


def test_trees_of_a_single_leaf_contribute_nothing() -> None:
    vectors = some_vectors(1)
    booster = a_booster(vectors, min_data_in_leaf=10_000)

    assert (contributions_of(booster, vectors) == 0).all()


NAMES = tuple("abcdef")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    booster = a_booster(some_vectors(0))
    exported = export(booster)
    vectors = hard_vectors(booster, exported.trees, 0, rows=256)
    return write(
        tmp_path,
        exported=exported,
        manifest=Manifest(
            format=FORMAT, catalogue="c", features=NAMES, thresholds=Thresholds(review=0.5, decline=0.9),
            calibration=Calibration(), learner={}, trained={}, metrics={}, base=exported.base,
        ),
        golden_vectors=vectors,
        golden_margins=np.asarray(booster.predict(vectors, raw_score=True), np.float64),
        evaluation="",
    )  # fmt: skip


def load(folder: Path) -> LoadedBundle:
    return LoadedBundle.load(folder, features=NAMES, catalogue="c")


def test_the_contributions_of_a_bundle_add_up_to_its_margins(folder: Path) -> None:
    bundle = load(folder)
    vectors = some_vectors(9)
    contributions = Explainer(bundle, currency="EUR").contributions(np.asfortranarray(vectors))

    assert contributions.shape == vectors.shape
    assert contributions.sum(axis=1) + bundle.manifest.base == pytest.approx(bundle.margins(vectors), rel=1e-12)
    assert Explainer(bundle, currency="EUR").contributions(vectors[:0]).shape == (0, 6)


def test_a_row_is_explained_alike_alone_and_among_others(folder: Path) -> None:
    explainer, vectors = Explainer(load(folder), currency="EUR"), some_vectors(9)
    together = explainer.contributions(vectors)

    assert all((explainer.contributions(vectors[i : i + 1])[0] == together[i]).all() for i in range(50))


def test_trees_of_another_model_than_the_graph_are_refused(folder: Path) -> None:
    trees_of(a_booster(some_vectors(1), seed=1)).write_parquet(folder / TREES)
    other = folder.rename(folder.parent / digest_of(folder))

    with pytest.raises(UnusableModel, match="graph, trees and linear terms are of two models"):
        Explainer(load(other), currency="EUR")


PHRASING = Phrasing(
    tuple(Feature(name=name, unit=Unit.COUNT, meaning=f"of what {name} means") for name in "abcdefgh"),
    {"g": 2.0},
    "EUR",
)


def test_an_alert_gives_the_five_that_speak_most_for_fraud_the_strongest_first() -> None:
    vector = np.array([1, 2, np.nan, 4, np.inf, 6, 7, 8], np.float32)
    contributions = np.array([0.1, -3.0, 0.7, 0.2, 0.9, 0.3, 0.4, 0.0])
    told = reasons(vector, contributions, PHRASING)

    assert [reason.feature for reason in told] == ["e", "c", "g", "f", "d"]
    assert [reason.value for reason in told] == [None, None, 7.0, 6.0, 4.0]
    assert told[1].meaning == "of what c means"
    assert [reason.text for reason in told[1:3]] == ["of what c means: unknown", "7 of what g means, usually 2"]
    assert told[1].contribution == 0.7
    assert msgspec.json.decode(msgspec.json.encode(told[1]))["value"] is None


def test_what_speaks_against_fraud_is_no_reason() -> None:
    told = reasons(np.zeros(8, np.float32), np.array([-1, -2, 0, 0.5, -1, -1, -1, -1.0]), PHRASING)

    assert [reason.feature for reason in told] == ["d"]


def test_within_a_budget_the_first_are_explained_and_the_others_are_pending(folder: Path) -> None:
    explainer, vectors = Explainer(load(folder), currency="EUR"), some_vectors(9)[: 3 * AT_ONCE]
    rows = [a_transaction()] * len(vectors)
    told = explainer.reasons_within(Budget(1.0), vectors, rows)

    assert told == explainer.reasons(vectors, rows)
    assert explainer.reasons_within(Budget(0.0), vectors, rows) == ["pending"] * len(vectors)
    assert explainer.reasons_within(ABudgetForOneMore(), vectors, rows) == told[:AT_ONCE] + ["pending"] * 2 * AT_ONCE
    assert explainer.reasons_within(Budget(0.0), vectors[:0], []) == []


class ABudgetForOneMore(Budget):
    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(0.01, clock=self._tick)

    def _tick(self) -> float:
        """Each look at the clock takes longer than what was saved up."""
        self._now += 0.06
        return self._now
