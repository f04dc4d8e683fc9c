"""XGBoost: boosted trees.

It asks `x < threshold` of float32s, which is `x <= the float32 before it`: so says the exported tree, of doubles.  NaN goes
by each node's default; ±inf it refuses, and gets the largest numbers instead.  Where it starts from (`base_score`) is a
tree of one leaf.

XGBoost adds up its leaves in float32, which costs up to some 1e-6 of a margin.  So its own margins are taken to be its own
way through every tree and the sum of those leaves in double precision.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import polars as pl
import xgboost as xgb
from msgspec import UNSET, Meta, UnsetType

from schemas.bundle import Calibration
from schemas.bundle_tables import NODE_COLUMNS
from training.export import Exported, after_another, constant, exported
from training.learners.learner import ROWS_AT_ONCE, Card, Floats, Rows, Steps, Vectors, finite, shares
from training.settings import TrainingSettings

_LOWEST = np.float32(-np.inf)


class XGBoostParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By XGBoost's names; what isn't set is XGBoost's default."""

    n_estimators: Annotated[int, Meta(ge=1, le=10_000)] = 300
    """Trees, at most."""
    early_stopping_rounds: Annotated[int, Meta(ge=0)] = 50
    """Stop after so many trees that did not better the average precision on the validation rows; 0: never."""
    tree_method: Literal["hist", "exact", "approx"] = "hist"
    learning_rate: Annotated[float, Meta(gt=0, le=1)] = 0.08
    max_depth: Annotated[int, Meta(ge=0, le=16)] = 6
    min_child_weight: Annotated[float, Meta(ge=0)] = 5.0
    subsample: Annotated[float, Meta(gt=0, le=1)] = 1.0
    colsample_bytree: Annotated[float, Meta(gt=0, le=1)] = 0.5
    reg_lambda: Annotated[float, Meta(ge=0)] = 10.0
    reg_alpha: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    gamma: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    max_bin: Annotated[int, Meta(ge=2)] | UnsetType = UNSET
    max_delta_step: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    grow_policy: Literal["depthwise", "lossguide"] | UnsetType = UNSET
    max_leaves: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    base_score: Annotated[float, Meta(gt=0, lt=1)] | UnsetType = UNSET
    """The probability that the trees start from; unset: the share of frauds."""


DEFAULTS = XGBoostParameters()


@dataclass(frozen=True)
class XGBoost:
    """At most `n_estimators` trees, stopped where the average precision on the validation rows was best."""

    parameters: XGBoostParameters = DEFAULTS

    def fit(self, rows: Rows, validation: Rows, settings: TrainingSettings, on_step: Steps) -> FittedXGBoost:
        """A step is a tree."""
        own = msgspec.to_builtins(self.parameters)
        trees, patience = own.pop("n_estimators"), own.pop("early_stopping_rounds")
        params = {"objective": "binary:logistic", "eval_metric": "aucpr", "seed": settings.seed, **own}
        learnt, kept = _matrix(rows, settings), _matrix(validation, settings)
        stops = [xgb.callback.EarlyStopping(rounds=patience, maximize=True, save_best=True)] if patience else []
        booster = xgb.train(
            params | {"nthread": settings.threads, "verbosity": 1},
            learnt,
            trees,
            evals=[(kept, "validation")] if patience else None,
            callbacks=[*stops, _Told(on_step, trees)],
            verbose_eval=False,
        )
        return FittedXGBoost(booster=booster, features=rows.vectors.shape[1], params=params, threads=settings.threads)


class _Told(xgb.callback.TrainingCallback):
    def __init__(self, on_step: Steps, most: int) -> None:
        self._on_step, self._most = on_step, most

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 - its signature
        self._on_step(epoch + 1, self._most)
        return False


