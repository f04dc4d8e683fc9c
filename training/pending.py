"""What MLflow is still to be told: a folder for each run, whole or not there at all.

    <pending>/<run>/run.json    the Record
    <pending>/<run>/bundle/     a copy of the bundle with its evaluation

Every run is put down here first and goes when MLflow has it: a server that is away costs nothing but time.
"""

from __future__ import annotations

import fcntl
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from schemas.bundle import BUNDLE_TAG, CATALOGUE_TAG, Manifest
from schemas.wire import EPOCH
from training.settings import TrainingSettings
from training.versions import Source

if TYPE_CHECKING:
    from training.prequential import Judged  # and with it what learns, which a worker has not

RECORD, BUNDLE = "run.json", "bundle"
CODE_TAG = "mlflow.source.git.commit"
SOURCE_TAG, DATA_TAG = "fraud.source", "fraud.data"

_MILLISECOND = timedelta(milliseconds=1)
_LONGEST_VALUE = 500
"""Of a parameter, in characters; MLflow's own limit was that for long, and the manifest has it all."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A run as MLflow will be told of it.  Nothing in it reaches the bundle."""

    name: str
    """Of its folder and of the run in MLflow: told twice, it is one run still."""
    began: int
    """Milliseconds since 1970."""
    ended: int
    parameters: dict[str, str]
    metrics: dict[str, float]
    series: dict[str, list[float]] = {}
    """Metrics that have a value for each step: the folds, the oldest first."""
    tags: dict[str, str]


def record_of(
    bundle: Path,
    manifest: Manifest,
    folds: Sequence[Judged],
    settings: TrainingSettings,
    *,
    began: datetime,
    ended: datetime,
    source: Source,
    code: str,
    seconds: Mapping[str, float],
) -> Record:
    """`code`: its version; `seconds`: how long each stage took."""
    given = {name: value for name, value in msgspec.structs.asdict(settings).items() if name != "out"}
    thresholds = msgspec.structs.asdict(manifest.thresholds)
    told = {"settings": given, "learner": manifest.learner, "trained": manifest.trained, "threshold": thresholds}
    return Record(
        name=f"{began.astimezone(UTC):%Y%m%dT%H%M%SZ}-{bundle.name}-{secrets.token_hex(4)}",
        began=(began - EPOCH) // _MILLISECOND,
        ended=(ended - EPOCH) // _MILLISECOND,
        parameters=dict(_flat(told)),
        metrics=dict(manifest.metrics) | {f"seconds.{stage}": took for stage, took in seconds.items()},
        series={
            f"fold_{name}": [getattr(fold, name) for fold in folds] for name in ("average_precision", "auc") if folds
        },
        tags={
            BUNDLE_TAG: bundle.name,
            CATALOGUE_TAG: manifest.catalogue,
            CODE_TAG: code,
            SOURCE_TAG: source.name,
            DATA_TAG: source.digest,
        },
    )


def keep(pending: Path, record: Record, bundle: Path) -> Path:
    """Put a run down with a copy of its `bundle`.  Raises OSError; then there is nothing."""
    pending.mkdir(parents=True, exist_ok=True)
    draft = pending / f".draft-{secrets.token_hex(8)}"
    try:
        shutil.copytree(bundle, draft / BUNDLE)
        (draft / RECORD).write_bytes(msgspec.json.encode(record))
        return draft.rename(pending / record.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def waiting(pending: Path) -> list[Path]:
    """The runs that wait, oldest first."""
    if not pending.is_dir():
        return []
    return sorted(folder for folder in pending.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def read(folder: Path) -> Record:
    """Raises OSError, msgspec.DecodeError."""
    return msgspec.json.decode((folder / RECORD).read_bytes(), type=Record)


def drop(folder: Path) -> None:
    """MLflow has it."""
    away = folder.rename(folder.with_name(f".draft-{secrets.token_hex(8)}"))  # so that nobody finds half of it
    shutil.rmtree(away)


@contextmanager
def alone(pending: Path) -> Iterator[None]:
    """Two who upload at once take turns, or a run would be there twice."""
    pending.mkdir(parents=True, exist_ok=True)
    with (pending / ".lock").open("w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        yield


def _flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        entries: dict[str, Any] = value
        for key, inner in entries.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, msgspec.Struct):
        yield from _flat(msgspec.structs.asdict(value), name)
    else:
        yield name, str(value)[:_LONGEST_VALUE]
