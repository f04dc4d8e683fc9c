"""Bundles from the model registry, by their digest, to beside those that are here.

MLflow's client takes seconds to import and much memory: a process of its own has it, for as long as a download takes.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from schemas.errors import UnusableModel
from streaming.settings import WorkerSettings

log = logging.getLogger(__name__)

PATIENCE = 120.0
"""Seconds for a download."""
_FIRST_WAIT, _LONGEST_WAIT = 5.0, 60.0
"""Seconds before another attempt, twice as many after each."""


class BeingFetched(UnusableModel):
    """It is on its way: ask again in a moment."""


@dataclass
class _Download:
    process: subprocess.Popen[bytes]
    says: IO[bytes]
    deadline: float

    def over(self) -> str | None:
        """What went wrong, or nothing, in words; None: it goes on."""
        if self.process.poll() is None and time.monotonic() < self.deadline:
            return None
        in_time = self.process.poll() is not None
        self.end()
        self.says.seek(0)
        said = self.says.read().decode(errors="replace").strip().splitlines()
        self.says.close()
        if not in_time:
            return f"it took longer than {PATIENCE:.0f} s"
        return "" if self.process.returncode == 0 else (said[-1] if said else f"status {self.process.returncode}")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class Fetcher:
    """Used by one thread, which never waits for a download."""

    def __init__(self, settings: WorkerSettings, folder: Path) -> None:
        """`folder`: of bundles."""
        self._settings, self._folder = settings, folder
        self._downloads: dict[str, _Download] = {}
        self._failed: dict[str, tuple[str, float, float]] = {}
        """By digest: why, when to try again, and how long that is waited for."""

    def fetch(self, digest: str) -> Path:
        """The bundle's folder.

        Raises BeingFetched where a download has begun; UnusableModel where it failed, until it is time for another.
        """
        target = self._folder / digest
        if target.is_dir():
            self._failed.pop(digest, None)
            return target
        why, again_at, waited = self._failed.get(digest, ("", 0.0, 0.0))
        download = self._downloads.get(digest)
        if download is None:
            if time.monotonic() < again_at:
                raise UnusableModel(why)
            self._downloads[digest] = self._begin(digest)
            raise BeingFetched(f"bundle {digest} is being fetched from {self._settings.mlflow_model}")
        trouble = download.over()
        if trouble is None:
            raise BeingFetched(f"bundle {digest} is being fetched from {self._settings.mlflow_model}")
        del self._downloads[digest]
        if target.is_dir():
            return target
        wait = min(max(2 * waited, _FIRST_WAIT), _LONGEST_WAIT)
        why = f"bundle {digest} is not in {self._folder}, and can't be fetched: {trouble or 'nothing came'}"
        self._failed[digest] = (why, time.monotonic() + wait, wait)
        raise UnusableModel(why)

    def close(self) -> None:
        """End what is on its way; half a bundle is nowhere."""
        for download in self._downloads.values():
            download.end()
            download.says.close()

    def _begin(self, digest: str) -> _Download:
        s = self._settings
        log.info("fetching bundle %s from %s", digest, s.mlflow_model)
        says = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            [sys.executable, "-m", "training", "fetch", digest, "--out", str(self._folder)],
            env=dict(os.environ) | {"FRAUD_MLFLOW_URI": s.mlflow_uri, "FRAUD_MLFLOW_MODEL": s.mlflow_model},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=says,
        )
        return _Download(process, says, time.monotonic() + PATIENCE)
