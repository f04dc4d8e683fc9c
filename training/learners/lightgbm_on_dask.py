"""LightGBM's own distributed learner in the processes of a Dask cluster.

The trees are those of one process but for the order in which sums are rounded, since

* the features are cut into bins here, by the rows of all processes, as one process does.  A process that is left to do it
  (`lightgbm.dask` leaves it) takes its own rows for the whole: other bins, other features left out as too rare to split by,
  so other ones drawn for each tree, and a lower average precision (docs/dask.md);
* what is sent is a part of the rows, binned (a byte a number), the same part to the same rank in every run;
* every process judges the trees by all the validation rows, so that they all stop at the same one.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from urllib.parse import urlsplit

import lightgbm as lgb

from training.cluster import Cluster, connected
from training.errors import ClusterLost
from training.learners.learner import Steps
from training.learners.lightgbm import boosted

_TREES = "fraud-training-trees"
"""The topic on which the first process says how many there are."""


@dataclass(frozen=True)
class OnDask:
    """As training.learners.lightgbm.boosted, by the cluster whose scheduler is at tcp://HOST:PORT."""

    address: str

    def __call__(
        self, params: dict[str, Any], learnt: lgb.Dataset, kept: lgb.Dataset, trees: int, patience: int, on_step: Steps
    ) -> lgb.Booster:
        """Raises WrongSettings, ClusterLost."""
        with connected(self.address) as cluster:
            cluster.client.subscribe_topic(_TREES, lambda event: on_step(*event[1]))
            addresses = list(cluster.threads)
            machines = _machines(cluster)
            binned = [_binned(part) for part in _parts(learnt, len(addresses))]
            [validation] = cluster.client.scatter([_binned(kept)], broadcast=True, hash=False)
            tasks = [
                cluster.client.submit(
                    _fitted,
                    params
                    | {
                        "tree_learner": "data",
                        "machines": ",".join(machines),
                        "num_machines": len(machines),
                        "local_listen_port": int(machines[rank].rpartition(":")[2]),
                        "num_threads": cluster.threads[to],
                    },
                    cluster.send(binned[rank], to),
                    validation,
                    trees,
                    patience,
                    rank,
                    workers=[to],
                    pure=False,
                )
                for rank, to in enumerate(addresses)
            ]
            try:
                booster, *_ = cluster.gather(tasks)
            except lgb.basic.LightGBMError as error:
                raise ClusterLost(
                    f"LightGBM ended in a process of the Dask cluster: {error}; nothing was written"
                ) from error
        return cast("lgb.Booster", booster)


def _parts(whole: lgb.Dataset, parts: int) -> list[lgb.Dataset]:
    """Turn by turn, so that each has rows of all times; with the bins of the whole."""
    if parts == 1:
        return [whole]
    rows = whole.construct().num_data()
    return [whole.subset(list(range(part, rows, parts))) for part in range(parts)]


def _binned(data: lgb.Dataset) -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "binned"
        data.save_binary(file)
        return file.read_bytes()


def _machines(cluster: Cluster) -> list[str]:
    """A HOST:PORT for each process to listen at, no two the same."""
    while True:
        ports = cluster.client.run(_free_port)
        machines = [f"{urlsplit(address).hostname}:{ports[address]}" for address in cluster.threads]
        if len(set(machines)) == len(machines):
            return machines


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port


def _fitted(
    params: dict[str, Any], mine: bytes, validation: bytes, trees: int, patience: int, rank: int
) -> lgb.Booster | None:
    """In a process of the cluster: the booster from the first, which is that of each."""
    from distributed import get_worker  # noqa: PLC0415 - as in training.cluster

    worker = get_worker()
    task = worker.get_current_task()

    def told(done: int, of: int) -> None:
        if worker.state.tasks[task].state == "cancelled":
            raise InterruptedError("nobody waits for the model any more")
        if rank == 0:
            worker.log_event(_TREES, [done, of])

    def fit() -> lgb.Booster:
        with TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("mine", "validation")]
            for file, binned in zip(files, (mine, validation), strict=True):
                file.write_bytes(binned)
            learnt = lgb.Dataset(files[0], params=params).construct()
            kept = lgb.Dataset(files[1], reference=learnt, params=params).construct()
        return boosted(params, learnt, kept, trees, patience, told)

    # LightGBM keeps its connections by thread: they end with this one, however the fit does.
    with ThreadPoolExecutor(1) as apart:
        booster = apart.submit(fit).result()
    return booster if rank == 0 else None
