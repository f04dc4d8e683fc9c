"""Which data and which code a run was made of."""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_PROJECT = Path(__file__).parents[1]
_PATIENCE = 10.0
"""Seconds for git."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a past was read, and what was there."""

    name: str
    digest: str
    """SHA-256 of the past's files, and of the mapping's: the same bytes give the same wherever they lie."""

    @classmethod
    def of(cls, past: Path, mapping: Path | None) -> Source:
        """Reads a gigabyte a second.  Raises OSError."""
        files = [past] if past.is_file() else [past / "transactions.parquet", past / "labels.parquet"]
        if mapping is not None:
            files.append(mapping)
        whole = hashlib.sha256("".join(_digest(file) for file in files).encode()).hexdigest()
        return cls(name=f"{past}" if mapping is None else f"{past} by {mapping}", digest=whole)

    @classmethod
    def of_archive(cls, name: str) -> Source:
        """An archive at a version never changes: its name says all."""
        return cls(name=name, digest=hashlib.sha256(name.encode()).hexdigest())


def code_version() -> str:
    """The git commit, with `-dirty` where something was changed since; without git the package's version."""
    if (_PROJECT / ".git").exists():
        try:
            done = subprocess.run(
                ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607 - whichever git is there
                cwd=_PROJECT, capture_output=True, text=True, timeout=_PATIENCE, check=True,
            )  # fmt: skip
            return done.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass  # no git, or not its repository: the version below will do
    try:
        return metadata.version("fraud-scorer")
    except metadata.PackageNotFoundError:
        return "unknown"


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
