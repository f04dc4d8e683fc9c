"""Servers that run beside us and end with us, however we end.

* LocalStackError
  x AlreadyRunning   another program uses this folder: end that one, or take another folder
  x NotRunning       the server that was asked for is not running
  x FailedToStart    says what the server itself said last
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import psutil

TIED = Path(__file__).with_name("tied.py")
STOP_WITHIN = 15.0
"""Seconds a server gets between SIGTERM and SIGKILL."""


class LocalStackError(Exception):
    """Something is wrong with the local stack."""


class AlreadyRunning(LocalStackError):
    """Another living program uses the folder."""

    def __init__(self, folder: Path, pid: int) -> None:
        super().__init__(f"{folder} is in use by process {pid}: end that one first, or take another folder")
        self.pid = pid


class NotRunning(LocalStackError):
    """The server that was asked for is not running."""


class FailedToStart(LocalStackError):
    """A server ended or stayed silent; the message ends with the tail of its log."""


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log, for a message."""
    if not log.exists():
        return f"({log} does not exist)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16_384))
        text = file.read().decode(errors="replace")
    return "\n".join(text.splitlines()[-lines:]) or f"({log} is empty)"


@contextmanager
def unhurried() -> Iterator[None]:
    """A second Ctrl-C while things are being ended would leave some of them: it is passed over."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Claim:
    """The folder is ours from `take` until `release`, or until we die: the kernel frees a flock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file: IO[str] | None = None

    def take(self) -> None:
        """Raises AlreadyRunning."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = holder_of(self.folder)
            file.close()
            raise AlreadyRunning(self.folder, holder) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            # Emptied, not deleted: a file deleted under a waiting starter would let two of them in.
            self._file.truncate(0)
            self._file.close()
            self._file = None


def holder_of(folder: Path) -> int:
    """The pid that claims a folder; 0 where nobody wrote one."""
    try:
        return int((folder / "lock").read_text().strip() or 0)
    except (FileNotFoundError, ValueError):
        return 0


class Child:
    """One server: its process and its log."""

    def __init__(self, process: subprocess.Popen[bytes], *, name: str, log: Path) -> None:
        self._process = process
        self.name = name
        self.log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """Without a chance to say goodbye, as a crash would; it is gone when this returns."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """In good order where it does so in time; it is gone when this returns."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGCONT)  # one that a test has paused hears nothing else
            try:
                self._process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                self.kill()


class Children:
    """Starts children, and remembers them in the folder for whoever comes after a crash."""

    def __init__(self, folder: Path) -> None:
        self._register = folder / "processes.json"
        self._children: list[Child] = []
        self._starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="local-stack")

    def __enter__(self) -> Self:
        self._end_leftovers()
        return self

    def __exit__(
        self, exception: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            child.stop()
        self._children.clear()
        self._register.unlink(missing_ok=True)
        self._starter.shutdown()  # last: the children end with this thread

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        folder: Path,
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """A new child, in `folder`, writing to `log`; out of reach of the terminal's Ctrl-C, which is ours to hear."""
        process = self._starter.submit(self._spawn, command, folder, log, environment).result()
        child = Child(process, name=name, log=log)
        self._children = [other for other in self._children if other.running]
        self._children.append(child)
        self._remember()
        return child

    @staticmethod
    def _spawn(
        command: Sequence[str | Path], folder: Path, log: Path, environment: Mapping[str, str] | None
    ) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - the commands are ours
                [sys.executable, "-I", "-S", TIED, str(os.getpid()), *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _remember(self) -> None:
        born = {}
        for child in self._children:
            try:
                born[str(child.pid)] = psutil.Process(child.pid).create_time()
            except psutil.NoSuchProcess:
                continue
        unfinished = self._register.with_suffix(".new")
        unfinished.write_text(json.dumps(born))
        unfinished.replace(self._register)

    def _end_leftovers(self) -> None:
        """Ends what a crashed predecessor left, where the kernel didn't; a pid used again by another is let be."""
        if not self._register.exists():
            return
        leftovers = []
        for pid, born in json.loads(self._register.read_text()).items():
            try:
                process = psutil.Process(int(pid))
                if process.create_time() == born:
                    process.kill()
                    leftovers.append(process)
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(leftovers, timeout=STOP_WITHIN)
        self._register.unlink()
