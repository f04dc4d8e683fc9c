"""A Dask cluster whose processes do the heavy parts of a training; here: describe a past.

Profiles know nothing of each other.  So a past is described account by account in as many parts as there are processes, and
then counterparty by counterparty, since a payment brings along what it was to its account: the kernel walks the steps that
it would walk in one process, and the vectors are the same, bit for bit.  The table and the vectors themselves are held by
who asks; what is spread is the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import lightgbm
import numpy as np
import numpy.typing as npt
import polars as pl

from features import kernel
from features.catalogue import DIGEST, OF_THE_COUNTERPARTY
from features.hash_keys import PUBLIC, HashKeys
from schemas.currencies import Rates
from schemas.errors import WrongSettings
from training.errors import ClusterLost
from training.replay import CodedLog, Log, Replayed, Vectors, by_account, by_counterparty, room_for

if TYPE_CHECKING:
    from distributed import Client, Future

Ints = npt.NDArray[np.int64]

_TIMEOUT = 10
"""Seconds for the scheduler to answer, and for a first process to be there."""
_EARLIER = slice(0, OF_THE_COUNTERPARTY.start)
"""The columns of transaction and account, which the catalogue has before the counterparty's."""


@dataclass(frozen=True)
class Cluster:
    """The processes of a Dask cluster, as they were when we came."""

    client: Client
    threads: dict[str, int]
    """By each process's address, tcp://HOST:PORT."""

    def send(self, value: object, to: str) -> Future[Any]:
        """Into a process's memory: a graph of tasks has to be small."""
        [there] = self.client.scatter([value], workers=[to], hash=False)
        return cast("Future[Any]", there)

    def gather(self, futures: Sequence[Future[Any]]) -> list[Any]:
        """What they come to.  Raises ClusterLost where a process ended, and whatever was raised there."""
        from distributed import CancelledError, KilledWorker, as_completed  # noqa: PLC0415 - as in connected
        from distributed.comm.core import CommClosedError  # noqa: PLC0415 - the same

        try:
            # One by one as they come: what fails is heard of, though others may wait for it.
            for done in as_completed(futures, loop=self.client.loop):
                done.result()
            return list(self.client.gather(futures))
        except (CancelledError, CommClosedError, KilledWorker) as error:
            raise ClusterLost(
                f"a process of the Dask cluster ended meanwhile ({error}); nothing was written"
            ) from error


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """To a scheduler at tcp://HOST:PORT with at least one process, each with our code.  Raises WrongSettings."""
    from distributed import Client  # noqa: PLC0415 - a second that only who asks for it waits

    try:
        client = Client(address, timeout=_TIMEOUT, set_as_default=False, direct_to_workers=True)
    except (OSError, ValueError, TimeoutError) as error:
        raise WrongSettings(f"no Dask scheduler answers at {address!r}; write it as tcp://HOST:PORT") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_TIMEOUT)
        except TimeoutError as error:
            raise WrongSettings(
                f"the Dask scheduler at {address} has no workers: start some, `dask worker {address}`"
            ) from error
        for worker, release in client.run(_release, on_error="return").items():
            if release != _release():
                raise WrongSettings(
                    f"the Dask worker at {worker} has another release than we have (catalogue and LightGBM {_release()}, "
                    f"there {release!r}): start it where the same one is installed"
                )
        yield Cluster(client, client.nthreads())


def _release() -> tuple[str, str]:
    """What must be the same in every process for the same vectors and the same trees."""
    return DIGEST, lightgbm.__version__


def vectors(
    cluster: Cluster, transactions: pl.DataFrame, labels: pl.DataFrame, rates: Rates, keys: HashKeys = PUBLIC
) -> Replayed:
    """As replay.vectors.  Raises UnusablePast, ClusterLost."""
    log = Log.of(transactions, labels)
    out = room_for(len(transactions))
    status = np.empty(len(transactions), np.int8)
    ratio = np.empty(len(transactions), np.int32)

    parts = list(_parts(transactions["account_id"], labels["account_id"], len(cluster.threads)))
    tasks = [
        cluster.client.submit(_of_accounts, cluster.send((log.part(*part), rates, keys), to), workers=[to], pure=False)
        for to, part in zip(cluster.threads, parts, strict=True)
    ]
    for (rows, _), (columns, its_status, its_ratio) in zip(parts, cluster.gather(tasks), strict=True):
        out[rows, _EARLIER], status[rows], ratio[rows] = columns, its_status, its_ratio

    others = list(_parts(transactions["counterparty_id"], labels["counterparty_id"], len(cluster.threads)))
    asked = [
        cluster.client.submit(
            _of_counterparties,
            cluster.send((log.part(rows, told), rates, keys, status[rows], ratio[rows]), to),
            workers=[to],
            pure=False,
        )
        for to, (rows, told) in zip(cluster.threads, others, strict=True)
    ]
    for (rows, _), columns in zip(others, cluster.gather(asked), strict=True):
        out[rows, OF_THE_COUNTERPARTY] = columns
    return Replayed(out, status == kernel.NEW)


def _parts(ids: pl.Series, others: pl.Series, parts: int) -> Iterator[tuple[Ints, Ints]]:
    """The rows of either that are of the same ids, part by part, in their order."""
    mine, theirs = (column.hash(seed=0).to_numpy() % np.uint64(parts) for column in (ids, others))
    for part in range(parts):
        yield np.flatnonzero(mine == part), np.flatnonzero(theirs == part)


def _of_accounts(given: tuple[Log, Rates, HashKeys]) -> tuple[Vectors, npt.NDArray[np.int8], npt.NDArray[np.int32]]:
    """In a process of the cluster: the earlier columns, status and ratio."""
    log, rates, keys = given
    out = room_for(len(log.transactions))
    walked = by_account(CodedLog.of(log, rates, keys), out)
    return np.ascontiguousarray(out[:, _EARLIER]), walked.status, walked.ratio


def _of_counterparties(given: tuple[Log, Rates, HashKeys, npt.NDArray[np.int8], npt.NDArray[np.int32]]) -> Vectors:
    """In a process of the cluster: the counterparties' columns."""
    log, rates, keys, status, ratio = given
    out = room_for(len(log.transactions))
    by_counterparty(CodedLog.of(log, rates, keys), status, ratio, out)
    return np.ascontiguousarray(out[:, OF_THE_COUNTERPARTY])
