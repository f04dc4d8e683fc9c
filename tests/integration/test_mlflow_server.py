"""The same over HTTP: a real `mlflow server`, which is away, comes, and is stopped again."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from mlflow import MlflowClient

from schemas.bundle import MANIFEST, Manifest
from tests.fleet.models import a_bundle
from tests.unit.test_tracking import a_record
from training import pending
from training.registered import fetch_bundle
from training.tracking import Tracking, tell, upload

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """As an operator starts one; ends when it is left."""
    database, artifacts = f"sqlite:///{folder}/mlflow.db", str(folder / "artifacts")
    with (folder / "server.log").open("w") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
             "--backend-store-uri", database, "--artifacts-destination", artifacts],
            stdout=log, stderr=log, env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"}, start_new_session=True,
        )  # fmt: skip
        try:
            for _ in range(600):
                assert running.poll() is None, (folder / "server.log").read_text()
                try:
                    if httpx.get(f"http://127.0.0.1:{port}/health", timeout=1).is_success:
                        break
                except httpx.HTTPError:
                    pass
                time.sleep(0.1)
            yield
        finally:
            os.killpg(running.pid, 15)
            running.wait(30)


def test_a_run_goes_to_a_server_once_it_is_there(tmp_path: Path) -> None:
    port = free_port()
    tracking = Tracking(uri=f"http://127.0.0.1:{port}", pending=tmp_path / "pending")
    bundle = a_bundle(tmp_path / "bundles").resolve()

    assert tell(tracking, a_record(bundle), bundle).waits is not None
    with server(tmp_path, port):
        [uploaded] = upload(tracking).uploaded.values()
        client = MlflowClient(tracking.uri, tracking.uri)
        client.set_registered_model_alias(tracking.model, "champion", uploaded.version)
        fetched = fetch_bundle(tracking, "champion", tmp_path / "fetched")

        assert fetched.name == bundle.name
        assert client.get_run(uploaded.run).info.status == "FINISHED"
    manifest = msgspec.json.decode((fetched / MANIFEST).read_bytes(), type=Manifest)
    assert manifest.features
    assert tell(tracking, a_record(bundle), bundle).waits is not None
    assert len(pending.waiting(tracking.pending)) == 1
