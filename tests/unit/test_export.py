"""The ONNX graph answers what the booster answers, to the last bit."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import onnx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.bundle_tables import NODE_COLUMNS
from tests.unit.boosters import Vectors, a_booster, hard_vectors, some_frauds, some_vectors
from training.errors import NotExportable, ParityBroken
from training.export import graph_of, require_parity, run
from training.learners.lightgbm import export, trees_of


def margins_of(booster: lgb.Booster, vectors: Vectors) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(booster.predict(vectors, raw_score=True), np.float64)


def same_bits(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> bool:
    return left.tobytes() == right.tobytes()


MISSING: list[dict[str, Any]] = [
    {},  # NaN where there were some in training, None where not
    {"use_missing": False},
    {"zero_as_missing": True},
    {"boost_from_average": False},
    {"boosting": "dart"},
    {"bagging_fraction": 0.5, "bagging_freq": 1, "feature_fraction": 0.6},
    {"num_leaves": 80, "min_data_in_leaf": 1},
    {"max_bin": 7},
    {"extra_trees": True},
]


@pytest.mark.parametrize("params", MISSING, ids=lambda params: ",".join(params) or "defaults")
@pytest.mark.parametrize("seed", range(4))
def test_every_margin_is_the_boosters_also_on_thresholds_nan_zeros_denormals_and_infinities(
    params: dict[str, Any], seed: int
) -> None:
    booster = a_booster(some_vectors(seed), seed=seed, **params)
    exported = export(booster)
    vectors = hard_vectors(booster, exported.trees, seed)

    assert same_bits(run(exported.graph, vectors), margins_of(booster, vectors))


@given(
    seed=st.integers(0, 10**6),
    leaves=st.integers(2, 60),
    smallest=st.integers(1, 200),
    bins=st.integers(2, 255),
    zero_as_missing=st.booleans(),
    use_missing=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_no_random_booster_tells_graph_and_booster_apart(
    *, seed: int, leaves: int, smallest: int, bins: int, zero_as_missing: bool, use_missing: bool
) -> None:
    booster = a_booster(
        some_vectors(seed, rows=300),
        seed=seed,
        trees=8,
        num_leaves=leaves,
        min_data_in_leaf=smallest,
        max_bin=bins,
        zero_as_missing=zero_as_missing,
        use_missing=use_missing,
    )
    exported = export(booster)
    vectors = hard_vectors(booster, exported.trees, seed, rows=400)

    assert same_bits(run(exported.graph, vectors), margins_of(booster, vectors))


@pytest.mark.parametrize("rows", [1, 7, 64, 129, 1_000])
def test_a_margin_does_not_depend_on_the_rows_beside_it(rows: int) -> None:
    booster = a_booster(some_vectors(3, rows=3_000), trees=150, num_leaves=31)
    exported = export(booster)
    vectors = hard_vectors(booster, exported.trees, 3, rows=1_000)
    expected = margins_of(booster, vectors)

    for start in range(0, min(len(vectors), 40 * rows), rows):
        answered = run(exported.graph, vectors[start : start + rows])
        assert same_bits(answered, expected[start : start + rows])


def test_most_thresholds_are_no_float32_so_that_the_doubles_matter() -> None:
    booster = a_booster(some_vectors(1))
    trees = trees_of(booster)
    splits = trees.filter(pl.col("feature") >= 0)
    rounded = splits["threshold"].cast(pl.Float32).cast(pl.Float64)

    assert (rounded != splits["threshold"]).mean() > 0.5  # type: ignore[operator]

    vectors = hard_vectors(booster, trees, 1)
    coarse = graph_of(
        trees.with_columns(pl.col("threshold").cast(pl.Float32).cast(pl.Float64)), features=booster.num_feature()
    )
    assert not same_bits(run(coarse, vectors), margins_of(booster, vectors))


def test_trees_of_a_single_leaf_and_the_average_that_boosting_starts_from_are_kept() -> None:
    vectors = some_vectors(5)
    booster = a_booster(vectors, min_data_in_leaf=10_000)
    exported = export(booster)

    assert exported.trees["feature"].to_list() == [-1] * exported.trees.height
    assert same_bits(run(exported.graph, vectors), margins_of(booster, vectors))
    assert run(exported.graph, vectors[:1])[0] != 0


def test_single_leaves_stand_among_trees() -> None:
    vectors = some_vectors(6)
    frauds = some_frauds(vectors, 6)
    booster = lgb.train(
        {"objective": "binary", "num_leaves": 7, "min_data_in_leaf": 10_000, "verbose": -1},
        lgb.Dataset(vectors, frauds, free_raw_data=False),
        2,
    )
    booster = lgb.train(
        {"objective": "binary", "num_leaves": 7, "verbose": -1},
        lgb.Dataset(vectors, frauds, free_raw_data=False),
        5,
        init_model=booster,
    )
    exported = export(booster)

    leaves = exported.trees.group_by("tree").agg(pl.len()).filter(pl.col("len") == 1)
    assert leaves.height >= 1
    assert same_bits(run(exported.graph, vectors), margins_of(booster, vectors))


def test_the_best_iteration_is_what_is_exported() -> None:
    vectors = some_vectors(8)
    frauds = some_frauds(vectors, 8)
    booster = lgb.train(
        {"objective": "binary", "verbose": -1, "learning_rate": 0.5, "min_data_in_leaf": 2},
        lgb.Dataset(vectors[:300], frauds[:300]),
        200,
        valid_sets=[lgb.Dataset(vectors[300:], frauds[300:])],
        callbacks=[lgb.early_stopping(5, verbose=False)],
        keep_training_booster=True,
    )
    exported = export(booster)

    assert 0 < booster.best_iteration < booster.current_iteration()
    assert exported.trees["tree"].max() == booster.best_iteration - 1
    assert same_bits(run(exported.graph, vectors), margins_of(booster, vectors))


def test_the_same_booster_gives_the_same_bytes() -> None:
    booster = a_booster(some_vectors(2))

    assert export(booster).graph == export(booster).graph
    assert export(booster).graph == export(a_booster(some_vectors(2))).graph


def test_the_graph_is_valid_onnx_and_takes_float32() -> None:
    booster = a_booster(some_vectors(2))
    model = onnx.load_from_string(export(booster).graph)
    onnx.checker.check_model(model)

    assert [i.name for i in model.graph.input] == ["vectors"]
    assert [o.name for o in model.graph.output] == ["margin"]


def test_the_base_is_lightgbms() -> None:
    booster = a_booster(some_vectors(4))
    contributions = np.asarray(booster.predict(some_vectors(4)[:1], pred_contrib=True))

    assert export(booster).base == pytest.approx(contributions[0, -1], rel=1e-12)


def test_the_table_of_trees_is_whole() -> None:
    trees = trees_of(a_booster(some_vectors(4)))
    inner = trees.with_row_index("row").filter(pl.col("feature") >= 0)
    cover = trees["cover"].to_numpy()

    assert dict(trees.schema) == NODE_COLUMNS
    assert (inner["left"] == inner["row"] + 1).all()
    assert (inner["right"] > inner["left"]).all()
    assert (cover[inner["left"].to_numpy()] + cover[inner["right"].to_numpy()] == inner["cover"].to_numpy()).all()


def test_what_no_exact_graph_is_written_for_is_refused_by_name() -> None:
    vectors = np.nan_to_num(some_vectors(9))
    vectors[:, 1] = np.arange(len(vectors)) % 7
    frauds = (np.isin(vectors[:, 1], [1, 4]) | (vectors[:, 0] > 20)).astype(np.int8)

    def booster(**params: Any) -> lgb.Booster:
        categories = params.pop("categorical_feature", "auto")
        label = params.pop("label", frauds)
        quiet: dict[str, Any] = {"verbose": -1, "min_data_in_leaf": 2, "min_data_per_group": 1, "cat_smooth": 0}
        return lgb.train(quiet | params, lgb.Dataset(vectors, label, categorical_feature=categories), 3)

    with pytest.raises(NotExportable, match="categor"):
        export(booster(objective="binary", categorical_feature=[1]))
    with pytest.raises(NotExportable, match="3 classes"):
        export(booster(objective="multiclass", num_class=3, label=np.arange(len(frauds)) % 3))
    with pytest.raises(NotExportable, match="rf"):
        export(booster(objective="binary", boosting="rf", bagging_freq=1, bagging_fraction=0.5))
    with pytest.raises(NotExportable, match="linear"):
        export(booster(objective="binary", linear_tree=True))


def test_one_flipped_bit_breaks_the_parity_gate() -> None:
    vectors = some_vectors(2)
    booster = a_booster(vectors)
    graph, margins = export(booster).graph, margins_of(booster, vectors)
    require_parity(graph, vectors, margins)

    margins[17] = np.nextafter(margins[17], np.inf)
    with pytest.raises(ParityBroken, match=r"1 of 600 .* row 17"):
        require_parity(graph, vectors, margins)
