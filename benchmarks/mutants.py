"""Do tests notice when the code is wrong?  Small faults are planted one by one, and each must make a test fail.

python -m benchmarks.mutants --minutes 5 training/gates.py

A fault is one comparison, boundary, sum, condition, constant or `return` made another, in a copy of the project; the tests are
those of TESTS.  Which faults are tried depends on the seed and the time alone; files take turns.  What no test notices is named
with its place, and is in `.local/mutants/report.json`: a test is missing, or the code says more than it must.
"""

from __future__ import annotations

import ast
import copy
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import typer

from deploy.local.jars import PROJECT

TESTS: dict[str, tuple[str, ...]] = {
    "training/gates.py": ("tests/unit/test_gates.py",),
    "streaming/guard.py": ("tests/unit/test_guard.py",),
    "streaming/intake.py": ("tests/unit/test_intake.py", "tests/unit/test_settling.py"),
    "streaming/takeover.py": (
        "tests/unit/test_settling.py",
        "tests/unit/test_intake.py",
        "tests/unit/test_continuity.py",
    ),
    "streaming/memory.py": ("tests/unit/test_memory.py", "tests/unit/test_settling.py"),
    "features/accepting.py": ("tests/unit/test_accepting.py", "tests/unit/test_describing.py"),
    "features/folding.py": (
        "tests/unit/test_labels_kept.py",
        "tests/unit/test_kernel.py",
        "tests/unit/test_profile.py",
    ),
    "loadgen/check.py": ("tests/integration/test_check.py",),
}
"""By file: what is to notice that it is wrong, the quickest first.  loadgen/check.py's start a Kafka: a minute for each fault."""
REPORT = PROJECT / ".local" / "mutants" / "report.json"
SLOWER = 5.0
"""Times what the tests take on the code as it is: longer, and the fault made it hang, which is noticed."""
LEAST_PATIENCE = 60.0
SURVIVED, WRONG_USE, INTERRUPTED = 1, 2, 130

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_SUMS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}


class Fault(NamedTuple):
    """A piece of the code, and what stands there instead."""

    line: int
    before: str
    after: str
    begin: int
    """In bytes of the file,"""
    end: int
    """and where the piece ends."""

    def planted(self, code: bytes) -> bytes:
        """The code with it."""
        return code[: self.begin] + self.after.encode() + code[self.end :]


class Survivor(msgspec.Struct, frozen=True):
    """A fault that no test noticed."""

    file: str
    line: int
    before: str
    after: str


class Counts(msgspec.Struct):
    """Of one file: how many faults there are, were tried, and were noticed."""

    faults: int = 0
    tried: int = 0
    noticed: int = 0


class Report(msgspec.Struct):
    """What is written."""

    seed: int
    minutes: float
    files: dict[str, Counts]
    survivors: list[Survivor]
    whole: bool = False
    """Whether it came to its end, by the time or by the faults there are, and nobody stopped it."""


