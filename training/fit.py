"""A booster from vectors and what was known of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt

from training.settings import TrainingSettings

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.bool_]
Margins = npt.NDArray[np.float64]


def fit(
    *,
    vectors: Vectors,
    is_fraud: Rows,
    validation_vectors: Vectors,
    validation_is_fraud: Rows,
    settings: TrainingSettings,
    on_tree: Callable[[int, int], None] = lambda _done, _most: None,
) -> lgb.Booster:
    """A booster of at most `settings.trees`, stopped where the average precision on the validation rows was best.

    The same rows, settings and seed give the same booster, whatever the number of threads.  `on_tree` is told how many
    trees of at most how many there are.
    """
    params = _params(settings)
    # Its features go without names: LightGBM refuses some that an attribute may have.
    rows = lgb.Dataset(vectors, is_fraud.astype(np.int8), params=params)
    kept = rows.create_valid(validation_vectors, validation_is_fraud.astype(np.int8))

    def told(environment: lgb.callback.CallbackEnv) -> None:
        on_tree(environment.iteration + 1, environment.end_iteration)

    return lgb.train(
        params,
        rows,
        settings.trees,
        valid_sets=[kept],
        callbacks=[lgb.early_stopping(settings.patience, verbose=False), told],
    )


def margins(booster: lgb.Booster, vectors: Vectors) -> Margins:
    """The booster's own raw margins [n]: what the ONNX graph is held to."""
    return np.asarray(booster.predict(vectors, raw_score=True), np.float64)


def card(booster: lgb.Booster, settings: TrainingSettings) -> dict[str, str | int | float | bool | None]:
    """The learner's name and parameters, for the manifest; nothing that leaves the booster as it is."""
    params = {name: value for name, value in _params(settings).items() if name not in ("num_threads", "verbosity")}
    return {"name": "lightgbm", "version": lgb.__version__, "trees": booster.best_iteration, **params}


def importance(booster: lgb.Booster) -> npt.NDArray[np.float64]:
    """Each feature's share of the gain of all splits [features]."""
    gain = np.asarray(booster.feature_importance("gain", iteration=booster.best_iteration), np.float64)
    share: npt.NDArray[np.float64] = gain / max(float(gain.sum()), 1e-300)
    return share


def _params(settings: TrainingSettings) -> dict[str, Any]:
    return {
        "objective": "binary",
        "metric": "average_precision",
        "num_leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "min_data_in_leaf": settings.smallest_leaf,
        "lambda_l2": settings.l2,
        "feature_fraction": settings.feature_share,
        "seed": settings.seed,
        "deterministic": True,
        "force_col_wise": True,  # one of the two layouts, or it is found by timing; with some features a tree, the faster
        "num_threads": settings.threads,
        "verbosity": -1,
    }
