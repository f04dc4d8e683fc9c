"""A fresh clone of the project to give commands in: its code and an environment of its own, and nothing that was made.

Its environment's packages are those of the one that runs the tests, which takes no minute to install; `make setup` finds all
there.  Whatever is started in it has ports and folders of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.jars import PROJECT

_MADE = (".git", ".venv", ".local", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")


@dataclass(frozen=True)
class Clone:
    """`run` gives it shell commands, as a reader types them."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Clone:
        shutil.copytree(PROJECT, folder, ignore=shutil.ignore_patterns(*_MADE), symlinks=True)
        ours, environment = Path(sys.prefix), folder / ".venv"
        (environment / "bin").mkdir(parents=True)
        (environment / "lib").symlink_to(ours / "lib")
        shutil.copy(ours / "pyvenv.cfg", environment)
        for file in (ours / "bin").iterdir():
            if file.name.startswith("python"):
                (environment / "bin" / file.name).symlink_to(file.resolve())
            elif file.name in ("activate", "loadgen", "training", "features", "streaming", "dead-letters"):
                copy = environment / "bin" / file.name
                copy.write_text(file.read_text().replace(str(ours), str(environment)))
                copy.chmod(0o755)
        shutil.copytree(ours / ".installed", environment / ".installed")
        (environment / ".installed" / "place").write_text(str(folder))
        (folder / ".local").mkdir()
        (folder / ".local" / "kafka").symlink_to(PROJECT / ".local" / "kafka")
        return cls(folder)

    def run(
        self, script: str, *, timeout: float, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """In bash, until the first line that fails."""
        with subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder, env=self.environment | dict(environment or {}), start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as shell:  # fmt: skip
            try:
                out, err = shell.communicate(timeout=timeout)
            except BaseException:
                os.killpg(shell.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(script, shell.returncode, out, err)

    @property
    def environment(self) -> dict[str, str]:
        """As of somebody who has set nothing of ours; imports find the clone's code before the one that is tested."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FRAUD_", "KAFKA", "MAKE"))}
        return kept | {"PYTHONPATH": str(self.folder)}