def faults(code: bytes) -> list[Fault]:
    """All that are known of this file, in the order of its lines.

    >>> [(fault.before, fault.after) for fault in faults(b"def f(a):\\n    return a < 3\\n")]
    [('return a < 3', 'return None'), ('a < 3', '(a <= 3)'), ('a < 3', '(a >= 3)'), ('3', '4')]
    """
    starts = [0]
    for line in code.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node, after in _changed(ast.parse(code)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        before = code[begin:end].decode()
        text = ast.unparse(after)
        if isinstance(after, ast.expr) and not isinstance(after, ast.Constant | ast.Name):
            text = f"({text})"  # what stands around it takes no part of it
        found.append(Fault(node.lineno, " ".join(before.split()), text, begin, end))
    return found


_Node = ast.expr | ast.Return


def _changed(tree: ast.Module) -> Iterator[tuple[_Node, _Node]]:
    for node in _walk(tree):
        if isinstance(node, ast.Compare):
            for index, operator in enumerate(node.ops):
                for other in _COMPARISONS.get(type(operator), ()):
                    after = copy.deepcopy(node)
                    after.ops[index] = other()
                    yield node, after
        elif isinstance(node, ast.BinOp) and type(node.op) in _SUMS:
            after_sum = copy.deepcopy(node)
            after_sum.op = _SUMS[type(node.op)]()
            yield node, after_sum
        elif isinstance(node, ast.BoolOp):
            after_condition = copy.deepcopy(node)
            after_condition.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield node, after_condition
            for index in range(len(node.values)):
                rest = [value for at, value in enumerate(node.values) if at != index]
                yield node, rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
            yield node, node.operand
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            yield node, ast.Constant(_another(node.value))
        elif isinstance(node, ast.Return) and node.value is not None and not _is_nothing(node.value):
            yield node, ast.Return(ast.Constant(None))


def _another(value: float) -> float:
    """
    >>> _another(True), _another(3), _another(0.5), _another(0.0)
    (False, 4, 1.0, 1.0)
    """
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * 2 or 1.0


def _is_nothing(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """What is calculated: not types, decorators, texts, nor what is only there for a type checker."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr | ast.Import | ast.ImportFrom):
                continue
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                continue
            yield from _walk(child)


class Laboratory:
    """A copy of the project, in which code is broken and mended again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: subprocess.Popen[bytes] | None = None
        ignored = shutil.ignore_patterns(".git", ".venv", ".local", "__pycache__", ".*_cache", ".hypothesis")
        shutil.copytree(PROJECT, folder, ignore=ignored, symlinks=True)
        (folder / ".local").mkdir()
        if (PROJECT / ".local" / "kafka").exists():
            (folder / ".local" / "kafka").symlink_to(PROJECT / ".local" / "kafka")

    def passes(self, tests: tuple[str, ...], *, within: float | None = None) -> bool:
        """Whether all of them do, in this time."""
        command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        self._running = subprocess.Popen(  # noqa: S603 - the command is ours
            command, cwd=self.folder, env=os.environ | {"PYTHONPATH": str(self.folder)}, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            return self._running.wait(within) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._running.pid, signal.SIGKILL)  # and whatever it has started
            self._running.wait()

    def notices(self, file: str, fault: Fault, *, within: float) -> bool:
        """Whether a test fails with it."""
        place = self.folder / file
        code = place.read_bytes()
        place.write_bytes(fault.planted(code))
        try:
            return not self.passes(TESTS[file], within=within)
        finally:
            place.write_bytes(code)


def run(files: list[str], *, minutes: float, seed: int, report: Report, laboratory: Laboratory) -> None:
    """Fills the report.  Raises Exit where the tests fail on the code as it is."""
    deadline = time.monotonic() + 60 * minutes
    waiting: dict[str, list[Fault]] = {}
    patience: dict[str, float] = {}
    for file in files:
        began = time.monotonic()
        if not laboratory.passes(TESTS[file]):
            say(f"{file}: {' '.join(TESTS[file])} fail on the code as it is: nothing can be said of it")
            raise typer.Exit(WRONG_USE)
        patience[file] = max(LEAST_PATIENCE, SLOWER * (time.monotonic() - began))
        found = faults((laboratory.folder / file).read_bytes())
        random.Random(f"{seed} {file}").shuffle(found)  # noqa: S311 - a sample, and no secret
        waiting[file] = found
        report.files[file] = Counts(faults=len(found))
        say(f"{file}: {len(found)} faults to plant; its tests take {time.monotonic() - began:.0f} s")
    while any(waiting.values()) and time.monotonic() < deadline:
        for file in [file for file, left in waiting.items() if left]:
            if time.monotonic() >= deadline:
                break
            fault = waiting[file].pop()
            noticed = laboratory.notices(file, fault, within=patience[file])
            report.files[file].tried += 1
            report.files[file].noticed += noticed
            if not noticed:
                report.survivors.append(Survivor(file, fault.line, fault.before, fault.after))
                say(f"not noticed  {file}:{fault.line}  {fault.before}  →  {fault.after}")
    report.whole = True


def main(
    files: Annotated[list[str] | None, typer.Argument(help="Of those in TESTS; all where none is named.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="Begin no other fault after so many.")] = 50.0,
    seed: Annotated[int, typer.Option(help="Which faults are tried first.")] = 0,
) -> None:
    """Plant faults, and name those that no test notices.

    Exit status 0 all were noticed, 1 some were not, 2 wrong use or tests that fail without, 130 after Ctrl-C.
    """
    chosen = files or list(TESTS)
    if strange := [file for file in chosen if file not in TESTS]:
        say(f"no tests are named for {', '.join(strange)}: there are {', '.join(TESTS)}")
        raise typer.Exit(WRONG_USE)
    report = Report(seed=seed, minutes=minutes, files={}, survivors=[])

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    status = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        try:
            run(chosen, minutes=minutes, seed=seed, report=report, laboratory=Laboratory(Path(folder) / "project"))
        except KeyboardInterrupt:
            status = INTERRUPTED
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    for file, counts in report.files.items():
        say(f"{file:<24} {counts.noticed} of {counts.tried} noticed; there are {counts.faults}")
    say(f"the report is {REPORT.relative_to(PROJECT)}")
    raise typer.Exit(status or (SURVIVED if report.survivors else 0))


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    typer.run(main)
