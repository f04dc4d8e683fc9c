"""Bundles from the model registry, by their digest, to beside those that are here.

MLflow's client takes seconds to import and much memory: a process of its own has it, for as long as a download takes.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
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
MOST_AT_ONCE = 2
"""Downloads under way."""
MOST_FAILED = 1_000
"""Names that are remembered as not to be had: the oldest go."""
MOST_SAID = 8_192
"""Bytes of what a download says that are read."""
_NICENESS = 10
"""Verdicts come first."""


_NAME = re.compile(r"[0-9a-f]{16}")


def require_name(name: str) -> None:
    """Raises UnusableModel where no bundle can be called so: whoever names it may write what he likes."""
    if _NAME.fullmatch(name) is None:
        raise UnusableModel(f"{name[:80]!r} is no bundle's name: that is 16 hex digits, its files' digest")


class BeingFetched(UnusableModel):
    """It is on its way: ask again in a moment."""


@dataclass
class _Download:
    process: subprocess.Popen[bytes]
    says: IO[bytes]
    deadline: float

    @property
    def out_of_time(self) -> bool:
        return time.monotonic() >= self.deadline

    @property
    def over(self) -> bool:
        return self.process.poll() is not None or self.out_of_time

    def end(self) -> str:
        """What it said last."""
        in_time = self.process.poll() is not None
        self.process.kill()
        self.process.wait()
        self.says.seek(max(self.says.seek(0, os.SEEK_END) - MOST_SAID, 0))
        said = self.says.read().decode(errors="replace").strip().splitlines()
        self.says.close()
        if not in_time:
            return f"it took longer than {PATIENCE:.0f} s"
        return said[-1] if said else f"status {self.process.returncode}"


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
        require_name(digest)
        target = self._folder / digest
        if target.is_dir():
            self._failed.pop(digest, None)
            return target
        why, again_at, _ = self._failed.get(digest, ("", 0.0, 0.0))
        download = self._downloads.get(digest)
        if download is None:
            if time.monotonic() < again_at:
                raise UnusableModel(why)
            self.tend()
            if len(self._downloads) >= MOST_AT_ONCE:
                raise BeingFetched(f"bundle {digest} waits for {len(self._downloads)} others that are being fetched")
            self._downloads[digest] = self._begin(digest)
            raise BeingFetched(f"bundle {digest} is being fetched from {self._settings.mlflow_model}")
        if not download.over:
            raise BeingFetched(f"bundle {digest} is being fetched from {self._settings.mlflow_model}")
        why = self._note(digest, download)
        if target.is_dir():
            return target
        raise UnusableModel(why)

    def tend(self) -> None:
        """Put down what is over, and end what takes too long, also where nobody asks for it any more."""
        for digest, download in list(self._downloads.items()):
            if download.over:
                self._note(digest, download)

    def close(self) -> None:
        """End what is on its way; half a bundle is nowhere."""
        for download in self._downloads.values():
            download.end()

    def _note(self, digest: str, download: _Download) -> str:
        """Why there is nothing, if so."""
        del self._downloads[digest]
        why = f"bundle {digest} is not in {self._folder}, and can't be fetched: {download.end()}"
        wait = min(max(2 * self._failed.get(digest, ("", 0.0, 0.0))[2], _FIRST_WAIT), _LONGEST_WAIT)
        self._failed.pop(digest, None)
        self._failed[digest] = (why, time.monotonic() + wait, wait)
        while len(self._failed) > MOST_FAILED:
            self._failed.pop(next(iter(self._failed)))
        return why

    def _begin(self, digest: str) -> _Download:
        s = self._settings
        log.info("fetching bundle %s from %s", digest, s.mlflow_model)
        says = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            [sys.executable, "-m", "training.fetching", digest, "--out", str(self._folder)],
            env=dict(os.environ) | {"FRAUD_MLFLOW_URI": s.mlflow_uri, "FRAUD_MLFLOW_MODEL": s.mlflow_model},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=says,
        )
        with suppress(ProcessLookupError):  # it has failed at once
            os.setpriority(os.PRIO_PROCESS, process.pid, _NICENESS)
        return _Download(process, says, time.monotonic() + PATIENCE)
