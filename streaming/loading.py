"""Bundles made ready to judge.  Whatever is wrong with one, it is refused by name, and the worker goes on without it.

A bundle that ended the process while it was loaded is tried in a process of its own before this one meets it again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from schemas.errors import UnusableModel
from streaming.fetching import BeingFetched, require_name

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 5.0, 600.0
"""Seconds after which a bundle whose files are as they were is tried once more, twice as many after each: it may have been
this machine's fault."""
TRIED_WITHIN = 120.0
"""Seconds for a trial in a process of its own."""
MOST_SAID = 1_000
"""Characters of a reason."""
Ready = TypeVar("Ready")


@dataclass(frozen=True)
class _Refused:
    why: str
    files: str
    wait: float
    again_at: float


class Loader(Generic[Ready]):
    """Used by one thread."""

    def __init__(
        self,
        load: Callable[[Path], Ready],
        fetch: Callable[[str], Path],
        try_apart: Callable[[Path], str | None],
        marks: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load` may raise anything.  `fetch` gives the folder of a name, or raises UnusableModel.

        `try_apart` says why a bundle can't be loaded, None where it can.  `marks` is how the names of files begin that
        say what is being loaded: of this worker alone, where it finds them again after its death.
        """
        self._load, self._fetch, self._try_apart, self._marks, self._clock = load, fetch, try_apart, marks, clock
        self._refused: dict[str, _Refused] = {}

    def ready(self, name: str, folder: Path | None = None) -> Ready:
        """The bundle of this name, ready; in `folder`, or where it is fetched to.

        Raises BeingFetched, and UnusableModel with why it is refused.  One that was refused is not tried again before its
        files have changed, or a while has passed.
        """
        if folder is None:
            require_name(name)
            folder = self._fetch(name)
        files, now = _files(folder), self._clock()
        before = self._refused.get(name)
        if before is not None and before.files == files and now < before.again_at:
            raise UnusableModel(before.why)
        try:
            found = self._loaded(name, folder, files)
        except BeingFetched:
            raise
        except Exception as error:
            why = str(error) if isinstance(error, UnusableModel) else f"bundle {name} fails with {_said(error)}"
            wait = FIRST_WAIT if before is None or before.files != files else min(2 * before.wait, LONGEST_WAIT)
            if not isinstance(error, UnusableModel):
                log.exception("bundle %s can't be made ready", name)
            self._refused[name] = _Refused(why[:MOST_SAID], files, wait, now + wait)
            raise UnusableModel(why[:MOST_SAID]) from error
        self._refused.pop(name, None)
        return found

    def _loaded(self, name: str, folder: Path, files: str) -> Ready:
        mark = self._marks.with_name(f"{self._marks.name}-{hashlib.sha256(name.encode()).hexdigest()[:16]}")
        if _read(mark) == files:
            log.warning("bundle %s was being loaded when this worker's process ended: it is tried apart first", name)
            if (why := self._try_apart(folder)) is not None:
                raise UnusableModel(f"bundle {name} can't be loaded: {why}")
        with suppress(OSError):  # a folder that nobody may write to: then a death is not remembered
            mark.write_text(files)
        try:
            return self._load(folder)
        finally:  # only a process that ends at once leaves it behind
            with suppress(OSError):
                mark.unlink()


def try_apart(folder: Path, environment: Mapping[str, str] = {}) -> str | None:
    """Load the bundle and judge by it in a process of its own: why that failed, None where it did not."""
    command = [sys.executable, "-m", "streaming.trying", str(folder)]
    try:
        done = subprocess.run(  # noqa: S603 - the command is ours
            command,
            env=os.environ | dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TRIED_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {TRIED_WITHIN:.0f} s"
    except OSError as error:
        return f"it can't be tried: {error}"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"it ended the process that tried it ({signal.Signals(-done.returncode).name})"
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return (said[-1] if said else f"status {done.returncode}")[:MOST_SAID]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _files(folder: Path) -> str:
    """Another where a file of the folder is another."""
    try:
        seen = sorted((one.name, *_stat(one)) for one in folder.resolve().iterdir())
    except (OSError, RuntimeError):
        return ""
    return hashlib.sha256(repr((folder.resolve().name, seen)).encode()).hexdigest()


def _stat(file: Path) -> tuple[int, int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _read(mark: Path) -> str | None:
    try:
        return mark.read_text()
    except (OSError, UnicodeDecodeError):
        return None