@dataclass(frozen=True, kw_only=True)
class FittedXGBoost:
    """A booster, as of its best iteration."""

    booster: xgb.Booster
    features: int
    params: dict[str, Any]
    threads: int

    tolerance = 1e-6
    uncalibrated = Calibration()

    def again(self, rows: Rows, settings: TrainingSettings, on_step: Steps) -> FittedXGBoost:
        trees = self.booster.num_boosted_rounds()
        booster = xgb.train(
            self.params | {"nthread": settings.threads, "verbosity": 1},
            _matrix(rows, settings),
            trees,
            callbacks=[_Told(on_step, trees)],
        )
        return replace(self, booster=booster)

    def margins(self, vectors: Vectors) -> Floats:
        start, trees = self._trees()
        leaves = np.zeros((max(tree.height for tree in trees), len(trees)))
        for number, tree in enumerate(trees):
            leaves[tree["node"].to_numpy(), number] = tree["value"].to_numpy()
        which = np.arange(len(trees))
        margins = np.empty(len(vectors), np.float64)
        for first in range(0, len(vectors), ROWS_AT_ONCE):
            some = slice(first, first + ROWS_AT_ONCE)
            rows = xgb.DMatrix(finite(vectors[some]), nthread=self.threads)
            reached = self.booster.predict(rows, pred_leaf=True).astype(np.int64).reshape(rows.num_row(), -1)
            margins[some] = start + leaves[reached, which].sum(axis=1)
        return margins

    def card(self) -> Card:
        return {
            "name": "xgboost",
            "version": xgb.__version__,
            "trees": self.booster.num_boosted_rounds(),
            **self.params,
        }

    def importance(self) -> Floats:
        """Each feature's share of the gain of all splits [features]."""
        gain = np.zeros(self.features)
        for name, amount in self.booster.get_score(importance_type="total_gain").items():
            gain[int(name.removeprefix("f"))] = amount
        return shares(gain)

    def exported(self) -> Exported:
        start, trees = self._trees()
        return exported(
            after_another([constant(start), *(tree.drop("node") for tree in trees)]), features=self.features
        )

    def _trees(self) -> tuple[float, list[pl.DataFrame]]:
        """The margin they start from, and each as NODE_COLUMNS and its `node` as XGBoost numbers it."""
        learner = json.loads(bytes(self.booster.save_raw("json")))["learner"]
        share = float(learner["learner_model_param"]["base_score"].strip("[]"))
        trees = [_tree(tree) for tree in learner["gradient_booster"]["model"]["trees"]]
        return math.log(share / (1 - share)), trees


def _matrix(rows: Rows, settings: TrainingSettings) -> xgb.DMatrix:
    return xgb.DMatrix(
        finite(rows.vectors), rows.is_fraud.astype(np.float32), weight=rows.weights, nthread=settings.threads
    )


def _tree(model: dict[str, Any]) -> pl.DataFrame:
    """Those of its nodes that the root leads to: pruned ones stay in the arrays."""
    left, right = model["left_children"], model["right_children"]
    order, waiting = [], [0]
    while waiting:
        node = waiting.pop()
        order.append(node)
        if left[node] >= 0:
            waiting += [right[node], left[node]]
    nodes = np.array(order)
    row = np.zeros(len(left), np.int32)
    row[nodes] = np.arange(nodes.size)
    is_leaf = np.array(left)[nodes] < 0
    condition = np.array(model["split_conditions"], np.float32)[nodes]
    return pl.DataFrame(
        {
            "tree": np.zeros(nodes.size, np.int32),
            "feature": np.where(is_leaf, -1, np.array(model["split_indices"])[nodes]),
            "threshold": np.where(is_leaf, 0.0, np.nextafter(condition, _LOWEST).astype(np.float64)),
            "missing_left": ~is_leaf & (np.array(model["default_left"])[nodes] != 0),
            "zero_is_missing": np.zeros(nodes.size, bool),
            "left": np.where(is_leaf, 0, row[np.array(left)[nodes]]),
            "right": np.where(is_leaf, 0, row[np.array(right)[nodes]]),
            "value": np.where(is_leaf, condition.astype(np.float64), 0.0),
            "cover": np.array(model["sum_hessian"], np.float32)[nodes].astype(np.float64),
            "node": nodes,
        },
        schema={**NODE_COLUMNS, "node": pl.Int64},
    )
