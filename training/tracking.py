"""MLflow: every run's parameters, metrics and bundle, and a version of the registered model for each.

mlflow is imported here and in training/registered.py, nowhere else, and only when it is needed: that takes seconds.  What is
to be told waits in training/pending.py until MLflow has it, so that nothing here can hold a training up; and what is told
twice, since a process died in between, is there once.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec

from schemas import installation, masking
from schemas.bundle import BUNDLE_TAG, CATALOGUE_TAG
from schemas.errors import WrongSettings
from training import pending
from training.errors import MLflowAway
from training.pending import BUNDLE, Record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

SQLITE = "sqlite:///"
_WEB = ("http", "https")
_DATABASES = {"postgresql": 5432, "mysql": 3306}
"""What a tracking address may begin with, and the port where none is said."""
_TIMEOUT = 2.0
"""Seconds for a database to be connected to.  MLflow itself would try for minutes."""
_AT_ONCE = 100
"""Parameters, tags or metrics that MLflow takes in one call."""
_RUN_TAG = "fraud.run"
_ENVIRONMENT = {
    # Nobody is told that we use it.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_USUAL_ENVIRONMENT = {
    # MLflow's own are 120 s and seven times.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
"""Unless the environment says otherwise."""


Runs = Callable[[int, int], None]
"""Is told how many runs of how many were told."""


def _unheard(_done: int, _of: int) -> None: ...


class Tracking(msgspec.Struct, frozen=True, kw_only=True):
    """Where MLflow is, and what things are called there.  Raises WrongSettings where that can't be meant."""

    uri: str = "sqlite:///.local/mlflow/mlflow.db"
    """A file of SQLite's, a database (postgresql://…, mysql://…) or an MLflow server (http://…)."""
    artifacts: str = ""
    """Where a new experiment's artifacts go: a folder or s3://….  Empty: beside SQLite's file; where a server says."""
    experiment: str = installation.model("")
    model: str = installation.model("")
    """The registered model, which a version is added to by every run."""
    pending: Path = installation.pending("")
    """What MLflow has not got yet."""

    def __post_init__(self) -> None:
        masking.keep_address(self.uri)
        masking.keep_address(self.artifacts)
        kind = self._kind
        if not self.uri.startswith(SQLITE) and kind not in (*_WEB, *_DATABASES):
            raise WrongSettings(
                f"FRAUD_MLFLOW_URI is {self.shown!r}; write sqlite:///FILE, http://HOST:PORT or postgresql://…"
            )
        if kind in _DATABASES and not self.artifacts:
            raise WrongSettings(
                f"FRAUD_MLFLOW_ARTIFACTS is missing: {kind} keeps no files; say where they go, as s3://BUCKET/FOLDER"
            )
        for name in ("experiment", "model"):
            value = getattr(self, name)
            if not re.fullmatch(r"[\w.-]+( [\w.-]+)*", value):
                raise WrongSettings(
                    f"FRAUD_MLFLOW_{name.upper()} is {value!r}; letters, digits, and . _ - within, as fraud-scorer, would do"
                )

    @property
    def shown(self) -> str:
        """The address, as it may be shown."""
        return masking.address(self.uri)

    @property
    def database(self) -> Path | None:
        """SQLite's file."""
        return Path(self.uri.removeprefix(SQLITE)) if self.uri.startswith(SQLITE) else None

    @property
    def artifact_location(self) -> str | None:
        """As a new experiment is told; None: as the server has it."""
        if self.artifacts:
            return self.artifacts if "://" in self.artifacts else str(Path(self.artifacts).resolve())
        return None if self.database is None else str((self.database.parent / "artifacts").resolve())

    @property
    def _kind(self) -> str:
        return urlsplit(self.uri).scheme.partition("+")[0]


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """What MLflow calls a run."""

    run: str
    version: str
    """Of the registered model."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of the runs that waited, by name."""

    uploaded: dict[str, Uploaded] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    """Each with why."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of telling MLflow of one run."""

    uri: str
    model: str
    run: str | None = None
    version: str | None = None
    waits: str | None = None
    """Why it waits."""


def tell(tracking: Tracking, record: Record, bundle: Path, on_run: Runs = _unheard) -> Told:
    """Put a run down, and tell MLflow of it and of all that waited.  Raises OSError."""
    kept = pending.keep(tracking.pending, record, bundle)
    outcome = upload(tracking, on_run)
    uploaded = outcome.uploaded.get(kept.name)
    return Told(
        uri=tracking.shown,
        model=tracking.model,
        run=None if uploaded is None else uploaded.run,
        version=None if uploaded is None else uploaded.version,
        waits=outcome.waiting.get(kept.name),
    )


def upload(tracking: Tracking, on_run: Runs = _unheard) -> Outcome:
    """Tell MLflow of everything that waits, oldest first.

    Whatever MLflow and the stores behind it raise is in the Outcome: it is no reason to fail.  Raises OSError.
    """
    outcome = Outcome()
    with pending.alone(tracking.pending):
        folders = pending.waiting(tracking.pending)
        if not folders:
            return outcome
        why = ""
        try:
            client = connected(tracking)
            experiment = _experiment(client, tracking)
        except MLflowAway as error:
            why = str(error)
        for done, folder in enumerate(folders):
            if not why:
                try:
                    outcome.uploaded[folder.name] = _tell_of(client, tracking, experiment, folder)
                    pending.drop(folder)
                except Exception as error:  # of MLflow, its database, its artifact store, or a record that is none
                    outcome.waiting[folder.name] = in_a_line(error)
                    why = _gone(client, tracking)
            if why and folder.name not in outcome.waiting:
                outcome.waiting[folder.name] = why
            on_run(done + 1, len(folders))
    return outcome


