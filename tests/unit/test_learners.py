"""Whatever learnt it, a bundle's graph answers what the learner answers, and its reasons add up to the margin."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
import xgboost as xgb
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression as Regression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from schemas.bundle_tables import LINEAR_COLUMNS, NODE_COLUMNS
from schemas.errors import WrongSettings
from streaming.reasons import LinearTerms
from streaming.treeshap import explain, forest_of, quadrature
from tests.unit.boosters import on_the_edges, some_frauds, some_vectors
from training.calibration import brier, calibrate, probabilities
from training.export import Exported, require_parity, run
from training.learners.chosen import learner_of
from training.learners.ensemble import BestAlone, FittedEnsemble, voted
from training.learners.learner import Fitted, Floats, Rows, Vectors, finite
from training.learners.logistic_regression import FittedLogisticRegression
from training.learners.random_forest import FittedRandomForest
from training.learners.xgboost import FittedXGBoost
from training.settings import LearnerName, Parameters, TrainingSettings

VECTORS = some_vectors(0, rows=3_000)
VECTORS[:, 1] = np.minimum(VECTORS[:, 1], 12)  # of few values, as hours are
FRAUDS = some_frauds(VECTORS, 0).astype(bool)
NAMES = tuple("abcdef")
FIT = Rows(vectors=VECTORS[:2_000], is_fraud=FRAUDS[:2_000], features=NAMES)
KEPT = Rows(vectors=VECTORS[2_000:], is_fraud=FRAUDS[2_000:], features=NAMES)

SMALL: dict[str, Parameters] = {
    "lightgbm": {"num_iterations": 30, "num_leaves": 7, "min_data_in_leaf": 5},
    "xgboost": {"n_estimators": 30, "max_depth": 3},
    "random-forest": {"n_estimators": 25, "max_depth": 6, "min_samples_leaf": 3},
    "logistic-regression": {"stairs": 16, "one_hot": ["b"]},
}
ENSEMBLE = "lightgbm,logistic-regression,random-forest"


def fitted(which: str, *, fit: Rows = FIT, kept: Rows = KEPT, seed: int = 0, threads: int = 1, **own: Any) -> Fitted:
    names = tuple(LearnerName(name) for name in which.split(","))
    parameters = {str(name): SMALL[name] | own for name in names}
    settings = TrainingSettings(learner=names, learners=parameters, seed=seed, threads=threads)
    return learner_of(settings).fit(fit, kept, settings, lambda _done, _most: None)


@pytest.fixture(scope="module", params=[*SMALL, ENSEMBLE])
def which(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(which: str) -> Fitted:
    return fitted(which)


@pytest.fixture(scope="module")
def exported(model: Fitted) -> Exported:
    return model.exported()


def hardest(exported: Exported, seed: int = 5, rows: int = 2_000) -> Vectors:
    ends = exported.linear.select("feature", pl.concat_list("lowest", "highest").alias("threshold")).explode(
        "threshold"
    )
    edges = pl.concat([exported.trees.select("feature", "threshold"), ends])
    return on_the_edges(edges, len(NAMES), seed, rows)


def contributions_of(exported: Exported, vectors: Vectors) -> Floats:
    forest = forest_of(exported.trees)
    out = np.empty(vectors.shape)
    explain(vectors, forest, *quadrature(forest.longest), out)
    LinearTerms(exported.linear).add_contributions(vectors, out)
    return out


# What holds of each


def test_the_graph_answers_what_the_learner_answers_on_edges_nan_infinities_and_denormals(
    model: Fitted, exported: Exported
) -> None:
    vectors = hardest(exported)

    require_parity(exported.graph, vectors, model.margins(vectors), tolerance=min(model.tolerance, 1e-9))


def test_learnt_again_from_the_same_rows_it_is_the_same_and_from_others_another(which: str, model: Fitted) -> None:
    settings = TrainingSettings(learner=tuple(LearnerName(name) for name in which.split(",")), threads=1)
    again, other = (model.again(rows, settings, lambda _done, _most: None) for rows in (FIT, KEPT))

    assert again.card() == model.card() == other.card()
    assert again.margins(VECTORS).tobytes() == model.margins(VECTORS).tobytes()
    assert other.margins(VECTORS).tobytes() != model.margins(VECTORS).tobytes()


def test_a_margin_does_not_depend_on_the_rows_beside_it(exported: Exported) -> None:
    vectors = hardest(exported, rows=300)
    whole = run(exported.graph, vectors)

    for rows in (1, 7, 64):
        parts = [run(exported.graph, vectors[start : start + rows]) for start in range(0, len(vectors), rows)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_the_contributions_add_up_to_the_margin(exported: Exported) -> None:
    vectors = hardest(exported, rows=200)
    told = contributions_of(exported, vectors).sum(axis=1) + exported.base

    assert told == pytest.approx(run(exported.graph, vectors), rel=1e-9, abs=1e-9)


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_threads(which: str, exported: Exported) -> None:
    again = fitted(which, threads=2).exported()

    assert again.graph == exported.graph
    assert again.trees.equals(exported.trees)
    assert again.linear.equals(exported.linear)


def test_it_learns(model: Fitted) -> None:
    suspicious = np.argsort(-model.margins(KEPT.vectors))[:100]

    assert KEPT.is_fraud[suspicious].mean() > 4 * KEPT.is_fraud.mean()
    assert model.importance().sum() == pytest.approx(1)
    assert model.importance()[[0, 3]].sum() > 0.5  # what some_frauds is made of


def test_calibrated_on_other_rows_its_scores_are_better_than_the_share_of_frauds(model: Fitted) -> None:
    margins = model.margins(KEPT.vectors)
    share = KEPT.is_fraud.mean()

    assert brier(margins, KEPT.is_fraud, calibrate(margins, KEPT.is_fraud)) < 0.8 * share * (1 - share)
    assert ((probabilities(margins, model.uncalibrated) >= 0) & (probabilities(margins, model.uncalibrated) <= 1)).all()


def test_a_row_that_weighs_more_counts_for_more(which: str, model: Fitted) -> None:
    heavy = Rows(vectors=FIT.vectors, is_fraud=FIT.is_fraud, features=NAMES, weights=np.where(FIT.is_fraud, 10.0, 1.0))
    if "," in which:
        return  # calibrated, it is what it was

    assert fitted(which, fit=heavy).margins(KEPT.vectors).mean() > model.margins(KEPT.vectors).mean()


def test_the_last_step_is_the_last(which: str) -> None:
    names = tuple(LearnerName(name) for name in which.split(","))
    settings = TrainingSettings(learner=names, learners=SMALL, threads=1)
    told: list[tuple[int, int]] = []
    learner_of(settings).fit(FIT, KEPT, settings, lambda done, most: told.append((done, most)))

    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)


def test_the_tables_are_a_bundles(exported: Exported) -> None:
    trees = exported.trees.with_row_index("row")
    inner = trees.filter(pl.col("feature") >= 0)

    assert dict(exported.trees.schema) == NODE_COLUMNS
    assert dict(exported.linear.schema) == LINEAR_COLUMNS
    assert (inner["left"] > inner["row"]).all()
    assert (inner["right"] > inner["row"]).all()
    assert exported.trees["tree"].unique().to_list() == list(range(int(exported.trees["tree"][-1]) + 1))
    assert exported.linear["feature"].is_unique().all()


def test_the_card_holds_what_a_manifest_can(model: Fitted) -> None:
    assert all(isinstance(value, str | int | float | bool | None) for value in model.card().values())
    assert model.card()["name"] in {*SMALL, "ensemble"}


# XGBoost


def xgboosted(**own: Any) -> FittedXGBoost:
    model = fitted("xgboost", **own)
    assert isinstance(model, FittedXGBoost)
    return model


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"tree_method": "exact", "base_score": 0.5, "early_stopping_rounds": 0},
        {"tree_method": "approx", "gamma": 3.0},
        {"grow_policy": "lossguide", "max_leaves": 9, "max_depth": 0},
    ],
    ids=lambda own: str(own.get("tree_method", own.get("grow_policy", "hist"))),
)
def test_xgboosts_float32_sums_are_its_leaves_sums_but_for_their_rounding(own: dict[str, Any]) -> None:
    model = xgboosted(**own)
    exported = model.exported()
    vectors = hardest(exported)
    matrix = xgb.DMatrix(finite(vectors))

    theirs = model.booster.predict(matrix, output_margin=True)
    assert run(exported.graph, vectors) == pytest.approx(theirs, abs=1e-5)
    parts = model.booster.predict(matrix, pred_contribs=True)
    assert contributions_of(exported, vectors) == pytest.approx(parts[:, :-1], abs=2e-5)
    assert exported.base == pytest.approx(float(parts[0, -1]), abs=1e-5)


def test_xgboost_stops_where_it_was_best_or_never() -> None:
    stopped = xgboosted(n_estimators=300, learning_rate=0.9, early_stopping_rounds=3)
    never = xgboosted(n_estimators=40, learning_rate=0.9, early_stopping_rounds=0)

    assert 0 < int(str(stopped.card()["trees"])) < 100
    assert never.card()["trees"] == 40


# Random forest


def test_a_forests_margin_is_its_mean_probability() -> None:
    model = fitted("random-forest")
    assert isinstance(model, FittedRandomForest)

    assert (model.margins(KEPT.vectors) == model.forest.predict_proba(KEPT.vectors)[:, 1]).all()
    assert probabilities(model.margins(KEPT.vectors), model.uncalibrated) == pytest.approx(model.margins(KEPT.vectors))


def test_what_was_never_missing_in_training_may_be_missing_later() -> None:
    whole = Rows(vectors=np.nan_to_num(FIT.vectors), is_fraud=FIT.is_fraud, features=NAMES)
    for name in SMALL:
        model = fitted(name, fit=whole)
        exported = model.exported()
        require_parity(exported.graph, KEPT.vectors, model.margins(KEPT.vectors), tolerance=1e-9)


# Logistic regression


def regressed(**own: Any) -> FittedLogisticRegression:
    model = fitted("logistic-regression", **own)
    assert isinstance(model, FittedLogisticRegression)
    return model


def test_of_lines_alone_it_is_the_usual_pipeline() -> None:
    # Hardly bounded, the scale of the indicators, which it leaves at 0 and 1, makes no difference.
    model = regressed(stairs=0, clip=0.0, one_hot=[], C=1e6, tol=1e-8)
    usual = make_pipeline(
        SimpleImputer(strategy="median", add_indicator=True),
        StandardScaler(),
        Regression(C=1e6, tol=1e-8, max_iter=9_999),
    )
    usual.fit(FIT.vectors.astype(np.float64), FIT.is_fraud)

    scores = probabilities(model.margins(FIT.vectors), model.uncalibrated)
    assert scores == pytest.approx(usual.predict_proba(FIT.vectors.astype(np.float64))[:, 1], abs=1e-4)


def test_a_value_that_was_not_seen_has_its_neighbours_weight() -> None:
    model = regressed(one_hot=["b"])
    known = np.unique(FIT.vectors[:, 1])
    rows = np.repeat(KEPT.vectors[:1], 3, axis=0)
    rows[:, 1] = [known[-1], known[-1] + 1_000, np.inf]

    assert model.margins(rows) == pytest.approx(model.margins(rows[:1])[0])


def test_what_is_one_hot_must_be_a_feature_of_few_values() -> None:
    with pytest.raises(WrongSettings, match="one_hot names hours, which is no feature"):
        regressed(one_hot=["hours"])
    with pytest.raises(WrongSettings, match=r"of \d+ values; 64 are the most"):
        regressed(one_hot=["a"])


def test_nobody_in_particular_is_the_mean_of_the_rows_that_it_was_fitted_to() -> None:
    model = regressed()
    exported = model.exported()

    assert exported.base == pytest.approx(model.margins(FIT.vectors).mean())
    assert contributions_of(exported, FIT.vectors).mean(axis=0) == pytest.approx(np.zeros(len(NAMES)), abs=1e-9)


def test_a_feature_that_nobody_has_says_nothing() -> None:
    vectors = FIT.vectors.copy()
    vectors[:, 4] = np.nan
    for name in SMALL:
        model = fitted(name, fit=Rows(vectors=vectors, is_fraud=FIT.is_fraud, features=NAMES))
        assert model.importance()[4] == pytest.approx(0, abs=1e-12)


# Ensembles


def test_an_ensemble_is_the_mean_of_calibrated_log_odds() -> None:
    model = fitted(ENSEMBLE)
    assert isinstance(model, FittedEnsemble)
    expected = sum(
        each.weight * (each.calibration.slope * each.fitted.margins(KEPT.vectors) + each.calibration.intercept)
        for each in model.members
    )

    assert model.margins(KEPT.vectors) == pytest.approx(expected)
    told = sum(each.scale * contributions_of(each.fitted.exported(), KEPT.vectors[:50]) for each in model.members)
    assert contributions_of(model.exported(), KEPT.vectors[:50]) == pytest.approx(told)
    assert sum(each.weight for each in model.members) == pytest.approx(1)
    assert "together" in str(model.card()["chosen"])


def test_where_no_mean_is_better_the_best_alone_is_taken_and_says_so() -> None:
    tell_apart = Rows(vectors=KEPT.vectors, is_fraud=KEPT.vectors[:, 0] > 20, features=NAMES)
    model = fitted("xgboost,logistic-regression", fit=tell_apart, kept=tell_apart)

    assert isinstance(model, BestAlone)
    assert "no mean of them is better" in str(model.card()["chosen"])
    assert model.card()["name"] in SMALL


def test_votes_go_to_whoever_betters_the_mean_and_useless_ones_get_none() -> None:
    random = np.random.default_rng(0)
    is_fraud = random.random(5_000) < 0.1
    signal = is_fraud * 2.0
    one, two, noise = (
        signal + random.normal(size=5_000),
        signal + random.normal(size=5_000),
        random.normal(size=5_000),
    )
    log_odds = np.stack([one, two, noise])
    weights, together = voted(log_odds, is_fraud)
    alone = voted(np.stack([one]), is_fraud)[1]

    assert weights[:2].min() > 0.3
    assert weights[2] < 0.1
    assert weights.sum() == pytest.approx(1)
    assert together > alone
    for few in (slice(start, start + 200) for start in range(0, 2_000, 200)):
        weights, together = voted(log_odds[:, few], is_fraud[few])
        assert together == pytest.approx(average_precision_score(is_fraud[few], weights @ log_odds[:, few]))
