"""By which model payments are judged here: the reader's own, or the demo's, which knows nothing of them."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import typer

from deploy.local.jars import PROJECT
from deploy.local.supervisor import Standing
from schemas import installation
from schemas.bundle import CURRENT, make_current

DEMOS = Path(".local", "demo", "bundles")
"""Where `make demo` and the first `make up` keep the models that learnt from a simulated world."""
_CHAMPION = re.compile(r'^fraud_bundle_info\{(?=[^}]*role="champion")[^}]*bundle="([0-9a-f]+)"[^}]*\} 1', re.MULTILINE)
MAKES_ONE = (
    "no model yet: making the demo's, which learns from a simulated world; two minutes on two quiet cores.\n"
    "(`make mine TABLE=payments.csv` makes one of your own instead.)"
)


def require_model(prefix: str, *, home: Path = PROJECT, command: Callable[[list[str]], None] | None = None) -> None:
    """The installation has one to begin with: where it has none, the demo's.  Raises Exit where that can't be made."""
    bundles = home / installation.bundles(prefix)
    if (bundles / CURRENT).exists():
        return
    if not (home / DEMOS / CURRENT).exists():
        print(MAKES_ONE, file=sys.stderr, flush=True)
        (command or run)([sys.executable, "-m", "loadgen", "demo", "--model-only"])
    demos = (home / DEMOS / CURRENT).resolve()
    bundles.mkdir(parents=True, exist_ok=True)
    if not (bundles / demos.name).exists():
        draft = bundles / f".draft-{demos.name}"
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(demos, draft)
        draft.rename(bundles / demos.name)
    make_current(bundles / demos.name)


def judging(running: Standing, *, home: Path = PROJECT) -> str:
    """In words: the model that the worker judges by; before there is a worker, the one that it would begin with."""
    bundles = home / installation.bundles(running.prefix)
    name = _served(running) or ((bundles / CURRENT).resolve().name if (bundles / CURRENT).exists() else None)
    if name is None:
        return "none yet"
    if (home / DEMOS / name).is_dir():
        return (
            f"{name}: the demo's, learnt from a simulated world. It knows nothing of your payments: "
            "`make mine TABLE=…` makes a model of yours"
        )
    return f"{name}: learnt here (training models {name})"


def run(command: list[str], *, folder: Path = PROJECT) -> None:
    """A command that a Ctrl-C reaches once, through us, and that is gone when this returns.  Raises Exit with its status."""
    process = subprocess.Popen(  # noqa: S603 - the commands are ours
        command, cwd=folder, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        status = process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()
        raise
    if status != 0:
        raise typer.Exit(status)


def _served(running: Standing) -> str | None:
    """As the worker says; None where it says nothing."""
    if running.worker is None:
        return None
    with suppress(OSError), urllib.request.urlopen(f"{running.worker}/metrics", timeout=5) as answer:  # noqa: S310 - it is http
        found = _CHAMPION.search(answer.read().decode(errors="replace"))
        return found.group(1) if found else None
    return None
