"""A real schema registry, for tests: Apicurio, which answers as Confluent's does, on PyPI's Java.

160 MB, downloaded once into .local/apicurio/, held to a hash.  What it is told lives in its memory.
"""

from __future__ import annotations

import tarfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from deploy.local.jars import PROJECT, Jar, download, made_once
from deploy.local.kafka_server import java
from deploy.local.ports import LOOPBACK
from deploy.local.server import Server

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


def fetch() -> Path:
    """The folder with the unpacked server; downloads it where that was not done before."""

    def unpacked(into: Path) -> None:
        archive = download(ARCHIVE, into=into)
        with tarfile.open(archive) as packed:
            packed.extractall(into, filter="data")
        archive.unlink()

    return made_once(CACHE / f"{ARCHIVE.version}-{ARCHIVE.sha256[:12]}", unpacked)


class RegistryServer(Server):
    """One registry.  What it was told is gone when it ends."""

    name = "Registry"
    ready_within = 180.0  # it takes some 10 to 20

    @property
    def url(self) -> str:
        """Of the API that is Confluent's."""
        return f"http://{LOOPBACK}:{self._port}/apis/ccompat/v7"

    def _configure(self) -> None:
        """It is told its port by its command."""

    def _command(self) -> Sequence[str | Path]:
        where = [f"-Dquarkus.http.host={LOOPBACK}", f"-Dquarkus.http.port={self._port}"]
        return [*java(HEAP_MB), *where, "-jar", fetch() / "quarkus-run.jar"]

    def _wait(self, deadline: float) -> None:
        while not self._answers():
            self._expect_life(deadline)
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=5) as answer:  # noqa: S310 - it is ours
                return bool(answer.status == 200)
        except OSError:
            return False
