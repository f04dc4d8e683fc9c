"""What a run says while it works."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Narrator(Protocol):
    """Is told what is being done; says it, or doesn't."""

    def stage(self, name: str, what: str) -> None:
        """The stage before is done, this one begins: its name for the report, and what it does for people."""

    def progress(self, done: int, of: int) -> None:
        """How far the stage is."""

    def warn(self, what: str) -> None:
        """Something is odd, and the run goes on."""


class Silent:
    """Says nothing; remembers how long each stage took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._stage: str | None = None
        self._since = time.perf_counter()

    def stage(self, name: str, what: str) -> None:  # noqa: ARG002 - it says nothing
        self.end()
        self._stage, self._since = name, time.perf_counter()

    def progress(self, done: int, of: int) -> None: ...

    def warn(self, what: str) -> None: ...

    def end(self) -> None:
        if self._stage is not None:
            self.seconds[self._stage] = round(time.perf_counter() - self._since, 3)
            self._stage = None


class OnConsole(Silent):
    """A line for each stage with a bar where it says how far it is; plain lines where nobody watches."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._began = time.perf_counter()
        self._bars = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> OnConsole:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.end()
        self._bars.stop()

    def stage(self, name: str, what: str) -> None:
        super().stage(name, what)
        if self._console.is_terminal:
            self._task = self._bars.add_task(what, total=1)
        else:
            self._console.print(f"{time.perf_counter() - self._began:6.1f} s  {what}", highlight=False, soft_wrap=True)

    def progress(self, done: int, of: int) -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=of)

    def warn(self, what: str) -> None:
        self._console.print(f"odd: {what}", style="yellow", highlight=False, soft_wrap=True, markup=False)

    def end(self) -> None:
        super().end()
        if self._task is not None:
            task = self._bars.tasks[self._task]
            self._bars.update(self._task, completed=task.total)
            self._task = None
