"""LightGBM: boosted trees, the default.

Its graph answers bit for bit what the booster answers:

* a float32 is a double, and `x <= threshold` is asked of doubles on both sides, so that ±inf needs no clamping (and is
  clamped nowhere: a threshold may itself be +inf, which only NaN is beyond);
* the leaves are summed in double precision in the order of the trees;
* `boost_from_average` is already in the leaves of the first tree;
* LightGBM takes what is no further than ZERO from 0 for 0 before it asks (denormals among it).  Here the few thresholds
  that could tell these numbers apart are moved to the edge of that interval, which costs nothing at run time;
* NaN goes where LightGBM sends it: by the node's default where the feature may be missing, else as 0 would; where zeros
  are missing (`zero_as_missing`) they are made NaN ahead of the trees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import lightgbm as lgb
import msgspec
import numpy as np
import polars as pl
from msgspec import UNSET, Meta, UnsetType

from schemas.bundle import ZERO, Calibration
from schemas.bundle_tables import NODE_COLUMNS
from training.errors import NotExportable
from training.export import Exported, exported
from training.learners.learner import Card, Floats, Rows, Steps, Vectors, shares
from training.settings import TrainingSettings

_DUMPED_INFINITY = 1e300
"""What `dump_model` writes for ±inf; no float32 comes near it."""


_FEWEST_ASKED = 30
"""Features that a tree may ask, at least: of a table without accounts, a share of the few left would hide what tells."""
_L2_OF_FRAUDS = 0.01
"""At most so much for each fraud: more would weigh against a leaf's few as if there were none."""


class LightGBMParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By LightGBM's names; what isn't set is as the settings of the training say, or LightGBM's default."""

    num_iterations: Annotated[int, Meta(ge=1, le=10_000)] | UnsetType = UNSET
    num_leaves: Annotated[int, Meta(ge=2, le=4_096)] | UnsetType = UNSET
    learning_rate: Annotated[float, Meta(gt=0, le=1)] | UnsetType = UNSET
    min_data_in_leaf: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    min_sum_hessian_in_leaf: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    lambda_l1: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    lambda_l2: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    min_gain_to_split: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    feature_fraction: Annotated[float, Meta(gt=0, le=1)] | UnsetType = UNSET
    feature_fraction_bynode: Annotated[float, Meta(gt=0, le=1)] | UnsetType = UNSET
    bagging_fraction: Annotated[float, Meta(gt=0, le=1)] | UnsetType = UNSET
    bagging_freq: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    early_stopping_min_delta: Annotated[float, Meta(ge=0, lt=1)] | UnsetType = UNSET
    max_depth: int | UnsetType = UNSET
    max_bin: Annotated[int, Meta(ge=2)] | UnsetType = UNSET
    max_delta_step: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    path_smooth: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    extra_trees: bool | UnsetType = UNSET


DEFAULTS = LightGBMParameters()


class Boost(Protocol):
    """Fits trees, in this process or elsewhere."""

    def __call__(
        self, params: dict[str, Any], learnt: lgb.Dataset, kept: lgb.Dataset, trees: int, patience: int, on_step: Steps
    ) -> lgb.Booster:
        """So many `trees` to what is `learnt` from, stopped so much `patience` after the one that was best on the `kept`."""


def boosted(
    params: dict[str, Any], learnt: lgb.Dataset, kept: lgb.Dataset, trees: int, patience: int, on_step: Steps
) -> lgb.Booster:
    """As Boost has it, in this process."""

    def told(environment: lgb.callback.CallbackEnv) -> None:
        on_step(environment.iteration + 1, environment.end_iteration)

    return lgb.train(
        params,
        learnt,
        trees,
        valid_sets=[kept],
        callbacks=[lgb.early_stopping(patience, min_delta=params["early_stopping_min_delta"], verbose=False), told],
    )


@dataclass(frozen=True)
class LightGBM:
    """So many trees at most, stopped where more of them no longer bettered the average precision on the validation rows."""

    parameters: LightGBMParameters = DEFAULTS
    boost: Boost = boosted

    def fit(self, rows: Rows, validation: Rows, settings: TrainingSettings, on_step: Steps) -> FittedLightGBM:
        """A step is a tree."""
        params = _params(settings, rows) | msgspec.to_builtins(self.parameters)
        trees = params.pop("num_iterations", settings.trees)
        learnt = _dataset(rows, params)
        kept = learnt.create_valid(validation.vectors, validation.is_fraud.astype(np.int8))
        booster = self.boost(params, learnt, kept, trees, settings.patience, on_step)
        return FittedLightGBM(booster=booster, params=params)


def _dataset(rows: Rows, params: dict[str, Any]) -> lgb.Dataset:
    """Its features go without names: LightGBM refuses some that an attribute may have."""
    return lgb.Dataset(rows.vectors, rows.is_fraud.astype(np.int8), weight=rows.weights, params=params)


