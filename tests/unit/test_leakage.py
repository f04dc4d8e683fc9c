"""Nothing of a label reaches the features of its own row: where labels are drawn by lot, nothing can be learnt."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.unit.pasts import a_past, labels_of
from training.job import train
from training.settings import TrainingSettings


@pytest.mark.parametrize("seed", [0, 1])
def test_labels_that_were_shuffled_teach_nothing(tmp_path: Path, seed: int) -> None:
    """Through the whole recipe, with categories of few and of many values, and accounts that are drawn by lot too."""
    transactions, labels = a_past(days=60, per_day=250, seed=seed)
    random = np.random.default_rng(seed)
    rows = transactions.height
    transactions = transactions.with_columns(
        pl.Series("attributes.device", [f"d{i}" for i in random.integers(0, 900, rows)]),
        pl.Series("attributes.number", random.normal(size=rows)),
    )
    anyone = np.sort(random.permutation(rows)[: labels.height])
    shuffled = labels_of(transactions[anyone], timedelta(days=3))
    settings = TrainingSettings(trees=40, leaves=15, smallest_leaf=5, threads=1, out=tmp_path, seed=seed)
    trained = train(transactions, shuffled, settings=settings)

    # The area of n frauds' ranks by lot has a standard error of about (12 n) ** -0.5.
    frauds = int(trained.manifest.trained["test_frauds"])
    assert abs(trained.metrics["auc"] - 0.5) < 3.5 / (12 * frauds) ** 0.5
    assert trained.validation.refused == ()
