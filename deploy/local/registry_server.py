"""A real schema registry, for tests: Apicurio, which answers as Confluent's does, on PyPI's Java.

160 MB, downloaded once into .local/apicurio/, held to a hash.  What it is told lives in its memory.
"""

from __future__ import annotations

import fcntl
import shutil
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from deploy.local.children import Child, Children, FailedToStart, NotRunning, tail
from deploy.local.jars import PROJECT, Jar, download
from deploy.local.kafka_server import java
from deploy.local.ports import LOOPBACK, free_ports

ARCHIVE = Jar(
    group="io.apicurio",
    artifact="apicurio-registry-app",
    version="3.3.3",
    packaging="tar.gz",
    classifier="all",
    sha256="8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63",
)
CACHE = PROJECT / ".local" / "apicurio"
HEAP_MB = 384
READY_WITHIN = 180.0
"""Seconds; it takes some 10 to 20."""


def fetch() -> Path:
    """The folder with the unpacked server; downloads it where that was not done before.

    The folder appears under its name only when it is complete.  A second caller waits for the first.
    """
    server = CACHE / f"{ARCHIVE.version}-{ARCHIVE.sha256[:12]}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "fetch.lock").open("w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        for unfinished in CACHE.glob("unfinished-*"):
            shutil.rmtree(unfinished)
        if not server.exists():
            complete = Path(tempfile.mkdtemp(prefix="unfinished-", dir=CACHE))
            try:
                archive = download(ARCHIVE, into=complete)
                with tarfile.open(archive) as packed:
                    packed.extractall(complete, filter="data")
                archive.unlink()
                complete.rename(server)
            finally:
                shutil.rmtree(complete, ignore_errors=True)
    return server


class RegistryServer:
    """One registry.  What it was told is gone when it ends."""

    def __init__(self, folder: Path, children: Children) -> None:
        self.folder = folder
        self._children = children
        self._port = free_ports(1)[0]
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Of the API that is Confluent's."""
        return f"http://{LOOPBACK}:{self._port}/apis/ccompat/v7"

    @property
    def pid(self) -> int:
        """Raises NotRunning."""
        if self._child is None or not self._child.running:
            raise NotRunning("the registry is not running")
        return self._child.pid

    def start(self) -> None:
        """Until it answers.  Raises FailedToStart with the tail of its log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "registry.log"
        self._child = self._children.start(
            "registry",
            [
                *java(HEAP_MB),
                f"-Dquarkus.http.host={LOOPBACK}",
                f"-Dquarkus.http.port={self._port}",
                "-jar",
                fetch() / "quarkus-run.jar",
            ],
            folder=self.folder,
            log=log,
        )
        deadline = time.monotonic() + READY_WITHIN
        while not self._answers():
            if not self._child.running or time.monotonic() > deadline:
                self._child.kill()
                raise FailedToStart(f"the registry was not ready.  Its log says:\n{tail(log)}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5) as answer:  # noqa: S310 - it is ours
                return bool(answer.status == 200)
        except OSError:
            return False