def in_a_line(error: BaseException) -> str:
    """The first line of what it says, without the trace that some carry along."""
    lines = masking.text(str(error)).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__


def connected(tracking: Tracking) -> MlflowClient:
    """Raises MLflowAway, within seconds."""
    masking.keep_environment()
    os.environ.update(_ENVIRONMENT)
    for name, value in _USUAL_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with mlflows_errors(tracking):
        _require_database(tracking)
        from mlflow import MlflowClient  # noqa: PLC0415 - takes seconds

        logging.getLogger("alembic").setLevel(logging.ERROR)  # which tells of every table it makes
        for name in ("mlflow", "alembic", "sqlalchemy.engine"):
            for handler in logging.getLogger(name).handlers:  # their own
                handler.setFormatter(masking.Lines("%(name)s: %(message)s"))
        return MlflowClient(tracking_uri=tracking.uri, registry_uri=tracking.uri)


def _require_database(tracking: Tracking) -> None:
    """That a database can be connected to, where MLflow is one.  MLflow's first attempt lasts for minutes."""
    there = urlsplit(tracking.uri)
    if there.scheme in _WEB:
        return
    if tracking.database is not None:
        tracking.database.parent.mkdir(parents=True, exist_ok=True)
    elif (address := _address(there)) is not None:
        socket.create_connection(address, timeout=_TIMEOUT).close()
    import sqlalchemy  # noqa: PLC0415 - comes with MLflow, and takes as long

    engine = sqlalchemy.create_engine(tracking.uri)
    try:
        sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


def _address(there: SplitResult) -> tuple[str, int] | None:
    """Host and port of a database; None: it listens at a file of this machine, which answers at once or isn't there."""
    kind = there.scheme.partition("+")[0]
    said = dict(parse_qsl(there.query))
    host = there.hostname or said.get("host", "/" if kind == "postgresql" else "127.0.0.1")
    return None if host.startswith("/") else (host, there.port or int(said.get("port") or _DATABASES[kind]))


@contextmanager
def mlflows_errors(tracking: Tracking) -> Iterator[None]:
    """As MLflowAway: those of MLflow, SQLAlchemy, requests, boto3 have no root in common."""
    try:
        yield
    except Exception as error:  # whichever it is, the run is kept, and waits
        raise MLflowAway(f"MLflow at {tracking.shown} does not answer: {in_a_line(error)}") from error


def _experiment(client: MlflowClient, tracking: Tracking) -> str:
    with mlflows_errors(tracking):
        there = client.get_experiment_by_name(tracking.experiment)
        if there is not None:
            return str(there.experiment_id)
        return str(client.create_experiment(tracking.experiment, tracking.artifact_location))


def _gone(client: MlflowClient, tracking: Tracking) -> str:
    """Why there is no use in asking further; empty where there is."""
    try:
        client.get_experiment_by_name(tracking.experiment)
    except Exception as error:  # as above
        return in_a_line(error)
    return ""


def _tell_of(client: MlflowClient, tracking: Tracking, experiment: str, folder: Path) -> Uploaded:
    from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415 - takes seconds

    record = pending.read(folder)
    run = _run(client, experiment, record)
    number = run.info.run_id
    parameters = iter([Param(name, value) for name, value in record.parameters.items()])
    while some := list(islice(parameters, _AT_ONCE)):
        client.log_batch(number, params=some)
    client.log_batch(
        number,
        metrics=[Metric(name, value, record.ended, 0) for name, value in record.metrics.items()]
        + [
            Metric(name, value, record.ended, step)
            for name, values in record.series.items()
            for step, value in enumerate(values, 1)
        ],
        tags=[RunTag(name, value) for name, value in record.tags.items()],
    )
    client.log_artifacts(number, str(folder / BUNDLE), BUNDLE)
    version = _version(client, tracking, run, record)
    client.set_terminated(number, "FINISHED", record.ended)
    return Uploaded(run=number, version=str(version.version))


def _run(client: MlflowClient, experiment: str, record: Record) -> Run:
    """MLflow's run of this name, made where an earlier attempt has not."""
    begun = client.search_runs([experiment], f"tags.`{_RUN_TAG}` = '{record.name}'", max_results=1)
    if begun:
        return begun[0]
    return client.create_run(experiment, record.began, tags={_RUN_TAG: record.name}, run_name=record.name)


def _version(client: MlflowClient, tracking: Tracking, run: Run, record: Record) -> ModelVersion:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes seconds

    try:
        client.create_registered_model(tracking.model)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    registered = client.search_model_versions(f"name = '{tracking.model}' and run_id = '{run.info.run_id}'")
    if registered:
        return registered[0]
    return client.create_model_version(
        tracking.model,
        f"{run.info.artifact_uri}/{BUNDLE}",
        run.info.run_id,
        tags={tag: record.tags[tag] for tag in (BUNDLE_TAG, CATALOGUE_TAG)},
    )
