"""scikit-learn's random forest.

Its margin is the mean of its trees' probabilities: that is additive, and the log-odds of a mean are not.  Calibration makes
a probability of it.  Thresholds are doubles and asked of float32s, as in the graph; NaN goes where each node sends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import polars as pl
import sklearn
from msgspec import UNSET, Meta, UnsetType
from sklearn.ensemble import RandomForestClassifier

from schemas.bundle import Calibration
from schemas.bundle_tables import NODE_COLUMNS
from training.export import Exported, after_another, exported
from training.learners.learner import ROWS_AT_ONCE, Card, Floats, Rows, Steps, Vectors, finite
from training.settings import TrainingSettings

_TREES_AT_ONCE = 10

Share = Annotated[float, Meta(gt=0, le=1)]


class RandomForestParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By scikit-learn's names; what isn't set is scikit-learn's default."""

    n_estimators: Annotated[int, Meta(ge=1, le=10_000)] = 100
    criterion: Literal["gini", "entropy", "log_loss"] = "gini"
    max_depth: Annotated[int, Meta(ge=0)] = 12
    """0: as deep as it gets."""
    min_samples_leaf: Annotated[int, Meta(ge=1)] = 10
    max_features: Share | Literal["sqrt", "log2"] = "sqrt"
    """Asked at a split: a share of them, or so many."""
    max_samples: Share | UnsetType = UNSET
    """The share of the rows that each tree draws as many as; unset: all."""
    max_leaf_nodes: Annotated[int, Meta(ge=2)] | UnsetType = UNSET
    min_samples_split: Annotated[int, Meta(ge=2)] | UnsetType = UNSET
    ccp_alpha: Annotated[float, Meta(ge=0)] | UnsetType = UNSET


DEFAULTS = RandomForestParameters()


@dataclass(frozen=True)
class RandomForest:
    """Stops nowhere early: more trees don't overfit."""

    parameters: RandomForestParameters = DEFAULTS

    def fit(self, rows: Rows, validation: Rows, settings: TrainingSettings, on_step: Steps) -> FittedRandomForest:  # noqa: ARG002 - it needs no validation
        """A step is a tree."""
        params = msgspec.to_builtins(self.parameters)
        own = params | {"max_depth": params["max_depth"] or None}
        most = own.pop("n_estimators")
        forest = RandomForestClassifier(
            n_estimators=0, **own, random_state=settings.seed, n_jobs=settings.threads or -1, warm_start=True
        )
        # Some at a time, so that it can be watched: the trees are those that it would plant at once.
        for trees in [*range(_TREES_AT_ONCE, most, _TREES_AT_ONCE), most]:
            forest.set_params(n_estimators=trees)
            forest.fit(finite(rows.vectors), rows.is_fraud, sample_weight=rows.weights)
            on_step(trees, most)
        forest.set_params(n_jobs=1)  # several threads add up the trees' probabilities as they come to them
        return FittedRandomForest(learner=self, forest=forest, params=params | {"seed": settings.seed})


@dataclass(frozen=True, kw_only=True)
class FittedRandomForest:
    """A forest."""

    learner: RandomForest
    forest: RandomForestClassifier
    params: dict[str, Any]

    tolerance = 1e-6
    uncalibrated = Calibration(margins=(0.0, 1.0), scores=(0.0, 1.0))

    def again(self, rows: Rows, settings: TrainingSettings, on_step: Steps) -> FittedRandomForest:
        return self.learner.fit(rows, rows, settings, on_step)

    def margins(self, vectors: Vectors) -> Floats:
        parts = [
            self.forest.predict_proba(finite(vectors[first : first + ROWS_AT_ONCE]))[:, 1]
            for first in range(0, len(vectors), ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty(0)

    def card(self) -> Card:
        return {"name": "random-forest", "version": sklearn.__version__, "trees": len(self.forest), **self.params}

    def importance(self) -> Floats:
        """Each feature's share of what all splits tell apart [features]."""
        return np.asarray(self.forest.feature_importances_, np.float64)

    def exported(self) -> Exported:
        trees = [_tree(tree.tree_, len(self.forest)) for tree in self.forest]
        return exported(after_another(trees), features=self.forest.n_features_in_)


def _tree(tree: Any, trees: int) -> pl.DataFrame:
    """NODE_COLUMNS of one of so many `trees`; scikit-learn puts parents before their children too."""
    is_leaf = tree.children_left < 0
    return pl.DataFrame(
        {
            "tree": np.zeros(tree.node_count, np.int32),
            "feature": np.where(is_leaf, -1, tree.feature),
            "threshold": np.where(is_leaf, 0.0, tree.threshold),
            "missing_left": ~is_leaf & (tree.missing_go_to_left != 0),
            "zero_is_missing": np.zeros(tree.node_count, bool),
            "left": np.where(is_leaf, 0, tree.children_left),
            "right": np.where(is_leaf, 0, tree.children_right),
            "value": np.where(is_leaf, tree.value[:, 0, 1] / trees, 0.0),
            "cover": tree.weighted_n_node_samples,
        },
        schema=NODE_COLUMNS,
    )
