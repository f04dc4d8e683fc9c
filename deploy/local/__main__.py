"""`python -m deploy.local`: the local stack, one worker and one explainer, left running."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
import psutil
import typer

from deploy.local import supervisor
from deploy.local.children import tail
from deploy.local.jars import PROJECT
from deploy.local.stack import FOLDER
from deploy.local.supervisor import BUNDLE, Standing, standing

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Folder = Annotated[Path, typer.Option(help="Where the stack keeps its files.")]
END_WITHIN = 60.0
"""Seconds for the worker to finish its batch and for both servers to close their files."""


@app.command()
def up(folder: Folder = FOLDER) -> None:
    """Start Kafka, Redis, the topics, one worker and one explainer, and leave them running.

    Example: python -m deploy.local up
    """
    folder = folder.absolute()
    running = standing(folder)
    if running is None:
        if not BUNDLE.exists():
            print("no model yet: making the demo's", flush=True)
            make_model()
        running = start_supervisor(folder)
    else:
        print("running already")
    show(running)
    print("`make down` ends it")


@app.command()
def down(folder: Folder = FOLDER) -> None:
    """End what `up` started: the worker finishes its batch first.

    Example: python -m deploy.local down
    """
    running = standing(folder.absolute())
    process = running.process if running else None
    if process is None:
        print("nothing is running")
        return
    process.terminate()
    try:
        process.wait(END_WITHIN)
    except psutil.TimeoutExpired:
        process.kill()  # the kernel ends its children
        process.wait()
    print("ended")


@app.command()
def status(
    folder: Folder = FOLDER, as_json: Annotated[bool, typer.Option("--json", help="For a program to read.")] = False
) -> None:
    """Say what runs and where; status 1 where nothing does.

    Example: python -m deploy.local status --json
    """
    running = standing(folder.absolute())
    if as_json:
        print(msgspec.json.encode(running).decode())
    elif running is None:
        print("nothing is running; `make up` starts it")
    else:
        show(running)
    if running is None:
        raise typer.Exit(1)


@app.command(hidden=True)
def supervise(folder: Path) -> None:
    """What `up` leaves behind; ends with SIGTERM."""
    raise typer.Exit(supervisor.main(folder))


def make_model() -> None:
    done = subprocess.run([sys.executable, "-m", "loadgen", "demo", "--model-only"], cwd=PROJECT, check=False)
    if done.returncode != 0:
        raise typer.Exit(done.returncode)


def start_supervisor(folder: Path) -> Standing:
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "supervisor.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the command is ours
            [sys.executable, "-m", "deploy.local", "supervise", folder],
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives us, and the terminal
        )
    try:
        while process.poll() is None:
            running = standing(folder)
            if running and running.ready:
                return running
            time.sleep(0.1)
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise
    print(tail(log), file=sys.stderr)
    raise typer.Exit(1)


def show(running: Standing) -> None:
    print(f"supervisor  process {running.pid}")
    places = {
        "Kafka": running.kafka, "Redis": running.redis, "worker": running.worker, "explainer": running.explainer
    }  # fmt: skip
    for name, address in places.items():
        print(f"{name:<11} {address or 'starting'}")


if __name__ == "__main__":
    app(prog_name="python -m deploy.local")