@dataclass(frozen=True, kw_only=True)
class FittedLightGBM:
    """A booster, as of its best iteration."""

    booster: lgb.Booster
    params: dict[str, Any]

    tolerance = 0.0
    uncalibrated = Calibration()

    def again(self, rows: Rows, settings: TrainingSettings, on_step: Steps) -> FittedLightGBM:  # noqa: ARG002 - it has them
        trees = self.booster.best_iteration

        def told(environment: lgb.callback.CallbackEnv) -> None:
            on_step(environment.iteration + 1, trees)

        booster = lgb.train(self.params, _dataset(rows, self.params), trees, callbacks=[told])
        booster.best_iteration = trees
        return FittedLightGBM(booster=booster, params=self.params)

    def margins(self, vectors: Vectors) -> Floats:
        return np.asarray(self.booster.predict(vectors, raw_score=True), np.float64)

    def card(self) -> Card:
        params = {name: value for name, value in self.params.items() if name not in ("num_threads", "verbosity")}
        processes = self.booster.params.get("num_machines", 1)
        spread = {} if processes == 1 else {"processes": processes}
        return {
            "name": "lightgbm",
            "version": lgb.__version__,
            "trees": self.booster.best_iteration,
            **params,
            **spread,
        }

    def importance(self) -> Floats:
        """Each feature's share of the gain of all splits [features]."""
        gain = np.asarray(self.booster.feature_importance("gain", iteration=self.booster.best_iteration), np.float64)
        return shares(gain)

    def exported(self) -> Exported:
        return export(self.booster)


def _params(settings: TrainingSettings, rows: Rows) -> dict[str, Any]:
    """As the settings have it, but for rows that say little: few features, or few frauds."""
    telling = max(_telling(rows.vectors), 1)
    return {
        "objective": "binary",
        "metric": "average_precision",
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.smallest_leaf,
        "lambda_l2": min(settings.l2, _L2_OF_FRAUDS * int(rows.is_fraud.sum())),
        "feature_fraction": max(settings.feature_share, min(1.0, _FEWEST_ASKED / telling)),
        "early_stopping_min_delta": settings.least_gain,
        "seed": settings.seed,
        "deterministic": True,
        "force_col_wise": True,  # one of the two layouts, or it is found by timing; with some features a tree, the faster
        "num_threads": settings.threads,
        "verbosity": -1,
    }


def _telling(vectors: Vectors) -> int:
    """How many features are not the same in all rows."""
    columns = zip(vectors.T, vectors[0], strict=True)
    return sum(not ((column == first) | (np.isnan(column) & np.isnan(first))).all() for column, first in columns)


def export(booster: lgb.Booster) -> Exported:
    """Graph and trees of the booster's best iteration; the same booster gives the same bytes.

    Raises NotExportable.
    """
    return exported(trees_of(booster), features=booster.num_feature())


def trees_of(booster: lgb.Booster) -> pl.DataFrame:
    """Every node of every tree, as schemas.bundle_tables.NODE_COLUMNS.

    Raises NotExportable for several classes, categorical splits, linear leaves, random forests, no trees.
    """
    model: dict[str, Any] = booster.dump_model()
    if model["num_tree_per_iteration"] != 1:
        raise NotExportable(f"the booster has {model['num_class']} classes; fraud or not is one output")
    if model["average_output"]:
        raise NotExportable("the booster averages its trees (boosting=rf); boosting=gbdt or dart sums them")

    if not model["tree_info"]:
        raise NotExportable("the booster has no trees: it was trained for no round")

    columns: dict[str, list[Any]] = {name: [] for name in NODE_COLUMNS}
    zero_is_missing: dict[int, bool] = {}
    for number, tree in enumerate(model["tree_info"]):
        # Without recursion: a chain of a thousand splits is a legal tree.
        waiting: list[tuple[dict[str, Any], str, int]] = [(tree["tree_structure"], "", -1)]
        while waiting:
            node, side, parent = waiting.pop()
            row = len(columns["tree"])
            if side:
                columns[side][parent] = row
            if "split_index" in node:
                feature, kind = int(node["split_feature"]), "internal"
                threshold, missing_left, zero_missing = _question(node, number)
                if zero_is_missing.setdefault(feature, zero_missing) != zero_missing:
                    raise NotExportable(
                        f"trees disagree on whether 0 is missing in feature {feature}: one zero_as_missing for all"
                    )
                waiting += [(node["right_child"], "right", row), (node["left_child"], "left", row)]
            else:
                if "leaf_coeff" in node:
                    raise NotExportable(f"tree {number} has linear models in its leaves: train without linear_tree")
                feature, kind = -1, "leaf"
                threshold, missing_left, zero_missing = 0.0, False, False
            values = (
                number, feature, threshold, missing_left, zero_missing, 0, 0,
                float(node["leaf_value"]) if kind == "leaf" else 0.0,
                float(node[f"{kind}_count"]),
            )  # fmt: skip
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
    return pl.DataFrame(columns, schema=NODE_COLUMNS)


def _question(node: dict[str, Any], tree: int) -> tuple[float, bool, bool]:
    """Threshold, whether NaN goes left, whether zeros go where NaN goes."""
    if node["decision_type"] != "<=":
        raise NotExportable(
            f"tree {tree} splits by categories (decision_type {node['decision_type']!r}); "
            "encode the feature as a number, or leave it out of categorical_feature"
        )
    threshold = float(node["threshold"])
    if abs(threshold) >= _DUMPED_INFINITY:  # "all that is there goes left": to the booster +inf is there
        threshold = math.copysign(math.inf, threshold)
    if -ZERO <= threshold < ZERO:
        threshold = ZERO if threshold >= 0 else math.nextafter(-ZERO, -math.inf)
    missing = node["missing_type"]
    if missing == "None":  # NaN was never seen in training; LightGBM takes it for 0
        return threshold, threshold >= 0, False
    return threshold, bool(node["default_left"]), missing == "Zero"
