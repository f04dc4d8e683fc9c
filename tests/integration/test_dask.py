"""A Dask cluster of two processes comes to the vectors of one process, bit for bit, and to its trees."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from schemas.currencies import DEFAULT_RATES
from schemas.errors import WrongSettings
from tests.fleet.processes import Forked
from tests.unit.pasts import a_past
from training import cluster, replay
from training.errors import ClusterLost, UnusablePast
from training.job import TrainedBundle, train
from training.learners.chosen import learner_of
from training.learners.learner import Rows
from training.settings import LearnerName, TrainingSettings

TRANSACTIONS, LABELS = a_past()
EXACT = TrainingSettings(
    trees=40,
    leaves=7,
    patience=10,
    threads=1,
    l2=0.0,
    smallest_leaf=1,
    learners={"lightgbm": {"min_sum_hessian_in_leaf": 1.0}},
)
"""Where LightGBM's learner for several processes asks what its one for one process asks (docs/dask.md)."""


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address.  A worker without a nanny is one process, and ends when it is told to."""
    folder = str(tmp_path_factory.mktemp("dask"))
    processes = [dask("scheduler", "--host", "127.0.0.1", "--port", "0")]
    try:
        address = processes[0].log.wait_for("Scheduler at:").split()[-1]
        where = ("--no-nanny", "--nthreads", "1", "--local-directory", folder)
        processes.extend(dask("worker", address, *where) for _ in range(2))
        for worker in processes[1:]:
            worker.log.wait_for("Registered to:")
        yield address
    finally:
        ended = [process.stop() for process in reversed(processes)]
    assert ended == [0, 0, 0]


def dask(what: str, *arguments: str) -> Forked:
    return Forked(["dask", what, "--no-dashboard", *arguments], os.environ)


def rows_of(transactions: pl.DataFrame) -> tuple[Rows, Rows]:
    vectors = replay.vectors(transactions, LABELS).vectors
    is_fraud = transactions["transaction_id"].is_in(LABELS["transaction_id"].implode()).to_numpy()
    early, late = slice(0, 3_501), slice(3_501, None)  # an odd number: parts of different sizes
    return Rows(vectors=vectors[early], is_fraud=is_fraud[early]), Rows(vectors=vectors[late], is_fraud=is_fraud[late])


def test_the_vectors_are_the_same_bit_for_bit(scheduler: str) -> None:
    told_twice = pl.concat([TRANSACTIONS, TRANSACTIONS[1_000:1_500]])
    minutes_late = pl.lit(pl.Series(np.random.default_rng(1).exponential(360, len(told_twice))))
    told_twice = told_twice.sort(pl.col("occurred_at") + pl.duration(minutes=minutes_late), maintain_order=True)
    alone = replay.vectors(told_twice, LABELS)
    with cluster.connected(scheduler) as processes:
        together = cluster.vectors(processes, told_twice, LABELS, DEFAULT_RATES)

    assert (together.accepted == alone.accepted).all()
    assert together.vectors[alone.accepted].tobytes() == alone.vectors[alone.accepted].tobytes()
    assert np.isnan(alone.vectors).any()
    assert alone.accepted.sum() == len(TRANSACTIONS)


@pytest.mark.slow
def test_the_trees_are_the_same_and_again_bit_for_bit(scheduler: str) -> None:
    fit, kept = rows_of(TRANSACTIONS)
    steps: list[int] = []
    alone, together, again = (
        learner_of(settings).fit(fit, kept, settings, lambda done, _most: steps.append(done))
        for settings in (EXACT, *[msgspec.structs.replace(EXACT, dask=scheduler)] * 2)
    )

    assert together.card() == {**alone.card(), "processes": 2}
    assert together.margins(kept.vectors) == pytest.approx(alone.margins(kept.vectors), rel=1e-9)
    assert again.margins(kept.vectors).tobytes() == together.margins(kept.vectors).tobytes()
    assert together.exported().graph == again.exported().graph
    assert max(steps) <= EXACT.trees


@pytest.mark.slow
def test_a_run_is_as_good_as_one_without_a_cluster(scheduler: str, tmp_path: Path) -> None:
    def trained(dask: str) -> TrainedBundle:
        settings = msgspec.structs.replace(EXACT, dask=dask, out=tmp_path / (dask and "dask"))
        return train(TRANSACTIONS, LABELS, settings=settings)

    alone, together = trained(""), trained(scheduler)

    assert together.metrics["average_precision"] == pytest.approx(alone.metrics["average_precision"], abs=0.005)
    assert together.manifest.usual == alone.manifest.usual
    assert together.manifest.features == alone.manifest.features


def test_what_is_wrong_with_a_past_is_said_as_ever(scheduler: str) -> None:
    foreign = TRANSACTIONS.with_columns(pl.lit("XAU").alias("currency"))
    with cluster.connected(scheduler) as processes, pytest.raises(UnusablePast, match="FRAUD_RATES__XAU"):
        cluster.vectors(processes, foreign, LABELS, DEFAULT_RATES)


def test_work_that_is_lost_with_its_process_is_said_to_be(scheduler: str) -> None:
    with cluster.connected(scheduler) as processes:
        lost = processes.client.submit(os.getpid, pure=False)
        lost.cancel()
        with pytest.raises(ClusterLost, match="nothing was written"):
            processes.gather([lost])


def test_no_scheduler_says_how_to_write_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_TIMEOUT", 0.3)
    for address in ("tcp://127.0.0.1:9", "nonsense"):
        with pytest.raises(WrongSettings, match="tcp://HOST:PORT"), cluster.connected(address):
            pass


def test_other_learners_are_refused() -> None:
    with pytest.raises(WrongSettings, match="dask: a cluster fits lightgbm, and not xgboost"):
        learner_of(TrainingSettings(learner=(LearnerName.XGBOOST,), dask="tcp://127.0.0.1:9"))


def test_workers_of_another_release_are_refused(scheduler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "DIGEST", "another")
    with pytest.raises(WrongSettings, match="another release"), cluster.connected(scheduler):
        pass
