"""Random boosters and the vectors that are hardest on them."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import polars as pl

from schemas.bundle import ZERO

Vectors = npt.NDArray[np.float32]


def some_vectors(seed: int, rows: int = 600, features: int = 6) -> Vectors:
    """Skewed, with ties, zeros and gaps, as features of payments are."""
    random = np.random.default_rng(seed)
    vectors = random.lognormal(1.0, 1.5, (rows, features))
    vectors[:, 1] = np.round(vectors[:, 1])
    vectors[:, 2] -= 5
    vectors[random.random(vectors.shape) < 0.1] = 0
    vectors[:, 3:][random.random(vectors[:, 3:].shape) < 0.15] = np.nan
    return vectors.astype(np.float32)


def some_frauds(vectors: Vectors, seed: int) -> npt.NDArray[np.int8]:
    random = np.random.default_rng(seed + 1)
    known = np.nan_to_num(vectors.astype(np.float64))
    suspicion = np.log1p(np.abs(known[:, 0])) * np.log1p(np.abs(known[:, 3])) + random.normal(0, 1, len(known))
    return (suspicion > np.quantile(suspicion, 0.9)).astype(np.int8)


def a_booster(vectors: Vectors, *, seed: int = 0, trees: int = 20, **params: Any) -> lgb.Booster:
    defaults: dict[str, Any] = {
        "objective": "binary", "num_leaves": 15, "min_data_in_leaf": 3, "learning_rate": 0.2,
        "verbose": -1, "num_threads": 1, "seed": seed, "deterministic": True, "force_row_wise": True,
    }  # fmt: skip
    return lgb.train(defaults | params, lgb.Dataset(vectors, some_frauds(vectors, seed)), trees)


def hard_vectors(booster: lgb.Booster, trees: pl.DataFrame, seed: int, rows: int = 2_000) -> Vectors:
    """Those that are hardest on its trees."""
    return on_the_edges(trees, booster.num_feature(), seed, rows)


def on_the_edges(trees: pl.DataFrame, features: int, seed: int, rows: int = 2_000) -> Vectors:
    """Mostly values on a threshold or one float32 beside it; else NaN, ±0, denormals, ±inf, the edge of its 0."""
    random = np.random.default_rng(seed)
    zero = np.float32(ZERO)
    special = np.array(
        [
            *(np.nan, 0.0, -0.0, np.inf, -np.inf, np.finfo(np.float32).max, np.finfo(np.float32).min),
            *(np.finfo(np.float32).smallest_subnormal, -np.finfo(np.float32).smallest_subnormal, 3e-39, -3e-39),
            *(zero, -zero, np.nextafter(zero, np.float32(1)), np.nextafter(-zero, np.float32(-1)), zero / 2, -zero / 2),
        ],
        np.float32,
    )
    vectors = some_vectors(seed + 7, rows, features)
    for feature in range(features):
        thresholds = trees.filter(pl.col("feature") == feature)["threshold"].to_numpy()
        thresholds = thresholds[np.isfinite(thresholds)].astype(np.float32)
        beside = [np.nextafter(thresholds, np.float32(end)) for end in (-np.inf, np.inf)]
        pool = np.concatenate([thresholds, *beside])
        if pool.size:
            on = random.random(rows) < 0.6
            vectors[on, feature] = random.choice(pool, int(on.sum()))
        odd = random.random(rows) < 0.25
        vectors[odd, feature] = random.choice(special, int(odd.sum()))
    return vectors
