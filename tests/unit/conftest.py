"""One MLflow for all tests that need one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from training.tracking import Tracking


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's, which takes seconds to make."""
    return tmp_path_factory.mktemp("mlflow") / "mlflow.db"


@pytest.fixture
def tracking(database: Path, tmp_path: Path) -> Tracking:
    """An experiment and a model of its own for each test."""
    return Tracking(
        uri=f"sqlite:///{database}",
        artifacts=str(tmp_path / "artifacts"),
        experiment=tmp_path.name,
        model=tmp_path.name,
        pending=tmp_path / "pending",
    )


@pytest.fixture
def closed_port() -> Iterator[int]:
    """One that nobody listens on: it is bound, so that nobody will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
