"""A model that is quick to make, and whose verdicts are easy to foresee."""

from __future__ import annotations

from pathlib import Path

import lightgbm as lgb
import numpy as np

from features.catalogue import DIGEST, FEATURES, column
from schemas.bundle import FORMAT, Calibration, Manifest, Thresholds, make_current
from training.bundle import write
from training.learners.lightgbm import export

LARGE = 500_000
"""Amounts from here on are fraud to this model; it was taught so, and little else."""


def a_bundle(folder: Path, *, catalogue: str = DIGEST, large: int = LARGE) -> Path:
    """Trains, writes and makes current; the link to it."""
    return make_current(another_bundle(folder, catalogue=catalogue, large=large))


def another_bundle(folder: Path, *, catalogue: str = DIGEST, large: int = LARGE) -> Path:
    """Trains and writes one that flags amounts from `large` on; its folder."""
    random = np.random.default_rng(1)
    rows = 2_000
    vectors = random.lognormal(6.0, 2.0, (rows, len(FEATURES))).astype(np.float32)
    vectors[random.random(vectors.shape) < 0.1] = np.nan
    amount = np.where(random.random(rows) < 0.2, random.uniform(large, 4 * large, rows), random.uniform(0, large, rows))
    vectors[:, column("amount")] = np.round(amount)
    frauds = (amount >= large).astype(np.int8)
    # A little noise, so that all features have their say and a vector that is off shows in the margin.
    noisy = np.where(random.random(rows) < 0.02, 1 - frauds, frauds)
    params = {"objective": "binary", "num_leaves": 15, "verbose": -1, "num_threads": 1, "deterministic": True}
    booster = lgb.train(params | {"learning_rate": 0.3, "min_data_in_leaf": 5}, lgb.Dataset(vectors, noisy), 20)
    exported = export(booster)
    golden = vectors[:64]
    manifest = Manifest(
        format=FORMAT,
        catalogue=catalogue,
        features=FEATURES,
        # Each has its own: a verdict with parts of two would show.
        thresholds=Thresholds(review=0.5 if large == LARGE else 0.5 + large / 1e9, decline=0.9),
        calibration=Calibration(),
        learner={"name": "LightGBM", "trees": 20},
        trained={"rows": rows},
        metrics={},
        base=exported.base,
    )
    return write(
        folder,
        exported=exported,
        manifest=manifest,
        golden_vectors=golden,
        golden_margins=np.asarray(booster.predict(golden, raw_score=True), np.float64),
        evaluation="<!doctype html>",
    )
