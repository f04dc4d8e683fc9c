"""A run with any learner leaves a bundle that a worker serves and explains; the default one is what it always was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm as lgb
import msgspec
import numpy as np
import onnx
import polars as pl
import pytest

from features.catalogue import DIGEST, FEATURES, OF_THE_ACCOUNT
from schemas.bundle import DIGESTED, EVALUATION, LINEAR, MANIFEST, MODEL, Thresholds, digest_of
from schemas.errors import UnusableModel, WrongSettings
from streaming.bundle import LoadedBundle
from streaming.reasons import Explainer
from tests.unit.pasts import a_past
from training import __main__ as command
from training import job
from training.calibration import probabilities
from training.errors import ParityBroken
from training.job import TrainedBundle, train
from training.learners.chosen import learner_of, parameters
from training.learners.learner import Floats, Vectors
from training.learners.lightgbm import FittedLightGBM
from training.learners.random_forest import FittedRandomForest
from training.settings import CalibrationMethod, Imbalance, LearnerName, TrainingSettings, learners
from training.thresholds import choose

PAST = a_past()
PARAMETERS: dict[str, dict[str, Any]] = {
    "xgboost": {"n_estimators": 20, "max_depth": 3},
    "random-forest": {"n_estimators": 20, "max_depth": 5},
    "logistic-regression": {},
}
QUICK: dict[str, Any] = {"trees": 20, "leaves": 7, "smallest_leaf": 5, "threads": 1, "learners": PARAMETERS}


def trained(out: Path, learner: str = "lightgbm", **settings: Any) -> TrainedBundle:
    return train(*PAST, settings=TrainingSettings(out=out, learner=learners(learner), **(QUICK | settings)))


def load(folder: Path) -> LoadedBundle:
    return LoadedBundle.load(folder, features=FEATURES, catalogue=DIGEST)


@pytest.mark.parametrize("learner", [*LearnerName, "lightgbm,xgboost,random-forest,logistic-regression"])
def test_a_worker_serves_and_explains_it(learner: str, tmp_path: Path) -> None:
    done = trained(tmp_path, learner, calibration=CalibrationMethod.AUTO)
    bundle = load(done.path)
    vectors, margins = bundle.golden()
    contributions = Explainer(bundle, currency="EUR").contributions(vectors)

    assert bundle.manifest == done.manifest
    assert bundle.margins(vectors).tobytes() == margins.tobytes()
    assert contributions.sum(axis=1) + bundle.manifest.base == pytest.approx(margins, rel=1e-9, abs=1e-9)
    assert done.metrics["auc"] > 0.75
    assert (done.path / LINEAR).exists() is not bundle.linear().is_empty()
    scores = [bundle.manifest.calibration.probability(margin) for margin in margins.tolist()]
    assert scores == pytest.approx(probabilities(margins, bundle.manifest.calibration).tolist(), rel=1e-12)


@pytest.mark.parametrize("learner", ["xgboost", "random-forest", "logistic-regression,lightgbm"])
@pytest.mark.parametrize("imbalance", [Imbalance.SMOTE, Imbalance.UNDERSAMPLING])
def test_the_same_seed_past_and_code_give_the_same_digest(learner: str, imbalance: Imbalance, tmp_path: Path) -> None:
    one, again = (
        trained(tmp_path / out, learner, imbalance=imbalance, threads=threads)
        for out, threads in (("one", 1), ("two", 2))
    )

    assert one.path.name == again.path.name
    assert one.manifest.learner["imbalance"] == imbalance


def test_by_default_it_is_lightgbms_trees_and_platts_line_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[FittedLightGBM] = []
    margins_of = FittedLightGBM.margins

    def overheard(model: FittedLightGBM, vectors: Vectors) -> Floats:
        models.append(model)
        return margins_of(model, vectors)

    monkeypatch.setattr(FittedLightGBM, "margins", overheard)
    done = trained(tmp_path)
    bundle = load(done.path)
    vectors, margins = bundle.golden()
    manifest = msgspec.json.decode((done.path / MANIFEST).read_bytes())

    assert {path.name for path in done.path.iterdir()} == {*DIGESTED, EVALUATION}
    assert [node.op_type for node in onnx.load(done.path / MODEL).graph.node] == ["Cast", "TreeEnsemble"]
    booster, by_itself = models[-1].booster, OF_THE_ACCOUNT.start
    assert booster.num_feature() < vectors.shape[1]  # the past's accounts have no habits, and history doesn't pay
    told = np.hstack([vectors[:, :by_itself], vectors[:, len(FEATURES) :]])
    assert np.asarray(booster.predict(told, raw_score=True)).tobytes() == margins.tobytes()
    assert set(manifest["calibration"]) == {"slope", "intercept"}
    assert list(manifest["learner"]) == sorted(
        ("name", "version", "trees", "chosen", "objective", "metric", "num_leaves", "learning_rate", "min_data_in_leaf",
         "lambda_l2", "feature_fraction", "early_stopping_min_delta", "seed", "deterministic", "force_col_wise")
    )  # fmt: skip
    assert manifest["learner"]["version"] == lgb.__version__


def test_linear_terms_are_part_of_what_the_name_says(tmp_path: Path) -> None:
    folder = trained(tmp_path, "logistic-regression").path
    terms = pl.read_parquet(folder / LINEAR)
    (folder / LINEAR).unlink()
    with pytest.raises(UnusableModel, match="truncated or changed"):
        load(folder)

    terms.with_columns(pl.col("weight") * 2).write_parquet(folder / LINEAR)
    other = folder.rename(folder.parent / digest_of(folder))
    with pytest.raises(UnusableModel, match="graph, trees and linear terms are of two models"):
        Explainer(load(other), currency="EUR")

    terms.drop("mean").write_parquet(other / LINEAR)
    with pytest.raises(UnusableModel, match=f"{LINEAR} must have the columns"):
        load(other.rename(folder.parent / digest_of(other))).linear()


def test_parameters_reach_the_learner_and_the_manifest(tmp_path: Path) -> None:
    done = trained(tmp_path, "xgboost", learners={"xgboost": {"n_estimators": 5, "max_depth": 1, "base_score": 0.5}})

    assert done.manifest.learner["trees"] == 5
    assert done.manifest.learner["max_depth"] == 1
    assert load(done.path).trees().group_by("tree").len()["len"].max() == 3


def test_lightgbms_own_parameters_go_before_the_trainings(tmp_path: Path) -> None:
    done = trained(tmp_path, learners={"lightgbm": {"num_leaves": 3, "num_iterations": 4, "max_bin": 15}})

    assert done.manifest.learner["num_leaves"] == 3
    assert done.manifest.learner["max_bin"] == 15
    assert int(str(done.manifest.learner["trees"])) <= 4


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"xgboost": {"depth": 3}},
            r"\[learners.xgboost\] .*unknown field `depth`; it takes n_estimators, .*max_depth",
        ),
        ({"xgboost": {"max_depth": "deep"}}, r"\[learners.xgboost\] Expected `int`, got `str`.*max_depth"),
        ({"random-forest": {"max_features": 2.0}}, r"\[learners.random-forest\] Expected `float` <= 1.0"),
        ({"lightgbm": {"boosting": "rf"}}, "unknown field `boosting`"),
        ({"logistic-regression": {"C": 0}}, r"Expected `float` > 0"),
        ({"svm": {}}, "learners must be of lightgbm, xgboost, random-forest, logistic-regression, not of svm"),
    ],
)
def test_a_parameter_that_can_not_be_meant_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongSettings, match=said):
        learner_of(TrainingSettings(learners=given))


def test_parameters_come_from_a_file_and_what_is_said_goes_before_it(tmp_path: Path) -> None:
    file = tmp_path / "learners.toml"
    file.write_text('[learners.xgboost]\nmax_depth = 3\ntree_method = "exact"\n[learners.lightgbm]\nmax_bin = 63\n')

    assert parameters(file, ["xgboost.max_depth=4", "random-forest.max_features=sqrt"]) == {
        "xgboost": {"max_depth": 4, "tree_method": "exact"},
        "lightgbm": {"max_bin": 63},
        "random-forest": {"max_features": "sqrt"},
    }
    assert parameters(None, []) == {}


def test_a_file_of_parameters_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    file = tmp_path / "learners.toml"
    with pytest.raises(WrongSettings, match=r"learners.toml: No such file"):
        parameters(file, [])
    file.write_text("max_depth = 3")
    with pytest.raises(WrongSettings, match=r"no tables \[learners.<name>\]"):
        parameters(file, [])
    file.write_text("[learners")
    with pytest.raises(WrongSettings, match=r"is no TOML: Expected"):
        parameters(file, [])
    with pytest.raises(WrongSettings, match=r"write it as xgboost\.max_depth=3"):
        parameters(None, ["max_depth=3"])


def test_a_graph_further_off_than_a_millionth_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = FittedRandomForest.margins

    def off(by: float) -> None:
        monkeypatch.setattr(FittedRandomForest, "margins", lambda me, vectors: fitted(me, vectors) + by)

    off(5e-7)
    assert trained(tmp_path / "near", "random-forest").path.is_dir()
    off(2e-6)
    with pytest.raises(ParityBroken, match="differ between the ONNX graph and the learner by more than 1e-06"):
        trained(tmp_path / "far", "random-forest")
    assert not (tmp_path / "far").exists()


def test_a_graph_that_turns_an_outcome_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_a_score(scores: np.ndarray[Any, Any], *arguments: Any, **named: Any) -> Thresholds:
        found = choose(scores, *arguments, **named)
        return Thresholds(review=float(scores[scores < found.review].max()), decline=found.decline)

    fitted = FittedRandomForest.margins
    monkeypatch.setattr(FittedRandomForest, "margins", lambda me, vectors: fitted(me, vectors) + 5e-7)
    monkeypatch.setattr(job, "choose", on_a_score)
    with pytest.raises(ParityBroken, match=r"of \d+ outcomes differ"):
        trained(tmp_path, "random-forest")


def test_the_command_takes_a_learner_its_parameters_and_a_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    PAST[0].write_parquet(tmp_path / "transactions.parquet")
    PAST[1].write_parquet(tmp_path / "labels.parquet")

    def run(*arguments: str) -> int | str | None:
        said = ["training", "run", str(tmp_path), "--out", str(tmp_path / "bundles"), *arguments]
        monkeypatch.setattr("sys.argv", said)
        with pytest.raises(SystemExit) as left:
            command.main()
        return left.value.code

    wanted = ("--learner", "lightgbm,xgboost", "--set", "xgboost.max_depth=2", "--set", "lightgbm.num_leaves=5")
    assert run(*wanted, "--imbalance", "weights", "--calibration", "isotonic", "--trees", "20", "--threads", "1") == 0
    out, err = capsys.readouterr()
    assert "average precision alone, on the rows that chose it: lightgbm" in out
    assert "fitting lightgbm, xgboost to" in err
    evaluation = (tmp_path / "bundles" / "current" / EVALUATION).read_text()
    assert "Calibrated by isotonic regression: the Brier score is" in evaluation

    assert run("--learner", "svm") == 2
    assert "learner must be of lightgbm, xgboost" in capsys.readouterr().err
    assert run("--learner", "lightgbm", "--set", "xgboost.depth=2") == 2
    assert "unknown field `depth`" in capsys.readouterr().err
